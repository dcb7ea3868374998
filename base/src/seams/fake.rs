//! In-memory seams. The disk keeps what was synced apart from what was only written:
//!
//! ```text
//!   file      cached bytes ──sync()──▶ durable bytes      (data and length)
//!   directory cached names ──sync_dir()──▶ durable names  (created, renamed, removed)
//! ```
//!
//! Programs see the cached side. [`FakeDisk::crash`] throws it away: a file whose directory was not
//! synced is gone, a rename that was not synced is undone. [`FakeDisk::crash_torn`] lets a random part
//! of it survive instead, each 512-byte block and each name for itself, in no order; that is more than
//! most file systems do and no more than they are allowed to. Handles from before a crash fail, as the
//! process that held them is dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use super::{Clock, Disk, DiskFile, Entropy, Entry, EntryKind};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panicking test thread leaves plain bytes behind, nothing half-made.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that moves when told. Clones share it.
#[derive(Debug, Clone)]
pub struct FakeClock {
    wall_ns: Arc<AtomicI64>,
    mono_ns: Arc<AtomicU64>,
}

impl FakeClock {
    /// A clock that shows `wall_ns`; its monotonic side begins at 0.
    pub fn new(wall_ns: i64) -> Self {
        Self {
            wall_ns: Arc::new(AtomicI64::new(wall_ns)),
            mono_ns: Arc::default(),
        }
    }

    /// Lets time pass on both sides.
    pub fn advance(&self, ns: u64) {
        self.mono_ns.fetch_add(ns, Ordering::SeqCst);
        self.wall_ns
            .fetch_add(i64::try_from(ns).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall clock, as an operator or NTP does; the monotonic side stays.
    pub fn set_wall(&self, wall_ns: i64) {
        self.wall_ns.store(wall_ns, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn wall_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }
}

/// Bytes that follow from a seed; for tests only. Clones share the stream.
#[derive(Debug, Clone)]
pub struct FakeEntropy(Arc<Mutex<blake3::OutputReader>>);

impl FakeEntropy {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        let reader = blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof();
        Self(Arc::new(Mutex::new(reader)))
    }

    /// A number in `0..bound`, near enough to even for tests; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}

impl Entropy for FakeEntropy {
    fn fill(&self, buf: &mut [u8]) {
        lock(&self.0).fill(buf);
    }
}

/// See the module. Clones share the disk.
#[derive(Clone)]
pub struct FakeDisk(Arc<Mutex<State>>);

#[derive(Clone)]
enum Node {
    Dir,
    File(Arc<Mutex<Content>>),
}

#[derive(Default, Clone)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync: offset and length.
    dirty: Vec<(usize, usize)>,
}

struct State {
    cached: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    capacity: u64,
    /// Grows at each crash; handles of an earlier life fail.
    life: u64,
}

struct FakeFile {
    disk: Arc<Mutex<State>>,
    life: u64,
    content: Arc<Mutex<Content>>,
    writable: bool,
}

impl Default for FakeDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeDisk {
    /// An empty disk without a bound.
    pub fn new() -> Self {
        Self::with_capacity(u64::MAX)
    }

    /// An empty disk that holds so many bytes of files, then answers `StorageFull`.
    pub fn with_capacity(bytes: u64) -> Self {
        let empty = BTreeMap::new;
        Self(Arc::new(Mutex::new(State {
            cached: empty(),
            durable: empty(),
            capacity: bytes,
            life: 0,
        })))
    }

    /// Changes how much it holds.
    pub fn set_capacity(&self, bytes: u64) {
        lock(&self.0).capacity = bytes;
    }

    /// Power loss: everything that was not synced is gone.
    pub fn crash(&self) {
        lock(&self.0).crash(None);
    }

    /// Power loss that lets a part of what was not synced survive, as the seed says.
    pub fn crash_torn(&self, seed: u64) {
        lock(&self.0).crash(Some(&FakeEntropy::new(seed)));
    }

    /// A second disk with the same content, cached and durable.
    pub fn copy(&self) -> Self {
        let state = lock(&self.0);
        let copy = |names: &BTreeMap<PathBuf, Node>, made: &mut BTreeMap<usize, Node>| {
            let mut copies = BTreeMap::new();
            for (path, node) in names {
                let copied = match node {
                    Node::Dir => Node::Dir,
                    Node::File(content) => made
                        .entry(Arc::as_ptr(content).addr())
                        .or_insert_with(|| Node::File(Arc::new(Mutex::new(lock(content).clone()))))
                        .clone(),
                };
                copies.insert(path.clone(), copied);
            }
            copies
        };
        let mut made = BTreeMap::new();
        let cached = copy(&state.cached, &mut made);
        let durable = copy(&state.durable, &mut made);
        let (capacity, life) = (state.capacity, state.life);
        Self(Arc::new(Mutex::new(State {
            cached,
            durable,
            capacity,
            life,
        })))
    }

    /// The bytes of a file as programs see them; `None` if there is no such file.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        lock(&self.0)
            .file(path)
            .ok()
            .map(|content| lock(&content).cached.clone())
    }

    /// Puts a file there, durable with its directories, whatever was there before: damage by hand.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = lock(&self.0);
        for dir in path.ancestors().skip(1).filter(|d| !is_root(d)) {
            state.cached.insert(dir.to_owned(), Node::Dir);
            state.durable.insert(dir.to_owned(), Node::Dir);
        }
        let content = Content {
            cached: bytes.to_vec(),
            durable: bytes.to_vec(),
            dirty: Vec::new(),
        };
        let node = Node::File(Arc::new(Mutex::new(content)));
        state.cached.insert(path.to_owned(), node.clone());
        state.durable.insert(path.to_owned(), node);
    }
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none() || path == Path::new(".")
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        match self.cached.get(path) {
            Some(Node::File(content)) => Ok(Arc::clone(content)),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }

    fn need_dir(&self, path: &Path) -> io::Result<()> {
        match self.cached.get(path) {
            _ if is_root(path) => Ok(()),
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found()),
        }
    }

    fn need_parent(&self, path: &Path) -> io::Result<()> {
        self.need_dir(path.parent().unwrap_or(Path::new("")))
    }

    fn used(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::File(content) => lock(content).cached.len() as u64,
            Node::Dir => 0,
        };
        self.cached.values().map(len).sum()
    }

    /// Names of a directory that differ between the cached and the durable side.
    fn unsynced(&self, dir: &Path) -> Vec<PathBuf> {
        let names: BTreeSet<&PathBuf> = self.cached.keys().chain(self.durable.keys()).collect();
        let inside = names.into_iter().filter(|path| path.parent() == Some(dir));
        inside.cloned().collect()
    }

    fn settle_name(&mut self, path: &Path) {
        match self.cached.get(path) {
            Some(node) => self.durable.insert(path.to_owned(), node.clone()),
            None => self.durable.remove(path),
        };
    }

    fn crash(&mut self, luck: Option<&FakeEntropy>) {
        if let Some(luck) = luck {
            let names: BTreeSet<PathBuf> = self
                .cached
                .keys()
                .chain(self.durable.keys())
                .cloned()
                .collect();
            for path in names {
                if luck.below(2) == 0 {
                    self.settle_name(&path);
                }
            }
        }
        // What lies in a directory that is gone is gone.
        let names: Vec<PathBuf> = self.durable.keys().cloned().collect();
        for path in names {
            let held =
                |dir: &Path| is_root(dir) || matches!(self.durable.get(dir), Some(Node::Dir));
            if !path.ancestors().skip(1).all(held) {
                self.durable.remove(&path);
            }
        }
        for node in self.durable.values() {
            if let Node::File(content) = node {
                lock(content).crash(luck);
            }
        }
        self.cached = self.durable.clone();
        self.life += 1;
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at.saturating_add(bytes.len());
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        if let Some(target) = self.cached.get_mut(at..end) {
            target.copy_from_slice(bytes);
        }
        self.dirty.push((at, bytes.len()));
    }

    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for (at, len) in std::mem::take(&mut self.dirty) {
            self.keep(at, at.saturating_add(len));
        }
    }

    /// Copies a range from the cached side to the durable side, as far as both reach.
    fn keep(&mut self, from: usize, until: usize) {
        let until = until.min(self.durable.len()).min(self.cached.len());
        if let (Some(to), Some(kept)) = (
            self.durable.get_mut(from..until),
            self.cached.get(from..until),
        ) {
            to.copy_from_slice(kept);
        }
    }

    fn crash(&mut self, luck: Option<&FakeEntropy>) {
        if let Some(luck) = luck {
            // The length may have reached the disk without the data: zeros.
            let (had, has) = (self.durable.len() as u64, self.cached.len() as u64);
            let grown = had + luck.below(has.saturating_sub(had) + 1);
            let length = if luck.below(2) == 0 { grown } else { has };
            self.durable.resize(usize::try_from(length).unwrap_or(0), 0);
            let how = luck.below(4);
            let sectors: BTreeSet<usize> = self
                .dirty
                .iter()
                .flat_map(|(at, len)| (at / SECTOR)..=(at.saturating_add(*len) / SECTOR))
                .collect();
            let prefix = luck.below(sectors.len() as u64 + 1);
            for (n, sector) in sectors.into_iter().enumerate() {
                let kept = match how {
                    0 => true,
                    1 => (n as u64) < prefix,
                    _ => luck.below(2) == 0,
                };
                if kept {
                    self.keep(sector * SECTOR, (sector + 1) * SECTOR);
                }
            }
        }
        self.cached = self.durable.clone();
        self.dirty.clear();
    }
}

impl FakeFile {
    /// The state, if the process that opened the file still lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.disk);
        if state.life == self.life {
            return Ok(state);
        }
        Err(io::Error::other("handle from before a crash"))
    }
}

fn offset(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFile for FakeFile {
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let state = self.alive()?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let at = offset(at)?;
        let end = at
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut content = lock(&self.content);
        let more = end.saturating_sub(content.cached.len()) as u64;
        if more > 0 && state.capacity < u64::MAX {
            drop(content);
            if state.used().saturating_add(more) > state.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content = lock(&self.content);
        }
        content.write(bytes, at);
        Ok(())
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let _state = self.alive()?;
        let content = lock(&self.content);
        let at = offset(at)?;
        let bytes = at
            .checked_add(buf.len())
            .and_then(|end| content.cached.get(at..end));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let _state = self.alive()?;
        lock(&self.content).sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let _state = self.alive()?;
        Ok(lock(&self.content).cached.len() as u64)
    }
}

impl FakeDisk {
    fn open_as(&self, path: &Path, writable: bool) -> io::Result<Box<dyn DiskFile>> {
        let state = lock(&self.0);
        let content = state.file(path)?;
        let (disk, life) = (Arc::clone(&self.0), state.life);
        Ok(Box::new(FakeFile {
            disk,
            life,
            content,
            writable,
        }))
    }
}

impl Disk for FakeDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = lock(&self.0);
        state.need_parent(path)?;
        if state.cached.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Mutex::new(Content::default()));
        state
            .cached
            .insert(path.to_owned(), Node::File(Arc::clone(&content)));
        let (disk, life) = (Arc::clone(&self.0), state.life);
        Ok(Box::new(FakeFile {
            disk,
            life,
            content,
            writable: true,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open_as(path, true)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open_as(path, false)
    }

    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let content = lock(&self.0).file(path)?;
        let content = lock(&content);
        if content.cached.len() as u64 > max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("over {max} bytes"),
            ));
        }
        Ok(content.cached.clone())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let content = state.file(from)?;
        state.need_parent(to)?;
        if matches!(state.cached.get(to), Some(Node::Dir)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.cached.remove(from);
        state.cached.insert(to.to_owned(), Node::File(content));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.file(path)?;
        state.cached.remove(path);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let dirs: Vec<&Path> = path.ancestors().filter(|d| !is_root(d)).collect();
        for dir in dirs.into_iter().rev() {
            match state.cached.get(dir) {
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                _ => state.cached.insert(dir.to_owned(), Node::Dir),
            };
            // The trait promises each synced into its parent.
            state.durable.insert(dir.to_owned(), Node::Dir);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.need_dir(path)?;
        for name in state.unsynced(path) {
            state.settle_name(&name);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = lock(&self.0);
        state.need_dir(path)?;
        let inside = state
            .cached
            .iter()
            .filter(|(name, _)| name.parent() == Some(path));
        let entry = |(name, node): (&PathBuf, &Node)| match node {
            Node::Dir => Entry {
                path: name.clone(),
                kind: EntryKind::Dir,
                len: 0,
            },
            Node::File(content) => {
                let len = lock(content).cached.len() as u64;
                Entry {
                    path: name.clone(),
                    kind: EntryKind::File,
                    len,
                }
            }
        };
        Ok(inside.map(entry).collect())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = lock(&self.0);
        Ok(state.capacity.saturating_sub(state.used()))
    }
}
