//! Side by side: everything that takes frames and acknowledges them, in one run, on one disk, from one client.
//!
//! ```text
//! for each workload: rounds x servers, in turn, each with an empty folder and a fresh process
//!     └──▶ a table with what each one's acknowledgement promises, a plot, and the goals
//! ```
//!
//! Ours and the bare yardstick are audited: every acknowledged frame is found on the disk. Of the others we
//! say what their documentation and settings promise.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use chordae_base::{Failure, Outcome};

use super::plot::{self, Bar};
use crate::{
    load::{
        Load,
        frames::{LARGE, MIDDLE, SMALL, Shape, Stock},
    },
    server::Kind,
    stages::ingest::{Figures, Place, round},
    table::{Table, fine, grouped, short},
};

/// Open frames of a connection.
const WINDOW: usize = 16;
/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 3;

struct Workload {
    name: &'static str,
    shape: Shape,
    connections: usize,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "200 B x 1",
        shape: SMALL,
        connections: 1,
    },
    Workload {
        name: "1 KB x 50",
        shape: MIDDLE,
        connections: 50,
    },
    Workload {
        name: "4 KB x 50",
        shape: LARGE,
        connections: 50,
    },
];

struct Peer {
    kind: Kind,
    name: &'static str,
    promise: &'static str,
    /// Whether its acknowledgement means disk.
    disk: bool,
}

const fn peer(kind: Kind, name: &'static str, promise: &'static str, disk: bool) -> Peer {
    Peer {
        kind,
        name,
        promise,
        disk,
    }
}

const PEERS: [Peer; 9] = [
    peer(
        Kind::Bare,
        "bare TCP + fdatasync",
        "on disk; nothing is looked at",
        true,
    ),
    peer(
        Kind::Chordae,
        "chordae MQTT",
        "checked, stored once, on disk",
        true,
    ),
    peer(Kind::ChordaeTls, "chordae MQTT/TLS", "the same", true),
    peer(Kind::ChordaeZmq, "chordae ZeroMQ", "the same", true),
    peer(
        Kind::Mosquitto,
        "Mosquitto, autosave 1",
        "in memory; saved some time after",
        false,
    ),
    peer(
        Kind::Nats,
        "NATS JetStream, file",
        "in the page cache; synced every 2 minutes",
        false,
    ),
    peer(Kind::Redis, "Redis streams, fsync always", "on disk", true),
    peer(
        Kind::Rumqttd,
        "rumqttd, bare",
        "received; memory only",
        false,
    ),
    peer(
        Kind::Zeromq,
        "zeromq crate, bare",
        "received; memory only",
        false,
    ),
];

const HEAD: &[&str] = &[
    "",
    "frames/s",
    "(min-max)",
    "ack p50 ms",
    "p99 ms",
    "server CPU us/frame",
    "rate x bare",
    "an acknowledged frame is",
];

/// Measures, writes `peers-ingest.md` and `.svg` into `results`, and reports. `about` says what machine
/// this is.
///
/// # Errors
/// The first round that failed.
pub fn run(
    place: &Place<'_>,
    rounds: usize,
    seconds: u64,
    results: &Path,
    about: &str,
) -> Outcome<String> {
    let load = Load {
        window: WINDOW,
        warm: Duration::from_secs(1),
        measure: Duration::from_secs(seconds),
    };
    let mut here: Vec<&Peer> = Vec::new();
    let mut text = String::new();
    for peer in &PEERS {
        match peer.kind.missing() {
            Some(why) => line(&mut text, &format!("NOT MEASURED: {}: {why}", peer.name)),
            None => here.push(peer),
        }
    }
    let mut plots = Vec::new();
    for workload in &WORKLOADS {
        let figures = measure(place, workload, &here, rounds, load)?;
        let rows = || here.iter().zip(&figures);
        let bare = rows().find(|(peer, _)| peer.kind == Kind::Bare);
        let bare = bare.map(|(_, f)| f).ok_or_else(no_bare)?;
        let mut table = Table::new(HEAD);
        for (peer, f) in rows() {
            table.row([
                peer.name.to_owned(),
                grouped(f.rate.median()),
                f.rate.spread(grouped),
                fine(f.p50_ms.median()),
                fine(f.p99_ms.median()),
                short(f.server_us.median()),
                fine(f.rate.over(&bare.rate).median()),
                peer.promise.to_owned(),
            ]);
        }
        let name = workload.name;
        line(
            &mut text,
            &format!("\n{name} connections, {WINDOW} open on each\n{table}"),
        );
        for goal in goals(workload, &here, &figures, bare) {
            line(&mut text, &goal);
        }
        let bar = |(peer, f): (&&Peer, &Figures)| Bar {
            name: peer.name,
            value: f.rate.median(),
            told: format!(
                "{}/s, p99 {} ms, {} us",
                grouped(f.rate.median()),
                fine(f.p99_ms.median()),
                short(f.server_us.median())
            ),
            dark: peer.disk,
        };
        plots.push((name, rows().map(bar).collect()));
    }
    let head = format!(
        "# Frames to acknowledgements, side by side\n\n{rounds} interleaved rounds of {seconds} s each, \
         medians; acknowledged frames of ours and of the bare yardstick were all found on the disk. Closed \
         loop: at 50 connections p50 is about 800 / rate.\n\n```\n{about}"
    );
    write(
        results,
        "peers-ingest.md",
        &format!("{head}{text}```\n\n![plot](peers-ingest.svg)\n"),
    )?;
    write(
        results,
        "peers-ingest.svg",
        &plot::bars(
            "acknowledged frames/s (dark: the acknowledgement means disk)",
            &plots,
        ),
    )?;
    Ok(text)
}

fn no_bare() -> Failure {
    Failure::internal("the yardstick was not measured")
}

fn line(text: &mut String, line: &str) {
    // Writing to a text does not fail.
    writeln!(text, "{line}").ok();
}

/// Puts a file of results.
///
/// # Errors
/// `Io`.
pub fn write(results: &Path, name: &str, text: &str) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os(format_args!("write {name}"), &e);
    fs::create_dir_all(results).map_err(os)?;
    fs::write(results.join(name), text).map_err(os)
}

fn measure(
    place: &Place<'_>,
    workload: &Workload,
    here: &[&Peer],
    rounds: usize,
    load: Load,
) -> Outcome<Vec<Figures>> {
    let stock = Stock::of(workload.shape)?;
    let mut figures: Vec<Figures> = here.iter().map(|_| Figures::default()).collect();
    for number in 0..rounds {
        let mut turns: Vec<usize> = (0..here.len()).collect();
        if number % 2 == 1 {
            turns.reverse();
        }
        for n in turns {
            let (Some(peer), Some(figures)) = (here.get(n), figures.get_mut(n)) else {
                continue;
            };
            let tally = round(place, peer.kind, &stock, workload.connections, load);
            figures.add(&tally.map_err(|f| f.during(peer.name))?);
        }
    }
    Ok(figures)
}

/// What was aimed at, and whether it was reached.
fn goals(workload: &Workload, here: &[&Peer], figures: &[Figures], bare: &Figures) -> Vec<String> {
    let of = |kind| {
        let mut rows = here.iter().zip(figures);
        rows.find(|(peer, _)| peer.kind == kind).map(|(_, f)| f)
    };
    let Some(ours) = of(Kind::Chordae) else {
        return Vec::new();
    };
    let said = |what: String, reached: bool| {
        format!(
            "goal: {what}: {}",
            if reached { "reached" } else { "NOT REACHED" }
        )
    };
    let mut told = Vec::new();
    if workload.connections > 1 {
        let part = ours.rate.over(&bare.rate).median();
        told.push(said(
            format!("MQTT at least 0.8 of bare, is {part:.2}"),
            part >= 0.8,
        ));
    }
    if workload.shape == MIDDLE {
        let us = ours.server_us.median();
        told.push(said(
            format!("at most 8 us a frame in door and log, is {us:.1}"),
            us <= 8.0,
        ));
    }
    for (kind, name) in [(Kind::Nats, "NATS"), (Kind::Redis, "Redis")] {
        let means_disk = here.iter().any(|peer| peer.kind == kind && peer.disk);
        if let Some(peer) = of(kind).filter(|_| means_disk) {
            let times = ours.rate.over(&peer.rate).median();
            told.push(said(
                format!("at least 4 x {name}, is {times:.1} x"),
                times >= 4.0,
            ));
        }
    }
    told
}
