//! The local chunk store: one file per chunk, made once, never changed (formats.md 3).
//!
//! The name is the fence: a file is created only if its name is free. When [`ChunkStore::put`] returns,
//! data, name and folders are synced. A crash before that leaves a file that no link names, whole or
//! torn; `sweep` and `commit` deal with it. Nothing read here is believed: readers compare the digest
//! with a link first.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Did, Failure, Outcome,
    limits::CHUNK_BYTES_MAX,
    seams::{Disk, Entry, EntryKind, Stamp},
};
use chordae_chain::link::object_name;

/// Where chunk files lie.
#[derive(Clone)]
pub struct ChunkStore {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
}

/// What became of a [`ChunkStore::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Stored and synced.
    Stored,
    /// The name is taken; nothing was touched.
    Taken,
}

impl ChunkStore {
    /// The store in a data folder.
    pub fn new(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        Self {
            disk,
            data_dir: data_dir.to_owned(),
        }
    }

    /// The disk it lies on.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The folder of all chunks.
    pub fn root(&self) -> PathBuf {
        self.data_dir.join("chunks")
    }

    /// Whether there is a file of any stream.
    pub(crate) fn has_any(&self) -> Outcome<bool> {
        let mut dirs = vec![self.root()];
        while let Some(dir) = dirs.pop() {
            for entry in list(&*self.disk, &dir)? {
                match entry.kind {
                    EntryKind::File => return Ok(true),
                    EntryKind::Dir => dirs.push(entry.path),
                    EntryKind::Other => {}
                }
            }
        }
        Ok(false)
    }

    /// The file of a chunk.
    pub fn path(&self, did: &Did, index: u64) -> PathBuf {
        self.data_dir.join(object_name(did, index))
    }

    /// Stores a chunk under its name, if the name is free.
    ///
    /// # Errors
    /// `Busy` when the disk is full, `Internal` for another error of the disk. What was begun is
    /// removed if the disk lets us; otherwise the next start sweeps it.
    pub fn put(&self, did: &Did, index: u64, bytes: &[u8]) -> Outcome<Put> {
        let path = self.path(did, index);
        let dir = self.dir_of(&path);
        self.disk
            .create_dir_all(dir)
            .map_err(|e| write_failure(&path, &e))?;
        // Crash before: nothing. After: an empty or torn file at the next index, swept.
        let mut file = match self.disk.create_new(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::AlreadyExists => return Ok(Put::Taken),
            Err(err) => return Err(write_failure(&path, &err)),
        };
        let written = file.write_all_at(bytes, 0).and_then(|()| file.sync());
        drop(file);
        // The name too: a link must not outlive the name of its chunk.
        if let Err(err) = written.and_then(|()| self.disk.sync_dir(dir)) {
            if let Err(left) = self.remove(did, index) {
                tracing::warn!(why = %left, "a chunk file that was not finished stays behind");
            }
            return Err(write_failure(&path, &err));
        }
        Ok(Put::Stored)
    }

    /// Syncs a file and its name that an earlier run left behind.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn settle(&self, did: &Did, index: u64) -> Outcome<()> {
        let path = self.path(did, index);
        let synced = self.disk.open(&path).and_then(|mut file| file.sync());
        let synced = synced.and_then(|()| self.disk.sync_dir(self.dir_of(&path)));
        synced.map_err(|e| write_failure(&path, &e))
    }

    /// The bytes of a chunk file, not compared with anything.
    ///
    /// # Errors
    /// `NotFound`, `Io`; `Io` also for a file longer than any chunk.
    pub fn read(&self, did: &Did, index: u64) -> Outcome<Bytes> {
        let path = self.path(did, index);
        let bytes = self.disk.read(&path, CHUNK_BYTES_MAX);
        bytes
            .map(Bytes::from)
            .map_err(|err| Failure::os(format_args!("read {}", path.display()), &err))
    }

    /// What the disk says of a chunk file without reading it; `None` if it is not there.
    pub fn stamp(&self, did: &Did, index: u64) -> Option<Stamp> {
        self.disk.stamp(&self.path(did, index)).ok()
    }

    /// Removes a file that no link names.
    ///
    /// # Errors
    /// As [`Self::put`]; a file that is not there is removed already.
    pub fn remove(&self, did: &Did, index: u64) -> Outcome<()> {
        let path = self.path(did, index);
        match self.disk.remove(&path) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
            done => done.map_err(|e| write_failure(&path, &e))?,
        }
        self.disk
            .sync_dir(self.dir_of(&path))
            .map_err(|e| write_failure(&path, &e))
    }

    fn dir_of<'a>(&'a self, path: &'a Path) -> &'a Path {
        path.parent().unwrap_or(&self.data_dir)
    }
}

/// What lies in a folder; nothing, if there is none.
///
/// # Errors
/// `Io`.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Outcome<Vec<Entry>> {
    match disk.list(dir) {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        done => done.map_err(|err| Failure::os(format_args!("list {}", dir.display()), &err)),
    }
}

/// Nothing is linked yet when a chunk file cannot be written: a full disk may heal, anything else is
/// this chunk's fault until the next start.
fn write_failure(path: &Path, err: &io::Error) -> Failure {
    let why = format!("write {}: {err}", path.display());
    match err.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::busy(why),
        _ => Failure::internal(why),
    }
}
