//! Ledgers that are wrong in ways only a key holder, or a careless copier, can make them.

use bytes::Bytes;
use chordae_base::Digest;
use chordae_chain::{
    cbor,
    checkpoint::Checkpoint,
    cosignature::{self, TrustedWitness},
    event::{self, Event},
    finding::Code,
    heads::{HeadSet, file_name},
    link::{self, Link},
    merkle,
};
use chordae_checker::{
    Verdict,
    tamper::{LogKeys, write_log},
};
use ciborium::Value;

use crate::house::{House, ORIGIN, add_data, keys, log_keys, only};

fn partial(house: &House, tile: &str) -> String {
    format!("ledger/tile/{tile}.p/{}", house.entries.len())
}

/// Puts the checkpoint for the first `size` entries, by the true key, with the partial tiles that the
/// log had at that size.
fn put_back(house: &House, size: usize) {
    let entries = &house.entries[..size];
    let leaves: Vec<_> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
    house.put_log(entries);
    let root = merkle::root(&leaves);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: size as u64,
        root,
    };
    house.put(
        "ledger/checkpoint",
        checkpoint.sign(&keys(5).sign).unwrap().as_bytes(),
    );
}

#[test]
fn a_ledger_put_back_by_its_own_key_is_a_rollback() {
    let house = House::new();
    // One batch past the checkpoint is what a crash may leave ...
    put_back(&house, 6);
    let report = house.check();
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(report.verdict, Verdict::Unanchored);
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("waits for its checkpoint"))
    );
    // ... two were both signed for once.
    put_back(&house, 3);
    only(&house.check(), &[("ledger/checkpoint", Code::Rollback)]);
}

#[test]
fn entries_that_the_journal_of_batches_was_bringing_in_are_no_rollback() {
    let house = House::new();
    let signed = |house: &House| String::from_utf8(house.get("ledger/checkpoint")).unwrap();
    let settled = |text: String| Value::Array(vec!["chordae settled 1".into(), text.into()]);
    let batch = || Value::Array(vec!["chordae pending 1".into(), 0.into()]);
    let journal = |records: Vec<Value>| {
        let records = records.iter().map(|r| cbor::encode(r).unwrap().into());
        house.journal("ledger.batches", &records.collect::<Vec<Bytes>>());
    };
    put_back(&house, 6);
    let other = signed(&house);
    put_back(&house, 3);
    let three = signed(&house);
    // A crash while they came into the folder.
    journal(vec![settled(three.clone()), batch(), batch()]);
    let report = house.check();
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(report.notes.iter().any(|n| n.starts_with("2 batches")));
    // The controls: a journal without any, one of another checkpoint, and none.
    let rolled_back = [("ledger/checkpoint", Code::Rollback)];
    for records in [
        vec![settled(three)],
        vec![settled(other), batch(), batch()],
        vec![],
    ] {
        journal(records);
        only(&house.check(), &rolled_back);
    }
}

#[test]
fn a_ledger_is_proven_once_its_quorum_has_cosigned() {
    let mut house = House::new();
    assert_eq!(house.check().verdict, Verdict::Ok);
    let name = "w.example";
    let witness = TrustedWitness::new(name, &keys(7).sign_public()).unwrap();
    let demand = format!("witness W {}\nquorum W", witness.vkey());
    house.trust.policy = house.trust.policy.replace("quorum none", &demand);
    let note = String::from_utf8(house.get("ledger/checkpoint")).unwrap();
    let checkpoint = house
        .trust
        .policy()
        .unwrap()
        .open(&note)
        .unwrap()
        .checkpoint;
    let with = |seed: Option<u8>| {
        let sign = |seed| cosignature::sign(&checkpoint, name, &keys(seed).sign, 77).unwrap();
        let line = seed.map(sign).unwrap_or_default();
        house.put("ledger/checkpoint", format!("{note}{line}").as_bytes());
        house.check()
    };
    // Nobody has cosigned, or somebody else under the witness's name: intact, and nothing is proven.
    for seed in [None, Some(8)] {
        let report = with(seed);
        only(&report, &[]);
        assert_eq!(report.verdict, Verdict::Unanchored);
        assert!(report.notes.iter().any(|n| n.ends_with("it lacks W")));
        let unproven = |s: &chordae_checker::StreamReport| s.anchored_to.is_none();
        assert!(report.streams.iter().all(unproven));
    }
    let report = with(Some(7));
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Ok);
    // Other entries under a cosigned checkpoint are damage still.
    let mut entries = house.get(&partial(&house, "entries/000"));
    entries[9] ^= 1;
    house.put(&partial(&house, "entries/000"), &entries);
    assert_eq!(house.check().verdict, Verdict::Damaged);
}

#[test]
fn what_witnesses_have_cosigned_counts_while_they_lag_behind() {
    let mut house = House::new();
    let name = "w.example";
    let witness = TrustedWitness::new(name, &keys(7).sign_public()).unwrap();
    let demand = format!("witness W {}\nquorum W", witness.vkey());
    house.trust.policy = house.trust.policy.replace("quorum none", &demand);
    let size = house.entries.len();
    let cosigned = |size: usize, root| {
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: size as u64,
            root,
        };
        let note = checkpoint.sign(&keys(5).sign).unwrap();
        note + &cosignature::sign(&checkpoint, name, &keys(7).sign, 77).unwrap()
    };
    let root = |size: usize| {
        let leaves = house.entries[..size].iter().map(|e| merkle::leaf_hash(e));
        merkle::root(&leaves.collect::<Vec<_>>())
    };
    let anchored = |text: String| {
        house.put("ledger.cosigned", text.as_bytes());
        let report = house.check();
        let anchored: Vec<_> = report.streams.iter().map(|s| s.anchored_to).collect();
        (anchored, report)
    };
    let (all, report) = anchored(cosigned(size, root(size)));
    assert_eq!(report.verdict, Verdict::Ok);
    assert!(all.iter().all(Option::is_some));
    // An earlier one: what was anchored since does not count yet, and nothing is wrong.
    let (some, report) = anchored(cosigned(3, root(3)));
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Unanchored);
    assert!(
        some != all && some.iter().zip(&all).all(|(a, b)| a <= b),
        "{some:?} of {all:?}"
    );
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("the first 3 entries"))
    );
    // Another history, a longer one, and what is no checkpoint of the log.
    let (_, report) = anchored(cosigned(3, [1; 32]));
    only(&report, &[("ledger.cosigned", Code::Fork)]);
    let (_, report) = anchored(cosigned(size + 1, [1; 32]));
    only(&report, &[("ledger.cosigned", Code::Rollback)]);
    let (_, report) = anchored("nothing\n".into());
    only(&report, &[("ledger.cosigned", Code::CheckpointSignature)]);
}

#[test]
fn a_checkpoint_of_the_true_key_over_other_entries_is_no_root() {
    let house = House::new();
    let other = Checkpoint {
        origin: ORIGIN.into(),
        size: 9,
        root: [1; 32],
    };
    house.put(
        "ledger/checkpoint",
        other.sign(&keys(5).sign).unwrap().as_bytes(),
    );
    only(&house.check(), &[("ledger/checkpoint", Code::LogRoot)]);
    // Not at the end of a block.
    put_back(&house, 8);
    only(&house.check(), &[("ledger/checkpoint", Code::LogRoot)]);
}

#[test]
fn missing_and_cut_tiles_are_named() {
    for (tile, code) in [
        ("entries/000", Code::MissingFile),
        ("0/000", Code::MissingFile),
    ] {
        let house = House::new();
        let name = partial(&house, tile);
        house.remove(&name);
        let report = house.check();
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.object == name && f.code == code),
            "{report:?}"
        );
    }
    let house = House::new();
    let name = partial(&house, "0/000");
    let bytes = house.get(&name);
    house.put(&name, &bytes[..bytes.len() - 32]);
    only(&house.check(), &[(&name, Code::LogRoot)]);
    // A claim of 2^62 entries ends where the files end.
    let house = House::new();
    let huge = Checkpoint {
        origin: ORIGIN.into(),
        size: 1 << 62,
        root: [1; 32],
    };
    house.put(
        "ledger/checkpoint",
        huge.sign(&keys(5).sign).unwrap().as_bytes(),
    );
    assert_eq!(house.check().verdict, Verdict::Damaged);
}

#[test]
fn heads_that_were_anchored_together_are_held_against_their_root() {
    let mut house = House::new();
    let head = |link: &Link| (link::tag(&link.did, link.index), link.digest());
    let heads: Vec<_> = house.links.iter().map(head).collect();
    let put = |house: &mut House, set: &HeadSet| {
        let (root, count) = (set.root(), set.count());
        let event = Event::AddHeads { root, count };
        let name = format!("ledger.heads/{}", file_name(&root));
        house.put(&name, &set.encode());
        house
            .batches
            .push(vec![event::sign(&event, &keys(1)).unwrap()]);
        for tile in ["0/000", "entries/000"] {
            house.remove(&partial(house, tile));
        }
        house.write_ledger();
        name
    };
    let name = put(&mut house, &HeadSet::new(heads.clone()).unwrap());
    only(&house.check(), &[]);
    let mut bytes = house.get(&name);
    bytes[40] ^= 1;
    house.put(&name, &bytes);
    only(&house.check(), &[(&name, Code::LogRoot)]);
    house.remove(&name);
    only(&house.check(), &[(&name, Code::MissingFile)]);
    bytes[40] ^= 1;
    house.put(&name, &bytes);
    only(&house.check(), &[]);
    // Another digest under the tag of a head that is anchored elsewhere.
    let other = (heads[3].0, Digest([7; 32]));
    put(&mut house, &HeadSet::new(vec![other, heads[4]]).unwrap());
    let report = house.check();
    let forks = report.findings.iter().filter(|f| f.code == Code::Fork);
    assert!(forks.count() > 0, "{:?}", report.findings);
}

#[test]
fn an_older_partial_tile_must_be_a_beginning() {
    let house = House::new();
    let hashes = house.get(&partial(&house, "0/000"));
    house.put("ledger/tile/0/000.p/3", &hashes[..96]);
    only(&house.check(), &[]);
    house.put("ledger/tile/0/000.p/3", &hashes[32..128]);
    only(&house.check(), &[("ledger/tile/0/000.p/3", Code::LogRoot)]);
}

#[test]
fn tiles_above_the_lowest_are_checked() {
    let mut house = House::new();
    // Enough entries for a tile of level 1.
    let filler = |n: u8| Event::RevokeSession {
        sid: [n; 32],
        nonce: [n; 16],
    };
    let batch = |from: u8| (from..from + 100).map(|n| event::sign(&filler(n), &keys(3)).unwrap());
    house
        .batches
        .extend([batch(0).collect(), batch(100).collect()]);
    house.batches.push(
        (200..=255)
            .map(|n| event::sign(&filler(n), &keys(3)).unwrap())
            .collect(),
    );
    for tile in ["0/000", "entries/000"] {
        house.remove(&partial(&house, tile));
    }
    house.write_ledger();
    only(&house.check(), &[]);
    let mut bytes = house.get("ledger/tile/1/000.p/1");
    bytes[5] ^= 1;
    house.put("ledger/tile/1/000.p/1", &bytes);
    only(&house.check(), &[("ledger/tile/1/000", Code::LogRoot)]);
}

#[test]
fn entries_of_the_wrong_signer_are_named() {
    // A provider nobody trusts, a block by the provider, a grant by an unknown patient.
    let mut house = House::new();
    let link = house.links[0].clone();
    let Ok(Event::AddData {
        digest,
        tag,
        content,
    }) = event::decode(&add_data(&link)).map(|s| s.event)
    else {
        panic!("an add-data event");
    };
    let add = Event::AddData {
        digest,
        tag,
        content,
    };
    let revoke = Event::RevokeSession {
        sid: [1; 32],
        nonce: [1; 16],
    };
    house.batches.push(vec![
        event::sign(&add, &keys(9)).unwrap(),
        event::sign(&revoke, &keys(9)).unwrap(),
        event::sign(&revoke, &keys(1)).unwrap(),
    ]);
    house.write_ledger();
    only(
        &house.check(),
        &[
            ("ledger entry 9", Code::EntrySignature),
            ("ledger entry 10", Code::EntrySignature),
            ("ledger entry 11", Code::EntrySignature),
        ],
    );
    let strange = LogKeys {
        log: keys(5),
        sequencer: keys(1),
    };
    write_log(
        &house.arc(),
        &house.root,
        ORIGIN,
        &strange,
        &house.batches[..1],
        1000,
    )
    .unwrap();
    let report = house.check();
    let named = report
        .findings
        .iter()
        .any(|f| f.object == "ledger entry 2" && f.code == Code::EntrySignature);
    assert!(named, "{report:?}");
}

#[test]
fn blocks_must_chain() {
    let house = House::new();
    // The second and third block leave out what was before them: two logs glued together.
    let glued = |batches: &[Vec<Vec<u8>>]| {
        let scratch = House::new();
        write_log(
            &scratch.arc(),
            &scratch.root,
            ORIGIN,
            &log_keys(),
            batches,
            1,
        )
        .unwrap()
    };
    let mut entries = glued(&house.batches[..1]);
    entries.extend(glued(&house.batches[1..2]));
    let mut bundle = Vec::new();
    for entry in &entries {
        bundle.extend((entry.len() as u16).to_be_bytes());
        bundle.extend(entry);
    }
    let leaves: Vec<_> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
    for tile in ["0/000", "entries/000"] {
        house.remove(&partial(&house, tile));
    }
    house.put("ledger/tile/entries/000.p/6", &bundle);
    house.put("ledger/tile/0/000.p/6", leaves.as_flattened());
    let root = merkle::root(&leaves);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: 6,
        root,
    };
    house.put(
        "ledger/checkpoint",
        checkpoint.sign(&keys(5).sign).unwrap().as_bytes(),
    );
    only(
        &house.check(),
        &[
            ("ledger entry 5", Code::Fork),
            ("ledger entry 5", Code::LogRoot),
        ],
    );
}

#[test]
fn a_shorter_trail_than_the_ledger_knows_is_named() {
    let house = House::new();
    let records = crate::house::trail(4);
    house.journal("trail", &records[..3]);
    only(&house.check(), &[("trail", Code::Trail)]);
    house.journal("trail", &crate::house::trail(9));
    only(&house.check(), &[]);
}

#[test]
fn no_ledger_proves_nothing_and_tiles_without_a_checkpoint_are_a_finding() {
    let house = House::new();
    house.remove("ledger/checkpoint");
    only(&house.check(), &[("ledger/checkpoint", Code::MissingFile)]);
}
