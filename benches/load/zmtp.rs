//! What is spoken to a ROUTER: ZMTP 3.0, NULL, as a DEALER; `["frame", stream, payload]` there,
//! `["ack", stream, boot, first, last]` back, which may speak for many frames.

use chordae_base::{Failure, Outcome};

use super::{
    Heard, Speech,
    frames::{Frames, Payload},
    mqtt::Mqtt,
};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
const GREETING: usize = 64;
/// The seq that stands for a birth.
const BIRTH: u64 = u64::MAX;

/// See the module.
#[derive(Debug, Clone)]
pub struct Zmtp {
    stream: String,
    greeted: bool,
    sent: u16,
}

impl Zmtp {
    /// The device of this number.
    pub fn new(number: usize) -> Self {
        Self {
            stream: format!("{}/{}", Mqtt::device(number), Mqtt::STREAM),
            greeted: false,
            sent: 0,
        }
    }

    fn message(&self, word: &str, payload: Payload<'_>, out: &mut Vec<u8>) {
        put(out, MORE, word.as_bytes());
        put(out, MORE, self.stream.as_bytes());
        put_head(out, 0, payload.len());
        payload.put(out);
    }
}

fn put_head(out: &mut Vec<u8>, flags: u8, length: usize) {
    match u8::try_from(length) {
        Ok(short) => out.extend_from_slice(&[flags, short]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

fn put(out: &mut Vec<u8>, flags: u8, part: &[u8]) {
    put_head(out, flags, part.len());
    out.extend_from_slice(part);
}

/// Flags, body and whole length of the first frame; `None` if it is not whole yet.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (flags, rest) = bytes.split_first()?;
    let (length, head) = if flags & LONG == 0 {
        (usize::from(*rest.first()?), 2_usize)
    } else {
        let length = u64::from_be_bytes(*rest.first_chunk()?);
        (usize::try_from(length).ok()?, 9)
    };
    let body = bytes.get(head..head.checked_add(length)?)?;
    Some((*flags, body, head + length))
}

impl Speech for Zmtp {
    fn hello(&mut self, frames: &Frames, out: &mut Vec<u8>) {
        let mut greeting = [0; GREETING];
        for (at, bytes) in [(0, &[0xff][..]), (9, &[0x7f, 3, 0]), (12, b"NULL")] {
            if let Some(place) = greeting.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        out.extend_from_slice(&greeting);
        put(out, COMMAND, b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER");
        let birth = frames.birth().encode();
        self.message("birth", Payload::of(&birth), out);
    }

    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16 {
        self.message("frame", payload, out);
        let id = self.sent;
        self.sent = self.sent.wrapping_add(1);
        id
    }

    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>> {
        if !self.greeted {
            self.greeted = bytes.len() >= GREETING;
            return Ok(self.greeted.then_some((Heard::Nothing, GREETING)));
        }
        let (mut parts, mut used) = (Vec::new(), 0);
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let Some((flags, body, length)) = split(rest) else {
                return Ok(None);
            };
            used += length;
            if flags & COMMAND != 0 {
                return Ok(Some((Heard::Nothing, used)));
            }
            parts.push(body);
            if flags & MORE == 0 {
                break;
            }
        }
        let number = |part: &[u8]| part.try_into().ok().map(u64::from_be_bytes);
        if let [b"ack", _, _, first, last] = parts.as_slice()
            && let (Some(first), Some(last)) = (number(first), number(last))
        {
            // Numbers here are those of the frames, cut to 16 bits.
            return Ok(Some((
                match first {
                    BIRTH => Heard::Ready,
                    _ => Heard::Acknowledged(first as u16, last as u16),
                },
                used,
            )));
        }
        let said: Vec<_> = parts.iter().map(|p| String::from_utf8_lossy(p)).collect();
        Err(Failure::refused(format!("not acknowledged: {said:?}")))
    }
}
