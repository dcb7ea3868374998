//! The journal against a plain list, under random use and orderly reopening.

use bytes::Bytes;
use chordae_base::{FailureKind, journal::Journal, seams::fake::FakeDisk};
use proptest::prelude::*;

use crate::log::{open, payload, records};

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
