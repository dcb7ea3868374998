//! The machine dies at every disk operation of the ledger; after the next start nothing that was
//! reported is lost, nothing is there twice, and the log grows from every checkpoint ever given out.

use std::{collections::BTreeSet, io::ErrorKind, path::Path, sync::Arc};

use bytes::Bytes;
use chordae_anchor::{
    core::{
        run::Key,
        tree::{self, TileFile, Tree},
    },
    ledger::Cadence,
};
use chordae_base::{
    Failure,
    journal::scan_dir,
    limits,
    seams::{
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::{
    checkpoint::{self, Checkpoint, TrustedLog},
    merkle,
};
use tlog_tiles::Tile;

use crate::{
    house::{
        DATA, ORIGIN, PROVIDER, all_entries, anchor, anchor_of, checkpoint_of, dies_at, keys,
        leaves, open, open_at, open_small,
    },
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

/// The index is written while the script runs.
fn indexes() -> Cadence {
    Cadence {
        run_entries: SMALL,
        ..Cadence::default()
    }
}

/// `ledger/` follows while the script runs, not only at its end.
fn settles() -> Cadence {
    Cadence {
        behind: 2,
        ..Cadence::default()
    }
}

/// Submits the script until something fails.
fn run(disk: &FaultyDisk, cadence: Cadence) -> Told {
    let mut told = Told::default();
    let Ok(ledger) = open_at(disk.clone(), cadence) else {
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

/// Whether `ledger/`, as the machine left it, is the stock log of its checkpoint: what anybody reads who is handed the
/// folder and starts nothing.
fn stands(disk: &FakeDisk) -> Result<(), String> {
    let file = |name: &str| disk.peek(&Path::new(DATA).join("ledger").join(name));
    let said = |e: Failure| format!("ledger/ as it was left: {e}");
    let Some(text) = file("checkpoint") else {
        return Ok(());
    };
    let log = TrustedLog::new(ORIGIN, &keys().log.sign_public()).map_err(said)?;
    let covered = checkpoint::open(&String::from_utf8_lossy(&text), &log).map_err(said)?;
    let same = |made: &TileFile| {
        let name = tree::path(&made.tile);
        let is = file(&name).is_some_and(|bytes| bytes == made.bytes);
        ensure(is, &format!("ledger/{name} as it was left is another"))
    };
    let mut tree = Tree::new();
    while tree.size() < covered.size {
        let (at, width) = (tree.size() / 256, (covered.size - tree.size()).min(256));
        let name = tree::path(&Tile::new(8, 0, at, width as u32, true));
        let bundle = file(&name).ok_or_else(|| format!("ledger/{name} is missing"))?;
        let entries = tree::split_bundle(&Bytes::from(bundle)).map_err(said)?;
        ensure(entries.len() as u64 == width, "ledger/ was left short")?;
        let made = tree.extend(&entries).map_err(said)?;
        made.iter()
            .filter(|made| made.tile.width() == 256)
            .try_for_each(same)?;
    }
    tree.partial_tiles()
        .map_err(said)?
        .iter()
        .try_for_each(same)?;
    ensure(
        tree.root() == covered.root,
        "ledger/ as it was left does not lead to its checkpoint",
    )
}

/// Looks at what was left, starts again and compares with what was told.
fn audit(disk: &FakeDisk, told: &Told, cadence: Cadence) -> Result<(), String> {
    stands(disk)?;
    let open = || open_at(disk.clone(), cadence).map_err(|e| e.to_string());
    let ledger = open()?;
    // Before anything is submitted again: the same script would make the same entries at the same places.
    for (entry, at) in &told.places {
        let place = ledger.place(&merkle::leaf_hash(entry));
        let place = place.map_err(|e| e.to_string())?;
        ensure(place == Some(*at), "an event moved, or is lost")?;
    }
    let newest = checkpoint_of(&ledger).size;
    let seen = told.checkpoints.iter().all(|old| old.size <= newest);
    ensure(seen, "the log is shorter than what was told")?;
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

/// Where the journal of batches lies.
const BATCHES: &str = "/data/ledger.batches";

/// Bytes until the first segment of the journal of batches is full.
fn left_in_segment(disk: &FakeDisk) -> u64 {
    let mut end = 0;
    let mut visit = |at, record: Bytes| {
        end = at + record.len() as u64;
        Ok(())
    };
    scan_dir(
        disk,
        Path::new(BATCHES),
        limits::LEDGER_BATCH_BYTES_MAX,
        &mut visit,
    )
    .unwrap();
    limits::LEDGER_BATCHES_SEGMENT_BYTES.saturating_sub(end)
}

/// Kills the script at each (or each so-manieth) of its operations, in one way.
fn campaign(
    (start, cadence): (&FakeDisk, Cadence),
    step: usize,
    how: How,
    crash: impl Fn(&FakeDisk, u64),
) -> u64 {
    let whole = FaultyDisk::new(Arc::new(start.copy()));
    let told = run(&whole, cadence);
    assert_eq!(told.places.len() as u64, EVENTS);
    for after in (0..whole.changes()).step_by(step) {
        let fault = dies_at(after, how);
        let struck = die(start, fault, cadence, &crash);
        assert!(struck > 0);
    }
    whole.changes()
}

/// Kills the script once, starts again and audits; how often the fault struck.
fn die(start: &FakeDisk, fault: Fault, cadence: Cadence, crash: impl Fn(&FakeDisk, u64)) -> u64 {
    let disk = start.copy();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    faulty.arm(fault.clone());
    let told = run(&faulty, cadence);
    crash(&disk, fault.after);
    if let Err(what) = audit(&disk, &told, cadence) {
        panic!("{fault:?}: {what}");
    }
    faulty.struck()
}

#[test]
fn a_new_ledger_survives_death_at_every_operation() {
    let start = FakeDisk::new();
    for cadence in [Cadence::default(), settles()] {
        let from = (&start, cadence);
        let fail = How::Fail(ErrorKind::Other);
        let points = campaign(from, 1, fail, |disk, _| disk.crash());
        assert!(points > 45, "{points}");
        let after = How::FailAfter(ErrorKind::Other);
        campaign(from, 1, after, |disk, _| disk.crash());
        campaign(from, 1, How::Short(7), |disk, seed| disk.crash_torn(seed));
        // The process dies, the machine does not: what was written but never synced is still seen ...
        campaign(from, 1, after, |_, _| {});
        // ... and is gone when the machine dies after the next start.
        campaign(from, 1, after, |disk, seed| {
            if let Ok(started) = open_at(disk.clone(), cadence) {
                drop(started);
            }
            disk.crash_torn(seed);
        });
    }
}

#[test]
fn a_ledger_whose_tile_fills_up_survives_death_at_every_operation() {
    // 250 entries: the script crosses 256, so that tiles become full and partial ones go.
    let start = filled(125);
    for (cadence, step) in [(Cadence::default(), 2), (settles(), 1)] {
        let from = (&start, cadence);
        let fail = How::Fail(ErrorKind::Other);
        campaign(from, step, fail, |disk, _| disk.crash());
        let after = How::FailAfter(ErrorKind::Other);
        campaign(from, 7, after, |disk, seed| disk.crash_torn(seed + 1));
    }
}

#[test]
fn a_journal_that_gives_space_back_survives_death_at_every_operation_on_it() {
    let start = FakeDisk::new();
    let ledger = open(start.clone()).unwrap();
    let mut n = 0;
    for (room, content) in [(100_000, 30_000), (1500, 60)] {
        while left_in_segment(&start) > room {
            ledger.submit(anchor_of(n, PROVIDER, content)).unwrap();
            n += 1;
        }
    }
    ledger.stop();
    assert_eq!(files_below(&start, BATCHES).len(), 1);
    let full = start.copy();
    run(&FaultyDisk::new(Arc::new(full.clone())), Cadence::default());
    let begun = files_below(&full, BATCHES);
    assert!(
        begun.len() == 1 && begun != files_below(&start, BATCHES),
        "{begun:?}"
    );
    let fault = |after, how| Fault {
        path_has: "ledger.batches".into(),
        ..dies_at(after, how)
    };
    let mut rolled = 0;
    for how in [
        How::Fail(ErrorKind::Other),
        How::FailAfter(ErrorKind::Other),
        How::Short(9),
    ] {
        let struck = (0..40).filter(|after| {
            die(
                &start,
                fault(*after, how),
                Cadence::default(),
                |disk, seed| disk.crash_torn(seed),
            ) > 0
        });
        rolled += struck.count();
    }
    assert!(rolled > 20, "{rolled}");
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
            let struck =
                (0..points).filter(|after| die(&start, fault(*after), indexes(), crash) > 0);
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
    assert_eq!(audit(&disk.copy(), &told, indexes()), Ok(()));
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
    let missed = audit(&disk, &told, indexes()).unwrap_err();
    assert!(missed.contains("moved"), "{missed}");
}

#[test]
fn one_failed_operation_stops_the_ledger_until_it_starts_anew() {
    let start = filled(1);
    let whole = FaultyDisk::new(Arc::new(start.copy()));
    run(&whole, Cadence::default());
    for after in 0..whole.changes() {
        // Once only: a second try would seem to work, on a disk whose state nobody knows.
        let fault = Fault {
            for_ever: false,
            ..dies_at(after, How::Fail(ErrorKind::Other))
        };
        die(&start, fault, Cadence::default(), |disk, _| disk.crash());
    }
}

#[test]
fn on_a_disk_that_only_pretends_to_sync_the_audit_finds_the_loss() {
    // Negative control: if this passed the audit, the audit would see nothing. Tiles and checkpoint count once the
    // log was stopped, the journal until then.
    for (path, stops) in [
        ("tile/", true),
        ("checkpoint", true),
        ("ledger.batches", false),
    ] {
        let disk = filled(1);
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.arm(Fault {
            path_has: path.into(),
            for_ever: true,
            ..Fault::next(Op::Sync, How::Lie)
        });
        let ledger = open(faulty).unwrap();
        let mut told = Told::default();
        for n in FIRST..FIRST + EVENTS {
            let place = ledger.submit(anchor(n)).unwrap();
            told.places.push((anchor(n), place));
            told.checkpoints.push(checkpoint_of(&ledger));
        }
        if stops {
            ledger.stop();
        }
        disk.crash();
        let audited = audit(&disk, &told, Cadence::default());
        assert!(audited.is_err(), "{path}");
    }
}
