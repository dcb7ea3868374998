//! A small log to break: three segments, batches of several records, idle marks; and an independent
//! reading of its bytes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Outcome,
    journal::{Journal, Opened, Settings},
    seams::{Disk, fake::FakeDisk},
};

pub(crate) const SEGMENT_HEADER: usize = 20;
pub(crate) const RECORD_HEADER: usize = 16;

pub(crate) type Records = Vec<(u64, Bytes)>;

pub(crate) fn settings() -> Settings {
    Settings {
        dir: PathBuf::from("data/log"),
        segment_bytes: 300,
        room_bytes: 0,
        record_bytes_max: 700,
    }
}

/// As [`open_on`], of a log that is written over zeros, a segment of them at a time.
pub(crate) fn open_over_zeros(disk: Arc<dyn Disk>) -> Outcome<Opened> {
    let room_bytes = 300;
    Journal::open(
        disk,
        Settings {
            room_bytes,
            ..settings()
        },
    )
}

pub(crate) fn open(disk: &FakeDisk) -> Outcome<Opened> {
    open_on(Arc::new(disk.clone()))
}

pub(crate) fn open_on(disk: Arc<dyn Disk>) -> Outcome<Opened> {
    Journal::open(disk, settings())
}

pub(crate) fn records(journal: &Journal) -> Records {
    let mut found = Records::new();
    let end = journal
        .reader()
        .scan(0, &mut |position, payload| {
            found.push((position, payload));
            Ok(())
        })
        .unwrap();
    assert_eq!(end, journal.durable());
    found
}

/// The n-th payload: its own number, so that a record in the wrong place shows, and a varying length.
pub(crate) fn payload(n: usize) -> Bytes {
    let mut bytes = format!("record {n} ").into_bytes();
    bytes.resize(bytes.len() + (n * 37) % 90, b'.');
    bytes.into()
}

/// Three segments: whole, whole, and a newest with several batches, an idle mark in the middle and,
/// as it was left, none after the last batch.
pub(crate) fn three_segments() -> (FakeDisk, Records) {
    let disk = FakeDisk::new();
    let mut journal = open(&disk).unwrap().journal;
    let (mut written, mut n) = (Records::new(), 0);
    let mut batch = |size: usize| {
        let batch: Vec<Bytes> = (n..n + size).map(payload).collect();
        n += size;
        batch
    };
    for (segment, sizes) in [[2, 3, 1], [3, 1, 2], [2, 2, 3]].into_iter().enumerate() {
        for (i, size) in sizes.into_iter().enumerate() {
            let records = batch(size);
            let durable;
            (journal, durable) = if segment > 0 && i == 0 {
                journal.roll(&records).unwrap()
            } else {
                journal.commit(&records).unwrap()
            };
            written.extend(durable.positions().iter().copied().zip(records));
            if i == 1 {
                journal = journal.mark().unwrap();
            }
        }
    }
    assert_eq!(segments(&disk).len(), 3);
    (disk, written)
}

pub(crate) fn segments(disk: &FakeDisk) -> Vec<(PathBuf, u64, Vec<u8>)> {
    let entries = disk.list(Path::new("data/log")).unwrap();
    let segment = |path: PathBuf| {
        let start = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = disk.peek(&path).unwrap();
        (path, start, bytes)
    };
    entries.into_iter().map(|e| segment(e.path)).collect()
}

/// Every record of a segment file, idle marks too: (offset, end, mark). Reads lengths only.
pub(crate) fn layout(bytes: &[u8]) -> Vec<(usize, usize, u64)> {
    let (mut at, mut found) = (SEGMENT_HEADER, Vec::new());
    while at < bytes.len() {
        let len = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let mark = u64::from_be_bytes(bytes[at + 4..at + 12].try_into().unwrap());
        let end = at + RECORD_HEADER + usize::try_from(len).unwrap();
        found.push((at, end, mark));
        at = end;
    }
    assert_eq!(at, bytes.len());
    found
}
