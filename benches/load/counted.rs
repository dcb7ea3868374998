//! What is spoken to the bare peer: a length of four bytes and the payload; back comes, per message, its
//! number on this connection, four bytes. Both big-endian.

use chordae_base::{Failure, Outcome};

use super::{
    Heard, Speech,
    frames::{Frames, Payload},
};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    sent: u32,
    heard: u32,
}

impl Speech for Counted {
    /// Empty: a message of no length, which is answered and not written.
    fn hello(&mut self, _frames: &Frames, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 4]);
    }

    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16 {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        payload.put(out);
        self.sent += 1;
        self.sent as u16
    }

    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>> {
        let Some(number) = bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let number = u32::from_be_bytes(*number);
        if number != self.heard {
            let wanted = self.heard;
            return Err(Failure::bad_input(format!(
                "answer {number} in place of {wanted}"
            )));
        }
        self.heard += 1;
        let heard = match number {
            0 => Heard::Ready,
            n => Heard::Acknowledged(n as u16, n as u16),
        };
        Ok(Some((heard, 4)))
    }
}
