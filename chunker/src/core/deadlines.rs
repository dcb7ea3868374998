//! When a bucket is sealed by time (formats.md 3).
//!
//! ```text
//! live:  min( max(slot end, last frame + grace), opened + L + grace ) + stagger
//! late:  min( last frame + 10 s, opened + 60 s )
//! ```
//!
//! The grid follows sample time, these follow our clock. **Stagger**: so that a thousand streams with
//! one slot length do not seal in one instant, each did waits a fixed part of a tenth of its slot
//! length, at most two seconds: the first eight bytes of the did (they are random) modulo that span.
//!
//! Deadlines only ever move later while a bucket is open, so an alarm that comes too early is set anew.

use chordae_base::{
    Did,
    limits::{LATE_AGE_NS_MAX, LATE_IDLE_NS, SEAL_GRACE_NS, SEAL_STAGGER_NS_MAX},
};
use chordae_chain::meta::Lane;

use super::bucket::Bucket;

/// Why a bucket is sealed: the label of `chordae_chunks_sealed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealReason {
    /// The slot is over and no frame came for the grace.
    SlotOver,
    /// Open for the slot length plus the grace, or a late bucket for a minute.
    Age,
    /// A late bucket without a frame for ten seconds.
    Idle,
    /// A ninth late slot.
    LateSlots,
    /// As many rows as a chunk may have.
    Rows,
    /// The clock mapping changed.
    Mapping,
    /// Sample time went back.
    ClockStep,
    /// An orderly stop.
    Stop,
}

impl SealReason {
    /// As in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlotOver => "slot-over",
            Self::Age => "age",
            Self::Idle => "idle",
            Self::LateSlots => "late-slots",
            Self::Rows => "rows",
            Self::Mapping => "mapping",
            Self::ClockStep => "clock-step",
            Self::Stop => "stop",
        }
    }

    /// Whether further live frames of the slot are late.
    pub fn by_time(self) -> bool {
        matches!(self, Self::SlotOver | Self::Age)
    }
}

/// The grace of a boot: the larger of 5 s and twice its longest frame.
pub fn grace_ns(longest_frame_ns: i64) -> i64 {
    longest_frame_ns.saturating_mul(2).max(SEAL_GRACE_NS)
}

/// See the module.
pub fn stagger_ns(did: &Did, slot_len_ns: i64) -> i64 {
    let width = (slot_len_ns / 10).clamp(1, SEAL_STAGGER_NS_MAX);
    let draw = did
        .0
        .iter()
        .take(8)
        .fold(0u64, |n, b| (n << 8) | u64::from(*b));
    i64::try_from(draw % width.unsigned_abs()).unwrap_or(0)
}

/// When the bucket is to be sealed, and why.
pub fn due(bucket: &Bucket, longest_frame_ns: i64) -> (i64, SealReason) {
    let cell = &bucket.key.cell;
    if bucket.key.lane == Lane::Late {
        let idle = bucket.touched_ns.saturating_add(LATE_IDLE_NS);
        let age = bucket.opened_ns.saturating_add(LATE_AGE_NS_MAX);
        return if idle < age {
            (idle, SealReason::Idle)
        } else {
            (age, SealReason::Age)
        };
    }
    let grace = grace_ns(longest_frame_ns);
    let over = cell.end_ns().max(bucket.touched_ns.saturating_add(grace));
    let age = bucket
        .opened_ns
        .saturating_add(cell.slot_len_ns)
        .saturating_add(grace);
    let stagger = stagger_ns(&cell.did, cell.slot_len_ns);
    if over <= age {
        (over.saturating_add(stagger), SealReason::SlotOver)
    } else {
        (age.saturating_add(stagger), SealReason::Age)
    }
}
