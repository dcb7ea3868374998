//! `ledger.heads/`: what `add-heads` events anchor, beside the log, which holds nothing but entries.
//!
//! ```text
//! ledger.heads/{first two digits of the root}/{root}        see chordae_chain::heads
//! ```
//!
//! A file is named by the root over it, written before the event that names it, and never changed. A crash
//! between the two leaves a file that no event names: space, nothing else. The sets that were read last are
//! kept in memory, held against their roots: many readers ask for streams of the same round.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind, Outcome, limits,
    seams::{self, Disk},
};
use chordae_chain::{
    event::Event,
    heads::{FILE_BYTES_MAX, HeadSet, file_name},
    merkle::NodeHash,
};

use crate::core::ports::HeadSets;

/// Sets by their roots.
type Kept = VecDeque<(NodeHash, Arc<HeadSet>)>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Together {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Newest last.
    kept: Arc<Mutex<Kept>>,
}

impl Together {
    pub(crate) fn new(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        let dir = data_dir.join("ledger.heads");
        let kept = Arc::default();
        Self { disk, dir, kept }
    }

    /// Makes heads durable; the root that an event names them by.
    pub(crate) fn put(&self, heads: &HeadSet) -> Outcome<NodeHash> {
        let root = heads.root();
        let path = self.dir.join(file_name(&root));
        let folder = path.parent().unwrap_or(&self.dir);
        let done = self.disk.create_dir_all(folder);
        done.and_then(|()| seams::write_atomic(&*self.disk, &path, &heads.encode()))
            .map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))?;
        Ok(root)
    }

    /// A file, held against its name.
    fn read(&self, root: &NodeHash) -> Outcome<Arc<HeadSet>> {
        let heads = Arc::new(HeadSet::decode(&self.file(root)?)?);
        if heads.root() != *root {
            let why = "its heads do not lead to the root that the ledger names";
            return Err(Failure::damaged(why));
        }
        self.keep(*root, Arc::clone(&heads));
        Ok(heads)
    }

    fn kept(&self, root: &NodeHash) -> Option<Arc<HeadSet>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(of, _)| of == root);
        found.map(|(_, heads)| Arc::clone(heads))
    }

    fn keep(&self, root: NodeHash, heads: Arc<HeadSet>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::HEAD_SETS_KEPT {
            kept.pop_front();
        }
        kept.push_back((root, heads));
    }

    /// A file as published.
    pub(crate) fn file(&self, root: &NodeHash) -> Outcome<Bytes> {
        let path = self.dir.join(file_name(root));
        let read = self.disk.read(&path, FILE_BYTES_MAX as u64);
        read.map(Bytes::from)
            .map_err(|e| Failure::os(path.display(), &e))
    }
}

impl HeadSets for Together {
    fn of(&self, event: &Event) -> Outcome<Option<Arc<HeadSet>>> {
        let Event::AddHeads { root, count } = event else {
            return Ok(None);
        };
        let damaged = |e: Failure| {
            let kind = match e.kind {
                FailureKind::Io => FailureKind::Io,
                _ => FailureKind::Damaged,
            };
            let e = e.during(format_args!("ledger.heads/{}", file_name(root)));
            Failure { kind, ..e }
        };
        let heads = match self.kept(root) {
            Some(heads) => heads,
            None => self.read(root).map_err(damaged)?,
        };
        if heads.count() == *count {
            return Ok(Some(heads));
        }
        let why = format!("{} heads, the ledger names {count}", heads.count());
        Err(damaged(Failure::damaged(why)))
    }
}
