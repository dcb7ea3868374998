//! One packet off the front of a buffer. The length is judged at the header, before the body is awaited,
//! so nobody makes us hold more than `max` bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// The peer broke the protocol: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Version 5 reason code.
    pub code: u8,
    /// Metric label.
    pub why: &'static str,
}

impl Broken {
    /// Bytes that are no packet.
    pub const fn malformed(why: &'static str) -> Self {
        Self { code: 0x81, why }
    }

    /// A packet that is not allowed here.
    pub const fn protocol(why: &'static str) -> Self {
        Self { code: 0x82, why }
    }
}

/// A whole packet, undecoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Packet type, 0-15.
    pub kind: u8,
    /// Lower half of the first byte.
    pub flags: u8,
    /// The packet from its first byte on.
    pub bytes: Bytes,
    /// Where the fixed header ends.
    pub body_at: usize,
}

impl Raw {
    /// All after the fixed header.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body_at..).unwrap_or_default()
    }
}

/// How a packet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type and flags.
    pub first: u8,
    /// Bytes after the header.
    pub length: usize,
    /// Bytes of the header.
    pub body_at: usize,
}

/// Reads the header at the front of the buffer; `None`: more bytes are needed.
///
/// # Errors
/// `0x81` for a length that is none.
pub fn header(buf: &[u8]) -> Result<Option<Header>, Broken> {
    let Some(first) = buf.first().copied() else {
        return Ok(None);
    };
    let mut length: usize = 0;
    let mut body_at = 1;
    loop {
        let Some(byte) = buf.get(body_at).copied() else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (body_at - 1));
        body_at += 1;
        if byte & 0x80 == 0 {
            // One length has one form: a last byte of 0 after others says nothing.
            if byte == 0 && body_at > 2 {
                return Err(Broken::malformed("packet-length"));
            }
            return Ok(Some(Header {
                first,
                length,
                body_at,
            }));
        }
        if body_at > 4 {
            return Err(Broken::malformed("packet-length"));
        }
    }
}

/// Takes one packet of at most `max` bytes off the buffer; `None`: more bytes are needed.
///
/// # Errors
/// `0x81` for a length that is none, `0x95` for one above `max`.
pub fn split(buf: &mut BytesMut, max: usize) -> Result<Option<Raw>, Broken> {
    let Some(Header {
        first,
        length,
        body_at,
    }) = header(buf)?
    else {
        return Ok(None);
    };
    let whole = body_at + length;
    if whole > max {
        return Err(Broken {
            code: 0x95,
            why: "packet-too-large",
        });
    }
    if buf.remaining() < whole {
        return Ok(None);
    }
    let bytes = buf.split_to(whole).freeze();
    Ok(Some(Raw {
        kind: first >> 4,
        flags: first & 0x0f,
        bytes,
        body_at,
    }))
}
