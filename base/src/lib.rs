//! The words, limits and seams that every part of chordae shares.
//!
//! Floor 0 of the house: it names no service and imports none. What lives here is either a *word*
//! (ids, times, frames, log records), a *limit*, a *failure kind*, a *seam* to the outside
//! (clock, disk, entropy) or the *journal*, the one append-only checksummed log.

pub mod failure;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod plan;
pub mod ranges;
pub mod record;
pub mod seams;
pub mod time;
pub mod wire;

pub use failure::{Failure, FailureKind, Outcome};
pub use ids::{DeviceId, Did, Digest, KeyId, StreamKey, StreamName};
pub use plan::StreamPlan;
pub use ranges::RangeSet;
pub use time::{Rate, Span};
