//! The client of the ingest stage: many connections, one thread, a window of open frames on each.
//!
//! ```text
//! phase   connect ─▶ warm up ─▶ measure ─▶ drain: nothing more is sent, all that is open is awaited
//! turn    fill windows ─▶ write ─▶ poll ─▶ read ─▶ acknowledgements: count, and time since the write
//! ```
//!
//! It is closed-loop: a connection sends when it is acknowledged. At saturation the median time to an
//! acknowledgement is therefore about (connections x window) / rate, for every server; it compares
//! servers at the same number of open frames and says nothing about an idle one.
//!
//! One thread and no runtime, because client and server share the machine: what the client uses is told
//! beside the result.

mod connection;
pub mod counted;
pub mod frames;
pub mod mqtt;
pub mod nats;
pub mod paced;
pub mod pipe;
pub mod redis;
pub mod zmtp;

use std::{net::SocketAddr, time::Duration};

use chordae_base::{Failure, Outcome, seams::Clock};
use hdrhistogram::Histogram;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    time::{ClockId, clock_gettime},
};

use connection::Connection;
use frames::{Frames, Payload};
use pipe::Dial;

/// How a protocol carries frames and acknowledgements.
pub trait Speech {
    /// The first bytes of a connection.
    fn hello(&mut self, frames: &Frames, out: &mut Vec<u8>);
    /// Puts a frame; gives the number that its acknowledgement will bear.
    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16;
    /// The first thing heard in these bytes and its length; `None` if it is not whole yet.
    ///
    /// # Errors
    /// When the server says anything but that all is well.
    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>>;
}

/// Something that the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that matters.
    Nothing,
    /// Frames may be sent.
    Ready,
    /// The frames from this number to that are acknowledged.
    Acknowledged(u16, u16),
}

impl<S: Speech + ?Sized> Speech for Box<S> {
    fn hello(&mut self, frames: &Frames, out: &mut Vec<u8>) {
        (**self).hello(frames, out);
    }

    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16 {
        (**self).put(payload, out)
    }

    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>> {
        (**self).hear(bytes)
    }
}

/// How hard the server is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Open frames of a connection.
    pub window: usize,
    /// Sent before measuring begins.
    pub warm: Duration,
    /// Measured.
    pub measure: Duration,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Frames acknowledged in all phases, by connection.
    pub acknowledged: Vec<u64>,
    /// Frames acknowledged while measuring.
    pub measured: u64,
    /// Payload bytes sent, per frame.
    pub frame_bytes: f64,
    /// Seconds of measuring.
    pub seconds: f64,
    /// Nanoseconds from the write of a frame to the reading of its acknowledgement, while measuring.
    pub latency_ns: Histogram<u64>,
    /// Processor seconds of the server while measuring.
    pub server_cpu_s: f64,
    /// Processor seconds of this client while measuring.
    pub client_cpu_s: f64,
}

/// A run without an acknowledgement for so long has failed.
const SILENCE_NS: u64 = 10_000_000_000;
const MS: i64 = 1_000_000;

struct Driver<'a, S> {
    clock: &'a dyn Clock,
    load: Load,
    connections: Vec<Connection<S>>,
    server_cpu: &'a mut dyn FnMut() -> Outcome<Duration>,
    began: Option<Began>,
    tally: Tally,
    heard_ns: u64,
}

#[derive(Clone, Copy)]
struct Began {
    ns: u64,
    server_cpu: Duration,
    client_cpu: Duration,
}

/// Sends from every device to the server until the time is over and everything is acknowledged.
/// `server_cpu` is asked when measuring begins and when it ends.
///
/// # Errors
/// `Io` when a connection breaks or the server falls silent; what [`Speech::hear`] refuses.
pub fn drive<S: Speech>(
    address: SocketAddr,
    devices: impl IntoIterator<Item = (S, Frames, Dial)>,
    load: Load,
    clock: &dyn Clock,
    server_cpu: &mut dyn FnMut() -> Outcome<Duration>,
) -> Outcome<Tally> {
    let open =
        |(speech, frames, dial)| Connection::open(address, speech, frames, load.window, dial);
    let connections = devices.into_iter().map(open).collect::<Outcome<Vec<_>>>()?;
    let latency_ns = histogram()?;
    let tally = Tally {
        acknowledged: Vec::new(),
        measured: 0,
        frame_bytes: 0.0,
        seconds: 0.0,
        latency_ns,
        server_cpu_s: 0.0,
        client_cpu_s: 0.0,
    };
    let heard_ns = clock.mono_ns();
    let mut driver = Driver {
        clock,
        load,
        connections,
        server_cpu,
        began: None,
        tally,
        heard_ns,
    };
    driver.run()?;
    Ok(driver.finish())
}

fn histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(1000, 60_000_000_000, 3)
        .map_err(|e| Failure::internal(format!("histogram: {e}")))
}

impl<S: Speech> Driver<'_, S> {
    fn run(&mut self) -> Outcome<()> {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        while !self.connections.iter().all(|c| c.is_ready()) {
            self.turn(false)?;
        }
        let warm_until = self.clock.mono_ns().saturating_add(nanos(self.load.warm));
        while self.clock.mono_ns() < warm_until {
            self.turn(true)?;
        }
        let began = self.stand()?;
        self.began = Some(began);
        let until = began.ns.saturating_add(nanos(self.load.measure));
        while self.clock.mono_ns() < until {
            self.turn(true)?;
        }
        self.began = None;
        let ended = self.stand()?;
        self.tally.seconds = ended.ns.saturating_sub(began.ns) as f64 / 1e9;
        self.tally.server_cpu_s = (ended.server_cpu - began.server_cpu).as_secs_f64();
        self.tally.client_cpu_s = (ended.client_cpu - began.client_cpu).as_secs_f64();
        while self.connections.iter().any(|c| c.has_open()) {
            self.turn(false)?;
        }
        Ok(())
    }

    fn stand(&mut self) -> Outcome<Began> {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let client_cpu = Duration::try_from(cpu).unwrap_or_default();
        Ok(Began {
            server_cpu: (self.server_cpu)()?,
            ns: self.clock.mono_ns(),
            client_cpu,
        })
    }

    fn turn(&mut self, sending: bool) -> Outcome<()> {
        for connection in &mut self.connections {
            if sending {
                connection.fill(self.clock.mono_ns())?;
            }
            connection.write()?;
        }
        let ready = self.wait()?;
        let now_ns = self.clock.mono_ns();
        let (measuring, tally) = (self.began.is_some(), &mut self.tally);
        for (connection, ready) in self.connections.iter_mut().zip(ready) {
            if !ready {
                continue;
            }
            self.heard_ns = now_ns;
            connection.read(&mut |sent_ns| {
                if measuring {
                    tally.measured += 1;
                    tally
                        .latency_ns
                        .saturating_record(now_ns.saturating_sub(sent_ns));
                }
            })?;
        }
        if now_ns.saturating_sub(self.heard_ns) > SILENCE_NS {
            return Err(Failure::io(
                "the server has not acknowledged anything for ten seconds",
            ));
        }
        Ok(())
    }

    /// Which connections can be read, after at most 20 ms.
    fn wait(&self) -> Outcome<Vec<bool>> {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 20 * MS,
        };
        let fd = |c| PollFd::new(Connection::socket(c), Connection::interest(c));
        let mut fds: Vec<PollFd<'_>> = self.connections.iter().map(fd).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Failure::os("wait for the server", &e.into())),
        }
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok(fds
            .iter()
            .map(|fd| fd.revents().intersects(readable))
            .collect())
    }

    fn finish(self) -> Tally {
        let mut tally = self.tally;
        let (mut frames, mut bytes) = (0, 0);
        for connection in &self.connections {
            tally.acknowledged.push(connection.acknowledged());
            frames += connection.acknowledged();
            bytes += connection.payload_bytes();
        }
        tally.frame_bytes = bytes as f64 / frames.max(1) as f64;
        tally
    }
}
