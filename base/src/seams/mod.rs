//! The seams: everything that a core must not reach for itself. Real ones in [`real`], in-memory ones
//! in [`fake`], and [`faulty`] decorates a disk with failures. [`Threads`] is the seam for running and waiting.

use std::{
    io,
    path::{Path, PathBuf},
};

pub mod fake;
pub mod faulty;
pub mod real;
mod threads;

pub use threads::{Mail, Mailbox, Thread, Threads, Turns};

/// Wall and monotonic time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970-01-01T00:00:00Z; may jump.
    fn wall_ns(&self) -> i64;
    /// Nanoseconds since some fixed instant of this process; never goes back.
    fn mono_ns(&self) -> u64;
}

/// Random bytes fit for keys and salts.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer.
    fn fill(&self, buf: &mut [u8]);
}

/// What a directory holds under one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Full path.
    pub path: PathBuf,
    /// File, directory or anything else (a link, a pipe), which is never followed or opened.
    pub kind: EntryKind,
    /// Bytes of a file, 0 otherwise.
    pub len: u64,
}

/// See [`Entry::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Neither; not ours.
    Other,
}

/// What a file system says of a file's content without reading it: if two stamps of one path differ, the file was
/// touched in between. Equal ones are no proof, only what the file system noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u64; 5]);

impl Stamp {
    /// Of a file system that notices nothing: made of the content itself.
    pub fn of_content(bytes: &[u8]) -> Self {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self([xxhash_rust::xxh3::xxh3_64(bytes), len, 0, 0, 0])
    }
}

/// A file system as the order of truth needs it: nothing is durable before its `sync`.
///
/// All calls block. Errors are those of the operating system.
pub trait Disk: Send + Sync {
    /// Creates a new file for reading and writing; fails with `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing regular file for reading and writing; does not follow a final symlink.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing regular file for reading only; does not follow a final symlink.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Reads a whole regular file; `InvalidData` if it is longer than `max`.
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>>;
    /// The stamp of a regular file; see [`Stamp`].
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.read(path, crate::limits::CHUNK_BYTES_MAX)
            .map(|bytes| Stamp::of_content(&bytes))
    }
    /// Renames over whatever is there. Durable after `sync_dir` of the parents.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its missing parents, each synced into its parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes names created, renamed or removed in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Entries of a directory in ascending order of name; `NotFound` if there is none.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Bytes that can still be written.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file.
#[expect(
    clippy::len_without_is_empty,
    reason = "a file is no collection; nobody asks"
)]
pub trait DiskFile: Send + Sync {
    /// Writes all bytes at an offset.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads exactly `buf.len()` bytes at an offset; `UnexpectedEof` if there are fewer.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Data and length durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// Replaces a file so that a crash leaves the old content or the new one: writes `{path}.tmp`, syncs it,
/// renames it over `path`, syncs the directory.
///
/// # Errors
/// Those of the disk; the old content is then still there.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (tmp, mut file) = write_aside(disk, path, bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&tmp, path)?;
    match path.parent() {
        Some(dir) => disk.sync_dir(dir),
        None => Ok(()),
    }
}

/// Writes `{path}.tmp`, over what a crash may have left of it; its name, and the file, which is not synced.
///
/// # Errors
/// Those of the disk.
pub fn write_aside(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
) -> io::Result<(PathBuf, Box<dyn DiskFile>)> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = PathBuf::from(tmp);
    match disk.remove(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = disk.create_new(&tmp)?;
    file.write_all_at(bytes, 0)?;
    Ok((tmp, file))
}
