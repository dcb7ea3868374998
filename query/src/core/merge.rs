//! Rows of several chunks in the order of the answer: by (time, index).
//!
//! ```text
//! waiting   5, 6, 7 ...      by first row; fetched only when the merge reaches them
//! open      3: times[pos..]  4: times[pos..]
//! step      Fetch(k) | Run { chunk k, rows start.. , count } | Done
//! ```
//!
//! A machine without effects: it says which chunk it needs, its caller fetches the times and gives
//! them. Rows come as runs, so the usual case (one chunk at a time) copies whole columns. At one
//! instant the rows of all chunks are sent, the lower index first. A chunk's times increase strictly
//! and none lies before its `first_ns`; a chunk that breaks this is damage, not order.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque};

use chordae_base::{Failure, Outcome};

/// What the merge wants or gives. `chunk` counts as the chunks were given to [`Merge::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Give the times of this chunk that lie in the window.
    Fetch {
        /// The chunk.
        chunk: usize,
    },
    /// The next rows of the answer.
    Run {
        /// The chunk they come from.
        chunk: usize,
        /// First row, counted in the times that were given.
        start: usize,
        /// How many.
        count: usize,
        /// Whether the chunk has no further rows.
        last: bool,
    },
    /// No more rows.
    Done,
}

/// See the module.
#[derive(Debug)]
pub struct Merge {
    waiting: VecDeque<(i64, u64, usize)>,
    open: BinaryHeap<Reverse<(i64, u64, usize)>>,
    rows: Vec<Cursor>,
}

#[derive(Debug, Default)]
struct Cursor {
    times: Vec<i64>,
    next: usize,
}

impl Merge {
    /// For chunks given as (first row's time at the earliest, index), in ascending order.
    pub fn new(chunks: impl Iterator<Item = (i64, u64)>) -> Self {
        let waiting: VecDeque<_> = chunks.enumerate().map(|(k, (t, i))| (t, i, k)).collect();
        let rows = waiting.iter().map(|_| Cursor::default()).collect();
        Self {
            waiting,
            open: BinaryHeap::new(),
            rows,
        }
    }

    /// The next step, with at most `most` rows.
    pub fn step(&mut self, most: usize) -> Step {
        let head = self.open.peek().map(|Reverse(key)| *key);
        if let Some(&(first, index, chunk)) = self.waiting.front()
            && head.is_none_or(|(t, i, _)| (first, index) <= (t, i))
        {
            return Step::Fetch { chunk };
        }
        let Some(Reverse((_, index, chunk))) = self.open.pop() else {
            return Step::Done;
        };
        let rival = [
            self.open.peek().map(|Reverse((t, i, _))| (*t, *i)),
            self.waiting.front().map(|(t, i, _)| (*t, *i)),
        ];
        let rival = rival.into_iter().flatten().min();
        let Some(cursor) = self.rows.get_mut(chunk) else {
            return Step::Done;
        };
        let start = cursor.next;
        let left = cursor.times.get(start..).unwrap_or_default();
        let ahead = rival.map_or(left.len(), |r| left.partition_point(|t| (*t, index) < r));
        // At least the row that made this chunk the head.
        let count = ahead.min(most).max(1);
        cursor.next = start + count;
        match cursor.times.get(cursor.next) {
            Some(t) => self.open.push(Reverse((*t, index, chunk))),
            None => cursor.times = Vec::new(),
        }
        let last = self.rows.get(chunk).is_none_or(|c| c.times.is_empty());
        Step::Run {
            chunk,
            start,
            count,
            last,
        }
    }

    /// Answers [`Step::Fetch`].
    ///
    /// # Errors
    /// `Damaged` when the times do not increase or begin before the chunk says; `Internal` for a chunk
    /// that was not asked for.
    pub fn give(&mut self, chunk: usize, times: Vec<i64>) -> Outcome<()> {
        let Some((first, index, k)) = self.waiting.pop_front().filter(|w| w.2 == chunk) else {
            return Err(Failure::internal(
                "the merge was given a chunk that it did not ask for",
            ));
        };
        let early = times.first().is_some_and(|t| *t < first);
        if early || !times.is_sorted_by(|a, b| a < b) {
            return Err(Failure::damaged(format!(
                "the times of chunk {index} are not in order"
            )));
        }
        if let Some(t) = times.first() {
            self.open.push(Reverse((*t, index, k)));
        }
        if let Some(cursor) = self.rows.get_mut(k) {
            *cursor = Cursor { times, next: 0 };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// (time, index, row) of everything, in order, with the most that was open at one time.
    fn run(chunks: &[(u64, Vec<i64>)], most: usize) -> (Vec<(i64, u64)>, usize) {
        let mut order: Vec<(i64, u64, &Vec<i64>)> = Vec::new();
        for (index, times) in chunks {
            order.push((times.first().copied().unwrap_or(0), *index, times));
        }
        order.sort();
        let mut merge = Merge::new(order.iter().map(|(t, i, _)| (*t, *i)));
        let (mut out, mut open, mut peak) = (Vec::new(), BTreeSet::new(), 0);
        loop {
            match merge.step(most) {
                Step::Fetch { chunk } => {
                    open.insert(chunk);
                    peak = peak.max(open.len());
                    merge.give(chunk, order[chunk].2.clone()).unwrap();
                }
                Step::Run {
                    chunk,
                    start,
                    count,
                    last,
                } => {
                    assert!((1..=most.max(1)).contains(&count));
                    let times = &order[chunk].2[start..start + count];
                    out.extend(times.iter().map(|t| (*t, order[chunk].1)));
                    assert_eq!(last, start + count == order[chunk].2.len());
                    if last {
                        open.remove(&chunk);
                    }
                }
                Step::Done => return (out, peak),
            }
        }
    }

    proptest! {
        #[test]
        fn every_row_once_by_time_and_index(
            chunks in prop::collection::vec(prop::collection::btree_set(0i64..60, 0..20), 0..6),
            most in 1usize..9,
        ) {
            let chunks: Vec<(u64, Vec<i64>)> = (0u64..)
                .zip(chunks.into_iter().map(|c| c.into_iter().collect()))
                .collect();
            let rows = chunks.iter().flat_map(|(i, times)| times.iter().map(|t| (*t, *i)));
            let mut want: Vec<(i64, u64)> = rows.collect();
            want.sort_unstable();
            prop_assert_eq!(run(&chunks, most).0, want);
        }
    }

    #[test]
    fn chunks_that_follow_each_other_are_open_one_at_a_time() {
        let chunks: Vec<(u64, Vec<i64>)> = (0..5)
            .map(|k| (k, (0..10).map(|t| k as i64 * 10 + t).collect()))
            .collect();
        let (rows, peak) = run(&chunks, 100);
        assert_eq!((rows.len(), peak), (50, 1));
    }

    #[test]
    fn times_out_of_order_are_damage() {
        for times in [vec![5, 5], vec![6, 5], vec![3]] {
            let mut merge = Merge::new([(4, 0)].into_iter());
            assert_eq!(merge.step(1), Step::Fetch { chunk: 0 });
            assert!(merge.give(0, times).is_err());
        }
    }
}
