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

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use chordae_base::{
    Did, Failure, Outcome, RangeSet, StreamKey, StreamPlan,
    limits::{LATE_SLOTS_MAX, REORDER_FRAMES_MAX, REORDER_WAIT_NS},
    record::{BirthRecord, FrameRecord, Place, SettledRecord, WalRecord},
    time::SECOND_NS,
};
use chordae_chain::meta::Lane;

use super::{
    bucket::{Bucket, Key, Piece, SealOrder},
    coverage::Coverage,
    cut,
    deadlines::{self, SealReason},
    pins::Pins,
    ports::{Covered, Plans},
    stream::Stream,
    times::{self, Fact},
    turn::Released,
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

/// What a bucket is told about time when a piece reaches it.
#[derive(Debug, Clone, Copy)]
struct Touch {
    opened_ns: i64,
    touched_ns: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Windower {
    now_ns: i64,
    newest: Option<u64>,
    numbers: BTreeMap<StreamKey, u32>,
    streams: BTreeMap<u32, Stream>,
    buckets: BTreeMap<u64, Bucket>,
    next_id: u64,
    alarms: BTreeSet<(i64, Alarm)>,
    sealing: BTreeMap<u64, Arc<SealOrder>>,
    gaps: BTreeMap<u64, Arc<SealOrder>>,
    pins: Pins,
    /// While replaying; none afterwards.
    coverage: Option<Coverage>,
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

    /// Replay is over: repeats are ingest's from here on.
    pub fn replayed(&mut self) {
        self.coverage = None;
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

    /// An order failed for good: a named gap. Its pins stay, so the WAL keeps its frames and the next
    /// start tries again.
    pub fn failed(&mut self, order: u64) {
        if let Some(order) = self.sealing.remove(&order) {
            self.gaps.insert(order.id, order);
        }
    }

    /// The plan in force for a stream, if it is known here.
    pub fn plan(&self, key: &StreamKey) -> Option<&StreamPlan> {
        self.streams.get(self.numbers.get(key)?)?.plan.as_ref()
    }

    /// Whether rows from `from_ns` on may still change did or slot.
    ///
    /// # Errors
    /// `Refused`, naming the earliest time allowed; `BadInput` when the new plan changes what lies
    /// before `from_ns` or has a slot rule off the grid.
    pub fn may_replan(&self, key: &StreamKey, plan: &StreamPlan, from_ns: i64) -> Outcome<()> {
        super::replan::may_change(self.plan(key), plan, from_ns)?;
        let dids = plan.dids().filter_map(|did| self.ends.get(&did));
        match dids.max() {
            Some(end) if from_ns < *end => Err(Failure::refused(format!(
                "rows of {key} are sealed up to {}; the earliest time allowed is {end}",
                chordae_base::time::show(*end)
            ))),
            _ => Ok(()),
        }
    }

    /// Puts a plan in force that [`Self::may_replan`] allowed, and moves the open rows it changes.
    pub fn replan(&mut self, key: &StreamKey, plan: StreamPlan, from_ns: i64) {
        let number = self.number(key);
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        stream.plan = Some(plan);
        let open: Vec<u64> = stream
            .live
            .values()
            .chain(stream.late.values())
            .copied()
            .collect();
        for id in open {
            if self.buckets.get(&id).is_none_or(|b| b.last_ns < from_ns) {
                continue;
            }
            let Some(bucket) = self.buckets.remove(&id) else {
                continue;
            };
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.strike(&bucket.key);
            }
            let touch = Touch {
                opened_ns: bucket.opened_ns,
                touched_ns: bucket.touched_ns,
            };
            for piece in bucket.pieces.into_values() {
                if let Err(failure) = self.divide(number, bucket.key, &piece, touch) {
                    self.strand(piece.fact.position, failure.why);
                }
                // The new pieces are pinned; the old one goes.
                self.pins.free_piece(piece.fact.position);
                piece.leans_on.iter().for_each(|p| self.pins.free(*p));
            }
        }
    }

    /// Whether the WAL record at `position` is needed.
    pub fn needs(&self, position: u64) -> bool {
        self.pins.holds(position)
    }

    /// No WAL record below this position is needed.
    pub fn floor(&self) -> u64 {
        self.pins.floor()
    }

    /// Open buckets that hold rows, and when the oldest was opened.
    pub fn open_buckets(&self) -> (usize, Option<i64>) {
        let open = self.buckets.values().filter(|b| !b.pieces.is_empty());
        open.fold((0, None), |(n, oldest), b| {
            (
                n + 1,
                Some(oldest.map_or(b.opened_ns, |o: i64| o.min(b.opened_ns))),
            )
        })
    }

    /// Orders that wait for their link.
    pub fn sealing(&self) -> usize {
        self.sealing.len()
    }

    /// Buckets that failed to seal twice.
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Frames that no rule could place.
    pub fn stranded(&self) -> u64 {
        self.stranded
    }

    /// Frames that wait for their turn, and parked ones.
    pub fn waiting(&self) -> (usize, usize) {
        self.streams.values().fold((0, 0), |(held, parked), s| {
            let waits: usize = s.boots.values().map(|b| b.turn.held()).sum();
            (held + waits, parked + s.parked.len())
        })
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

    fn birth(&mut self, record: &BirthRecord) {
        let number = self.number(&record.stream);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.learn(&record.birth, record.recv_ns);
        }
    }

    fn settled(&mut self, record: &SettledRecord) {
        let number = self.number(&record.stream);
        self.unpark(number, record.boot, record.seq);
    }

    fn unpark(&mut self, number: u32, boot: u64, seq: u64) {
        let stream = self.streams.get_mut(&number);
        if let Some(position) = stream.and_then(|s| s.parked.remove(&(boot, seq))) {
            self.pins.free(position);
        }
    }

    fn frame(&mut self, position: u64, f: &FrameRecord, plans: &dyn Plans) -> Outcome<()> {
        let number = self.number(&f.stream);
        let Some(stream) = self.streams.get_mut(&number) else {
            return Ok(());
        };
        let lane = match f.place {
            Place::Live => Lane::Live,
            Place::Late => Lane::Late,
            Place::Parked => {
                // Parked twice: the first position is the one that is pinned.
                if let Entry::Vacant(place) = stream.parked.entry((f.boot, f.seq)) {
                    place.insert(position);
                    self.pins.hold(position);
                }
                return Ok(());
            }
        };
        if stream.plan.is_none() {
            stream.plan = plans.plan(&f.stream);
        }
        let boot = stream.boots.get_mut(&f.boot).ok_or_else(|| {
            Failure::internal(format!(
                "{}: no birth of boot {} before its frame",
                f.stream, f.boot
            ))
        })?;
        let fact = Fact::new(position, f, boot.shape.rate)?;
        boot.heard_ns = f.recv_ns;
        boot.longest_ns = boot.longest_ns.max(fact.end_ns.saturating_sub(fact.t0_ns));
        let Some(mut released) = boot.turn.arrive(fact, lane, self.now_ns) else {
            return Ok(());
        };
        // Two pins: the frame waits, and its end may place its successor.
        self.pins.hold(position);
        self.pins.hold(position);
        if boot.turn.holds(f.seq) {
            let alarm = Alarm::Turn {
                stream: number,
                boot: f.boot,
                seq: f.seq,
            };
            self.alarms
                .insert((f.recv_ns.saturating_add(REORDER_WAIT_NS), alarm));
            // A stream that needs this much patience is broken; its memory is bounded all the same.
            if boot.turn.held() > REORDER_FRAMES_MAX {
                let lowest = boot.turn.lowest().unwrap_or(f.seq);
                released.extend(boot.turn.expire(lowest, self.now_ns));
            }
        }
        if !boot.forgetting {
            if let Some(at) = boot.turn.forget_at() {
                boot.forgetting = true;
                self.alarms.insert((
                    at,
                    Alarm::Forget {
                        stream: number,
                        boot: f.boot,
                    },
                ));
            }
        }
        self.unpark(number, f.boot, f.seq);
        self.lay_all(number, f.boot, released);
        Ok(())
    }

    fn fire(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Turn { stream, boot, seq } => {
                let turn = self
                    .streams
                    .get_mut(&stream)
                    .and_then(|s| s.boots.get_mut(&boot));
                let now_ns = self.now_ns;
                let released = turn.filter(|b| b.turn.holds(seq));
                let released = released
                    .map(|b| b.turn.expire(seq, now_ns))
                    .unwrap_or_default();
                self.lay_all(stream, boot, released);
            }
            Alarm::Bucket(id) => {
                let Some(bucket) = self.buckets.get(&id) else {
                    return;
                };
                let (at, reason) = deadlines::due(bucket, self.longest(bucket));
                if at <= self.now_ns {
                    self.seal(id, reason);
                } else {
                    self.alarms.insert((at, Alarm::Bucket(id)));
                }
            }
            Alarm::Forget { stream, boot } => self.forget(stream, boot),
        }
    }

    fn longest(&self, bucket: &Bucket) -> i64 {
        let stream = self.streams.get(&bucket.stream);
        stream
            .and_then(|s| s.boots.get(&bucket.key.boot))
            .map_or(0, |b| b.longest_ns)
    }

    fn forget(&mut self, number: u32, boot: u64) {
        let now_ns = self.now_ns;
        let stream = self.streams.get_mut(&number);
        let Some(b) = stream.and_then(|s| s.boots.get_mut(&boot)) else {
            return;
        };
        for tail in b.turn.forget(now_ns) {
            self.pins.free(tail.position);
        }
        match b.turn.forget_at() {
            // Not more often than once a second, however many ends there are.
            Some(at) => {
                let at = at.max(now_ns.saturating_add(SECOND_NS));
                self.alarms.insert((
                    at,
                    Alarm::Forget {
                        stream: number,
                        boot,
                    },
                ));
            }
            None => b.forgetting = false,
        }
    }

    fn lay_all(&mut self, number: u32, boot: u64, released: Vec<Released>) {
        for r in released {
            if let Err(failure) = self.lay(number, boot, &r) {
                self.strand(r.fact.position, failure.why);
            }
            // Its pieces are pinned; it waits no more, and the end before it is used or not.
            self.pins.free(r.fact.position);
            r.before.iter().for_each(|t| self.pins.free(t.position));
        }
    }

    /// Gives a frame its times and lays its rows into buckets.
    fn lay(&mut self, number: u32, boot: u64, r: &Released) -> Outcome<()> {
        let placed = times::place(&r.fact, r.before.as_ref());
        let piece = Piece {
            fact: r.fact,
            rows: 0..r.fact.samples,
            times: placed.times,
            leans_on: placed.leans_on,
            step: placed.step,
            first_ns: r.fact.t0_ns,
            last_ns: r.fact.end_ns,
        };
        let touch = Touch {
            opened_ns: self.now_ns,
            touched_ns: self.now_ns,
        };
        // Did and slot are found by `divide`; this cell only carries boot, lane and mapping.
        let stream = self.streams.get(&number);
        let plan = stream.and_then(|s| s.plan.as_ref()).ok_or_else(|| {
            Failure::internal(format!(
                "stream {number} has no did; it is given before the ack"
            ))
        })?;
        let cell = cut::Cell::of(plan, r.fact.t0_ns);
        let key = Key {
            boot,
            lane: r.lane,
            cell,
            mapping: r.fact.mapping,
        };
        self.divide(number, key, &piece, touch)
    }

    /// Divides a piece over the cells of the plan in force and lays each part into its bucket.
    fn divide(&mut self, number: u32, like: Key, piece: &Piece, touch: Touch) -> Outcome<()> {
        let Some(stream) = self.streams.get(&number) else {
            return Ok(());
        };
        let (Some(plan), Some(boot)) = (stream.plan.as_ref(), stream.boots.get(&like.boot)) else {
            return Err(Failure::internal("a frame outlived its boot or plan"));
        };
        let rate = boot.shape.rate;
        let rows = piece.rows.clone();
        for part in cut::portions(plan, &piece.fact, piece.times, rate, rows)? {
            let first = part.rows.start == piece.rows.start;
            let piece = Piece {
                rows: part.rows,
                step: piece.step && first,
                first_ns: part.first_ns,
                last_ns: part.last_ns,
                ..piece.clone()
            };
            self.put(
                number,
                Key {
                    cell: part.cell,
                    ..like
                },
                piece,
                touch,
            );
        }
        Ok(())
    }

    fn put(&mut self, number: u32, mut key: Key, piece: Piece, touch: Touch) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        let Some(boot) = stream.boots.get(&key.boot) else {
            return;
        };
        let shape = Arc::clone(&boot.shape);
        if key.lane == Lane::Live && stream.open(&key).is_none() && boot.closed(&key.cell) {
            key.lane = Lane::Late;
        }
        let cell = key.cell;
        let covered = self.coverage.as_ref();
        let covered = covered
            .is_some_and(|c| c.holds(cell.did, key.boot, cell.slot_start_ns, piece.fact.seq));
        if let Some(open) = stream
            .open(&key)
            .and_then(|id| Some((id, self.buckets.get(&id)?)))
        {
            let (id, bucket) = open;
            if key.lane == Lane::Live && bucket.key.mapping != key.mapping {
                self.seal(id, SealReason::Mapping);
            } else if key.lane == Lane::Live && (piece.step || piece.first_ns <= bucket.last_ns) {
                self.seal(id, SealReason::ClockStep);
            }
        }
        let id = self.bucket(number, key, shape, touch);
        let Some(bucket) = self.buckets.get_mut(&id) else {
            return;
        };
        bucket.touched_ns = bucket.touched_ns.max(touch.touched_ns);
        bucket.last_ns = bucket.last_ns.max(piece.last_ns);
        // Covered rows only keep time; a seq that is here already stays as it is.
        if covered || bucket.pieces.contains_key(&piece.fact.seq) {
            return;
        }
        self.pins.hold_piece(piece.fact.position);
        piece.leans_on.iter().for_each(|p| self.pins.hold(*p));
        bucket.rows += piece.count();
        let full = bucket.rows >= chordae_base::limits::CHUNK_ROWS_MAX;
        bucket.pieces.insert(piece.fact.seq, piece);
        if full {
            self.seal(id, SealReason::Rows);
        }
    }

    /// The open bucket of a key, opened if need be.
    fn bucket(&mut self, number: u32, key: Key, shape: Arc<super::bucket::Shape>, t: Touch) -> u64 {
        let Some(stream) = self.streams.get(&number) else {
            return u64::MAX;
        };
        if let Some(id) = stream.open(&key) {
            return id;
        }
        if key.lane == Lane::Late && stream.late.len() >= LATE_SLOTS_MAX {
            let touched = |id: &u64| self.buckets.get(id).map(|b| (b.touched_ns, *id));
            let least = stream.late.values().filter_map(touched).min();
            if let Some((_, id)) = least {
                self.seal(id, SealReason::LateSlots);
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let bucket = Bucket {
            stream: number,
            key,
            shape,
            pieces: BTreeMap::new(),
            rows: 0,
            opened_ns: t.opened_ns,
            touched_ns: t.touched_ns,
            last_ns: i64::MIN,
        };
        let (at, _) = deadlines::due(&bucket, self.longest(&bucket));
        self.alarms.insert((at, Alarm::Bucket(id)));
        self.buckets.insert(id, bucket);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.enter(key, id);
        }
        id
    }

    fn seal(&mut self, id: u64, reason: SealReason) {
        let Some(bucket) = self.buckets.remove(&id) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&bucket.stream) else {
            return;
        };
        stream.strike(&bucket.key);
        if bucket.key.lane == Lane::Live && reason.by_time() {
            if let Some(boot) = stream.boots.get_mut(&bucket.key.boot) {
                boot.close(&bucket.key.cell);
            }
        }
        let name = stream.key.clone();
        for pieces in cut::runs(bucket.pieces.into_values()) {
            let id = self.next_id;
            self.next_id += 1;
            let order = Arc::new(SealOrder {
                id,
                stream: name.clone(),
                key: bucket.key,
                shape: Arc::clone(&bucket.shape),
                pieces,
                reason,
            });
            let end = self.ends.entry(bucket.key.cell.did).or_insert(i64::MIN);
            *end = (*end).max(order.end_ns());
            self.sealing.insert(id, Arc::clone(&order));
            self.effects.push(Effect::Seal(order));
        }
    }
}
