//! What a gateway decides: values only.
//!
//! ```text
//! book ── line (per stream) ── memory (births, `ack` topic)      record: bytes of the spool
//!   └──── gate: is there room                                    wire: messages of the uplink
//! ```
//!
//! The threads around it are in [`crate::gateway`].

pub mod backoff;
pub mod book;
pub mod gate;
pub mod line;
pub mod memory;
pub mod reason;
pub mod record;
pub mod wire;
