//! Keys that change: a retired one enters nothing more, and the log goes from one key to the next.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use chordae_anchor::{Ledger, LedgerKeys, ledger::Settings};
use chordae_base::{
    FailureKind, Outcome,
    seams::{
        Disk,
        fake::{FakeClock, FakeDisk},
        faulty::{FaultyDisk, How},
    },
};
use chordae_chain::{
    checkpoint::{self, TrustedLog},
    event::{self, Event},
    keys::Role,
    policy::Policy,
    trust::Retired,
};

use crate::{
    house::{
        DATA, NEXT_PROVIDER, NOW_NS, ORIGIN, PATIENT, PROVIDER, SEQUENCER, anchor, anchor_by,
        dies_at, grant, keys, open, open_as, open_small, party, settings,
    },
    ledger_index::INDEX,
};

const LOG: u8 = 5;
const NEXT_LOG: u8 = 8;

fn change(role: Role, old: u8, new: u8, by: u8) -> Bytes {
    let event = Event::RotateKey {
        role,
        old: party(old).key_id(),
        new: party(new).sign_public(),
        time_ms: 7,
    };
    event::sign(&event, &party(by)).unwrap().into()
}

#[track_caller]
fn refused(outcome: Outcome<u64>) {
    assert_eq!(outcome.unwrap_err().kind, FailureKind::Refused);
}

#[test]
fn a_retired_provider_enters_nothing_more_and_its_old_entries_stay() {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    let first = ledger.submit(anchor(0)).unwrap();
    refused(ledger.submit(change(Role::Provider, NEXT_PROVIDER, 9, PROVIDER)));
    refused(ledger.submit(change(Role::Provider, PROVIDER, NEXT_PROVIDER, SEQUENCER)));
    let at = ledger
        .submit(change(Role::Provider, PROVIDER, NEXT_PROVIDER, PROVIDER))
        .unwrap();
    assert_eq!(
        ledger.retired(Role::Provider, party(PROVIDER).key_id()),
        Some(at + 2),
        "with its block"
    );
    let enters = |ledger: &Ledger| {
        refused(ledger.submit(anchor(1)));
        refused(ledger.submit(change(Role::Log, LOG, NEXT_LOG, PROVIDER)));
        refused(ledger.submit(change(
            Role::Provider,
            NEXT_PROVIDER,
            PROVIDER,
            NEXT_PROVIDER,
        )));
        assert_eq!(
            ledger.submit(anchor(0)).unwrap(),
            first,
            "what is in the log has its place"
        );
        ledger.submit(anchor_by(2, NEXT_PROVIDER)).unwrap();
    };
    enters(&ledger);
    ledger.stop();
    disk.crash();
    // The next start knows it from the log alone.
    enters(&open(disk).unwrap());
}

/// A start that reads none of the entries that the index covers knows what was retired, and since when.
#[test]
fn a_retirement_is_kept_with_the_index() {
    let disk = FakeDisk::new();
    let ledger = open_small(disk.clone(), 4).unwrap();
    ledger.submit(anchor(0)).unwrap();
    let at = ledger
        .submit(change(Role::Provider, PROVIDER, NEXT_PROVIDER, PROVIDER))
        .unwrap();
    for n in 10..30 {
        ledger.submit(anchor_by(n, NEXT_PROVIDER)).unwrap();
    }
    ledger.stop();
    let covered = |disk: &FakeDisk| {
        let runs = disk.list(Path::new(INDEX)).unwrap();
        runs.iter().any(|run| {
            let name = run.path.file_name().unwrap().to_str().unwrap();
            let end: u64 = name.split(['-', '.']).nth(1).unwrap().parse().unwrap();
            name.starts_with("00000000000000000000-") && end > at
        })
    };
    assert!(covered(&disk), "else the entry itself is read");
    for made_anew in [false, true] {
        if made_anew {
            for run in disk.list(Path::new(INDEX)).unwrap() {
                disk.remove(&run.path).unwrap();
            }
        }
        let ledger = open_small(disk.clone(), 4).unwrap();
        let retired = ledger.retired(Role::Provider, party(PROVIDER).key_id());
        assert_eq!(retired, Some(at + 2), "with its block");
        refused(ledger.submit(anchor(1)));
        ledger.stop();
    }
}

/// The control: before the change the same entries are taken.
#[test]
fn without_a_change_both_keys_may_anchor() {
    let ledger = open(FakeDisk::new()).unwrap();
    ledger.submit(anchor(1)).unwrap();
    ledger.submit(anchor_by(2, NEXT_PROVIDER)).unwrap();
    assert_eq!(
        ledger.retired(Role::Provider, party(PROVIDER).key_id()),
        None
    );
}

#[test]
fn a_key_is_retired_in_its_role_only() {
    let ledger = open(FakeDisk::new()).unwrap();
    ledger.submit(grant(PATIENT, 1)).unwrap();
    for seed in [PATIENT, NEXT_PROVIDER] {
        ledger
            .submit(change(Role::Witness, seed, 30 + seed, PROVIDER))
            .unwrap();
    }
    // Nobody is silenced by being called a witness.
    ledger.submit(grant(PATIENT, 2)).unwrap();
    ledger.submit(anchor_by(2, NEXT_PROVIDER)).unwrap();
}

#[test]
fn in_one_batch_too() {
    let ledger = open(FakeDisk::new()).unwrap();
    let (send, answers) = std::sync::mpsc::sync_channel(2);
    let entries = [
        change(Role::Provider, PROVIDER, NEXT_PROVIDER, PROVIDER),
        anchor(1),
    ];
    for entry in entries {
        let send = send.clone();
        ledger.submit_then(entry, move |outcome| send.send(outcome).unwrap());
    }
    answers
        .recv()
        .unwrap()
        .map_or_else(|e| assert_eq!(e.kind, FailureKind::Refused), |_| ());
    let second = answers.recv().unwrap();
    assert!(second.is_ok() || second.unwrap_err().kind == FailureKind::Refused);
    refused(ledger.submit(anchor(2)));
}

fn next_keys() -> LedgerKeys {
    LedgerKeys {
        log: party(NEXT_LOG),
        ..keys()
    }
}

/// Both keys of the log, the old one up to a size.
fn both(size: u64) -> Settings {
    let log = |seed| TrustedLog::new(ORIGIN, &party(seed).sign_public()).unwrap();
    let text = format!(
        "log {}\nlog {}\nquorum none\n",
        log(LOG).vkey(),
        log(NEXT_LOG).vkey()
    );
    let retired = Retired {
        key: party(LOG).key_id(),
        size,
    };
    Settings {
        policy: Some(Policy::parse(&text).unwrap().retiring(&[retired])),
        ..settings()
    }
}

/// A log whose key is retired, its size, and its newest checkpoint by the old key.
fn handed() -> (FakeDisk, u64, String) {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    ledger.submit(anchor(0)).unwrap();
    ledger
        .submit(change(Role::Log, LOG, NEXT_LOG, PROVIDER))
        .unwrap();
    let size = ledger.retired(Role::Log, party(LOG).key_id()).unwrap();
    assert_eq!(size, ledger.size());
    let text = ledger.checkpoint();
    ledger.stop();
    (disk, size, text)
}

fn open_next(disk: Arc<dyn Disk>, size: u64) -> Outcome<Ledger> {
    open_as(disk, both(size), FakeClock::new(NOW_NS), next_keys())
}

#[test]
fn the_next_key_signs_the_same_size_and_goes_on() {
    let (disk, size, old) = handed();
    let next = TrustedLog::new(ORIGIN, &party(NEXT_LOG).sign_public()).unwrap();
    let ledger = open_next(Arc::new(disk.clone()), size).unwrap();
    let now = checkpoint::open(&ledger.checkpoint(), &next).unwrap();
    assert_eq!(now.size, size);
    // What somebody kept of the old key is still of this log.
    assert_eq!(ledger.known(&old).unwrap(), now);
    ledger.submit(anchor(1)).unwrap();
    ledger.stop();
    disk.crash();
    let ledger = open_next(Arc::new(disk.clone()), size).unwrap();
    checkpoint::open(&ledger.checkpoint(), &next).unwrap();
    ledger.stop();

    // The old key cannot go on: what it signs now is not of this log.
    let newer = checkpoint::open(&ledger.checkpoint(), &next).unwrap();
    let forged = newer.sign(&party(LOG).sign).unwrap();
    assert!(ledger.known(&forged).is_err());
    disk.put(
        &Path::new(DATA).join("ledger/checkpoint"),
        forged.as_bytes(),
    );
    let stopped = open_next(Arc::new(disk.clone()), size)
        .map(drop)
        .unwrap_err();
    assert_eq!(stopped.kind, FailureKind::Damaged);
    // The control: where nobody has retired it, the same checkpoint is taken over.
    open_next(Arc::new(disk), u64::MAX).unwrap();
}

#[test]
fn a_key_that_no_policy_names_takes_over_nothing() {
    let (disk, ..) = handed();
    let alone = open_as(
        Arc::new(disk),
        settings(),
        FakeClock::new(NOW_NS),
        next_keys(),
    );
    assert_eq!(alone.map(drop).unwrap_err().kind, FailureKind::Damaged);
}

#[test]
fn a_crash_while_the_next_key_takes_over_leaves_a_checkpoint_that_counts() {
    for n in 0.. {
        let (disk, size, _) = handed();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.arm(dies_at(n, How::FailAfter(io::ErrorKind::Other)));
        let opened = open_next(Arc::new(faulty), size);
        let done = opened.is_ok();
        drop(opened);
        disk.crash_torn(n);
        let ledger = open_next(Arc::new(disk), size).unwrap();
        assert_eq!(ledger.size(), size);
        ledger.submit(anchor(1)).unwrap();
        if done {
            assert!(n > 3, "only {n} operations");
            return;
        }
    }
}
