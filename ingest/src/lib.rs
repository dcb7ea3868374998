//! Doors, decoding, identity, dedupe, admission and the write-ahead log.
//!
//! ```text
//! device ──▶ doors/    ──Arrival──▶ service (one thread) ──▶ core decides ──▶ wal: ONE commit ──▶ acks
//!                ▲  core/mqtt: session machine                                      │
//!                └──────────────────────── Notice ◀────────────────────────────────┴──▶ downstream, fanout
//! ```
//!
//! The promise: **an acknowledgement leaves only after the commit that covers its frame** (or the
//! original of which it is a repeat). A failed commit ends the service; nobody is acknowledged again.
//!
//! [`service::Ingest::open`] recovers the log, [`service::Recovered::replay`] shows it to the chunker,
//! [`service::Recovered::run`] starts the thread, and only then `doors::mqtt` opens.

pub mod bridge;
pub mod core;
pub mod doors;
pub mod exchange;
pub mod fanout;
pub mod gateway;
pub mod mailbox;
pub mod metrics;
pub mod quarantine;
pub mod service;
mod turn;
mod unreplayable;
pub mod wal;
