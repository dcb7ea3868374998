//! What happens to frames that wait: released by their birth or offset, moved to quarantine after ten
//! minutes, given an offset by the newest of them when no live frame comes for a minute.
//!
//! A released frame gets a further `Frame` record with its place; that record, not the parked one, is
//! what the windower acts on. Its clock is compared with the time at which it first arrived; its age
//! with the time of release.

use chordae_base::{
    StreamKey, limits,
    record::FrameRecord,
    wire::{Birth, Glance},
};

use super::{
    clock::Setting,
    judge::{Effect, Target, without_payload},
    park::Waiting,
    ports::Newest,
    quarantined::Quarantined,
    state::Core,
    steady::Now,
};

impl Core {
    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let waiting: Vec<_> = self.waiting.iter().cloned().collect();
        for (stream, boot) in waiting {
            self.set_offset_by_newest(&stream, boot, now, &mut effects);
            self.expire(&stream, boot, now.ours_ns, &mut effects);
        }
        effects
    }

    /// Puts those that have all they waited for where they belong.
    pub(super) fn release(
        &mut self,
        stream: &StreamKey,
        boot: u64,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.boot(stream, boot);
        if known.parked.is_empty() {
            return;
        }
        let Some(birth) = known.birth.as_ref().map(|b| b.birth.clone()) else {
            return;
        };
        let mut still = known.parked.take_all();
        // A live one among them may set the offset for historical ones that arrived before it.
        loop {
            let had_offset = !self.boot(stream, boot).clock.is_empty();
            let mut left = Vec::new();
            for waiting in still {
                if let Some(w) = self.release_one(stream, waiting, &birth, now, effects) {
                    left.push(w);
                }
            }
            still = left;
            if had_offset || self.boot(stream, boot).clock.is_empty() || still.is_empty() {
                break;
            }
        }
        for waiting in still {
            self.boot(stream, boot).parked.put(waiting);
        }
        self.note_waiting(stream, boot);
    }

    /// Gives the frame back if it must wait on.
    fn release_one(
        &mut self,
        stream: &StreamKey,
        waiting: Waiting,
        birth: &Birth,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<Waiting> {
        match self.target(
            stream,
            &waiting.head,
            birth,
            waiting.arrived_ns,
            now.wall_ns,
        ) {
            Target::Waits => return Some(waiting),
            Target::Outside(reason) => {
                self.settle_waiting(stream, waiting, reason, now.ours_ns, effects)
            }
            Target::Breaks(refusal) => {
                self.settle_waiting(stream, waiting, refusal.label(), now.ours_ns, effects);
            }
            Target::Into(place, setting, end_ns) => {
                let h = &waiting.head;
                let record = FrameRecord {
                    stream: stream.clone(),
                    boot: h.boot,
                    seq: h.seq,
                    recv_ns: now.ours_ns,
                    t0_ns: h.t0_ns,
                    samples: h.samples,
                    offset_ns: setting.offset_ns,
                    clock: setting.clock,
                    place,
                    print: h.print,
                    payload: bytes::Bytes::new(),
                };
                let record = without_payload(record);
                self.accept(&record);
                if !h.historical {
                    let newest = Newest {
                        mapped_end_ns: end_ns,
                        recv_ns: waiting.arrived_ns,
                    };
                    self.note_newest(stream, newest);
                }
                effects.push(Effect::Append(record, Some(waiting.body)));
            }
        }
        None
    }

    /// It turned out to belong nowhere. In quarantine already: there it stays, under its first reason.
    fn settle_waiting(
        &mut self,
        stream: &StreamKey,
        waiting: Waiting,
        reason: &'static str,
        now_ns: i64,
        effects: &mut Vec<Effect>,
    ) {
        if !waiting.expired() {
            self.quarantine(stream, &waiting.head, now_ns, reason, waiting.body, effects);
        }
    }

    /// After a minute without a live frame the newest historical one sets the offset for all.
    fn set_offset_by_newest(
        &mut self,
        stream: &StreamKey,
        number: u64,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let boot = self.boot(stream, number);
        let Some(birth) = boot.birth.as_ref() else {
            return;
        };
        let Some(newest) = boot.parked.newest() else {
            return;
        };
        let since = boot.live_ns.max(birth.recv_ns).max(boot.parked.oldest_ns());
        if now.ours_ns.saturating_sub(since) < limits::HISTORICAL_WAIT_NS {
            return;
        }
        let head: &Glance = &newest.head;
        let span = birth.birth.rate.after_ns(u64::from(head.samples)).ok();
        let end = span.and_then(|span| head.t0_ns.checked_add(span));
        let offset = end.and_then(|end| newest.arrived_ns.checked_sub(end));
        let (seq, clock) = (head.seq, head.clock);
        if let Some(offset_ns) = offset {
            boot.clock.put(seq, Setting { offset_ns, clock });
            // The setter's record is written first, so that folding the log finds the same offset.
            let setter = boot.parked.take(seq);
            let birth = birth.birth.clone();
            if let Some(setter) = setter {
                let left = self.release_one(stream, setter, &birth, now, effects);
                if let Some(left) = left {
                    self.boot(stream, number).parked.put(left);
                }
            }
        } else if let Some(w) = boot.parked.take(seq) {
            let reason = chordae_base::wire::reason::TIME_OVERFLOW;
            self.settle_waiting(stream, w, reason, now.ours_ns, effects);
        }
        self.release(stream, number, now, effects);
    }

    /// Ten minutes are over: the log must be free of them.
    fn expire(&mut self, stream: &StreamKey, number: u64, now_ns: i64, effects: &mut Vec<Effect>) {
        let overdue = self.boot(stream, number).parked.overdue(now_ns);
        for seq in overdue {
            let boot = self.boot(stream, number);
            let reason = if boot.birth.is_some() {
                "no-offset"
            } else {
                "no-birth"
            };
            let Some(waiting) = boot.parked.get(seq).cloned() else {
                continue;
            };
            self.set_aside_waiting(stream, &waiting, reason, true, now_ns, effects);
        }
    }

    fn set_aside_waiting(
        &mut self,
        stream: &StreamKey,
        waiting: &Waiting,
        reason: &'static str,
        waits: bool,
        now_ns: i64,
        effects: &mut Vec<Effect>,
    ) {
        let q = Quarantined {
            stream: stream.clone(),
            recv_ns: waiting.recv_ns,
            arrived_ns: (waiting.arrived_ns != waiting.recv_ns).then_some(waiting.arrived_ns),
            reason: reason.into(),
            frame: Some((&waiting.head).into()),
            waits,
            settles: true,
        };
        effects.push(Effect::Quarantine(q, waiting.body.clone()));
        self.settle(stream, &waiting.head, now_ns, effects);
    }

    /// Makes room for a new boot of the stream: the one least recently heard of is forgotten, and what
    /// waits for its birth goes to quarantine.
    pub(super) fn forget_oldest_boot(
        &mut self,
        stream: &StreamKey,
        new: u64,
        now_ns: i64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(known) = self.streams.get_mut(stream) else {
            return;
        };
        let full = known.boots.len() >= limits::BOOTS_PER_STREAM_MAX;
        if !full || known.boots.contains_key(&new) {
            return;
        }
        let oldest = known
            .boots
            .iter()
            .min_by_key(|(_, b)| b.recv_ns)
            .map(|(number, _)| *number);
        let Some(number) = oldest else { return };
        let waiting = self.boot(stream, number).parked.take_all();
        for w in waiting.iter().filter(|w| !w.expired()) {
            self.set_aside_waiting(stream, w, "boot-forgotten", false, now_ns, effects);
        }
        if let Some(known) = self.streams.get_mut(stream) {
            known.boots.remove(&number);
        }
        self.note_waiting(stream, number);
    }
}
