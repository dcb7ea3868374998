//! Receipts under a policy that demands two witnesses of three.

use std::sync::Arc;

use chordae_anchor::{Ledger, ledger::Settings};
use chordae_base::{
    Did, FailureKind, Outcome,
    seams::{Disk, fake::FakeClock, fake::FakeDisk},
};
use chordae_chain::{
    checkpoint::TrustedLog,
    cosignature::{self, TrustedWitness},
    event::{self, Event},
    link,
    policy::Policy,
    receipt::Proof,
};

use crate::house::{NOW_NS, ORIGIN, PROVIDER, anchor, keys, open, open_as, party, settings};

const WITNESSES: [u8; 3] = [21, 22, 23];

fn name(seed: u8) -> String {
    format!("w{seed}.example.org")
}

fn policy(quorum: usize) -> Policy {
    let log = TrustedLog::new(ORIGIN, &party(5).sign_public()).unwrap();
    let mut text = format!("log {}\n", log.vkey());
    for seed in WITNESSES {
        let key = TrustedWitness::new(&name(seed), &party(seed).sign_public()).unwrap();
        text += &format!("witness w{seed} {}\n", key.vkey());
    }
    text += &format!("group enough {quorum} w21 w22 w23\nquorum enough\n");
    Policy::parse(&text).unwrap()
}

fn witnessed(disk: impl Disk + 'static) -> Outcome<Ledger> {
    let settings = Settings {
        policy: Some(policy(2)),
        ..settings()
    };
    open_as(Arc::new(disk), settings, FakeClock::new(NOW_NS), keys())
}

/// The newest checkpoint, cosigned by these.
fn cosigned(ledger: &Ledger, by: &[u8]) -> String {
    let (checkpoint, mut note) = ledger.newest();
    for seed in by {
        note += &cosignature::sign(&checkpoint, &name(*seed), &party(*seed).sign, 1).unwrap();
    }
    note
}

#[test]
fn a_receipt_waits_for_its_quorum_and_nothing_else_does() {
    let disk = FakeDisk::new();
    let ledger = witnessed(disk.clone()).unwrap();
    let at = ledger.submit(anchor(1)).unwrap();
    assert_eq!(
        ledger.counted(),
        0,
        "submitted, and it counts for nobody yet"
    );
    assert_eq!(ledger.receipt(at).unwrap_err().kind, FailureKind::NotFound);
    assert!(!ledger.count(&cosigned(&ledger, &WITNESSES[..1])).unwrap());
    assert_eq!(ledger.counted(), 0);

    assert!(ledger.count(&cosigned(&ledger, &WITNESSES[1..])).unwrap());
    assert_eq!(ledger.counted(), ledger.size());
    let text = ledger.receipt(at).unwrap();
    assert!(text.contains(&name(22)) && text.contains(&name(23)));
    assert!(
        ledger.checkpoint().contains(&name(22)),
        "outsiders see them too"
    );
    assert!(
        !ledger.count(&cosigned(&ledger, &WITNESSES)).unwrap(),
        "it counts already"
    );

    // More comes: the old one counts on, its tiles are still there, and the new entry waits.
    let later = (2..600)
        .map(|n| ledger.submit(anchor(n)).unwrap())
        .max()
        .unwrap();
    assert!(ledger.receipt(at).is_ok());
    assert_eq!(
        ledger.receipt(later).unwrap_err().kind,
        FailureKind::NotFound
    );
    let old = ledger.counted();
    let path = ledger.consistency(ledger.size(), old).unwrap();
    assert!(!path.is_empty());
    ledger.stop();

    // A start remembers what counts; one without the demand goes by the newest again.
    let ledger = witnessed(disk.clone()).unwrap();
    assert_eq!((ledger.counted(), ledger.receipt(at).is_ok()), (old, true));
    assert!(ledger.count(&cosigned(&ledger, &WITNESSES[..2])).unwrap());
    assert!(ledger.receipt(later).is_ok());
    ledger.stop();
    let ledger = open(disk).unwrap();
    assert!(ledger.receipt(later).is_ok() && ledger.counted() == ledger.size());
    ledger.stop();
}

#[test]
fn a_link_is_anchored_for_readers_once_its_checkpoint_counts() {
    let ledger = witnessed(FakeDisk::new()).unwrap();
    let did = Did([7; 16]);
    let event = Event::AddData {
        digest: chordae_base::Digest([1; 32]),
        tag: link::tag(&did, 4),
        content: vec![2; 60],
    };
    let entry = event::sign(&event, &party(PROVIDER)).unwrap();
    ledger.submit(entry.clone()).unwrap();
    assert!(ledger.tagged(&did, 4).unwrap().is_some());
    assert_eq!(ledger.anchored(&did, 0, 9).unwrap(), None);
    ledger.count(&cosigned(&ledger, &WITNESSES)).unwrap();
    let anchored = ledger.anchored(&did, 0, 9).unwrap().unwrap();
    assert_eq!(anchored.index, 4);
    // A reader who demands the same finds all of it in the receipt.
    let proof = Proof::parse(&ledger.receipt(anchored.leaf_index).unwrap()).unwrap();
    let opened = policy(3).open(&proof.checkpoint).unwrap();
    assert!(opened.counts());
    proof.check_entry(&entry, &opened.checkpoint).unwrap();
    ledger.stop();
}

#[test]
fn another_history_never_counts_and_a_folder_that_was_set_back_does_not_start() {
    let (disk, other) = (FakeDisk::new(), FakeDisk::new());
    let ledger = witnessed(disk.clone()).unwrap();
    let twin = witnessed(other.clone()).unwrap();
    ledger.submit(anchor(1)).unwrap();
    twin.submit(anchor(2)).unwrap();
    let foreign = cosigned(&twin, &WITNESSES);
    assert_eq!(
        ledger.count(&foreign).unwrap_err().kind,
        FailureKind::Damaged
    );
    assert_eq!(ledger.counted(), 0);

    // The witnesses have seen more than the folder holds after its log was brought back from yesterday.
    twin.count(&foreign).unwrap();
    ledger.stop();
    twin.stop();
    let kept = other
        .read(std::path::Path::new("/data/ledger.cosigned"), 1 << 16)
        .unwrap();
    chordae_base::seams::write_atomic(&disk, std::path::Path::new("/data/ledger.cosigned"), &kept)
        .unwrap();
    let why = witnessed(disk).err().unwrap();
    assert_eq!(why.kind, FailureKind::Damaged);
    assert!(why.why.contains("set back"), "{why}");
}
