//! Devices that send in time, and one that does not: what the others feel of it.
//!
//! ```text
//! every PERIOD, each at its own phase ──▶ frame ──▶ acknowledgement: time since it was DUE
//! a flood keeps its window full                     (counted, its times are not)
//! ```
//!
//! Open-loop: a late acknowledgement delays no frame, and a frame that leaves late counts from when it
//! should have left. So waiting that a slow server causes is measured and not hidden.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use chordae_base::{Failure, Outcome, seams::Clock};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use super::{Speech, connection::Connection, frames::Frames, histogram, pipe::Dial};

/// How a device sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A frame in each period.
    Every(Duration),
    /// As many frames as may be open.
    Flood(usize),
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Paced {
    /// Nanoseconds from when a frame was due to its acknowledgement; those of paced devices.
    pub latency_ns: Histogram<u64>,
    /// Frames of floods that were acknowledged.
    pub flooded: u64,
    /// Processor seconds of the server while measuring.
    pub server_cpu_s: f64,
}

struct Actor<S> {
    connection: Connection<S>,
    pace: Pace,
}

/// A crowd of connected devices.
pub struct Crowd<'a, S> {
    clock: &'a dyn Clock,
    actors: Vec<Actor<S>>,
    poll: std::os::fd::OwnedFd,
    /// When whom is due.
    due: BTreeMap<(u64, usize), ()>,
    full: Vec<usize>,
    flooding: bool,
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a, S: Speech> Crowd<'a, S> {
    /// Connects them all and waits until each may send.
    ///
    /// # Errors
    /// `Io` when a connection breaks, or is not ready in a minute.
    pub fn gather(
        address: SocketAddr,
        devices: impl IntoIterator<Item = (S, Frames, Dial, Pace)>,
        clock: &'a dyn Clock,
    ) -> Outcome<Self> {
        let os = |e: rustix::io::Errno| Failure::os("wait for the server", &e.into());
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        let mut crowd = Self {
            clock,
            actors: Vec::new(),
            poll,
            due: BTreeMap::new(),
            full: Vec::new(),
            flooding: false,
        };
        let until = clock.mono_ns().saturating_add(120_000_000_000);
        for (n, (speech, frames, dial, pace)) in devices.into_iter().enumerate() {
            let window = match pace {
                Pace::Every(_) => 0,
                Pace::Flood(window) => window,
            };
            let mut connection = Connection::open(address, speech, frames, window, dial)?;
            connection.write()?;
            let data = epoll::EventData::new_u64(n as u64);
            epoll::add(
                &crowd.poll,
                connection.socket(),
                data,
                epoll::EventFlags::IN,
            )
            .map_err(os)?;
            crowd.actors.push(Actor { connection, pace });
            crowd.turn(0, &mut |_, _| {})?;
        }
        while !crowd.actors.iter().all(|a| a.connection.is_ready()) {
            if clock.mono_ns() > until {
                return Err(Failure::io(
                    "not every device was let in within two minutes",
                ));
            }
            crowd.turn(20, &mut |_, _| {})?;
        }
        Ok(crowd)
    }

    /// Sends for so long, with floods or without; frames due in the first `warm` do not count.
    ///
    /// # Errors
    /// `Io` when a connection breaks.
    pub fn run(
        &mut self,
        warm: Duration,
        measure: Duration,
        floods: bool,
        server_cpu: &mut dyn FnMut() -> Outcome<Duration>,
    ) -> Outcome<Paced> {
        let began = self.clock.mono_ns();
        let (from, until) = (began + nanos(warm), began + nanos(warm) + nanos(measure));
        self.flooding = floods;
        self.due.clear();
        let count = self.actors.len().max(1) as u64;
        for (n, actor) in self.actors.iter().enumerate() {
            if let Pace::Every(period) = actor.pace {
                let phase = nanos(period) / count * n as u64;
                self.due.insert((began + phase, n), ());
            }
        }
        let mut paced = Paced {
            latency_ns: histogram()?,
            flooded: 0,
            server_cpu_s: 0.0,
        };
        let (clock, mut cpu) = (self.clock, None);
        loop {
            let now_ns = clock.mono_ns();
            if now_ns >= until {
                break;
            }
            if now_ns >= from && cpu.is_none() {
                cpu = Some(server_cpu()?);
            }
            self.send(now_ns)?;
            self.turn(1, &mut |flood, due_ns| {
                if flood {
                    paced.flooded += u64::from(due_ns >= from);
                } else if due_ns >= from {
                    let took = clock.mono_ns().saturating_sub(due_ns);
                    paced.latency_ns.saturating_record(took);
                }
            })?;
        }
        let used = server_cpu()?.saturating_sub(cpu.unwrap_or_default());
        paced.server_cpu_s = used.as_secs_f64();
        // What is still open is awaited, and counts: the slowest must not be left out.
        self.due.clear();
        self.flooding = false;
        let patience = until.saturating_add(30_000_000_000);
        while self.actors.iter().any(|a| a.connection.has_open()) {
            if clock.mono_ns() > patience {
                return Err(Failure::io("frames were not acknowledged within 30 s"));
            }
            self.turn(5, &mut |flood, due_ns| {
                if !flood && due_ns >= from {
                    let took = clock.mono_ns().saturating_sub(due_ns);
                    paced.latency_ns.saturating_record(took);
                }
            })?;
        }
        Ok(paced)
    }

    /// Frames acknowledged so far, by device.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.actors
            .iter()
            .map(|a| a.connection.acknowledged())
            .collect()
    }

    fn send(&mut self, now_ns: u64) -> Outcome<()> {
        while let Some(((due_ns, n), ())) = self.due.pop_first() {
            if due_ns > now_ns {
                self.due.insert((due_ns, n), ());
                break;
            }
            let Some(actor) = self.actors.get_mut(n) else {
                continue;
            };
            actor.connection.put(due_ns)?;
            actor.connection.write()?;
            if actor.connection.is_full() {
                self.full.push(n);
            }
            if let Pace::Every(period) = actor.pace {
                self.due.insert((due_ns + nanos(period), n), ());
            }
        }
        for (n, actor) in self.actors.iter_mut().enumerate() {
            if self.flooding && matches!(actor.pace, Pace::Flood(_)) {
                actor.connection.fill(now_ns)?;
                actor.connection.write()?;
                if actor.connection.is_full() {
                    self.full.push(n);
                }
            }
        }
        Ok(())
    }

    /// Hears who has something to say, after at most so many milliseconds.
    fn turn(&mut self, ms: i64, heard: &mut dyn FnMut(bool, u64)) -> Outcome<()> {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: ms * 1_000_000,
        };
        let mut events = Vec::with_capacity(1024);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.poll, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::os("wait for the server", &e.into())),
        }
        let heard_from = events.iter().map(|event| event.data.u64() as usize);
        for n in heard_from.chain(std::mem::take(&mut self.full)) {
            let Some(actor) = self.actors.get_mut(n) else {
                continue;
            };
            let flood = matches!(actor.pace, Pace::Flood(_));
            actor.connection.read(&mut |due_ns| heard(flood, due_ns))?;
            actor.connection.write()?;
            if actor.connection.is_full() {
                self.full.push(n);
            }
        }
        Ok(())
    }
}
