//! The operating system behind the seams: the only place in the product that reads a clock, asks for
//! entropy or calls `std::fs` for data that must survive.
//!
//! Files are created 0600 and directories 0700. A final symlink is never followed and nothing but a
//! regular file is ever opened, so a link, pipe or device planted in the data folder is an error and
//! not a detour. `O_NONBLOCK` keeps the open of a planted pipe from waiting for its other end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::OFlags;

use super::{Clock, Disk, DiskFile, Entropy, Entry, EntryKind, Stamp};

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsClock;

static FIRST: OnceLock<Instant> = OnceLock::new();

impl Clock for OsClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the seam that the rest asks"
    )]
    fn wall_ns(&self) -> i64 {
        let ns = |d: std::time::Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => ns(after),
            Err(before) => -ns(before.duration()),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the seam that the rest asks"
    )]
    fn mono_ns(&self) -> u64 {
        let first = FIRST.get_or_init(Instant::now);
        u64::try_from(first.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The machine's random number generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// Without random bytes no key, salt or nonce is safe and no caller could go on: the process ends.
    fn fill(&self, buf: &mut [u8]) {
        if let Err(err) = getrandom::fill(buf) {
            eprintln!("no random bytes from the operating system: {err}");
            std::process::abort();
        }
    }
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

struct OsFile(File);

impl DiskFile for OsFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.0, buf, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        if cfg!(feature = "control-no-sync") {
            return Ok(());
        }
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn flags(extra: OFlags) -> i32 {
    // The kernel's flag words are ints; every flag here is far below the sign bit.
    i32::try_from((OFlags::NOFOLLOW | extra).bits()).unwrap_or(0)
}

fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options
        .custom_flags(flags(OFlags::NONBLOCK | OFlags::NOCTTY))
        .open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a regular file",
    ))
}

/// The directory that a path lies in; the current one for a bare name.
fn parent(path: &Path) -> Option<PathBuf> {
    let dir = path.parent()?;
    Some(if dir.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        dir.to_owned()
    })
}

impl Disk for OsDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Box::new(OsFile(
            options.custom_flags(flags(OFlags::empty())).open(path)?,
        )))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(open_regular(
            OpenOptions::new().read(true).write(true),
            path,
        )?)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(open_regular(
            OpenOptions::new().read(true),
            path,
        )?)))
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = open_regular(OpenOptions::new().read(true), path)?;
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, format!("over {max} bytes"));
        let len = file.metadata()?.len();
        if len > max {
            return Err(too_long());
        }
        // In one read, not in ever longer ones; one byte more tells the end.
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0).saturating_add(1));
        // It may grow while it is read: never more than max + 1 bytes are taken.
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max {
            return Err(too_long());
        }
        Ok(bytes)
    }

    /// Device, inode, length, and when content and inode were last changed: whoever writes to a file changes the
    /// last, and cannot set it.
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let meta = fs::symlink_metadata(path)?;
        if !meta.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let ns = |s: i64, ns: i64| s.wrapping_mul(1_000_000_000).wrapping_add(ns);
        Ok(Stamp([
            meta.dev(),
            meta.ino(),
            meta.len(),
            ns(meta.mtime(), meta.mtime_nsec()).cast_unsigned(),
            ns(meta.ctime(), meta.ctime_nsec()).cast_unsigned(),
        ]))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let Some(dir) = parent(path) else {
            return Ok(());
        };
        if path.is_dir() {
            // It may be left from a run that was killed before it synced the parent.
            return match self.sync_dir(&dir) {
                Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                done => done,
            };
        }
        self.create_dir_all(&dir)?;
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            done => done?,
        }
        self.sync_dir(&dir)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = File::open(path)?;
        if cfg!(feature = "control-no-sync") {
            return Ok(());
        }
        dir.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        // Unlike the calls on files, the library's `opendir` is not called again when a signal interrupts it.
        let found = loop {
            match fs::read_dir(path) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                found => break found?,
            }
        };
        for entry in found {
            let entry = entry?;
            let meta = match entry.metadata() {
                // Removed between the listing and the look.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            let (kind, len) = match meta.file_type() {
                t if t.is_file() => (EntryKind::File, meta.len()),
                t if t.is_dir() => (EntryKind::Dir, 0),
                _ => (EntryKind::Other, 0),
            };
            entries.push(Entry {
                path: entry.path(),
                kind,
                len,
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
