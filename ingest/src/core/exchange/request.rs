//! What a connection asks of the exchange, and what it hears.
//!
//! ```text
//!  Attach ──▶ Attached        Publish ──▶ Published | Refused     Subscribe, Unsubscribe ──▶ one verdict each
//!  Deliver ◀── ... Acked      Deliver ◀── ... Received ──▶ Release ◀── ... Completed        (QoS 1; QoS 2 out)
//!                             Publish(id) ──▶ Published ... Release ──▶ Released            (QoS 2 in)
//! ```
//!
//! Answers come in the order of the requests, each with the token of its request, and after the commit
//! that makes them true. `Acked`, `Received`, `Completed` and `Detach` have none.

use super::message::{Delivery, Message, Will, Wish};

/// Who a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Whose session it is: `device:{id}`, `monitor:{name}`, `plain:{client id}`. At most one connection
    /// holds it; a second one takes over.
    pub key: String,
    /// Forget what there was.
    pub clean: bool,
    /// Seconds that the session outlives its connection; 0: it ends with it, `u32::MAX`: never ends.
    pub expiry_s: u32,
    /// Deliveries with QoS > 0 that may be unfinished at a time; 0 counts as 1.
    pub receive_max: u16,
    /// What to publish when it goes without a goodbye.
    pub will: Option<Will>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// First request of a connection.
    Attach(Hello),
    /// A message to pass on.
    Publish {
        /// The message; its QoS says what the answer promises.
        message: Message,
        /// At QoS 2 its packet id: the same id again is the same message, until `Release`.
        id: Option<u16>,
    },
    /// PUBREL: the id may be used again.
    Release(u16),
    /// Subscriptions, each with its own verdict.
    Subscribe(Vec<Wish>),
    /// Filters, exactly as subscribed.
    Unsubscribe(Vec<String>),
    /// PUBACK, of whatever reason.
    Acked(u16),
    /// PUBREC; false: its reason code says that the client refuses the message.
    Received(u16, bool),
    /// PUBCOMP.
    Completed(u16),
    /// The connection is gone. Nothing is heard after it.
    Detach {
        /// No goodbye, or one that asks for the will.
        will: bool,
        /// Another session expiry from now on, if the session has one at all.
        expiry_s: Option<u32>,
    },
}

impl Request {
    /// Bytes it takes in a mailbox, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Publish { message, .. } => message.bytes(),
            Self::Attach(hello) => hello.will.as_ref().map_or(0, |w| w.message.bytes()),
            Self::Subscribe(wishes) => wishes.iter().map(|w| w.filter.len() + 64).sum(),
            Self::Unsubscribe(filters) => filters.iter().map(|f| f.len() + 64).sum(),
            _ => 0,
        }
    }
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// A bound was reached: sessions, subscriptions, retained messages, queues.
    Quota,
    /// Not a topic or filter by the standard.
    Invalid,
    /// More than [`chordae_base::limits::FILTER_DEPTH_MAX`] levels.
    TooDeep,
    /// The connection has not attached, or another one has taken over.
    NotAttached,
}

impl Denied {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Invalid => "topic",
            Self::TooDeep => "topic-depth",
            Self::NotAttached => "not-attached",
        }
    }

    /// One line for the client.
    pub fn why(self) -> &'static str {
        match self {
            Self::Quota => "quota: as many or as much is kept as may be; remove some first",
            Self::Invalid => "topic: not a valid topic or filter",
            Self::TooDeep => "topic-depth: a topic or filter has at most 16 levels here",
            Self::NotAttached => "not-attached: this connection has no session",
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Attach`.
    Attached {
        /// There was a session to go on with.
        present: bool,
        /// Its subscriptions: the door serves `ack` and `live` itself, and looks whether the peer may still
        /// hear what it once subscribed to.
        kept: Vec<Wish>,
    },
    /// To `Publish`: passed on, kept for whom it must be kept. Durable as far as anything of it is kept.
    Published {
        /// Somebody is subscribed.
        matched: bool,
    },
    /// To `Release`.
    Released {
        /// The id stood for a message.
        known: bool,
    },
    /// To `Subscribe`: granted QoS, or why not, in the order asked.
    Subscribed(Vec<Result<u8, Denied>>),
    /// To `Unsubscribe`: whether there was such a subscription.
    Unsubscribed(Vec<bool>),
    /// To `Attach` or `Publish`.
    Refused(Denied),
}

/// What a connection hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToClient {
    /// The answer to the request with this token.
    Answer(u64, Answer),
    /// A message.
    Deliver(Delivery),
    /// PUBREL; again after a reconnect.
    Release {
        /// The packet id.
        id: u16,
        /// False: no such delivery is open (0x92).
        known: bool,
    },
    /// Another connection has the session now. Nothing is heard after it.
    TakenOver,
    /// Its queue is full because it does not take what it subscribed to: it must go (0x97). The session
    /// stays as long as it would after any lost connection.
    Cut(Denied),
}
