//! A stream's plan: whose rows are whose, and how long its slots are, both by sample time.
//!
//! Both lists change at a sample time and never backwards over linked rows, so folding the newest plan
//! first and replaying the log afterwards puts every row where it was put in life.

use serde::{Deserialize, Serialize};

use crate::{Did, limits, time};

/// From `from_ns` on (until the next tenure) the rows of a stream belong to `did`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// First sample time of the tenure; `i64::MIN` for the first.
    pub from_ns: i64,
    /// The data stream that holds the rows.
    pub did: Did,
}

/// From `from_ns` on (until the next rule) slots are `len_ns` long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRule {
    /// First sample time of the rule, a multiple of the length before and of its own; `i64::MIN` for the first.
    pub from_ns: i64,
    /// A multiple of a page, at most [`limits::SLOT_NS_MAX`].
    pub len_ns: i64,
}

/// See the module. Both lists ascend by `from_ns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPlan {
    /// The first tenure, from the beginning of time; a stream without a did has no plan.
    pub first: Did,
    /// Later tenures.
    pub tenures: Vec<Tenure>,
    /// Slot rules; none means the default length.
    pub slots: Vec<SlotRule>,
}

impl StreamPlan {
    /// A plan of one did and slots of one length.
    pub fn new(did: Did, slot_len_ns: i64) -> Self {
        let slots = vec![SlotRule {
            from_ns: i64::MIN,
            len_ns: slot_len_ns,
        }];
        Self {
            first: did,
            tenures: Vec::new(),
            slots,
        }
    }

    /// The did that holds a row at `t_ns`.
    pub fn did_at(&self, t_ns: i64) -> Did {
        let tenure = self.tenures.iter().rev().find(|t| t.from_ns <= t_ns);
        tenure.map_or(self.first, |t| t.did)
    }

    /// The newest did.
    pub fn newest(&self) -> Did {
        self.tenures.last().map_or(self.first, |t| t.did)
    }

    /// All dids, oldest first.
    pub fn dids(&self) -> impl Iterator<Item = Did> + '_ {
        std::iter::once(self.first).chain(self.tenures.iter().map(|t| t.did))
    }

    /// The slot length at `t_ns`.
    pub fn slot_len_at(&self, t_ns: i64) -> i64 {
        let rule = self.slots.iter().rev().find(|r| r.from_ns <= t_ns);
        rule.map_or(limits::SLOT_NS_DEFAULT, |r| r.len_ns)
    }

    /// First sample time after `t_ns` at which the did or the slot changes: rows from `t_ns` up to it
    /// share one did and one slot.
    pub fn cell_end(&self, t_ns: i64) -> i64 {
        let len = self.slot_len_at(t_ns);
        let grid = time::slot_start(t_ns, len).saturating_add(len);
        let starts = self.tenures.iter().map(|t| t.from_ns);
        let starts = starts.chain(self.slots.iter().map(|r| r.from_ns));
        starts.filter(|from| *from > t_ns).fold(grid, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = time::SECOND_NS;

    fn plan() -> StreamPlan {
        let did = |n| Did([n; 16]);
        StreamPlan {
            first: did(1),
            tenures: vec![
                Tenure {
                    from_ns: 15 * S,
                    did: did(2),
                },
                Tenure {
                    from_ns: 95 * S,
                    did: did(3),
                },
            ],
            slots: vec![
                SlotRule {
                    from_ns: i64::MIN,
                    len_ns: 10 * S,
                },
                SlotRule {
                    from_ns: 60 * S,
                    len_ns: 60 * S,
                },
            ],
        }
    }

    #[test]
    fn rows_belong_to_the_tenure_they_fall_in() {
        let plan = plan();
        let at = |t: i64| plan.did_at(t).0[0];
        assert_eq!(
            (
                at(i64::MIN),
                at(15 * S - 1),
                at(15 * S),
                at(95 * S),
                at(i64::MAX)
            ),
            (1, 1, 2, 3, 3)
        );
        assert_eq!(plan.newest(), Did([3; 16]));
        assert_eq!(plan.dids().count(), 3);
    }

    #[test]
    fn a_cell_ends_at_the_grid_or_at_a_change_whichever_comes_first() {
        let plan = plan();
        let ends = [
            (-1, 0),
            (0, 10),
            (12, 15),
            (15, 20),
            (59, 60),
            (60, 95),
            (95, 120),
            (120, 180),
        ];
        for (from, end) in ends {
            assert_eq!(plan.cell_end(from * S), end * S, "from {from} s");
        }
        assert_eq!(
            (plan.slot_len_at(60 * S - 1), plan.slot_len_at(60 * S)),
            (10 * S, 60 * S)
        );
        assert!(
            plan.cell_end(i64::MAX) == i64::MAX,
            "no overflow at the end of time"
        );
    }

    #[test]
    fn without_rules_slots_have_the_default_length() {
        let mut plan = StreamPlan::new(Did([1; 16]), 10 * S);
        assert_eq!(plan.slot_len_at(-5), 10 * S);
        plan.slots.clear();
        assert_eq!(plan.slot_len_at(0), limits::SLOT_NS_DEFAULT);
    }
}
