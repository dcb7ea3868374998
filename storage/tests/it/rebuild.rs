//! Links made anew: all of them or none, whichever operation of the disk fails; and a folder that has
//! lost them does not start.

use std::{fs, io, path::Path, sync::Arc};

use chordae_base::{
    FailureKind, Outcome,
    seams::{
        Disk,
        faulty::{Fault, FaultyDisk, How, Op},
        real::OsDisk,
    },
};
use chordae_chain::link::Link;
use chordae_storage::{Catalogue, Committer, rebuild::Rebuild};

use crate::made::{did, fill};

fn open(data: &Path) -> Outcome<(Committer, Arc<Catalogue>)> {
    Committer::open(
        Arc::new(OsDisk),
        data,
        &mut |_, _| (),
        Box::new(|_: &[Link]| ()),
    )
}

/// A folder with two streams that has lost its links, and what they were.
fn lost() -> (tempfile::TempDir, [Vec<Link>; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (mut committer, _) = open(dir.path()).unwrap();
    let chains = [
        fill(&mut committer, did(1), 3),
        fill(&mut committer, did(2), 1),
    ];
    drop(committer);
    fs::remove_dir_all(dir.path().join("links")).unwrap();
    (dir, chains)
}

fn rebuild(disk: Arc<dyn Disk>, data: &Path, chains: &[Vec<Link>; 2]) -> Outcome<()> {
    let mut rebuild = Rebuild::begin(disk, data)?;
    for chain in chains {
        rebuild.take(chain, 1)?;
    }
    rebuild.put_in_place()
}

#[track_caller]
fn is_whole(data: &Path, chains: &[Vec<Link>; 2]) {
    let (_, catalogue) = open(data).unwrap();
    for chain in chains {
        assert_eq!(catalogue.links(&chain[0].did, 0..u64::MAX), *chain);
    }
    assert_eq!(catalogue.damaged(), []);
}

#[test]
fn chunks_without_links_do_not_start() {
    let (dir, chains) = lost();
    // An empty folder is no link journal either.
    for empty in [false, true] {
        if empty {
            fs::create_dir(dir.path().join("links")).unwrap();
        }
        let refused = open(dir.path()).map(drop).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Damaged, "{refused}");
        assert!(refused.why.contains("chordae rebuild"), "{refused}");
    }
    rebuild(Arc::new(OsDisk), dir.path(), &chains).unwrap();
    is_whole(dir.path(), &chains);
}

#[test]
fn what_is_there_is_not_written_over() {
    let (dir, chains) = lost();
    rebuild(Arc::new(OsDisk), dir.path(), &chains).unwrap();
    let refused = rebuild(Arc::new(OsDisk), dir.path(), &chains).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(!Rebuild::needed(&OsDisk, dir.path()).unwrap());
    is_whole(dir.path(), &chains);
}

#[test]
fn links_that_do_not_follow_are_not_put_in_place() {
    let (dir, [mut a, b]) = lost();
    a.remove(1);
    let refused = rebuild(Arc::new(OsDisk), dir.path(), &[a, b]).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Damaged);
    assert!(!dir.path().join("links").exists());
}

#[test]
fn a_failure_at_any_operation_leaves_all_links_or_none() {
    let (mut none, mut all) = (0, 0);
    for n in 0.. {
        let (dir, chains) = lost();
        let faulty = FaultyDisk::new(Arc::new(OsDisk));
        // Every third comes after the operation was done.
        let kind = io::ErrorKind::Other;
        let how = match n % 3 {
            2 => How::FailAfter(kind),
            _ => How::Fail(kind),
        };
        faulty.arm(Fault {
            op: None,
            path_has: String::new(),
            after: n / 3,
            for_ever: true,
            how,
        });
        if rebuild(Arc::new(faulty.clone()), dir.path(), &chains).is_ok() {
            assert!(none > 20 && all > 0, "{none} without, {all} with links");
            return;
        }
        if dir.path().join("links").exists() {
            all += 1;
        } else {
            none += 1;
            let refused = open(dir.path()).map(drop).unwrap_err();
            assert_eq!(refused.kind, FailureKind::Damaged);
            rebuild(Arc::new(OsDisk), dir.path(), &chains).unwrap();
        }
        is_whole(dir.path(), &chains);
    }
}

/// The control: written where they belong at once, they are there in part.
#[test]
fn without_the_rename_a_failure_leaves_a_part() {
    let (dir, chains) = lost();
    let place = dir.path().join("links");
    let faulty = FaultyDisk::new(Arc::new(OsDisk));
    let mut rebuild = Rebuild::begin(Arc::new(faulty.clone()), dir.path()).unwrap();
    rebuild.take(&chains[0], 1).unwrap();
    faulty.arm(Fault {
        for_ever: true,
        ..Fault::next(Op::Write, How::Fail(io::ErrorKind::Other))
    });
    rebuild.take(&chains[1], 1).unwrap_err();
    fs::rename(dir.path().join("links.rebuilt"), &place).unwrap();
    let (_, catalogue) = open(dir.path()).unwrap();
    assert_eq!(catalogue.links(&did(2), 0..u64::MAX), []);
}
