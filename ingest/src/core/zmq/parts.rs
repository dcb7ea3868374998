//! What a DEALER says: its messages, read from their parts.
//!
//! ```text
//! frame|birth  {device}/{stream}  payload  [receive time, i64]
//! status       {device}           online|offline
//! reply        {device}           id       JSON
//! cmd-ack      {device}           id
//! checkpoint   text               from a gateway: what it was given last, or nothing
//! ```

use bytes::{Buf, Bytes};
use chordae_base::{DeviceId, StreamKey, limits};

use crate::core::{
    arrival::Content,
    decode::{self, Shape},
};

/// The seq that stands for a birth in acks and nacks. No frame may have it here.
pub const BIRTH: u64 = u64::MAX;

/// Reason of a frame that claims the number of the birth.
const SEQ: &str = "seq";

/// The text of a `checkpoint`, if that is what it is: all that a gateway says about nobody's device.
pub fn checkpoint(parts: &[Bytes]) -> Option<String> {
    let [word, checkpoint] = parts else {
        return None;
    };
    let fits = checkpoint.len() <= limits::CHECKPOINT_BYTES_MAX;
    let is_one = fits && word.as_ref() == b"checkpoint";
    text(checkpoint).filter(|_| is_one).map(str::to_owned)
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A birth or frame.
    Telemetry {
        /// Its stream.
        stream: StreamKey,
        /// Which of the two.
        shape: Shape,
        /// Protobuf.
        payload: Bytes,
        /// When a gateway received it, by its clock.
        relayed_ns: Option<i64>,
    },
    /// Whether a device is there.
    Status(DeviceId, bool),
    /// A device's reply to a command.
    Reply(DeviceId, String, Bytes),
    /// A command lies with the device (or its gateway), durable.
    Taken(DeviceId, String),
}

impl Said {
    /// Whom it speaks for.
    pub fn device(&self) -> &DeviceId {
        match self {
            Self::Telemetry { stream, .. } => &stream.device,
            Self::Status(device, _) | Self::Reply(device, ..) | Self::Taken(device, _) => device,
        }
    }

    /// Whether it says when a gateway received it.
    pub fn is_relayed(&self) -> bool {
        matches!(
            self,
            Self::Telemetry {
                relayed_ns: Some(_),
                ..
            }
        )
    }

    /// What a nack of it names, and by which number.
    pub fn addressee(&self) -> (String, Option<Number>) {
        match self {
            Self::Telemetry {
                stream,
                shape,
                payload,
                ..
            } => (stream.to_string(), claims(*shape, payload.clone())),
            other => (other.device().to_string(), None),
        }
    }

    /// The stream it is about, if it is a birth or frame.
    pub fn stream(&self) -> Option<&StreamKey> {
        match self {
            Self::Telemetry { stream, .. } => Some(stream),
            Self::Status(..) | Self::Reply(..) | Self::Taken(..) => None,
        }
    }
}

/// Reads a message; `None` for one that is none of ours.
pub fn read(parts: &[Bytes]) -> Option<Said> {
    let (word, rest) = parts.split_first()?;
    match (word.as_ref(), rest) {
        (b"frame", [stream, payload]) => telemetry(Shape::Frame, stream, payload, None),
        (b"birth", [stream, payload]) => telemetry(Shape::Birth, stream, payload, None),
        (b"frame", [stream, payload, at]) => telemetry(Shape::Frame, stream, payload, Some(at)),
        (b"birth", [stream, payload, at]) => telemetry(Shape::Birth, stream, payload, Some(at)),
        (b"status", [device, status]) => match status.as_ref() {
            b"online" => Some(Said::Status(name(device)?, true)),
            b"offline" => Some(Said::Status(name(device)?, false)),
            _ => None,
        },
        (b"reply", [device, id, json]) => {
            let fits = json.len() <= limits::REPLY_BYTES_MAX;
            fits.then_some(Said::Reply(name(device)?, command(id)?, json.clone()))
        }
        (b"cmd-ack", [device, id]) => Some(Said::Taken(name(device)?, command(id)?)),
        _ => None,
    }
}

fn telemetry(shape: Shape, stream: &Bytes, payload: &Bytes, at: Option<&Bytes>) -> Option<Said> {
    let relayed_ns = match at {
        Some(at) => Some(i64::from_be_bytes(at.as_ref().try_into().ok()?)),
        None => None,
    };
    Some(Said::Telemetry {
        stream: text(stream)?.parse().ok()?,
        shape,
        payload: payload.clone(),
        relayed_ns,
    })
}

fn name(part: &Bytes) -> Option<DeviceId> {
    DeviceId::new(text(part)?).ok()
}

fn command(part: &Bytes) -> Option<String> {
    let fits = (1..=limits::FILTER_BYTES_MAX).contains(&part.len());
    text(part).filter(|_| fits).map(str::to_owned)
}

fn text(part: &Bytes) -> Option<&str> {
    std::str::from_utf8(part).ok()
}

/// Boot and seq as acks and nacks name them.
pub type Number = (u64, u64);

/// Decodes a payload, with the number that its sender knows it by; of a broken payload as far as it says.
pub fn content(shape: Shape, payload: Bytes) -> (Content, Option<Number>) {
    let claimed = payload.clone();
    match decode::decode(shape, payload) {
        Content::Birth(birth) => {
            let boot = birth.boot;
            (Content::Birth(birth), Some((boot, BIRTH)))
        }
        Content::Frame(head, payload) if head.seq == BIRTH => {
            let why = "2^64-1 is the number of the birth here".to_owned();
            (
                Content::Malformed(SEQ, why, payload),
                Some((head.boot, BIRTH)),
            )
        }
        Content::Frame(head, payload) => {
            let number = (head.boot, head.seq);
            (Content::Frame(head, payload), Some(number))
        }
        malformed @ Content::Malformed(..) => (malformed, claims(shape, claimed)),
    }
}

/// The number that a payload claims, without believing anything else of it: fields 1 and 2 as far as it can
/// be read. `None` if it cannot be read at all.
pub fn claims(shape: Shape, mut payload: Bytes) -> Option<Number> {
    let (mut boot, mut seq, mut any) = (0, 0, payload.is_empty());
    while let Some((field, value)) = field(&mut payload) {
        any = true;
        match (field, value) {
            (1, Some(value)) => boot = value,
            (2, Some(value)) => seq = value,
            _ => {}
        }
    }
    if matches!(shape, Shape::Birth | Shape::BirthJson) {
        seq = BIRTH;
    }
    any.then_some((boot, seq))
}

/// The next field's number, with its value if it is a varint.
fn field(from: &mut Bytes) -> Option<(u64, Option<u64>)> {
    let tag = varint(from)?;
    let skip = match tag & 7 {
        0 => return Some((tag >> 3, Some(varint(from)?))),
        1 => 8,
        2 => usize::try_from(varint(from)?).ok()?,
        5 => 4,
        _ => return None,
    };
    if from.remaining() < skip {
        return None;
    }
    from.advance(skip);
    Some((tag >> 3, None))
}

fn varint(from: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
