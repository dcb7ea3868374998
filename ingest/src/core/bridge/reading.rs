//! Bytes of a broker to packets, within a bound.
//!
//! A PUBLISH longer than anything of ours may be cannot simply end the connection: it would come again at
//! the head of the next one, for ever. Its beginning is kept, its rest is skipped as it comes, and it is
//! marked as cut: it goes to quarantine as `payload-size` and is acknowledged.

use bytes::{Buf, BufMut, BytesMut};
use chordae_base::limits;

use crate::core::mqtt::{
    framing::{self, Broken, Header, Raw},
    packet::kind,
};

/// A packet, and whether its end is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The packet; if it is cut, its header says the length that is there.
    pub raw: Raw,
    /// Whether it was longer.
    pub cut: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    skip: usize,
}

impl Reading {
    /// Takes one packet off the buffer; `None`: more bytes are needed.
    ///
    /// # Errors
    /// `0x81` for a length that is none, `0x95` for a packet other than PUBLISH above the bound.
    pub fn split(&mut self, buf: &mut BytesMut) -> Result<Option<Part>, Broken> {
        let gone = self.skip.min(buf.len());
        buf.advance(gone);
        self.skip -= gone;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some(header) = framing::header(buf)? else {
            return Ok(None);
        };
        let whole = header.body_at + header.length;
        if whole <= limits::PACKET_BYTES_MAX || header.first >> 4 != kind::PUBLISH {
            let raw = framing::split(buf, limits::PACKET_BYTES_MAX)?;
            return Ok(raw.map(|raw| Part { raw, cut: false }));
        }
        if buf.len() < limits::PACKET_BYTES_MAX {
            return Ok(None);
        }
        let kept = buf.split_to(limits::PACKET_BYTES_MAX);
        self.skip = whole - kept.len();
        let raw = shortened(header, &kept);
        Ok(Some(Part { raw, cut: true }))
    }
}

/// The same packet with a header that tells the length of what is there.
fn shortened(header: Header, kept: &[u8]) -> Raw {
    let body = kept.get(header.body_at..).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(kept.len());
    bytes.put_u8(header.first);
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            bytes.put_u8(low);
            break;
        }
        bytes.put_u8(low | 0x80);
    }
    let body_at = bytes.len();
    bytes.put_slice(body);
    Raw {
        kind: header.first >> 4,
        flags: header.first & 0x0f,
        bytes: bytes.freeze(),
        body_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_without_bound_is_cut_and_the_next_packet_is_found() {
        let long = 3 * limits::PACKET_BYTES_MAX;
        let mut all = BytesMut::new();
        // A PUBLISH of QoS 1: topic "t", packet id 5.
        all.put_slice(&[0x32]);
        let mut length = long;
        while length > 0x7f {
            all.put_u8(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        all.put_u8(u8::try_from(length).unwrap());
        all.put_slice(&[0, 1, b't', 0, 5]);
        all.put_bytes(0xaa, long - 5);
        all.put_slice(&[0xd0, 0]);
        let (mut reading, mut buf, mut parts) = (Reading::default(), BytesMut::new(), Vec::new());
        let mut most = 0;
        for chunk in all.chunks(10_000) {
            buf.put_slice(chunk);
            most = most.max(buf.len());
            while let Some(part) = reading.split(&mut buf).unwrap() {
                parts.push(part);
            }
        }
        assert!(
            most <= limits::PACKET_BYTES_MAX + 10_000,
            "{most} bytes held"
        );
        assert_eq!(parts.len(), 2);
        assert!(parts[0].cut && parts[0].raw.body().starts_with(&[0, 1, b't', 0, 5]));
        assert_eq!((parts[1].raw.kind, parts[1].cut), (13, false));
    }
}
