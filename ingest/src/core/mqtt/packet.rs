//! A client's packet in one form for both versions.

use bytes::Bytes;

use super::walk::Text;
use crate::core::exchange::message::{Properties, Will, Wish};

pub use super::read::decode;

/// Packet types, as the first half byte says them.
pub mod kind {
    /// CONNECT
    pub const CONNECT: u8 = 1;
    /// CONNACK
    pub const CONNACK: u8 = 2;
    /// PUBLISH
    pub const PUBLISH: u8 = 3;
    /// PUBACK
    pub const PUBACK: u8 = 4;
    /// PUBREC
    pub const PUBREC: u8 = 5;
    /// PUBREL
    pub const PUBREL: u8 = 6;
    /// PUBCOMP
    pub const PUBCOMP: u8 = 7;
    /// SUBSCRIBE
    pub const SUBSCRIBE: u8 = 8;
    /// SUBACK
    pub const SUBACK: u8 = 9;
    /// UNSUBSCRIBE
    pub const UNSUBSCRIBE: u8 = 10;
    /// UNSUBACK
    pub const UNSUBACK: u8 = 11;
    /// PINGREQ
    pub const PINGREQ: u8 = 12;
    /// PINGRESP
    pub const PINGRESP: u8 = 13;
    /// DISCONNECT
    pub const DISCONNECT: u8 = 14;
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT
    Connect(Box<Connect>),
    /// PUBLISH
    Publish(Publish),
    /// PUBACK, whatever its reason.
    Acked(u16),
    /// PUBREC; false: the client refuses the message.
    Received(u16, bool),
    /// PUBREL
    Released(u16),
    /// PUBCOMP
    Completed(u16),
    /// SUBSCRIBE: packet id, filters with their options.
    Subscribe(u16, Vec<Wish>),
    /// UNSUBSCRIBE: packet id, filters.
    Unsubscribe(u16, Vec<String>),
    /// PINGREQ
    Ping,
    /// DISCONNECT
    Disconnect {
        /// Version 5 reason; 0 in version 3.1.1. Any but 0 wants the will sent.
        reason: u8,
        /// Another session expiry from now on, in seconds.
        expiry_s: Option<u32>,
    },
}

/// CONNECT
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// May be empty.
    pub client_id: String,
    /// Asks that no state is taken up.
    pub clean: bool,
    /// Seconds; 0: none.
    pub keep_alive: u16,
    /// What to publish when it goes without a goodbye.
    pub will: Option<Will>,
    /// Seconds that the session is to outlive the connection; `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// Messages with QoS > 0 that it takes at a time.
    pub receive_max: u16,
    /// Greatest packet it takes.
    pub packet_max: Option<u32>,
    /// Topic aliases it takes.
    pub alias_max: u16,
    /// It wants reason strings.
    pub reasons: bool,
    /// It asks for enhanced authentication.
    pub authentication: bool,
}

/// PUBLISH
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Empty when an alias stands for it.
    pub topic: Text,
    /// 0-2.
    pub qos: u8,
    /// 0 for QoS 0.
    pub id: u16,
    /// It is sent again.
    pub dup: bool,
    /// The retain flag.
    pub retain: bool,
    /// Topic alias.
    pub alias: Option<u16>,
    /// What travels with it.
    pub properties: Properties,
    /// The message.
    pub payload: Bytes,
}
