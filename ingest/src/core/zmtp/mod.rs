//! ZMTP 3.0 and 3.1 (rfc.zeromq.org 23 and 37), sans I/O, both ends: the ROUTER of the door and the DEALER
//! of a gateway's uplink (decision 0014).
//!
//! ```text
//! bytes ─▶ greeting (64) ─▶ READY ⇄ READY ─▶ messages of parts; PING, PONG
//!             │                │                │
//!             └─ not ours: closed at the first byte that says so, with ERROR where the peer reads it
//! ```
//!
//! Only the mechanism NULL: who a peer is comes from TLS below, never from ZMTP. Nothing is downgraded.
//! Every length is judged at its header, before a byte of the body is awaited, and nothing is allocated
//! from a length; what a peer can make us hold is one message within [`Bounds`].
//!
//! ```text
//! let mut zmtp = Zmtp::dealer(b"ward-3", Bounds::default());
//! zmtp.begin(&mut out);                       // send this at once
//! // for all that is read: append it to `input`, then
//! while let Some(event) = zmtp.next(&mut input, &mut out)? { .. }
//! zmtp::message(&[b"frame", b"bed-7/ecg", payload], &mut out);   // after Event::Ready
//! ```

mod command;
mod frame;
mod greeting;
mod peer;

pub use command::{ping, pong};
pub use frame::message;
pub use peer::{Bounds, Event, Zmtp};

/// The peer broke the protocol, or speaks another: the connection ends. Carries the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub &'static str);
