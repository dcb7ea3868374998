//! The MQTT session machine, sans I/O: bytes and verdicts in, bytes and offers out.
//!
//! ```text
//! bytes ─▶ framing ─▶ strict ─▶ rumqttc decodes ─▶ packet ─▶ session ─▶ Act: send, offer, ask, close
//! ```
//!
//! `strict` checks what the codec lets through (reserved flags, wildcards, NUL, doubled properties);
//! everything above it sees only well-formed packets, of either version in one form.
//!
//! In this version: QoS 0 and 1; sessions and subscriptions end with their connection (`session present`
//! is always 0, and a version 5 client is told a session expiry of 0); `status` and `cmd` replies are
//! accepted and not kept. These are the rooms of later work.

pub mod connect;
pub mod framing;
pub mod hearing;
pub mod outgoing;
pub mod packet;
pub mod session;
pub mod standing;
pub mod strict;
pub mod topic;
