//! What the catalogue says and what it never serves.

use std::{path::Path, sync::Arc};

use chordae_base::{FailureKind, Span, seams::fake::FakeDisk};
use chordae_chain::link::object_name;
use chordae_storage::{ChunkState, Committer};

use crate::made::{DATA, S, T0, chunk, did, fill, open};

fn indexes(entries: &[chordae_storage::Entry]) -> Vec<u64> {
    entries.iter().map(|e| e.link.index).collect()
}

#[test]
fn touching_is_half_open_and_finds_late_chunks() {
    let (mut committer, catalogue) = open(Arc::new(FakeDisk::new())).unwrap();
    fill(&mut committer, did(1), 3);
    // A late chunk of the first slot, linked last: seconds 4 and 5 of it.
    let late = chunk(did(1), committer.tip(&did(1)), 0, &[4, 5], 7);
    committer.commit(&[late]).unwrap();
    let touching = |from: i64, until: i64| {
        let span = Span {
            from_ns: T0 + from,
            until_ns: T0 + until,
        };
        indexes(&catalogue.touching(&did(1), span))
    };
    assert_eq!(touching(0, 30 * S), [0, 1, 2, 3]);
    assert_eq!(touching(4 * S, 5 * S), [0, 3]);
    assert_eq!(
        touching(10 * S, 20 * S),
        [1],
        "slot 0 ends where this begins"
    );
    assert_eq!(touching(-10 * S, 0), [] as [u64; 0]);
    assert_eq!(touching(-10 * S, 1), [0]);
    assert_eq!(touching(5 * S, 4 * S), [] as [u64; 0]);
    assert_eq!(touching(i64::MIN / 2, i64::MAX / 2), [0, 1, 2, 3]);
    let all = Span {
        from_ns: i64::MIN,
        until_ns: i64::MAX,
    };
    assert_eq!(catalogue.touching(&did(1), all).len(), 4);
    assert_eq!(catalogue.touching(&did(2), all).len(), 0);
    assert_eq!(catalogue.links(&did(1), 1..3).len(), 2);
    assert_eq!(catalogue.links(&did(1), 4..9).len(), 0);
    assert_eq!(catalogue.head(&did(1)).unwrap().index, 3);
}

#[test]
fn a_damaged_file_is_listed_and_never_served_while_its_neighbours_are() {
    let disk = FakeDisk::new();
    let (mut committer, catalogue) = open(Arc::new(disk.clone())).unwrap();
    fill(&mut committer, did(1), 3);
    let path = |index| Path::new(DATA).join(object_name(&did(1), index));
    let whole = disk.peek(&path(1)).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        disk.put(&path(1), &bad);
        let mut seen = Vec::new();
        let (_, again) = Committer::open(
            Arc::new(disk.clone()),
            Path::new(DATA),
            &mut |done, all| seen.push((done, all)),
            Box::new(|_| ()),
        )
        .unwrap();
        assert_eq!(seen, [(1, 3), (2, 3), (3, 3)]);
        let listed: Vec<u64> = again.damaged().iter().map(|(_, index, _)| *index).collect();
        assert_eq!(listed, [1]);
        assert!(matches!(
            again.entry(&did(1), 1).unwrap().state,
            ChunkState::Damaged(_)
        ));
        assert_eq!(
            again.chunk_bytes(&did(1), 1).unwrap_err().kind,
            FailureKind::Damaged
        );
        assert!(again.chunk_bytes(&did(1), 0).is_ok() && again.chunk_bytes(&did(1), 2).is_ok());
        assert_eq!(again.metas().len(), 2);
    }
    // Damage that comes while we run is met at the next read and stays known, even if it goes away.
    assert_eq!(
        catalogue.chunk_bytes(&did(1), 1).unwrap_err().kind,
        FailureKind::Damaged
    );
    disk.put(&path(1), &whole);
    assert_eq!(
        catalogue.chunk_bytes(&did(1), 1).unwrap_err().kind,
        FailureKind::Damaged
    );
    assert_eq!(
        catalogue.chunk_bytes(&did(1), 9).unwrap_err().kind,
        FailureKind::NotFound
    );
}

#[test]
fn two_files_that_changed_places_and_a_missing_one_are_damage() {
    let disk = FakeDisk::new();
    let (mut committer, _) = open(Arc::new(disk.clone())).unwrap();
    fill(&mut committer, did(1), 3);
    let path = |index| Path::new(DATA).join(object_name(&did(1), index));
    let [a, b] = [0, 1].map(|n| disk.peek(&path(n)).unwrap());
    disk.put(&path(0), &b);
    disk.put(&path(1), &a);
    let (_, again) = open(Arc::new(disk.clone())).unwrap();
    assert_eq!(again.damaged().len(), 2);
    let disk: &dyn chordae_base::seams::Disk = &disk;
    disk.remove(&path(2)).unwrap();
    assert_eq!(
        again.chunk_bytes(&did(1), 2).unwrap_err().kind,
        FailureKind::Damaged
    );
}
