//! Messages between clients: all that passes a door and is no telemetry.
//!
//! ```text
//! client ─Request─▶ ┌─ board ───────────────────────────────┐ ─ToClient─▶ client
//!  house ─────────▶ │ sessions · trie · retained · commands │
//!                   └───────────────┬───────────────────────┘
//!                               Records, one journal entry a step ─▶ `mqtt/`
//! ```
//!
//! Status, wills, retained births, commands and their replies, the sessions of MQTT with their
//! subscriptions and queues, and in the open profile any topic. Who may say and hear what is the door's
//! question; here every topic and every session is alike.
//!
//! A value, fed with requests and the time; `effects` says what must be kept and who hears what. Read
//! `board` first: what it holds, and the rule by which a restart finds it again.

mod attach;
pub mod board;
pub mod codec;
pub mod command;
pub mod effects;
mod flow;
pub mod message;
mod publish;
pub mod record;
pub mod request;
pub mod session;
mod snapshot;
mod subscribe;
pub mod topics;
pub mod trie;
