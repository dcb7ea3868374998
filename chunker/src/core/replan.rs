//! What a new plan may change: nothing before its time.

use chordae_base::{Failure, Outcome, StreamPlan};

/// Whether `new` agrees with `old` before `from_ns` and its slot rules lie on the grid.
///
/// # Errors
/// `BadInput` saying what does not fit.
pub(super) fn may_change(old: Option<&StreamPlan>, new: &StreamPlan, from_ns: i64) -> Outcome<()> {
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
