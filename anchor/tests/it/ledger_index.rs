//! The index on disk: what is found in it, what a start still reads, and that it is never believed.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_anchor::{
    Ledger,
    core::run::{BLOCK_BYTES, BLOCK_RECORDS, Head, Key, Sealer},
};
use chordae_base::{
    Digest, FailureKind,
    seams::{
        Disk,
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::{
    event::{self, Event},
    merkle,
};

use crate::{
    house::{
        OTHER_PATIENT, PATIENT, PROVIDER, all_entries, anchor, grant, open, open_small, party,
        revocation,
    },
    ledger_rules::{blocks, files_below, submit_all},
};

pub(crate) const INDEX: &str = "/data/ledger.index";
/// Entries whose keys stay in memory.
const SMALL: u64 = 16;
const EVENTS: u64 = 500;

/// The secret of the ledger whose log key is fives.
fn secret() -> [u8; 32] {
    blake3::derive_key("chordae v1 index", &[5; 32])
}

pub(crate) fn tag_of(entry: &Bytes) -> Digest {
    match event::decode(entry).unwrap().event {
        Event::AddData { tag, .. } => tag,
        other => panic!("{other:?} has no tag"),
    }
}

/// A run with its records changed or left out, sealed as the ledger itself would.
pub(crate) fn resealed(bytes: &[u8], change: impl Fn((Key, u64)) -> Option<(Key, u64)>) -> Vec<u8> {
    let (head, sealer) = Sealer::open(&secret(), &bytes[..BLOCK_BYTES]).unwrap();
    let mut records = Vec::new();
    for number in 0..head.blocks() {
        let at = Head::offset(number) as usize;
        let block = &bytes[at..at + BLOCK_BYTES];
        let block = sealer.open_block(number, head.records_of(number), block);
        records.extend(block.unwrap().records().filter_map(&change));
    }
    let head = Head {
        records: records.len() as u64,
        ..head
    };
    let mut out = sealer.head(&head);
    let mut fences = Vec::new();
    for (number, some) in records.chunks(BLOCK_RECORDS).enumerate() {
        fences.push(some[0].0);
        sealer.block(number as u64, some, &mut out);
    }
    out.extend(sealer.fences(&fences));
    // Nothing was retired here, and the head says so.
    out.extend(sealer.rotations(&[]));
    out
}

fn audit_head(count: u64) -> Bytes {
    let event = Event::AuditHead {
        digest: Digest([1; 32]),
        count,
        time_ms: 1,
    };
    event::sign(&event, &party(PROVIDER)).unwrap().into()
}

/// A ledger of some 500 events in batches of all lengths, two sessions of which one was revoked, at the end a head of
/// the trail; stopped, and all of it in runs.
fn filled() -> FakeDisk {
    let disk = FakeDisk::new();
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    let entries: Vec<Bytes> = (0..EVENTS).map(anchor).collect();
    let (mut at, mut step) = (0, 1);
    while at < entries.len() {
        let until = (at + step).min(entries.len());
        for place in submit_all(&ledger, &entries[at..until]) {
            place.unwrap();
        }
        (at, step) = (until, step * 3 % 31 + 1);
        if at > 200 && at < 230 {
            ledger.submit(grant(PATIENT, at as u8)).unwrap();
        }
    }
    for n in 1..=2 {
        let entry = grant(OTHER_PATIENT, n);
        ledger.submit(entry).unwrap();
    }
    let sid = event::leaf_hash(&grant(OTHER_PATIENT, 1));
    ledger.submit(revocation(OTHER_PATIENT, sid)).unwrap();
    for n in EVENTS..EVENTS + SMALL {
        ledger.submit(anchor(n)).unwrap();
    }
    ledger.submit(audit_head(5)).unwrap();
    ledger.stop();
    // However far behind the writer was: a start makes runs of what it reads.
    open_small(disk.clone(), 1).unwrap().stop();
    disk
}

fn runs(disk: &FakeDisk) -> Vec<PathBuf> {
    let names = files_below(disk, INDEX).into_iter();
    names.map(|name| Path::new(INDEX).join(name)).collect()
}

/// Everything is found, where it is, and nothing else.
fn all_found(ledger: &Ledger) {
    for n in (0..EVENTS).step_by(7) {
        let entry = anchor(n);
        let at = ledger.place(&event::leaf_hash(&entry)).unwrap().unwrap();
        assert_eq!(ledger.entry(at).unwrap(), entry);
        assert_eq!(ledger.submit(entry).unwrap(), at, "it counts once");
    }
    let size = ledger.size();
    assert_eq!(ledger.place(&merkle::leaf_hash(b"no")).unwrap(), None);
    for (nonce, revoked) in [(1, true), (2, false)] {
        let sid = event::leaf_hash(&grant(OTHER_PATIENT, nonce));
        assert!(ledger.session(&sid).unwrap().is_some());
        assert_eq!(ledger.revoked(&sid).unwrap(), revoked);
    }
    assert_eq!(ledger.size(), size);
}

#[test]
fn what_was_found_in_memory_is_found_on_disk() {
    let disk = filled();
    let files = runs(&disk);
    assert!((1..20).contains(&files.len()), "{files:?}");
    for _ in 0..2 {
        let ledger = open_small(disk.clone(), SMALL).unwrap();
        all_found(&ledger);
        ledger.submit(anchor(9000)).unwrap();
        ledger.stop();
    }
    // One that keeps everything in memory finds the same, and so does one that never had an index.
    for run_entries in [SMALL, u64::MAX] {
        let bare = disk.copy();
        runs(&bare)
            .iter()
            .for_each(|path| bare.remove(path).unwrap());
        let ledger = open_small(bare.clone(), run_entries).unwrap();
        all_found(&ledger);
        ledger.stop();
        assert_eq!(runs(&bare).is_empty(), run_entries > SMALL);
    }
}

#[test]
fn a_start_reads_what_no_run_covers_and_the_rest_is_checked_when_it_is_read() {
    let disk = filled();
    let bundle = Path::new("/data/ledger/tile/entries/000");
    let mut bytes = disk.peek(bundle).unwrap();
    bytes[100] ^= 1;
    disk.put(bundle, &bytes);
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    assert_eq!(ledger.entry(0).unwrap_err().kind, FailureKind::Damaged);
    // Found by its key, read, and not what it must be: neither absent nor believed.
    let first = event::leaf_hash(&anchor(0));
    assert_eq!(ledger.place(&first).unwrap_err().kind, FailureKind::Damaged);
    assert!(
        ledger
            .place(&event::leaf_hash(&anchor(EVENTS - 1)))
            .unwrap()
            .is_some()
    );
    ledger.stop();
    // Without an index a start looks at everything.
    runs(&disk)
        .iter()
        .for_each(|path| disk.remove(path).unwrap());
    let refused = open_small(disk, SMALL).err().unwrap();
    assert_eq!(refused.kind, FailureKind::Damaged);
}

#[test]
fn a_run_whose_head_or_fences_are_not_what_was_written_is_made_anew() {
    let good = filled();
    for path in runs(&good) {
        let bytes = good.peek(&path).unwrap();
        let last = bytes.len() - 1;
        let mut damages: Vec<Vec<u8>> = [0, 20, 60, 4095, last, last - 40]
            .into_iter()
            .map(|at| {
                let mut bad = bytes.clone();
                bad[at] ^= 4;
                bad
            })
            .collect();
        damages.extend([vec![], bytes[..100].to_vec(), bytes[..last].to_vec()]);
        damages.push([bytes.as_slice(), &[0]].concat());
        damages.push(vec![0; bytes.len()]);
        for bad in damages {
            let disk = good.copy();
            disk.put(&path, &bad);
            let ledger = open_small(disk.clone(), SMALL).unwrap();
            all_found(&ledger);
            ledger.stop();
        }
    }
    // One under the name of another, and names that are none.
    let disk = good.copy();
    let first = runs(&disk).remove(0);
    let bytes = disk.peek(&first).unwrap();
    disk.put(
        &Path::new(INDEX).join(format!("{:020}-{:020}.run", 0, 999_999)),
        &bytes,
    );
    for name in [
        "x.run",
        "1-2.run",
        "00000000000000000000-00000000000000000000.run",
    ] {
        disk.put(&Path::new(INDEX).join(name), &bytes);
    }
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    all_found(&ledger);
    ledger.stop();
    assert!(!runs(&disk).contains(&Path::new(INDEX).join("x.run")));
}

#[test]
fn a_block_that_is_not_what_was_written_is_noticed_by_whoever_meets_it() {
    let disk = filled();
    for path in runs(&disk) {
        let mut bytes = disk.peek(&path).unwrap();
        let blocks = (bytes.len() / BLOCK_BYTES).saturating_sub(1).max(1);
        for block in 1..=blocks {
            bytes[block * BLOCK_BYTES + 11] ^= 1;
        }
        disk.put(&path, &bytes);
    }
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    // Absent in such a block is not absent: what is submitted does not enter a second time.
    let size = ledger.size();
    assert_eq!(ledger.submit(anchor(3)).unwrap_err().kind, FailureKind::Io);
    assert_eq!(
        ledger.submit(anchor(4)).unwrap_err().kind,
        FailureKind::Busy
    );
    assert_eq!(ledger.size(), size);
    ledger.stop();
    // Each start makes anew what the last one met.
    for _ in 0..20 {
        let ledger = open_small(disk.clone(), SMALL).unwrap();
        let found = ledger.submit(anchor(3));
        ledger.stop();
        if found.is_ok() {
            let ledger = open_small(disk.clone(), SMALL).unwrap();
            return all_found(&ledger);
        }
    }
    panic!("the index does not heal");
}

#[test]
fn an_index_that_lies_is_not_believed() {
    // Sealed as our own, so only the entries can tell: each key leads to the entry after its own.
    let disk = filled();
    for path in runs(&disk) {
        let bytes = disk.peek(&path).unwrap();
        disk.put(&path, &resealed(&bytes, |(key, at)| Some((key, at + 1))));
    }
    let ledger = open_small(disk.clone(), SMALL).unwrap();
    for n in [0, 100, 400] {
        let leaf = event::leaf_hash(&anchor(n));
        assert_eq!(
            ledger.place(&leaf).unwrap_err().kind,
            FailureKind::Io,
            "{n}"
        );
    }
    assert!(runs(&disk).is_empty(), "it is gone");
    // What is still held of it becomes no new run.
    for n in EVENTS + SMALL..EVENTS + 5 * SMALL {
        ledger.submit(anchor(n)).unwrap();
    }
    assert_eq!(ledger.submit(anchor(1)).unwrap_err().kind, FailureKind::Io);
    ledger.stop();
    assert!(runs(&disk).is_empty(), "it stays gone");
    let ledger = open_small(disk, SMALL).unwrap();
    all_found(&ledger);
}

#[test]
fn a_read_that_fails_at_the_start_is_no_other_answer() {
    let disk = filled();
    let (mut after, mut started) = (0, 0);
    loop {
        let faulty = FaultyDisk::new(Arc::new(disk.copy()));
        faulty.arm(Fault {
            after,
            ..Fault::next(Op::Read, How::Fail(ErrorKind::Other))
        });
        let opened = open_small(faulty.clone(), SMALL);
        if faulty.struck() == 0 {
            break;
        }
        if let Ok(ledger) = opened {
            faulty.disarm();
            all_found(&ledger);
            // The next block stands on the one before, and the trail does not go back.
            let older = ledger.submit(audit_head(4)).unwrap_err();
            assert_eq!(older.kind, FailureKind::Refused, "read {after}");
            ledger.submit(anchor(9000)).unwrap();
            let heights = all_entries(&ledger)
                .into_iter()
                .filter_map(|entry| match event::decode(&entry).unwrap().event {
                    Event::Block { height, .. } => Some(height),
                    _ => None,
                });
            assert!(heights.eq(0..blocks(&ledger).len() as u64), "read {after}");
            ledger.stop();
            started += 1;
        }
        after += 1;
    }
    assert!(
        after > 20,
        "{after} reads, of which {started} did not matter"
    );
}

#[test]
fn an_index_of_another_history_is_not_believed() {
    let older = FakeDisk::new();
    let ledger = open_small(older.clone(), SMALL).unwrap();
    for n in 0..40 {
        ledger.submit(anchor(n)).unwrap();
    }
    ledger.stop();
    let (newer, twin) = (older.copy(), older.copy());
    for (disk, first) in [(&newer, 1000), (&twin, 2000)] {
        let ledger = open_small(disk.clone(), SMALL).unwrap();
        for n in first..first + 100 {
            ledger.submit(anchor(n)).unwrap();
        }
        ledger.stop();
    }
    // The index of today beside the log of yesterday; that of one history beside another's log.
    for log in [&older, &twin] {
        let disk = log.copy();
        runs(&disk)
            .iter()
            .for_each(|path| disk.remove(path).unwrap());
        for path in runs(&newer) {
            disk.put(&path, &newer.peek(&path).unwrap());
        }
        let ledger = open_small(disk.clone(), SMALL).unwrap();
        let absent = event::leaf_hash(&anchor(1000));
        assert_eq!(ledger.place(&absent).unwrap(), None);
        let size = ledger.size();
        for n in 0..40 {
            ledger.submit(anchor(n)).unwrap();
        }
        assert_eq!(ledger.size(), size, "all are found");
        ledger.stop();
    }
}

#[test]
fn a_disk_without_room_for_the_index_does_not_stop_the_ledger() {
    let disk = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let full = Fault {
        path_has: "ledger.index/".into(),
        for_ever: true,
        ..Fault::next(Op::Write, How::Short(3))
    };
    faulty.arm(full);
    let ledger = open_small(faulty, SMALL).unwrap();
    for n in 0..100 {
        ledger.submit(anchor(n)).unwrap();
    }
    for n in 0..100 {
        assert!(
            ledger
                .place(&event::leaf_hash(&anchor(n)))
                .unwrap()
                .is_some()
        );
    }
    ledger.stop();
    let ledger = open(disk).unwrap();
    assert_eq!(ledger.size(), 200);
}
