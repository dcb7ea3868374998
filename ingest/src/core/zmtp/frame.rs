//! Frames: flags, length, body. The length is judged before the body is awaited.
//!
//! ```text
//! flags: 0 more | 1 long | 2 command | 3-7 zero        length: 1 byte, or 8 if long
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Broken;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A frame off the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A part of a message, and whether more follow.
    Part(Bytes, bool),
    /// A command.
    Command(Bytes),
}

/// Takes one frame off the buffer if its body has at most `part_max` (`command_max`) bytes; `None`: more
/// bytes are needed.
///
/// # Errors
/// For reserved flags, a command with more to follow, and a length above the bound.
pub(super) fn take(
    buf: &mut BytesMut,
    part_max: usize,
    command_max: usize,
) -> Result<Option<Frame>, Broken> {
    let Some(flags) = buf.first().copied() else {
        return Ok(None);
    };
    if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
        return Err(Broken("zmtp-flags"));
    }
    let (body_at, length) = if flags & LONG == 0 {
        let Some(length) = buf.get(1) else {
            return Ok(None);
        };
        (2, u64::from(*length))
    } else {
        let Some(length) = buf.get(1..9).and_then(|b| b.try_into().ok()) else {
            return Ok(None);
        };
        (9, u64::from_be_bytes(length))
    };
    let command = flags & COMMAND != 0;
    let max = if command { command_max } else { part_max };
    let length = usize::try_from(length).ok().filter(|n| *n <= max);
    let Some(length) = length else {
        return Err(Broken("zmtp-length"));
    };
    if buf.len() < body_at + length {
        return Ok(None);
    }
    buf.advance(body_at);
    let body = buf.split_to(length).freeze();
    Ok(Some(match command {
        true => Frame::Command(body),
        false => Frame::Part(body, flags & MORE != 0),
    }))
}

/// Appends a message of these parts. No parts are no message.
pub fn message<P: AsRef<[u8]>>(parts: &[P], out: &mut BytesMut) {
    for (n, part) in parts.iter().enumerate() {
        let more = if n + 1 < parts.len() { MORE } else { 0 };
        head(more, part.as_ref().len(), out);
        out.put_slice(part.as_ref());
    }
}

/// Appends the flags and length of a command; its body follows.
pub(super) fn command(length: usize, out: &mut BytesMut) {
    head(COMMAND, length, out);
}

fn head(flags: u8, length: usize, out: &mut BytesMut) {
    match u8::try_from(length) {
        Ok(short) => out.put_slice(&[flags, short]),
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(length as u64);
        }
    }
}
