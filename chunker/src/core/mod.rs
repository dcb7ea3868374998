//! What the chunker decides: values only, no clock, disk, thread or channel.
//!
//! ```text
//!  record ─▶ turn (order of seq, waits ≤ 2 s) ─▶ times (claimed or spread) ─▶ cells (did, slot)
//!                                                                              │ pieces
//!     trim floor ◀─ pins ◀─ linked ◀─ order ◀─ bucket (deadlines, cuts) ◀──────┘
//! ```
//!
//! `now` comes from the records' receive times and from ticks, in the order of the feed, so replaying
//! the same records cuts where life cut.

pub mod bucket;
pub mod coverage;
pub mod cut;
pub mod deadlines;
pub mod pins;
pub mod ports;
pub mod stream;
pub mod times;
pub mod turn;
pub mod windower;
