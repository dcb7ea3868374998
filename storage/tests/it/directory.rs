//! Inventories in the directory, and the space that revoking gives back.

use std::{io, path::Path, sync::Arc};

use chordae_base::{
    FailureKind, KeyId, limits,
    seams::{
        Disk, EntryKind,
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
        real::OsDisk,
    },
};
use chordae_chain::inventory::digest;
use chordae_storage::directory::{Directory, Inventories};

const DIR: &str = "/data/directory";
const ANN: KeyId = KeyId([1; 32]);
const BOB: KeyId = KeyId([2; 32]);
const ID: [u8; 32] = [7; 32];

fn open(disk: &FakeDisk) -> Directory {
    Directory::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap()
}

fn newest(directory: &Directory) -> Option<Vec<u8>> {
    let found = directory.inventories().get(&ID).unwrap();
    found.map(|(_, record)| record.to_vec())
}

/// Puts `new` in the place of `old`.
fn after(of: &Inventories, old: &[u8], new: &[u8]) -> chordae_base::Outcome<()> {
    of.put(&ANN, &ID, new, Some(&digest(old).0))
}

#[test]
fn f24_an_older_version_or_one_beside_is_refused_and_nothing_changes() {
    let disk = FakeDisk::new();
    let directory = open(&disk);
    let of = directory.inventories();
    let refused = |outcome: chordae_base::Outcome<()>, what: &str| {
        assert_eq!(
            outcome.expect_err(what).kind,
            FailureKind::Refused,
            "{what}"
        );
    };
    refused(after(of, b"zero", b"one"), "an update of nothing");
    of.put(&ANN, &ID, b"one", None).unwrap();
    of.put(&ANN, &ID, b"one", None).unwrap();
    after(of, b"one", b"two").unwrap();
    after(of, b"one", b"two").unwrap();
    refused(of.put(&ANN, &ID, b"one", None), "the first again");
    refused(
        after(of, b"one", b"two beside"),
        "two updates of one version",
    );
    refused(after(of, b"zero", b"one"), "one from before");
    refused(
        of.put(&BOB, &ID, b"two", Some(&digest(b"one").0)),
        "another's",
    );
    assert_eq!(newest(&directory).unwrap(), b"two");
    // Also after a power loss, and from a folder opened anew.
    disk.crash();
    let directory = open(&disk);
    refused(
        directory.inventories().put(&ANN, &ID, b"one", None),
        "after a crash",
    );
    assert_eq!(newest(&directory).unwrap(), b"two");
    after(directory.inventories(), b"two", b"three").unwrap();
    assert_eq!(directory.inventories().owner(&ID), Some(ANN));
    assert_eq!(directory.inventories().of(&ANN), [ID]);
    assert!(directory.inventories().of(&BOB).is_empty());
    // The negative control: a folder that lost the newest takes the older one.
    let bare = open(&FakeDisk::new());
    bare.inventories().put(&ANN, &ID, b"one", None).unwrap();
}

#[test]
fn a_crash_at_any_step_leaves_the_old_version_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for after_ops in 0..10 {
        let disk = FakeDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let directory = Directory::open(Arc::new(faulty.clone()), Path::new(DIR)).unwrap();
        directory
            .inventories()
            .put(&ANN, &ID, b"one", None)
            .unwrap();
        faulty.arm(Fault {
            op: None,
            path_has: String::new(),
            after: after_ops,
            for_ever: true,
            how: How::Fail(io::ErrorKind::Other),
        });
        let stored = after(directory.inventories(), b"one", b"two").is_ok();
        disk.crash_torn(after_ops);
        let found = newest(&open(&disk)).expect("neither version is there");
        assert!(found == b"one" || found == b"two", "step {after_ops}: torn");
        assert!(found == b"two" || !stored, "step {after_ops}: lost");
        *(if stored { &mut new } else { &mut old }) += 1;
    }
    assert!(old > 0 && new > 0, "{old} old, {new} new");
}

#[test]
fn a_disk_that_lies_about_syncs_brings_an_old_version_back_and_the_test_can_see_it() {
    let disk = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let directory = Directory::open(Arc::new(faulty.clone()), Path::new(DIR)).unwrap();
    directory
        .inventories()
        .put(&ANN, &ID, b"one", None)
        .unwrap();
    for op in [Op::Sync, Op::SyncDir] {
        faulty.arm(Fault {
            for_ever: true,
            ..Fault::next(op, How::Lie)
        });
    }
    after(directory.inventories(), b"one", b"two").unwrap();
    disk.crash();
    assert_ne!(newest(&open(&disk)).as_deref(), Some(b"two".as_slice()));
}

#[test]
fn foreign_files_are_left_alone_and_torn_ones_swept() {
    let disk = FakeDisk::new();
    let folder = Path::new(DIR).join("inventories").join(ANN.to_string());
    let name = hex::encode(ID);
    disk.put(&folder.join(format!("{name}.tmp")), b"half");
    disk.put(&folder.join("notes"), b"foreign");
    disk.put(
        &Path::new(DIR).join("inventories/x").join(&name),
        b"no key id",
    );
    let directory = open(&disk);
    assert!(directory.inventories().of(&ANN).is_empty());
    assert_eq!(directory.inventories().owner(&ID), None);
    assert!(disk.peek(&folder.join(format!("{name}.tmp"))).is_none());
    assert!(disk.peek(&folder.join("notes")).is_some());
    directory
        .inventories()
        .put(&ANN, &ID, b"one", None)
        .unwrap();
    disk.remove(&folder.join(&name)).unwrap();
    let lost = directory.inventories().get(&ID).unwrap_err();
    assert_eq!(lost.kind, FailureKind::Damaged);
}

#[test]
fn one_patient_does_not_fill_the_directory() {
    let directory = open(&FakeDisk::new());
    let of = directory.inventories();
    let id = |n: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        id
    };
    for n in 0..limits::INVENTORIES_PER_PATIENT_MAX {
        of.put(&ANN, &id(n), b"one", None).unwrap();
    }
    let full = of.put(&ANN, &ID, b"one", None).unwrap_err();
    assert_eq!(full.kind, FailureKind::Busy);
    of.put(&ANN, &id(0), b"two", Some(&digest(b"one").0))
        .unwrap();
    of.put(&BOB, &ID, b"one", None).unwrap();
    for bad in [0, limits::BODY_BYTES_MAX + 1] {
        assert!(of.put(&BOB, &id(9999), &vec![0; bad], None).is_err());
    }
}

/// Bytes of all files below a folder.
fn bytes(disk: &dyn Disk, dir: &Path) -> u64 {
    let entries = disk.list(dir).unwrap();
    let size = |e: &chordae_base::seams::Entry| match e.kind {
        EntryKind::Dir => bytes(disk, &e.path),
        _ => std::fs::metadata(&e.path).unwrap().len(),
    };
    entries.iter().map(size).sum()
}

#[test]
fn f13_revoking_and_removing_recycle_the_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let directory = Directory::open(Arc::clone(&disk), dir.path()).unwrap();
    let size = || bytes(&*disk, dir.path());
    assert_eq!(size(), 0);
    let record = vec![7; 100_000];
    directory.put(&[1; 32], &record, || Ok(false)).unwrap();
    directory.put(&[2; 32], &record, || Ok(false)).unwrap();
    assert_eq!(size(), 200_000);
    assert!(directory.remove(&[1; 32]).unwrap());
    assert_eq!(size(), 100_000, "all of it, at once");
    directory.put(&[3; 32], &record, || Ok(false)).unwrap();
    assert_eq!(size(), 200_000, "and the room is used again");
    directory.remove(&[2; 32]).unwrap();
    directory.remove(&[3; 32]).unwrap();
    assert_eq!(size(), 0);
    // Of an inventory the newest record is kept, never those before; of a removed one its removal.
    let of = directory.inventories();
    of.put(&ANN, &ID, &record, None).unwrap();
    after(of, &record, &vec![8; 50_000]).unwrap();
    assert_eq!(size(), 50_000);
    after(of, &vec![8; 50_000], &[9; 300]).unwrap();
    assert_eq!(size(), 300);
}
