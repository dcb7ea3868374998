//! The disk's handle and files: the seam's calls on the medium.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    FakeEntropy, lock,
    medium::{Content, Node, State, dead, is_root},
};
use crate::seams::{Disk, DiskFile, Entry, EntryKind};

/// See the module. Clones share the disk.
#[derive(Clone)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
    /// The life this handle belongs to; `None`: it outlives crashes.
    life: Option<u64>,
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
        Self::of(State {
            cached: empty(),
            durable: empty(),
            capacity: bytes,
            life: 0,
        })
    }

    fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            life: None,
        }
    }

    /// The disk as one process sees it: after the next crash every call through this handle fails, so
    /// that threads of the dead process cannot go on writing.
    pub fn boot(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            life: Some(lock(&self.state).life),
        }
    }

    /// The state, if the process of this handle still lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        match self.life {
            Some(life) if life != state.life => Err(dead()),
            _ => Ok(state),
        }
    }

    /// What a failed sync leaves on a real machine: the pages of the file count as clean, programs go on seeing
    /// them, and no later sync writes them.
    pub fn forget_unsynced(&self, path: &Path) {
        if let Ok(content) = lock(&self.state).file(path) {
            lock(&content).dirty.clear();
        }
    }

    /// Changes how much it holds.
    pub fn set_capacity(&self, bytes: u64) {
        lock(&self.state).capacity = bytes;
    }

    /// The process is killed, the machine lives: all that was written is there, synced or not, and the
    /// handles of the process fail.
    pub fn kill(&self) {
        lock(&self.state).life += 1;
    }

    /// Power loss: everything that was not synced is gone.
    pub fn crash(&self) {
        lock(&self.state).crash(None);
    }

    /// Power loss that lets a part of what was not synced survive, as the seed says.
    pub fn crash_torn(&self, seed: u64) {
        lock(&self.state).crash(Some(&FakeEntropy::new(seed)));
    }

    /// A second disk with the same content, cached and durable.
    pub fn copy(&self) -> Self {
        let state = lock(&self.state);
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
        Self::of(State {
            cached,
            durable,
            capacity,
            life,
        })
    }

    /// The bytes of a file as programs see them; `None` if there is no such file.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        lock(&self.state)
            .file(path)
            .ok()
            .map(|content| lock(&content).cached.clone())
    }

    /// Puts a file there, durable with its directories, whatever was there before: damage by hand.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = lock(&self.state);
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

impl FakeFile {
    /// The state, if the process that opened the file still lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.disk);
        if state.life == self.life {
            return Ok(state);
        }
        Err(dead())
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
        let state = self.alive()?;
        let content = state.file(path)?;
        let (disk, life) = (Arc::clone(&self.state), state.life);
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
        let mut state = self.alive()?;
        state.need_parent(path)?;
        if state.cached.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Mutex::new(Content::default()));
        state
            .cached
            .insert(path.to_owned(), Node::File(Arc::clone(&content)));
        let (disk, life) = (Arc::clone(&self.state), state.life);
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
        let content = self.alive()?.file(path)?;
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
        let mut state = self.alive()?;
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
        let mut state = self.alive()?;
        state.file(path)?;
        state.cached.remove(path);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
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
        let mut state = self.alive()?;
        state.need_dir(path)?;
        for name in state.unsynced(path) {
            state.settle_name(&name);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.alive()?;
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
        let state = self.alive()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}
