//! Chunks from the outside: what is written, what is refused, what it costs.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, like the tests"
)]

mod again;
mod common;
mod golden;
mod hostile;
mod roundtrip;
