//! One simulated device: makes frames when they are due, keeps each until it is acknowledged.
//!
//! ```text
//!        ┌── wait: a frame is due · an event came · a connection opened · stop ──┐
//!        ▼                                                                        │
//!   make what is due ──▶ spool ──▶ send what may go ──▶ handle what came ─────────┘
//! ```
//!
//! The births go first on every connection (a repeat is absorbed). A live device whose spool is
//! full loses the frame and says so; any other waits for room. A device is finished when its stream
//! has ended and nothing is left to send; one that only waits for acknowledgements, and hears none
//! for its patience, gives up.

mod exchange;
mod obey;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, RangeSet, limits, seams::Clock};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use crate::{
    acked::Entry,
    dice::Dice,
    encoding::Encoding,
    faults::{Cut, Misfortune},
    link::{Dial, Event, Link},
    maker::{Maker, Workshop},
    orders::Orders,
    report::DeviceReport,
    spool::{Kept, Spool},
    state::{self, Remembered, State},
    tally::{Tally, add},
};

/// Frames made at one go, so that events are not kept waiting.
const BATCH: usize = 8;

/// What all devices of a fleet share.
pub(crate) struct Common {
    pub(crate) burst: usize,
    /// A connection on which a packet waits longer than this for its acknowledgement is given up.
    pub(crate) ack_wait_ns: u64,
    /// Longest wait before connecting again.
    pub(crate) backoff_ns: u64,
    pub(crate) live: bool,
    /// How long a device that goes away stays away.
    pub(crate) pause_ns: u64,
    pub(crate) encoding: Encoding,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) state: Option<Arc<State>>,
    pub(crate) done: watch::Sender<u64>,
    /// How long a device whose stream has ended waits for the next acknowledgement.
    pub(crate) patience_ns: u64,
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
    pub(crate) dial: Dial,
    pub(crate) workshop: Workshop,
    pub(crate) maker: Maker,
    pub(crate) birth: Bytes,
    pub(crate) remembered: Remembered,
    pub(crate) luck: Misfortune,
    pub(crate) dice: Dice,
    pub(crate) lines: Option<mpsc::Sender<Entry>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Monotonic time of the stream's start; before our own where it began while we were away.
    pub(crate) start_ns: i64,
    /// When it first connects.
    pub(crate) connect_ns: u64,
}

/// The device at work.
struct Run {
    device: Device,
    spool: Spool,
    orders: Orders,
    wire: Wire,
    /// The door has let us in.
    connected: bool,
    failures: u32,
    /// Cut the connection once this place of the spool has gone out.
    cut: Option<(u64, Cut)>,
    /// A command said stop, and none has said start.
    halted: bool,
    stopping: bool,
    /// When something was last acknowledged, or first owed.
    quiet_since_ns: u64,
    /// Seqs that the `ack` topic said are refused, by boot.
    told: BTreeMap<u64, RangeSet>,
    report: DeviceReport,
}

impl Device {
    /// Runs until the stream has ended and nothing is owed, or it was stopped and patience is over.
    pub(crate) async fn run(self) -> DeviceReport {
        let mut run = Run {
            spool: Spool::default(),
            orders: Orders::default(),
            wire: Wire::Down {
                retry_ns: self.connect_ns,
            },
            connected: false,
            failures: 0,
            cut: None,
            halted: false,
            stopping: false,
            quiet_since_ns: self.connect_ns,
            told: BTreeMap::new(),
            report: DeviceReport::new(self.dial.key.clone()),
            device: self,
        };
        let worked = match run.begin() {
            Ok(()) => run.turn().await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = worked {
            run.report.failure = Some(failure);
        }
        run.leave().await
    }
}

impl Run {
    /// Takes over what is owed from before a crash, then the new boot.
    fn begin(&mut self) -> Outcome<()> {
        let remembered = std::mem::take(&mut self.device.remembered);
        for (boot, birth) in remembered.births {
            self.spool.born(boot, birth);
        }
        for frame in remembered.frames {
            self.spool.keep(frame, 0);
            self.report.made += 1;
            add(&self.device.common.tally.made, 1);
        }
        for (id, reply) in remembered.orders {
            self.orders.remember(id, reply, false);
        }
        let birth = self.device.birth.clone();
        self.born(birth)
    }

    /// A boot begins.
    fn born(&mut self, birth: Bytes) -> Outcome<()> {
        let boot = self.device.maker.boot;
        let device = self.device.dial.key.device.as_str();
        self.note(|| state::born(device, boot, &birth))?;
        self.report.boots.push(boot);
        self.spool.born(boot, birth);
        Ok(())
    }

    /// Writes to the state, where there is one.
    fn note(&self, line: impl FnOnce() -> String) -> Outcome<()> {
        match &self.device.common.state {
            Some(state) => state.add(&line()),
            None => Ok(()),
        }
    }

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
        let waits = self.stopping || (self.holds() && self.spool.frames() > 0);
        let patience = self.device.common.patience_ns;
        waits.then(|| self.quiet_since_ns.saturating_add(patience))
    }

    /// When the next frame is due, on our clock.
    fn due_ns(&self) -> Outcome<Option<u64>> {
        let due = self.device.maker.due_ns()?;
        Ok(due.map(|due| {
            let due = i64::try_from(due).unwrap_or(i64::MAX);
            let at = self.device.start_ns.saturating_add(due);
            u64::try_from(at).unwrap_or(0)
        }))
    }

    /// Makes the frames that are due.
    fn make(&mut self, now: u64) -> Outcome<()> {
        for _ in 0..BATCH {
            let Some(due) = self.due_ns()?.filter(|due| *due <= now) else {
                return Ok(());
            };
            if self.holds() {
                return Ok(());
            }
            if self.halted {
                self.device.maker.pass();
                continue;
            }
            if self.device.maker.starts_over() {
                let first = self.device.maker.start_over();
                first.into_iter().for_each(|f| self.spool.keep(f, 0));
            }
            let full = self.spool.bytes() >= limits::SIM_SPOOL_BYTES_MAX;
            if (full && self.device.common.live) || self.device.luck.loses() {
                self.device.maker.lose();
                self.report.lost += 1;
                add(&self.device.common.tally.lost, 1);
                continue;
            }
            let device = &mut self.device;
            let Some(frame) = device.maker.make(&mut device.luck)? else {
                return Ok(());
            };
            self.keep(frame, due, now)?;
        }
        Ok(())
    }

    fn keep(&mut self, frame: Kept, due: u64, now: u64) -> Outcome<()> {
        let device = self.device.dial.key.device.as_str();
        self.note(|| state::frame(device, &frame))?;
        // Held back by a fault, counted from when it was due.
        let next = self.due_ns()?.unwrap_or(due);
        let hold = self.device.luck.holds_back(next.saturating_sub(due));
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
        add(&self.device.common.tally.made, 1);
        Ok(())
    }

    /// Makes nothing for now: a device that is not live makes no more than it can soon send, one that
    /// starts over first wants everything settled.
    fn holds(&self) -> bool {
        let common = &self.device.common;
        let enough = self.spool.frames() >= 2 * common.burst
            || self.spool.bytes() >= limits::SIM_SPOOL_BYTES_MAX;
        let settles = self.device.maker.starts_over() && self.spool.frames() > 0;
        // A device that is not paced would let its whole stream pass at once while it is stopped.
        let rests = self.halted && self.device.maker.due_ns() == Ok(Some(0));
        settles || rests || (enough && !common.live)
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
        if let Some(due) = self.due_ns()?
            && !self.holds()
        {
            at = at.min(due);
        }
        match &self.wire {
            Wire::Down { retry_ns } => at = at.min(*retry_ns),
            Wire::Opening(_) => {}
            Wire::Up(_) => {
                if self.has_credit() {
                    at = at.min(self.spool.next_ns().unwrap_or(u64::MAX));
                }
                let wait = self.device.common.ack_wait_ns;
                let silent = |since: u64| since.saturating_add(wait);
                at = at.min(self.spool.oldest_ns().map_or(u64::MAX, silent));
            }
        }
        Ok(at.min(self.gives_up_ns().unwrap_or(u64::MAX)))
    }

    async fn leave(mut self) -> DeviceReport {
        self.no_longer_connected();
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
