//! A ledger that was changed does not start, and says where.

use std::{path::Path, sync::Arc};

use chordae_anchor::{LedgerKeys, core::batch::Record};
use chordae_base::{
    FailureKind,
    journal::scan_dir,
    limits,
    seams::{
        Disk,
        fake::{FakeClock, FakeDisk},
    },
};

use crate::{
    house::{NOW_NS, anchor, keys, open, open_with, party},
    ledger_rules::files_below,
};

/// A ledger of 270 entries, stopped.
fn filled() -> FakeDisk {
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    for n in 0..135 {
        ledger.submit(anchor(n)).unwrap();
    }
    ledger.stop();
    disk
}

#[test]
fn any_changed_or_missing_file_is_named() {
    let good = filled();
    for name in files_below(&good, "/data/ledger") {
        let path = Path::new("/data/ledger").join(&name);
        let bytes = good.peek(&path).unwrap();
        // Partial tiles of older checkpoints are beside the log; nothing is read from them.
        let newest = [
            "checkpoint",
            "tile/0/000",
            "tile/0/001.p/14",
            "tile/1/000.p/1",
            "tile/entries/000",
            "tile/entries/001.p/14",
        ];
        if !newest.contains(&name.as_str()) {
            continue;
        }
        let disk = good.copy();
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 0x10;
        disk.put(&path, &changed);
        let failure = open(disk).err().unwrap_or_else(|| panic!("{name} changed"));
        assert_eq!(failure.kind, FailureKind::Damaged, "{name}: {failure}");
        let disk = good.copy();
        disk.put(&path, &bytes[..bytes.len() - 1]);
        assert_eq!(open(disk).err().expect(&name).kind, FailureKind::Damaged);
        let disk = good.copy();
        disk.remove(&path).unwrap();
        let failure = open(disk).err().unwrap_or_else(|| panic!("{name} removed"));
        assert_eq!(failure.kind, FailureKind::Damaged);
        assert!(failure.why.contains(&name), "{failure} names {name}");
    }
    open(good).unwrap();
}

#[test]
fn a_rolled_back_ledger_does_not_start() {
    let older = filled();
    let newer = older.copy();
    let ledger = open(newer.clone()).unwrap();
    ledger.submit(anchor(1000)).unwrap();
    ledger.submit(anchor(1001)).unwrap();
    ledger.stop();
    // The log of yesterday beside the pending batch of today.
    for name in files_below(&older, "/data/ledger") {
        let path = Path::new("/data/ledger").join(&name);
        newer.put(&path, &older.peek(&path).unwrap());
    }
    let failure = open(newer).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged);
    assert!(failure.why.contains("rolled back"), "{failure}");
}

#[test]
fn a_rolled_back_journal_of_batches_does_not_start() {
    let older = filled();
    let newer = older.copy();
    let ledger = open(newer.clone()).unwrap();
    ledger.submit(anchor(1000)).unwrap();
    ledger.stop();
    for name in files_below(&older, "/data/ledger.batches") {
        let path = Path::new("/data/ledger.batches").join(&name);
        newer.put(&path, &older.peek(&path).unwrap());
    }
    let failure = open(newer).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged);
    assert!(failure.why.contains("rolled back"), "{failure}");
}

#[test]
fn what_a_version_without_the_journal_left_is_finished() {
    // Two entries under the checkpoint, and the next two in the pending form alone.
    let disk = FakeDisk::new();
    let ledger = open(disk.clone()).unwrap();
    ledger.submit(anchor(0)).unwrap();
    ledger.settle().unwrap();
    let before = disk.copy();
    ledger.submit(anchor(1)).unwrap();
    ledger.stop();
    let mut newest = None;
    let dir = Path::new("/data/ledger.batches");
    scan_dir(
        &disk,
        dir,
        limits::LEDGER_BATCH_BYTES_MAX,
        &mut |_, record| {
            if let Record::Batch(batch) = Record::decode(&record)? {
                newest = Some(batch);
            }
            Ok(())
        },
    )
    .unwrap();
    let pending = newest.unwrap().encode().unwrap();
    let wanted = open(disk).unwrap().checkpoint();
    for name in files_below(&before, "/data/ledger.batches") {
        before.remove(&dir.join(name)).unwrap();
    }
    let path = Path::new("/data/ledger.pending");
    before.put(path, &pending);
    let after = before.copy();
    let ledger = open(after.clone()).unwrap();
    assert_eq!(ledger.checkpoint(), wanted);
    ledger.stop();
    assert_eq!(after.peek(path), None);
    assert_eq!(open(after).unwrap().checkpoint(), wanted);
    // Of another log, or changed.
    let mut bent = pending;
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    before.put(path, &bent);
    assert_eq!(open(before).err().unwrap().kind, FailureKind::Damaged);
}

#[test]
fn another_log_key_or_origin_does_not_continue_the_log() {
    let disk = filled();
    let other = LedgerKeys {
        log: party(9),
        ..keys()
    };
    let clock = FakeClock::new(NOW_NS);
    let failure = open_with(Arc::new(disk), clock, other).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged);
}
