//! A disk that fails on command.
//!
//! A [`Fault`] waits for its operation (and path), lets some pass, then strikes once or for ever. With
//! [`How::Lie`] on `sync` it is the negative control of the crash tests: a log on such a disk must lose
//! acknowledged records, or the tests could not see it if ours did.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, Entry};

/// What the program asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// `create_new`.
    Create,
    /// `open`, `open_read`.
    Open,
    /// `read`, `read_exact_at`, `len`, `list`, `free_bytes`.
    Read,
    /// `write_all_at`.
    Write,
    /// `sync`.
    Sync,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `create_dir_all`.
    CreateDir,
    /// `sync_dir`.
    SyncDir,
}

impl Op {
    /// Whether it changes what is on the disk.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read)
    }
}

/// How a struck operation behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It does nothing and fails.
    Fail(io::ErrorKind),
    /// It does its work and fails.
    FailAfter(io::ErrorKind),
    /// It does nothing and succeeds; an operation that must yield something fails instead.
    Lie,
    /// A write puts down only so many bytes, then fails as a full disk; other operations just fail.
    Short(usize),
}

/// When to strike, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which operation; `None`: any that changes the disk.
    pub op: Option<Op>,
    /// Only on paths that contain this text; empty: all.
    pub path_has: String,
    /// How many matching operations pass before it strikes.
    pub after: u64,
    /// Once, or every time from then on.
    pub for_ever: bool,
    /// What happens.
    pub how: How,
}

impl Fault {
    /// Strikes the next `op` once; change the fields for more.
    pub fn next(op: Op, how: How) -> Self {
        Self {
            op: Some(op),
            path_has: String::new(),
            after: 0,
            for_ever: false,
            how,
        }
    }
}

#[derive(Default)]
struct Plan {
    faults: Vec<Fault>,
    changes: u64,
    struck: u64,
}

/// See the module. Clones share the faults.
#[derive(Clone)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultyDisk {
    /// Passes everything through until a fault is armed.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            plan: Arc::default(),
        }
    }

    /// Adds a fault; the first armed that matches strikes.
    pub fn arm(&self, fault: Fault) {
        self.plan().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn disarm(&self) {
        self.plan().faults.clear();
    }

    /// Operations so far that change the disk: the number of points at which a run can be cut.
    pub fn changes(&self) -> u64 {
        self.plan().changes
    }

    /// How often a fault has struck.
    pub fn struck(&self) -> u64 {
        self.plan().struck
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which fault, if any, strikes this operation.
    fn strike(&self, op: Op, path: &Path) -> Option<How> {
        let mut plan = self.plan();
        plan.changes += u64::from(op.changes());
        let path = path.to_string_lossy();
        let hits = |f: &Fault| {
            f.op.map_or(op.changes(), |wanted| wanted == op) && path.contains(&f.path_has)
        };
        let mut due = None;
        for (n, fault) in plan.faults.iter_mut().enumerate().filter(|(_, f)| hits(f)) {
            if fault.after == 0 {
                due = due.or(Some((n, fault.how, fault.for_ever)));
            }
            fault.after = fault.after.saturating_sub(1);
        }
        let (n, how, for_ever) = due?;
        if !for_ever {
            plan.faults.remove(n);
        }
        plan.struck += 1;
        Some(how)
    }

    /// Runs an operation that yields something the program needs.
    fn give<T>(&self, op: Op, path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.strike(op, path) {
            None => run(),
            Some(How::Fail(kind)) => Err(kind.into()),
            Some(How::FailAfter(kind)) => run().and_then(|_| Err(kind.into())),
            Some(How::Lie) => Err(io::Error::other("nothing to lie with")),
            Some(How::Short(_)) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// Runs an operation that only reports success.
    fn perform(&self, op: Op, path: &Path, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.strike(op, path) {
            None => run(),
            Some(How::Fail(kind)) => Err(kind.into()),
            Some(How::FailAfter(kind)) => run().and_then(|()| Err(kind.into())),
            Some(How::Lie) => Ok(()),
            Some(How::Short(_)) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn wrap(&self, file: Box<dyn DiskFile>, path: &Path) -> Box<dyn DiskFile> {
        Box::new(FaultyFile {
            inner: file,
            disk: self.clone(),
            path: path.to_owned(),
        })
    }
}

struct FaultyFile {
    inner: Box<dyn DiskFile>,
    disk: FaultyDisk,
    path: std::path::PathBuf,
}

impl DiskFile for FaultyFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.disk.strike(Op::Write, &self.path) {
            None => self.inner.write_all_at(bytes, offset),
            Some(How::Fail(kind)) => Err(kind.into()),
            Some(How::FailAfter(kind)) => {
                self.inner.write_all_at(bytes, offset)?;
                Err(kind.into())
            }
            Some(How::Lie) => Ok(()),
            Some(How::Short(most)) => {
                let part = bytes.get(..most.min(bytes.len())).unwrap_or(bytes);
                self.inner.write_all_at(part, offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.give(Op::Read, &self.path, || {
            self.inner.read_exact_at(buf, offset)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk
            .perform(Op::Sync, &self.path, || self.inner.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.give(Op::Read, &self.path, || self.inner.len())
    }
}

impl Disk for FaultyDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.give(Op::Create, path, || self.inner.create_new(path))?;
        Ok(self.wrap(file, path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.give(Op::Open, path, || self.inner.open(path))?;
        Ok(self.wrap(file, path))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.give(Op::Open, path, || self.inner.open_read(path))?;
        Ok(self.wrap(file, path))
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        self.give(Op::Read, path, || self.inner.read(path, max))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(Op::Rename, to, || self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform(Op::Remove, path, || self.inner.remove(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.perform(Op::CreateDir, path, || self.inner.create_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(Op::SyncDir, path, || self.inner.sync_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.give(Op::Read, path, || self.inner.list(path))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.give(Op::Read, path, || self.inner.free_bytes(path))
    }
}
