//! The time of a row (formats.md 2, "Time of a sample").
//!
//! A frame is either *claimed* (its own t0, mapped) or *spread* between the end of the frame with the
//! previous seq and its own claimed end. **Which of the two is a function of the two records alone**
//! (their receive times, t0s and lengths), never of when the decision was taken: a frame that lies in two slots may
//! be half history when we crash, and replay must give the other half the very same times, or a row
//! at the boundary would be stored twice or never.
//!
//! So the end of the previous frame counts if that frame was received at most
//! `limits::SPREAD_MEMORY_NS` before this one, or less than `limits::REORDER_WAIT_NS` after it;
//! `turn` waits just that long, and `pins` keeps the previous frame in the WAL as long as it is used.

use chordae_base::{
    Failure, Outcome, Rate,
    limits::{JITTER_NS_MAX, REORDER_WAIT_NS, SPREAD_MEMORY_NS},
    record::FrameRecord,
    time,
    wire::ClockKind,
};

/// The clock mapping that a chunk may not mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// Added to the claimed times.
    pub offset_ns: i64,
    /// 0 synced, 1 free-running, 2 unknown: an order for maps.
    rank: u8,
}

impl Mapping {
    /// The mapping that a record carries.
    pub fn new(offset_ns: i64, quality: ClockKind) -> Self {
        let rank = match quality {
            ClockKind::Synced => 0,
            ClockKind::FreeRunning => 1,
            ClockKind::Unknown => 2,
        };
        Self { offset_ns, rank }
    }

    /// What the device said about its clock.
    pub fn quality(&self) -> ClockKind {
        match self.rank {
            0 => ClockKind::Synced,
            1 => ClockKind::FreeRunning,
            _ => ClockKind::Unknown,
        }
    }
}

/// What the windower keeps of a frame: all but its codes. Times are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Of its WAL record.
    pub position: u64,
    /// Number within the boot.
    pub seq: u64,
    /// Our receive time.
    pub recv_ns: i64,
    /// First sample.
    pub t0_ns: i64,
    /// Claimed end, one sample after the last.
    pub end_ns: i64,
    /// Samples per lead.
    pub samples: u32,
    /// Its mapping.
    pub mapping: Mapping,
}

impl Fact {
    /// The facts of a record.
    ///
    /// # Errors
    /// `BadInput` when a time leaves 64 bits or there is no sample.
    pub fn new(position: u64, f: &FrameRecord, rate: Rate) -> Outcome<Self> {
        let overflow = || Failure::bad_input(format!("frame {}: its time leaves 64 bits", f.seq));
        let t0_ns = f.t0_ns.checked_add(f.offset_ns).ok_or_else(overflow)?;
        let span = rate.after_ns(u64::from(f.samples))?;
        let end_ns = t0_ns.checked_add(span).ok_or_else(overflow)?;
        if f.samples == 0 {
            return Err(Failure::bad_input(format!(
                "frame {} has no samples",
                f.seq
            )));
        }
        let mapping = Mapping::new(f.offset_ns, f.clock);
        let (seq, recv_ns, samples) = (f.seq, f.recv_ns, f.samples);
        Ok(Self {
            position,
            seq,
            recv_ns,
            t0_ns,
            end_ns,
            samples,
            mapping,
        })
    }
}

/// The end of a frame, kept for its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// WAL position of the frame.
    pub position: u64,
    /// When it was received.
    pub recv_ns: i64,
    /// Its claimed end, mapped.
    pub end_ns: i64,
}

impl Tail {
    /// Whether this end counts for `next`, the frame with the next seq.
    fn counts_for(&self, next: &Fact) -> bool {
        let gap = next.recv_ns.saturating_sub(self.recv_ns);
        -REORDER_WAIT_NS < gap && gap <= SPREAD_MEMORY_NS
    }
}

/// How the rows of a frame get their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Sample k at `t0 + floor(k * period)`.
    Claimed {
        /// Mapped time of the first sample.
        t0_ns: i64,
    },
    /// Evenly over `[start, end)`.
    Spread {
        /// End of the frame before.
        start_ns: i64,
        /// Own claimed end.
        end_ns: i64,
    },
}

impl Times {
    /// Time of sample `k` of a frame of `samples`.
    ///
    /// # Errors
    /// `BadInput` when it leaves 64 bits.
    pub fn at(&self, k: u32, samples: u32, rate: Rate) -> Outcome<i64> {
        match *self {
            Self::Spread { start_ns, end_ns } => Ok(time::spread_ns(
                start_ns,
                end_ns,
                u64::from(k),
                u64::from(samples),
            )),
            Self::Claimed { t0_ns } => t0_ns
                .checked_add(rate.after_ns(u64::from(k))?)
                .ok_or_else(|| Failure::bad_input("sample time leaves 64 bits")),
        }
    }
}

/// See [`place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Times of the rows.
    pub times: Times,
    /// The clock went back by more than jitter: the chunk is cut in front of this frame.
    pub step: bool,
    /// Position of the frame whose end was used.
    pub leans_on: Option<u64>,
}

/// Decides how the rows of a frame get their times, from the end of the frame with the previous seq.
pub fn place(fact: &Fact, before: Option<&Tail>) -> Placed {
    let claimed = Times::Claimed { t0_ns: fact.t0_ns };
    let Some(before) = before.filter(|b| b.counts_for(fact)) else {
        return Placed {
            times: claimed,
            step: false,
            leans_on: None,
        };
    };
    let overlap = before.end_ns.saturating_sub(fact.t0_ns);
    let span = fact.end_ns.saturating_sub(fact.t0_ns);
    if overlap <= 0 {
        return Placed {
            times: claimed,
            step: false,
            leans_on: None,
        };
    }
    if overlap <= JITTER_NS_MAX && overlap <= span / 2 {
        let times = Times::Spread {
            start_ns: before.end_ns,
            end_ns: fact.end_ns,
        };
        return Placed {
            times,
            step: false,
            leans_on: Some(before.position),
        };
    }
    Placed {
        times: claimed,
        step: true,
        leans_on: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn fact(t0_ns: i64, recv_ns: i64) -> Fact {
        let mapping = Mapping::new(0, ClockKind::Synced);
        let end_ns = t0_ns + 1000 * MS;
        Fact {
            position: 9,
            seq: 2,
            recv_ns,
            t0_ns,
            end_ns,
            samples: 250,
            mapping,
        }
    }

    fn tail(end_ns: i64, recv_ns: i64) -> Tail {
        Tail {
            position: 7,
            recv_ns,
            end_ns,
        }
    }

    #[test]
    fn jitter_is_spread_and_an_older_t0_is_a_step() {
        let at = |overlap: i64| place(&fact(5000 * MS - overlap, 0), Some(&tail(5000 * MS, 0)));
        for gap in [0, -MS] {
            assert!(
                matches!(at(gap).times, Times::Claimed { .. }),
                "no overlap, no spreading"
            );
            assert!(!at(gap).step);
        }
        for overlap in [1, 50 * MS] {
            let placed = at(overlap);
            let end_ns = 6000 * MS - overlap;
            assert_eq!(
                placed.times,
                Times::Spread {
                    start_ns: 5000 * MS,
                    end_ns
                }
            );
            assert_eq!(placed.leans_on, Some(7));
        }
        let step = at(50 * MS + 1);
        assert!(step.step && step.leans_on.is_none());
        assert!(matches!(step.times, Times::Claimed { .. }));
    }

    #[test]
    fn half_of_a_short_frame_is_the_bound() {
        let mut short = fact(0, 0);
        short.end_ns = 60 * MS;
        assert!(!place(&short, Some(&tail(30 * MS, 0))).step);
        assert!(place(&short, Some(&tail(30 * MS + 1, 0))).step);
    }

    #[test]
    fn an_end_counts_by_the_two_receive_times_alone() {
        let used = |before: i64, own: i64| {
            place(&fact(4990 * MS, own), Some(&tail(5000 * MS, before)))
                .leans_on
                .is_some()
        };
        assert!(used(0, SPREAD_MEMORY_NS));
        assert!(!used(0, SPREAD_MEMORY_NS + 1));
        assert!(used(REORDER_WAIT_NS - 1, 0));
        assert!(!used(REORDER_WAIT_NS, 0));
    }
}
