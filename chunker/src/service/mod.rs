//! The chunker's thread around the windower.
//!
//! ```text
//!  replay ─▶ ┌ wait (feed) ─▶ step (windower) ─▶ perform (orders out, news to ingest) ┐
//!            └──────────────◀─────── told by the sealer ◀────────────────────────────┘
//! ```
//!
//! No wait can go round in a circle: the sealer's news always has room ([`SEAL_QUEUE`] orders are out
//! at most), and when orders pile up, the feed waits: that is the back-pressure on ingest.

mod run;

use std::{collections::VecDeque, sync::Arc};

use chordae_base::{
    Did, Outcome, StreamKey, StreamPlan,
    limits::{FEED_QUEUE, SEAL_QUEUE},
    record::WalRecord,
    seams::{Clock, Entropy, Mailbox, Thread, Threads},
};
use prometheus::Registry;

use run::Run;

use crate::{
    core::{
        coverage::Coverage,
        ports::{ChunkSink, FrameSource, Plans, Progress, Stored},
        windower::Windower,
    },
    metrics::Metrics,
    replay::Recovered,
    seal::{cache::PayloadCache, sealer::Sealer},
};

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
        /// Makes the plan durable in the registry. `BadInput`, `Refused` and `Busy`: it is not; after anything else
        /// nobody knows, and the chunker ends.
        persist: Box<dyn FnOnce() -> Outcome<()> + Send>,
        /// Whether it is in force; a channel with room for one.
        reply: Mailbox<Outcome<()>>,
    },
    /// Does something to a did only if it has no row yet: none linked, open, held or parked. Nothing can
    /// arrive in between, because everything that arrives comes this way.
    Claim {
        /// The stream.
        stream: StreamKey,
        /// Its newest did.
        did: Did,
        /// What to do, durably.
        take: Box<dyn FnOnce() -> Outcome<()> + Send>,
        /// Whether it was done; a channel with room for one.
        reply: Mailbox<Outcome<bool>>,
    },
    /// Asks how it goes.
    Status {
        /// The answer; a channel with room for one.
        reply: Mailbox<Status>,
    },
    /// Seals everything, waits for the links, reports the last trim, answers, ends.
    Stop {
        /// The end; a channel with room for one.
        reply: Mailbox<Stopped>,
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
    /// Buckets that failed to seal twice and still lie in the WAL.
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
    /// Buckets that failed to seal twice and still lie in the WAL; the next start tries them again.
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
    /// Where it runs and waits.
    pub threads: Threads,
    /// The catalogue, as it is at the start.
    pub stored: Box<dyn Stored>,
    /// What the WAL held when it was opened.
    pub recovered: Box<dyn Recovered>,
}

/// A running chunker.
pub struct Handle {
    /// The feed.
    pub input: Mailbox<Input>,
    /// Ends with the chunker: `Ok` after a stop, or the reason why the process must end.
    pub join: Thread<Outcome<()>>,
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
        let threads = parts.threads;
        let (input, feed) = threads.mailbox(FEED_QUEUE);
        let (orders, orders_in) = threads.mailbox(SEAL_QUEUE);
        // Each order is told once; one more for the end of the sink.
        let (told_out, told) = threads.mailbox(SEAL_QUEUE + 1);
        let cache = Arc::new(PayloadCache::default());
        let sealer = Sealer {
            source: parts.source,
            cache: Arc::clone(&cache),
            sink: parts.sink,
            entropy: parts.entropy,
            clock: parts.clock,
            threads: threads.clone(),
            metrics: metrics.clone(),
        };
        let mut run = Run {
            windower: Windower::new(Coverage::new(parts.stored)),
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
        let sealing = threads.spawn("sealer", move || sealer.run(&orders_in, &told_out))?;
        let recovered = parts.recovered;
        let join = threads.spawn("windower", move || {
            let end = run.replay(&*recovered).and_then(|()| run.serve(&feed));
            // No more orders: the sealer ends, and with it the sink is closed.
            drop(run);
            let sealed = sealing
                .join()
                .map_err(|panicked| panicked.during("the sealer"));
            end.and(sealed)
        })?;
        Ok(Handle { input, join })
    }
}
