//! Frames to acknowledgements: chordae's MQTT door and log beside bare TCP and fdatasync.
//!
//! Both get the same payloads from the same client over loopback, on the same disk, in turn; which goes
//! first changes from round to round. Each round begins with an empty folder and a fresh server process,
//! and ends with [`audit::check`].

use std::{path::Path, sync::Arc, time::Duration};

use chordae_base::{Failure, Outcome, seams::Clock};

use crate::{
    audit,
    certs::Authority,
    load::{
        Load, Speech, Tally,
        counted::Counted,
        drive,
        frames::{Frames, Stock},
        mqtt::{self, Mqtt},
        nats::{self, Nats},
        pipe::Dial,
        redis::Redis,
        zmtp::Zmtp,
    },
    server::{Kind, Server},
    table::{Rounds, Table, fine, grouped, short},
};

/// Devices, one connection each.
pub const CONNECTIONS: usize = 50;
/// Frames in flight on a connection.
pub const WINDOW: usize = 16;
/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 5;

/// A place to measure in.
pub struct Place<'a> {
    /// This program, which is also the servers.
    pub program: &'a Path,
    /// A folder on the disk to be measured.
    pub dir: &'a Path,
    /// Time.
    pub clock: &'a dyn Clock,
}

/// Figures of one server, one per round.
#[derive(Default)]
pub struct Figures {
    /// Acknowledged frames a second.
    pub rate: Rounds,
    /// Milliseconds to the acknowledgement, at the median.
    pub p50_ms: Rounds,
    /// The same for the slowest in a hundred.
    pub p99_ms: Rounds,
    /// Processor time of the server, microseconds a frame.
    pub server_us: Rounds,
    server_cores: Rounds,
    client_cores: Rounds,
}

impl Figures {
    /// Takes a round.
    pub fn add(&mut self, tally: &Tally) {
        let frames = tally.measured.max(1) as f64;
        let ms = |part| tally.latency_ns.value_at_quantile(part) as f64 / 1e6;
        self.rate.0.push(frames / tally.seconds);
        self.p50_ms.0.push(ms(0.5));
        self.p99_ms.0.push(ms(0.99));
        self.server_us.0.push(tally.server_cpu_s * 1e6 / frames);
        self.server_cores.0.push(tally.server_cpu_s / tally.seconds);
        self.client_cores.0.push(tally.client_cpu_s / tally.seconds);
    }

    fn row(&self, name: &str, bare: &Self) -> Vec<String> {
        vec![
            name.to_owned(),
            grouped(self.rate.median()),
            self.rate.spread(grouped),
            fine(self.p50_ms.median()),
            fine(self.p99_ms.median()),
            short(self.server_us.median()),
            fine(self.server_cores.median()),
            fine(self.client_cores.median()),
            fine(self.rate.over(&bare.rate).median()),
            short(self.server_us.over(&bare.server_us).median()),
        ]
    }
}

const HEAD: &[&str] = &[
    "",
    "frames/s",
    "(min-max)",
    "ack p50 ms",
    "p99 ms",
    "server CPU us/frame",
    "server cores",
    "client cores",
    "rate x bare",
    "CPU x bare",
];

/// Measures and reports.
///
/// # Errors
/// The first round that failed, or whose disk does not hold what was acknowledged.
pub fn run(place: &Place<'_>, rounds: usize, seconds: u64) -> Outcome<String> {
    let load = Load {
        window: WINDOW,
        warm: Duration::from_secs(1),
        measure: Duration::from_secs(seconds),
    };
    let stock = Stock::new()?;
    let (mut bare, mut chordae, mut frame_bytes) = (Figures::default(), Figures::default(), 0.0);
    for number in 0..rounds {
        let mut turns = [Kind::Bare, Kind::Chordae];
        if number % 2 == 1 {
            turns.reverse();
        }
        for kind in turns {
            let tally = round(place, kind, &stock, CONNECTIONS, load)?;
            frame_bytes = tally.frame_bytes;
            match kind {
                Kind::Bare => bare.add(&tally),
                _ => chordae.add(&tally),
            }
        }
    }
    let mut table = Table::new(HEAD);
    table.row(bare.row("bare TCP + fdatasync", &bare));
    table.row(chordae.row("MQTT door + WAL", &bare));
    Ok(format!(
        "ingest: acknowledged frames, {frame_bytes:.0} bytes of payload, {CONNECTIONS} connections, \
         {WINDOW} in flight on each;\n        {rounds} interleaved rounds of {seconds} s, medians; every \
         acknowledged frame was found on the disk\n{table}"
    ))
}

/// One round of one server: drives it, stops it, audits its disk if it is ours.
///
/// # Errors
/// Those of the client, the server and the audit.
pub fn round(
    place: &Place<'_>,
    kind: Kind,
    stock: &Arc<Stock>,
    connections: usize,
    load: Load,
) -> Outcome<Tally> {
    let dir = tempfile::Builder::new()
        .prefix("round-")
        .tempdir_in(place.dir);
    let dir = dir.map_err(|e| Failure::os("make a folder", &e))?;
    let now_ns = place.clock.wall_ns();
    let authority = match kind {
        Kind::ChordaeTls => Some(Authority::make(dir.path(), now_ns)?),
        _ => None,
    };
    let server = Server::start(place.program, kind, connections, dir.path())?;
    match kind {
        Kind::Nats => nats::prepare(server.address())?,
        Kind::Mosquitto => mqtt::keeper(server.address())?,
        _ => {}
    }
    let frames = |n: usize| Frames::new(Arc::clone(stock), n as u64 + 1, now_ns);
    let (address, mut cpu) = (server.address(), || server.cpu());
    let device = |n| {
        let dial = match &authority {
            Some(authority) => Dial::Tls(authority.device(n)?),
            None => Dial::Plain,
        };
        Ok((speech(kind, n), frames(n), dial))
    };
    let devices = (0..connections).map(device).collect::<Outcome<Vec<_>>>()?;
    let tally = drive(address, devices, load, place.clock, &mut cpu)?;
    server.stop()?;
    if matches!(
        kind,
        Kind::Bare | Kind::Chordae | Kind::ChordaeTls | Kind::ChordaeZmq
    ) {
        let expected = (0..connections).map(frames).collect();
        audit::check(kind, dir.path(), expected, &tally.acknowledged)?;
    }
    Ok(tally)
}

/// What the device of this number speaks to a server of this kind.
fn speech(kind: Kind, n: usize) -> Box<dyn Speech> {
    match kind {
        Kind::Bare => Box::new(Counted::default()),
        Kind::ChordaeZmq | Kind::Zeromq => Box::new(Zmtp::new(n)),
        Kind::Nats => Box::new(Nats::new(n)),
        Kind::Redis => Box::new(Redis::new(n)),
        _ => Box::new(Mqtt::new(n)),
    }
}
