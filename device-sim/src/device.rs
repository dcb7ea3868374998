//! One simulated device: makes frames when they are due, keeps each until it is acknowledged.
//!
//! ```text
//!        ┌── wait: a frame is due · an event came · a connection opened · stop ──┐
//!        ▼                                                                        │
//!   make what is due ──▶ spool ──▶ send what may go ──▶ handle what came ─────────┘
//! ```
//!
//! The birth goes first on every connection (a repeat is absorbed). A live device whose spool is
//! full loses the frame and says so; any other waits for room. A device is finished when its stream
//! has ended and nothing is left to send; one that only waits for acknowledgements, and hears none
//! for its patience, gives up.

mod exchange;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, RangeSet, StreamKey, limits, seams::Clock};
use rustls::ClientConfig;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use crate::{
    dice::Dice,
    faults::{Cut, Misfortune},
    link::{Endpoint, Event, Link, Mqtt},
    maker::Maker,
    spool::Spool,
    tally::{Tally, add},
};

/// Frames made at one go, so that events are not kept waiting.
const BATCH: usize = 8;

/// What all devices of a fleet share.
pub(crate) struct Common {
    pub(crate) endpoint: Endpoint,
    pub(crate) mqtt: Mqtt,
    pub(crate) burst: usize,
    /// A connection on which a packet waits longer than this for its acknowledgement is given up.
    pub(crate) ack_wait_ns: u64,
    pub(crate) live: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) done: watch::Sender<u64>,
}

/// What one device did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// The stream.
    pub key: StreamKey,
    /// The boot all its frames belong to.
    pub boot: u64,
    /// Frames made.
    pub made: u64,
    /// Seqs acknowledged.
    pub acked: RangeSet,
    /// Samples per lead in them.
    pub samples: u64,
    /// Seqs refused for good, by MQTT 5 reason code.
    pub refused: BTreeMap<u8, RangeSet>,
    /// Seqs that a full spool had no room for.
    pub lost: u64,
    /// Frames still owed at the end.
    pub owed: u64,
    /// How often it connected.
    pub connections: u64,
    /// Why the last connection ended or failed, where it was not this device's wish.
    pub trouble: Option<String>,
    /// What ended the device before its stream.
    pub failure: Option<Failure>,
}

enum Wire {
    Down { retry_ns: u64 },
    Opening(JoinHandle<Outcome<Link>>),
    Up(Link),
}

enum Woke {
    Time,
    Event(Event),
    Opened(Outcome<Link>),
    Stop,
}

/// See the module.
pub(crate) struct Device {
    pub(crate) common: Arc<Common>,
    pub(crate) key: StreamKey,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) maker: Maker,
    pub(crate) birth: Bytes,
    pub(crate) luck: Misfortune,
    pub(crate) dice: Dice,
    pub(crate) lines: Option<mpsc::Sender<String>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Monotonic time of the stream's start.
    pub(crate) start_ns: u64,
    /// How long a device whose stream has ended waits for the next acknowledgement.
    pub(crate) patience_ns: u64,
}

/// The device at work.
struct Run {
    device: Device,
    spool: Spool,
    wire: Wire,
    /// The birth has gone out on this connection, so the server is there.
    born: bool,
    failures: u32,
    /// Cut the connection once this frame has gone out.
    cut: Option<(u64, Cut)>,
    stopping: bool,
    /// When something was last acknowledged, or first owed.
    quiet_since_ns: u64,
    topics: (String, String),
    report: DeviceReport,
}

impl Device {
    /// Runs until the stream has ended and nothing is owed, or it was stopped and patience is over.
    pub(crate) async fn run(self) -> DeviceReport {
        let topic = |what| format!("chordae/v1/{}/{}/{what}", self.key.device, self.key.stream);
        let report = DeviceReport {
            key: self.key.clone(),
            boot: self.maker.boot,
            made: 0,
            acked: RangeSet::new(),
            samples: 0,
            refused: BTreeMap::new(),
            lost: 0,
            owed: 0,
            connections: 0,
            trouble: None,
            failure: None,
        };
        let mut run = Run {
            topics: (topic("birth"), topic("frame")),
            spool: Spool::default(),
            wire: Wire::Down { retry_ns: 0 },
            born: false,
            failures: 0,
            cut: None,
            stopping: false,
            quiet_since_ns: self.start_ns,
            report,
            device: self,
        };
        if let Err(failure) = run.turn().await {
            run.report.failure = Some(failure);
        }
        run.leave().await
    }
}

impl Run {
    async fn turn(&mut self) -> Outcome<()> {
        loop {
            let now = self.now_ns();
            self.make(now)?;
            if self.device.maker.ended() && !self.stopping {
                self.begin_to_stop(now);
            }
            self.give_up_silent(now);
            self.connect(now);
            self.send(now);
            if self.over(now) {
                return Ok(());
            }
            match self.wait(now).await? {
                Woke::Time => {}
                Woke::Stop => self.begin_to_stop(now),
                Woke::Opened(opened) => self.opened(opened),
                Woke::Event(event) => {
                    self.handle(event).await?;
                    // What has already come is settled before more is sent.
                    while let Some(event) = self.ready() {
                        self.handle(event).await?;
                    }
                }
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.device.common.clock.mono_ns()
    }

    fn over(&self, now: u64) -> bool {
        let settled = self.spool.frames() == 0 && self.spool.flying() == 0;
        (self.stopping && settled) || self.gives_up_ns().is_some_and(|at| now >= at)
    }

    /// When patience ends; a device that still records has no end of it.
    fn gives_up_ns(&self) -> Option<u64> {
        let waits = self.stopping || self.waits_for_room();
        waits.then(|| self.quiet_since_ns.saturating_add(self.device.patience_ns))
    }

    /// Makes the frames that are due.
    fn make(&mut self, now: u64) -> Outcome<()> {
        for _ in 0..BATCH {
            let Some(due) = self.device.maker.due_ns()? else {
                return Ok(());
            };
            if self.device.start_ns.saturating_add(due) > now {
                return Ok(());
            }
            let full = self.spool.bytes() >= limits::SIM_SPOOL_BYTES_MAX;
            if full && self.device.common.live {
                self.device.maker.lose();
                self.report.lost += 1;
                add(&self.device.common.tally.lost, 1);
                continue;
            }
            if self.waits_for_room() {
                return Ok(());
            }
            let device = &mut self.device;
            let Some(frame) = device.maker.make(&mut device.luck)? else {
                return Ok(());
            };
            // Held back by a fault, counted from when it was due.
            let next = device.maker.due_ns()?.unwrap_or(due);
            let hold = device.luck.holds_back(next.saturating_sub(due));
            let not_before = if hold == 0 {
                0
            } else {
                now.saturating_add(hold)
            };
            if self.spool.frames() == 0 {
                self.quiet_since_ns = now;
            }
            self.spool.keep(frame, not_before);
            self.report.made += 1;
            add(&device.common.tally.made, 1);
        }
        Ok(())
    }

    /// A device that is not live makes no more than it can soon send.
    fn waits_for_room(&self) -> bool {
        let enough = self.spool.frames() >= 2 * self.device.common.burst
            || self.spool.bytes() >= limits::SIM_SPOOL_BYTES_MAX;
        enough && !self.device.common.live
    }

    /// No more frames; what is held back may go, what is owed is waited for.
    fn begin_to_stop(&mut self, now: u64) {
        self.device.maker.end();
        self.spool.release();
        self.stopping = true;
        self.quiet_since_ns = now;
    }

    /// Waits for the next thing to do; changes nothing but what `select` must.
    async fn wait(&mut self, now: u64) -> Outcome<Woke> {
        let deadline = self.deadline_ns(now)?;
        let pause = sleep(Duration::from_nanos(deadline.saturating_sub(now)));
        let stopping = self.stopping;
        let stop = &mut self.device.stop;
        Ok(match &mut self.wire {
            Wire::Up(link) => tokio::select! {
                event = link.event() => Woke::Event(event),
                () = pause => Woke::Time,
                _ = stop.wait_for(|stop| *stop), if !stopping => Woke::Stop,
            },
            Wire::Opening(opening) => tokio::select! {
                opened = opening => Woke::Opened(opened.unwrap_or_else(|e| {
                    Err(Failure::internal(format!("connecting: {e}")))
                })),
                () = pause => Woke::Time,
                _ = stop.wait_for(|stop| *stop), if !stopping => Woke::Stop,
            },
            Wire::Down { .. } => tokio::select! {
                () = pause => Woke::Time,
                _ = stop.wait_for(|stop| *stop), if !stopping => Woke::Stop,
            },
        })
    }

    /// When there is something to do even if nothing comes.
    fn deadline_ns(&self, now: u64) -> Outcome<u64> {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let mut at = now.saturating_add(HOUR_NS);
        if let Some(due) = self.device.maker.due_ns()?
            && !self.waits_for_room()
        {
            at = at.min(self.device.start_ns.saturating_add(due));
        }
        match &self.wire {
            Wire::Down { retry_ns } => at = at.min(*retry_ns),
            Wire::Opening(_) => {}
            Wire::Up(_) => {
                let common = &self.device.common;
                if self.spool.flying() < common.burst {
                    at = at.min(self.spool.next_ns().unwrap_or(u64::MAX));
                }
                let silent = |since: u64| since.saturating_add(common.ack_wait_ns);
                at = at.min(self.spool.oldest_ns().map_or(u64::MAX, silent));
            }
        }
        Ok(at.min(self.gives_up_ns().unwrap_or(u64::MAX)))
    }

    async fn leave(mut self) -> DeviceReport {
        self.unborn();
        match std::mem::replace(&mut self.wire, Wire::Down { retry_ns: 0 }) {
            Wire::Up(link) => drop(link.goodbye().await),
            Wire::Opening(opening) => opening.abort(),
            Wire::Down { .. } => {}
        }
        self.report.owed = self.spool.frames() as u64;
        if self.report.owed == 0 && self.report.failure.is_none() {
            self.device.common.tally.finished.fetch_add(1, Relaxed);
        }
        self.device.common.done.send_modify(|n| *n += 1);
        self.report
    }
}
