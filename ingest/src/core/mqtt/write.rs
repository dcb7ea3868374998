//! What we send, written straight into the connection's buffer. Version 3.1.1 has no reasons: what it
//! cannot say, the session does not ask for.

use bytes::{BufMut, Bytes, BytesMut};

use super::{framing::Version, packet::kind, property};
use crate::core::exchange::message::Properties;

/// Bytes of a reason string; longer ones are cut.
const REASON_BYTES_MAX: usize = 256;

/// What an accepted CONNECT is told beside its code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// There was a session to go on with.
    pub present: bool,
    /// The session expiry that counts, if it is not the one asked for.
    pub expiry_s: Option<u32>,
    /// Publishes with QoS > 0 that we take at a time.
    pub receive_max: u16,
    /// Greatest packet that we take.
    pub packet_max: u32,
    /// The client id we chose.
    pub assigned: Option<&'a str>,
    /// Topic aliases that we take.
    pub alias_max: u16,
    /// Whether shared subscriptions may be had.
    pub shared: bool,
    /// The keep-alive that counts, if it is not the one asked for.
    pub keep_alive: Option<u16>,
}

/// CONNACK of an accepted CONNECT.
pub fn accepted(version: Version, terms: &Terms<'_>, out: &mut BytesMut) {
    if version == Version::V4 {
        out.put_slice(&[kind::CONNACK << 4, 2, u8::from(terms.present), 0]);
        return;
    }
    let mut props = BytesMut::new();
    if let Some(n) = terms.expiry_s {
        put_four(property::SESSION_EXPIRY, n, &mut props);
    }
    put_two(property::RECEIVE_MAX, terms.receive_max, &mut props);
    put_four(property::PACKET_MAX, terms.packet_max, &mut props);
    if let Some(id) = terms.assigned {
        props.put_u8(property::ASSIGNED_CLIENT);
        put_text(id, &mut props);
    }
    put_two(property::ALIAS_MAX, terms.alias_max, &mut props);
    if !terms.shared {
        props.put_slice(&[property::SHARED_AVAILABLE, 0]);
    }
    if let Some(n) = terms.keep_alive {
        put_two(property::KEEP_ALIVE, n, &mut props);
    }
    let body = [u8::from(terms.present), 0];
    put_packet(kind::CONNACK << 4, &body, Some(&props), &[], out);
}

/// CONNACK of a refused CONNECT: a version 5 code, which version 3.1.1 hears as the nearest of its own.
pub fn refused(version: Version, code: u8, why: &str, out: &mut BytesMut) {
    if version == Version::V5 {
        let props = reason(Some(why));
        return put_packet(kind::CONNACK << 4, &[0, code], Some(&props), &[], out);
    }
    let code = match code {
        0x81 | 0x82 => return,
        0x84 => 1,
        0x85 => 2,
        0x88 | 0x89 | 0x97 | 0x9f => 3,
        _ => 5,
    };
    out.put_slice(&[kind::CONNACK << 4, 2, 0, code]);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn ack(version: Version, what: u8, id: u16, code: u8, why: Option<&str>, out: &mut BytesMut) {
    let flags = if what == kind::PUBREL { 2 } else { 0 };
    let first = what << 4 | flags;
    let [high, low] = id.to_be_bytes();
    if version == Version::V4 || (code == 0 && why.is_none()) {
        return out.put_slice(&[first, 2, high, low]);
    }
    put_packet(first, &[high, low, code], Some(&reason(why)), &[], out);
}

/// SUBACK; codes of refusal as version 5 has them.
pub fn suback(version: Version, id: u16, codes: &[u8], out: &mut BytesMut) {
    if version == Version::V4 {
        let codes: Vec<u8> = codes.iter().map(|code| *code.min(&0x80)).collect();
        return put_packet(kind::SUBACK << 4, &id.to_be_bytes(), None, &codes, out);
    }
    let none = BytesMut::new();
    put_packet(
        kind::SUBACK << 4,
        &id.to_be_bytes(),
        Some(&none),
        codes,
        out,
    );
}

/// UNSUBACK: whether each filter had been subscribed.
pub fn unsuback(version: Version, id: u16, known: &[bool], out: &mut BytesMut) {
    if version == Version::V4 {
        return put_packet(kind::UNSUBACK << 4, &id.to_be_bytes(), None, &[], out);
    }
    let codes: Vec<u8> = known.iter().map(|k| if *k { 0 } else { 0x11 }).collect();
    let none = BytesMut::new();
    put_packet(
        kind::UNSUBACK << 4,
        &id.to_be_bytes(),
        Some(&none),
        &codes,
        out,
    );
}

/// PINGRESP
pub fn pong(out: &mut BytesMut) {
    out.put_slice(&[kind::PINGRESP << 4, 0]);
}

/// DISCONNECT; version 3.1.1 has none, it just closes.
pub fn disconnect(version: Version, code: u8, why: &str, out: &mut BytesMut) {
    if version == Version::V5 {
        put_packet(
            kind::DISCONNECT << 4,
            &[code],
            Some(&reason(Some(why))),
            &[],
            out,
        );
    }
}

/// A PUBLISH of ours.
#[derive(Debug, Clone, Copy)]
pub struct Publishing<'a> {
    /// May be empty when an alias stands for it.
    pub topic: &'a str,
    /// Topic alias.
    pub alias: Option<u16>,
    /// 0-2.
    pub qos: u8,
    /// 0 at QoS 0.
    pub id: u16,
    /// It may have been delivered before.
    pub dup: bool,
    /// The retain flag.
    pub retain: bool,
    /// What travels with it.
    pub properties: &'a Properties,
    /// Subscription identifiers.
    pub identifiers: &'a [u32],
    /// The message.
    pub payload: &'a Bytes,
}

/// Writes a PUBLISH; false, and nothing written, if it is longer than the client takes.
pub fn publish(
    version: Version,
    p: &Publishing<'_>,
    packet_max: usize,
    out: &mut BytesMut,
) -> bool {
    let props = (version == Version::V5).then(|| message(p));
    let mut length = 2 + p.topic.len() + if p.qos > 0 { 2 } else { 0 } + p.payload.len();
    if let Some(props) = &props {
        length += number_bytes(props.len()) + props.len();
    }
    let too_long = 1 + number_bytes(length) + length > packet_max;
    if too_long || p.topic.len() > usize::from(u16::MAX) {
        return false;
    }
    let flags = u8::from(p.dup) << 3 | p.qos << 1 | u8::from(p.retain);
    out.reserve(length + 5);
    out.put_u8(kind::PUBLISH << 4 | flags);
    put_number(length, out);
    put_text(p.topic, out);
    if p.qos > 0 {
        out.put_u16(p.id);
    }
    if let Some(props) = &props {
        put_number(props.len(), out);
        out.put_slice(props);
    }
    out.put_slice(p.payload);
    true
}

fn message(p: &Publishing<'_>) -> BytesMut {
    let mut props = BytesMut::new();
    let Properties {
        payload_format,
        expiry_s,
        content_type,
        response_topic,
        correlation,
        user,
    } = p.properties;
    if let Some(n) = payload_format {
        props.put_slice(&[property::PAYLOAD_FORMAT, *n]);
    }
    if let Some(n) = expiry_s {
        put_four(property::MESSAGE_EXPIRY, *n, &mut props);
    }
    if let Some(n) = p.alias {
        put_two(property::ALIAS, n, &mut props);
    }
    for (id, text) in [
        (property::CONTENT_TYPE, content_type),
        (property::RESPONSE_TOPIC, response_topic),
    ] {
        if let Some(text) = text {
            props.put_u8(id);
            put_text(text, &mut props);
        }
    }
    if let Some(bytes) = correlation {
        props.put_u8(property::CORRELATION);
        put_binary(bytes, &mut props);
    }
    for (key, value) in user {
        props.put_u8(property::USER);
        put_text(key, &mut props);
        put_text(value, &mut props);
    }
    for n in p.identifiers {
        props.put_u8(property::SUBSCRIPTION);
        put_number(usize::try_from(*n).unwrap_or(0), &mut props);
    }
    props
}

fn reason(why: Option<&str>) -> BytesMut {
    let mut props = BytesMut::new();
    if let Some(why) = why {
        props.put_u8(property::REASON);
        let mut ends = (0..=REASON_BYTES_MAX.min(why.len())).rev();
        let cut = ends.find(|end| why.is_char_boundary(*end));
        put_text(why.get(..cut.unwrap_or(0)).unwrap_or_default(), &mut props);
    }
    props
}

/// First byte, length, body, properties with their length (`None`: version 3.1.1), rest.
fn put_packet(first: u8, body: &[u8], props: Option<&BytesMut>, rest: &[u8], out: &mut BytesMut) {
    let properties = props.map_or(0, |p| number_bytes(p.len()) + p.len());
    out.put_u8(first);
    put_number(body.len() + properties + rest.len(), out);
    out.put_slice(body);
    if let Some(props) = props {
        put_number(props.len(), out);
        out.put_slice(props);
    }
    out.put_slice(rest);
}

fn put_two(id: u8, n: u16, out: &mut BytesMut) {
    out.put_u8(id);
    out.put_u16(n);
}

fn put_four(id: u8, n: u32, out: &mut BytesMut) {
    out.put_u8(id);
    out.put_u32(n);
}

fn put_text(text: &str, out: &mut BytesMut) {
    put_binary(text.as_bytes(), out);
}

/// What came in a packet has at most 65,535 bytes, and what we say ourselves is short.
fn put_binary(bytes: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

fn number_bytes(n: usize) -> usize {
    match n {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn put_number(mut n: usize, out: &mut BytesMut) {
    loop {
        let low = u8::try_from(n & 0x7f).unwrap_or(0);
        n >>= 7;
        if n == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}
