//! The messages of the uplink (docs/FORMATS.md 2): what a gateway says as a DEALER, and what it hears.
//!
//! ```text
//! out  frame|birth  stream  payload  receive time        in  ack  stream boot first last
//!      status  device  online|offline                        nack stream boot seq reason
//!      reply   device  id  json                              cmd  device json ◀─▶ cmd-ack device id
//!                                                            replied device id
//!                                                            devices json
//! ```
//!
//! Numbers are u64, the receive time i64, big-endian. What cannot be read is ignored and counted: a node of
//! a later version may say more than we know (`archived` is the first of it).

use bytes::Bytes;
use chordae_base::{DeviceId, StreamKey, StreamName, limits};
use serde::{Deserialize, Serialize};

use super::{
    book::Answer,
    record::{BIRTH_NUMBER, Item},
};

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
        /// The JSON as it came.
        json: String,
    },
    /// A reply is durable upstream.
    Replied {
        /// The command's id.
        id: String,
    },
    /// The devices behind this gateway: replaces what was known.
    Devices(Vec<Listed>),
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
        [b"cmd", device, json] => {
            #[derive(Deserialize)]
            struct Named {
                id: String,
            }
            let named: Named = serde_json::from_slice(json).ok()?;
            Some(Heard::Command {
                device: DeviceId::new(text(device)?).ok()?,
                id: named.id,
                json: text(json)?.to_owned(),
            })
        }
        [b"replied", _, id] => Some(Heard::Replied {
            id: text(id)?.to_owned(),
        }),
        [b"devices", json] => devices(json).map(Heard::Devices),
        _ => None,
    }
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
        let Heard::Command { id, .. } =
            read(&parts(&[b"cmd", b"bed-7", br#"{"id":"c1","do":"stop"}"#]))
        else {
            panic!("no command");
        };
        assert_eq!(id, "c1");
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
