//! How each stream stands, for operators: read from what ingest remembers anyway.

use std::collections::BTreeMap;

use chordae_base::{RangeSet, StreamKey};

use super::{clock::Setting, state::Core};

/// How a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// When its newest frame or birth came.
    pub recv_ns: i64,
    /// Mapped end of its newest live sample; none came since the start.
    pub newest_ns: Option<i64>,
    /// What the claimed times of its newest boot are mapped with; none when nothing has told yet.
    pub clock: Option<Setting>,
    /// Frames of that boot that are missing between those that came. What chunks hold and the log forgot is
    /// not looked up: after a start this counts from the oldest frame in the log.
    pub missing: u64,
}

impl Core {
    /// Of all streams of which something came.
    pub fn sights(&self) -> BTreeMap<StreamKey, Sight> {
        let sights = self.streams.iter().filter_map(|(key, stream)| {
            let came = stream.boots.values().filter(|boot| boot.recv_ns > i64::MIN);
            let boot = came.max_by_key(|boot| boot.recv_ns)?;
            let sight = Sight {
                recv_ns: boot.recv_ns,
                newest_ns: stream.newest.map(|newest| newest.mapped_end_ns),
                clock: boot.clock.at(u64::MAX),
                missing: missing(boot.seen.durable()),
            };
            Some((key.clone(), sight))
        });
        sights.collect()
    }
}

/// How many numbers lie between the ranges.
fn missing(came: &RangeSet) -> u64 {
    let ranges = came.iter();
    let between = ranges
        .zip(came.iter().skip(1))
        .map(|((_, end), (start, _))| start.saturating_sub(end).saturating_sub(1));
    between.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_lies_between_what_came() {
        let came = |ranges: &[(u64, u64)]| {
            let mut set = RangeSet::new();
            for (first, last) in ranges {
                set.insert_range(*first, *last);
            }
            missing(&set)
        };
        assert_eq!(came(&[]), 0);
        assert_eq!(came(&[(7, 9)]), 0);
        assert_eq!(came(&[(0, 3), (5, 9), (20, u64::MAX)]), 1 + 10);
    }
}
