//! Messages between clients: all that passes a door and is no telemetry.
//!
//! ```text
//! client ─Request─▶ ┌─ board ──────────────────────────────┐ ─ToClient─▶ client
//!  house ─────────▶ │ sessions · trie · retained · commands │
//!                   └───────────────┬───────────────────────┘
//!                               Records, one journal entry a step ─▶ `mqtt/`
//! ```
//!
//! Status, wills, retained births, commands and their replies, the sessions of MQTT with their
//! subscriptions and queues, and in the open profile any topic.

pub mod command;
pub mod message;
pub mod request;
