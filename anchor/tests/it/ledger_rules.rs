//! What enters the log, in what order, and what outsiders can do with its files.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use chordae_anchor::{
    Ledger,
    ledger::{Cadence, Settings},
};
use chordae_base::{
    Digest, FailureKind, Outcome,
    seams::{
        Disk, EntryKind,
        fake::{FakeClock, FakeDisk},
        real::OsDisk,
    },
};
use chordae_chain::{
    checkpoint,
    event::{self, Event},
    merkle, receipt,
    trust::{self, TrustFile},
};

use crate::house::{
    NOW_NS, ORIGIN, OTHER_PATIENT, PATIENT, PROVIDER, SEQUENCER, all_entries, anchor,
    checkpoint_of, grant, keys, leaves, open, open_as, open_at, open_with, party, revocation,
    settings,
};

pub(crate) fn submit_all(ledger: &Ledger, entries: &[Bytes]) -> Vec<Outcome<u64>> {
    let (answer, answers) = sync_channel(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        let answer = answer.clone();
        ledger.submit_then(entry.clone(), move |outcome| {
            answer.send((n, outcome)).unwrap()
        });
    }
    drop(answer);
    let by_n: BTreeMap<_, _> = answers.iter().collect();
    assert_eq!(
        by_n.len(),
        entries.len(),
        "each submission is answered once"
    );
    by_n.into_values().collect()
}

#[test]
fn events_get_their_place_under_a_checkpoint_and_a_receipt() {
    let ledger = open(FakeDisk::new()).unwrap();
    assert_eq!(checkpoint_of(&ledger).size, 0);
    let entries: Vec<Bytes> = (0..900).map(anchor).collect();
    let places: Vec<u64> = submit_all(&ledger, &entries)
        .into_iter()
        .map(|place| place.unwrap())
        .collect();
    let newest = checkpoint_of(&ledger);
    let log = all_entries(&ledger);
    assert_eq!(
        (newest.size, newest.root),
        (log.len() as u64, merkle::root(&leaves(&log)))
    );
    let trust = TrustFile {
        origin: ORIGIN.into(),
        policy: trust::policy_text(ledger.trusted_log()),
        providers: vec![],
        sequencers: vec![],
        retired: Vec::new(),
        ca: None,
    };
    for (entry, place) in entries.iter().zip(&places) {
        assert_eq!(&log[*place as usize], entry);
    }
    for at in [0, 1, 255, 256, 511, places[899]] {
        let text = ledger.receipt(at).unwrap();
        let receipt = receipt::verify(&log[at as usize], &text, &trust).unwrap();
        assert_eq!(
            (receipt.leaf_index, receipt.checkpoint.size),
            (at, newest.size)
        );
        assert!(receipt::verify(&anchor(5000), &text, &trust).is_err());
    }
    assert!(ledger.receipt(newest.size).is_err() && ledger.entry(newest.size).is_err());
}

#[test]
fn every_batch_ends_with_its_block() {
    let clock = FakeClock::new(NOW_NS);
    let ledger = open_with(std::sync::Arc::new(FakeDisk::new()), clock.clone(), keys()).unwrap();
    submit_all(&ledger, &(0..450).map(anchor).collect::<Vec<_>>());
    // A wall clock that is set back does not set blocks back.
    clock.set_wall(NOW_NS - 3_600_000_000_000);
    submit_all(&ledger, &(450..460).map(anchor).collect::<Vec<_>>());
    let log = all_entries(&ledger);
    let (mut first, mut expected, mut before) = (0, 0, (0, [0; 32]));
    for (at, entry) in log.iter().enumerate() {
        let signed = event::decode(entry).unwrap();
        let Event::Block {
            height,
            prev,
            events_root,
            first: from,
            count,
            time_ms,
        } = signed.event
        else {
            continue;
        };
        signed_by_sequencer(entry);
        assert_eq!((height, prev, from), (expected, before.1, first));
        assert_eq!(u64::from(count), at as u64 - first);
        assert_eq!(events_root, merkle::root(&leaves(&log[first as usize..at])));
        assert!(time_ms >= before.0 && time_ms >= 1_700_000_000_000);
        (first, expected) = (at as u64 + 1, expected + 1);
        before = (time_ms, merkle::leaf_hash(entry));
    }
    assert_eq!(first, log.len() as u64, "the last entry is a block");
    assert!(expected >= 3);
}

fn signed_by_sequencer(entry: &[u8]) {
    event::decode(entry)
        .unwrap()
        .verify(&party(SEQUENCER).sign_public())
        .unwrap();
}

/// Counts of the blocks of a log.
pub(crate) fn blocks(ledger: &Ledger) -> Vec<u32> {
    let count = |entry: &Bytes| match event::decode(entry).unwrap().event {
        Event::Block { count, .. } => Some(count),
        _ => None,
    };
    all_entries(ledger).iter().filter_map(count).collect()
}

fn open_in(cadence: Cadence) -> Ledger {
    let settings = Settings {
        cadence,
        ..settings()
    };
    let clock = FakeClock::new(NOW_NS);
    open_as(Arc::new(FakeDisk::new()), settings, clock, keys()).unwrap()
}

#[test]
fn a_batch_is_closed_by_count_or_by_timer() {
    let entries: Vec<Bytes> = (0..10).map(anchor).collect();
    let three = open_in(Cadence {
        events: 3,
        ..Cadence::default()
    });
    submit_all(&three, &entries);
    let counts = blocks(&three);
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}");
    assert_eq!(counts.iter().sum::<u32>(), 10);
    three.stop();

    // It waits for what comes later, until there are enough, or its time is over.
    for (events, wait_s) in [(4, 60), (400, 3)] {
        let ledger = open_in(Cadence {
            events,
            wait: Duration::from_secs(wait_s),
            ..Cadence::default()
        });
        let (answer, answers) = sync_channel(4);
        for entry in &entries[..4] {
            let answer = answer.clone();
            ledger.submit_then(entry.clone(), move |place| answer.send(place).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..4 {
            answers.recv().unwrap().unwrap();
        }
        assert_eq!(blocks(&ledger), [4]);
        ledger.stop();
    }

    // An orderly stop does not wait.
    let slow = open_in(Cadence {
        wait: Duration::from_secs(3600),
        ..Cadence::default()
    });
    let (answer, answers) = sync_channel(1);
    slow.submit_then(anchor(1), move |place| answer.send(place).unwrap());
    slow.stop();
    assert_eq!(answers.recv().unwrap().unwrap(), 0);
}

#[test]
fn the_same_bytes_count_once() {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    let twice = [anchor(1), anchor(2), anchor(1), anchor(1)];
    let places: Vec<u64> = submit_all(&ledger, &twice)
        .into_iter()
        .map(|place| place.unwrap())
        .collect();
    assert_eq!((places[0], places[0]), (places[2], places[3]));
    assert_ne!(places[0], places[1]);
    let size = ledger.size();
    assert_eq!(ledger.submit(anchor(1)).unwrap(), places[0]);
    ledger.stop();
    let ledger = open(disk).unwrap();
    assert_eq!(ledger.submit(anchor(2)).unwrap(), places[1]);
    assert_eq!(ledger.size(), size);
}

#[test]
fn what_breaks_a_rule_does_not_enter() {
    let ledger = open(FakeDisk::new()).unwrap();
    let head = Event::AuditHead {
        digest: Digest([1; 32]),
        count: 1,
        time_ms: 1,
    };
    let signed = |event: &Event, seed: u8| Bytes::from(event::sign(event, &party(seed)).unwrap());
    let block = Event::Block {
        height: 0,
        prev: [0; 32],
        events_root: [0; 32],
        first: 0,
        count: 1,
        time_ms: 0,
    };
    let mut forged = anchor(1).to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused = [
        ("unknown signer", signed(&head, 9), FailureKind::Refused),
        (
            "patient for provider",
            signed(&head, PATIENT),
            FailureKind::Refused,
        ),
        (
            "provider for patient",
            grant(PROVIDER, 1),
            FailureKind::Refused,
        ),
        (
            "block from outside",
            signed(&block, SEQUENCER),
            FailureKind::Refused,
        ),
        ("forged", forged.into(), FailureKind::Refused),
        (
            "no entry",
            Bytes::from_static(b"hello"),
            FailureKind::BadInput,
        ),
        ("empty", Bytes::new(), FailureKind::BadInput),
        (
            "revoking nothing",
            revocation(PATIENT, [1; 32]),
            FailureKind::Refused,
        ),
    ];
    for (name, entry, kind) in refused {
        assert_eq!(ledger.submit(entry).expect_err(name).kind, kind, "{name}");
    }
    assert_eq!(ledger.size(), 0);
}

#[test]
fn a_session_is_revoked_by_its_own_patient_only() {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    let entry = grant(PATIENT, 1);
    let sid = event::leaf_hash(&entry);
    assert_eq!(
        (ledger.session(&sid).unwrap(), ledger.revoked(&sid).unwrap()),
        (None, false)
    );
    let at = ledger.submit(entry).unwrap();
    assert_eq!(
        (ledger.session(&sid).unwrap(), ledger.revoked(&sid).unwrap()),
        (Some(at), false)
    );
    let refusal = ledger.submit(revocation(OTHER_PATIENT, sid)).unwrap_err();
    assert_eq!(refusal.kind, FailureKind::Refused);
    assert!(!ledger.revoked(&sid).unwrap());
    ledger.submit(revocation(PATIENT, sid)).unwrap();
    assert!(ledger.revoked(&sid).unwrap());
    // Granted and revoked before either is under a checkpoint.
    let other = grant(OTHER_PATIENT, 2);
    let other_sid = event::leaf_hash(&other);
    let both = submit_all(&ledger, &[other, revocation(OTHER_PATIENT, other_sid)]);
    assert!(both.iter().all(|place| place.is_ok()));
    ledger.stop();
    let ledger = open(disk).unwrap();
    assert!(ledger.revoked(&sid).unwrap() && ledger.revoked(&other_sid).unwrap());
    assert_eq!(ledger.session(&sid).unwrap(), Some(at));
}

#[test]
fn a_fork_does_not_enter() {
    let ledger = open(FakeDisk::new()).unwrap();
    let under = |digest: u8| {
        let (digest, tag) = (Digest([digest; 32]), Digest([9; 32]));
        let event = Event::AddData {
            digest,
            tag,
            content: vec![],
        };
        Bytes::from(event::sign(&event, &party(PROVIDER)).unwrap())
    };
    ledger.submit(under(1)).unwrap();
    assert_eq!(
        ledger.submit(under(2)).unwrap_err().kind,
        FailureKind::Damaged
    );
}

#[test]
fn the_trail_does_not_go_back_and_has_one_head() {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    let head = |count: u64, digest: u8, time_ms: u64| {
        let digest = Digest([digest; 32]);
        let event = Event::AuditHead {
            digest,
            count,
            time_ms,
        };
        Bytes::from(event::sign(&event, &party(PROVIDER)).unwrap())
    };
    let kind = |ledger: &Ledger, entry| ledger.submit(entry).unwrap_err().kind;
    // An idle log says so every hour, and an empty trail has one digest.
    assert_eq!(kind(&ledger, head(0, 1, 1)), FailureKind::Refused);
    for entry in [head(0, 0, 1), head(0, 0, 2), head(5, 1, 3), head(5, 1, 4)] {
        ledger.submit(entry).unwrap();
    }
    // In one batch with the head that it contradicts, and after a start.
    let batch = submit_all(&ledger, &[head(6, 1, 5), head(6, 2, 5), head(5, 1, 6)]);
    let kinds: Vec<_> = batch
        .into_iter()
        .map(|place| place.map_err(|e| e.kind).err())
        .collect();
    let expected = [None, Some(FailureKind::Damaged), Some(FailureKind::Refused)];
    assert_eq!(kinds, expected);
    ledger.stop();
    let ledger = open(disk).unwrap();
    let size = ledger.size();
    assert_eq!(
        kind(&ledger, head(6, 2, 7)),
        FailureKind::Damaged,
        "two digests"
    );
    assert_eq!(kind(&ledger, head(5, 1, 8)), FailureKind::Refused, "back");
    assert_eq!(
        kind(&ledger, head(0, 0, 9)),
        FailureKind::Refused,
        "empty again"
    );
    assert_eq!(ledger.size(), size);
    ledger
        .submit(head(5, 1, 4))
        .expect("the same bytes count once");
    ledger.submit(head(6, 1, 10)).unwrap();
}

#[test]
fn a_stopped_ledger_says_so() {
    let ledger = open(FakeDisk::new()).unwrap();
    ledger.submit(anchor(1)).unwrap();
    ledger.stop();
    assert_eq!(
        ledger.submit(anchor(2)).unwrap_err().kind,
        FailureKind::Busy
    );
    let (answer, answers) = sync_channel(1);
    ledger.submit_then(anchor(3), move |outcome| answer.send(outcome).unwrap());
    assert_eq!(answers.recv().unwrap().unwrap_err().kind, FailureKind::Busy);
    assert_eq!(
        ledger.size(),
        2,
        "what is under the checkpoint can still be read"
    );
}

#[test]
fn the_same_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings {
            data_dir: dir.path().into(),
            ..settings()
        };
        open_as(Arc::new(OsDisk), settings, FakeClock::new(NOW_NS), keys())
    };
    let ledger = open().unwrap();
    let places = submit_all(&ledger, &(0..600).map(anchor).collect::<Vec<_>>());
    let before = checkpoint_of(&ledger);
    ledger.stop();
    let ledger = open().unwrap();
    assert_eq!(checkpoint_of(&ledger), before);
    assert_eq!(ledger.submit(anchor(599)), places[599]);
    ledger.stop();
}

/// Names of all files below a folder.
pub(crate) fn files_below(disk: &dyn Disk, dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![std::path::PathBuf::from(dir)];
    while let Some(at) = dirs.pop() {
        for entry in disk.list(&at).unwrap() {
            match entry.kind {
                EntryKind::Dir => dirs.push(entry.path),
                _ => found.push(entry.path.strip_prefix(dir).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_folder_is_a_stock_tile_log() {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    for n in 0..140 {
        ledger.submit(anchor(n)).unwrap();
    }
    let size = ledger.size();
    assert_eq!(size, 280);
    ledger.stop();
    let names = files_below(&disk, "/data/ledger");
    for name in [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/24",
        "tile/1/000.p/1",
        "tile/entries/000",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
    }
    let stray = names
        .iter()
        .find(|n| n.contains("000.p/") && !n.starts_with("tile/1/"));
    assert_eq!(stray, None, "partial tiles go when the full one stands");
    for name in &names {
        let published = ledger.file(name).unwrap();
        assert_eq!(
            disk.peek(&std::path::Path::new("/data/ledger").join(name))
                .unwrap(),
            published
        );
    }
    // A reader with an older checkpoint still gets its partial tile, from the full one.
    let older = ledger.file("tile/0/000.p/100").unwrap();
    assert_eq!(older.len(), 3200);
    for name in [
        "tile/0/001",
        "tile/0/002.p/1",
        "pending",
        "../ledger.batches",
        "tile/8/0/000",
    ] {
        assert_eq!(
            ledger.file(name).unwrap_err().kind,
            FailureKind::NotFound,
            "{name}"
        );
    }
    let text = String::from_utf8(ledger.file("checkpoint").unwrap().to_vec()).unwrap();
    checkpoint::open(&text, ledger.trusted_log()).unwrap();
}

#[test]
fn readers_find_everything_while_the_folder_follows() {
    // The edge goes from memory to the disk, and partial tiles go, while it is read.
    for behind in [1, 3, 1000] {
        let cadence = Cadence {
            behind,
            ..Cadence::default()
        };
        let ledger = open_at(FakeDisk::new(), cadence).unwrap();
        ledger.submit(anchor(0)).unwrap();
        let done = AtomicBool::new(false);
        let read = || {
            let mut rounds = 0_u64;
            while !done.load(Ordering::Relaxed) {
                // As a reader of the files does: a checkpoint, then the tiles at its size.
                let size = checkpoint_of(&ledger).size;
                let at = rounds.wrapping_mul(7919) % size;
                ledger.entry(at).unwrap();
                ledger.receipt(at).unwrap();
                if !size.is_multiple_of(256) {
                    for level in ["0", "entries"] {
                        let name = format!("tile/{level}/{:03}.p/{}", size / 256, size % 256);
                        ledger.file(&name).unwrap();
                    }
                }
                rounds += 1;
            }
            rounds
        };
        thread::scope(|threads| {
            let readers = [(); 2].map(|()| threads.spawn(read));
            for n in 1..300 {
                // A reader that has panicked ends the test below.
                ledger.submit(anchor(n)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            for reader in readers {
                assert!(reader.join().unwrap() > 50);
            }
        });
        ledger.stop();
    }
}
