//! Births and frames, protobuf and JSON (formats.md 2): what is taken comes back the same.

use chordae_base::{
    Rate,
    wire::{Birth, ClockKind, Frame, Glance, Lead, NO_VALUE, reason},
};

/// Any bytes as a birth.
pub fn birth(data: &[u8]) {
    if let Ok(birth) = Birth::decode(data) {
        birth_again(&birth);
    }
}

/// Any bytes as a birth's JSON twin.
pub fn birth_json(data: &[u8]) {
    if let Ok(birth) = Birth::from_json(data) {
        birth_again(&birth);
    }
}

/// Any bytes as a frame; a glance at it sees the same.
pub fn frame(data: &[u8]) {
    let whole = Frame::decode(data);
    let seen = whole.as_ref().map(Glance::from).map_err(Clone::clone);
    assert_eq!(Glance::read(data, &mut Vec::new()), seen);
    if let Ok(frame) = whole {
        frame_again(&frame);
    }
}

/// Any bytes as a frame's JSON twin.
pub fn frame_json(data: &[u8]) {
    if let Ok(frame) = Frame::from_json(data) {
        frame_again(&frame);
    }
}

fn birth_again(birth: &Birth) {
    assert_eq!(Birth::decode(&birth.encode()).as_ref(), Ok(birth));
    assert_eq!(
        Birth::from_json(birth.to_json().as_bytes()).as_ref(),
        Ok(birth)
    );
    assert!((1..=32).contains(&birth.leads.len()));
}

fn frame_again(frame: &Frame) {
    // One frame, three encodings: the same codes, the same print.
    let samples = usize::try_from(frame.samples).unwrap_or(usize::MAX);
    assert_eq!(frame.codes.len(), frame.leads() * samples);
    let twins = [
        Frame::decode(&frame.encode()),
        Frame::from_json(frame.to_json().as_bytes()),
        frame
            .encode_i16le()
            .map_or_else(|| Ok(frame.clone()), |bytes| Frame::decode(&bytes)),
    ];
    for twin in twins {
        match twin {
            Ok(twin) => {
                assert_eq!(&twin, frame);
                assert_eq!(twin.print(), frame.print());
            }
            // Our encoding may be longer than a payload may be where the sender's was not.
            Err(bad) => assert_eq!(bad.reason, reason::PAYLOAD_SIZE, "{bad}"),
        }
    }
}

fn good_birth() -> Birth {
    let lead = |name: &str, gain| Lead {
        name: name.into(),
        mdc: 2,
        gain,
        baseline: -1024,
        unit: "mV".into(),
        bits: 12,
    };
    let Ok(rate) = Rate::new(360, 1) else {
        unreachable!("360 Hz is a rate")
    };
    Birth {
        boot: 7,
        rate,
        leads: vec![lead("MLII", 200.0), lead("V5", 0.125)],
        model: "bedside".into(),
        firmware: "1.2".into(),
        clock: ClockKind::Synced,
    }
}

fn good_frame() -> Frame {
    Frame {
        boot: 7,
        seq: 3,
        t0_ns: 1_700_000_000_000_000_000,
        samples: 6,
        codes: vec![0, 5, -9, 32_000, -32_000, 1, 7, 7, 8, 9, 10, 11],
        historical: false,
        clock: ClockKind::FreeRunning,
    }
}

fn frames() -> Vec<Frame> {
    let good = good_frame();
    let mut holes = good.clone();
    holes.codes = vec![NO_VALUE, i32::MAX, -1, NO_VALUE, 0, i32::MIN + 1];
    holes.historical = true;
    let mut long = good.clone();
    long.samples = 500;
    long.codes = (0..1500).map(|i| (i * 37) % 2000 - 1000).collect();
    vec![good, holes, long]
}

/// Births that are taken.
pub fn birth_seeds() -> Vec<Vec<u8>> {
    vec![good_birth().encode()]
}

/// The same as JSON.
pub fn birth_json_seeds() -> Vec<Vec<u8>> {
    vec![good_birth().to_json().into_bytes()]
}

/// Frames that are taken, in both encodings.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let frames = frames();
    let words = frames.iter().filter_map(Frame::encode_i16le);
    frames.iter().map(Frame::encode).chain(words).collect()
}

/// The same as JSON.
pub fn frame_json_seeds() -> Vec<Vec<u8>> {
    frames().iter().map(|f| f.to_json().into_bytes()).collect()
}
