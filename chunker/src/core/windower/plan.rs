//! A new plan for a stream with open rows: nothing before its time may change, and no sealed row.

use chordae_base::{Did, Failure, Outcome, StreamKey, StreamPlan, time};

use super::{Touch, Windower};

impl Windower {
    /// The plan in force for a stream, if it is known here.
    pub fn plan(&self, key: &StreamKey) -> Option<&StreamPlan> {
        self.streams.get(self.numbers.get(key)?)?.plan.as_ref()
    }

    /// Whether a did of a stream has rows: sealed, in an open bucket, or in frames that wait for their
    /// turn or their birth (nobody knows yet where those fall).
    pub fn has_rows(&self, key: &StreamKey, did: &Did) -> bool {
        let Some(stream) = self.numbers.get(key).and_then(|n| self.streams.get(n)) else {
            return self.ends.contains_key(did);
        };
        let mut open = stream.live.values().chain(stream.late.values());
        self.ends.contains_key(did)
            || open.any(|id| self.buckets.get(id).is_some_and(|b| b.key.cell.did == *did))
            || !stream.parked.is_empty()
            || stream.boots.values().any(|boot| !boot.turn.idle())
    }

    /// Whether rows from `from_ns` on may still change did or slot.
    ///
    /// # Errors
    /// `Refused`, naming the earliest time allowed; `BadInput` when the new plan changes what lies
    /// before `from_ns` or has a slot rule off the grid.
    pub fn may_replan(&self, key: &StreamKey, plan: &StreamPlan, from_ns: i64) -> Outcome<()> {
        may_change(self.plan(key), plan, from_ns)?;
        let dids = plan.dids().filter_map(|did| self.ends.get(&did));
        match dids.max() {
            Some(end) if from_ns < *end => Err(Failure::refused(format!(
                "rows of {key} are sealed up to {}; the earliest time allowed is {end}",
                time::show(*end)
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
        // All of them go before the first is divided: dividing opens buckets, and that may seal others (a
        // ninth late slot), which must not be one that still lies as the old plan had it.
        let mut changed = Vec::new();
        for id in open {
            if self.buckets.get(&id).is_none_or(|b| b.last_ns < from_ns) {
                continue;
            }
            changed.extend(self.buckets.remove(&id));
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            changed.iter().for_each(|bucket| stream.strike(&bucket.key));
        }
        for bucket in changed {
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
}

/// Whether `new` agrees with `old` before `from_ns` and its slot rules lie on the grid.
///
/// # Errors
/// `BadInput` saying what does not fit.
fn may_change(old: Option<&StreamPlan>, new: &StreamPlan, from_ns: i64) -> Outcome<()> {
    for rule in new.slots.iter().filter(|r| r.from_ns != i64::MIN) {
        let before = new.slot_len_at(rule.from_ns.saturating_sub(1));
        let on_grid = rule.from_ns.checked_rem(rule.len_ns) == Some(0)
            && rule.from_ns.checked_rem(before) == Some(0);
        if !on_grid {
            return Err(Failure::bad_input(format!(
                "a slot rule from {} must begin at a multiple of {} and {} ns",
                rule.from_ns, before, rule.len_ns
            )));
        }
    }
    let Some(old) = old else { return Ok(()) };
    // A plan changes value only where a list has an entry: compare just before `from_ns` and at
    // every entry below it.
    let lists = [old, new].into_iter().flat_map(|plan| {
        let slots = plan.slots.iter().map(|r| r.from_ns);
        plan.tenures.iter().map(|t| t.from_ns).chain(slots)
    });
    let points = lists.chain([i64::MIN, from_ns.saturating_sub(1)]);
    for t in points.filter(|t| *t < from_ns) {
        if old.did_at(t) != new.did_at(t) || old.slot_len_at(t) != new.slot_len_at(t) {
            return Err(Failure::bad_input(format!(
                "the new plan changes rows at {t}, before {from_ns}"
            )));
        }
    }
    Ok(())
}
