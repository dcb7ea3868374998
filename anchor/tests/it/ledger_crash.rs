//! The machine dies at every disk operation of the ledger; after the next start nothing that was
//! reported is lost, nothing is there twice, and the log grows from every checkpoint ever given out.

use std::{collections::BTreeSet, io::ErrorKind, path::Path, sync::Arc};

use bytes::Bytes;
use chordae_anchor::core::run::Key;
use chordae_base::{
    limits,
    seams::{
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::{checkpoint::Checkpoint, merkle};

use crate::{
    house::{all_entries, anchor, checkpoint_of, dies_at, leaves, open, open_small},
    ledger_index::{INDEX, resealed, tag_of},
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
/// Entries whose keys stay in memory, where the index is what dies.
const SMALL: u64 = 4;

/// Submits the script until something fails.
fn run(disk: &FaultyDisk, run_entries: u64) -> Told {
    let mut told = Told::default();
    let Ok(ledger) = open_small(disk.clone(), run_entries) else {
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
fn audit(disk: &FakeDisk, told: &Told, run_entries: u64) -> Result<(), String> {
    let open = || open_small(disk.clone(), run_entries).map_err(|e| e.to_string());
    let ledger = open()?;
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
    open().map(|ledger| ledger.stop())
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

/// A ledger with three runs in its index: the script adds the fourth, and they become one.
fn indexed() -> FakeDisk {
    let disk = FakeDisk::new();
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    // One that waits for the writer each time, so that there are three.
    let (mut n, mut runs) = (0, 0);
    while runs < 3 {
        ledger.submit(anchor(n)).unwrap();
        n += 1;
        runs = files_below(&disk, INDEX).len();
        assert!(n < 10_000, "no run is written");
    }
    ledger.stop();
    disk
}

/// Kills the script at each (or each so-manieth) of its operations, in one way.
fn campaign(start: &FakeDisk, step: usize, how: How, crash: impl Fn(&FakeDisk, u64)) -> u64 {
    let whole = FaultyDisk::new(Arc::new(start.copy()));
    let told = run(&whole, limits::LEDGER_RUN_ENTRIES);
    assert_eq!(told.places.len() as u64, EVENTS);
    for after in (0..whole.changes()).step_by(step) {
        let fault = dies_at(after, how);
        let struck = die(start, fault, limits::LEDGER_RUN_ENTRIES, &crash);
        assert!(struck > 0);
    }
    whole.changes()
}

/// Kills the script once, starts again and audits; how often the fault struck.
fn die(start: &FakeDisk, fault: Fault, run_entries: u64, crash: impl Fn(&FakeDisk, u64)) -> u64 {
    let disk = start.copy();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    faulty.arm(fault.clone());
    let told = run(&faulty, run_entries);
    crash(&disk, fault.after);
    if let Err(what) = audit(&disk, &told, run_entries) {
        panic!("{fault:?}: {what}");
    }
    faulty.struck()
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
fn an_index_that_grows_survives_death_at_every_operation_on_it() {
    type Crash = fn(&FakeDisk, u64);
    let start = indexed();
    let crashes: [(How, Crash); 4] = [
        (How::Fail(ErrorKind::Other), |disk, _| disk.crash()),
        (How::FailAfter(ErrorKind::Other), |disk, _| disk.crash()),
        (How::Short(700), |disk, seed| disk.crash_torn(seed)),
        (How::FailAfter(ErrorKind::Other), |_, _| {}),
    ];
    for (how, crash) in crashes {
        for path_has in ["ledger.index", ""] {
            // How the writer's operations fall between the sequencer's is the machine's choice, so the last ones
            // may not come to pass; those of one run do.
            let points = if path_has.is_empty() { 100 } else { 30 };
            let fault = |after| Fault {
                path_has: path_has.into(),
                ..dies_at(after, how)
            };
            let struck = (0..points).filter(|after| die(&start, fault(*after), SMALL, crash) > 0);
            let struck = struck.count();
            assert!(struck >= 8, "{struck} of {points} ({path_has})");
        }
    }
}

#[test]
fn the_audit_sees_an_index_that_has_lost_a_key() {
    // Negative control: such an index, sealed as our own, is what no look-up can notice. If this passed the audit,
    // the audit would see nothing of what a crash does to an index.
    let disk = indexed();
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    let told = Told {
        places: vec![(anchor(FIRST), ledger.submit(anchor(FIRST)).unwrap())],
        checkpoints: vec![checkpoint_of(&ledger)],
    };
    // Until its keys are in a run.
    let covered = || {
        let names = files_below(&disk, INDEX).into_iter();
        let ends = names.filter_map(|name| name.strip_suffix(".run")?.get(21..)?.parse().ok());
        ends.max().unwrap_or(0)
    };
    let mut n = 20_000;
    while covered() <= told.places[0].1 {
        ledger.submit(anchor(n)).unwrap();
        n += 1;
        assert!(n < 30_000, "no run is written");
    }
    ledger.stop();
    assert_eq!(audit(&disk.copy(), &told, SMALL), Ok(()));
    let lost = [
        Key::leaf(&merkle::leaf_hash(&anchor(FIRST))),
        Key::tag(&tag_of(&anchor(FIRST))),
    ];
    let mut dropped = 0;
    for name in files_below(&disk, INDEX) {
        let path = Path::new(INDEX).join(name);
        let bytes = disk.peek(&path).unwrap();
        let changed = resealed(&bytes, |record| {
            (!lost.contains(&record.0)).then_some(record)
        });
        dropped += usize::from(changed != bytes);
        disk.put(&path, &changed);
    }
    assert_eq!(dropped, 1);
    let missed = audit(&disk, &told, SMALL).unwrap_err();
    assert!(missed.contains("moved"), "{missed}");
}

#[test]
fn one_failed_operation_stops_the_ledger_until_it_starts_anew() {
    let start = filled(1);
    let whole = FaultyDisk::new(Arc::new(start.copy()));
    run(&whole, limits::LEDGER_RUN_ENTRIES);
    for after in 0..whole.changes() {
        // Once only: a second try would seem to work, on a disk whose state nobody knows.
        let fault = Fault {
            for_ever: false,
            ..dies_at(after, How::Fail(ErrorKind::Other))
        };
        die(&start, fault, limits::LEDGER_RUN_ENTRIES, |disk, _| {
            disk.crash()
        });
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
        let told = run(&faulty, limits::LEDGER_RUN_ENTRIES);
        assert_eq!(told.places.len() as u64, EVENTS);
        disk.crash();
        let audited = audit(&disk, &told, limits::LEDGER_RUN_ENTRIES);
        assert!(audited.is_err(), "{path}");
    }
}
