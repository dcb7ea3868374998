//! The index on disk: runs of keys in `ledger.index/`, made from the entries and never believed without them.
//!
//! ```text
//! newest entries: keys in memory ──(65,536 entries)──▶ frozen ──▶ a run ──(four of a size)──▶ one run, four times as long
//!
//! {first}-{end}.run     spans of the log without a gap, oldest first: what begins at 0 and goes on is the index
//! ```
//!
//! A look-up asks the runs from the oldest to the newest, one block each, then what is frozen: the first entry
//! under a key counts. A log of n entries has at most 3 log4(n / 65,536) runs and some, and each key was written
//! about log4(n / 65,536) times.
//!
//! A run is written aside, synced and renamed; those that it replaces are removed after. A crash leaves both, and
//! the start takes the longer; or it leaves neither, and the start reads the entries that no run covers. A run
//! that is not what was written, or not of this log, is removed and its entries are read again: at the start for
//! what its head and fences say, later when a look-up meets a block whose seal does not hold.

mod file;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use chordae_base::{
    Failure, Outcome,
    seams::{Disk, EntryKind},
};
use chordae_chain::merkle::NodeHash;

use crate::core::{
    index::{Index, Retired},
    run::{Head, Key},
};
use file::{Records, Run};

/// Runs of a size that become one.
const FAN: usize = 4;

/// Keys that no run has yet, and what they cover.
struct Frozen {
    head: Head,
    rotations: Vec<Retired>,
    keys: BTreeMap<Key, u64>,
}

#[derive(Clone, Default)]
struct Held {
    runs: Vec<Arc<Run>>,
    frozen: Vec<Arc<Frozen>>,
}

/// See the module.
pub(crate) struct Runs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    secret: [u8; 32],
    held: RwLock<Arc<Held>>,
    /// Whether somebody writes runs.
    writing: AtomicBool,
    /// Whether a run was found to say what is not so: nothing is made of runs any more.
    disowned: AtomicBool,
}

impl Runs {
    /// Opens the folder. `fits` says whether a run with this head and these rotations is of this log; those that are not, or that the
    /// others do not lead to, are removed.
    ///
    /// # Errors
    /// `Io`, and those of `fits`.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        secret: [u8; 32],
        fits: &dyn Fn(&Head, &[Retired]) -> Outcome<bool>,
    ) -> Outcome<Self> {
        let os = |e: io::Error| Failure::os(dir.display(), &e);
        disk.create_dir_all(&dir).map_err(os)?;
        let files = disk.list(&dir).map_err(os)?.into_iter();
        let files = files.filter(|entry| entry.kind == EntryKind::File);
        let mut paths: Vec<PathBuf> = files.map(|entry| entry.path).collect();
        let (mut runs, mut end): (Vec<Arc<Run>>, _) = (Vec::new(), 0);
        // Each time the longest of those that begin where the one before ends.
        while let Some(at) = longest_from(end, &paths) {
            let path = paths.swap_remove(at);
            match Run::open(&*disk, &path, &secret)? {
                Some(run) if fits(&run.head, &run.rotations)? => {
                    end = run.head.end;
                    runs.push(Arc::new(run));
                }
                _ => {
                    tracing::warn!("ledger: {} is not believed: made anew", path.display());
                    remove(&*disk, &path)?;
                }
            }
        }
        paths.iter().try_for_each(|path| remove(&*disk, path))?;
        let held = Held {
            runs,
            frozen: Vec::new(),
        };
        Ok(Self {
            disk,
            dir,
            secret,
            held: RwLock::new(Arc::new(held)),
            writing: AtomicBool::new(false),
            disowned: AtomicBool::new(false),
        })
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Held::clone(&held);
        change(&mut next);
        *held = Arc::new(next);
    }

    /// What the newest run says of the log: a start need not read the entries below its end.
    pub(crate) fn newest(&self) -> Option<(Head, Vec<Retired>)> {
        let held = self.held();
        held.runs
            .last()
            .map(|run| (run.head, run.rotations.clone()))
    }

    /// Takes the writer's seat, if it is free; [`Self::write`] gives it back.
    pub(crate) fn begin(&self) -> bool {
        !self.writing.swap(true, Ordering::AcqRel)
    }

    /// What a look-up led to is not what was looked up: no run is believed any more, and none is made of another.
    pub(crate) fn disown(&self) {
        if !self.disowned.swap(true, Ordering::AcqRel) {
            tracing::error!("ledger: the index lies; it is removed, the next start makes it anew");
        }
        self.held().runs.iter().for_each(|run| self.discard(run));
    }

    /// Takes over the keys of a log that has this root: they are found here from now on, and are in a run after
    /// [`Self::write`].
    pub(crate) fn freeze(&self, index: &mut Index, root: NodeHash) {
        let state = index.state();
        let rotations: Vec<Retired> = state.retired.values().copied().collect();
        let head = Head {
            first: index.first(),
            end: index.size(),
            root,
            records: 0,
            block: state.block.map(|block| block.leaf_index),
            audit: state.audit.map(|audit| audit.leaf_index),
            rotations: rotations.len() as u64,
        };
        let frozen = Frozen {
            head,
            rotations,
            keys: index.give(),
        };
        self.change(|held| held.frozen.push(Arc::new(frozen)));
    }

    /// Where the first entry under a key is.
    ///
    /// # Errors
    /// `Io` when a run cannot be read, or is not what was written: it is then removed, and the next start makes it
    /// anew.
    pub(crate) fn find(&self, key: &Key) -> Outcome<Option<u64>> {
        let held = self.held();
        for run in &held.runs {
            let found = run.find(key).inspect_err(|_| self.forget(run))?;
            if let Some(at) = found {
                return Ok(Some(at));
            }
        }
        Ok(held.frozen.iter().find_map(|f| f.keys.get(key).copied()))
    }

    /// Removes a run that is not what was written.
    fn forget(&self, run: &Run) {
        if !run.is_whole() {
            self.discard(run);
        }
    }

    /// What cannot be removed is met again, and told again.
    fn discard(&self, run: &Run) {
        if let Err(e) = remove(&*self.disk, &run.path) {
            tracing::error!("ledger: a run of the index that is not to be believed stays: {e}");
        }
    }

    /// Makes a run of what is frozen, then one of every four of a size; whoever calls has taken the seat. After a
    /// failure, which is told, all keys are still found, and the next call tries again.
    pub(crate) fn write(&self) {
        if let Err(e) = self.write_all() {
            tracing::warn!("ledger: the index stays in memory until it can be written: {e}");
        }
        self.writing.store(false, Ordering::Release);
    }

    fn write_all(&self) -> Outcome<()> {
        if self.disowned.load(Ordering::Acquire) {
            return Err(Failure::io("it lies, until the next start"));
        }
        let frozen = self.held().frozen.clone();
        if let Some(head) = over(frozen.iter().map(|f| (f.head, &*f.rotations))) {
            let parts = frozen.iter().map(|f| Records::of(&f.keys)).collect();
            let run = Run::write(&*self.disk, &self.dir, &self.secret, head, parts)?;
            let run = Arc::new(run);
            self.change(|held| {
                held.runs.push(run);
                held.frozen.drain(..frozen.len());
            });
        }
        loop {
            let held = self.held();
            let old = due(&held.runs);
            let Some(head) = over(old.iter().map(|run| (run.head, &*run.rotations))) else {
                return Ok(());
            };
            let parts = old.iter().map(|run| run.records()).collect();
            let run = Run::write(&*self.disk, &self.dir, &self.secret, head, parts)
                .inspect_err(|_| old.iter().for_each(|run| self.forget(run)))?;
            let run = Arc::new(run);
            self.change(|now| {
                now.runs.truncate(held.runs.len() - old.len());
                now.runs.push(run);
            });
            // Whoever reads in one of them still has it open.
            old.iter()
                .try_for_each(|run| remove(&*self.disk, &run.path))?;
        }
    }
}

/// The head over neighbours: from the first entry of the first to what is known at the end of the last.
fn over<'r>(
    heads: impl Iterator<Item = (Head, &'r [Retired])> + Clone,
) -> Option<(Head, &'r [Retired])> {
    let ((Head { first, .. }, _), (last, rotations)) = (heads.clone().next()?, heads.last()?);
    Some((Head { first, ..last }, rotations))
}

/// The newest runs, if there are [`FAN`] of them of a size: none if nothing is to be made one.
fn due(runs: &[Arc<Run>]) -> &[Arc<Run>] {
    let newest = runs.len().checked_sub(FAN).and_then(|at| runs.get(at..));
    match newest {
        Some(four @ [oldest, .., last]) if size(oldest) <= size(last) => four,
        _ => &[],
    }
}

/// How many times four of the shortest runs went into it.
fn size(run: &Run) -> u32 {
    run.head.end.saturating_sub(run.head.first).max(1).ilog2() / FAN.ilog2()
}

fn longest_from(first: u64, paths: &[PathBuf]) -> Option<usize> {
    let spans = paths.iter().map(|path| file::span(path));
    let begins = spans.enumerate().filter_map(|(at, span)| {
        let (begin, end) = span?;
        (begin == first && end > first).then_some((end, at))
    });
    begins.max().map(|(_, at)| at)
}

/// Not synced: what a crash brings back is removed by the next start.
fn remove(disk: &dyn Disk, path: &Path) -> Outcome<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::os(path.display(), &e)),
        _ => Ok(()),
    }
}
