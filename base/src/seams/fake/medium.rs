//! What a fake disk consists of: names and bytes, each once as programs see them and once as a power
//! loss leaves them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{FakeEntropy, lock};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) enum Node {
    Dir,
    File(Arc<Mutex<Content>>),
}

#[derive(Default, Clone)]
pub(super) struct Content {
    pub(super) cached: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Written since the last sync: offset and length.
    pub(super) dirty: Vec<(usize, usize)>,
}

pub(super) struct State {
    pub(super) cached: BTreeMap<PathBuf, Node>,
    pub(super) durable: BTreeMap<PathBuf, Node>,
    pub(super) capacity: u64,
    /// Grows at each crash; handles of an earlier life fail.
    pub(super) life: u64,
}

pub(super) fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none() || path == Path::new(".")
}

pub(super) fn dead() -> io::Error {
    io::Error::other("handle from before a crash")
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        match self.cached.get(path) {
            Some(Node::File(content)) => Ok(Arc::clone(content)),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }

    pub(super) fn need_dir(&self, path: &Path) -> io::Result<()> {
        match self.cached.get(path) {
            _ if is_root(path) => Ok(()),
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found()),
        }
    }

    pub(super) fn need_parent(&self, path: &Path) -> io::Result<()> {
        self.need_dir(path.parent().unwrap_or(Path::new("")))
    }

    pub(super) fn used(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::File(content) => lock(content).cached.len() as u64,
            Node::Dir => 0,
        };
        self.cached.values().map(len).sum()
    }

    /// Names of a directory that differ between the cached and the durable side.
    pub(super) fn unsynced(&self, dir: &Path) -> Vec<PathBuf> {
        let names: BTreeSet<&PathBuf> = self.cached.keys().chain(self.durable.keys()).collect();
        let inside = names.into_iter().filter(|path| path.parent() == Some(dir));
        inside.cloned().collect()
    }

    pub(super) fn settle_name(&mut self, path: &Path) {
        match self.cached.get(path) {
            Some(node) => self.durable.insert(path.to_owned(), node.clone()),
            None => self.durable.remove(path),
        };
    }

    pub(super) fn crash(&mut self, luck: Option<&FakeEntropy>) {
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
    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at.saturating_add(bytes.len());
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        if let Some(target) = self.cached.get_mut(at..end) {
            target.copy_from_slice(bytes);
        }
        self.dirty.push((at, bytes.len()));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for (at, len) in std::mem::take(&mut self.dirty) {
            self.keep(at, at.saturating_add(len));
        }
    }

    /// Copies a range from the cached side to the durable side, as far as both reach.
    pub(super) fn keep(&mut self, from: usize, until: usize) {
        let until = until.min(self.durable.len()).min(self.cached.len());
        if let (Some(to), Some(kept)) = (
            self.durable.get_mut(from..until),
            self.cached.get(from..until),
        ) {
            to.copy_from_slice(kept);
        }
    }

    pub(super) fn crash(&mut self, luck: Option<&FakeEntropy>) {
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
