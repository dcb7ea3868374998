//! The ZeroMQ session machine, sans I/O: messages and verdicts in, messages and offers out (docs/FORMATS.md
//! 2, "ZeroMQ"; decision 0014).
//!
//! ```text
//! parts ─▶ read ─▶ may this peer say it? ─▶ Act::Offer ─▶ (durable) ─▶ Input::Fate ─▶ ack, ranges drawn together
//!            │            │                                                  └▶ nack with its reason
//!            └─ nack ◀────┘  and at the sixteenth in a row the end
//! ```
//!
//! Nothing is dropped in silence: what is read is answered by an ack or a nack, and what would exceed the
//! credit (256 messages or 4 MiB without an answer) is not read, so that TCP tells the peer to wait.
//!
//! Who a peer is comes from its certificate. A gateway speaks for the devices registered behind it; on a
//! plain loopback listener any registered device is believed, and a peer that calls itself by a registered
//! gateway's name is that gateway.

mod alive;
pub mod answers;
pub mod outgoing;
pub mod parts;
mod rights;
pub mod session;
