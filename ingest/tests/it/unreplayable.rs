//! A record of the log that fails every start is set aside after the third, and all others go on; a damaged log
//! is another matter.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind,
    journal::{Journal, Settings},
    limits,
    record::{BirthRecord, FrameRecord, Place, StateRecord, WalRecord},
    seams::{Disk, fake::FakeDisk, write_atomic},
    wire::ClockKind,
};
use chordae_ingest::{
    core::{
        arrival::{Refusal, Verdict},
        quarantined::Quarantined,
    },
    quarantine::Quarantine,
    wal::{Wal, WalSettings},
};

use crate::support::{House, Sender, birth, content, frame, key, runtime};

/// The payload of a frame that is none.
const NONE: &[u8] = b"\xff\xff no frame";
/// A moment that the clock of these houses has passed.
const T0: i64 = 1_700_000_000_000_000_000;

/// What lies in quarantine, as it would be after a power loss.
fn aside(disk: &FakeDisk) -> Vec<(Quarantined, Bytes)> {
    let disk = Arc::new(disk.copy());
    disk.crash();
    let quarantine = Quarantine::open(disk, "/data/quarantine".into()).unwrap();
    let mut found = Vec::new();
    let mut keep = |_, record, payload| {
        found.push((record, payload));
        Ok(())
    };
    quarantine.reader().scan(&mut keep).unwrap();
    found
}

fn record(seq: u64, place: Place, payload: Bytes) -> WalRecord {
    let made = frame(1, seq, T0, 1);
    WalRecord::Frame(FrameRecord {
        stream: key("bed-7/ecg"),
        boot: 1,
        seq,
        recv_ns: T0,
        t0_ns: T0,
        samples: made.samples,
        offset_ns: 0,
        clock: ClockKind::Synced,
        place,
        print: made.print(),
        payload,
    })
}

fn good(seq: u64) -> WalRecord {
    record(seq, Place::Live, frame(1, seq, T0, 1).encode().into())
}

/// A frame whose payload is none; it waits, so that the start has to read it.
fn unreadable() -> WalRecord {
    record(100, Place::Parked, Bytes::from_static(NONE))
}

/// A log of five good frames, `bad`, and five more good ones; the positions of all.
fn filled(bad: WalRecord) -> (House, Arc<FakeDisk>, Vec<u64>) {
    let (house, disk) = House::in_memory();
    let born = WalRecord::Birth(BirthRecord {
        stream: key("bed-7/ecg"),
        recv_ns: T0,
        birth: birth(1),
    });
    let mut records = vec![born];
    records.extend((0..5).map(good));
    records.push(bad);
    records.extend((5..10).map(good));
    let settings = WalSettings::new("/data/wal".into());
    let (wal, _) = Wal::open(Arc::clone(&disk) as Arc<dyn Disk>, settings).unwrap();
    let (wal, positions) = wal.commit(&records).unwrap();
    drop(wal.mark().unwrap());
    (house, disk, positions)
}

/// Starts `n` times, each after a power loss; every one fails, and says that the record at `position` did.
fn fails(house: &House, disk: &FakeDisk, n: usize, position: u64) {
    for start in 1..=n {
        let failure = house.open().err().expect("it starts");
        let named = format!("record {position} of the log");
        assert!(failure.why.contains(&named), "start {start}: {failure}");
        assert_eq!(
            failure.kind,
            FailureKind::Damaged,
            "start {start}: {failure}"
        );
        assert!(aside(disk).is_empty(), "start {start}");
        disk.crash();
    }
}

/// Every good frame is known: a repeat is absorbed, and takes no new record.
fn the_rest_goes_on(house: &House) {
    runtime().block_on(async {
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        for seq in 0..10 {
            let again = content(&frame(1, seq, T0, 1));
            let verdict = sender.ask(&key("bed-7/ecg"), again).await;
            assert_eq!(verdict, Verdict::Durable);
        }
        ingest.handle().stop().await.unwrap();
        drop(sender);
        ingest.join().unwrap();
        assert!(sink.frames().is_empty(), "all ten were there");
    });
}

#[test]
fn a_frame_that_fails_three_starts_goes_to_quarantine_and_the_rest_goes_on() {
    let (house, disk, positions) = filled(unreadable());
    fails(&house, &disk, 3, positions[6]);
    the_rest_goes_on(&house);
    disk.crash();
    // The start after that does not trip over it again, nor put it there twice.
    the_rest_goes_on(&house);
    let aside = aside(&disk);
    assert_eq!(aside.len(), 1);
    let (q, payload) = &aside[0];
    assert_eq!((q.reason.as_str(), &payload[..]), ("unreplayable", NONE));
    assert_eq!(q.stream, key("bed-7/ecg"));
    assert_eq!(q.frame.as_ref().map(|f| (f.boot, f.seq)), Some((1, 100)));
    // It was acknowledged once, so its number is taken; a repeat may be the better copy, and is kept beside it.
    runtime().block_on(async {
        let (ingest, _) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let again = content(&frame(1, 100, T0, 1));
        let verdict = sender.ask(&key("bed-7/ecg"), again).await;
        assert_eq!(verdict, Verdict::Refused(Refusal::Conflict));
        ingest.handle().stop().await.unwrap();
    });
    assert_eq!(self::aside(&disk).len(), 2);
}

#[test]
fn a_frame_record_that_cannot_even_be_decoded_is_kept_with_all_its_bytes() {
    let mut bytes = good(100).encode();
    // The clock, behind stream, boot, seq and three times: kind 77 is none.
    let clock = 1 + 1 + 5 + 1 + 3 + 8 + 8 + 8 + 8 + 4 + 8;
    bytes[clock] = 77;
    assert!(WalRecord::decode(bytes.clone().into()).is_err());
    let (house, disk) = House::in_memory();
    let settings = Settings {
        dir: "/data/wal".into(),
        segment_bytes: 1 << 20,
        room_bytes: 0,
        record_bytes_max: limits::RECORD_BYTES_MAX,
    };
    let opened = Journal::open(Arc::clone(&disk) as Arc<dyn Disk>, settings).unwrap();
    let records: Vec<Bytes> = vec![bytes.clone().into(), good(0).encode().into()];
    let (journal, durable) = opened.journal.commit(&records).unwrap();
    drop(journal.mark().unwrap());
    fails(&house, &disk, 3, durable.positions()[0]);
    house.open().unwrap();
    let aside = aside(&disk);
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].1, bytes);
}

#[test]
fn a_record_that_makes_the_windowers_replay_panic_is_named_and_set_aside() {
    let (house, disk, positions) = filled(good(100));
    let replay = || {
        let recovered = house.open().unwrap();
        let mut seen = Vec::new();
        let done = recovered.replay(&mut |position, _| {
            seen.push(position);
            assert_ne!(position, positions[6], "the windower cannot have this one");
            Ok(())
        });
        (done, seen)
    };
    for _ in 0..3 {
        let (done, _) = replay();
        assert!(done.is_err_and(|f| f.why.contains("cannot have this one")));
        disk.crash();
    }
    let (done, seen) = replay();
    assert_eq!(done, Ok(()));
    let others = positions.iter().filter(|p| **p != positions[6]);
    assert!(others.clone().all(|p| seen.contains(p)), "{seen:?}");
    assert_eq!(seen.len(), positions.len() - 1);
    assert_eq!(aside(&disk)[0].0.reason, "unreplayable");
}

#[test]
fn a_start_that_works_forgets_the_count_and_other_failures_are_not_counted() {
    let (house, disk, positions) = filled(good(100));
    let fail = |with: fn() -> Failure| {
        let recovered = house.open().unwrap();
        let visit = &mut |position, _| match position == positions[6] {
            true => Err(with()),
            false => Ok(()),
        };
        assert!(recovered.replay(visit).is_err());
    };
    for _ in 0..5 {
        // The disk's fault, or a part that has ended: not the record's.
        fail(|| Failure::io("the disk"));
        fail(|| Failure::internal("the sealer is gone"));
    }
    fail(|| Failure::damaged("this one"));
    fail(|| Failure::damaged("this one"));
    the_rest_goes_on(&house);
    fail(|| Failure::damaged("this one"));
    fail(|| Failure::damaged("this one"));
    house.open().unwrap();
    assert!(aside(&disk).is_empty());
}

#[test]
fn what_others_lean_on_is_never_set_aside() {
    let state = WalRecord::State(StateRecord {
        births: Vec::new(),
        ingest: b"no json".to_vec(),
    });
    let (house, disk, positions) = filled(state);
    fails(&house, &disk, 6, positions[6]);
}

#[test]
fn the_control_a_damaged_log_refuses_every_start() {
    let (house, disk, positions) = filled(unreadable());
    let path = disk.list("/data/wal".as_ref()).unwrap().remove(0).path;
    let mut bytes = disk.read(&path, 1 << 30).unwrap();
    let at = bytes.windows(NONE.len()).position(|w| w == NONE).unwrap();
    bytes[at] ^= 1;
    write_atomic(&*disk, &path, &bytes).unwrap();
    for _ in 0..6 {
        let failure = house.open().err().expect("a damaged log starts");
        assert_eq!(failure.kind, FailureKind::Damaged);
        assert!(!failure.why.contains("failed start"), "{failure}");
        assert!(aside(&disk).is_empty());
    }
    assert!(disk.read("/data/wal.failed".as_ref(), 1 << 20).is_err());
    assert_eq!(disk.read(&path, 1 << 30).unwrap(), bytes, "left as it was");
    assert_eq!(positions.len(), 12);
}
