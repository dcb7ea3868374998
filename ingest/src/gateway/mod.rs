//! The gateway in its first form: the MQTT door at the bedside, a spool, an uplink to one ingest node.
//!
//! ```text
//! device ──MQTT──▶ doors::mqtt ──IngestHandle──▶ spool (thread) ══▶ journal `spool/`: ONE commit ──▶ PUBACK
//!                      │                            ▲   │ items in flight: at most 256 and 4 MiB
//!                      │                   ack,nack │   ▼
//!                      └──▶ exchange ◀── courier ── uplink (task) ══DEALER, TLS══▶ the node's ZeroMQ door
//!                         cmd, reply, status
//! ```
//!
//! The door does not know who stands behind its [`crate::mailbox::IngestHandle`]: in a node the ingest loop,
//! here the spool. The promise is the same: **an acknowledgement leaves only after the commit that covers
//! its frame**. What the spool has acknowledged it keeps until the node has acknowledged it too, or has
//! refused it for good; then it lies in `quarantine/` with the reason.
//!
//! | folder of a gateway | what | a crash means |
//! |---|---|---|
//! | `spool/` | journal of items and of what trimmed segments knew | the torn tail was not acknowledged |
//! | `quarantine/` | refused items, and what a 3.1.1 device sent malformed | a second copy, never none |
//! | `mqtt/` | the exchange: commands, replies, status, sessions | as in a node |
//! | `devices.json` | the devices behind this gateway, as last told | the list before, or the new one |
//! | `checkpoint` | the newest checkpoint of the node's log | the one before, or the new one |
//!
//! After a start everything above the newest written floor is sent again: the node absorbs what it has.

mod courier;
pub mod devices;
pub mod keepsake;
pub mod link;
pub mod metrics;
pub mod spool;
mod turn;
pub mod uplink;
