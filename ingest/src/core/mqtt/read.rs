//! Bytes of a client to a [`Packet`]: held to the standard and decoded in one walk, without copying.
//!
//! Why not the codec of rumqttc, which this house uses as a client: it lets through reserved flags, packet
//! id 0, doubled, foreign and overlapping properties, trailing bytes and NUL in texts, so that everything
//! had to be walked before it anyway; it refuses what the standard allows (passwords that are not UTF-8,
//! the short forms of DISCONNECT); and it copies each topic. Once every field is visited to be checked,
//! decoding it is a line. In the tests it speaks the other side: what it writes is read here, and the
//! reverse.

use super::{
    framing::{Broken, Raw, Version},
    packet::{Connect, Packet, Publish, kind},
    property,
    walk::{Text, Value, Walk},
};
use crate::core::exchange::message::{Message, Properties, Will, Wish};

/// What the first fields of a CONNECT say, before the rest can be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A version we speak.
    Ours(Version),
    /// Another level or name; refuse in this version's words.
    Other(Version),
}

/// Reads protocol name and level.
///
/// # Errors
/// `0x81` when they are not there.
pub fn level(raw: &Raw) -> Result<Level, Broken> {
    let mut walk = Walk::new(raw);
    let name = walk.binary()?;
    Ok(match (name.as_ref(), walk.u8()?) {
        (b"MQTT", 4) => Level::Ours(Version::V4),
        (b"MQTT", 5) => Level::Ours(Version::V5),
        (b"MQTT", level) if level > 5 => Level::Other(Version::V5),
        _ => Level::Other(Version::V4),
    })
}

/// Checks and decodes a packet of a client from end to end.
///
/// # Errors
/// Whatever is wrong with it; the connection ends.
pub fn decode(version: Version, raw: &Raw) -> Result<Packet, Broken> {
    flags(raw)?;
    let mut walk = Walk::new(raw);
    let packet = match raw.kind {
        kind::CONNECT => Packet::Connect(Box::new(connect(version, &mut walk)?)),
        // The payload is all that is left: nothing can trail it.
        kind::PUBLISH => return publish(version, raw.flags, walk).map(Packet::Publish),
        kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP => {
            let id = walk.packet_id()?;
            let (reason, _) = reason(version, raw.kind, &mut walk)?;
            match raw.kind {
                kind::PUBACK => Packet::Acked(id),
                kind::PUBREC => Packet::Received(id, reason < 0x80),
                kind::PUBREL => Packet::Released(id),
                _ => Packet::Completed(id),
            }
        }
        kind::SUBSCRIBE => subscribe(version, &mut walk)?,
        kind::UNSUBSCRIBE => {
            let id = walk.packet_id()?;
            walk.properties(version, kind::UNSUBSCRIBE, |_, _| {})?;
            let mut filters = vec![walk.text()?.as_str().to_owned()];
            while !walk.is_empty() {
                filters.push(walk.text()?.as_str().to_owned());
            }
            Packet::Unsubscribe(id, filters)
        }
        kind::PINGREQ => Packet::Ping,
        kind::DISCONNECT => {
            let (reason, expiry_s) = reason(version, kind::DISCONNECT, &mut walk)?;
            Packet::Disconnect { reason, expiry_s }
        }
        _ => return Err(Broken::protocol("packet-type")),
    };
    if walk.is_empty() {
        Ok(packet)
    } else {
        Err(Broken::malformed("trailing-bytes"))
    }
}

fn flags(raw: &Raw) -> Result<(), Broken> {
    let fits = match raw.kind {
        kind::PUBLISH => {
            let (qos, dup) = (raw.flags >> 1 & 3, raw.flags & 8 != 0);
            qos < 3 && !(qos == 0 && dup)
        }
        kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::PUBREL => raw.flags == 2,
        _ => raw.flags == 0,
    };
    if fits {
        Ok(())
    } else {
        Err(Broken::malformed("packet-flags"))
    }
}

/// Reason and properties may be left out from the end; version 3.1.1 has neither. Of the properties only
/// the session expiry of a DISCONNECT matters.
fn reason(version: Version, packet: u8, walk: &mut Walk) -> Result<(u8, Option<u32>), Broken> {
    let mut expiry_s = None;
    if version == Version::V4 || walk.is_empty() {
        return Ok((0, None));
    }
    let reason = walk.u8()?;
    if !walk.is_empty() {
        walk.properties(version, packet, |id, value| {
            if let (property::SESSION_EXPIRY, Value::Number(n)) = (id, value) {
                expiry_s = Some(n);
            }
        })?;
    }
    Ok((reason, expiry_s))
}

fn connect(version: Version, walk: &mut Walk) -> Result<Connect, Broken> {
    walk.binary()?;
    walk.u8()?;
    let flags = walk.u8()?;
    let keep_alive = walk.u16()?;
    let [clean, will, password, user] = [2, 4, 0x40, 0x80].map(|bit| flags & bit != 0);
    let lone_password = version == Version::V4 && password && !user;
    let (qos, retain) = (flags >> 3 & 3, flags & 0x20 != 0);
    if flags & 1 != 0 || lone_password || (!will && flags & 0x38 != 0) || qos == 3 {
        return Err(Broken::malformed("connect-flags"));
    }
    let mut connect = Connect {
        client_id: String::new(),
        clean,
        keep_alive,
        will: None,
        // Without `clean` a session of version 3.1.1 has no end of its own.
        expiry_s: if version == Version::V4 && !clean {
            u32::MAX
        } else {
            0
        },
        receive_max: u16::MAX,
        packet_max: None,
        alias_max: 0,
        reasons: version == Version::V5,
        authentication: false,
    };
    walk.properties(version, kind::CONNECT, |id, value| match (id, value) {
        (property::SESSION_EXPIRY, Value::Number(n)) => connect.expiry_s = n,
        (property::RECEIVE_MAX, Value::Number(n)) => {
            connect.receive_max = u16::try_from(n).unwrap_or(u16::MAX);
        }
        (property::PACKET_MAX, Value::Number(n)) => connect.packet_max = Some(n),
        (property::ALIAS_MAX, Value::Number(n)) => {
            connect.alias_max = u16::try_from(n).unwrap_or(u16::MAX);
        }
        (property::WANTS_PROBLEMS, Value::Number(n)) => connect.reasons = n != 0,
        (property::AUTH_METHOD | property::AUTH_DATA, _) => connect.authentication = true,
        _ => {}
    })?;
    connect.client_id = walk.text()?.as_str().to_owned();
    if will {
        connect.will = Some(last_will(version, qos, retain, walk)?);
    }
    if user {
        walk.text()?;
    }
    if password {
        walk.binary()?;
    }
    Ok(connect)
}

fn last_will(version: Version, qos: u8, retain: bool, walk: &mut Walk) -> Result<Will, Broken> {
    let mut properties = Properties::default();
    let mut delay_s = 0;
    walk.properties(version, property::WILL, |id, value| match (id, value) {
        (property::WILL_DELAY, Value::Number(n)) => delay_s = n,
        (id, value) => pass_on(&mut properties, id, value),
    })?;
    let topic = topic_name(walk.text()?)?;
    answerable(&properties)?;
    let message = Message {
        topic: topic.as_str().to_owned(),
        payload: walk.binary()?,
        qos,
        retain,
        properties,
    };
    Ok(Will { message, delay_s })
}

fn publish(version: Version, flags: u8, mut walk: Walk) -> Result<Publish, Broken> {
    let topic = topic_name(walk.text()?)?;
    let qos = flags >> 1 & 3;
    let id = if qos > 0 { walk.packet_id()? } else { 0 };
    let mut alias = None;
    let mut properties = Properties::default();
    walk.properties(version, kind::PUBLISH, |id, value| match (id, value) {
        (property::ALIAS, Value::Number(n)) => alias = u16::try_from(n).ok(),
        (id, value) => pass_on(&mut properties, id, value),
    })?;
    answerable(&properties)?;
    Ok(Publish {
        topic,
        qos,
        id,
        dup: flags & 8 != 0,
        retain: flags & 1 != 0,
        alias,
        properties,
        payload: walk.rest(),
    })
}

fn topic_name(topic: Text) -> Result<Text, Broken> {
    if topic.as_str().contains(['+', '#']) {
        return Err(Broken {
            code: 0x90,
            why: "topic-wildcard",
        });
    }
    Ok(topic)
}

fn answerable(properties: &Properties) -> Result<(), Broken> {
    match &properties.response_topic {
        Some(topic) if topic.contains(['+', '#']) => Err(Broken::protocol("response-topic")),
        _ => Ok(()),
    }
}

fn pass_on(properties: &mut Properties, id: u8, value: Value) {
    let owned = |text: &Text| text.as_str().to_owned();
    match (id, value) {
        (property::PAYLOAD_FORMAT, Value::Number(n)) => {
            properties.payload_format = u8::try_from(n).ok();
        }
        (property::MESSAGE_EXPIRY, Value::Number(n)) => properties.expiry_s = Some(n),
        (property::CONTENT_TYPE, Value::Text(text)) => properties.content_type = Some(owned(&text)),
        (property::RESPONSE_TOPIC, Value::Text(text)) => {
            properties.response_topic = Some(owned(&text));
        }
        (property::CORRELATION, Value::Binary(bytes)) => properties.correlation = Some(bytes),
        (property::USER, Value::Pair(key, value)) => {
            properties.user.push((owned(&key), owned(&value)));
        }
        _ => {}
    }
}

fn subscribe(version: Version, walk: &mut Walk) -> Result<Packet, Broken> {
    let id = walk.packet_id()?;
    let mut identifier = None;
    walk.properties(version, kind::SUBSCRIBE, |id, value| {
        if let (property::SUBSCRIPTION, Value::Number(n)) = (id, value) {
            identifier = Some(n);
        }
    })?;
    let reserved = match version {
        Version::V4 => 0xfc,
        Version::V5 => 0xc0,
    };
    let mut wishes = Vec::new();
    loop {
        let filter = walk.text()?.as_str().to_owned();
        let options = walk.u8()?;
        let handling = options >> 4 & 3;
        if options & reserved != 0 || options & 3 == 3 || handling == 3 {
            return Err(Broken::malformed("subscribe-options"));
        }
        let no_local = options & 4 != 0;
        if no_local && filter.starts_with("$share/") {
            return Err(Broken::protocol("no-local-shared"));
        }
        wishes.push(Wish {
            filter,
            qos: options & 3,
            no_local,
            retain_as_published: options & 8 != 0,
            retain_handling: handling,
            identifier,
        });
        if walk.is_empty() {
            return Ok(Packet::Subscribe(id, wishes));
        }
    }
}
