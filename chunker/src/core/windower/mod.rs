//! The windower: records in, seal orders out.
//!
//! One value holds all streams. Every entry point first lets time pass up to its own `now` (alarms fire
//! one by one, each at its own instant, so that a coarse tick and a fine record feed cut alike), then
//! changes state, and leaves effects for the caller to take. It waits for nothing.
//!
//! Exactly once: a frame's times depend on records only (`times`), its pieces on times and plan
//! (`cut`), and coverage names pieces. So after a crash replay computes the pieces that life computed
//! and drops those that are linked; whether it finds the same *buckets* matters only for adopting an
//! orphaned file, never for what is stored.

mod lay;
mod look;
mod plan;
mod take;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chordae_base::{Did, RangeSet, StreamKey, limits::REORDER_WAIT_NS, record::WalRecord};

use super::{
    bucket::{Bucket, SealOrder},
    coverage::Coverage,
    deadlines::SealReason,
    pins::Pins,
    ports::{Covered, Gap, Plans},
    stream::Stream,
};

/// What the caller must do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Seal this.
    Seal(Arc<SealOrder>),
    /// A frame that no rule can place; it stays in the WAL and is counted. Never a device's fault:
    /// ingest parks or quarantines those.
    Stranded {
        /// Its WAL position.
        position: u64,
        /// Why.
        why: String,
    },
}

/// Alarms in the order in which they fire at one instant: frames move before buckets are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The wait of a frame is over.
    Turn { stream: u32, boot: u64, seq: u64 },
    /// A bucket may be due.
    Bucket(u64),
    /// Ends may be forgotten.
    Forget { stream: u32, boot: u64 },
}

/// A piece that no chunk will hold.
#[derive(Debug, Clone, Copy)]
struct Unsealable {
    order: u64,
    position: u64,
    leans_on: Option<u64>,
}

/// What a bucket is told about time when a piece reaches it.
#[derive(Debug, Clone, Copy)]
struct Touch {
    opened_ns: i64,
    touched_ns: i64,
}

/// See the module.
#[derive(Default)]
pub struct Windower {
    now_ns: i64,
    newest: Option<u64>,
    numbers: BTreeMap<StreamKey, u32>,
    streams: BTreeMap<u32, Stream>,
    buckets: BTreeMap<u64, Bucket>,
    next_id: u64,
    alarms: BTreeSet<(i64, Alarm)>,
    sealing: BTreeMap<u64, Arc<SealOrder>>,
    /// Orders that failed for good, with how many of their frames are not settled yet.
    gaps: BTreeMap<u64, (Arc<SealOrder>, usize)>,
    /// Frames of theirs that wait for their `Settled` record, by stream, boot, seq: the order, the pins.
    unsealable: BTreeMap<(StreamKey, u64, u64), Vec<Unsealable>>,
    pins: Pins,
    /// While replayed frames are on their way; none afterwards.
    coverage: Option<Coverage>,
    covered_until: Option<i64>,
    /// End of the newest linked or sealing row.
    ends: BTreeMap<Did, i64>,
    stranded: u64,
    effects: Vec<Effect>,
}

impl Windower {
    /// A windower that is about to replay, with the coverage of everything linked.
    pub fn new(coverage: Coverage) -> Self {
        let (now_ns, ends) = (i64::MIN, coverage.ends().clone());
        Self {
            now_ns,
            ends,
            coverage: Some(coverage),
            ..Self::default()
        }
    }

    /// Replay is over: repeats are ingest's from here on. Coverage is forgotten once the last replayed
    /// frame cannot wait for its turn any more.
    pub fn replayed(&mut self) {
        self.covered_until = Some(self.now_ns.saturating_add(REORDER_WAIT_NS));
    }

    /// What is to be done since this was last asked.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The clock of the feed.
    pub fn now_ns(&self) -> i64 {
        self.now_ns
    }

    /// Time passes. Ticks must not run ahead of the receive times of later records.
    pub fn tick(&mut self, now_ns: i64) {
        while let Some((at, alarm)) = self.alarms.first().copied().filter(|(at, _)| *at <= now_ns) {
            self.alarms.pop_first();
            self.now_ns = self.now_ns.max(at);
            self.fire(alarm);
        }
        self.now_ns = self.now_ns.max(now_ns);
        if self.covered_until.is_some_and(|until| until <= self.now_ns) {
            (self.coverage, self.covered_until) = (None, None);
        }
    }

    /// Takes one WAL record. Positions ascend; one that was seen is ignored.
    pub fn record(&mut self, position: u64, record: &WalRecord, plans: &dyn Plans) {
        if self.newest.is_some_and(|n| position <= n) {
            return;
        }
        self.newest = Some(position);
        self.pins.saw(position);
        match record {
            WalRecord::State(state) => state.births.iter().for_each(|b| self.birth(b)),
            WalRecord::Birth(birth) => {
                self.tick(birth.recv_ns);
                self.birth(birth);
            }
            WalRecord::Frame(frame) => {
                self.tick(frame.recv_ns);
                if let Err(failure) = self.frame(position, frame, plans) {
                    self.strand(position, failure.why);
                }
            }
            WalRecord::Settled(settled) => {
                self.tick(settled.recv_ns);
                self.settled(settled);
            }
        }
    }

    /// Lets everything go and seals it: an orderly stop.
    pub fn stop(&mut self) {
        let boots: Vec<(u32, u64)> = self
            .streams
            .iter()
            .flat_map(|(n, s)| s.boots.keys().map(move |boot| (*n, *boot)))
            .collect();
        for (number, boot) in boots {
            let turn = self
                .streams
                .get_mut(&number)
                .and_then(|s| s.boots.get_mut(&boot));
            let released = turn.map(|b| b.turn.flush()).unwrap_or_default();
            self.lay_all(number, boot, released);
        }
        let open: Vec<u64> = self.buckets.keys().copied().collect();
        for bucket in open {
            self.seal(bucket, SealReason::Stop);
        }
    }

    /// Orders were linked: their rows are history. Says what is covered now.
    pub fn linked(&mut self, orders: &[u64]) -> Vec<Covered> {
        let done = orders.iter().filter_map(|id| self.sealing.remove(id));
        let mut news = Vec::new();
        for order in done.collect::<Vec<_>>() {
            let (mut seqs, mut whole) = (RangeSet::new(), RangeSet::new());
            for piece in &order.pieces {
                seqs.insert(piece.fact.seq);
                if self.pins.free_piece(piece.fact.position) {
                    whole.insert(piece.fact.seq);
                }
                piece.leans_on.iter().for_each(|p| self.pins.free(*p));
            }
            let cell = order.key.cell;
            let (stream, boot) = (order.stream.clone(), order.key.boot);
            let (did, slot_start_ns) = (cell.did, cell.slot_start_ns);
            news.push(Covered {
                stream,
                did,
                boot,
                slot_start_ns,
                seqs,
                whole,
            });
        }
        news
    }

    /// WAL positions of the frames of orders that wait for their link.
    pub fn positions(&self, orders: &[u64]) -> Vec<u64> {
        let orders = orders.iter().filter_map(|id| self.sealing.get(id));
        orders
            .flat_map(|order| order.pieces.iter().map(|p| p.fact.position))
            .collect()
    }

    /// The store did not take an order. Its pins stay, so the WAL keeps its frames and the next start
    /// tries again.
    pub fn failed(&mut self, order: u64) {
        if let Some(order) = self.sealing.remove(&order) {
            let frames = order.pieces.len();
            self.gaps.insert(order.id, (order, frames));
        }
    }

    /// An order cannot be sealed: a named gap. Its pins stay until each of its frames is settled, so the
    /// WAL keeps them until they lie in quarantine.
    pub fn unsealable(&mut self, order: u64, why: String) -> Option<Gap> {
        let order = self.sealing.remove(&order)?;
        for piece in &order.pieces {
            let frame = (order.stream.clone(), order.key.boot, piece.fact.seq);
            let piece = Unsealable {
                order: order.id,
                position: piece.fact.position,
                leans_on: piece.leans_on,
            };
            self.unsealable.entry(frame).or_default().push(piece);
        }
        let frames = order.pieces.iter().map(|p| (p.fact.seq, p.fact.position));
        let gap = Gap {
            stream: order.stream.clone(),
            did: order.key.cell.did,
            boot: order.key.boot,
            slot_start_ns: order.key.cell.slot_start_ns,
            frames: frames.collect(),
            why,
        };
        let pieces = order.pieces.len();
        self.gaps.insert(order.id, (order, pieces));
        Some(gap)
    }

    /// A frame lies in quarantine: what a gap held of it is needed no more.
    fn settle_gap(&mut self, stream: &StreamKey, boot: u64, seq: u64) {
        let frame = (stream.clone(), boot, seq);
        for piece in self.unsealable.remove(&frame).unwrap_or_default() {
            self.pins.free_piece(piece.position);
            piece.leans_on.iter().for_each(|p| self.pins.free(*p));
            if let Some((_, left)) = self.gaps.get_mut(&piece.order) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.gaps.remove(&piece.order);
                }
            }
        }
    }
}

impl Windower {
    fn number(&mut self, key: &StreamKey) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.insert(key.clone(), number);
        self.streams.insert(number, Stream::new(key.clone()));
        number
    }

    fn strand(&mut self, position: u64, why: String) {
        self.pins.hold(position);
        self.stranded += 1;
        self.effects.push(Effect::Stranded { position, why });
    }
}
