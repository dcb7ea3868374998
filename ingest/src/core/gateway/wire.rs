//! The messages of the uplink (docs/FORMATS.md 2): what a gateway says as a DEALER, and what it hears.
//!
//! ```text
//! out  frame|birth  stream  payload  receive time        in  ack  stream boot first last
//!      status  device  online|offline                        nack stream boot seq reason
//!      reply   device  id  json                              cmd  device json ◀─▶ cmd-ack device id
//!                                                                 (or with when it lapses, i64 ns)
//!                                                            replied device id
//!                                                            devices json
//!      checkpoint  text                                      checkpoint text
//! ```
//!
//! Numbers are u64, the receive time i64, big-endian. What cannot be read is ignored and counted: a node of
//! a later version may say more than we know (`archived` is the first of it).

use bytes::Bytes;
use chordae_base::{DeviceId, StreamKey, StreamName, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{book::Answer, record::Item};

/// A message: its parts.
pub type Parts = Vec<Bytes>;

/// A device behind this gateway, as the node upstream knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub id: DeviceId,
    /// Streams it may publish; empty = any.
    #[serde(default)]
    pub streams: Vec<StreamName>,
    /// A disabled one is refused.
    pub enabled: bool,
    /// Serials of its revoked certificates.
    #[serde(default)]
    pub revoked: Vec<String>,
}

/// What the node upstream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What became of items.
    Answer(Answer),
    /// A command for a device.
    Command {
        /// Whom it is for.
        device: DeviceId,
        /// The command's id, from the JSON.
        id: String,
        /// The JSON object without it.
        body: String,
        /// When it lapses, if the node says so.
        expires_ns: Option<i64>,
    },
    /// A reply is durable upstream.
    Replied {
        /// The command's id.
        id: String,
    },
    /// The devices behind this gateway: replaces what was known.
    Devices(Vec<Listed>),
    /// The newest checkpoint of the node's log, to be kept.
    Checkpoint(String),
    /// Something that this version does not know.
    Other,
}

/// A birth or frame.
pub fn item(item: &Item) -> Parts {
    telemetry(item.birth, &item.stream, item.payload.clone(), item.recv_ns)
}

/// A known birth, again.
pub fn announcement(stream: &StreamKey, birth: Bytes, recv_ns: i64) -> Parts {
    telemetry(true, stream, birth, recv_ns)
}

fn telemetry(birth: bool, stream: &StreamKey, payload: Bytes, recv_ns: i64) -> Parts {
    let word: &[u8] = if birth { b"birth" } else { b"frame" };
    let recv = Bytes::copy_from_slice(&recv_ns.to_be_bytes());
    vec![
        Bytes::from_static(word),
        stream.to_string().into(),
        payload,
        recv,
    ]
}

/// A device's status, as it stands in its topic.
pub fn status(device: &DeviceId, status: Bytes) -> Parts {
    vec![
        Bytes::from_static(b"status"),
        device.to_string().into(),
        status,
    ]
}

/// A device's reply to a command.
pub fn reply(device: &DeviceId, id: &str, json: Bytes) -> Parts {
    vec![
        Bytes::from_static(b"reply"),
        device.to_string().into(),
        id.to_owned().into(),
        json,
    ]
}

/// A command lies here, durable.
pub fn command_taken(device: &DeviceId, id: &str) -> Parts {
    vec![
        Bytes::from_static(b"cmd-ack"),
        device.to_string().into(),
        id.to_owned().into(),
    ]
}

/// What this gateway was given to keep, or nothing; first on every connection.
pub fn checkpoint(kept: &str) -> Parts {
    vec![
        Bytes::from_static(b"checkpoint"),
        Bytes::copy_from_slice(kept.as_bytes()),
    ]
}

/// Reads a message.
pub fn read(parts: &[Bytes]) -> Heard {
    understood(parts).unwrap_or(Heard::Other)
}

fn understood(parts: &[Bytes]) -> Option<Heard> {
    let words: Vec<&[u8]> = parts.iter().map(|part| part.as_ref()).collect();
    match words.as_slice() {
        [b"ack", stream, boot, first, last] => Some(Heard::Answer(Answer::Ack {
            stream: text(stream)?.parse().ok()?,
            boot: number(boot)?,
            first: number(first)?,
            last: number(last)?,
        })),
        [b"nack", stream, boot, seq, reason] => Some(Heard::Answer(Answer::Nack {
            stream: text(stream)?.parse().ok()?,
            boot: number(boot)?,
            number: number(seq)?,
            reason: text(reason)?.to_owned(),
        })),
        [b"cmd", device, json] => command(device, json, None),
        [b"cmd", device, json, expires] => command(device, json, Some(expires)),
        [b"replied", _, id] => Some(Heard::Replied {
            id: text(id)?.to_owned(),
        }),
        [b"devices", json] => devices(json).map(Heard::Devices),
        [b"checkpoint", checkpoint] if checkpoint.len() <= limits::CHECKPOINT_BYTES_MAX => {
            Some(Heard::Checkpoint(text(checkpoint)?.to_owned()))
        }
        _ => None,
    }
}

fn command(device: &[u8], json: &[u8], expires: Option<&[u8]>) -> Option<Heard> {
    let mut object: serde_json::Map<String, Value> = serde_json::from_slice(json).ok()?;
    let Some(Value::String(id)) = object.remove("id") else {
        return None;
    };
    let expires_ns = match expires {
        Some(bytes) => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        None => None,
    };
    let device = DeviceId::new(text(device)?).ok()?;
    Some(Heard::Command {
        device,
        id,
        body: Value::Object(object).to_string(),
        expires_ns,
    })
}

/// Where a device's status is retained.
pub fn status_topic(device: &DeviceId) -> String {
    format!("chordae/v1/{device}/status")
}

/// Reads a list of devices; also that of the file.
pub fn devices(json: &[u8]) -> Option<Vec<Listed>> {
    let listed: Vec<Listed> = serde_json::from_slice(json).ok()?;
    (listed.len() <= limits::GATEWAY_DEVICES_MAX).then_some(listed)
}

fn text(part: &[u8]) -> Option<&str> {
    std::str::from_utf8(part).ok()
}

fn number(part: &[u8]) -> Option<u64> {
    part.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gateway::record::BIRTH_NUMBER;

    fn parts(words: &[&[u8]]) -> Parts {
        words
            .iter()
            .map(|word| Bytes::copy_from_slice(word))
            .collect()
    }

    #[test]
    fn reads_what_the_node_says_and_nothing_else() {
        let n = |n: u64| n.to_be_bytes();
        let ack = read(&parts(&[b"ack", b"bed-7/ecg", &n(7), &n(0), &n(4)]));
        let stream: StreamKey = "bed-7/ecg".parse().unwrap();
        let want = Answer::Ack {
            stream: stream.clone(),
            boot: 7,
            first: 0,
            last: 4,
        };
        assert_eq!(ack, Heard::Answer(want));
        let nack = read(&parts(&[
            b"nack",
            b"bed-7/ecg",
            &n(7),
            &n(BIRTH_NUMBER),
            b"boot-reused",
        ]));
        let want = Answer::Nack {
            stream,
            boot: 7,
            number: BIRTH_NUMBER,
            reason: "boot-reused".into(),
        };
        assert_eq!(nack, Heard::Answer(want));
        let command = |expires_ns| Heard::Command {
            device: "bed-7".parse().unwrap(),
            id: "c1".into(),
            body: r#"{"do":"stop"}"#.into(),
            expires_ns,
        };
        let json = br#"{"id":"c1","do":"stop"}"#;
        assert_eq!(read(&parts(&[b"cmd", b"bed-7", json])), command(None));
        assert_eq!(
            read(&parts(&[b"cmd", b"bed-7", json, &n(9)])),
            command(Some(9))
        );
        let list = read(&parts(&[
            b"devices",
            br#"[{"id":"bed-7","streams":["ecg"],"enabled":true}]"#,
        ]));
        assert!(matches!(list, Heard::Devices(l) if l.len() == 1));
        let others: &[&[&[u8]]] = &[
            &[],
            &[b"ack"],
            &[b"ack", b"bed-7/ecg", &n(7), &n(0), &[0; 7]],
            &[b"ack", b"BED/ecg", &n(7), &n(0), &n(1)],
            &[b"archived", b"bed-7/ecg", &n(7), &n(0), &n(1)],
            &[b"cmd", b"bed-7", b"{}"],
            &[b"devices", b"{}"],
        ];
        for other in others {
            assert_eq!(read(&parts(other)), Heard::Other, "{other:?}");
        }
    }
}
