//! The access rule, the window service, proofs and the trail.
//!
//! ```text
//! signed request ──▶ http ──▶ core (who, what, may she, which chunks) ──▶ trail (synced) ──▶ rows
//!                                 │ asks through ports                                     + proof
//!                                 ▼
//!              chunks · ledger · sessions · parties          implemented by the node
//! ```
//!
//! The order that everything here keeps: **verified, decided, written to the trail and synced, and only
//! then the first byte goes out.** A trail that cannot be written ends the service: no answer without
//! its record.

pub mod core;
pub mod formats;
pub mod http;
pub mod metrics;
pub mod strip;
pub mod trail;
