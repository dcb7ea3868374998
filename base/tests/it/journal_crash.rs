//! Power loss at every point of a random life of a log, over and over, on a disk that forgets what was
//! not synced, whole or in pieces; with controls that must lose.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    FailureKind, Outcome,
    journal::Journal,
    seams::{
        Disk,
        fake::{FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How, Op},
    },
};

use crate::log::{open, open_on, open_over_zeros, payload, records};

/// What the outside knows about a log.
#[derive(Default)]
struct Ledger {
    /// Acknowledged: position and number.
    acked: Vec<(u64, usize)>,
    /// Numbers of the commit that was under way; they may survive.
    pending: Vec<usize>,
    next: usize,
    /// Records below this may be gone.
    floor: u64,
    /// Records are written over zeros, and segments are rolled when they are full.
    over_zeros: bool,
}

impl Ledger {
    fn batch(&mut self, size: u64) -> Vec<Bytes> {
        self.pending = (0..size)
            .map(|i| self.next + usize::try_from(i).unwrap())
            .collect();
        self.next += self.pending.len();
        self.pending.iter().map(|n| payload(*n)).collect()
    }

    fn acknowledge(&mut self, positions: &[u64]) {
        assert_eq!(positions.len(), self.pending.len());
        self.acked
            .extend(positions.iter().copied().zip(self.pending.drain(..)));
    }

    /// One random act; the journal is gone after a failure.
    fn act(&mut self, journal: Journal, luck: &FakeEntropy) -> Outcome<Journal> {
        match luck.below(8) {
            0 => journal.mark(),
            1 if !self.over_zeros || journal.wants_roll() => {
                let records = self.batch(luck.below(3));
                let (journal, durable) = journal.roll(&records)?;
                self.acknowledge(durable.positions());
                Ok(journal)
            }
            2 => {
                let floor = journal.start() + luck.below(journal.bytes() + 1);
                self.floor = self.floor.max(floor);
                journal.trim(floor)
            }
            _ => {
                let records = self.batch(luck.below(4) + 1);
                let (journal, durable) = journal.commit(&records)?;
                self.acknowledge(durable.positions());
                Ok(journal)
            }
        }
    }

    /// Holds what a fresh `open` found against what was acknowledged: how many are lost, and panics on
    /// anything that was never written or lies elsewhere. What survived of the rest counts as known now.
    fn settle(&mut self, journal: &Journal) -> usize {
        let found = records(journal);
        let held = |(at, n): &(u64, usize)| found.contains(&(*at, payload(*n)));
        let due = self.acked.iter().filter(|(at, _)| *at >= self.floor);
        let lost = due.filter(|acked| !held(acked)).count();
        let known: Vec<u64> = self.acked.iter().map(|a| a.0).collect();
        let mut extra = found.iter().filter(|(at, _)| !known.contains(at));
        for n in std::mem::take(&mut self.pending) {
            // Of an unacknowledged commit any beginning may be there, and nothing else.
            match extra.next() {
                Some((at, bytes)) => {
                    assert_eq!(*bytes, payload(n), "a record nobody wrote, at {at}");
                    self.acked.push((*at, n));
                }
                None => break,
            }
        }
        assert!(extra.next().is_none(), "records nobody wrote");
        self.acked.retain(|a| held(a));
        lost
    }
}

/// Lives of one log, each cut after a random number of changes to the disk, which may lie besides.
/// Returns how many acknowledged records were lost, or could not be had for damage, which only a lying
/// disk may cause.
fn lives(seed: u64, torn: bool, lie: Option<Op>) -> usize {
    let luck = FakeEntropy::new(seed);
    let disk = FakeDisk::new();
    let (mut ledger, mut lost) = (Ledger::default(), 0);
    ledger.over_zeros = seed % 2 == 1;
    let start = if ledger.over_zeros {
        open_over_zeros
    } else {
        open_on
    };
    for life in 0..6 {
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        if let Some(op) = lie {
            faulty.arm(Fault {
                for_ever: true,
                ..Fault::next(op, How::Lie)
            });
        }
        let how = match luck.below(3) {
            0 => How::Fail(io::ErrorKind::Other),
            1 => How::FailAfter(io::ErrorKind::Other),
            _ => How::Short(usize::try_from(luck.below(200)).unwrap()),
        };
        let after = luck.below(40);
        // One failure may come alone (the log must stop of itself), then the power goes.
        faulty.arm(Fault {
            after,
            how,
            for_ever: luck.below(2) == 0,
            ..Fault::next(Op::Write, how)
        });
        faulty.arm(Fault {
            op: None,
            after: after + luck.below(9),
            for_ever: true,
            how,
            path_has: String::new(),
        });
        if let Ok(opened) = start(Arc::new(faulty.clone())) {
            let mut journal = Some(opened.journal);
            lost += ledger.settle(journal.as_ref().unwrap());
            while let Some(now) = journal.take() {
                journal = ledger.act(now, &luck).ok();
            }
            assert!(faulty.struck() > 0);
        }
        if torn {
            disk.crash_torn(seed * 31 + life)
        } else {
            disk.crash()
        }
        match open(&disk) {
            Ok(opened) => lost += ledger.settle(&opened.journal),
            Err(_) if lie.is_some() => return lost + ledger.acked.len(),
            Err(failure) => panic!("seed {seed} life {life}: {failure}"),
        }
    }
    lost
}

#[test]
fn nothing_acknowledged_is_lost_when_all_that_was_not_synced_is() {
    for seed in 0..400 {
        assert_eq!(lives(seed, false, None), 0, "seed {seed}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_pieces_survive() {
    for seed in 0..600 {
        assert_eq!(lives(seed, true, None), 0, "seed {seed}");
    }
}

/// Control: on a disk whose sync does nothing, or that never syncs names, the same lives lose.
#[test]
fn control_without_syncs_the_same_lives_lose() {
    for op in [Op::Sync, Op::SyncDir] {
        let lost: usize = (0..40).map(|seed| lives(seed, false, Some(op))).sum();
        assert!(lost > 0, "a disk that lies about {op:?} went unnoticed");
    }
}

fn three_records(disk: Arc<dyn Disk>) -> Journal {
    three_records_of(open_on(disk).unwrap().journal)
}

fn three_records_of(journal: Journal) -> Journal {
    let (journal, _) = journal.commit(&[payload(0), payload(1)]).unwrap();
    journal.commit(&[payload(2)]).unwrap().0
}

/// Every operation failing once, with and without its effect: the handle is gone, and reopening finds
/// every durable record and at most the one under way.
#[test]
fn a_failure_consumes_the_journal_and_costs_nothing_durable() {
    let acts: [fn(Journal) -> Outcome<Journal>; 4] = [
        |journal| Ok(journal.commit(&[payload(3)])?.0),
        |journal| Ok(journal.roll(&[payload(3)])?.0),
        Journal::mark,
        |journal| Ok(journal.roll(&[])?.0.commit(&[payload(3)])?.0),
    ];
    let (mut failed, mut passed) = (0, 0);
    for act in acts {
        for op in [Op::Write, Op::Sync, Op::SyncDir, Op::Create] {
            let kind = io::ErrorKind::StorageFull;
            for how in [How::Fail(kind), How::FailAfter(kind), How::Short(9)] {
                let disk = FakeDisk::new();
                let faulty = FaultyDisk::new(Arc::new(disk.clone()));
                let journal = three_records(Arc::new(faulty.clone()));
                faulty.arm(Fault::next(op, how));
                match act(journal) {
                    Ok(_) => passed += 1,
                    Err(failure) => {
                        assert_eq!(failure.kind, FailureKind::Io);
                        failed += 1;
                    }
                }
                for crash in [false, true] {
                    if crash {
                        disk.crash();
                    }
                    let journal = open(&disk).unwrap().journal;
                    let found: Vec<Bytes> = records(&journal).into_iter().map(|r| r.1).collect();
                    let all: Vec<Bytes> = (0..4).map(payload).collect();
                    assert!(
                        found == all[..3] || found == all,
                        "{op:?} {how:?}: {}",
                        found.len()
                    );
                }
            }
        }
    }
    assert!(
        failed >= 30 && passed > 0,
        "{failed} failed, {passed} never asked for the operation"
    );
}

/// After a failed sync the bytes are still in the cache: `open` finds the record, and then it must be
/// durable, because the one who sends it again is told "known".
#[test]
fn a_record_recovered_from_the_cache_is_durable_when_open_returns() {
    let run = |lie: bool| {
        let disk = FakeDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let journal = three_records(Arc::new(faulty.clone()));
        faulty.arm(Fault::next(Op::Sync, How::Fail(io::ErrorKind::Other)));
        assert!(journal.commit(&[payload(3)]).is_err());
        if lie {
            let tmp = ".log.tmp".to_owned();
            faulty.arm(Fault {
                path_has: tmp,
                ..Fault::next(Op::Sync, How::Lie)
            });
        }
        let found = records(&open_on(Arc::new(faulty)).unwrap().journal);
        assert_eq!(found.len(), 4);
        disk.crash();
        found == records(&open(&disk).unwrap().journal)
    };
    assert!(run(false));
    assert!(
        !run(true),
        "control: with a lying sync of the copy the record is gone"
    );
}

#[test]
fn a_full_disk_fails_the_commit_and_keeps_what_was_there() {
    let disk = FakeDisk::new();
    let journal = three_records(Arc::new(disk.clone()));
    let dir = Path::new("data/log");
    disk.set_capacity(journal.bytes() + 40);
    assert_eq!(disk.free_bytes(dir).unwrap(), 40);
    assert_eq!(
        journal
            .commit(&[Bytes::from(vec![1; 600])])
            .err()
            .unwrap()
            .kind,
        FailureKind::Io
    );
    disk.crash();
    // Opening copies the newest segment: it needs that much room, and says so when there is none.
    assert_eq!(open(&disk).err().unwrap().kind, FailureKind::Io);
    disk.set_capacity(10_000);
    assert_eq!(records(&open(&disk).unwrap().journal).len(), 3);
}

/// What is synced after it was written must be nothing but data: its place in the file is there before, synced.
#[test]
fn records_are_written_over_zeros_that_are_durable() {
    let synced_before = |over_zeros: bool| {
        let disk = FakeDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        drop(three_records(Arc::new(disk.clone())));
        let (start, syncs): (fn(_) -> _, _) = match over_zeros {
            true => (open_over_zeros, 1),
            false => (open_on, 0),
        };
        let journal = start(Arc::new(faulty.clone())).unwrap().journal;
        let end = usize::try_from(journal.durable()).unwrap();
        // That of the zeros is good, that of the record is not.
        faulty.arm(Fault {
            after: syncs,
            ..Fault::next(Op::Sync, How::Fail(io::ErrorKind::Other))
        });
        assert!(journal.commit(&[payload(3)]).is_err());
        disk.crash();
        let (_, _, bytes) = crate::log::segments(&disk).remove(0);
        let zeros = bytes.get(end..).unwrap().to_vec();
        assert!(zeros.iter().all(|b| *b == 0));
        assert_eq!(records(&open(&disk).unwrap().journal).len(), 3);
        zeros.len()
    };
    assert!(synced_before(true) >= 16 + payload(3).len());
    assert_eq!(synced_before(false), 0, "the control: a file that grows");
}

#[test]
fn room_ends_where_the_segment_does() {
    let disk = FakeDisk::new();
    let journal = open_over_zeros(Arc::new(disk.clone())).unwrap().journal;
    let mut journal = three_records_of(journal);
    for n in 0..200 {
        journal = match journal.wants_roll() {
            true => journal.roll(&[payload(n % 7)]).unwrap().0,
            false => journal.commit(&[payload(n % 7)]).unwrap().0,
        };
    }
    // Every byte of every segment with a successor is looked at by the next start.
    assert!(crate::log::segments(&disk).len() > 5);
    disk.crash();
    assert_eq!(records(&open(&disk).unwrap().journal).len(), 203);
}

#[test]
fn reserved_room_is_no_tear_and_hides_no_damage() {
    let disk = FakeDisk::new();
    let over_zeros = || open_over_zeros(Arc::new(disk.clone())).unwrap().journal;
    let journal = three_records_of(over_zeros());
    assert!(journal.roll(&[]).is_err(), "its room is not used up");
    let (journal, _) = over_zeros().commit(&[payload(3)]).unwrap();
    let end = usize::try_from(journal.durable()).unwrap();
    let (path, _, bytes) = crate::log::segments(&disk).remove(0);
    assert_eq!(bytes.len(), 300.max(end), "a segment's bytes");
    assert!(bytes[end..].iter().all(|b| *b == 0) && end < 300);
    let opened = open(&disk).unwrap();
    assert_eq!(opened.torn, None);
    assert_eq!(records(&opened.journal).len(), 4);
    let mut torn = bytes.clone();
    torn[end + 5] = 1;
    disk.put(&path, &torn);
    let cut = open(&disk.copy()).unwrap().torn.unwrap();
    assert_eq!((cut.at, cut.bytes), (end as u64, 6));
    // Zeros in place of a record that the next one knows durable are damage, whatever follows.
    let mut gone = bytes;
    gone[20..60].fill(0);
    disk.put(&path, &gone);
    assert_eq!(open(&disk).err().unwrap().kind, FailureKind::Damaged);
}

#[test]
fn trimmed_segments_are_gone_for_good_and_leave_no_hole() {
    let disk = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let mut journal = three_records(Arc::new(faulty.clone()));
    for n in 3..7 {
        journal = journal.roll(&[payload(n)]).unwrap().0;
    }
    let floor = journal.durable();
    // The power goes in the middle of the trim.
    let how = How::Fail(io::ErrorKind::Other);
    faulty.arm(Fault {
        op: None,
        after: 3,
        for_ever: true,
        ..Fault::next(Op::Remove, how)
    });
    assert!(journal.trim(floor).is_err());
    for seed in 0..50 {
        let disk = disk.copy();
        disk.crash_torn(seed);
        let journal = open(&disk).unwrap().journal;
        assert!(journal.start() > 0, "the first removal was synced");
        let reader = journal.reader();
        let journal = journal.trim(u64::MAX).unwrap();
        assert_eq!(records(&journal).len(), 1);
        assert!(reader.scan(0, &mut |_, _| Ok(())).unwrap() == journal.durable());
    }
}
