//! The checker against a folder that is right, and against every way to make it wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests"
)]

mod answers;
mod bits;
mod chains;
mod house;
mod ledger;
mod options;
mod places;
mod read_chains;
mod rotation;
mod rows;
mod tampered;
