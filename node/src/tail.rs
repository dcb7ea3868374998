//! The newest frames of every stream, kept in memory for live readers.
//!
//! ```text
//! ingest ─durable records─▶ Tap ─▶ births, windower        replay at the start ─▶ Tap
//!                            └─▶ Tail: frames as they came, bounded; the oldest goes first ─▶ bells
//! ```
//!
//! Taking a frame is a look-up and a clone of a reference: ingest waits for nobody here, and a reader who
//! falls behind finds that frames were let go. Which did a row belongs to is looked up when it is read, in
//! the plan that is in force then; its time is the one that the windower gives it, from the same rule, where
//! the frame before it has come already. Nothing here outlives the process, and nothing needs to: the start
//! replays the log through the same tap.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use chordae_base::{
    Did, Outcome, Span, StreamKey, limits,
    record::{FrameRecord, Place, WalRecord},
    wire::Birth,
};
use chordae_chunk::ChunkRows;
use chordae_chunker::core::times::{self, Fact, Times};
use chordae_ingest::core::ports::Downstream;
use chordae_query::core::ports as query;
use chordae_storage::registry::Registry;

/// Frames looked back through for the one before.
const LOOK_BACK: usize = 64;
/// Bytes that a kept frame costs beside its payload.
const FRAME_OVERHEAD: usize = 256;

/// See the module. Clones share one tail.
#[derive(Clone)]
pub(crate) struct Tail {
    registry: Arc<Registry>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    streams: BTreeMap<StreamKey, Ring>,
    /// Streams of the kept frames, oldest first.
    order: VecDeque<StreamKey>,
    bytes: usize,
    last_at: u64,
    position: Option<u64>,
    ended: bool,
}

#[derive(Default)]
struct Ring {
    births: BTreeMap<u64, Arc<Birth>>,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The frame that was let go last.
    lost: Option<(u64, u64, u64, Span)>,
    bells: Vec<Weak<query::Bell>>,
}

#[derive(Clone)]
struct Kept {
    at: u64,
    record: FrameRecord,
    birth: Arc<Birth>,
    fact: Fact,
    times: Times,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.record.payload.len() + FRAME_OVERHEAD
    }

    fn span(&self) -> Span {
        let start = match self.times {
            Times::Claimed { t0_ns } => t0_ns,
            Times::Spread { start_ns, .. } => start_ns,
        };
        Span {
            from_ns: start,
            until_ns: self.fact.end_ns,
        }
    }
}

impl Tail {
    /// An empty tail; `registry` says whose a row is.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            inner: Arc::default(),
        }
    }

    /// Takes a durable record. One that was seen is ignored: positions ascend.
    pub(crate) fn take(&self, position: u64, record: &WalRecord) {
        let mut inner = self.lock();
        if inner.position.is_some_and(|p| position <= p) {
            return;
        }
        inner.position = Some(position);
        let bells = match record {
            WalRecord::State(state) => {
                for birth in &state.births {
                    inner.born(&birth.stream, &birth.birth);
                }
                Vec::new()
            }
            WalRecord::Birth(birth) => {
                inner.born(&birth.stream, &birth.birth);
                Vec::new()
            }
            WalRecord::Frame(frame) if frame.place != Place::Parked => inner.frame(position, frame),
            WalRecord::Frame(_) | WalRecord::Settled(_) => Vec::new(),
        };
        drop(inner);
        ring_all(&bells);
    }

    fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        let bells: Vec<Weak<query::Bell>> = inner
            .streams
            .values()
            .flat_map(|r| r.bells.iter().cloned())
            .collect();
        drop(inner);
        ring_all(&bells);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ring_all(bells: &[Weak<query::Bell>]) {
    for bell in bells.iter().filter_map(Weak::upgrade) {
        bell();
    }
}

impl Inner {
    fn born(&mut self, stream: &StreamKey, birth: &Birth) {
        let ring = self.streams.entry(stream.clone()).or_default();
        if ring.births.contains_key(&birth.boot) {
            return;
        }
        if ring.births.len() >= limits::TAIL_BOOTS_MAX {
            // The one whose frames went longest ago; a boot number says nothing of its age.
            let in_use = |boot: &u64| ring.kept.iter().any(|k| k.record.boot == *boot);
            let spare = ring.births.keys().copied().find(|boot| !in_use(boot));
            spare.map(|boot| ring.births.remove(&boot));
        }
        ring.births.insert(birth.boot, Arc::new(birth.clone()));
    }

    /// Keeps a frame; whom to ring for.
    fn frame(&mut self, position: u64, record: &FrameRecord) -> Vec<Weak<query::Bell>> {
        self.last_at += 1;
        let at = self.last_at;
        let Some(ring) = self.streams.get_mut(&record.stream) else {
            return Vec::new();
        };
        // Neither happens to a record of ingest: it has a birth and times that fit.
        let Some(birth) = ring.births.get(&record.boot).map(Arc::clone) else {
            return Vec::new();
        };
        let Ok(fact) = Fact::new(position, record, birth.rate) else {
            return Vec::new();
        };
        let before = record.seq.checked_sub(1).and_then(|seq| {
            let recent = ring.kept.iter().rev().take(LOOK_BACK);
            let mut same = recent.filter(|k| (k.record.boot, k.record.seq) == (record.boot, seq));
            same.next().map(|k| times::Tail {
                position: k.fact.position,
                recv_ns: k.fact.recv_ns,
                end_ns: k.fact.end_ns,
            })
        });
        let kept = Kept {
            at,
            record: record.clone(),
            birth,
            times: times::place(&fact, before.as_ref()).times,
            fact,
        };
        let bytes = kept.bytes();
        ring.bytes += bytes;
        ring.kept.push_back(kept);
        ring.bells.retain(|bell| bell.strong_count() > 0);
        let bells = ring.bells.clone();
        let full = ring.bytes > limits::TAIL_STREAM_BYTES_MAX;
        self.bytes += bytes;
        self.order.push_back(record.stream.clone());
        if full {
            self.let_go(&record.stream);
        }
        while self.bytes > limits::TAIL_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.let_go(&oldest);
        }
        // Frames that a stream let go for itself leave their place in the order: it is never longer than
        // the frames that would fit.
        while self.order.len() > limits::TAIL_BYTES_MAX / FRAME_OVERHEAD {
            self.order.pop_front();
        }
        bells
    }

    fn let_go(&mut self, stream: &StreamKey) {
        let Some(ring) = self.streams.get_mut(stream) else {
            return;
        };
        if let Some(gone) = ring.kept.pop_front() {
            ring.bytes -= gone.bytes();
            self.bytes -= gone.bytes();
            ring.lost = Some((gone.at, gone.record.boot, gone.record.seq, gone.span()));
        }
    }
}

impl query::Tail for Tail {
    fn after(&self, did: &Did, at: u64, most: usize) -> Outcome<query::TailPage> {
        let Some(stream) = self.registry.stream_of(did) else {
            return Ok(query::TailPage::default());
        };
        let (kept, mut page) = {
            let inner = self.lock();
            let mut page = query::TailPage {
                next: at,
                ended: inner.ended,
                ..query::TailPage::default()
            };
            let Some(ring) = inner.streams.get(&stream) else {
                return Ok(page);
            };
            if let Some((lost_at, boot, seq, span)) = ring.lost.filter(|l| l.0 > at) {
                page.lost = Some((boot, seq, span));
                page.next = lost_at;
            }
            let first = ring.kept.partition_point(|k| k.at <= at);
            let kept: Vec<Kept> = ring.kept.range(first..).take(most).cloned().collect();
            (kept, page)
        };
        let Some(plan) = self.registry.plan(&stream) else {
            return Ok(page);
        };
        for kept in kept {
            page.next = kept.at;
            let rows = rows_of(&kept, |t_ns| plan.did_at(t_ns) == *did)?;
            page.frames.push(query::TailFrame {
                at: kept.at,
                boot: kept.record.boot,
                seq: kept.record.seq,
                late: kept.record.place == Place::Late,
                birth: kept.birth,
                rows,
            });
        }
        Ok(page)
    }

    fn find(&self, did: &Did, boot: u64, seq: u64) -> Option<u64> {
        let stream = self.registry.stream_of(did)?;
        let inner = self.lock();
        let mut kept = inner.streams.get(&stream)?.kept.iter().rev();
        let found = kept.find(|k| (k.record.boot, k.record.seq) == (boot, seq));
        found.map(|k| k.at)
    }

    fn ring(&self, did: &Did, bell: Weak<query::Bell>) {
        if let Some(stream) = self.registry.stream_of(did) {
            let mut inner = self.lock();
            let bells = &mut inner.streams.entry(stream).or_default().bells;
            bells.retain(|bell| bell.strong_count() > 0);
            bells.push(bell);
        }
    }
}

/// The rows of a frame whose times `mine` takes.
fn rows_of(kept: &Kept, mine: impl Fn(i64) -> bool) -> Outcome<ChunkRows> {
    let frame = kept.record.frame()?;
    let samples = frame.samples;
    let mut which = Vec::new();
    let mut rows = ChunkRows {
        times: Vec::new(),
        leads: Vec::new(),
    };
    for k in 0..samples {
        let t_ns = kept.times.at(k, samples, kept.birth.rate)?;
        if mine(t_ns) {
            which.push(k as usize);
            rows.times.push(t_ns);
        }
    }
    // A frame has as many columns as its birth has leads: ingest refuses any other.
    for column in frame.codes.chunks_exact((samples as usize).max(1)) {
        let codes = which.iter().filter_map(|k| column.get(*k).copied());
        rows.leads.push(codes.collect());
    }
    Ok(rows)
}

/// Durable records on their way down, seen by the tail.
pub(crate) struct Tap<D> {
    below: D,
    tail: Tail,
}

impl<D> Tap<D> {
    /// In front of `below`; the tail ends when this is dropped.
    pub(crate) fn new(below: D, tail: Tail) -> Self {
        Self { below, tail }
    }
}

impl<D> Drop for Tap<D> {
    fn drop(&mut self) {
        self.tail.end();
    }
}

impl<D: Downstream> Downstream for Tap<D> {
    fn record(&mut self, position: u64, record: WalRecord) -> Outcome<()> {
        self.tail.take(position, &record);
        self.below.record(position, record)
    }

    fn tick(&mut self, now_ns: i64) -> Outcome<()> {
        self.below.tick(now_ns)
    }
}
