//! The notary and the ledger: anchors chain heads in a tile log (formats.md 5).
//!
//! ```text
//! links ──▶ notary: which heads, when ──▶ signed add-data, synced in the outbox ─┐
//! patient's create-session, revoke-session ──────────────────────────────────────┤ submit
//!                                                                                ▼
//!           admit (strict, role) ─▶ batch + block leaf ─▶ pending, synced ─▶ tiles ─▶ checkpoint
//! ```
//!
//! [`core`] decides: what an entry must be to enter, what a batch looks like, which tiles follow from
//! it, which heads are due. [`ledger`] and [`notary`] do: a thread each, files through the disk seam.
//! A [`witness`] is another house's memory of a log: it cosigns what goes on from what it saw before.
//! The ledger's files are a stock C2SP tile log; whatever else is needed to survive a crash lies beside
//! it: the journals `ledger.batches/` and `outbox/`. So does what only saves time: `ledger.index/`.

pub mod core;
pub mod ledger;
pub mod metrics;
pub mod notary;
pub mod remote;
pub mod witness;

pub use crate::{
    core::ports::{Links, Parties, Patients, TrailHead},
    ledger::{Ledger, LedgerKeys},
    notary::{AnchorStatus, Notary, NotaryParts, NotarySettings},
    witness::Witness,
};
