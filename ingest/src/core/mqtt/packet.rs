//! A client's packet in one form for both versions; decoding is the codec's, see [`super::strict`] for
//! what is checked before.

use bytes::{Bytes, BytesMut};
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

use super::{
    framing::{Broken, Raw, Version},
    strict::{self, kind},
};

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT
    Connect(Connect),
    /// PUBLISH
    Publish(Publish),
    /// PUBACK, PUBCOMP: nothing of ours waits for one.
    Acknowledged,
    /// PUBREC
    Received(u16),
    /// PUBREL
    Released(u16),
    /// SUBSCRIBE
    Subscribe(Subscribe),
    /// UNSUBSCRIBE
    Unsubscribe(u16, Vec<String>),
    /// PINGREQ
    Ping,
    /// DISCONNECT; a will is to be sent if it says so (version 5, reason 4).
    Disconnect {
        /// Whether the will is to be sent all the same.
        with_will: bool,
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
    /// Topic and QoS of the will.
    pub will: Option<(String, u8)>,
    /// Greatest packet it takes.
    pub packet_max: Option<u32>,
    /// It wants reason strings.
    pub reasons: bool,
    /// It asks for enhanced authentication.
    pub authentication: bool,
}

/// PUBLISH
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// May be empty when an alias is used.
    pub topic: String,
    /// 0-2.
    pub qos: u8,
    /// 0 for QoS 0.
    pub id: u16,
    /// Whether it carries a topic alias.
    pub alias: bool,
    /// The message.
    pub payload: Bytes,
}

/// SUBSCRIBE
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id.
    pub id: u16,
    /// Whether it carries a subscription identifier.
    pub identifier: bool,
    /// Filters.
    pub filters: Vec<String>,
}

/// Checks and decodes.
///
/// # Errors
/// Whatever is wrong with it; the connection ends.
pub fn decode(version: Version, raw: &Raw) -> Result<Packet, Broken> {
    strict::check(version, raw)?;
    if raw.kind == kind::DISCONNECT {
        // The codec of version 5 refuses the two short forms that the standard allows.
        return Ok(Packet::Disconnect {
            with_will: raw.body().first() == Some(&4),
        });
    }
    let mut bytes = BytesMut::from(raw.bytes.as_ref());
    let undecoded = |_| Broken::malformed("packet");
    match version {
        Version::V4 => {
            let packet = v4::Packet::read(&mut bytes, usize::MAX);
            from_v4(packet.map_err(|_| Broken::malformed("packet"))?)
        }
        Version::V5 => from_v5(v5::Packet::read(&mut bytes, None).map_err(undecoded)?),
    }
}

fn from_v4(packet: v4::Packet) -> Result<Packet, Broken> {
    Ok(match packet {
        v4::Packet::Connect(c) => Packet::Connect(Connect {
            client_id: c.client_id,
            clean: c.clean_session,
            keep_alive: c.keep_alive,
            will: c.last_will.map(|w| (w.topic, w.qos as u8)),
            packet_max: None,
            reasons: false,
            authentication: false,
        }),
        v4::Packet::Publish(p) => Packet::Publish(Publish {
            topic: p.topic,
            qos: p.qos as u8,
            id: p.pkid,
            alias: false,
            payload: p.payload,
        }),
        v4::Packet::PubAck(_) | v4::Packet::PubComp(_) => Packet::Acknowledged,
        v4::Packet::PubRec(p) => Packet::Received(p.pkid),
        v4::Packet::PubRel(p) => Packet::Released(p.pkid),
        v4::Packet::Subscribe(s) => Packet::Subscribe(Subscribe {
            id: s.pkid,
            identifier: false,
            filters: s.filters.into_iter().map(|f| f.path).collect(),
        }),
        v4::Packet::Unsubscribe(u) => Packet::Unsubscribe(u.pkid, u.topics),
        v4::Packet::PingReq => Packet::Ping,
        _ => return Err(Broken::protocol("packet-type")),
    })
}

fn from_v5(packet: v5::Packet) -> Result<Packet, Broken> {
    Ok(match packet {
        v5::Packet::Connect(c, will, _) => {
            let p = c.properties;
            let will = will.map(|w| match String::from_utf8(w.topic.to_vec()) {
                Ok(topic) => Ok((topic, w.qos as u8)),
                Err(_) => Err(Broken::malformed("utf-8")),
            });
            Packet::Connect(Connect {
                client_id: c.client_id,
                clean: c.clean_start,
                keep_alive: c.keep_alive,
                will: will.transpose()?,
                packet_max: p.as_ref().and_then(|p| p.max_packet_size),
                reasons: p.as_ref().and_then(|p| p.request_problem_info) != Some(0),
                authentication: p.is_some_and(|p| {
                    p.authentication_method.is_some() || p.authentication_data.is_some()
                }),
            })
        }
        v5::Packet::Publish(p) => Packet::Publish(Publish {
            topic: String::from_utf8(p.topic.to_vec()).map_err(|_| Broken::malformed("utf-8"))?,
            qos: p.qos as u8,
            id: p.pkid,
            alias: p.properties.is_some_and(|p| p.topic_alias.is_some()),
            payload: p.payload,
        }),
        v5::Packet::PubAck(_) | v5::Packet::PubComp(_) => Packet::Acknowledged,
        v5::Packet::PubRec(p) => Packet::Received(p.pkid),
        v5::Packet::PubRel(p) => Packet::Released(p.pkid),
        v5::Packet::Subscribe(s) => Packet::Subscribe(Subscribe {
            id: s.pkid,
            identifier: s.properties.is_some_and(|p| p.id.is_some()),
            filters: s.filters.into_iter().map(|f| f.path).collect(),
        }),
        v5::Packet::Unsubscribe(u) => Packet::Unsubscribe(u.pkid, u.filters),
        v5::Packet::PingReq(_) => Packet::Ping,
        _ => return Err(Broken::protocol("packet-type")),
    })
}
