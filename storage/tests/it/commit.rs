//! The commit, without crashes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chordae_base::{
    FailureKind,
    journal::{Journal, Settings},
    seams::{
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::link::{Link, genesis, object_name};
use chordae_storage::{Committer, Tip};

use crate::made::{DATA, did, fill, no_digest, open, plain};

fn file(did_: u8, index: u64) -> PathBuf {
    Path::new(DATA).join(object_name(&did(did_), index))
}

#[test]
fn chunks_of_several_dids_become_history_in_one_commit() {
    let disk = FakeDisk::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let on_linked = Box::new(move |links: &[Link]| hears.lock().unwrap().extend_from_slice(links));
    let (mut committer, catalogue) = Committer::open(
        Arc::new(disk.clone()),
        Path::new(DATA),
        &mut |_, _| (),
        on_linked,
    )
    .unwrap();
    let tip = Tip {
        next_index: 0,
        prev: genesis(&did(1)),
    };
    assert_eq!(committer.tip(&did(1)), tip);
    let chunks: Vec<_> = [1, 2]
        .map(|n| plain(did(n), committer.tip(&did(n)), 0, n))
        .into();
    let links = committer.commit(&chunks).unwrap();
    assert_eq!(*heard.lock().unwrap(), links);
    let next = plain(did(1), committer.tip(&did(1)), 1, 3);
    committer.commit(std::slice::from_ref(&next)).unwrap();
    assert_eq!(next.link().prev, links[0].digest());
    // The file is the chunk, under its name; a restart finds the same.
    assert_eq!(disk.peek(&file(1, 1)).unwrap(), next.bytes().to_vec());
    drop(committer);
    disk.crash();
    let (committer, again) = open(Arc::new(disk)).unwrap();
    assert_eq!(again.dids(), [did(1), did(2)]);
    for n in [1, 2] {
        assert_eq!(again.links(&did(n), 0..9), catalogue.links(&did(n), 0..9));
        assert_eq!(committer.tip(&did(n)), catalogue.tip(&did(n)));
    }
    assert_eq!(again.metas().len(), 3);
}

#[test]
fn what_was_sealed_for_another_place_is_not_linked() {
    let disk = FakeDisk::new();
    let (mut committer, catalogue) = open(Arc::new(disk)).unwrap();
    fill(&mut committer, did(1), 1);
    let tip = committer.tip(&did(1));
    let behind = plain(
        did(1),
        Tip {
            next_index: 0,
            prev: genesis(&did(1)),
        },
        0,
        1,
    );
    let forked = plain(
        did(1),
        Tip {
            prev: no_digest(),
            ..tip
        },
        1,
        1,
    );
    let twice = [plain(did(1), tip, 1, 1), plain(did(1), tip, 2, 1)];
    for wrong in [vec![behind], vec![forked], twice.to_vec()] {
        assert_eq!(
            committer.commit(&wrong).unwrap_err().kind,
            FailureKind::Internal
        );
    }
    assert_eq!(catalogue.chunks(), 1);
}

#[test]
fn a_file_that_reads_back_differently_is_not_linked() {
    let fake = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(fake.clone()));
    let (mut committer, catalogue) = open(Arc::new(faulty.clone())).unwrap();
    faulty.arm(Fault {
        path_has: "chunks".into(),
        ..Fault::next(Op::Write, How::Lie)
    });
    let chunk = plain(did(1), committer.tip(&did(1)), 0, 1);
    let failure = committer.commit(std::slice::from_ref(&chunk)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged);
    assert_eq!((faulty.struck(), catalogue.chunks()), (1, 0));
    assert_eq!(fake.peek(&file(1, 0)), None);
    // Nothing stands in the way of the next try.
    committer.commit(&[chunk]).unwrap();
    assert_eq!(catalogue.chunks(), 1);
}

#[test]
fn a_full_disk_is_busy_and_a_failed_journal_is_gone() {
    let faulty = FaultyDisk::new(Arc::new(FakeDisk::new()));
    let (mut committer, catalogue) = open(Arc::new(faulty.clone())).unwrap();
    let chunks = [1, 2].map(|n| plain(did(n), committer.tip(&did(n)), 0, n));
    let on = |path: &str, op, how| Fault {
        path_has: path.into(),
        ..Fault::next(op, how)
    };
    // The second file does not fit: the first is taken back, too.
    let full = on(&did(2).to_string(), Op::Write, How::Short(100));
    faulty.arm(full);
    assert_eq!(
        committer.commit(&chunks).unwrap_err().kind,
        FailureKind::Busy
    );
    let broken = on("chunks", Op::Sync, How::Fail(io::ErrorKind::Other));
    faulty.arm(broken);
    assert_eq!(
        committer.commit(&chunks).unwrap_err().kind,
        FailureKind::Internal
    );
    assert_eq!(catalogue.chunks(), 0);
    committer.commit(&chunks).unwrap();
    faulty.arm(on("links", Op::Sync, How::Fail(io::ErrorKind::Other)));
    let next = [plain(did(1), committer.tip(&did(1)), 1, 1)];
    assert_eq!(committer.commit(&next).unwrap_err().kind, FailureKind::Io);
    assert_eq!(
        committer.commit(&next).unwrap_err().kind,
        FailureKind::Io,
        "for ever"
    );
    assert_eq!(catalogue.chunks(), 2);
}

#[test]
fn an_equal_orphan_is_adopted_and_another_is_replaced() {
    for (orphan_slot, adopted) in [(0, true), (3, false)] {
        let disk = FakeDisk::new();
        let (committer, _) = open(Arc::new(disk.clone())).unwrap();
        let tip = committer.tip(&did(1));
        let (orphan, chunk) = (plain(did(1), tip, orphan_slot, 9), plain(did(1), tip, 0, 1));
        disk.put(&file(1, 0), orphan.bytes());
        drop(committer);
        let (mut committer, catalogue) = open(Arc::new(disk.clone())).unwrap();
        assert!(
            disk.peek(&file(1, 0)).is_some(),
            "kept until its index is sealed again"
        );
        let link = committer
            .commit(std::slice::from_ref(&chunk))
            .unwrap()
            .remove(0);
        let expected = if adopted { orphan.link() } else { chunk.link() };
        assert_eq!(link, *expected);
        assert_ne!(
            orphan.link().file_root,
            chunk.link().file_root,
            "salts differ"
        );
        assert_eq!(
            catalogue.open_chunk(&did(1), 0).unwrap().rows(),
            &chunk.rows().unwrap()
        );
    }
}

#[test]
fn a_torn_orphan_is_removed_and_lost_links_are_damage() {
    let disk = FakeDisk::new();
    let (mut committer, _) = open(Arc::new(disk.clone())).unwrap();
    fill(&mut committer, did(1), 2);
    let next = plain(did(1), committer.tip(&did(1)), 2, 1);
    drop(committer);
    for torn in [
        &[][..],
        &next.bytes()[..next.bytes().len() - 1],
        b"not a chunk",
    ] {
        disk.put(&file(1, 2), torn);
        open(Arc::new(disk.clone())).unwrap();
        assert_eq!(disk.peek(&file(1, 2)), None);
    }
    // Somebody took the newest link away: file 1 is at the next index, file 2 beyond it.
    let foreign = disk.copy();
    foreign.put(&file(1, 3), next.bytes());
    let failure = open(Arc::new(foreign.clone())).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged);
    assert!(
        foreign.peek(&file(1, 3)).is_some(),
        "evidence is not touched"
    );
}

/// A data folder whose link journal holds these links.
fn with_links(links: &[Link]) -> FakeDisk {
    let disk = FakeDisk::new();
    let dir = Path::new(DATA).join("links");
    let settings = Settings {
        dir,
        segment_bytes: 1 << 20,
        room_bytes: 0,
        record_bytes_max: Link::BYTES,
    };
    let journal = Journal::open(Arc::new(disk.clone()), settings)
        .unwrap()
        .journal;
    let records: Vec<Bytes> = links
        .iter()
        .map(|l| Bytes::copy_from_slice(&l.encode()))
        .collect();
    journal.commit(&records).unwrap();
    disk
}

#[test]
fn links_that_do_not_follow_each_other_refuse_the_start() {
    let (mut committer, _) = open(Arc::new(FakeDisk::new())).unwrap();
    let links = fill(&mut committer, did(1), 3);
    let [a, b, c] = [links[0].clone(), links[1].clone(), links[2].clone()];
    assert!(
        open(Arc::new(with_links(&[a.clone(), b.clone(), c.clone()]))).is_ok(),
        "control"
    );
    let fork = Link {
        rows: b.rows - 1,
        ..b.clone()
    };
    let chains = [
        ("index gap", vec![a.clone(), c.clone()]),
        ("duplicate index", vec![a.clone(), b.clone(), b.clone()]),
        ("fork", vec![a.clone(), fork, c.clone()]),
        ("no genesis", vec![b, c]),
    ];
    for (what, chain) in chains {
        let failure = open(Arc::new(with_links(&chain))).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Damaged, "{what}");
        assert!(failure.why.contains("position"), "{what}: {failure}");
    }
}
