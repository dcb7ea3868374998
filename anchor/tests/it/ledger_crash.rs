//! The machine dies at every disk operation of the ledger; after the next start nothing that was
//! reported is lost, nothing is there twice, and the log grows from every checkpoint ever given out.

use std::{collections::BTreeSet, io::ErrorKind, sync::Arc};

use bytes::Bytes;
use chordae_anchor::Ledger;
use chordae_base::{
    Outcome,
    seams::{
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::{checkpoint::Checkpoint, merkle};

use crate::{
    house::{all_entries, anchor, checkpoint_of, dies_at, leaves, open},
    ledger_rules::files_below,
};

/// What the outside world was told before the machine died.
#[derive(Default)]
struct Told {
    places: Vec<(Bytes, u64)>,
    checkpoints: Vec<Checkpoint>,
}

const FIRST: u64 = 10_000;
const EVENTS: u64 = 4;

/// Submits the script until something fails.
fn run(disk: &FaultyDisk) -> Told {
    let mut told = Told::default();
    let Ok(ledger) = open(disk.clone()) else {
        return told;
    };
    told.checkpoints.push(checkpoint_of(&ledger));
    for n in FIRST..FIRST + EVENTS {
        let Ok(place) = ledger.submit(anchor(n)) else {
            break;
        };
        told.places.push((anchor(n), place));
        told.checkpoints.push(checkpoint_of(&ledger));
    }
    ledger.stop();
    told
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Starts again and compares with what was told.
fn audit(disk: &FakeDisk, told: &Told) -> Result<(), String> {
    let opened = |outcome: Outcome<Ledger>| outcome.map_err(|e| e.to_string());
    let ledger = opened(open(disk.clone()))?;
    for n in FIRST..FIRST + EVENTS {
        let place = ledger.submit(anchor(n)).map_err(|e| e.to_string())?;
        let before = told.places.iter().find(|(entry, _)| *entry == anchor(n));
        ensure(before.is_none_or(|(_, at)| *at == place), "an event moved")?;
    }
    let log = leaves(&all_entries(&ledger));
    let newest = checkpoint_of(&ledger);
    ensure(
        merkle::root(&log) == newest.root,
        "the root is not that of the entries",
    )?;
    let distinct: BTreeSet<_> = log.iter().collect();
    ensure(distinct.len() == log.len(), "an event is there twice")?;
    let stored = merkle::StoredHashes::of(&log);
    for old in &told.checkpoints {
        let path = merkle::consistency_path(newest.size, old.size, &stored);
        let path = path.map_err(|e| e.to_string())?;
        merkle::check_consistency((old.size, old.root), (newest.size, newest.root), &path)
            .map_err(|e| e.to_string())?;
    }
    ledger.stop();
    let stray = files_below(disk, "/data/ledger")
        .into_iter()
        .find(|name| name.ends_with(".tmp"));
    ensure(
        stray.is_none(),
        "something beside a tile log lies in its folder",
    )?;
    opened(open(disk.clone())).map(|_| ())
}

fn filled(events: u64) -> FakeDisk {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    for n in 0..events {
        ledger.submit(anchor(n)).unwrap();
    }
    ledger.stop();
    disk
}

/// Kills the script at each (or each so-manieth) of its operations, in one way.
fn campaign(start: &FakeDisk, step: usize, how: How, crash: impl Fn(&FakeDisk, u64)) -> u64 {
    let whole = FaultyDisk::new(Arc::new(start.copy()));
    let told = run(&whole);
    assert_eq!(told.places.len() as u64, EVENTS);
    for after in (0..whole.changes()).step_by(step) {
        let disk = start.copy();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.arm(dies_at(after, how));
        let told = run(&faulty);
        assert!(faulty.struck() > 0);
        crash(&disk, after);
        if let Err(what) = audit(&disk, &told) {
            panic!("dead at operation {after} ({how:?}): {what}");
        }
    }
    whole.changes()
}

#[test]
fn a_new_ledger_survives_death_at_every_operation() {
    let start = FakeDisk::new();
    let points = campaign(&start, 1, How::Fail(ErrorKind::Other), |disk, _| {
        disk.crash()
    });
    assert!(points > 60, "{points}");
    campaign(&start, 1, How::FailAfter(ErrorKind::Other), |disk, _| {
        disk.crash()
    });
    campaign(&start, 1, How::Short(7), |disk, seed| disk.crash_torn(seed));
    // The process dies, the machine does not: what was written but never synced is still seen.
    campaign(&start, 1, How::FailAfter(ErrorKind::Other), |_, _| {});
}

#[test]
fn a_ledger_whose_tile_fills_up_survives_death_at_every_operation() {
    // 250 entries: the script crosses 256, so that tiles become full and partial ones go.
    let start = filled(125);
    campaign(&start, 1, How::Fail(ErrorKind::Other), |disk, _| {
        disk.crash()
    });
    campaign(&start, 5, How::FailAfter(ErrorKind::Other), |disk, seed| {
        disk.crash_torn(seed + 1)
    });
}

#[test]
fn one_failed_operation_stops_the_ledger_until_it_starts_anew() {
    let start = filled(1);
    let whole = FaultyDisk::new(Arc::new(start.copy()));
    run(&whole);
    for after in 0..whole.changes() {
        let disk = start.copy();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        // Once only: a second try would seem to work, on a disk whose state nobody knows.
        faulty.arm(Fault {
            for_ever: false,
            ..dies_at(after, How::Fail(ErrorKind::Other))
        });
        let told = run(&faulty);
        disk.crash();
        if let Err(what) = audit(&disk, &told) {
            panic!("failed at operation {after}: {what}");
        }
    }
}

#[test]
fn on_a_disk_that_only_pretends_to_sync_the_audit_finds_the_loss() {
    // Negative control: if this passed the audit, the audit would see nothing.
    let start = filled(1);
    for path in ["tile/", "checkpoint"] {
        let disk = start.copy();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let lie = Fault {
            path_has: path.into(),
            for_ever: true,
            ..Fault::next(Op::Sync, How::Lie)
        };
        faulty.arm(lie);
        let told = run(&faulty);
        assert_eq!(told.places.len() as u64, EVENTS);
        disk.crash();
        assert!(audit(&disk, &told).is_err(), "{path}");
    }
}
