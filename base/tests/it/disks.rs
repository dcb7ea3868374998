//! The disks: the real one does what the trait promises, the fake one does the same and forgets what
//! was not synced, the faulty one fails when told.

use std::{
    io::{self, ErrorKind},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
};

use chordae_base::seams::{
    Clock, Disk, Entropy, EntryKind,
    fake::{FakeClock, FakeDisk, FakeEntropy},
    faulty::{Fault, FaultyDisk, How, Op},
    real::{OsClock, OsDisk, OsEntropy},
    write_atomic,
};

fn kind<T>(outcome: io::Result<T>) -> ErrorKind {
    outcome.err().map_or(ErrorKind::Other, |err| err.kind())
}

/// The promises of the trait that a running program can see; the same for every disk.
fn keeps_its_promises(disk: &dyn Disk, root: &Path) {
    let dir = root.join("a/b");
    assert_eq!(kind(disk.create_new(&dir.join("f"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.list(&dir)), ErrorKind::NotFound);
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    let mut file = disk.create_new(&path).unwrap();
    assert_eq!(kind(disk.create_new(&path)), ErrorKind::AlreadyExists);
    file.write_all_at(b"world", 6).unwrap();
    file.write_all_at(b"hello", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 11);
    assert_eq!(
        disk.read(&path, 11).unwrap(),
        b"hello\0world",
        "holes are zeros"
    );
    assert_eq!(kind(disk.read(&path, 10)), ErrorKind::InvalidData);
    let mut buf = [0; 5];
    let reading = disk.open_read(&path).unwrap();
    reading.read_exact_at(&mut buf, 6).unwrap();
    assert_eq!(&buf, b"world");
    assert_eq!(
        kind(reading.read_exact_at(&mut buf, 7)),
        ErrorKind::UnexpectedEof
    );
    assert!(
        disk.open_read(&path)
            .unwrap()
            .write_all_at(b"x", 0)
            .is_err(),
        "opened for reading"
    );

    disk.open(&path).unwrap().write_all_at(b"W", 6).unwrap();
    disk.rename(&path, &dir.join("g")).unwrap();
    assert_eq!(kind(disk.open(&path)), ErrorKind::NotFound);
    assert_eq!(disk.read(&dir.join("g"), 100).unwrap(), b"hello\0World");
    reading.read_exact_at(&mut buf, 6).unwrap();
    assert_eq!(&buf, b"World", "a handle outlives the name");
    write_atomic(disk, &dir.join("e"), b"one").unwrap();
    write_atomic(disk, &dir.join("e"), b"two").unwrap();
    disk.create_dir_all(&dir.join("d")).unwrap();
    assert!(
        disk.open_read(&dir.join("d")).is_err(),
        "a directory is no file"
    );
    let listed = disk.list(&dir).unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|e| (e.path.clone(), e.kind, e.len))
        .collect();
    let want = [
        ("d", EntryKind::Dir, 0),
        ("e", EntryKind::File, 3),
        ("g", EntryKind::File, 11),
    ];
    assert_eq!(
        names,
        want.map(|(name, kind, len)| (dir.join(name), kind, len))
    );
    disk.remove(&dir.join("g")).unwrap();
    assert_eq!(kind(disk.remove(&dir.join("g"))), ErrorKind::NotFound);
    disk.sync_dir(&dir).unwrap();
    assert!(disk.free_bytes(&dir).unwrap() > 0);
    assert!(
        disk.create_dir_all(&dir.join("e/x")).is_err(),
        "below a file"
    );
}

#[test]
fn the_disks_keep_their_promises() {
    let folder = tempfile::tempdir().unwrap();
    keeps_its_promises(&OsDisk, folder.path());
    keeps_its_promises(&FakeDisk::new(), Path::new("root"));
    keeps_its_promises(
        &FaultyDisk::new(Arc::new(FakeDisk::new())),
        Path::new("/root"),
    );
}

#[test]
fn the_real_disk_follows_nothing_and_opens_only_files() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, disk) = (folder.path().join("data"), OsDisk);
    disk.create_dir_all(&dir).unwrap();
    disk.create_new(&dir.join("file")).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("file"))), (0o700, 0o600));
    symlink(dir.join("file"), dir.join("link")).unwrap();
    symlink(dir.join("nothing"), dir.join("dangling")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    for name in ["link", "dangling", "pipe"] {
        let path = dir.join(name);
        assert!(disk.open(&path).is_err(), "{name}");
        assert!(disk.open_read(&path).is_err(), "{name}");
        assert!(disk.read(&path, 100).is_err(), "{name}");
        assert_eq!(
            kind(disk.create_new(&path)),
            ErrorKind::AlreadyExists,
            "{name}"
        );
    }
    assert!(
        !dir.join("nothing").exists(),
        "nothing was made through the link"
    );
    let kinds: Vec<_> = disk
        .list(&dir)
        .unwrap()
        .into_iter()
        .map(|e| e.kind)
        .collect();
    use EntryKind::{File, Other};
    assert_eq!(kinds, [Other, File, Other, Other]);
    let mut bytes = [0; 32];
    OsEntropy.fill(&mut bytes);
    assert_ne!(bytes, [0; 32]);
    let clock = OsClock;
    assert!(clock.wall_ns() > 1_700_000_000_000_000_000 && clock.mono_ns() <= clock.mono_ns());
}

fn written(disk: &FakeDisk, name: &str, sync: bool) {
    let mut file = disk.create_new(Path::new(name)).unwrap();
    file.write_all_at(b"0123456789", 0).unwrap();
    if sync {
        file.sync().unwrap();
    }
}

#[test]
fn a_crash_keeps_what_was_synced_and_only_that() {
    let disk = FakeDisk::new();
    let dir = Path::new("d");
    disk.create_dir_all(dir).unwrap();
    written(&disk, "d/both", true);
    written(&disk, "d/name", false);
    disk.sync_dir(dir).unwrap();
    written(&disk, "d/data", true);
    disk.rename(Path::new("d/both"), Path::new("d/renamed"))
        .unwrap();
    let mut file = disk.open(Path::new("d/renamed")).unwrap();
    file.write_all_at(b"XXX", 8).unwrap();
    let clock = FakeClock::new(5);
    clock.advance(3);
    clock.set_wall(1);
    assert_eq!((clock.wall_ns(), clock.mono_ns()), (1, 3));
    disk.crash();
    assert_eq!(
        disk.peek(Path::new("d/both")).unwrap(),
        b"0123456789",
        "the rename is undone"
    );
    assert_eq!(disk.peek(Path::new("d/renamed")), None);
    assert_eq!(
        disk.peek(Path::new("d/data")),
        None,
        "its name was not synced"
    );
    assert_eq!(
        disk.peek(Path::new("d/name")).unwrap(),
        b"",
        "its data were not"
    );
    assert!(
        file.sync().is_err() && file.len().is_err(),
        "the process that held it is dead"
    );
}

#[test]
fn a_torn_crash_keeps_any_part_and_never_what_was_not_written() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let disk = FakeDisk::new();
        disk.create_dir_all(Path::new("d")).unwrap();
        let path = Path::new("d/f");
        let mut file = disk.create_new(path).unwrap();
        file.write_all_at(&[1; 2048], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        file.write_all_at(&[2; 2048], 1024).unwrap();
        disk.crash_torn(seed);
        let found = disk.peek(path).unwrap();
        assert!((2048..=3072).contains(&found.len()));
        let sectors: Vec<u8> = found.chunks(512).map(|s| s[0]).collect();
        assert!(
            found.chunks(512).all(|s| s.iter().all(|b| *b == s[0])),
            "torn inside a sector"
        );
        assert_eq!(
            sectors[..2],
            [1, 1],
            "what was synced and not written over stays"
        );
        assert!(sectors[2..4].iter().all(|b| matches!(b, 1 | 2)));
        assert!(sectors[4..].iter().all(|b| matches!(b, 0 | 2)));
        outcomes.insert(sectors);
    }
    assert!(
        outcomes.len() > 10,
        "only {} different outcomes",
        outcomes.len()
    );
}

#[test]
fn write_atomic_leaves_the_old_or_the_new_at_every_failure() {
    let path = Path::new("d/f");
    for after in 0..8 {
        for seed in 0..20 {
            for how in [
                How::Fail(ErrorKind::Other),
                How::FailAfter(ErrorKind::Other),
                How::Short(2),
            ] {
                let disk = FakeDisk::new();
                disk.create_dir_all(Path::new("d")).unwrap();
                write_atomic(&disk, path, b"old").unwrap();
                let faulty = FaultyDisk::new(Arc::new(disk.clone()));
                let fault = Fault {
                    op: None,
                    after,
                    for_ever: true,
                    ..Fault::next(Op::Sync, how)
                };
                faulty.arm(fault);
                let done = write_atomic(&faulty, path, b"new!").is_ok();
                disk.crash_torn(seed);
                let found = disk.peek(path).unwrap();
                assert!(
                    found == b"new!" || (!done && found == b"old"),
                    "{found:?} after {after}"
                );
            }
        }
    }
}

#[test]
fn faults_strike_when_and_where_they_are_told() {
    let disk = FakeDisk::with_capacity(10);
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let mut file = faulty.create_new(Path::new("f")).unwrap();
    faulty.arm(Fault {
        after: 1,
        path_has: "f".to_owned(),
        ..Fault::next(Op::Write, How::Short(2))
    });
    faulty.arm(Fault {
        path_has: "g".to_owned(),
        ..Fault::next(Op::Write, How::Lie)
    });
    file.write_all_at(b"ab", 0).unwrap();
    assert_eq!(kind(file.write_all_at(b"xyz", 2)), ErrorKind::StorageFull);
    assert_eq!(disk.peek(Path::new("f")).unwrap(), b"abxy");
    file.write_all_at(b"cd", 2).unwrap();
    faulty
        .create_new(Path::new("g"))
        .unwrap()
        .write_all_at(b"lost", 0)
        .unwrap();
    assert_eq!(disk.peek(Path::new("g")).unwrap(), b"");
    assert_eq!(faulty.struck(), 2);
    faulty.arm(Fault {
        for_ever: true,
        ..Fault::next(Op::Sync, How::Fail(ErrorKind::Other))
    });
    assert!(file.sync().is_err() && file.sync().is_err());
    faulty.disarm();
    file.sync().unwrap();
    assert_eq!(faulty.changes(), 9);
    assert_eq!(
        kind(file.write_all_at(&[0; 7], 4)),
        ErrorKind::StorageFull,
        "ten bytes in all"
    );
    assert_eq!(faulty.free_bytes(Path::new("")).unwrap(), 6);
    let copy = disk.copy();
    disk.remove(Path::new("f")).unwrap();
    assert_eq!(copy.peek(Path::new("f")).unwrap(), b"abcd");
    assert_eq!(
        FakeEntropy::new(1).below(u64::MAX),
        FakeEntropy::new(1).below(u64::MAX)
    );
}
