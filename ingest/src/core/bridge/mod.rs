//! The bridge's session with somebody else's broker, sans I/O: packets and verdicts in, bytes and offers out.
//!
//! ```text
//! bytes ─▶ reading ─▶ packet ─▶ subscriber ─▶ Act: send, offer, hold, close
//!                                   │  window: acknowledges in the order of arrival, after the verdict
//! ```
//!
//! A pure subscriber, and a small one (docs/decisions/0019). The argument why nothing that the broker has
//! acknowledged to its publishers is lost between it and our log:
//!
//! - the session is persistent: what is not acknowledged by us comes again, to this connection's successor;
//! - an acknowledgement is made from a verdict, and verdicts come after the commit;
//! - **no acknowledgement crosses a connection**: tokens are unique over connections, and a verdict for one
//!   that is gone moves nothing. The broker sends that message again, and dedupe absorbs it. (A packet id
//!   may mean another message by then.)
//!
//! What can be lost, the broker has lost: a session it forgot (said in the log, and counted), a queue that
//! it bounds, messages with QoS 0.

pub mod backoff;
pub mod packet;
pub mod reading;
pub mod subscriber;
pub mod window;
