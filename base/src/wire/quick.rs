//! Reading a frame the way devices write it: fields in ascending order, each once, `deltas` packed.
//!
//! ```text
//! bytes ──▶ head ── Some ──▶ the fields, and where the codes lie ──▶ sums: the codes
//!             │                                                └───▶ count: only how many
//!             └─ None: anything unusual, right or wrong ──▶ prost, from the first byte
//! ```
//!
//! Nearly all of a frame is a thousand differences of one byte each, for which the general reader is
//! several times slower. What a frame is, prost decides: this one may decline whatever it likes, and where
//! it answers, it answers as prost does (a property test holds both to it).

use super::proto;

/// Seven bits a byte; the eighth says that more follow.
const MORE: u64 = 0x8080_8080_8080_8080;

/// Where a frame's codes lie. Neither is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes<'a> {
    /// Packed `deltas`.
    Deltas(&'a [u8]),
    /// `i16le`.
    I16le(&'a [u8]),
}

/// Reads the fields; `deltas` and `i16le` of the message stay empty. `None`: let prost read it.
pub(super) fn head(mut bytes: &[u8]) -> Option<(proto::Frame, Codes<'_>)> {
    let mut msg = proto::Frame::default();
    let (mut from, mut last) = (None, 0);
    while let Some((key, rest)) = bytes.split_first() {
        if *key >> 3 <= last {
            return None;
        }
        last = *key >> 3;
        let (value, rest) = varint(rest)?;
        bytes = rest;
        match key {
            0x08 => msg.boot = value,
            0x10 => msg.seq = value,
            0x18 => msg.t0_ns = (value >> 1).cast_signed() ^ -(value & 1).cast_signed(),
            0x20 => msg.samples = u32::try_from(value).ok()?,
            0x2a | 0x32 => {
                let (field, rest) = rest.split_at_checked(usize::try_from(value).ok()?)?;
                bytes = rest;
                if from.is_some() || field.is_empty() {
                    return None;
                }
                from = Some(if *key == 0x2a {
                    Codes::Deltas(field)
                } else {
                    Codes::I16le(field)
                });
            }
            0x38 => msg.historical = value != 0,
            0x40 => msg.clock = i32::try_from(value).ok()?,
            _ => return None,
        }
    }
    Some((msg, from?))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if *byte < 0x80 {
            let fits = n < 9 || *byte < 2;
            return fits.then(|| (value, bytes.get(n + 1..).unwrap_or_default()));
        }
    }
    None
}

/// How many packed differences these are; `None` unless each is written as protobuf writes it, in as few
/// bytes as it takes.
pub(super) fn count(field: &[u8]) -> Option<usize> {
    let (mut count, mut rest) = (0, field);
    loop {
        while let Some((eight, after)) = rest.split_first_chunk::<8>() {
            let more = u64::from_le_bytes(*eight) & MORE;
            if more != 0 {
                let ones = more.trailing_zeros() as usize / 8;
                count += ones;
                rest = rest.get(ones..)?;
                break;
            }
            count += 8;
            rest = after;
        }
        rest = match rest {
            [] => return Some(count),
            [one, after @ ..] if *one < 0x80 => after,
            [_, 1..0x80, after @ ..] => after,
            _ => {
                let (value, after) = varint(rest)?;
                u32::try_from(value).ok()?;
                // A last byte of 0 says nothing.
                let length = rest.len() - after.len();
                let shortest = (38 - (value as u32 | 1).leading_zeros()) / 7;
                if length != shortest as usize {
                    return None;
                }
                after
            }
        };
        count += 1;
    }
}

/// Reads packed differences and adds them up, lead by lead, modulo 2^32, into `codes`.
pub(super) fn sums(field: &[u8], samples: usize, codes: &mut Vec<i32>) -> Option<()> {
    if samples == 0 {
        return None;
    }
    codes.clear();
    // A value takes at least a byte.
    codes.reserve(field.len());
    let mut rest = field;
    while !rest.is_empty() {
        rest = small(rest, codes);
        rest = wide(rest, codes)?;
    }
    for lead in codes.chunks_mut(samples) {
        let mut code = 0i32;
        for delta in lead {
            code = code.wrapping_add(*delta);
            *delta = code;
        }
    }
    Some(())
}

/// Differences of one byte, eight at a time, up to the first longer one.
fn small<'a>(mut bytes: &'a [u8], codes: &mut Vec<i32>) -> &'a [u8] {
    while let Some((eight, rest)) = bytes.split_first_chunk::<8>() {
        let more = u64::from_le_bytes(*eight) & MORE;
        if more != 0 {
            let n = more.trailing_zeros() as usize / 8;
            let (ones, rest) = bytes.split_at(n);
            codes.extend(ones.iter().map(|b| signed(u32::from(*b))));
            return rest;
        }
        codes.extend_from_slice(&eight.map(|b| signed(u32::from(b))));
        bytes = rest;
    }
    bytes
}

/// One difference of any length; none at the end.
fn wide<'a>(bytes: &'a [u8], codes: &mut Vec<i32>) -> Option<&'a [u8]> {
    match bytes {
        [] => Some(bytes),
        [one, rest @ ..] if *one < 0x80 => {
            codes.push(signed(u32::from(*one)));
            Some(rest)
        }
        [low, high, rest @ ..] if *high < 0x80 => {
            codes.push(signed(u32::from(*low & 0x7f) | u32::from(*high) << 7));
            Some(rest)
        }
        _ => {
            let (value, rest) = varint(bytes)?;
            codes.push(signed(u32::try_from(value).ok()?));
            Some(rest)
        }
    }
}

/// Appends a difference as protobuf packs it.
pub(super) fn put(delta: i32, out: &mut Vec<u8>) {
    let mut zigzag = ((delta << 1) ^ (delta >> 31)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn signed(zigzag: u32) -> i32 {
    (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::wire::Frame;

    fn agrees(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let Some((msg, from)) = head(bytes) else {
            return Ok(false);
        };
        let by_prost = proto::Frame::decode(bytes);
        let samples = usize::try_from(msg.samples).unwrap_or(usize::MAX);
        match from {
            Codes::Deltas(field) => {
                let mut codes = vec![7; 3];
                if sums(field, samples, &mut codes).is_none() {
                    prop_assert_eq!(count(field).filter(|_| samples > 0), None);
                    return Ok(false);
                }
                let mut by_prost = by_prost.expect("prost reads it");
                let deltas = std::mem::take(&mut by_prost.deltas);
                if let Some(count) = count(field) {
                    prop_assert_eq!(count, deltas.len());
                    let mut packed = Vec::new();
                    deltas.iter().for_each(|d| put(*d, &mut packed));
                    prop_assert_eq!(&packed, field, "only what is written shortest is counted");
                }
                prop_assert_eq!(codes, super::super::frame::sums(deltas, samples));
                prop_assert_eq!(msg, by_prost);
            }
            Codes::I16le(field) => {
                let mut by_prost = by_prost.expect("prost reads it");
                prop_assert_eq!(field, std::mem::take(&mut by_prost.i16le));
                prop_assert_eq!(msg, by_prost);
            }
        }
        Ok(true)
    }

    fn message() -> impl Strategy<Value = proto::Frame> {
        let delta = prop_oneof![8 => -64i32..64, 2 => -9000i32..9000, 1 => any::<i32>()];
        let codes = prop::collection::vec(delta, 0..300);
        let ints = (any::<u64>(), any::<u64>(), any::<i64>(), 0u32..40);
        (ints, codes, any::<bool>(), any::<bool>(), -1i32..4).prop_map(
            |((boot, seq, t0_ns, samples), codes, wide, historical, clock)| {
                let bytes = || codes.iter().map(|c| c.to_le_bytes()[0]).collect();
                proto::Frame {
                    boot,
                    seq,
                    t0_ns,
                    samples,
                    i16le: if wide { Vec::new() } else { bytes() },
                    deltas: if wide { codes } else { Vec::new() },
                    historical,
                    clock,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn where_it_answers_it_answers_as_prost(msg in message(), at: usize, byte: u8, cut: usize) {
            let mut bytes = msg.encode_to_vec();
            let usual = msg.samples > 0 && (0..=2).contains(&msg.clock)
                && !(msg.deltas.is_empty() && msg.i16le.is_empty());
            let answered = agrees(&bytes)?;
            prop_assert!(answered || !usual, "a usual frame must not need prost");
            if !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] = byte;
                agrees(&bytes)?;
                bytes.truncate(cut % bytes.len());
                agrees(&bytes)?;
            }
        }

        #[test]
        fn bytes_of_any_kind_never_part_them(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            agrees(&bytes)?;
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_prost() {
        let unusual: [&[u8]; 8] = [
            &[0x28, 0x02],                                        // deltas, not packed
            &[0x20, 1, 0x2a, 1, 2, 0x2a, 1, 2],                   // deltas twice
            &[0x2a, 1, 2, 0x20, 1],                               // samples after deltas
            &[0x20, 1, 0x2a, 1, 2, 0x48, 1],                      // a field nobody knows
            &[0x20, 1, 0x2a, 1, 0x80],                            // a difference that does not end
            &[0x20, 1, 0x2a, 6, 0x80, 0x80, 0x80, 0x80, 0x80, 1], // more than 32 bits
            &[0x20, 1, 0x2a, 9, 2],                               // longer than the payload
            &[0x20, 0x80, 0x80, 0x80, 0x80, 0x10, 0x2a, 1, 2],    // samples beyond 32 bits
        ];
        for bytes in unusual {
            let read = head(bytes).and_then(|(msg, from)| match from {
                Codes::Deltas(field) => sums(field, msg.samples as usize, &mut Vec::new()),
                Codes::I16le(_) => Some(()),
            });
            assert_eq!(read, None, "{bytes:02x?}");
        }
        // Longer than it need be, or than a difference can be: read, but not at a glance.
        for field in [
            &[0x80, 0][..],
            &[1, 0x82, 0x80, 0],
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
        ] {
            assert_eq!(count(field), None, "{field:02x?}");
        }
        // The first four are frames all the same.
        for bytes in &unusual[1..4] {
            assert!(Frame::decode(bytes).is_ok(), "{bytes:02x?}");
        }
    }
}
