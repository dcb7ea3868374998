//! What the door says, as parts.
//!
//! ```text
//! ack      {device}/{stream}  boot  first seq  last seq       a birth: both 2^64-1
//! nack     {device}/{stream}  boot  seq  reason               boot, seq empty: could not be read
//! cmd      {device}  JSON  [when it lapses, i64: to gateways]
//! replied  {device}  id
//! devices  JSON
//! checkpoint  text                                            to a gateway that keeps it
//! ```

use bytes::{Bytes, BytesMut};
use chordae_base::{DeviceId, StreamKey, StreamName};
use serde::Serialize;

use super::parts::{BIRTH, Number};
use crate::core::{ports::DeviceEntry, zmtp};

/// Bytes of a name that a nack gives back: no name of ours is longer.
const NAME_ECHOED_MAX: usize = 129;

/// A message or a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// These frames are durable.
    Ack(StreamKey, u64, u64, u64),
    /// The birth of this boot is durable.
    Born(StreamKey, u64),
    /// Not taken: the name as it was said, its number as far as it said one, the reason.
    Nack(Bytes, Option<Number>, &'static str),
    /// A command: its JSON, and for a gateway when it lapses.
    Command(DeviceId, String, Option<i64>),
    /// A reply is durable here, or nobody waits for it.
    Replied(DeviceId, String),
    /// Who is behind this gateway, as JSON.
    Devices(Bytes),
    /// The newest checkpoint of our log, to be kept.
    Checkpoint(String),
    /// Are you there?
    Ping,
    /// Yes.
    Pong(Bytes),
}

impl Outgoing {
    /// Appends it as it goes out.
    pub fn write(&self, out: &mut BytesMut) {
        let ack = |stream: &StreamKey, boot: u64, first: u64, last: u64, out: &mut BytesMut| {
            let stream = stream.to_string();
            let (boot, first, last) = (boot.to_be_bytes(), first.to_be_bytes(), last.to_be_bytes());
            zmtp::message(&[b"ack", stream.as_bytes(), &boot, &first, &last], out);
        };
        match self {
            Self::Ack(stream, boot, first, last) => ack(stream, *boot, *first, *last, out),
            Self::Born(stream, boot) => ack(stream, *boot, BIRTH, BIRTH, out),
            Self::Nack(name, number, reason) => {
                let name = name.get(..NAME_ECHOED_MAX).unwrap_or(name);
                let (boot, seq) = number.map_or_else(Default::default, |(boot, seq)| {
                    (boot.to_be_bytes().to_vec(), seq.to_be_bytes().to_vec())
                });
                zmtp::message(&[b"nack", name, &boot, &seq, reason.as_bytes()], out);
            }
            Self::Command(device, json, lapses_ns) => {
                let lapses = lapses_ns.map(i64::to_be_bytes);
                let mut parts: Vec<&[u8]> = vec![b"cmd", device.as_str().as_bytes()];
                parts.push(json.as_bytes());
                parts.extend(lapses.as_ref().map(|at| at.as_slice()));
                zmtp::message(&parts, out);
            }
            Self::Replied(device, id) => {
                let device = device.as_str().as_bytes();
                zmtp::message(&[b"replied", device, id.as_bytes()], out);
            }
            Self::Devices(json) => zmtp::message(&[&b"devices"[..], json], out),
            Self::Checkpoint(text) => zmtp::message(&[b"checkpoint", text.as_bytes()], out),
            Self::Ping => zmtp::ping(b"", out),
            Self::Pong(context) => zmtp::pong(context, out),
        }
    }
}

/// The JSON of `devices`.
pub fn devices(behind: &[(DeviceId, DeviceEntry)]) -> Bytes {
    #[derive(Serialize)]
    struct Listed<'a> {
        id: &'a DeviceId,
        streams: &'a [StreamName],
        enabled: bool,
        revoked: &'a [String],
    }
    let listed: Vec<_> = behind
        .iter()
        .map(|(id, entry)| Listed {
            id,
            streams: &entry.streams,
            enabled: entry.enabled,
            revoked: &entry.revoked,
        })
        .collect();
    // Names and flags always can be written.
    serde_json::to_vec(&listed).unwrap_or_default().into()
}
