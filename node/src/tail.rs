//! The newest frames of every stream, kept in memory for live readers.
//!
//! ```text
//! ingest ─durable records─▶ Tap ─▶ births, windower        replay at the start ─▶ Tap
//!                            └─▶ Tail: frames as they came, bounded; the oldest goes first ─▶ bells
//! ```
//!
//! Taking a frame is a look-up and a copy of its payload: ingest waits for nobody here, and a reader who
//! falls behind finds that frames were let go. No bucket is open as long as `TAIL_AGE_NS`: frames older than that
//! lie in chunks. Which did a row belongs to is looked up when it is read, in
//! the plan that is in force then; its time is the one that the windower gives it, from the same rule, where
//! the frame before it has come already. Nothing here outlives the process, and nothing needs to: the start
//! replays the log through the same tap.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
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
    /// Streams of the kept frames, by place: the oldest first. As many as there are frames.
    order: BTreeMap<u64, StreamKey>,
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
            // A copy: the original may be a part of a much larger buffer, which it would keep.
            record: FrameRecord {
                payload: Bytes::copy_from_slice(&record.payload),
                ..record.clone()
            },
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
        self.order.insert(at, record.stream.clone());
        if full {
            self.let_go(&record.stream);
        }
        let young = record.recv_ns.saturating_sub(limits::TAIL_AGE_NS);
        while let Some((_, oldest)) = self.order.first_key_value() {
            let front = self.streams.get(oldest).and_then(|r| r.kept.front());
            let is_old = front.is_some_and(|kept| kept.record.recv_ns < young);
            if !is_old && self.bytes <= limits::TAIL_BYTES_MAX {
                break;
            }
            if let Some((_, oldest)) = self.order.pop_first() {
                self.let_go(&oldest);
            }
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
            self.order.remove(&gone.at);
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

#[cfg(test)]
mod tests {
    use chordae_base::{
        Rate,
        record::BirthRecord,
        seams::fake::{FakeDisk, FakeEntropy},
        time::SECOND_NS as S,
        wire::{ClockKind, Frame, Lead},
    };
    use chordae_query::core::ports::Tail as _;
    use chordae_storage::registry::{Device, DeviceKind};

    use super::*;

    const T0: i64 = 1_700_000_000 * S;
    /// A number far from the others, of a frame in the late lane.
    const LATE: u64 = 1000;

    fn tail() -> (Tail, StreamKey, Did) {
        let (disk, entropy) = (Arc::new(FakeDisk::new()), Arc::new(FakeEntropy::new(3)));
        let home = std::path::Path::new("/registry");
        let registry = Registry::open(disk, home, entropy, 10 * S).unwrap();
        let stream: StreamKey = "bed-1/ecg".parse().unwrap();
        let device = Device::new(stream.device.clone(), DeviceKind::Device);
        registry.add_device(device).unwrap();
        let did = registry.open_stream(&stream).unwrap().first;
        let tail = Tail::new(Arc::new(registry));
        let lead = Lead {
            name: "I".into(),
            mdc: 0,
            gain: 200.0,
            baseline: 0,
            unit: "mV".into(),
            bits: 16,
        };
        let birth = Birth {
            boot: 1,
            rate: Rate::new(100, 1).unwrap(),
            leads: vec![lead],
            model: String::new(),
            firmware: String::new(),
            clock: ClockKind::Synced,
        };
        let birth = BirthRecord {
            stream: stream.clone(),
            recv_ns: T0,
            birth,
        };
        tail.take(1, &WalRecord::Birth(birth));
        (tail, stream, did)
    }

    /// A second of frame `seq`, from `t0_ns` on.
    fn frame(stream: &StreamKey, seq: u64, t0_ns: i64, place: Place) -> WalRecord {
        let frame = Frame {
            boot: 1,
            seq,
            t0_ns,
            samples: 100,
            codes: (0..100).collect(),
            historical: false,
            clock: ClockKind::Synced,
        };
        WalRecord::Frame(FrameRecord {
            stream: stream.clone(),
            boot: 1,
            seq,
            recv_ns: T0 + S + seq as i64,
            t0_ns,
            samples: 100,
            offset_ns: 0,
            clock: ClockKind::Synced,
            place,
            print: frame.print(),
            payload: frame.encode().into(),
        })
    }

    #[test]
    fn the_rows_of_a_frame_go_to_whom_the_plan_gives_them() {
        let (tail, stream, old) = tail();
        tail.take(2, &frame(&stream, 0, T0, Place::Live));
        assert_eq!(tail.after(&old, 0, 9).unwrap().frames[0].rows.len(), 100);
        // Half-way through the frame the stream becomes somebody else's.
        let new = tail.registry.fresh_did();
        let cut = T0 + S / 4;
        tail.registry.add_tenure(&stream, new, cut, None).unwrap();
        let rows = |did: &Did| tail.after(did, 0, 9).unwrap().frames[0].rows.clone();
        let (before, after) = (rows(&old), rows(&new));
        assert_eq!((before.len(), after.len()), (25, 75));
        assert!(before.times.iter().all(|t| *t < cut) && after.times.iter().all(|t| *t >= cut));
        assert_eq!(before.leads[0], (0..25).collect::<Vec<i32>>());
        assert_eq!(after.leads[0], (25..100).collect::<Vec<i32>>());
        assert!(tail.after(&Did([9; 16]), 0, 9).unwrap().frames.is_empty());
    }

    #[test]
    fn times_are_spread_as_the_windower_spreads_them_and_parked_frames_wait() {
        let (tail, stream, did) = tail();
        tail.take(2, &frame(&stream, 0, T0, Place::Live));
        tail.take(3, &frame(&stream, 1, T0 + S - 20_000_000, Place::Live));
        tail.take(3, &frame(&stream, 2, T0 + 2 * S, Place::Live));
        tail.take(4, &frame(&stream, 3, T0 + 3 * S, Place::Parked));
        tail.take(5, &frame(&stream, LATE, T0 - 900 * S, Place::Late));
        let page = tail.after(&did, 0, 9).unwrap();
        let seen: Vec<_> = page.frames.iter().map(|f| (f.seq, f.late)).collect();
        let why = "a position twice is one record, and a parked frame has no time yet";
        assert_eq!(seen, [(0, false), (1, false), (LATE, true)], "{why}");
        let spread = &page.frames[1].rows.times;
        assert_eq!((spread[0], spread.len()), (T0 + S, 100));
        assert!(spread.windows(2).all(|w| w[0] < w[1]) && spread[99] < T0 + 2 * S - 20_000_000);
        assert_eq!(tail.find(&did, 1, 1), Some(page.frames[1].at));
        assert_eq!(tail.find(&did, 1, 3), None);
        assert_eq!(tail.after(&did, page.next, 9).unwrap().frames.len(), 0);
    }

    #[test]
    fn the_oldest_goes_first_and_that_is_told() {
        let (tail, stream, did) = tail();
        let rung = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&rung);
        let bell: Arc<query::Bell> = Arc::new(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        tail.ring(&did, Arc::downgrade(&bell));
        let mut n = 0;
        while tail.after(&did, 0, 1).unwrap().lost.is_none() {
            tail.take(2 + n, &frame(&stream, n, T0 + n as i64 * S, Place::Live));
            n += 1;
            assert!(n < 100_000, "nothing is ever let go");
        }
        let rings = rung.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(rings as u64, n);
        let held = tail.lock().bytes;
        assert!(held <= limits::TAIL_STREAM_BYTES_MAX && held > limits::TAIL_STREAM_BYTES_MAX / 2);
        let kept = |tail: &Tail| {
            let inner = tail.lock();
            let kept = inner.streams.values().map(|r| r.kept.len()).sum::<usize>();
            assert_eq!(
                inner.order.len(),
                kept,
                "nothing is left of what was let go"
            );
            kept
        };
        assert!(kept(&tail) > 1000);
        let page = tail.after(&did, 0, 1).unwrap();
        assert_eq!(page.lost.map(|(_, seq, _)| seq), Some(0));
        assert_eq!(page.frames[0].seq, 1, "what follows it is there");
        assert!(tail.after(&did, page.next, 1).unwrap().lost.is_none());
        drop(bell);
        tail.take(3 + n, &frame(&stream, n, T0 + n as i64 * S, Place::Live));
        assert_eq!(rung.load(std::sync::atomic::Ordering::SeqCst), rings);
        // What no bucket can be waiting for any more goes whatever room there is.
        let WalRecord::Frame(mut last) = frame(&stream, n + 1, T0 + n as i64 * S, Place::Live)
        else {
            panic!("a frame")
        };
        last.recv_ns += limits::TAIL_AGE_NS + S;
        tail.take(4 + n, &WalRecord::Frame(last));
        assert_eq!(kept(&tail), 1);
    }
}
