//! What a payload may be: rows Z10, Z11 and Z14-Z17 of the bad inputs, as a ZeroMQ peer meets them.
//!
//! formats.md has no batches, checksums of frames, compression or schema numbers of a frame: a frame is
//! protobuf, TCP and TLS see to its bits, and the rows are tested for what they mean here.

use bytes::Bytes;
use chordae_base::{
    limits,
    wire::{Birth, ClockKind, Frame, Lead},
};
use chordae_ingest::core::{
    arrival::Content,
    decode::Shape,
    identify::Peer,
    zmq::{
        outgoing::Outgoing,
        parts::{Number, content},
        session::Act,
    },
};
use proptest::prelude::*;

use crate::{
    support::{birth, frame},
    zmq_session::{BIRTH, Talk, device, gateway},
};

fn read(payload: &[u8]) -> (Content, Option<Number>) {
    content(Shape::Frame, Bytes::copy_from_slice(payload))
}

/// Refused, or a frame with exactly the samples it says it has. Gives whether it is a frame.
fn whole(payload: &[u8]) -> bool {
    let (content, number) = read(payload);
    match content {
        Content::Malformed(..) => false,
        Content::Frame(head, kept) => {
            let frame = Frame::decode(&kept).unwrap();
            assert_eq!(number, Some((head.boot, head.seq)));
            assert_eq!(frame.codes.len() % head.samples as usize, 0);
            assert_eq!(frame.codes.len(), (head.samples * head.leads) as usize);
            true
        }
        Content::Birth(_) => panic!("not a birth"),
    }
}

#[test]
fn z10_a_frame_cut_at_any_byte_is_refused_or_whole() {
    for synced in [true, false] {
        let clock = if synced {
            ClockKind::Synced
        } else {
            ClockKind::Unknown
        };
        let frame = Frame {
            clock,
            ..frame(3, 300, 1 << 60, 1)
        };
        let payload = frame.encode();
        assert!(whole(&payload));
        let mut frames = 0;
        for end in 0..payload.len() {
            if whole(&payload[..end]) {
                // Only what comes after the samples may be missing: flags, which have a default.
                let cut = Frame::decode(&payload[..end]).unwrap();
                assert_eq!(
                    (cut.codes, cut.samples),
                    (frame.codes.clone(), frame.samples)
                );
                frames += 1;
            }
        }
        assert_eq!(frames, usize::from(synced));
        // What remains says its number as long as it can be read, so that its sender hears of it.
        assert_eq!(read(&payload[..20]).1, Some((3, 300)));
    }
    // A whole message cut short is no message: nothing of it is offered.
    let mut talk = Talk::up(device(), "");
    talk.say(&[b"frame", b"bed-7/ecg", &frame(1, 0, 0, 1).encode()[..30]]);
    let offered = talk.acts.iter().any(|act| {
        matches!(
            act,
            Act::Offer {
                content: Content::Malformed(..),
                ..
            }
        )
    });
    assert!(offered, "judged as malformed, by ingest, which counts it");
}

#[test]
fn z11_a_flipped_bit_is_refused_or_another_whole_frame() {
    let payload = frame(3, 300, 1 << 60, 1).encode();
    let (mut refused, mut other) = (0, 0);
    for at in 0..payload.len() * 8 {
        let mut flipped = payload.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        if whole(&flipped) {
            let was = Frame::decode(&payload).unwrap();
            let is = Frame::decode(&flipped).unwrap();
            // Told apart by number or print: stored beside it, or a conflict. A flag or an unknown field
            // may differ and mean nothing.
            let same = (was.boot, was.seq, was.print()) == (is.boot, is.seq, is.print());
            assert!(!same || (was.codes == is.codes && was.t0_ns == is.t0_ns));
            other += 1;
        } else {
            refused += 1;
        }
    }
    assert!(
        refused > 20 && other > 20,
        "{refused} {other}: the test tests nothing"
    );
}

fn reason(shape: Shape, payload: &[u8]) -> &'static str {
    match content(shape, Bytes::copy_from_slice(payload)).0 {
        Content::Malformed(reason, ..) => reason,
        other => panic!("taken: {other:?}"),
    }
}

fn with(field: &str, value: u64) -> Vec<u8> {
    // Protobuf by hand: what no encoder of ours would write.
    let mut bytes = Vec::new();
    let mut varint = |field: u64, mut value: u64| {
        bytes.push(u8::try_from(field << 3).unwrap());
        while value > 0x7f {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
    };
    varint(1, 1);
    varint(4, if field == "samples" { value } else { 2 });
    varint(8, if field == "clock" { value } else { 1 });
    bytes.extend([0x32, 4, 1, 0, 2, 0]);
    bytes
}

#[test]
fn z14_counts_rates_and_gains_that_cannot_be_are_refused() {
    assert!(matches!(read(&with("none", 0)).0, Content::Frame(..)));
    for samples in [0, 1 << 16 | 1, u64::from(u32::MAX), u64::MAX] {
        let refused = reason(Shape::Frame, &with("samples", samples));
        assert!(
            ["samples", "protobuf"].contains(&refused),
            "{samples}: {refused}"
        );
    }
    assert_eq!(reason(Shape::Frame, &with("samples", 3)), "codes-length");
    let lead = |gain: f64| Lead {
        gain,
        ..birth(1).leads.remove(0)
    };
    let leads = |n: usize| {
        let named = |k: usize| Lead {
            name: format!("L{k}"),
            ..lead(200.0)
        };
        Birth {
            leads: (0..n).map(named).collect(),
            ..birth(1)
        }
    };
    for (n, want) in [(0, "lead-count"), (33, "lead-count"), (255, "lead-count")] {
        assert_eq!(reason(Shape::Birth, &leads(n).encode()), want);
    }
    assert!(matches!(
        content(Shape::Birth, leads(32).encode().into()).0,
        Content::Birth(_)
    ));
    for gain in [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let bad = Birth {
            leads: vec![lead(gain)],
            ..birth(1)
        };
        assert_eq!(reason(Shape::Birth, &bad.encode()), "gain", "{gain}");
    }
    // Rates are counted in fields 2 and 3, which no encoder of ours would write wrongly.
    let rate = |num: u8, den: u8| vec![0x08, 1, 0x10, num, 0x18, den, 0x22, 0];
    for (num, den) in [(0, 1), (1, 0), (0, 0), (1, 2)] {
        assert_eq!(reason(Shape::Birth, &rate(num, den)), "rate", "{num}/{den}");
    }
    let billion = [0x08, 1, 0x10, 0x80, 0x94, 0xeb, 0xdc, 3, 0x18, 1];
    assert_eq!(reason(Shape::Birth, &billion), "rate");
    let negative = [
        0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x18, 1,
    ];
    assert!(["rate", "protobuf"].contains(&reason(Shape::Birth, &negative)));
}

/// Nothing is ever unpacked here: a compressed payload is bytes that are no protobuf, whatever it would
/// have become, and costs what its own bytes cost.
#[test]
fn z16_compressed_payloads_are_malformed() {
    let zstd = b"\x28\xb5\x2f\xfd";
    let bombs: [&[u8]; 5] = [
        b"\xa4\x00\x00\x10\x00\x01\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x98",
        b"\x03\x01\x02\x03\x04",
        b"",
    ];
    // `reason` fails for what is taken; which rule it breaks depends on where its bytes stop making sense.
    for bomb in bombs {
        let payload = [&zstd[..], bomb].concat();
        reason(Shape::Frame, &payload);
        reason(Shape::Birth, &payload);
    }
    reason(Shape::Frame, b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    // A good frame with bytes behind it.
    let trailing = [frame(1, 0, 0, 1).encode(), zstd.to_vec()].concat();
    reason(Shape::Frame, &trailing);
    let huge = vec![0; limits::PAYLOAD_BYTES_MAX + 1];
    assert_eq!(reason(Shape::Frame, &huge), "payload-size");
}

/// A frame carries no schema number: its version is the `v1` of the package and the first word of the
/// message. An unknown word, and an unknown value where the values are listed, are refused by name;
/// unknown fields are what a later version adds, and are passed over as protobuf says.
#[test]
fn z17_unknown_versions_and_flags_are_refused_by_name() {
    for word in ["frame2", "v0/frame", "v255/frame", "frame\u{1}", "birth.v2"] {
        let mut talk = Talk::up(device(), "");
        talk.say(&[word.as_bytes(), b"bed-7/ecg", &with("none", 0)]);
        assert!(talk.tokens().is_empty());
        assert!(talk.acts.contains(&Act::Refuse("parts")), "{word}");
    }
    for clock in [3, 255, u64::from(u32::MAX)] {
        assert_eq!(reason(Shape::Frame, &with("clock", clock)), "clock");
    }
    let later = [with("none", 0), vec![0x78, 1, 0x82, 1, 2, 9, 9]].concat();
    assert!(whole(&later));
}

/// The number that stands for the birth is no frame's here: an acknowledgement names one thing.
#[test]
fn z12_the_greatest_seq_is_refused_and_the_one_before_is_not() {
    let greatest = frame(1, u64::MAX, 0, 1).encode();
    assert_eq!(reason(Shape::Frame, &greatest), "seq");
    assert_eq!(read(&greatest).1, Some((1, BIRTH)));
    let before = frame(1, u64::MAX - 1, 0, 1).encode();
    assert!(matches!(read(&before), (Content::Frame(..), Some((1, n))) if n == u64::MAX - 1));
    let birth = content(Shape::Birth, birth(9).encode().into());
    assert_eq!(birth.1, Some((9, BIRTH)));
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"frame",
        b"birth",
        b"status",
        b"reply",
        b"cmd-ack",
        b"bed-7/ecg",
        b"bed-8/ecg",
        b"bed-7",
        b"online",
        b"c1",
        b"{}",
        &[0; 8],
    ];
    let word = proptest::sample::select(words).prop_map(<[u8]>::to_vec);
    let mut payload = frame(1, 2, 3, 4).encode();
    payload.truncate(60);
    let broken = (0..payload.len(), any::<u8>()).prop_map(move |(at, byte)| {
        let mut broken = payload.clone();
        broken[at] = byte;
        broken
    });
    prop_oneof![4 => word, 1 => broken, 1 => proptest::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is read is answered or offered, exactly once; nothing panics, nothing is passed over.
    #[test]
    fn every_message_has_one_consequence(
        messages in proptest::collection::vec(proptest::collection::vec(part(), 0..7), 1..12),
        kind in 0..3,
    ) {
        let peer = [device(), gateway(), Peer::Plain][usize::try_from(kind).unwrap()].clone();
        let mut talk = Talk::up(peer, "");
        for parts in messages {
            talk.acts.clear();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            talk.say(&parts);
            let counts = |act: &Act| match act {
                Act::Offer { .. } | Act::Status(..) | Act::Reply(..) | Act::Delivered(..) => true,
                Act::Send(out) => matches!(out, Outgoing::Nack(..)),
                _ => false,
            };
            prop_assert_eq!(talk.acts.iter().filter(|act| counts(act)).count(), 1);
            prop_assert!(!talk.ended());
        }
    }
}
