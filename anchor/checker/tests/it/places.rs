//! Places on a real disk that are not what they should be: bounded, never followed, a clear word.

use std::{os::unix::fs::symlink, process::Command};

use chordae_base::{
    FailureKind,
    seams::{Disk, real::OsDisk},
};
use chordae_chain::finding::Code;
use chordae_checker::{
    Kind, Report, check_folder, kind_of,
    tamper::{How, tamper},
};

use crate::house::{House, found, object, only, path};

/// Puts the folder of [`House`] on a real disk.
pub(crate) fn build(root: &std::path::Path) -> House {
    let house = House::new();
    copy(&house, &house.root, root);
    house
}

fn copy(house: &House, from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in house.disk.list(from).unwrap() {
        let to = to.join(entry.path.file_name().unwrap());
        match house.disk.peek(&entry.path) {
            Some(bytes) => std::fs::write(to, bytes).unwrap(),
            None => copy(house, &entry.path, &to),
        }
    }
}

fn check(house: &House, root: &std::path::Path) -> Report {
    check_folder(&OsDisk, root, Some(&house.trust), &mut |_| {}).unwrap()
}

#[test]
fn links_pipes_and_sparse_files_are_neither_followed_nor_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let house = build(root);
    only(&check(&house, root), &[]);
    // A chunk behind a symlink, a chunk that is a pipe, one that is a terabyte of nothing.
    let away = dir.path().join("away.parquet");
    std::fs::rename(root.join(object(1, 0)), &away).unwrap();
    symlink(&away, root.join(object(1, 0))).unwrap();
    std::fs::remove_file(root.join(object(1, 1))).unwrap();
    let made = Command::new("mkfifo")
        .arg(root.join(object(1, 1)))
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::File::create(root.join(object(1, 2)))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    // A loop where a stream's folder would be.
    symlink(".", root.join("chunks/loop")).unwrap();
    only(
        &check(&house, root),
        &[
            (&object(1, 0), Code::FileDigest),
            (&object(1, 1), Code::FileDigest),
            (&object(1, 2), Code::FileDigest),
            ("chunks/loop", Code::ExtraFile),
        ],
    );
}

#[test]
fn folders_behind_links_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("copy");
    let house = build(&root);
    let away = dir.path().join("away");
    std::fs::rename(root.join("chunks"), &away).unwrap();
    symlink(&away, root.join("chunks")).unwrap();
    let report = check(&house, &root);
    assert_eq!(
        found(&report).len(),
        8,
        "eight chunks are missing: {report:?}"
    );
    assert!(report.findings.iter().all(|f| f.code == Code::MissingFile));
    let away = dir.path().join("links");
    std::fs::rename(root.join("links"), &away).unwrap();
    symlink(&away, root.join("links")).unwrap();
    assert_eq!(check(&house, &root).verdict.exit_code(), 3);
}

#[test]
fn what_cannot_be_verified_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let empty = dir.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    let loops = dir.path().join("loop");
    symlink(&loops, &loops).unwrap();
    for (place, kind) in [
        (fifo.as_path(), FailureKind::BadInput),
        (path("/dev/zero"), FailureKind::BadInput),
        (empty.as_path(), FailureKind::BadInput),
        (loops.as_path(), FailureKind::BadInput),
        (path("/no/such/place"), FailureKind::NotFound),
    ] {
        assert_eq!(
            kind_of(&OsDisk, place).unwrap_err().kind,
            kind,
            "{}",
            place.display()
        );
    }
    assert_eq!(kind_of(&OsDisk, dir.path()).unwrap(), Kind::Folder);
    let strange = check_folder(&OsDisk, dir.path(), None, &mut |_| {}).unwrap_err();
    assert_eq!(strange.kind, FailureKind::BadInput);
}

#[test]
fn a_folder_in_use_is_not_tampered_with() {
    let dir = tempfile::tempdir().unwrap();
    let house = build(dir.path());
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(OsDisk);
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
    let refused = tamper(&disk, dir.path(), How::FlipBit).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    only(&check(&house, dir.path()), &[]);
    // The socket of a server that is gone stays in a copy.
    drop(socket);
    tamper(&disk, dir.path(), How::FlipBit).unwrap();
    assert_eq!(check(&house, dir.path()).verdict.exit_code(), 3);
}
