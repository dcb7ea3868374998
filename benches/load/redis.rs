//! What is spoken to Redis: `XADD`, one stream per device; the id in the answer is the acknowledgement.

use chordae_base::{Failure, Outcome};

use super::{
    Heard, Speech,
    frames::{Frames, Payload},
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Redis {
    key: String,
    sent: u16,
    heard: u16,
    ready: bool,
}

impl Redis {
    /// The device of this number.
    pub fn new(number: usize) -> Self {
        Self {
            key: format!("ecg:{number}"),
            sent: 0,
            heard: 0,
            ready: false,
        }
    }
}

impl Speech for Redis {
    fn hello(&mut self, _frames: &Frames, out: &mut Vec<u8>) {
        out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    }

    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16 {
        let key = &self.key;
        let head = format!(
            "*5\r\n$4\r\nXADD\r\n${}\r\n{key}\r\n$1\r\n*\r\n$1\r\nd\r\n${}\r\n",
            key.len(),
            payload.len()
        );
        out.extend_from_slice(head.as_bytes());
        payload.put(out);
        out.extend_from_slice(b"\r\n");
        self.sent = self.sent.wrapping_add(1);
        self.sent
    }

    /// Answers come in order: `+PONG`, then `$15` and an id each.
    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>> {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        if !self.ready && line == "+PONG" {
            self.ready = true;
            return Ok(Some((Heard::Ready, end + 2)));
        }
        let length = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        let Some(length) = length.filter(|_| self.ready) else {
            return Err(Failure::refused(format!("not acknowledged: {line}")));
        };
        if bytes.len() < end + 2 + length + 2 {
            return Ok(None);
        }
        self.heard = self.heard.wrapping_add(1);
        let id = self.heard;
        Ok(Some((Heard::Acknowledged(id, id), end + 4 + length)))
    }
}
