//! Overviews: of each lead the least and the greatest code in each bucket of time, never an average.
//!
//! A spike of one sample is in an overview whatever its scale; a bucket without rows has no row, so a gap
//! stays one. Columns are `{lead}~min` and `{lead}~max` (no lead's name has a `~`), the time of a row is
//! the beginning of its bucket. No proof is about an overview.

use chordae_base::{Span, wire::NO_VALUE};
use chordae_chunk::ChunkRows;

use crate::core::plan::Column;

/// Folds rows into buckets, one bucket in memory.
#[derive(Debug, Clone)]
pub struct Overview {
    from_ns: i64,
    span_ns: i128,
    buckets: u64,
    open: Option<(u64, Vec<(i32, i32)>)>,
}

impl Overview {
    /// At most `points` points of each lead, two for a bucket, over a span.
    pub fn new(span: Span, points: u64) -> Self {
        Self {
            from_ns: span.from_ns,
            span_ns: (i128::from(span.until_ns) - i128::from(span.from_ns)).max(1),
            buckets: (points / 2).max(1),
            open: None,
        }
    }

    /// The columns of an overview of these.
    pub fn columns(columns: &[Column]) -> Vec<Column> {
        let both = columns.iter().flat_map(|column| {
            ["min", "max"].map(|end| Column {
                name: format!("{}~{end}", column.name),
                lead: column.lead.clone(),
            })
        });
        both.collect()
    }

    /// How many buckets there are, and the nanoseconds of one.
    pub fn size(&self) -> (u64, i128) {
        (self.buckets, self.span_ns / i128::from(self.buckets))
    }

    /// Takes rows in the order of their times; gives the buckets that they end.
    pub fn rows(&mut self, rows: &ChunkRows) -> ChunkRows {
        let mut done = empty(rows.leads.len());
        for (k, time) in rows.times.iter().enumerate() {
            let bucket = self.bucket(*time);
            if self.open.as_ref().is_none_or(|(open, _)| *open < bucket) {
                self.close(&mut done);
                self.open = Some((bucket, vec![(NO_VALUE, NO_VALUE); rows.leads.len()]));
            }
            let Some((_, ends)) = &mut self.open else {
                continue;
            };
            for ((low, high), lead) in ends.iter_mut().zip(&rows.leads) {
                let Some(code) = lead.get(k).copied().filter(|c| *c != NO_VALUE) else {
                    continue;
                };
                *low = if *low == NO_VALUE {
                    code
                } else {
                    code.min(*low)
                };
                // NO_VALUE is below every code.
                *high = code.max(*high);
            }
        }
        done
    }

    /// The last bucket.
    pub fn end(&mut self) -> ChunkRows {
        let leads = self.open.as_ref().map_or(0, |(_, ends)| ends.len());
        let mut done = empty(leads);
        self.close(&mut done);
        done
    }

    fn bucket(&self, time: i64) -> u64 {
        let since = (i128::from(time) - i128::from(self.from_ns)).max(0);
        let bucket = since.saturating_mul(i128::from(self.buckets)) / self.span_ns;
        u64::try_from(bucket)
            .unwrap_or(u64::MAX)
            .min(self.buckets - 1)
    }

    fn close(&mut self, done: &mut ChunkRows) {
        let Some((bucket, ends)) = self.open.take() else {
            return;
        };
        // The first instant of the bucket, so that it is in no other.
        let buckets = i128::from(self.buckets);
        let since = (i128::from(bucket) * self.span_ns + buckets - 1) / buckets;
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        done.times.push(self.from_ns.saturating_add(since));
        for (columns, (low, high)) in done.leads.chunks_exact_mut(2).zip(ends) {
            for (column, code) in columns.iter_mut().zip([low, high]) {
                column.push(code);
            }
        }
    }
}

fn empty(leads: usize) -> ChunkRows {
    ChunkRows {
        times: Vec::new(),
        leads: vec![Vec::new(); 2 * leads],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_by_hand(
            steps in prop::collection::vec((1i64..40, prop::option::of(-9i32..9)), 0..60),
            points in 2u64..30, cut in 1usize..9,
        ) {
            let mut time = 1000;
            let rows: Vec<(i64, i32)> = steps.into_iter().map(|(step, code)| {
                time += step;
                (time, code.unwrap_or(NO_VALUE))
            }).collect();
            let span = Span { from_ns: 1000, until_ns: time + 1 };
            let mut overview = Overview::new(span, points);
            let mut got = Vec::new();
            let mut take = |rows: ChunkRows| {
                for (k, time) in rows.times.iter().enumerate() {
                    got.push((*time, rows.leads[0][k], rows.leads[1][k]));
                }
            };
            for piece in rows.chunks(cut) {
                take(overview.rows(&ChunkRows {
                    times: piece.iter().map(|r| r.0).collect(),
                    leads: vec![piece.iter().map(|r| r.1).collect()],
                }));
            }
            take(overview.end());
            let (buckets, length) = (points / 2, i128::from(span.until_ns - span.from_ns));
            let mut want: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
            for (time, code) in &rows {
                let bucket = i128::from(time - 1000) * i128::from(buckets) / length;
                want.entry(bucket as u64).or_default().push(*code);
            }
            prop_assert_eq!(got.len(), want.len());
            for ((time, low, high), (bucket, codes)) in got.into_iter().zip(want) {
                let sure = codes.iter().filter(|c| **c != NO_VALUE);
                prop_assert_eq!(low, sure.clone().min().copied().unwrap_or(NO_VALUE));
                prop_assert_eq!(high, sure.max().copied().unwrap_or(NO_VALUE));
                prop_assert_eq!(overview.bucket(time), bucket);
                prop_assert!(bucket == 0 || overview.bucket(time - 1) < bucket);
            }
        }
    }
}
