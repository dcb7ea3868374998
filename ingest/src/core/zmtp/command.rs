//! Commands: READY and ERROR of the NULL handshake, PING and PONG of traffic. All else is refused: we
//! announce 3.1 and neither subscribe nor publish here.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chordae_base::limits;

use super::{Broken, frame};

/// A command off the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ready(Metadata),
    /// The peer gives up and says why.
    Error,
    /// Its context, to be echoed.
    Ping(Bytes),
    Pong(Bytes),
}

/// What READY says of the peer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) socket_type: Bytes,
    pub(super) identity: Bytes,
}

/// Reads a command's body.
pub(super) fn read(mut body: Bytes) -> Result<Command, Broken> {
    let name = short(&mut body).ok_or(Broken("zmtp-command"))?;
    match name.as_ref() {
        b"READY" => metadata(body).map(Command::Ready),
        b"ERROR" => Ok(Command::Error),
        b"PING" if body.len() >= 2 => {
            // The time-to-live is a hint about the peer's own silence; ours are by our own clock.
            body.advance(2);
            context(body).map(Command::Ping)
        }
        b"PONG" => context(body).map(Command::Pong),
        _ => Err(Broken("zmtp-command")),
    }
}

fn context(context: Bytes) -> Result<Bytes, Broken> {
    match context.len() <= limits::ZMTP_CONTEXT_BYTES_MAX {
        true => Ok(context),
        false => Err(Broken("zmtp-ping")),
    }
}

/// Names count without regard to case, each at most once; those we do not know say nothing to us.
fn metadata(mut body: Bytes) -> Result<Metadata, Broken> {
    const BAD: Broken = Broken("zmtp-metadata");
    let mut metadata = Metadata::default();
    let mut names = BTreeSet::new();
    while !body.is_empty() {
        let name = short(&mut body).ok_or(BAD)?;
        let ours = |b: &u8| b.is_ascii_alphanumeric() || b"-_.+".contains(b);
        let name = name.to_ascii_lowercase();
        if name.is_empty() || !name.iter().all(ours) || names.len() >= limits::ZMTP_PROPERTIES_MAX {
            return Err(BAD);
        }
        let length = body.try_get_u32().map_err(|_| BAD)?;
        let length = usize::try_from(length).map_err(|_| BAD)?;
        if length > body.len() {
            return Err(BAD);
        }
        let value = body.split_to(length);
        match name.as_slice() {
            b"socket-type" => metadata.socket_type = value,
            b"identity" => metadata.identity = value,
            _ => {}
        }
        if !names.insert(name) {
            return Err(BAD);
        }
    }
    let reserved = metadata.identity.first() == Some(&0);
    if reserved || metadata.identity.len() > limits::ZMTP_IDENTITY_BYTES_MAX {
        return Err(Broken("zmtp-identity"));
    }
    Ok(metadata)
}

/// A string with its length, one byte, in front.
fn short(body: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(body.try_get_u8().ok()?);
    (length <= body.len()).then(|| body.split_to(length))
}

/// Appends READY. An identity beyond the bound is cut: the peer would refuse it anyway.
pub(super) fn ready(socket_type: &[u8], identity: &[u8], out: &mut BytesMut) {
    let identity = identity
        .get(..limits::ZMTP_IDENTITY_BYTES_MAX)
        .unwrap_or(identity);
    let mut body = BytesMut::new();
    body.put_slice(b"\x05READY");
    for (name, value) in [
        (&b"\x0bSocket-Type"[..], socket_type),
        (b"\x08Identity", identity),
    ] {
        body.put_slice(name);
        // Both are shorter than 256 bytes.
        body.put_u32(u32::try_from(value.len()).unwrap_or_default());
        body.put_slice(value);
    }
    frame::command(body.len(), out);
    out.put_slice(&body);
}

/// Appends ERROR. Reasons are ours, and short.
pub(super) fn error(reason: &str, out: &mut BytesMut) {
    let reason = reason.as_bytes();
    let length = u8::try_from(reason.len()).unwrap_or_default();
    frame::command(7 + usize::from(length), out);
    out.put_slice(b"\x05ERROR");
    out.put_u8(length);
    out.put_slice(reason.get(..usize::from(length)).unwrap_or_default());
}

/// Appends PING without a time-to-live. At most 16 bytes of context count.
pub fn ping(context: &[u8], out: &mut BytesMut) {
    let context = cut(context);
    frame::command(7 + context.len(), out);
    out.put_slice(b"\x04PING\0\0");
    out.put_slice(context);
}

/// Appends PONG with the context of the PING that it answers.
pub fn pong(context: &[u8], out: &mut BytesMut) {
    let context = cut(context);
    frame::command(5 + context.len(), out);
    out.put_slice(b"\x04PONG");
    out.put_slice(context);
}

fn cut(context: &[u8]) -> &[u8] {
    context
        .get(..limits::ZMTP_CONTEXT_BYTES_MAX)
        .unwrap_or(context)
}
