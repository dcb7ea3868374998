//! Laying frames into buckets, and sealing buckets into orders.

use std::{collections::BTreeMap, sync::Arc};

use chordae_base::{
    Failure, Outcome,
    limits::{CHUNK_ROWS_MAX, LATE_SLOTS_MAX},
};
use chordae_chain::meta::Lane;

use super::{Alarm, Effect, Touch, Windower};
use crate::core::{
    bucket::{Bucket, Key, Piece, SealOrder, Shape},
    cut,
    deadlines::{self, SealReason},
    times,
    turn::Released,
};

impl Windower {
    pub(super) fn lay_all(&mut self, number: u32, boot: u64, released: Vec<Released>) {
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
    pub(super) fn lay(&mut self, number: u32, boot: u64, r: &Released) -> Outcome<()> {
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
        // Replay, and the frame before is gone from the WAL: is this one history as a whole?
        let alone = r.before.is_none() && r.fact.seq > 0;
        let covered = self.coverage.as_ref().filter(|_| alone);
        if covered.is_some_and(|c| c.whole_by_spread(plan, boot, &r.fact)) {
            return Ok(());
        }
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
    pub(super) fn divide(
        &mut self,
        number: u32,
        like: Key,
        piece: &Piece,
        touch: Touch,
    ) -> Outcome<()> {
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

    pub(super) fn put(&mut self, number: u32, mut key: Key, piece: Piece, touch: Touch) {
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
        let covered = covered.is_some_and(|c| c.holds(&cell, key.boot, piece.fact.seq));
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
        let full = bucket.rows >= CHUNK_ROWS_MAX;
        bucket.pieces.insert(piece.fact.seq, piece);
        if full {
            self.seal(id, SealReason::Rows);
        }
    }

    /// The open bucket of a key, opened if need be.
    pub(super) fn bucket(&mut self, number: u32, key: Key, shape: Arc<Shape>, t: Touch) -> u64 {
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

    pub(super) fn seal(&mut self, id: u64, reason: SealReason) {
        let Some(bucket) = self.buckets.remove(&id) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&bucket.stream) else {
            return;
        };
        stream.strike(&bucket.key);
        if bucket.key.lane == Lane::Live
            && reason.by_time()
            && let Some(boot) = stream.boots.get_mut(&bucket.key.boot)
        {
            boot.close(&bucket.key.cell);
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
