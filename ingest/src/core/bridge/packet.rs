//! What a broker says, in one form for both versions, and what we say to it. The codec decodes; an
//! unreadable packet ends the connection.

use bytes::{Bytes, BytesMut};
use chordae_base::limits;
use rumqttc::{
    mqttbytes::{QoS as QoS4, v4},
    v5::mqttbytes::{QoS as QoS5, v5},
};

use super::{reading::Part, window::Way};
use crate::core::mqtt::{
    framing::{Broken, Version},
    packet::kind,
};

/// What a broker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// CONNACK
    Accepted {
        /// It has a session of ours.
        present: bool,
        /// The keep-alive that it wants instead, seconds.
        keep_alive: Option<u16>,
        /// How long it keeps the session, if not for ever, seconds.
        expiry_s: Option<u32>,
    },
    /// CONNACK with another code.
    Rejected(String),
    /// PUBLISH
    Publish(Publish),
    /// PUBREL
    Release(u16),
    /// SUBACK: per filter, whether it was granted.
    Subscribed(Vec<bool>),
    /// PINGRESP
    Pong,
    /// DISCONNECT with its reason code.
    Disconnect(u8),
}

/// PUBLISH
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Never empty: we allow no aliases.
    pub topic: String,
    /// QoS and packet id.
    pub way: Way,
    /// The message, or its beginning.
    pub payload: Bytes,
    /// Its end is missing.
    pub cut: bool,
}

/// Decodes.
///
/// # Errors
/// Whatever is wrong with it.
pub fn decode(version: Version, part: &Part) -> Result<Heard, Broken> {
    let raw = &part.raw;
    if raw.kind == kind::DISCONNECT {
        // The codec refuses the short forms.
        return Ok(Heard::Disconnect(raw.body().first().copied().unwrap_or(0)));
    }
    let mut bytes = BytesMut::from(raw.bytes.as_ref());
    match version {
        Version::V4 => {
            let packet = v4::Packet::read(&mut bytes, usize::MAX);
            from_v4(packet.map_err(|_| Broken::malformed("packet"))?, part.cut)
        }
        Version::V5 => {
            let packet = v5::Packet::read(&mut bytes, None);
            from_v5(packet.map_err(|_| Broken::malformed("packet"))?, part.cut)
        }
    }
}

fn from_v4(packet: v4::Packet, cut: bool) -> Result<Heard, Broken> {
    Ok(match packet {
        v4::Packet::ConnAck(c) if c.code == v4::ConnectReturnCode::Success => Heard::Accepted {
            present: c.session_present,
            keep_alive: None,
            expiry_s: None,
        },
        v4::Packet::ConnAck(c) => Heard::Rejected(format!("{:?}", c.code)),
        v4::Packet::Publish(p) => Heard::Publish(Publish {
            topic: p.topic,
            way: way(p.qos as u8, p.pkid)?,
            payload: p.payload,
            cut,
        }),
        v4::Packet::PubRel(p) => Heard::Release(p.pkid),
        v4::Packet::SubAck(s) => Heard::Subscribed(
            s.return_codes
                .iter()
                .map(|code| !matches!(code, v4::SubscribeReasonCode::Failure))
                .collect(),
        ),
        v4::Packet::PingResp => Heard::Pong,
        _ => return Err(Broken::protocol("packet-type")),
    })
}

fn from_v5(packet: v5::Packet, cut: bool) -> Result<Heard, Broken> {
    Ok(match packet {
        v5::Packet::ConnAck(c) if c.code == v5::ConnectReturnCode::Success => {
            let p = c.properties;
            Heard::Accepted {
                present: c.session_present,
                keep_alive: p.as_ref().and_then(|p| p.server_keep_alive),
                expiry_s: p.and_then(|p| p.session_expiry_interval),
            }
        }
        v5::Packet::ConnAck(c) => Heard::Rejected(format!("{:?}", c.code)),
        v5::Packet::Publish(p) => Heard::Publish(Publish {
            topic: String::from_utf8(p.topic.to_vec()).map_err(|_| Broken::malformed("utf-8"))?,
            way: way(p.qos as u8, p.pkid)?,
            payload: p.payload,
            cut,
        }),
        v5::Packet::PubRel(p) => Heard::Release(p.pkid),
        v5::Packet::SubAck(s) => Heard::Subscribed(
            s.return_codes
                .iter()
                .map(|code| matches!(code, v5::SubscribeReasonCode::Success(_)))
                .collect(),
        ),
        v5::Packet::PingResp(_) => Heard::Pong,
        _ => return Err(Broken::protocol("packet-type")),
    })
}

fn way(qos: u8, id: u16) -> Result<Way, Broken> {
    match (qos, id) {
        (0, _) => Ok(Way::Once),
        (_, 0) => Err(Broken::malformed("packet-id-zero")),
        (1, id) => Ok(Way::Acked(id)),
        (_, id) => Ok(Way::Received(id)),
    }
}

/// Who we are to the broker, and what we want of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which protocol to speak.
    pub version: Version,
    /// The broker keeps our session under this name.
    pub client_id: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// What to subscribe to.
    pub filters: Vec<String>,
    /// Highest QoS of what is delivered: 1, or 2 (which buys nothing here but a second round trip).
    pub qos: u8,
}

/// CONNECT: a session that the broker keeps for ever.
pub fn connect(wanted: &Wanted) -> Option<Bytes> {
    let keep_alive = u16::try_from(limits::BRIDGE_KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX);
    let client_id = wanted.client_id.clone();
    match wanted.version {
        Version::V4 => write_v4(&v4::Packet::Connect(v4::Connect {
            protocol: rumqttc::Protocol::V4,
            keep_alive,
            client_id,
            clean_session: false,
            last_will: None,
            login: wanted
                .login
                .as_ref()
                .map(|(user, password)| v4::Login::new(user.clone(), password.clone())),
        })),
        Version::V5 => write_v5(&v5::Packet::Connect(
            v5::Connect {
                keep_alive,
                client_id,
                clean_start: false,
                properties: Some(v5::ConnectProperties {
                    session_expiry_interval: Some(u32::MAX),
                    receive_maximum: Some(limits::BRIDGE_WINDOW),
                    // No maximum packet size: a broker drops what exceeds one, and tells nobody.
                    ..v5::ConnectProperties::new()
                }),
            },
            None,
            wanted
                .login
                .as_ref()
                .map(|(user, password)| v5::Login::new(user.clone(), password.clone())),
        )),
    }
}

/// SUBSCRIBE, packet id 1; of retained messages only those of new subscriptions (version 5).
pub fn subscribe(wanted: &Wanted) -> Option<Bytes> {
    let filters = wanted.filters.iter();
    match wanted.version {
        Version::V4 => {
            let qos = match wanted.qos {
                2 => QoS4::ExactlyOnce,
                _ => QoS4::AtLeastOnce,
            };
            let filters = filters.map(|f| v4::SubscribeFilter::new(f.clone(), qos));
            let mut packet = v4::Subscribe::new_many(filters);
            packet.pkid = 1;
            write_v4(&v4::Packet::Subscribe(packet))
        }
        Version::V5 => {
            let qos = match wanted.qos {
                2 => QoS5::ExactlyOnce,
                _ => QoS5::AtLeastOnce,
            };
            let filters = filters.map(|f| v5::Filter {
                path: f.clone(),
                qos,
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
                ..v5::Filter::default()
            });
            let mut packet = v5::Subscribe::new_many(filters, None);
            packet.pkid = 1;
            write_v5(&v5::Packet::Subscribe(packet))
        }
    }
}

/// PUBACK or PUBREC; nothing for QoS 0. The short forms are the same in both versions.
pub fn acknowledge(way: Way) -> Option<Bytes> {
    match way {
        Way::Once => None,
        Way::Acked(id) => Some(short(0x40, id)),
        Way::Received(id) => Some(short(0x50, id)),
    }
}

/// PUBCOMP
pub fn complete(id: u16) -> Bytes {
    short(0x70, id)
}

/// PINGREQ
pub fn ping() -> Bytes {
    Bytes::from_static(&[0xc0, 0])
}

/// DISCONNECT; the session stays.
pub fn disconnect() -> Bytes {
    Bytes::from_static(&[0xe0, 0])
}

fn short(first: u8, id: u16) -> Bytes {
    let [high, low] = id.to_be_bytes();
    Bytes::copy_from_slice(&[first, 2, high, low])
}

fn write_v4(packet: &v4::Packet) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let written = packet.write(&mut out, usize::MAX).is_ok();
    written.then(|| out.freeze())
}

fn write_v5(packet: &v5::Packet) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let written = packet.write(&mut out, None).is_ok();
    written.then(|| out.freeze())
}
