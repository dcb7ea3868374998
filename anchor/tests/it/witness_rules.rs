//! What a witness cosigns, what it refuses and with which words, what it remembers and what it keeps.

use std::{path::Path, sync::Arc};

use chordae_anchor::{
    Witness,
    core::witness::{Doubt, Request},
    witness::Settings,
};
use chordae_base::{
    FailureKind,
    limits::{WITNESS_EVIDENCE_MAX, WITNESS_PROOF_MAX},
    seams::{
        Disk,
        fake::{FakeClock, FakeDisk},
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::{
    checkpoint::{Checkpoint, origin_hash},
    merkle::EMPTY_ROOT,
    policy::Policy,
};

use crate::{
    house::{NOW_NS, ORIGIN, party},
    witness_house::{Branch, DIR, LOG, evidence, init, key, log, open, settings},
};

fn fresh() -> (FakeDisk, Witness) {
    let disk = FakeDisk::new();
    init(&disk).unwrap();
    let witness = open(disk.clone()).unwrap();
    (disk, witness)
}

fn status(witness: &Witness, body: &str) -> u16 {
    witness.add_checkpoint(body.as_bytes()).status
}

#[test]
fn a_log_that_grows_is_cosigned_and_the_cosignature_meets_a_policy() {
    let (_, witness) = fresh();
    let branch = Branch::new(0, 0, 20);
    let vkey = witness.verifier().unwrap().vkey();
    let text = format!("log {}\nwitness W {vkey}\nquorum W\n", log(LOG).vkey());
    let policy = Policy::parse(&text).unwrap();
    for (old, size) in [(0, 3), (3, 3), (3, 4), (4, 20)] {
        let answer = witness.add_checkpoint(branch.ask(old, size).as_bytes());
        assert_eq!(answer.status, 200, "{old} to {size}: {}", answer.body);
        assert_eq!(answer.doubt, None);
        let opened = policy
            .open(&(branch.note(size, LOG) + &answer.body))
            .unwrap();
        assert!(opened.counts());
        assert_eq!(opened.cosigned[0].time_s, NOW_NS as u64 / 1_000_000_000);
        assert_eq!(witness.remembers(ORIGIN), Some(size));
        let newest = policy.open(&witness.newest(ORIGIN).unwrap()).unwrap();
        assert!(newest.counts());
        assert_eq!(newest.checkpoint, branch.checkpoint(size));
    }
}

#[test]
fn every_refusal_has_its_status() {
    let (_, witness) = fresh();
    let (a, b) = (Branch::new(0, 0, 20), Branch::new(1, 2, 20));
    assert_eq!(
        witness.newest(ORIGIN).unwrap_err().kind,
        FailureKind::NotFound
    );
    assert_eq!(status(&witness, &a.ask(0, 5)), 200);
    let other = Checkpoint {
        origin: "elsewhere.example".into(),
        ..a.checkpoint(6)
    };
    let other = other.sign(&party(LOG).sign).unwrap();
    let two_keys = a.note(6, 6) + a.note(6, LOG).split_once("\n\n").unwrap().1;
    for (want, what, body) in [
        (400, "nothing", String::new()),
        (404, "another log", Request::compose(5, &[], &other)),
        (
            403,
            "another key",
            Request::compose(5, &a.proof(5, 6), &a.note(6, 6)),
        ),
        (400, "old above size", a.ask(7, 6)),
        (409, "old below what is remembered", a.ask(4, 6)),
        (409, "old above what is remembered", a.ask(6, 7)),
        (409, "nothing remembered, the asker thinks", a.ask(0, 6)),
        (409, "another root", b.ask(5, 5)),
        (422, "another branch", b.ask(5, 6)),
        (422, "no proof", Request::compose(5, &[], &a.note(6, LOG))),
        (
            422,
            "a proof where none is due",
            Request::compose(5, &a.proof(4, 5), &a.note(5, LOG)),
        ),
        (
            200,
            "the key and a stranger's",
            Request::compose(5, &a.proof(5, 6), &two_keys),
        ),
        (200, "the same again", a.ask(6, 6)),
    ] {
        let answer = witness.add_checkpoint(body.as_bytes());
        assert_eq!(answer.status, want, "{what}: {}", answer.body);
        let stale = what.starts_with("old below") || what.starts_with("old above what");
        if stale || what.starts_with("nothing remembered") {
            assert_eq!(
                (&*answer.body, answer.content_type),
                ("5\n", "text/x.tlog.size")
            );
        }
    }
    assert_eq!(witness.remembers(ORIGIN), Some(6));
    assert_eq!(witness.remembers("elsewhere.example"), None);
}

#[test]
fn the_empty_log_has_one_root() {
    let (_, witness) = fresh();
    let a = Branch::new(0, 0, 5);
    let empty = |root| {
        let checkpoint = Checkpoint {
            root,
            ..a.checkpoint(0)
        };
        Request::compose(0, &[], &checkpoint.sign(&party(LOG).sign).unwrap())
    };
    assert_eq!(status(&witness, &empty([7; 32])), 422);
    assert_eq!(
        status(&witness, &Request::compose(0, &[[7; 32]], &a.note(5, LOG))),
        422
    );
    assert_eq!(status(&witness, &empty(EMPTY_ROOT)), 200);
    assert_eq!(
        status(&witness, &empty([7; 32])),
        409,
        "now there is one to differ from"
    );
    assert_eq!(status(&witness, &a.ask(0, 5)), 200);
}

#[test]
fn requests_have_one_spelling() {
    let a = Branch::new(0, 0, 20);
    let good = a.ask(5, 7);
    assert!(Request::parse(good.as_bytes()).is_ok());
    let hash = "A".repeat(43) + "=\n";
    let proof = |n: usize| good.replacen("old 5\n", &("old 5\n".to_owned() + &hash.repeat(n)), 1);
    let room = WITNESS_PROOF_MAX - a.proof(5, 7).len();
    assert!(Request::parse(proof(room).as_bytes()).is_ok());
    for (what, bad) in [
        ("no old size", good.replacen("old 5\n", "", 1)),
        ("another word", good.replacen("old ", "new ", 1)),
        ("a zero in front", good.replacen("old 5", "old 05", 1)),
        ("a sign", good.replacen("old 5", "old +5", 1)),
        (
            "too large a size",
            good.replacen("old 5", "old 18446744073709551616", 1),
        ),
        ("two spaces", good.replacen("old 5", "old  5", 1)),
        ("a carriage return", good.replace('\n', "\r\n")),
        ("no empty line", good.replacen("\n\n", "\n", 1)),
        ("a short hash", good.replacen("old 5\n", "old 5\nAAAA\n", 1)),
        ("too many hashes", proof(room + 1)),
        (
            "an extension line",
            good.replacen("=\n\n—", "=\nmore\n\n—", 1),
        ),
        (
            "no note",
            good.split_once("\n\n").unwrap().0.to_owned() + "\n\n",
        ),
        ("too long", good.clone() + &"\n".repeat(80_000)),
    ] {
        assert_ne!(bad, good, "{what}: nothing was changed");
        assert!(
            Request::parse(bad.as_bytes()).is_err(),
            "{what} was accepted"
        );
    }
    assert!(Request::parse(&[0xff; 9]).is_err());
}

#[test]
fn several_keys_of_one_log_share_a_memory() {
    let disk = FakeDisk::new();
    init(&disk).unwrap();
    let logs = Settings {
        logs: vec![log(LOG), log(6)],
        ..settings()
    };
    let clock = Arc::new(FakeClock::new(NOW_NS));
    let witness = Witness::open(Arc::new(disk), clock, logs, key()).unwrap();
    let a = Branch::new(0, 0, 20);
    assert_eq!(status(&witness, &a.ask(0, 5)), 200);
    let by_second = Request::compose(5, &a.proof(5, 9), &a.note(9, 6));
    assert_eq!(status(&witness, &by_second), 200);
    assert_eq!(status(&witness, &a.ask(5, 6)), 409);
}

#[test]
fn what_is_remembered_outlives_the_process_and_is_never_made_up() {
    let (disk, witness) = fresh();
    let a = Branch::new(0, 0, 20);
    assert_eq!(status(&witness, &a.ask(0, 5)), 200);
    drop(witness);
    let witness = open(disk.clone()).unwrap();
    assert_eq!(witness.remembers(ORIGIN), Some(5));
    assert_eq!(status(&witness, &a.ask(0, 5)), 409);
    assert_eq!(status(&witness, &a.ask(5, 6)), 200);
    drop(witness);
    assert_eq!(init(&disk).unwrap_err().kind, FailureKind::Refused);
    let path = format!("{DIR}/{}.memory", origin_hash(ORIGIN));
    let path = Path::new(&path);
    let remembered = disk.peek(path).unwrap();
    disk.remove(path).unwrap();
    let lost = open(disk.clone()).err().unwrap();
    assert_eq!(lost.kind, FailureKind::NotFound);
    assert!(lost.why.contains("must not be used again"), "{lost}");
    // Any other byte, also in what a memory says that remembers nothing.
    let untouched = FakeDisk::new();
    init(&untouched).unwrap();
    for good in [remembered.clone(), untouched.peek(path).unwrap()] {
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 1;
            disk.put(path, &bent);
            let e = open(disk.clone()).err().unwrap();
            assert_eq!(e.kind, FailureKind::Damaged, "byte {at}: {e}");
        }
        for len in 0..good.len() {
            disk.put(path, &good[..len]);
            assert!(open(disk.clone()).is_err(), "cut to {len}");
        }
    }
    disk.put(path, &remembered);
    assert_eq!(open(disk).unwrap().remembers(ORIGIN), Some(6));
}

#[test]
fn notes_that_do_not_go_together_are_kept_once_and_never_written_over() {
    let (disk, witness) = fresh();
    let (a, b) = (Branch::new(0, 0, 20), Branch::new(1, 2, 20));
    assert_eq!(status(&witness, &a.ask(0, 5)), 200);
    // A stranger's checkpoint is nobody's fault.
    let stranger = Request::compose(5, &[], &b.note(5, 6));
    assert_eq!(witness.add_checkpoint(stranger.as_bytes()).doubt, None);
    assert!(evidence(&disk).is_empty());
    let ask = |body: String| witness.add_checkpoint(body.as_bytes()).doubt;
    // The two roots count in whatever request they come.
    assert_eq!(ask(b.ask(5, 5)), Some(Doubt::TwoRoots));
    assert_eq!(ask(b.ask(0, 5)), Some(Doubt::TwoRoots));
    let kept = evidence(&disk);
    assert_eq!(kept.len(), 1, "the same two are kept once");
    let (name, text) = &kept[0];
    assert!(name.contains(&format!("{}-two-roots-5-", origin_hash(ORIGIN))));
    assert_eq!(*text, format!("{}\n{}", a.note(5, LOG), b.note(5, LOG)));
    assert_eq!(ask(b.ask(4, 4)), Some(Doubt::GoesBack));
    assert_eq!(ask(b.ask(5, 6)), Some(Doubt::NotShown));
    // A proof from elsewhere says nothing about the memory.
    assert_eq!(ask(b.ask(4, 6)), None);
    assert_eq!(ask(a.ask(5, 6)), None);
    assert_eq!(evidence(&disk).len(), 3);
    assert!(evidence(&disk).contains(&kept[0]));
}

#[test]
fn evidence_is_bounded_and_a_flood_of_old_notes_does_not_crowd_out_a_proof() {
    let (disk, witness) = fresh();
    let len = WITNESS_EVIDENCE_MAX as u64 + 10;
    let (a, b) = (Branch::new(0, 0, len), Branch::new(1, 2, len));
    assert_eq!(status(&witness, &a.ask(0, len)), 200);
    for size in 1..len {
        assert_eq!(status(&witness, &a.ask(0, size)), 409);
    }
    assert_eq!(evidence(&disk).len(), WITNESS_EVIDENCE_MAX);
    drop(witness);
    let witness = open(disk.clone()).unwrap();
    assert_eq!(status(&witness, &b.ask(0, 9)), 409);
    assert_eq!(
        evidence(&disk).len(),
        WITNESS_EVIDENCE_MAX,
        "counted at the start"
    );
    assert_eq!(status(&witness, &b.ask(len, len)), 409);
    assert_eq!(evidence(&disk).len(), WITNESS_EVIDENCE_MAX + 1);
}

#[test]
fn a_disk_that_has_failed_is_not_trusted_again() {
    let disk = FakeDisk::new();
    init(&disk).unwrap();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let witness = open(faulty.clone()).unwrap();
    let a = Branch::new(0, 0, 20);
    assert_eq!(status(&witness, &a.ask(0, 5)), 200);
    faulty.arm(Fault::next(Op::Sync, How::Fail(std::io::ErrorKind::Other)));
    assert_eq!(status(&witness, &a.ask(5, 6)), 500);
    assert_eq!(
        status(&witness, &a.ask(5, 6)),
        500,
        "although the disk works again"
    );
    assert!(witness.newest(ORIGIN).is_err());
    drop(witness);
    let witness = open(disk).unwrap();
    assert_eq!(status(&witness, &a.ask(5, 6)), 200);
}
