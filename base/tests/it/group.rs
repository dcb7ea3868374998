//! Group commit: everybody is answered, what is answered is durable, and the thread ends.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use bytes::Bytes;
use chordae_base::{
    FailureKind, Outcome,
    journal::group::GroupCommit,
    seams::{
        Disk,
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
};

use crate::log::{open, open_on, payload, records};

fn spawn(disk: &Arc<dyn Disk>, capacity: usize) -> GroupCommit {
    GroupCommit::spawn(
        open_on(Arc::clone(disk)).unwrap().journal,
        capacity,
        "test-log",
    )
    .unwrap()
}

#[test]
fn many_callers_each_get_their_own_durable_position() {
    let disk = FakeDisk::new();
    let log = spawn(&(Arc::new(disk.boot()) as Arc<dyn Disk>), 4);
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let log = log.clone();
            thread::spawn(move || {
                let commit = |n: usize| {
                    (
                        log.commit(payload(caller * 100 + n)).unwrap(),
                        caller * 100 + n,
                    )
                };
                (0..25).map(commit).collect::<Vec<_>>()
            })
        })
        .collect();
    let told: Vec<(u64, usize)> = callers
        .into_iter()
        .flat_map(|c| c.join().unwrap())
        .collect();
    assert_eq!(told.iter().map(|t| t.0).collect::<BTreeSet<_>>().len(), 200);
    disk.crash();
    // Handles of the life before fail; the log is opened anew.
    assert_eq!(log.commit(payload(1)).unwrap_err().kind, FailureKind::Io);
    let journal = open(&disk).unwrap().journal;
    assert_eq!(records(&journal).len(), 200);
    assert_eq!(journal.start(), 0, "all segments are kept");
    assert!(
        disk.list(Path::new("data/log")).unwrap().len() > 3,
        "it rolled by itself"
    );
    for (position, n) in told {
        assert_eq!(journal.reader().read(position).unwrap(), payload(n));
    }
}

#[test]
fn dropping_the_last_handle_commits_what_waits_and_marks_it() {
    let disk = FakeDisk::new();
    let log = spawn(&(Arc::new(disk.clone()) as Arc<dyn Disk>), 64);
    let (told, answers) = sync_channel::<Outcome<u64>>(64);
    for n in 0..20 {
        let told = told.clone();
        log.commit_then(
            payload(n),
            Box::new(move |outcome| told.send(outcome).unwrap()),
        );
    }
    drop(log);
    let positions: Vec<u64> = answers.try_iter().map(Result::unwrap).collect();
    assert_eq!(positions.len(), 20);
    assert!(positions.is_sorted(), "in the order of asking");
    disk.crash();
    let journal = open(&disk).unwrap().journal;
    assert_eq!(records(&journal).len(), 20);
    assert!(
        !journal.wants_mark(),
        "an orderly end leaves nothing unmarked"
    );
}

#[test]
fn after_a_failed_sync_every_record_fails_and_the_durable_ones_stay() {
    let disk = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let log = spawn(&(Arc::new(faulty.clone()) as Arc<dyn Disk>), 4);
    log.commit(payload(0)).unwrap();
    faulty.arm(Fault::next(Op::Sync, How::Fail(io::ErrorKind::Other)));
    for n in 1..4 {
        assert_eq!(log.commit(payload(n)).unwrap_err().kind, FailureKind::Io);
    }
    assert_eq!(
        faulty.struck(),
        1,
        "the disk would work again; the log does not ask it"
    );
    let (told, answer) = sync_channel(1);
    log.commit_then(
        payload(5),
        Box::new(move |outcome| told.send(outcome).unwrap()),
    );
    assert_eq!(answer.recv().unwrap().unwrap_err().kind, FailureKind::Io);
    disk.crash();
    assert_eq!(records(&open(&disk).unwrap().journal).len(), 1);
}

#[test]
fn a_full_mailbox_is_busy_and_a_bad_record_harms_nobody() {
    let disk: Arc<dyn Disk> = Arc::new(FakeDisk::new());
    let log = spawn(&disk, 1);
    assert_eq!(
        log.commit(Bytes::new()).unwrap_err().kind,
        FailureKind::BadInput
    );
    assert_eq!(
        log.commit(vec![0; 701].into()).unwrap_err().kind,
        FailureKind::BadInput
    );
    // Hold the thread inside a reply, fill the one place, and ask once more.
    let (held, holds) = sync_channel::<()>(0);
    let (release, released) = sync_channel::<()>(0);
    log.commit_then(
        payload(0),
        Box::new(move |_| {
            held.send(()).unwrap();
            released.recv().unwrap();
        }),
    );
    holds.recv().unwrap();
    let (told, answers) = sync_channel(2);
    for n in 1..3 {
        let told = told.clone();
        log.commit_then(
            payload(n),
            Box::new(move |outcome| told.send((n, outcome)).unwrap()),
        );
    }
    let (n, outcome) = answers.recv().unwrap();
    assert_eq!((n, outcome.unwrap_err().kind), (2, FailureKind::Busy));
    release.send(()).unwrap();
    assert!(matches!(answers.recv().unwrap(), (1, Ok(_))));
}

#[test]
fn stopping_answers_everybody_and_a_reply_may_hold_the_last_handle() {
    let disk: Arc<dyn Disk> = Arc::new(FakeDisk::new());
    let log = spawn(&disk, 16);
    let other = log.clone();
    log.commit(payload(0)).unwrap();
    log.stop();
    log.stop();
    assert_eq!(
        other.commit(payload(1)).unwrap_err().kind,
        FailureKind::Busy
    );
    let (told, answer) = sync_channel(1);
    other.commit_then(
        payload(1),
        Box::new(move |outcome| told.send(outcome).unwrap()),
    );
    assert_eq!(answer.recv().unwrap().unwrap_err().kind, FailureKind::Busy);

    let log = spawn(&disk, 16);
    let (told, answer) = sync_channel(1);
    let last = log.clone();
    log.commit_then(
        payload(2),
        Box::new(move |outcome| {
            drop(last);
            told.send(outcome).unwrap();
        }),
    );
    drop(log);
    assert!(answer.recv().unwrap().is_ok());
}
