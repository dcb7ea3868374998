//! From a payload to [`Content`]: bytes that break formats.md 2 become [`Content::Malformed`] with the
//! reason as label, never an error of ours.

use bytes::Bytes;
use chordae_base::{
    limits,
    wire::{Birth, Frame, Glance, Malformed, reason},
};

use super::arrival::Content;

/// How a payload is encoded; the topic says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `.../birth`
    Birth,
    /// `.../birth.json`
    BirthJson,
    /// `.../frame`
    Frame,
    /// `.../frame.json`
    FrameJson,
}

/// Memory that one payload after another is decoded in.
#[derive(Debug, Default)]
pub struct Scratch {
    bytes: Vec<u8>,
}

/// As [`decode_in`], with memory of its own.
pub fn decode(shape: Shape, payload: Bytes) -> Content {
    decode_in(&mut Scratch::default(), shape, payload)
}

/// Decodes a payload. A JSON frame is kept as protobuf, so the log and the live topic hold one form.
pub fn decode_in(scratch: &mut Scratch, shape: Shape, payload: Bytes) -> Content {
    if payload.len() > limits::PAYLOAD_BYTES_MAX {
        // Only its beginning is kept: a quarantine record must not be larger than a payload may be.
        let why = format!(
            "{} bytes, at most {}",
            payload.len(),
            limits::PAYLOAD_BYTES_MAX
        );
        return Content::Malformed(
            reason::PAYLOAD_SIZE,
            why,
            payload.slice(..limits::PAYLOAD_BYTES_MAX),
        );
    }
    let content = match shape {
        Shape::Birth => Birth::decode(&payload).map(Content::Birth),
        Shape::BirthJson => Birth::from_json(&payload).map(Content::Birth),
        Shape::Frame => Glance::read(&payload, &mut scratch.bytes)
            .map(|glance| Content::Frame(glance, payload.clone())),
        Shape::FrameJson => Frame::from_json(&payload).and_then(|f| {
            let encoded = Bytes::from(f.encode());
            if encoded.len() > limits::PAYLOAD_BYTES_MAX {
                let why = "longer than a payload may be, once encoded".into();
                return Err(Malformed {
                    reason: reason::PAYLOAD_SIZE,
                    why,
                });
            }
            Ok(Content::Frame(Glance::from(&f), encoded))
        }),
    };
    content.unwrap_or_else(|bad| Content::Malformed(bad.reason, bad.why, payload))
}
