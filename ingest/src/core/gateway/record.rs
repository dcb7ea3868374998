//! The bytes of a record of the spool. Big-endian; the journal adds length and checksum.
//!
//! ```text
//!  name   = len u8 | bytes                 stream = name device | name stream
//!  1 Birth | stream | boot u64 | recv i64 | protobuf Birth to the end
//!  2 Frame | stream | boot u64 | seq u64 | recv i64 | print 16 | protobuf Frame to the end
//!  3 Known | stream | recv i64 | boots u16 x boot
//!            boot = boot u64 | fate u8 | birth u32 + bytes | ranges u16 x (first, last)
//!                 | refused u16 x (first, last, reason name) | if fate has bit 2: reused
//!            fate = 1: upstream has the birth; 2: it has refused another; 0, or both
//!            reused = position u64 | birth u32 + bytes
//!  4 Floor | position u64
//! ```
//!
//! **Known** is what a stream's trimmed records said and later ones rely on; every segment begins with one
//! for each stream. **Floor**: everything below this position needs no sending any more. Both come behind
//! the frames of their commit: what a tear leaves of it never promises more than it holds.

use bytes::{Buf, Bytes};
use chordae_base::{DeviceId, Failure, Outcome, StreamKey, StreamName};

use super::{
    memory::{Fate, Known, KnownBoot},
    reason,
};
use crate::core::dedupe::Print;

const BIRTH: u8 = 1;
const FRAME: u8 = 2;
const KNOWN: u8 = 3;
const FLOOR: u8 = 4;

const ACKNOWLEDGED: u8 = 1;
const REUSED: u8 = 2;

/// The number of a birth within its boot, on the uplink and here; frames have their seq.
pub const BIRTH_NUMBER: u64 = u64::MAX;

/// A birth or frame on its way upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The stream.
    pub stream: StreamKey,
    /// Boot of the device.
    pub boot: u64,
    /// Seq, or [`BIRTH_NUMBER`].
    pub number: u64,
    /// A birth, not a frame.
    pub birth: bool,
    /// Our receive time; it travels with the item.
    pub recv_ns: i64,
    /// "The same frame?"; zeros for a birth.
    pub print: Print,
    /// Protobuf.
    pub payload: Bytes,
}

/// One record of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolRecord {
    /// To be sent.
    Item(Item),
    /// What is known of a stream.
    Known(Known),
    /// See the module.
    Floor(u64),
}

impl SpoolRecord {
    /// See the module.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Item(item) => {
                out.reserve(item.payload.len() + 192);
                out.push(if item.birth { BIRTH } else { FRAME });
                put_stream(&mut out, &item.stream);
                out.extend(item.boot.to_be_bytes());
                if !item.birth {
                    out.extend(item.number.to_be_bytes());
                }
                out.extend(item.recv_ns.to_be_bytes());
                if !item.birth {
                    out.extend(item.print);
                }
                out.extend(&item.payload);
            }
            Self::Known(known) => put_known(&mut out, known),
            Self::Floor(position) => {
                out.push(FLOOR);
                out.extend(position.to_be_bytes());
            }
        }
        out.into()
    }

    /// Reads a record; payloads are slices of `bytes`, not copies.
    ///
    /// # Errors
    /// `Damaged` for bytes that [`Self::encode`] does not make.
    pub fn decode(mut bytes: Bytes) -> Outcome<Self> {
        let from = &mut bytes;
        match from.try_get_u8().map_err(short)? {
            kind @ (BIRTH | FRAME) => {
                let birth = kind == BIRTH;
                let stream = take_stream(from)?;
                let boot = from.try_get_u64().map_err(short)?;
                let number = if birth {
                    BIRTH_NUMBER
                } else {
                    from.try_get_u64().map_err(short)?
                };
                let recv_ns = from.try_get_i64().map_err(short)?;
                let mut print = Print::default();
                if !birth {
                    from.try_copy_to_slice(&mut print).map_err(short)?;
                }
                let payload = bytes;
                Ok(Self::Item(Item {
                    stream,
                    boot,
                    number,
                    birth,
                    recv_ns,
                    print,
                    payload,
                }))
            }
            KNOWN => take_known(from).map(Self::Known),
            FLOOR => from.try_get_u64().map(Self::Floor).map_err(short),
            kind => Err(bad(format!("kind {kind}"))),
        }
    }
}

fn bad(why: impl std::fmt::Display) -> Failure {
    Failure::damaged(format!("spool record: {why}"))
}

fn short(_: bytes::TryGetError) -> Failure {
    bad("ends early")
}

/// Names and reasons are short, boots and ranges few: all are bounded where they are made.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
}

fn put_stream(out: &mut Vec<u8>, stream: &StreamKey) {
    put_text(out, stream.device.as_str());
    put_text(out, stream.stream.as_str());
}

fn put_count(out: &mut Vec<u8>, n: usize) {
    out.extend(u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
}

fn put_known(out: &mut Vec<u8>, known: &Known) {
    out.push(KNOWN);
    put_stream(out, &known.stream);
    out.extend(known.recv_ns.to_be_bytes());
    put_count(out, known.boots.len());
    for boot in &known.boots {
        out.extend(boot.boot.to_be_bytes());
        let fate = match boot.fate {
            Fate::Open => 0,
            Fate::Acknowledged => ACKNOWLEDGED,
        };
        out.push(fate | boot.reused.as_ref().map_or(0, |_| REUSED));
        put_bytes(out, boot.birth.as_deref().unwrap_or_default());
        put_count(out, boot.durable.len());
        for (first, last) in &boot.durable {
            out.extend(first.to_be_bytes());
            out.extend(last.to_be_bytes());
        }
        put_count(out, boot.refused.len());
        for (first, last, reason) in &boot.refused {
            out.extend(first.to_be_bytes());
            out.extend(last.to_be_bytes());
            put_text(out, reason);
        }
        if let Some((position, birth)) = &boot.reused {
            out.extend(position.to_be_bytes());
            put_bytes(out, birth);
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

fn take_bytes(from: &mut Bytes, len: usize) -> Outcome<Bytes> {
    if from.remaining() < len {
        return Err(bad("ends early"));
    }
    Ok(from.split_to(len))
}

fn take_long(from: &mut Bytes) -> Outcome<Bytes> {
    let len = from.try_get_u32().map_err(short)?;
    take_bytes(from, usize::try_from(len).unwrap_or(usize::MAX))
}

fn take_text(from: &mut Bytes) -> Outcome<String> {
    let len = from.try_get_u8().map_err(short)?;
    let text = take_bytes(from, usize::from(len))?;
    String::from_utf8(text.into()).map_err(bad)
}

fn take_stream(from: &mut Bytes) -> Outcome<StreamKey> {
    let device = DeviceId::new(take_text(from)?).map_err(bad)?;
    let stream = StreamName::new(take_text(from)?).map_err(bad)?;
    Ok(StreamKey { device, stream })
}

fn take_known(from: &mut Bytes) -> Outcome<Known> {
    let stream = take_stream(from)?;
    let recv_ns = from.try_get_i64().map_err(short)?;
    let mut boots = Vec::new();
    for _ in 0..from.try_get_u16().map_err(short)? {
        let boot = from.try_get_u64().map_err(short)?;
        let flags = from.try_get_u8().map_err(short)?;
        if flags & !(ACKNOWLEDGED | REUSED) != 0 {
            return Err(bad(format!("fate {flags}")));
        }
        let fate = match flags & ACKNOWLEDGED {
            0 => Fate::Open,
            _ => Fate::Acknowledged,
        };
        let birth = take_long(from)?;
        let mut durable = Vec::new();
        for _ in 0..from.try_get_u16().map_err(short)? {
            durable.push((
                from.try_get_u64().map_err(short)?,
                from.try_get_u64().map_err(short)?,
            ));
        }
        let mut refused = Vec::new();
        for _ in 0..from.try_get_u16().map_err(short)? {
            let first = from.try_get_u64().map_err(short)?;
            let last = from.try_get_u64().map_err(short)?;
            refused.push((first, last, reason::known(&take_text(from)?)));
        }
        let birth = (!birth.is_empty()).then_some(birth);
        let reused = match flags & REUSED {
            0 => None,
            _ => Some((from.try_get_u64().map_err(short)?, take_long(from)?)),
        };
        boots.push(KnownBoot {
            boot,
            fate,
            birth,
            reused,
            durable,
            refused,
        });
    }
    Ok(Known {
        stream,
        recv_ns,
        boots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_reads_back_and_no_prefix_does() {
        let stream: StreamKey = "bed-7/ecg".parse().unwrap();
        let item = |birth| Item {
            stream: stream.clone(),
            boot: 7,
            number: if birth { BIRTH_NUMBER } else { 9 },
            birth,
            recv_ns: -5,
            print: if birth { [0; 16] } else { [3; 16] },
            payload: Bytes::from_static(b"payload"),
        };
        let known = Known {
            stream: stream.clone(),
            recv_ns: 4,
            boots: vec![KnownBoot {
                boot: 7,
                fate: Fate::Acknowledged,
                birth: Some(Bytes::from_static(b"birth")),
                reused: Some((1 << 20, Bytes::from_static(b"other"))),
                durable: vec![(0, 4), (6, u64::MAX)],
                refused: vec![(5, 5, "conflict")],
            }],
        };
        let records = [
            SpoolRecord::Item(item(true)),
            SpoolRecord::Item(item(false)),
            SpoolRecord::Known(known),
            SpoolRecord::Floor(1 << 40),
        ];
        for record in records {
            let bytes = record.encode();
            assert_eq!(SpoolRecord::decode(bytes.clone()), Ok(record.clone()));
            // A shorter payload is a payload; everything else must be whole.
            let whole = bytes.len()
                - if matches!(record, SpoolRecord::Item(_)) {
                    7
                } else {
                    0
                };
            for cut in 0..whole {
                assert!(
                    SpoolRecord::decode(bytes.slice(..cut)).is_err(),
                    "{record:?} cut at {cut}"
                );
            }
        }
    }
}
