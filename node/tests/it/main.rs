//! Tests of the house and of the whole binary.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod demonstration;
mod house;
mod rotation;
