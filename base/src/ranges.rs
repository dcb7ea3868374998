//! A set of `u64` kept as inclusive, disjoint, non-adjacent ranges: seqs that are durable, stored, missing.

use std::collections::BTreeMap;

/// A set of sequence numbers. Ranges are inclusive at both ends, as on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// first -> last
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `n` is in the set.
    pub fn holds(&self, n: u64) -> bool {
        self.ranges
            .range(..=n)
            .next_back()
            .is_some_and(|(_, last)| n <= *last)
    }

    /// Adds `n`; false if it was there.
    pub fn insert(&mut self, n: u64) -> bool {
        if self.holds(n) {
            return false;
        }
        self.insert_range(n, n);
        true
    }

    /// Adds `first..=last`; an empty range (first > last) adds nothing.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Swallow every range that touches or adjoins the new one.
        while let Some((&a, &b)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if b.saturating_add(1) < first {
                break;
            }
            first = first.min(a);
            last = last.max(b);
            self.ranges.remove(&a);
        }
        self.ranges.insert(first, last);
    }

    /// Ranges in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(a, b)| (*a, *b))
    }

    /// How many ranges.
    pub fn ranges_len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The greatest member.
    pub fn last(&self) -> Option<u64> {
        self.ranges.values().next_back().copied()
    }

    /// The inclusive ranges of `first..=last` that are not in the set.
    pub fn gaps(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = first;
        for (a, b) in self.iter() {
            if b < next {
                continue;
            }
            if a > last {
                break;
            }
            if a > next {
                gaps.push((next, a - 1));
            }
            match b.checked_add(1) {
                Some(n) => next = n,
                None => return gaps,
            }
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(spans in prop::collection::vec((0u64..60, 0u64..8), 0..40)) {
            let mut ours = RangeSet::new();
            let mut model = BTreeSet::new();
            for (a, n) in spans {
                ours.insert_range(a, a + n);
                model.extend(a..=a + n);
            }
            for n in 0..80 {
                prop_assert_eq!(ours.holds(n), model.contains(&n));
            }
            let gaps: BTreeSet<u64> = ours.gaps(0, 79).into_iter().flat_map(|(a, b)| a..=b).collect();
            let want: BTreeSet<u64> = (0..80).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(gaps, want);
            for ((_, b), (a, _)) in ours.iter().zip(ours.iter().skip(1)) {
                prop_assert!(b + 1 < a, "ranges adjoin");
            }
        }
    }

    #[test]
    fn the_ends_of_u64_are_members_like_any_other() {
        let mut set = RangeSet::new();
        assert!(set.insert(u64::MAX));
        assert!(!set.insert(u64::MAX));
        assert!(set.insert(0));
        assert_eq!(set.gaps(0, u64::MAX), vec![(1, u64::MAX - 1)]);
    }
}
