//! The disk of one life: counts and traces every change, and at the chosen one the machine dies.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chordae_base::seams::{Disk, DiskFile, Entry, fake::FakeDisk, faulty::Op};
use xxhash_rust::xxh3::xxh3_64;

use crate::{baton::Baton, fortune::Fortune, trace::Trace};

/// What a death leaves on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process was killed: all that it wrote is there, synced or not.
    Kill,
    /// Power was lost: only what was synced is there.
    Power,
    /// Power was lost while sectors and names were on their way, in any order: some of what was not synced.
    Torn(u64),
}

impl Death {
    /// Lets it happen.
    pub(crate) fn befall(self, medium: &FakeDisk) {
        match self {
            Self::Kill => medium.kill(),
            Self::Power => medium.crash(),
            Self::Torn(luck) => medium.crash_torn(luck),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct LifeDisk {
    under: FakeDisk,
    medium: FakeDisk,
    baton: Arc<Baton>,
    trace: Trace,
    changes: Arc<AtomicU64>,
    /// At which change, and how.
    end: Option<(u64, Death)>,
    /// Which sync fails, and loses what it was to write.
    failing: Option<u64>,
    syncs: Arc<AtomicU64>,
}

impl LifeDisk {
    /// The disk of a life that begins now on `medium`.
    pub(crate) fn new(
        medium: &FakeDisk,
        baton: Arc<Baton>,
        trace: Trace,
        fortune: &Fortune,
    ) -> Self {
        Self {
            under: medium.boot(),
            medium: medium.clone(),
            baton,
            trace,
            changes: Arc::default(),
            end: fortune.at,
            failing: fortune.failing,
            syncs: Arc::default(),
        }
    }

    /// Counts a change; after the last one of this life the handle below answers nothing but errors.
    fn change(&self, op: Op, path: &Path, a: u64, bytes: &[u8]) {
        if self.baton.is_dead() {
            return;
        }
        let n = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let name = op_name(op);
        self.trace
            .note(name, &path.to_string_lossy(), a, xxh3_64(bytes));
        if let Some((_, death)) = self.end.filter(|(at, _)| n >= *at) {
            self.trace.note("death", name, n, 0);
            self.trace.say(|| format!("{death:?} at change {n}"));
            death.befall(&self.medium);
            self.baton.kill();
        }
    }

    /// Whether the failing sync has come.
    pub(crate) fn has_failed(&self) -> bool {
        self.failing
            .is_some_and(|at| self.syncs.load(Ordering::SeqCst) >= at)
    }

    fn wrap(&self, under: Box<dyn DiskFile>, path: &Path) -> Box<dyn DiskFile> {
        Box::new(LifeFile {
            under,
            disk: self.clone(),
            path: path.to_owned(),
        })
    }
}

fn op_name(op: Op) -> &'static str {
    match op {
        Op::Create => "create",
        Op::Open => "open",
        Op::Read => "read",
        Op::Write => "write",
        Op::Sync => "sync",
        Op::Rename => "rename",
        Op::Remove => "remove",
        Op::CreateDir => "mkdir",
        Op::SyncDir => "syncdir",
    }
}

impl Disk for LifeDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.change(Op::Create, path, 0, &[]);
        Ok(self.wrap(self.under.create_new(path)?, path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(self.under.open(path)?, path))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(self.under.open_read(path)?, path))
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        self.under.read(path, max)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Op::Rename, to, 0, &[]);
        self.under.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Op::Remove, path, 0, &[]);
        self.under.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(Op::CreateDir, path, 0, &[]);
        self.under.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Op::SyncDir, path, 0, &[]);
        self.under.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.under.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.under.free_bytes(path)
    }
}

struct LifeFile {
    under: Box<dyn DiskFile>,
    disk: LifeDisk,
    path: PathBuf,
}

impl DiskFile for LifeFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change(Op::Write, &self.path, offset, bytes);
        self.under.write_all_at(bytes, offset)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.under.read_exact_at(buf, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.change(Op::Sync, &self.path, 0, &[]);
        let n = self.disk.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        if self.disk.failing == Some(n) && !self.disk.baton.is_dead() {
            self.disk.trace.note("fails", "", n, 0);
            self.disk.medium.forget_unsynced(&self.path);
            return Err(io::Error::other("EIO"));
        }
        self.under.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.under.len()
    }
}
