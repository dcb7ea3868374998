//! A message, and what travels with it. Plain data: checked by the door, passed on unchanged.

use bytes::Bytes;

/// What an MQTT 5 publisher may say beside topic and payload, and what is passed on of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Payload format indicator: 1 says UTF-8.
    pub payload_format: Option<u8>,
    /// Seconds after which the message is of no use. Towards a subscriber: what is left of them.
    pub expiry_s: Option<u32>,
    /// Content type.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<String>,
    /// What the answer must carry.
    pub correlation: Option<Bytes>,
    /// User properties in their order.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// Bytes it takes, roughly.
    pub fn bytes(&self) -> usize {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation.as_ref().map_or(0, Bytes::len)
            + self
                .user
                .iter()
                .map(|(k, v)| k.len() + v.len() + 8)
                .sum::<usize>()
    }
}

/// A message as published, or as it goes to a subscriber.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Topic; resolved where an alias stood for it.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// What travels with it.
    pub properties: Properties,
}

impl Message {
    /// Bytes it takes in a queue, roughly.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.bytes() + 128
    }
}

/// What is published for a client that goes without saying goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// The message.
    pub message: Message,
    /// Seconds to wait for a reconnect before it is published; the end of the session ends the wait.
    pub delay_s: u32,
}

/// A subscription as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The filter, with `$share/{group}/` in front for a shared one.
    pub filter: String,
    /// Highest QoS wanted.
    pub qos: u8,
    /// Not what this same session publishes.
    pub no_local: bool,
    /// The retain flag as the publisher set it.
    pub retain_as_published: bool,
    /// Retained messages: 0 now, 1 now if the subscription is new, 2 never.
    pub retain_handling: u8,
    /// Subscription identifier.
    pub identifier: Option<u32>,
}

impl Wish {
    /// A subscription with the options of MQTT 3.1.1.
    pub fn plain(filter: impl Into<String>, qos: u8) -> Self {
        Self {
            filter: filter.into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            identifier: None,
        }
    }
}

/// A message on its way to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Packet id; 0 at QoS 0.
    pub id: u16,
    /// It may have been delivered on an earlier connection.
    pub dup: bool,
    /// QoS: the effective one. Retain: as to be sent. Expiry: what is left.
    pub message: Message,
    /// Identifiers of all subscriptions that it matches.
    pub identifiers: Vec<u32>,
}
