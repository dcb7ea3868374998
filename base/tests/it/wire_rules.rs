//! One bad twin for every rule about births and frames, in protobuf and in JSON.

use std::collections::BTreeSet;

use chordae_base::wire::{Birth, Frame, REASONS, reason};
use serde_json::{Value, json};

/// Protobuf put together by hand, because our own types cannot say what is wrong.
#[derive(Default, Clone)]
struct Proto(Vec<u8>);

impl Proto {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
            n >>= 7;
        }
        self.0.push(u8::try_from(n).unwrap());
    }

    fn number(mut self, tag: u64, n: u64) -> Self {
        self.varint(tag << 3);
        self.varint(n);
        self
    }

    fn bytes(mut self, tag: u64, bytes: &[u8]) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn double(mut self, tag: u64, value: f64) -> Self {
        self.varint(tag << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }
}

/// A birth as its fields in JSON; the same value makes both forms.
fn lead() -> Value {
    json!({"name": "II", "mdc": 0, "gain": 200.0, "baseline": 0, "unit": "mV", "bits": 12})
}

fn birth() -> Value {
    json!({"boot": 1, "rate_num": 250, "rate_den": 1, "leads": [lead()],
           "model": "m", "firmware": "1", "clock": 1})
}

fn text<'a>(value: &'a Value, key: &str) -> &'a [u8] {
    value[key].as_str().unwrap().as_bytes()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

fn birth_proto(birth: &Value, gain: Option<f64>) -> Vec<u8> {
    let mut proto = Proto::default()
        .number(1, number(birth, "boot"))
        .number(2, number(birth, "rate_num"))
        .number(3, number(birth, "rate_den"));
    for lead in birth["leads"].as_array().unwrap() {
        let lead = Proto::default()
            .bytes(1, text(lead, "name"))
            .double(3, gain.unwrap_or(lead["gain"].as_f64().unwrap()))
            .bytes(5, text(lead, "unit"))
            .number(6, number(lead, "bits"));
        proto = proto.bytes(4, &lead.0);
    }
    let proto = proto
        .bytes(5, text(birth, "model"))
        .bytes(6, text(birth, "firmware"));
    proto.number(7, number(birth, "clock")).0
}

fn with(key: &str, value: Value) -> Value {
    let mut birth = birth();
    birth[key] = value;
    birth
}

fn with_lead(key: &str, value: Value) -> Value {
    let mut lead = lead();
    lead[key] = value;
    with("leads", json!([lead]))
}

fn named(names: &[&str]) -> Value {
    let leads = names.iter().map(|name| {
        let mut lead = lead();
        lead["name"] = json!(name);
        lead
    });
    with("leads", leads.collect())
}

#[test]
fn every_rule_about_births_has_a_bad_twin_and_a_good_neighbour() {
    let many = |n: usize| -> Vec<String> { (0..n).map(|i| format!("L{i}")).collect() };
    let names = |n: usize| named(&many(n).iter().map(String::as_str).collect::<Vec<_>>());
    let bad = [
        (reason::CLOCK, with("clock", json!(3))),
        (reason::RATE, with("rate_num", json!(0))),
        (reason::RATE, with("rate_den", json!(0))),
        (reason::RATE, with("rate_den", json!(251))),
        (reason::RATE, with("rate_num", json!(10_001))),
        (reason::LEAD_COUNT, with("leads", json!([]))),
        (reason::LEAD_COUNT, names(33)),
        (reason::LEAD_NAME, named(&[""])),
        (reason::LEAD_NAME, named(&["seventeen letters"])),
        (reason::LEAD_NAME, named(&["a~b"])),
        (reason::LEAD_NAME, named(&[" II"])),
        (reason::LEAD_NAME, named(&["II "])),
        (reason::LEAD_NAME, named(&["I\nI"])),
        (reason::LEAD_NAME, named(&["Ü"])),
        (reason::LEAD_NAME, named(&["time"])),
        (reason::LEAD_NAME, named(&["Time"])),
        (reason::LEAD_TWICE, named(&["aVR", "AVR"])),
        (reason::GAIN, with_lead("gain", json!(0.0))),
        (reason::GAIN, with_lead("gain", json!(-0.0))),
        (reason::UNIT, with_lead("unit", json!(""))),
        (reason::UNIT, with_lead("unit", json!("m V"))),
        (reason::UNIT, with_lead("unit", json!("µV"))),
        (reason::UNIT, with_lead("unit", json!("x".repeat(129)))),
        (reason::BITS, with_lead("bits", json!(7))),
        (reason::BITS, with_lead("bits", json!(32))),
        (reason::TEXT, with("model", json!("x".repeat(129)))),
        (reason::TEXT, with("firmware", json!("1\u{1b}[2J"))),
    ];
    for (why, twin) in bad {
        assert_eq!(
            Birth::decode(&birth_proto(&twin, None)).unwrap_err().reason,
            why,
            "{twin}"
        );
        assert_eq!(
            Birth::from_json(twin.to_string().as_bytes())
                .unwrap_err()
                .reason,
            why,
            "{twin}"
        );
    }
    let good = [
        birth(),
        names(32),
        named(&["a V/R;\"'=", "timer", "sixteen letters!"]),
        with("rate_num", json!(10_000)),
        with("rate_den", json!(250)),
        with_lead("bits", json!(8)),
        with_lead("bits", json!(31)),
        with_lead("gain", json!(-1e-300)),
        with_lead("unit", json!("x".repeat(128))),
        with("clock", json!(0)),
        with("model", json!("Bettmonitor Größe 3")),
        with("boot", json!(u64::MAX)),
    ];
    for twin in good {
        let one = Birth::decode(&birth_proto(&twin, None)).unwrap();
        assert_eq!(
            Birth::from_json(twin.to_string().as_bytes()).unwrap(),
            one,
            "{twin}"
        );
    }
    for gain in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let found = Birth::decode(&birth_proto(&birth(), Some(gain)));
        assert_eq!(
            found.unwrap_err().reason,
            reason::GAIN,
            "{gain}: JSON cannot say it"
        );
    }
}

fn frame() -> Proto {
    Proto::default().number(1, 1).number(2, 2).number(3, 3)
}

#[test]
fn every_rule_about_frames_has_a_bad_twin() {
    let codes = |n: usize| vec![0u8; n];
    let max = 256 * 1024;
    let bad = [
        (reason::SAMPLES, frame().number(4, 0).bytes(5, &codes(1))),
        (
            reason::SAMPLES,
            frame().number(4, 65_537).bytes(5, &codes(65_537)),
        ),
        (
            reason::SAMPLES,
            frame().number(4, u64::from(u32::MAX)).bytes(5, &codes(1)),
        ),
        (reason::CODES_MISSING, frame().number(4, 1)),
        (
            reason::CODES_MISSING,
            frame().number(4, 1).bytes(5, &[]).bytes(6, &[]),
        ),
        (
            reason::CODES_TWICE,
            frame().number(4, 1).bytes(5, &codes(1)).bytes(6, &codes(2)),
        ),
        (
            reason::CODES_LENGTH,
            frame().number(4, 2).bytes(5, &codes(3)),
        ),
        (
            reason::CODES_LENGTH,
            frame().number(4, 1).bytes(6, &codes(3)),
        ),
        (
            reason::CODES_LENGTH,
            frame().number(4, 3).bytes(6, &codes(4)),
        ),
        (
            reason::LEAD_COUNT,
            frame().number(4, 1).bytes(5, &codes(33)),
        ),
        (
            reason::LEAD_COUNT,
            frame().number(4, 2).bytes(6, &codes(132)),
        ),
        (
            reason::CLOCK,
            frame().number(4, 1).bytes(5, &codes(1)).number(8, 3),
        ),
        (
            reason::CLOCK,
            frame().number(4, 1).bytes(5, &codes(1)).number(8, u64::MAX),
        ),
        (reason::PROTOBUF, Proto(vec![0xff])),
        (reason::PROTOBUF, frame().number(4, 1).number(6, 9)),
        // Lengths far beyond what is there: refused, nothing allocated for them.
        (
            reason::PROTOBUF,
            Proto(vec![0x2a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        (
            reason::PROTOBUF,
            Proto(vec![
                0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
            ]),
        ),
        (reason::PAYLOAD_SIZE, Proto(codes(max + 1))),
        (
            reason::PAYLOAD_SIZE,
            frame().number(4, 65_536).bytes(5, &codes(5 * 65_536)),
        ),
    ];
    for (why, twin) in bad {
        assert_eq!(Frame::decode(&twin.0).unwrap_err().reason, why);
    }
    let good = [
        frame().number(4, 65_536).bytes(5, &codes(3 * 65_536)),
        frame().number(4, 1).bytes(5, &codes(32)),
        frame().number(4, 2).bytes(6, &codes(128)),
        frame()
            .number(4, 1)
            .bytes(5, &codes(1))
            .bytes(99, b"a later version"),
    ];
    for twin in good {
        Frame::decode(&twin.0).unwrap();
    }
}

#[test]
fn every_rule_about_frames_in_json_has_a_bad_twin() {
    let nulls = |n: usize| format!("{{\"leads\":[[{}0]]}}", "null,0,".repeat(n));
    let many = format!("{{\"leads\":[{}]}}", vec!["[1]"; 33].join(","));
    let bad = [
        (reason::SAMPLES, "{\"leads\":[[]]}"),
        (reason::SAMPLES, "{\"samples\":0,\"leads\":[[1]]}"),
        (reason::CODES_MISSING, "{}"),
        (reason::CODES_MISSING, "{\"samples\":1,\"leads\":[]}"),
        (reason::CODES_LENGTH, "{\"leads\":[[1,2],[1]]}"),
        (reason::CODES_LENGTH, "{\"samples\":2,\"leads\":[[1]]}"),
        (reason::LEAD_COUNT, &many),
        (reason::CLOCK, "{\"leads\":[[1]],\"clock\":\"sundial\"}"),
        (reason::CLOCK, "{\"leads\":[[1]],\"clock\":-1}"),
        (reason::JSON, ""),
        (reason::JSON, "[]"),
        (reason::JSON, "{\"leads\":[[1]]} x"),
        (reason::JSON, "{\"leads\":[[1]],\"Seq\":1}"),
        (reason::JSON, "{\"leads\":[[1]],\"seq\":1,\"seq\":2}"),
        (reason::JSON, "{\"leads\":[[1]],\"seq\":-1}"),
        (reason::JSON, "{\"leads\":[[1]],\"seq\":1.5}"),
        (
            reason::JSON,
            "{\"leads\":[[1]],\"t0_ns\":9223372036854775808}",
        ),
        (reason::JSON, "{\"leads\":[[2147483648]]}"),
        (reason::JSON, "{\"leads\":[[1.5]]}"),
        (reason::JSON, "{\"leads\":[[\"1\"]]}"),
        (reason::JSON, "{\"leads\":[[NaN]]}"),
        (reason::PAYLOAD_SIZE, &nulls(32_000)),
        (reason::PAYLOAD_SIZE, &nulls(40_000)),
    ];
    for (why, twin) in bad {
        let found = Frame::from_json(twin.as_bytes()).unwrap_err().reason;
        assert_eq!(found, why, "{}", twin.get(..80).unwrap_or(twin));
    }
    assert_eq!(
        Frame::from_json(nulls(26_000).as_bytes()).unwrap().samples,
        52_001
    );
    let deep = "[".repeat(200_000);
    assert_eq!(
        Frame::from_json(deep.as_bytes()).unwrap_err().reason,
        reason::JSON
    );
    let misspelt = "{\"boot\":1,\"leads\":[],\"rate\":250}";
    assert_eq!(
        Birth::from_json(misspelt.as_bytes()).unwrap_err().reason,
        reason::JSON
    );
}

#[test]
fn reasons_are_labels_each_once() {
    let unique: BTreeSet<_> = REASONS.iter().collect();
    assert_eq!(unique.len(), REASONS.len());
    let plain = |r: &&str| r.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    assert!(REASONS.iter().all(plain));
}
