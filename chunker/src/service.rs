//! The chunker's thread around the windower.
//!
//! ```text
//!  replay ─▶ ┌ wait (feed) ─▶ step (windower) ─▶ perform (orders out, news to ingest) ┐
//!            └──────────────◀─────── told by the sealer ◀────────────────────────────┘
//! ```
//!
//! No wait can go round in a circle: the sealer's news always has room ([`SEAL_QUEUE`] orders are out
//! at most), and when orders pile up, the feed waits: that is the back-pressure on ingest.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use chordae_base::{
    Failure, Outcome, StreamKey, StreamPlan,
    limits::{FEED_QUEUE, SEAL_QUEUE},
    record::WalRecord,
    seams::{Clock, Entropy},
};
use chordae_chain::meta::ChunkMeta;
use prometheus::Registry;

use crate::{
    core::{
        bucket::SealOrder,
        coverage::Coverage,
        ports::{ChunkSink, FrameSource, Plans, Progress},
        windower::{Effect, Windower},
    },
    metrics::Metrics,
    replay::Recovered,
    seal::{
        cache::PayloadCache,
        sealer::{Sealer, Told},
    },
};

/// How long the thread waits for input before it looks for news from the sealer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What ingest and the node send to the chunker.
pub enum Input {
    /// A WAL record, once it is synced; positions ascend.
    Record {
        /// Of the record in the WAL.
        position: u64,
        /// The record.
        record: WalRecord,
    },
    /// Time passes. Never ahead of the receive time of a record that is sent later.
    Tick {
        /// The clock that receive times are taken from.
        now_ns: i64,
    },
    /// A new plan for a stream: refused if rows from `from_ns` on are sealed. `persist` makes it
    /// durable; only then is it in force.
    Replan {
        /// The stream.
        stream: StreamKey,
        /// The whole new plan.
        plan: StreamPlan,
        /// First sample time that it changes.
        from_ns: i64,
        /// Makes the plan durable in the registry.
        persist: Box<dyn FnOnce() -> Outcome<()> + Send>,
        /// Whether it is in force; a channel with room for one.
        reply: SyncSender<Outcome<()>>,
    },
    /// Asks how it goes.
    Status {
        /// The answer; a channel with room for one.
        reply: SyncSender<Status>,
    },
    /// Seals everything, waits for the links, reports the last trim, answers, ends.
    Stop {
        /// The end; a channel with room for one.
        reply: SyncSender<Stopped>,
    },
}

/// How the chunker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Time of the feed.
    pub now_ns: i64,
    /// Buckets that hold rows.
    pub open_buckets: usize,
    /// When the oldest of them was opened.
    pub oldest_open_ns: Option<i64>,
    /// Orders that wait for their link.
    pub sealing: usize,
    /// Buckets that failed to seal twice.
    pub gaps: usize,
    /// Frames that no rule could place.
    pub stranded: u64,
    /// Frames that wait for their turn.
    pub held: usize,
    /// Frames that are parked.
    pub parked: usize,
    /// The WAL is needed from here on.
    pub floor: u64,
}

/// What an orderly stop left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// The WAL is needed from here on.
    pub floor: u64,
    /// Buckets that failed to seal twice; the next start tries them again.
    pub gaps: usize,
    /// Frames that are parked.
    pub parked: usize,
}

/// Everything the chunker needs.
pub struct Parts {
    /// The WAL, by position.
    pub source: Box<dyn FrameSource>,
    /// Storage.
    pub sink: Box<dyn ChunkSink>,
    /// Who hears what became history.
    pub progress: Box<dyn Progress>,
    /// The registry.
    pub plans: Box<dyn Plans>,
    /// For salts.
    pub entropy: Arc<dyn Entropy>,
    /// For metrics.
    pub clock: Arc<dyn Clock>,
    /// Metadata of every linked chunk.
    pub stored: Vec<Arc<ChunkMeta>>,
    /// What the WAL held when it was opened.
    pub recovered: Box<dyn Recovered>,
}

/// A running chunker.
pub struct Handle {
    /// The feed.
    pub input: SyncSender<Input>,
    /// Ends with the chunker: `Ok` after a stop, or the reason why the process must end.
    pub join: JoinHandle<Outcome<()>>,
}

/// See the module.
pub struct Chunker;

impl Chunker {
    /// Starts the threads: replay first, then the feed.
    ///
    /// # Errors
    /// `Internal` for taken metric names, `Io` when no thread can be started.
    pub fn start(parts: Parts, registry: &Registry) -> Outcome<Handle> {
        let metrics = Metrics::new(registry)?;
        let (input, feed) = sync_channel(FEED_QUEUE);
        let (orders, orders_in) = sync_channel(SEAL_QUEUE);
        // Each order is told once; one more for the end of the sink.
        let (told_out, told) = sync_channel(SEAL_QUEUE + 1);
        let cache = Arc::new(PayloadCache::default());
        let sealer = Sealer {
            source: parts.source,
            cache: Arc::clone(&cache),
            sink: parts.sink,
            entropy: parts.entropy,
            clock: parts.clock,
            metrics: metrics.clone(),
        };
        let mut coverage = Coverage::default();
        parts.stored.iter().for_each(|meta| coverage.fold(meta));
        let mut run = Run {
            windower: Windower::new(coverage),
            plans: parts.plans,
            progress: parts.progress,
            cache,
            metrics,
            orders: Some(orders),
            told,
            waiting: VecDeque::new(),
            out: 0,
            trimmed: 0,
        };
        let failed = |err: std::io::Error| Failure::os("start a thread of the chunker", &err);
        let sealing = thread::Builder::new()
            .name("sealer".into())
            .spawn(move || sealer.run(&orders_in, &told_out))
            .map_err(failed)?;
        let recovered = parts.recovered;
        let join = thread::Builder::new()
            .name("windower".into())
            .spawn(move || {
                let end = run.replay(&*recovered).and_then(|()| run.serve(&feed));
                // No more orders: the sealer ends, and with it the sink is closed.
                drop(run);
                let sealed = sealing
                    .join()
                    .map_err(|_| Failure::internal("the sealer died"));
                end.and(sealed)
            })
            .map_err(failed)?;
        Ok(Handle { input, join })
    }
}

/// Whoever asked may be gone; what was asked is done all the same.
fn answer<T>(to: &SyncSender<T>, what: T) {
    if to.try_send(what).is_err() {
        tracing::debug!("nobody waits for an answer of the chunker");
    }
}

struct Run {
    windower: Windower,
    plans: Box<dyn Plans>,
    progress: Box<dyn Progress>,
    cache: Arc<PayloadCache>,
    metrics: Metrics,
    orders: Option<SyncSender<Arc<SealOrder>>>,
    told: Receiver<Told>,
    /// Orders that the sealer has no room for yet.
    waiting: VecDeque<Arc<SealOrder>>,
    /// Orders at the sealer.
    out: usize,
    trimmed: u64,
}

impl Run {
    fn replay(&mut self, recovered: &dyn Recovered) -> Outcome<()> {
        recovered.scan(&mut |position, record| {
            self.record(position, record);
            self.perform()
        })?;
        self.windower.replayed();
        self.trim();
        Ok(())
    }

    fn serve(&mut self, feed: &Receiver<Input>) -> Outcome<()> {
        loop {
            self.perform()?;
            match feed.recv_timeout(LOOK_EVERY) {
                Ok(Input::Stop { reply }) => {
                    let stopped = self.stop()?;
                    answer(&reply, stopped);
                    return Ok(());
                }
                Ok(input) => self.step(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.stop().map(|_| ()),
            }
        }
    }

    fn step(&mut self, input: Input) {
        match input {
            Input::Record { position, record } => self.record(position, record),
            Input::Tick { now_ns } => {
                self.windower.tick(now_ns);
                let (_, oldest) = self.windower.open_buckets();
                self.metrics
                    .oldest_open(oldest.map(|o| now_ns.saturating_sub(o)));
                self.trim();
            }
            Input::Replan {
                stream,
                plan,
                from_ns,
                persist,
                reply,
            } => {
                let done = self.replan(&stream, plan, from_ns, persist);
                answer(&reply, done);
            }
            Input::Status { reply } => answer(&reply, self.status()),
            Input::Stop { .. } => {}
        }
    }

    fn record(&mut self, position: u64, record: WalRecord) {
        self.windower.record(position, &record, &*self.plans);
        if let WalRecord::Frame(frame) = record {
            if self.windower.needs(position) {
                self.cache.keep(position, &frame.payload);
            }
        }
    }

    /// Check, make durable, then put in force: a crash between the last two finds the new plan in the
    /// registry, folds it first and replays the open rows under it.
    fn replan(
        &mut self,
        stream: &StreamKey,
        plan: StreamPlan,
        from_ns: i64,
        persist: Box<dyn FnOnce() -> Outcome<()> + Send>,
    ) -> Outcome<()> {
        self.windower.may_replan(stream, &plan, from_ns)?;
        persist()?;
        self.windower.replan(stream, plan, from_ns);
        Ok(())
    }

    /// Takes effects and news until there is room for more input.
    fn perform(&mut self) -> Outcome<()> {
        for effect in self.windower.take_effects() {
            match effect {
                Effect::Seal(order) => self.waiting.push_back(order),
                Effect::Stranded { position, why } => {
                    self.metrics.stranded();
                    tracing::error!(
                        position,
                        why,
                        "a frame cannot be placed; it stays in the WAL"
                    );
                }
            }
        }
        loop {
            while let Ok(told) = self.told.try_recv() {
                self.hear(told)?;
            }
            self.send_orders()?;
            if self.waiting.len() < SEAL_QUEUE {
                return Ok(());
            }
            self.wait()?;
        }
    }

    fn send_orders(&mut self) -> Outcome<()> {
        while self.out < SEAL_QUEUE {
            let Some(order) = self.waiting.pop_front() else {
                break;
            };
            let sent = self
                .orders
                .as_ref()
                .is_some_and(|to| to.send(order).is_ok());
            if !sent {
                return Err(Failure::internal("the sealer is gone"));
            }
            self.out += 1;
        }
        Ok(())
    }

    /// Waits for one piece of news from the sealer.
    fn wait(&mut self) -> Outcome<()> {
        let told = self
            .told
            .recv()
            .map_err(|_| Failure::internal("the sealer is gone"))?;
        self.hear(told)
    }

    fn hear(&mut self, told: Told) -> Outcome<()> {
        match told {
            Told::Linked(ids) => {
                self.out = self.out.saturating_sub(ids.len());
                let positions = self.windower.positions(&ids);
                let news = self.windower.linked(&ids);
                positions
                    .iter()
                    .filter(|p| !self.windower.needs(**p))
                    .for_each(|p| {
                        self.cache.forget(*p);
                    });
                if !news.is_empty() {
                    self.progress.covered(news);
                }
                self.trim();
            }
            Told::Failed { id, failure } => {
                self.out = self.out.saturating_sub(1);
                for position in self.windower.positions(&[id]) {
                    self.cache.forget(position);
                }
                self.windower.failed(id);
                self.metrics.gaps(self.windower.gaps());
                tracing::error!(why = %failure, "a bucket failed to seal twice; its frames stay in the WAL");
            }
            Told::Gone(failure) => return Err(failure.during("linking chunks")),
        }
        Ok(())
    }

    fn trim(&mut self) {
        let floor = self.windower.floor();
        if floor > self.trimmed {
            self.trimmed = floor;
            self.progress.trim(floor);
        }
    }

    fn stop(&mut self) -> Outcome<Stopped> {
        self.windower.stop();
        self.perform()?;
        while self.windower.sealing() > 0 {
            self.send_orders()?;
            self.wait()?;
        }
        self.trim();
        let Status {
            floor,
            gaps,
            parked,
            ..
        } = self.status();
        Ok(Stopped {
            floor,
            gaps,
            parked,
        })
    }

    fn status(&self) -> Status {
        let (open_buckets, oldest_open_ns) = self.windower.open_buckets();
        let (held, parked) = self.windower.waiting();
        Status {
            now_ns: self.windower.now_ns(),
            open_buckets,
            oldest_open_ns,
            sealing: self.windower.sealing(),
            gaps: self.windower.gaps(),
            stranded: self.windower.stranded(),
            held,
            parked,
            floor: self.windower.floor(),
        }
    }
}
