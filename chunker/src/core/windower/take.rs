//! Records and alarms: what comes in, and when it is let go.

use std::collections::btree_map::Entry;

use chordae_base::{
    Failure, Outcome,
    limits::{REORDER_FRAMES_MAX, REORDER_WAIT_NS},
    record::{BirthRecord, FrameRecord, Place, SettledRecord},
    time::SECOND_NS,
};
use chordae_chain::meta::Lane;

use super::{Alarm, Windower};
use crate::core::{bucket::Bucket, deadlines, ports::Plans, times::Fact};

impl Windower {
    pub(super) fn birth(&mut self, record: &BirthRecord) {
        let number = self.number(&record.stream);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.learn(&record.birth, record.recv_ns);
        }
    }

    pub(super) fn settled(&mut self, record: &SettledRecord) {
        let number = self.number(&record.stream);
        self.unpark(number, record.boot, record.seq);
        self.settle_gap(&record.stream, record.boot, record.seq);
    }

    pub(super) fn unpark(&mut self, number: u32, boot: u64, seq: u64) {
        let stream = self.streams.get_mut(&number);
        if let Some(position) = stream.and_then(|s| s.parked.remove(&(boot, seq))) {
            self.pins.free(position);
        }
    }

    pub(super) fn frame(
        &mut self,
        position: u64,
        f: &FrameRecord,
        plans: &dyn Plans,
    ) -> Outcome<()> {
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
        if !boot.forgetting
            && let Some(at) = boot.turn.forget_at()
        {
            boot.forgetting = true;
            self.alarms.insert((
                at,
                Alarm::Forget {
                    stream: number,
                    boot: f.boot,
                },
            ));
        }
        self.unpark(number, f.boot, f.seq);
        self.lay_all(number, f.boot, released);
        Ok(())
    }

    pub(super) fn fire(&mut self, alarm: Alarm) {
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

    pub(super) fn longest(&self, bucket: &Bucket) -> i64 {
        let stream = self.streams.get(&bucket.stream);
        stream
            .and_then(|s| s.boots.get(&bucket.key.boot))
            .map_or(0, |b| b.longest_ns)
    }

    pub(super) fn forget(&mut self, number: u32, boot: u64) {
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
}
