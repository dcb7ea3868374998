//! What the journal `mqtt/` holds.
//!
//! ```text
//! segment: snapshot ─ step ─ step ─ ...          one journal entry = the records of ONE step: all or none
//! snapshot: retained* ─ commands* ─ session* ─ session* ...        one entry a session
//! ```
//!
//! A step that publishes at QoS 2 keeps the message for its subscribers, the retained copy and the packet
//! id together, so a torn tail cannot leave one without the others. Records say what has become of things,
//! not what was asked, and folding them is the same function in life and at start. A snapshot may be
//! folded over what it describes: a session's entry begins by replacing that session.

use std::sync::Arc;

use super::{
    command::CommandLine,
    message::{Message, Will, Wish},
    trie::Key,
};

/// A message that is kept, by one or many, under a number of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number; never used twice while a record of it can still be read.
    pub no: u64,
    /// As it was published.
    pub message: Message,
    /// When.
    pub at_ns: i64,
    /// When it is of no use any more.
    pub expires_ns: Option<i64>,
}

impl Stored {
    /// Whether its time is over.
    pub fn expired(&self, now_ns: i64) -> bool {
        self.expires_ns.is_some_and(|until| until <= now_ns)
    }
}

/// One message for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The message.
    pub stored: Arc<Stored>,
    /// Effective QoS, 1 or 2.
    pub qos: u8,
    /// The retain flag as to be sent.
    pub retain: bool,
    /// Identifiers of the subscriptions that took it.
    pub identifiers: Vec<u32>,
}

/// What a session is, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Seconds it outlives its connection.
    pub expiry_s: u32,
    /// Its will, if it has one.
    pub will: Option<Will>,
    /// Since when it has no connection.
    pub gone_ns: Option<i64>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A session as it is. `fresh`: with nothing in it.
    Session {
        /// Whose.
        key: Key,
        /// What it is.
        about: About,
        /// Replaces what was there.
        fresh: bool,
    },
    /// A session has ended, with all that it held.
    Ended(Key),
    /// A subscription, new or changed.
    Subscribed(Key, Arc<Wish>),
    /// A subscription is gone.
    Unsubscribed(Key, String),
    /// A message, before the first record that names its number.
    Message(Arc<Stored>),
    /// It waits for a session, behind what waits there already.
    Queued(Key, Queued),
    /// The first that waits is in flight under this packet id.
    Sent(Key, u16),
    /// The first that waits is dropped.
    Dropped(Key),
    /// The client has it (PUBREC); what is open is the release.
    Received(Key, u16),
    /// A packet id is free again.
    Done(Key, u16),
    /// A message with this packet id has come from the client at QoS 2.
    Inbound(Key, u16),
    /// The client has released that id.
    Released(Key, u16),
    /// A message is retained under its topic.
    Retained(Arc<Stored>, Key),
    /// Nothing is retained under a topic any more.
    Unretained(String),
    /// A command as it is: its number in order of issue, and the rest.
    Command(u64, Arc<CommandLine>),
    /// A command is forgotten, by id.
    Forgotten(String),
}

impl Record {
    /// Whose session it changes.
    pub fn session(&self) -> Option<&Key> {
        match self {
            Self::Session { key, .. } => Some(key),
            Self::Ended(key)
            | Self::Subscribed(key, _)
            | Self::Unsubscribed(key, _)
            | Self::Queued(key, _)
            | Self::Sent(key, _)
            | Self::Dropped(key)
            | Self::Received(key, _)
            | Self::Done(key, _)
            | Self::Inbound(key, _)
            | Self::Released(key, _) => Some(key),
            Self::Message(_)
            | Self::Retained(..)
            | Self::Unretained(_)
            | Self::Command(..)
            | Self::Forgotten(_) => None,
        }
    }

    /// The message it names by number.
    pub fn names(&self) -> Option<&Arc<Stored>> {
        match self {
            Self::Queued(_, queued) => Some(&queued.stored),
            Self::Retained(stored, _) => Some(stored),
            _ => None,
        }
    }
}
