//! The greeting: 64 bytes, judged as they come.
//!
//! ```text
//! ff | 8 bytes, no meaning | 7f | major | minor | mechanism, 20, zero padded | as-server | 31, no meaning
//! 0    1                     9    10      11      12                           32          33          64
//! ```
//!
//! RFC 37 would have us accept any higher major version. We accept 3 alone: what a later version means is
//! not written yet, and guessing is how a peer is downgraded.

use bytes::{Buf, BufMut, BytesMut};

use super::Broken;

/// Bytes of a greeting.
const LENGTH: usize = 64;
/// Where the minor version stands.
const MINOR: usize = 11;
/// Where the mechanism stands.
const MECHANISM: std::ops::Range<usize> = 12..32;
/// The only mechanism we speak.
const NULL: &[u8; 20] = b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Writes our greeting: 3.1, NULL.
pub(super) fn write(out: &mut BytesMut) {
    out.put_u8(0xff);
    out.put_bytes(0, 8);
    out.put_slice(&[0x7f, 3, 1]);
    out.put_slice(NULL);
    out.put_bytes(0, 32);
}

/// Takes the peer's greeting off the buffer, with whether it speaks 3.1; `None`: it may still become one.
///
/// # Errors
/// At the first byte that rules it out.
pub(super) fn take(buf: &mut BytesMut) -> Result<Option<bool>, Broken> {
    let is = |at: usize, wanted: u8| buf.get(at).is_none_or(|byte| *byte == wanted);
    if !is(0, 0xff) || !is(9, 0x7f) {
        return Err(Broken("not-zmtp"));
    }
    if !is(10, 3) {
        return Err(Broken("zmtp-version"));
    }
    let named = buf.get(MECHANISM.start..).unwrap_or_default();
    if named.iter().zip(NULL).any(|(is, wanted)| is != wanted) {
        return Err(Broken("zmtp-mechanism"));
    }
    // NULL knows no server role; a peer that claims one means another mechanism.
    if !is(MECHANISM.end, 0) {
        return Err(Broken("zmtp-mechanism"));
    }
    if buf.len() < LENGTH {
        return Ok(None);
    }
    let minor = buf.get(MINOR).copied().unwrap_or_default();
    buf.advance(LENGTH);
    Ok(Some(minor > 0))
}
