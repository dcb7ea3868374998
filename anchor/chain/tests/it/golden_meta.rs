//! Golden metadata: a good text and its reading, and a bad twin for every rule.
//!
//! `tests/golden/meta/good.json` is the text as stored, byte for byte. Each line of `bad.tsv` is a
//! twin: what is wrong, the text to replace (it occurs once in the good text), its replacement.

use std::path::PathBuf;

use chordae_base::{RangeSet, wire::ClockKind};
use chordae_chain::{
    link::Link,
    meta::{ChunkMeta, Lane},
};

fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/meta")
        .join(name);
    std::fs::read_to_string(path).expect("a golden file")
}

fn good() -> String {
    golden("good.json")
}

#[test]
fn the_good_text_is_read_and_written_byte_for_byte() {
    let text = good();
    let meta = ChunkMeta::parse(&text).unwrap();
    assert_eq!(meta.to_json(), text);
    assert_eq!(
        (meta.boot, meta.lane, meta.rows),
        (u64::MAX, Lane::Late, 7200)
    );
    assert_eq!(
        (meta.clock.quality, meta.clock.offset_ns),
        (ClockKind::FreeRunning, -1_500_000_000)
    );
    assert_eq!(meta.leads[0].gain, 200.0);
    assert_eq!(
        (meta.leads[1].name.as_str(), meta.leads[1].gain),
        ("a\"\\b", -0.1)
    );
    let mut covered = RangeSet::new();
    covered.insert_range(10, 11);
    covered.insert_range(15, 15);
    covered.insert_range(18, 30);
    assert_eq!(meta.covered(), covered);
}

#[test]
fn a_gain_may_be_spelled_freely_and_nothing_else_may() {
    let text = good();
    let meta = ChunkMeta::parse(&text).unwrap();
    for gain in [
        "200",
        "2e2",
        "2E+2",
        "200.0000",
        "200.000000000000000001",
        "20000e-2",
    ] {
        let other = text.replacen("\"gain\":200.0", &format!("\"gain\":{gain}"), 1);
        assert_eq!(ChunkMeta::parse(&other).unwrap(), meta, "{gain}");
    }
    // The nearest double, where a sloppy reader is one step off.
    let spelling = "122.416294033786585";
    let exact = text.replacen("\"gain\":200.0", &format!("\"gain\":{spelling}"), 1);
    let nearest: f64 = spelling.parse().unwrap();
    assert_eq!(
        ChunkMeta::parse(&exact).unwrap().leads[0].gain.to_bits(),
        nearest.to_bits()
    );
}

#[test]
fn every_bad_twin_is_refused() {
    let text = good();
    let mut twins = 0;
    for line in golden("bad.tsv").lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        let [what, from, to] = parts.as_slice() else {
            panic!("{line:?} has not three fields")
        };
        assert_eq!(
            text.matches(from).count(),
            1,
            "{what}: {from:?} must occur once"
        );
        let twin = text.replacen(from, to, 1);
        assert!(
            ChunkMeta::parse(&twin).is_err(),
            "{what} was accepted: {twin}"
        );
        twins += 1;
    }
    assert!(twins > 60, "{twins} twins");
    for cut in 0..text.len() {
        assert!(ChunkMeta::parse(&text[..cut]).is_err(), "cut at byte {cut}");
    }
    assert!(
        ChunkMeta::parse(&format!("{text}\n")).is_err(),
        "a line feed behind it"
    );
    assert!(
        ChunkMeta::parse(&format!("\u{feff}{text}")).is_err(),
        "a byte order mark"
    );
}

#[test]
fn every_field_that_link_and_metadata_share_must_agree() {
    let meta = ChunkMeta::parse(&good()).unwrap();
    let link = Link {
        did: meta.did,
        index: meta.index,
        slot_start_ns: meta.slot_start_ns,
        slot_len_ns: meta.slot_len_ns,
        first_ns: meta.first_ns,
        end_ns: meta.end_ns,
        rows: meta.rows,
        file_root: meta.prev,
        pages_root: meta.prev,
        prev: meta.prev,
    };
    meta.check_link(&link).unwrap();
    type Twist = fn(&mut Link);
    let twists: [(&str, Twist); 8] = [
        ("did", |l| l.did.0[0] ^= 1),
        ("index", |l| l.index += 1),
        ("slot_start_ns", |l| l.slot_start_ns += l.slot_len_ns),
        ("slot_len_ns", |l| l.slot_len_ns += 1),
        ("first_ns", |l| l.first_ns += 1),
        ("end_ns", |l| l.end_ns -= 1),
        ("rows", |l| l.rows -= 1),
        ("prev", |l| l.prev.0[0] ^= 1),
    ];
    for (field, twist) in twists {
        let mut other = link.clone();
        twist(&mut other);
        let why = meta.check_link(&other).unwrap_err().why;
        assert!(why.ends_with(field), "{field}: {why}");
    }
}

#[test]
fn the_times_must_be_those_that_the_metadata_says() {
    let mut meta = ChunkMeta::parse(&good()).unwrap();
    meta.rows = 3;
    let (first, end) = (meta.first_ns, meta.end_ns);
    let last = end - meta.rate.after_ns(1).unwrap();
    meta.check_times(&[first, first + 5, last]).unwrap();
    assert!(meta.check_times(&[first, last]).is_err(), "a row short");
    assert!(
        meta.check_times(&[first + 1, first + 5, last]).is_err(),
        "another first"
    );
    assert!(
        meta.check_times(&[first, first + 5, last - 1]).is_err(),
        "another last"
    );
    assert!(meta.check_times(&[]).is_err(), "none");
    // The end is cut at the slot's.
    meta.end_ns = meta.slot_start_ns + meta.slot_len_ns;
    meta.check_times(&[first, first + 5, meta.end_ns - 1])
        .unwrap();
}
