//! A mounted disk, real system calls, and a power loss: those who sync keep, those who do not lose.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

struct Disk {
    child: Child,
    talk: BufReader<UnixStream>,
    dir: tempfile::TempDir,
}

impl Disk {
    /// Mounted, or a loud skip where this machine does not let us.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (folder, socket) = (dir.path().join("mnt"), dir.path().join("ctl"));
        fs::create_dir(&folder).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_chordae-powerloss"))
            .args([&folder, &socket])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.trim() != "ready" {
            eprintln!("SKIPPED: no FUSE here; run as root with /dev/fuse");
            child.wait().unwrap();
            return None;
        }
        let talk = BufReader::new(UnixStream::connect(socket).unwrap());
        Some(Self { child, talk, dir })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("mnt").join(name)
    }

    fn say(&mut self, line: &str) -> String {
        self.talk
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        self.talk.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.talk.get_mut().write_all(b"quit\n"));
        drop(self.child.wait());
    }
}

fn sync_dir(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn put(path: &Path, bytes: &[u8], sync: bool) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
}

#[test]
fn what_is_synced_with_its_name_stays_and_nothing_else() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    put(&disk.at("both"), b"kept", true);
    put(&disk.at("name-only"), b"gone", false);
    sync_dir(&disk.at(""));
    put(&disk.at("bytes-only"), b"nameless", true);
    put(&disk.at("neither"), b"gone", false);
    assert_eq!(fs::read(disk.at("neither")).unwrap(), b"gone");
    assert!(disk.say("lose drop 0").starts_with("unsynced"));
    assert_eq!(fs::read(disk.at("both")).unwrap(), b"kept");
    assert_eq!(fs::read(disk.at("name-only")).unwrap(), b"");
    assert!(!disk.at("bytes-only").exists() && !disk.at("neither").exists());
}

#[test]
fn a_rename_without_a_sync_of_its_folder_is_undone() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    put(&disk.at("file"), b"old", true);
    sync_dir(&disk.at(""));
    for (synced, left) in [(false, &b"old"[..]), (true, &b"new"[..])] {
        put(&disk.at("file.tmp"), b"new", true);
        fs::rename(disk.at("file.tmp"), disk.at("file")).unwrap();
        if synced {
            sync_dir(&disk.at(""));
        }
        assert_eq!(fs::read(disk.at("file")).unwrap(), b"new");
        disk.say("lose drop 0");
        assert_eq!(fs::read(disk.at("file")).unwrap(), left);
        assert!(!disk.at("file.tmp").exists());
    }
}

#[test]
fn a_removed_name_comes_back_and_a_folder_that_was_not_synced_goes() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    put(&disk.at("file"), b"here", true);
    sync_dir(&disk.at(""));
    fs::remove_file(disk.at("file")).unwrap();
    fs::create_dir(disk.at("dir")).unwrap();
    put(&disk.at("dir/inside"), b"x", true);
    sync_dir(&disk.at("dir"));
    disk.say("lose drop 0");
    assert_eq!(fs::read(disk.at("file")).unwrap(), b"here");
    assert!(!disk.at("dir").exists());
}

#[test]
fn the_power_fails_at_the_operation_that_was_chosen() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    for (when, left) in [("before", &b""[..]), ("after", &b"a"[..])] {
        let path = disk.at(when);
        let file = File::create(&path).unwrap();
        sync_dir(&disk.at(""));
        disk.say(&format!("cut sync {when} 1 {when}"));
        file.write_all_at(b"a", 0).unwrap();
        assert_eq!(file.sync_data().is_ok(), when == "after");
        assert_eq!(disk.say("wait 1000"), format!("cut sync {when}"));
        assert!(file.write_all_at(b"b", 0).is_err() && File::create(disk.at("more")).is_err());
        drop(file);
        disk.say("lose drop 0");
        assert_eq!(fs::read(&path).unwrap(), left);
    }
}

#[test]
fn after_a_failed_sync_the_next_good_one_does_not_save_the_bytes() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    let file = File::create(disk.at("log")).unwrap();
    sync_dir(&disk.at(""));
    disk.say("failsync log 1");
    file.write_all_at(b"lost", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.write_all_at(b"kept", 4096).unwrap();
    file.sync_data().unwrap();
    drop(file);
    disk.say("lose drop 0");
    let left = fs::read(disk.at("log")).unwrap();
    assert_eq!(
        (left.get(..4).unwrap(), left.get(4096..).unwrap()),
        (&[0; 4][..], &b"kept"[..])
    );
}

#[test]
fn a_disk_that_lies_keeps_nothing_and_a_short_write_is_told() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    disk.say("lie on");
    put(&disk.at("file"), b"promised", true);
    sync_dir(&disk.at(""));
    disk.say("lose drop 0");
    assert!(!disk.at("file").exists());
    disk.say("lie off");
    disk.say("short on");
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(disk.at("short"))
        .unwrap();
    let taken: Vec<usize> = (0..2).map(|_| file.write(&[7; 1000]).unwrap()).collect();
    assert_eq!(taken, [500, 1000]);
    assert_eq!(fs::metadata(disk.at("short")).unwrap().len(), 1500);
}

#[test]
fn the_same_seed_tears_the_same_way() {
    let Some(mut disk) = Disk::mount() else {
        return;
    };
    let mut seen = Vec::new();
    for seed in [7, 7, 8] {
        put(&disk.at("file"), &[1; 64 << 10], true);
        sync_dir(&disk.at(""));
        put(&disk.at("file"), &[2; 64 << 10], false);
        disk.say(&format!("lose torn {seed}"));
        seen.push(fs::read(disk.at("file")).unwrap());
        fs::remove_file(disk.at("file")).unwrap();
        sync_dir(&disk.at(""));
    }
    assert_eq!(seen.first(), seen.get(1));
    assert_ne!(seen.first(), seen.get(2));
}
