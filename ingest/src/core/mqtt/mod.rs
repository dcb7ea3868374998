//! The MQTT session machine, sans I/O: bytes, verdicts and answers in, bytes, offers and requests out.
//!
//! ```text
//! bytes ─▶ framing ─▶ read (strict) ─▶ packet ─▶ session ─▶ Effects: bytes (write), Act: offer, ask, close
//! ```
//!
//! `read` holds every packet to the standard; everything above it sees only well-formed ones, of either
//! version in one form. The session is in rooms: `connect` (who may come), `publish` (what it sends),
//! `hearing` (what it may hear), `deliver` (how it hears it). What outlives a connection is the exchange's
//! ([`crate::core::exchange`]); what is telemetry goes to ingest and never through it.

mod acks;
mod alias;
mod connect;
mod deliver;
pub mod framing;
mod hearing;
pub mod packet;
pub mod profile;
mod property;
mod publish;
pub mod read;
pub mod session;
pub mod standing;
pub mod topic;
mod walk;
pub mod write;

pub use walk::Text;
