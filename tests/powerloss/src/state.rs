//! The disk: folders, files, and what becomes of both when the power fails.
//!
//! Names of a folder are kept twice, as the bytes of a file are, with the changes since its last sync in between. A
//! change is what one system call does to one folder, so a rename moves both its names or none. Renames between
//! folders are refused (EXDEV): nobody here does one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fmt,
};

use crate::{
    bytes::Bytes,
    luck::{Fate, Luck},
};

/// Number of a file or folder; never used twice.
pub type Ino = u64;

/// The folder that is mounted.
pub const ROOT: Ino = 1;

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// ENOENT
    NotFound,
    /// EEXIST
    Exists,
    /// ENOTDIR
    NotFolder,
    /// EISDIR
    Folder,
    /// ENOTEMPTY
    NotEmpty,
    /// EXDEV
    Elsewhere,
    /// EIO: no power, or a sync that was told to fail
    Dead,
}

/// What an operation does, for those who choose where to strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// A file, socket or folder is made.
    Create,
    /// Bytes are written.
    Write,
    /// A length is set.
    Resize,
    /// A file is synced.
    Sync,
    /// A name replaces another.
    Rename,
    /// A name is removed.
    Remove,
    /// A folder is synced.
    SyncDir,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::Write,
        Self::Resize,
        Self::Sync,
        Self::Rename,
        Self::Remove,
        Self::SyncDir,
    ];

    /// Its word in commands and counts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Resize => "resize",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDir => "syncdir",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

type Names = BTreeMap<OsString, Ino>;

/// What one system call did to one folder: names that came (some) or went (none).
type Change = Vec<(OsString, Option<Ino>)>;

#[derive(Debug, Default)]
struct Folder {
    live: Names,
    durable: Names,
    changes: Vec<Change>,
}

impl Folder {
    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.live.clone();
        self.changes.clear();
    }

    fn lose(&mut self, luck: Option<&mut Luck>) -> u64 {
        let mut fate = match luck {
            None => Fate::Drop,
            Some(luck) => luck.fate(self.changes.len() as u64),
        };
        let mut lost = 0;
        for (n, change) in self.changes.drain(..).enumerate() {
            match fate.arrives(n as u64) {
                true => apply(&mut self.durable, &change),
                false => lost += 1,
            }
        }
        self.live = self.durable.clone();
        lost
    }
}

fn apply(names: &mut Names, change: &Change) {
    for (name, ino) in change {
        match ino {
            Some(ino) => drop(names.insert(name.clone(), *ino)),
            None => drop(names.remove(name)),
        }
    }
}

#[derive(Debug)]
enum Body {
    File(Bytes),
    Folder(Folder),
    Socket,
}

/// What programs may know of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
}

/// See [`About::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A socket's name.
    Socket,
}

#[derive(Debug)]
struct Node {
    body: Body,
    mode: u32,
    /// Where it was named last, for those who choose by path.
    parent: Ino,
    name: OsString,
}

/// What was lost with the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Bytes written and not synced, in whole sectors, before the loss.
    pub bytes: u64,
    /// Changes of names that did not arrive.
    pub names: u64,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    stamp: u64,
}

impl Default for State {
    fn default() -> Self {
        let root = Node {
            body: Body::Folder(Folder::default()),
            mode: 0o755,
            parent: ROOT,
            name: OsString::new(),
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            stamp: 0,
        }
    }
}

impl State {
    fn node(&self, ino: Ino) -> Result<&Node, Wrong> {
        self.nodes.get(&ino).ok_or(Wrong::NotFound)
    }

    fn folder(&self, ino: Ino) -> Result<&Folder, Wrong> {
        match &self.node(ino)?.body {
            Body::Folder(folder) => Ok(folder),
            _ => Err(Wrong::NotFolder),
        }
    }

    fn folder_mut(&mut self, ino: Ino) -> Result<&mut Folder, Wrong> {
        match &mut self.nodes.get_mut(&ino).ok_or(Wrong::NotFound)?.body {
            Body::Folder(folder) => Ok(folder),
            _ => Err(Wrong::NotFolder),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> Result<&mut Bytes, Wrong> {
        match &mut self.nodes.get_mut(&ino).ok_or(Wrong::NotFound)?.body {
            Body::File(bytes) => Ok(bytes),
            _ => Err(Wrong::Folder),
        }
    }

    /// What is known of it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn about(&self, ino: Ino) -> Result<About, Wrong> {
        let node = self.node(ino)?;
        let (kind, len) = match &node.body {
            Body::File(bytes) => (Kind::File, bytes.len()),
            Body::Folder(_) => (Kind::Folder, 0),
            Body::Socket => (Kind::Socket, 0),
        };
        Ok(About {
            ino,
            kind,
            len,
            mode: node.mode,
        })
    }

    /// What lies under a name.
    ///
    /// # Errors
    /// `NotFound`, `NotFolder`.
    pub fn find(&self, parent: Ino, name: &OsStr) -> Result<About, Wrong> {
        let ino = self.folder(parent)?.live.get(name).ok_or(Wrong::NotFound)?;
        self.about(*ino)
    }

    /// The names of a folder.
    ///
    /// # Errors
    /// `NotFound`, `NotFolder`.
    pub fn list(&self, ino: Ino) -> Result<Vec<(OsString, About)>, Wrong> {
        let names = self.folder(ino)?.live.iter();
        names
            .map(|(name, ino)| Ok((name.clone(), self.about(*ino)?)))
            .collect()
    }

    /// Path from the root, with every part that holds a digit replaced by `*` up to its first dot: what is written
    /// again and again under other names has one path.
    pub fn place(&self, ino: Ino) -> String {
        let mut parts = Vec::new();
        let mut at = ino;
        while let (true, Some(node)) = (at != ROOT, self.nodes.get(&at)) {
            parts.push(pattern(&node.name.to_string_lossy()));
            at = node.parent;
        }
        parts.reverse();
        parts.join("/")
    }

    /// The same, of a name in a folder.
    pub fn place_in(&self, parent: Ino, name: &OsStr) -> String {
        let (dir, name) = (self.place(parent), pattern(&name.to_string_lossy()));
        match dir.is_empty() {
            true => name,
            false => format!("{dir}/{name}"),
        }
    }

    /// Makes a file, folder or socket under a name that is free.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotFolder`.
    pub fn create(
        &mut self,
        parent: Ino,
        name: &OsStr,
        kind: Kind,
        mode: u32,
    ) -> Result<About, Wrong> {
        if self.folder(parent)?.live.contains_key(name) {
            return Err(Wrong::Exists);
        }
        let ino = self.next;
        self.next += 1;
        let body = match kind {
            Kind::File => Body::File(Bytes::default()),
            Kind::Folder => Body::Folder(Folder::default()),
            Kind::Socket => Body::Socket,
        };
        let node = Node {
            body,
            mode,
            parent,
            name: name.to_owned(),
        };
        self.nodes.insert(ino, node);
        self.folder_mut(parent)?
            .change(vec![(name.to_owned(), Some(ino))]);
        self.about(ino)
    }

    /// Sets the permission bits; durable at once, nobody relies on it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_mode(&mut self, ino: Ino, mode: u32) -> Result<(), Wrong> {
        self.nodes.get_mut(&ino).ok_or(Wrong::NotFound)?.mode = mode;
        Ok(())
    }

    /// Up to `len` bytes of a file.
    ///
    /// # Errors
    /// `NotFound`, `Folder`.
    pub fn read(&self, ino: Ino, at: u64, len: u64) -> Result<Vec<u8>, Wrong> {
        match &self.node(ino)?.body {
            Body::File(bytes) => Ok(bytes.read(at, len)),
            _ => Err(Wrong::Folder),
        }
    }

    /// Writes into a file.
    ///
    /// # Errors
    /// `NotFound`, `Folder`.
    pub fn write(&mut self, ino: Ino, at: u64, data: &[u8]) -> Result<(), Wrong> {
        self.stamp += 1;
        let stamp = self.stamp;
        self.file_mut(ino)?.write(at, data, stamp);
        Ok(())
    }

    /// Sets the length of a file.
    ///
    /// # Errors
    /// `NotFound`, `Folder`.
    pub fn resize(&mut self, ino: Ino, len: u64) -> Result<(), Wrong> {
        self.stamp += 1;
        let stamp = self.stamp;
        self.file_mut(ino)?.resize(len, stamp);
        Ok(())
    }

    /// Makes the bytes of a file durable.
    ///
    /// # Errors
    /// `NotFound`, `Folder`.
    pub fn sync(&mut self, ino: Ino) -> Result<(), Wrong> {
        self.file_mut(ino)?.sync();
        Ok(())
    }

    /// The sync of a file fails as Linux lets it fail: its pages count as clean.
    ///
    /// # Errors
    /// `Dead`, or why it could not even begin.
    pub fn fail_sync(&mut self, ino: Ino) -> Result<(), Wrong> {
        self.file_mut(ino)?.forget();
        Err(Wrong::Dead)
    }

    /// Makes the names of a folder durable.
    ///
    /// # Errors
    /// `NotFound`, `NotFolder`.
    pub fn sync_dir(&mut self, ino: Ino) -> Result<(), Wrong> {
        self.folder_mut(ino)?.sync();
        Ok(())
    }

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound`, `Folder` or `NotFolder` for the other kind, `NotEmpty`.
    pub fn remove(&mut self, parent: Ino, name: &OsStr, folder: bool) -> Result<(), Wrong> {
        let about = self.find(parent, name)?;
        match (folder, about.kind == Kind::Folder) {
            (true, false) => return Err(Wrong::NotFolder),
            (false, true) => return Err(Wrong::Folder),
            (true, true) if !self.folder(about.ino)?.live.is_empty() => {
                return Err(Wrong::NotEmpty);
            }
            _ => {}
        }
        self.folder_mut(parent)?
            .change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Renames within a folder, over whatever is there.
    ///
    /// # Errors
    /// `Elsewhere` between folders, `Folder` over one, `NotFound`, `NotFolder`.
    pub fn rename(&mut self, parent: Ino, name: &OsStr, to: Ino, new: &OsStr) -> Result<(), Wrong> {
        if parent != to {
            return Err(Wrong::Elsewhere);
        }
        let about = self.find(parent, name)?;
        if self
            .find(to, new)
            .is_ok_and(|there| there.kind == Kind::Folder)
        {
            return Err(Wrong::Folder);
        }
        let change = vec![(name.to_owned(), None), (new.to_owned(), Some(about.ino))];
        self.folder_mut(parent)?.change(change);
        if let Some(node) = self.nodes.get_mut(&about.ino) {
            node.name = new.to_owned();
        }
        Ok(())
    }

    /// Everything becomes durable, as after a long quiet time.
    pub fn settle(&mut self) {
        for node in self.nodes.values_mut() {
            match &mut node.body {
                Body::File(bytes) => bytes.sync(),
                Body::Folder(folder) => folder.sync(),
                Body::Socket => {}
            }
        }
    }

    /// The power fails: what was not synced is gone, or torn where there is luck.
    pub fn lose(&mut self, mut luck: Option<Luck>) -> Loss {
        // What has no name on either side decides nothing any more.
        self.sweep();
        let mut loss = Loss { bytes: 0, names: 0 };
        for node in self.nodes.values_mut() {
            match &mut node.body {
                Body::File(bytes) => {
                    loss.bytes += bytes.unsynced();
                    bytes.lose(luck.as_mut());
                }
                Body::Folder(folder) => loss.names += folder.lose(luck.as_mut()),
                Body::Socket => {}
            }
        }
        self.sweep();
        loss
    }

    /// Forgets what no name leads to. Only when no program runs: an open file needs no name.
    fn sweep(&mut self) {
        let mut kept = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            let Ok(folder) = self.folder(ino) else {
                continue;
            };
            for child in folder.live.values().chain(folder.durable.values()) {
                if kept.insert(*child) {
                    todo.push(*child);
                }
            }
        }
        self.nodes.retain(|ino, _| kept.contains(ino));
    }
}

fn pattern(name: &str) -> String {
    let (stem, rest) = match name.split_once('.') {
        Some((stem, rest)) => (stem, format!(".{rest}")),
        None => (name, String::new()),
    };
    match stem.bytes().any(|b| b.is_ascii_digit()) {
        true => format!("*{rest}"),
        false => name.to_owned(),
    }
}
