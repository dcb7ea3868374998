//! The bytes of a WAL record. Big-endian; the journal adds length and checksum.
//!
//! ```text
//!  name    = len u8 | bytes                    stream = name device | name stream
//!  1 State   | count u32 | count x (len u32 | birth body) | ingest bytes to the end
//!  2 Birth   | birth body                      birth body = stream | recv i64 | protobuf Birth to the end
//!  4 Settled | stream | boot u64 | seq u64 | recv i64
//!  5 Frame   | stream | boot u64 | seq u64 | recv i64 | t0 i64 | samples u32 | offset i64
//!            | clock u8 | place u8 | print 16 | protobuf Frame to the end
//!  3           the same with another print, in logs of before: read with its print made anew
//! ```
//!
//! The numbers are persisted and stay. One value has one encoding; anything else is refused as damage,
//! because the checksum was right: the bytes are ours, or nobody's.

use std::str::FromStr;

use bytes::{Buf, Bytes};

use super::{BirthRecord, FrameRecord, Place, SettledRecord, StateRecord, WalRecord};
use crate::{
    Failure, Outcome, StreamKey,
    wire::{Birth, ClockKind},
};

const STATE: u8 = 1;
const BIRTH: u8 = 2;
const FRAME_BLAKE3: u8 = 3;
const SETTLED: u8 = 4;
const FRAME: u8 = 5;

impl WalRecord {
    /// The bytes of the record; see the module of the codec for their layout.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// Appends the bytes of the record.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::State(state) => {
                out.push(STATE);
                out.extend(count(state.births.len()));
                for birth in &state.births {
                    let mut body = Vec::new();
                    put_birth(&mut body, birth);
                    out.extend(count(body.len()));
                    out.extend(body);
                }
                out.extend_from_slice(&state.ingest);
            }
            Self::Birth(birth) => {
                out.push(BIRTH);
                put_birth(out, birth);
            }
            Self::Frame(frame) => put_frame(out, frame),
            Self::Settled(settled) => {
                out.push(SETTLED);
                put_stream(out, &settled.stream);
                out.extend(settled.boot.to_be_bytes());
                out.extend(settled.seq.to_be_bytes());
                out.extend(settled.recv_ns.to_be_bytes());
            }
        }
    }

    /// Reads a record; a frame's payload is a slice of `bytes`, not a copy.
    ///
    /// # Errors
    /// `Damaged` for bytes that `encode` does not make.
    pub fn decode(mut bytes: Bytes) -> Outcome<Self> {
        match bytes.try_get_u8().map_err(short)? {
            STATE => take_state(bytes).map(Self::State),
            BIRTH => take_birth(bytes).map(Self::Birth),
            FRAME => take_frame(bytes).map(Self::Frame),
            FRAME_BLAKE3 => {
                let mut frame = take_frame(bytes)?;
                frame.print = frame.frame()?.print();
                Ok(Self::Frame(frame))
            }
            SETTLED => {
                let stream = take_stream(&mut bytes)?;
                let (boot, seq, recv_ns) = (
                    take_u64(&mut bytes)?,
                    take_u64(&mut bytes)?,
                    take_i64(&mut bytes)?,
                );
                if bytes.has_remaining() {
                    return Err(bad("bytes after a settled record"));
                }
                Ok(Self::Settled(SettledRecord {
                    stream,
                    boot,
                    seq,
                    recv_ns,
                }))
            }
            kind => Err(bad(format!("kind {kind}"))),
        }
    }
}

/// Stream, boot and seq of a frame's record, however the rest of it reads; `None` for anything else.
pub fn frame_named(mut bytes: Bytes) -> Option<(StreamKey, u64, u64)> {
    let kind = bytes.try_get_u8().ok()?;
    if kind != FRAME && kind != FRAME_BLAKE3 {
        return None;
    }
    let stream = take_stream(&mut bytes).ok()?;
    Some((
        stream,
        take_u64(&mut bytes).ok()?,
        take_u64(&mut bytes).ok()?,
    ))
}

/// Which record these bytes are: BLAKE3, hex.
pub fn print_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn bad(why: impl std::fmt::Display) -> Failure {
    Failure::damaged(format!("log record: {why}"))
}

fn short(_: bytes::TryGetError) -> Failure {
    bad("ends early")
}

/// Counts and lengths stay far below 2^32: a record is at most 32 MiB.
fn count(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes()
}

fn put_stream(out: &mut Vec<u8>, stream: &StreamKey) {
    for name in [stream.device.as_str(), stream.stream.as_str()] {
        // A name is at most 64 bytes.
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name.as_bytes());
    }
}

fn put_birth(out: &mut Vec<u8>, birth: &BirthRecord) {
    put_stream(out, &birth.stream);
    out.extend(birth.recv_ns.to_be_bytes());
    out.extend(birth.birth.encode());
}

fn put_frame(out: &mut Vec<u8>, frame: &FrameRecord) {
    // Names and numbers take less than 224 bytes.
    out.reserve(frame.payload.len() + 224);
    out.push(FRAME);
    put_stream(out, &frame.stream);
    out.extend_from_slice(&frame.boot.to_be_bytes());
    out.extend_from_slice(&frame.seq.to_be_bytes());
    out.extend_from_slice(&frame.recv_ns.to_be_bytes());
    out.extend_from_slice(&frame.t0_ns.to_be_bytes());
    out.extend_from_slice(&frame.samples.to_be_bytes());
    out.extend_from_slice(&frame.offset_ns.to_be_bytes());
    let clock = match frame.clock {
        ClockKind::Unknown => 0,
        ClockKind::Synced => 1,
        ClockKind::FreeRunning => 2,
    };
    let place = match frame.place {
        Place::Live => 0,
        Place::Late => 1,
        Place::Parked => 2,
    };
    out.extend_from_slice(&[clock, place]);
    out.extend_from_slice(&frame.print);
    out.extend_from_slice(&frame.payload);
}

fn take_u64(from: &mut Bytes) -> Outcome<u64> {
    from.try_get_u64().map_err(short)
}

fn take_i64(from: &mut Bytes) -> Outcome<i64> {
    from.try_get_i64().map_err(short)
}

/// The next `n` bytes; the length is checked against what is there before anything is taken.
fn take(from: &mut Bytes, n: usize) -> Outcome<Bytes> {
    if from.remaining() < n {
        return Err(bad("ends early"));
    }
    Ok(from.split_to(n))
}

/// A name: its length, its bytes, and the rule of its type.
fn take_name<T: FromStr<Err = Failure>>(from: &mut Bytes) -> Outcome<T> {
    let len = from.try_get_u8().map_err(short)?;
    let name = take(from, usize::from(len))?;
    let name = str::from_utf8(&name).map_err(|_| bad("a name that is not UTF-8"))?;
    name.parse().map_err(|err: Failure| bad(err.why))
}

fn take_stream(from: &mut Bytes) -> Outcome<StreamKey> {
    Ok(StreamKey {
        device: take_name(from)?,
        stream: take_name(from)?,
    })
}

fn take_birth(mut from: Bytes) -> Outcome<BirthRecord> {
    let stream = take_stream(&mut from)?;
    let recv_ns = take_i64(&mut from)?;
    let birth = Birth::decode(&from).map_err(bad)?;
    if birth.encode() != *from {
        return Err(bad("a birth that we would write otherwise"));
    }
    Ok(BirthRecord {
        stream,
        recv_ns,
        birth,
    })
}

fn take_state(mut from: Bytes) -> Outcome<StateRecord> {
    let births = from.try_get_u32().map_err(short)?;
    let mut state = StateRecord {
        births: Vec::new(),
        ingest: Vec::new(),
    };
    for _ in 0..births {
        let len = from.try_get_u32().map_err(short)?;
        let len = usize::try_from(len).map_err(|_| bad("ends early"))?;
        state.births.push(take_birth(take(&mut from, len)?)?);
    }
    state.ingest = from.into();
    Ok(state)
}

fn take_frame(mut from: Bytes) -> Outcome<FrameRecord> {
    let stream = take_stream(&mut from)?;
    let (boot, seq) = (take_u64(&mut from)?, take_u64(&mut from)?);
    let (recv_ns, t0_ns) = (take_i64(&mut from)?, take_i64(&mut from)?);
    let samples = from.try_get_u32().map_err(short)?;
    let offset_ns = take_i64(&mut from)?;
    let clock = match from.try_get_u8().map_err(short)? {
        0 => ClockKind::Unknown,
        1 => ClockKind::Synced,
        2 => ClockKind::FreeRunning,
        n => return Err(bad(format!("clock {n}"))),
    };
    let place = match from.try_get_u8().map_err(short)? {
        0 => Place::Live,
        1 => Place::Late,
        2 => Place::Parked,
        n => return Err(bad(format!("place {n}"))),
    };
    let mut print = [0; 16];
    from.try_copy_to_slice(&mut print).map_err(short)?;
    Ok(FrameRecord {
        stream,
        boot,
        seq,
        recv_ns,
        t0_ns,
        samples,
        offset_ns,
        clock,
        place,
        print,
        payload: from,
    })
}
