//! An answer in CSV with its bundle, from the folder's own parts.

use bytes::Bytes;
use chordae_chain::{
    bundle::{BundleAnchor, BundleChunk, BundlePage, LinkHex, ProofBundle},
    merkle::{self, StoredHashes},
    receipt,
};
use chordae_checker::{Verdict, check_answer, read_csv};

use crate::house::{House, S, T, did, object};

/// The 10 s of chunk 3 of stream 1, lead II only, anchored by chunk 4.
fn answer(house: &House) -> (ProofBundle, String) {
    let link = |index| &house.links[house.at(1, index)];
    let chunk = chordae_chunk::open(Bytes::from(house.get(&object(1, 3)))).unwrap();
    let digests = chunk.page_digests().unwrap();
    let leaves: Vec<_> = house.entries.iter().map(|e| merkle::leaf_hash(e)).collect();
    // The third batch: after two of two events and a block each.
    let (leaf, size) = (6, leaves.len() as u64);
    let path = merkle::inclusion_path(size, leaf, &StoredHashes::of(&leaves)).unwrap();
    let checkpoint = String::from_utf8(house.get("ledger/checkpoint")).unwrap();
    let bundle = ProofBundle {
        v: 1,
        did: did(1),
        from_ns: T + 30 * S,
        until_ns: T + 40 * S,
        links: vec![LinkHex(link(3).clone()), LinkHex(link(4).clone())],
        chunks: vec![BundleChunk {
            index: 3,
            meta: chunk.meta_json.clone(),
            leaves: digests.leaves.clone(),
            pages: vec![BundlePage::show(&chunk.salt, 0, &digests, &[1]).unwrap()],
        }],
        rows: vec![(3, 80)],
        anchor: Some(BundleAnchor {
            entry: house.entries[6].clone(),
            proof: receipt::make(leaf, &path, &checkpoint),
            head: None,
        }),
    };
    let mut csv = String::from("time_ns,II\n");
    for (time, code) in chunk.rows().times.iter().zip(&chunk.rows().leads[1]) {
        csv.push_str(&format!("{time},{code}\n"));
    }
    (bundle, csv)
}

#[test]
fn a_true_answer_is_ok_and_a_changed_one_is_not() {
    let house = House::new();
    let (bundle, csv) = answer(&house);
    let judged = check_answer(&bundle, read_csv(csv.as_bytes()), Some(&house.trust));
    assert_eq!(judged.report.verdict, Verdict::Ok, "{judged:?}");
    assert_eq!(judged.report.streams[0].anchored_to, Some(4));
    assert_eq!(
        check_answer(&bundle, read_csv(csv.as_bytes()), None)
            .report
            .verdict,
        Verdict::Unanchored
    );

    let last_digit = csv.len() - 2;
    let mut other = csv.clone().into_bytes();
    other[last_digit] = if other[last_digit] == b'1' {
        b'2'
    } else {
        b'1'
    };
    let judged = check_answer(&bundle, read_csv(&other), Some(&house.trust));
    assert_eq!(judged.report.verdict.exit_code(), 3);
    let cut = &csv.as_bytes()[..last_digit];
    assert_eq!(
        check_answer(&bundle, read_csv(cut), Some(&house.trust))
            .report
            .verdict
            .exit_code(),
        3
    );
    let row_less = csv
        .lines()
        .take(80)
        .map(|l| format!("{l}\n"))
        .collect::<String>();
    let judged = check_answer(&bundle, read_csv(row_less.as_bytes()), Some(&house.trust));
    assert_eq!(judged.report.verdict.exit_code(), 3);
}
