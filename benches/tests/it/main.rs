//! The benches count what they claim: what is on the disk is what was acknowledged, and the check would see
//! if it were not.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod honest;
mod paper;
