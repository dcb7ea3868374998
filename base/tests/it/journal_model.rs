//! The journal against a plain list, under random use and orderly reopening.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{
    FailureKind,
    journal::{Journal, Settings},
    seams::{Disk, fake::FakeDisk, real::OsDisk},
};
use proptest::prelude::*;

use crate::log::{open, payload, records, segments};

#[derive(Debug, Clone)]
enum Do {
    Commit(usize),
    Mark,
    Roll(usize),
    /// Trims at the position of this share (of 256) of what there is.
    Trim(u8),
    Reopen,
}

fn acts() -> impl Strategy<Value = Do> {
    prop_oneof![
        4 => (0usize..5).prop_map(Do::Commit),
        1 => Just(Do::Mark),
        1 => (0usize..3).prop_map(Do::Roll),
        1 => any::<u8>().prop_map(Do::Trim),
        1 => Just(Do::Reopen),
    ]
}

fn batch(n: &mut usize, size: usize) -> Vec<Bytes> {
    *n += size;
    (*n - size..*n).map(payload).collect()
}

fn agree(journal: &Journal, model: &[(u64, Bytes)]) -> Result<(), TestCaseError> {
    let kept: Vec<_> = model
        .iter()
        .filter(|(at, _)| *at >= journal.start())
        .cloned()
        .collect();
    prop_assert_eq!(&records(journal), &kept);
    let reader = journal.reader();
    for (i, (position, payload)) in model.iter().enumerate() {
        match reader.read(*position) {
            Ok(found) => prop_assert_eq!(&found, payload),
            Err(err) => {
                prop_assert_eq!(err.kind, FailureKind::NotFound);
                prop_assert!(*position < journal.start());
            }
        }
        if *position >= journal.start() && i % 3 == 0 {
            let mut seen = Vec::new();
            reader
                .scan(*position, &mut |at, _| {
                    seen.push(at);
                    Ok(())
                })
                .unwrap();
            prop_assert!(seen.iter().eq(model[i..].iter().map(|(at, _)| at)));
        }
    }
    prop_assert_eq!(journal.bytes(), journal.durable() - journal.start());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn keeps_every_record_at_its_position(acts in prop::collection::vec(acts(), 1..40)) {
        let disk = FakeDisk::new();
        let mut journal = open(&disk).unwrap().journal;
        let (mut model, mut n): (Vec<(u64, Bytes)>, usize) = (Vec::new(), 0);
        for act in acts {
            match act {
                Do::Commit(size) => {
                    let records = batch(&mut n, size);
                    let durable;
                    (journal, durable) = journal.commit(&records).unwrap();
                    prop_assert_eq!(durable.upto(), journal.durable());
                    prop_assert_eq!(durable.positions().len(), size);
                    model.extend(durable.positions().iter().copied().zip(records));
                }
                Do::Mark => {
                    journal = journal.mark().unwrap();
                    prop_assert!(!journal.wants_mark());
                    let before = journal.durable();
                    journal = journal.mark().unwrap();
                    prop_assert_eq!(journal.durable(), before, "one mark is enough");
                }
                Do::Roll(size) => {
                    let (records, old) = (batch(&mut n, size), journal.durable());
                    let durable;
                    (journal, durable) = journal.roll(&records).unwrap();
                    prop_assert!(!journal.wants_roll() || size > 0);
                    prop_assert!(journal.durable() >= old + 20);
                    model.extend(durable.positions().iter().copied().zip(records));
                }
                Do::Trim(share) => {
                    let floor = journal.start() + journal.bytes() * u64::from(share) / 256;
                    journal = journal.trim(floor).unwrap();
                    prop_assert!(journal.start() <= floor);
                }
                Do::Reopen => {
                    let (durable, start) = (journal.durable(), journal.start());
                    drop(journal);
                    let opened = open(&disk).unwrap();
                    prop_assert_eq!(opened.torn, None);
                    journal = opened.journal;
                    prop_assert_eq!(journal.start(), start);
                    // A segment that held nothing yet is given up.
                    prop_assert!(durable == journal.durable() || durable == journal.durable() + 20);
                }
            }
            agree(&journal, &model)?;
        }
    }
}

#[test]
fn a_record_that_may_not_be_written_is_refused_before_anything_is() {
    for bad in [Bytes::new(), Bytes::from(vec![1; 701])] {
        let disk = FakeDisk::new();
        let (journal, _) = open(&disk).unwrap().journal.commit(&[payload(1)]).unwrap();
        let before = disk.peek(std::path::Path::new("data/log/00000000000000000000.log"));
        let failure = journal.commit(&[payload(2), bad]).err().unwrap();
        assert_eq!(failure.kind, FailureKind::BadInput);
        assert_eq!(
            disk.peek(std::path::Path::new("data/log/00000000000000000000.log")),
            before
        );
    }
    let disk = FakeDisk::new();
    let whole = Bytes::from(vec![7; 700]);
    let (journal, durable) = open(&disk)
        .unwrap()
        .journal
        .commit(std::slice::from_ref(&whole))
        .unwrap();
    assert_eq!(
        journal.reader().read(durable.positions()[0]).unwrap(),
        whole
    );
    assert!(journal.wants_roll(), "700 bytes fill a segment of 300");
}

#[test]
fn a_commit_larger_than_one_write_is_one_commit() {
    let disk = FakeDisk::new();
    let settings = chordae_base::journal::Settings {
        segment_bytes: 1 << 30,
        record_bytes_max: 3 << 20,
        ..crate::log::settings()
    };
    let open = || {
        Journal::open(std::sync::Arc::new(disk.clone()), settings.clone())
            .unwrap()
            .journal
    };
    let batch: Vec<Bytes> = (1u8..=5).map(|n| vec![n; 3 << 20].into()).collect();
    let (_, durable) = open().commit(&batch).unwrap();
    disk.crash();
    let reader = open().reader();
    for (position, payload) in durable.positions().iter().zip(&batch) {
        assert!(reader.read(*position).unwrap() == payload);
    }
}

/// The bytes of the module's picture, checksums from another implementation: a change here is a new
/// format, which must still read this one.
#[test]
fn the_bytes_of_a_log_are_pinned() {
    let disk = FakeDisk::new();
    let journal = open(&disk).unwrap().journal;
    let (journal, _) = journal.commit(&["one".into(), "two".into()]).unwrap();
    let (journal, durable) = journal.mark().unwrap().roll(&["three".into()]).unwrap();
    assert_eq!(durable.positions(), [74 + 20]);
    let files: Vec<String> = segments(&disk)
        .iter()
        .map(|(_, _, bytes)| hex::encode(bytes))
        .collect();
    let first = [
        "43484a524e4c3031 0000000000000000 b09656b7",
        "00000003 0000000000000014 1c05d0bc 6f6e65",
        "00000003 0000000000000014 4ddbc8c4 74776f",
        "00000000 000000000000003a 0024d561",
    ];
    let second = [
        "43484a524e4c3031 000000000000004a 9a0f6333",
        "00000005 000000000000004a 8a252350 7468726565",
    ];
    assert_eq!(
        files,
        [
            first.concat().replace(' ', ""),
            second.concat().replace(' ', "")
        ]
    );
    assert_eq!(records(&journal).len(), 3);
}

#[test]
fn a_log_on_the_real_disk_survives_its_handle_and_refuses_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let settings = Settings {
        dir: folder.path().join("new/log"),
        ..crate::log::settings()
    };
    let open = || Journal::open(Arc::clone(&disk), settings.clone());
    let mut journal = open().unwrap().journal;
    let mut model = Vec::new();
    for n in 0..40 {
        let records = [payload(2 * n), payload(2 * n + 1)];
        let durable;
        (journal, durable) = if journal.wants_roll() {
            journal.roll(&records)
        } else {
            journal.commit(&records)
        }
        .unwrap();
        model.extend(durable.positions().iter().copied().zip(records));
    }
    let reader = journal.reader();
    drop(journal);
    let journal = open().unwrap().journal;
    assert_eq!(records(&journal), model);
    let journal = journal.trim(model[40].0).unwrap();
    assert!(journal.start() > 0 && reader.read(model[79].0).unwrap() == model[79].1);
    let left = disk.list(&settings.dir).unwrap();
    drop(journal);
    let (name, aside) = (&left[0].path, folder.path().join("aside"));
    disk.rename(name, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, name).unwrap();
    let failure = open().err().unwrap();
    assert!(failure.kind == FailureKind::Damaged && failure.why.contains("not part of this log"));
}
