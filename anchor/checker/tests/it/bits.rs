//! Bits flipped: every one of a small chunk, one of every few bytes of everything else.

use bytes::Bytes;
use chordae_chain::finding::Code;
use chordae_checker::{Verdict, check_chunk};

use crate::house::{House, chain, did, object, only};

#[test]
fn every_bit_of_a_chunk() {
    let chunks = chain(did(1), 2);
    let (bytes, link) = (chunks[1].bytes(), chunks[1].link());
    let links = [chunks[0].link().clone(), link.clone()];
    assert_eq!(
        check_chunk(bytes.clone(), &links).verdict,
        Verdict::Unanchored,
        "the control"
    );
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut broken = bytes.to_vec();
            broken[at] ^= 1 << bit;
            // The footer may not be readable, then the chunk cannot even be matched with its link.
            let report = check_chunk(Bytes::from(broken), std::slice::from_ref(link));
            let silent = report.findings.is_empty()
                && report.streams[0].did == did(1)
                && report.notes.is_empty();
            assert!(!silent, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn bytes_of_a_chunk_in_its_folder() {
    let house = House::new();
    let name = object(1, 3);
    let whole = house.get(&name);
    for at in (0..whole.len()).step_by(97) {
        let mut broken = whole.clone();
        broken[at] ^= 0x10;
        house.put(&name, &broken);
        only(&house.check(), &[(&name, Code::FileDigest)]);
    }
    house.put(&name, &whole);
    only(&house.check(), &[]);
}

#[test]
fn bytes_of_the_ledger_the_links_and_the_trail() {
    let house = House::new();
    let size = house.entries.len();
    let files = [
        ("ledger/checkpoint".to_owned(), 3),
        (format!("ledger/tile/entries/000.p/{size}"), 41),
        (format!("ledger/tile/0/000.p/{size}"), 11),
        ("links/00000000000000000000.log".to_owned(), 37),
        ("trail/00000000000000000000.log".to_owned(), 37),
    ];
    for (name, step) in files {
        let whole = house.get(&name);
        // The last record of a journal is an idle mark: broken, it is a torn tail that held nothing.
        let end = if name.ends_with(".log") {
            whole.len() - 16
        } else {
            whole.len()
        };
        for at in (0..end).step_by(step) {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            house.put(&name, &broken);
            let report = house.check();
            assert_eq!(
                report.verdict,
                Verdict::Damaged,
                "byte {at} of {name}: {report:?}"
            );
            let area = name.split('/').next().unwrap();
            let names = |f: &chordae_chain::finding::Finding| f.object.starts_with(area);
            assert!(
                report.findings.iter().any(names),
                "byte {at} of {name}: {report:?}"
            );
        }
        house.put(&name, &whole);
    }
    only(&house.check(), &[]);
}
