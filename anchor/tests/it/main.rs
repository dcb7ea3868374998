//! The ledger, the notary and the witness on fake and faulty disks.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod house;
mod ledger_cosigned;
mod ledger_crash;
mod ledger_damage;
mod ledger_heads;
mod ledger_index;
mod ledger_rules;
mod notary_rounds;
mod rotation;
mod witness_crash;
mod witness_house;
mod witness_rules;
