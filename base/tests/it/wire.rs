//! Births and frames: round trips, the bytes written by hand, and bytes that are neither.

use chordae_base::{
    Rate,
    wire::{Birth, ClockKind, Frame, Glance, Lead, NO_VALUE, REASONS, reason},
};
use proptest::prelude::*;

pub(crate) fn clock() -> impl Strategy<Value = ClockKind> {
    prop::sample::select(vec![
        ClockKind::Unknown,
        ClockKind::Synced,
        ClockKind::FreeRunning,
    ])
}

fn lead(n: usize) -> impl Strategy<Value = Lead> {
    let gain = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL;
    (
        "[!-}]{1,8}",
        any::<u32>(),
        gain,
        any::<i32>(),
        "[!-~]{1,20}",
        8u32..32,
    )
        .prop_map(
            // The number keeps names unique; the text before it keeps them odd.
            move |(name, mdc, gain, baseline, unit, bits)| Lead {
                name: format!("{name}|{n}"),
                mdc,
                gain,
                baseline,
                unit,
                bits,
            },
        )
}

pub(crate) fn birth() -> impl Strategy<Value = Birth> {
    let leads = (1usize..=32).prop_flat_map(|n| (0..n).map(lead).collect::<Vec<_>>());
    let rate = (1u32..=10_000, 1u32..1000).prop_map(|(hz, den)| Rate::new(hz * den, den).unwrap());
    let text = "[^\\x00-\\x1f\\x7f-\\u{9f}]{0,30}";
    (any::<u64>(), rate, leads, text, text, clock()).prop_map(
        |(boot, rate, leads, model, firmware, clock)| Birth {
            boot,
            rate,
            leads,
            model,
            firmware,
            clock,
        },
    )
}

fn code() -> impl Strategy<Value = i32> {
    prop_oneof![
        8 => -2000i32..2000,
        1 => any::<i32>(),
        1 => prop::sample::select(vec![i32::MIN, i32::MIN + 1, i32::MAX, 0, -32_768, 32_767, 32_768]),
    ]
}

pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let shape = (1usize..=32, 1usize..200);
    let codes = shape.prop_flat_map(|(leads, samples)| {
        (
            Just(samples),
            prop::collection::vec(code(), leads * samples),
        )
    });
    (
        any::<u64>(),
        any::<u64>(),
        any::<i64>(),
        codes,
        any::<bool>(),
        clock(),
    )
        .prop_map(
            |(boot, seq, t0_ns, (samples, codes), historical, clock)| Frame {
                boot,
                seq,
                t0_ns,
                samples: u32::try_from(samples).unwrap(),
                codes,
                historical,
                clock,
            },
        )
}

proptest! {
    #[test]
    fn births_read_back(birth in birth()) {
        prop_assert_eq!(&Birth::decode(&birth.encode()).unwrap(), &birth);
        prop_assert_eq!(&Birth::from_json(birth.to_json().as_bytes()).unwrap(), &birth);
    }

    #[test]
    fn frames_read_back(frame in frame()) {
        prop_assert_eq!(&Frame::decode(&frame.encode()).unwrap(), &frame);
        prop_assert_eq!(&Frame::from_json(frame.to_json().as_bytes()).unwrap(), &frame);
        let narrow = frame.codes.iter().all(|c| i16::try_from(*c).is_ok());
        prop_assert_eq!(frame.encode_i16le().is_some(), narrow);
        if let Some(bytes) = frame.encode_i16le() {
            prop_assert_eq!(&Frame::decode(&bytes).unwrap(), &frame);
        }
        let glance = Glance::from(&frame);
        prop_assert_eq!(&Glance::read(&frame.encode(), &mut vec![1]).unwrap(), &glance);
        if let Some(bytes) = frame.encode_i16le() {
            prop_assert_eq!(&Glance::read(&bytes, &mut vec![1]).unwrap(), &glance);
        }
        let joined: Vec<i32> = (0..frame.leads()).flat_map(|i| frame.lead(i).to_vec()).collect();
        prop_assert_eq!(&joined, &frame.codes);
        prop_assert!(frame.lead(frame.leads()).is_empty());
    }

    #[test]
    fn a_glance_sees_what_decoding_sees(frame in frame(), at: usize, byte: u8, short: bool) {
        let mut bytes = frame.encode();
        let at = at % bytes.len();
        bytes[at] = byte;
        if short {
            bytes.truncate(at);
        }
        let whole = Frame::decode(&bytes);
        let glance = Glance::read(&bytes, &mut Vec::new());
        match (whole, glance) {
            (Ok(frame), Ok(glance)) => prop_assert_eq!(Glance::from(&frame), glance),
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert!(false, "{a:?} but {b:?}"),
        }
    }

    #[test]
    fn another_frame_has_another_print(frame in frame(), at: usize, by in 1i32..) {
        let mut other = frame.clone();
        let at = at % other.codes.len();
        other.codes[at] = other.codes[at].wrapping_add(by);
        prop_assert_ne!(frame.print(), other.print());
        let later = Frame { t0_ns: frame.t0_ns ^ 1, ..frame.clone() };
        prop_assert_ne!(frame.print(), later.print());
        let renamed = Frame { seq: !frame.seq, historical: !frame.historical, ..frame.clone() };
        prop_assert_eq!(frame.print(), renamed.print());
    }

    #[test]
    fn narrow_frames_read_back_from_16_bits(mut frame in frame()) {
        for code in &mut frame.codes {
            *code = i32::from(i16::from_le_bytes([code.to_le_bytes()[0], code.to_le_bytes()[1]]));
        }
        prop_assert_eq!(&Frame::decode(&frame.encode_i16le().unwrap()).unwrap(), &frame);
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_reads_is_valid(
        frame in frame(), birth in birth(), at in any::<prop::sample::Index>(), xor in 1u8.., cut in any::<bool>(),
    ) {
        let spoil = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= xor }
            bytes
        };
        for found in [Frame::decode(&spoil(frame.encode())), Frame::from_json(&spoil(frame.to_json().into()))] {
            match found {
                Ok(found) => prop_assert_eq!(&Frame::decode(&found.encode()).unwrap(), &found),
                Err(err) => prop_assert!(REASONS.contains(&err.reason)),
            }
        }
        for found in [Birth::decode(&spoil(birth.encode())), Birth::from_json(&spoil(birth.to_json().into()))] {
            match found {
                Ok(found) => prop_assert_eq!(&Birth::decode(&found.encode()).unwrap(), &found),
                Err(err) => prop_assert!(REASONS.contains(&err.reason)),
            }
        }
    }
}

fn sample() -> Frame {
    Frame {
        boot: 7,
        seq: 300,
        t0_ns: -1,
        samples: 3,
        codes: vec![i32::MAX, NO_VALUE, -1, 10, 12, 11],
        historical: true,
        clock: ClockKind::FreeRunning,
    }
}

/// The bytes by the protobuf specification, put down by hand: another implementation must read them.
#[test]
fn a_frame_has_the_bytes_of_the_specification() {
    // MAX is zigzag 2^32 - 2; from there to MIN is +1; from MIN to -1 is MAX again; then 10, +2, -1.
    let deltas = "feffffff0f 02 feffffff0f 14 04 01";
    let hand = format!("0807 10ac02 1801 2003 2a0e {deltas} 3801 4002").replace(' ', "");
    assert_eq!(hex::encode(sample().encode()), hand);
    assert_eq!(
        Frame::decode(&hex::decode(hand).unwrap()).unwrap(),
        sample()
    );
    let unpacked = "08071801200128142802".to_owned();
    let frame = Frame::decode(&hex::decode(unpacked).unwrap()).unwrap();
    assert_eq!(
        (frame.leads(), frame.codes),
        (2, vec![10, 1]),
        "unpacked deltas read too"
    );
    let i16le = "200232080080ff7f0100ffff";
    let frame = Frame::decode(&hex::decode(i16le).unwrap()).unwrap();
    assert_eq!(frame.codes, vec![-32_768, 32_767, 1, -1]);
    assert!(!frame.codes.contains(&NO_VALUE), "16 bits cannot say it");
}

#[test]
fn a_birth_has_the_bytes_of_the_specification() {
    let birth = Birth {
        boot: 1,
        rate: Rate::new(500, 2).unwrap(),
        leads: vec![Lead {
            name: "II".to_owned(),
            mdc: 131_330,
            gain: 200.0,
            baseline: -1,
            unit: "mV".to_owned(),
            bits: 11,
        }],
        model: "m".to_owned(),
        firmware: String::new(),
        clock: ClockKind::Synced,
    };
    let hand = "0801 10f403 1802 2219 0a024949 108282 08 190000000000006940 2001 2a026d56 300b 2a016d 3801";
    let hand = hand.replace(' ', "");
    assert_eq!(hex::encode(birth.encode()), hand);
    let json = "{\"boot\":1,\"rate_num\":500,\"rate_den\":2,\"leads\":[{\"name\":\"II\",\"mdc\":131330,\
                \"gain\":200.0,\"baseline\":-1,\"unit\":\"mV\",\"bits\":11}],\"model\":\"m\",\
                \"firmware\":\"\",\"clock\":\"SYNCED\"}";
    assert_eq!(birth.to_json(), json);
    for twin in ["\"synced\"", "1"] {
        let json = json
            .replace("\"SYNCED\"", twin)
            .replace("\"boot\":1", "\"boot\":\"1\"");
        assert_eq!(Birth::from_json(json.as_bytes()).unwrap(), birth);
    }
}

#[test]
fn a_frames_twin_says_null_and_may_leave_out_what_is_plain() {
    let json = "{\"boot\":7,\"seq\":300,\"t0_ns\":-1,\"samples\":3,\
                \"leads\":[[2147483647,null,-1],[10,12,11]],\"historical\":true,\"clock\":\"FREE_RUNNING\"}";
    assert_eq!(sample().to_json(), json);
    let short = "{\"seq\":\"18446744073709551615\",\"t0_ns\":\"-9223372036854775808\",\"leads\":[[null,1]]}";
    let frame = Frame::from_json(short.as_bytes()).unwrap();
    assert_eq!(
        (frame.seq, frame.t0_ns, frame.samples),
        (u64::MAX, i64::MIN, 2)
    );
    assert_eq!(
        (frame.codes, frame.clock),
        (vec![NO_VALUE, 1], ClockKind::Unknown)
    );
}

#[test]
fn the_print_sees_time_samples_and_codes_and_nothing_else() {
    let frame = sample();
    let same = [
        Frame {
            historical: false,
            ..frame.clone()
        },
        Frame {
            clock: ClockKind::Synced,
            ..frame.clone()
        },
        Frame {
            seq: 1,
            boot: 1,
            ..frame.clone()
        },
    ];
    let mut codes = frame.codes.clone();
    codes.swap(0, 1);
    let other = [
        Frame {
            t0_ns: 0,
            ..frame.clone()
        },
        Frame {
            samples: 2,
            ..frame.clone()
        },
        Frame {
            codes,
            ..frame.clone()
        },
    ];
    assert!(same.iter().all(|f| f.print() == frame.print()));
    assert!(other.iter().all(|f| f.print() != frame.print()));
    // What `b3sum` says of the codes written out as little-endian words.
    let bytes: Vec<u8> = frame.codes.iter().flat_map(|c| c.to_le_bytes()).collect();
    assert_eq!(frame.codes_digest(), *blake3::hash(&bytes).as_bytes());
    let long = Frame {
        samples: 5000,
        codes: (0..5000).collect(),
        ..frame
    };
    let bytes: Vec<u8> = long.codes.iter().flat_map(|c| c.to_le_bytes()).collect();
    assert_eq!(long.codes_digest(), *blake3::hash(&bytes).as_bytes());
}

#[test]
fn a_frame_fits_its_birth_or_says_why_not() {
    let hz = |rate: u32| Rate::new(rate, 1).unwrap();
    let lead = |name: &str| Lead {
        name: name.to_owned(),
        mdc: 0,
        gain: 1.0,
        baseline: 0,
        unit: "mV".to_owned(),
        bits: 16,
    };
    let birth = Birth {
        boot: 7,
        rate: hz(100),
        leads: vec![lead("I"), lead("II")],
        model: String::new(),
        firmware: String::new(),
        clock: ClockKind::Synced,
    };
    let frame = |samples: u32, t0_ns| Frame {
        samples,
        t0_ns,
        codes: vec![0; usize::try_from(samples).unwrap() * 2],
        ..sample()
    };
    assert_eq!(frame(6000, 0).check_against(&birth), Ok(()), "60 s exactly");
    assert_eq!(frame(6000, 0).end_ns(hz(100)).unwrap(), 60_000_000_000);
    let why = |frame: Frame, birth: &Birth| frame.check_against(birth).unwrap_err().reason;
    assert_eq!(why(frame(6001, 0), &birth), reason::FRAME_SPAN);
    assert_eq!(why(frame(1, i64::MAX), &birth), reason::TIME_OVERFLOW);
    let one = Birth {
        leads: vec![lead("I")],
        ..birth
    };
    assert_eq!(why(frame(1, 0), &one), reason::FRAME_LEADS);
}
