//! Tests of the chunker through its public face.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod crash;
mod edges;
mod feed;
mod lives;
mod model;
mod rules;
mod service;
mod time_rows;
