//! Tests of the base from outside, through its public doors.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod disks;
mod journal_crash;
mod journal_damage;
mod journal_model;
mod log;
mod record;
mod threads;
mod wire;
mod wire_rules;
