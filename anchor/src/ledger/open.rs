//! The start: nothing that is stored is believed before it leads to the checkpoint, and the checkpoint
//! not before its signature holds under our own key, or under the one that ours has followed.
//!
//! ```text
//! checkpoint ─ verified ─▶ size, root
//! journal of batches, from the newest `settled` on:
//!     that or a batch of it is the checkpoint's   the batches go through `apply`, as they did live
//!     none is                                     the ledger was rolled back, or the journal was: stop
//! runs of the index: those of a log that this one begins with
//! bundles after them ─▶ leaf hashes ─▶ every tile over them made again, compared ─▶ root, compared
//! ```

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Duration,
};

use chordae_base::{Failure, FailureKind, Outcome, limits, seams::Disk};
use chordae_chain::{
    checkpoint::{Checkpoint, TrustedLog},
    event,
    merkle::{self, NodeHash},
    policy::Policy,
};
use tlog_tiles::{Hash, TileHashReader};

use super::{
    LedgerKeys, Shelf, View, batches::Batches, cosigned::Quorum, files::Files, finish::Start,
    runs::Runs, together::Together,
};
use crate::core::{
    index::{Index, Retired, State},
    ports::HeadSets as _,
    run::Head,
    tree::{self, TILE_WIDTH, TileFile, Tree},
};

/// Where the log lies and what it is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data folder: the log lies in `ledger/`, the journal of batches beside it in `ledger.batches/`.
    pub data_dir: PathBuf,
    /// The log's name.
    pub origin: String,
    /// Witnesses that receipts wait for; `None`: every checkpoint counts at once.
    pub policy: Option<Policy>,
    /// How often.
    pub cadence: Cadence,
}

/// When a batch is closed, and when keys go to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// A batch is closed when it has so many events, 1 to [`limits::BLOCK_EVENTS_MAX`],
    pub events: usize,
    /// or so long after its first one; zero: as soon as nothing more waits.
    pub wait: Duration,
    /// The keys of so many entries are kept in memory, and the entries read again at a start; then they become a
    /// run of the index.
    pub run_entries: u64,
    /// So many batches need not be in `ledger/` yet: a start after a crash applies them again.
    pub behind: usize,
    /// The first of them waits for it so long, or hardly longer.
    pub settle_after: Duration,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            events: limits::BLOCK_EVENTS_MAX,
            wait: Duration::ZERO,
            run_entries: limits::LEDGER_RUN_ENTRIES,
            behind: limits::LEDGER_BATCHES_BEHIND_MAX,
            settle_after: limits::LEDGER_SETTLE_AFTER,
        }
    }
}

pub(super) struct Opened {
    pub(super) shelf: Shelf,
    pub(super) batches: Batches,
    pub(super) log: TrustedLog,
    pub(super) tree: Tree,
    pub(super) quorum: Option<Quorum>,
}

pub(super) fn open(disk: Arc<dyn Disk>, settings: &Settings, keys: &LedgerKeys) -> Outcome<Opened> {
    let dir = settings.data_dir.join("ledger");
    disk.create_dir_all(&dir)
        .map_err(|e| Failure::os(dir.display(), &e))?;
    // A killed process may have left names in a cache that was never synced. They are now: what follows is built on
    // them, and must not outlive them.
    for holds_names in [&dir, &settings.data_dir] {
        disk.sync_dir(holds_names)
            .map_err(|e| Failure::os(format_args!("sync {}", holds_names.display()), &e))?;
    }
    let log = TrustedLog::new(&settings.origin, &keys.log.sign_public())?;
    let files = Files::new(disk, dir);
    let journal = settings.data_dir.join("ledger.batches");
    let (mut batches, left) = Batches::open(Arc::clone(&files.disk), journal)?;
    let stored = first_checkpoint(&files, settings, keys, left.is_some())?;
    let (covered, text) = Start {
        files: &files,
        settings,
        keys,
        log: &log,
    }
    .finish(&mut batches, left, &stored)?;
    let together = Together::new(Arc::clone(&files.disk), &settings.data_dir);
    let runs = open_runs(&files, settings, keys, &covered)?;
    let run_entries = settings.cadence.run_entries;
    let (tree, index) = read_log(&files, &together, &covered, &runs, run_entries)?;
    let mut view = View {
        checkpoint: covered,
        text,
        index,
        waits: false,
        cosigned: None,
    };
    files.sweep(view.checkpoint.size)?;
    let policy = settings.policy.clone().filter(|p| p.demands_witnesses());
    let quorum = policy.map(|policy| Quorum::new(policy, &settings.data_dir));
    view.waits = quorum.is_some();
    if let Some(quorum) = &quorum {
        view.cosigned = quorum.read(&files, &view.checkpoint)?;
    }
    let shelf = Shelf {
        files,
        together,
        runs: Arc::new(runs),
        view: Arc::new(RwLock::new(view)),
    };
    Ok(Opened {
        shelf,
        batches,
        log,
        tree,
        quorum,
    })
}

/// The checkpoint's text; a ledger without one is new, and must then be empty.
fn first_checkpoint(
    files: &Files,
    settings: &Settings,
    keys: &LedgerKeys,
    known: bool,
) -> Outcome<String> {
    if let Some(text) = files.checkpoint()? {
        return Ok(text);
    }
    // A wrong path or a lost file must not begin a second history.
    let entries = files
        .disk
        .list(&files.dir)
        .map_err(|e| Failure::os("ledger/", &e))?;
    let foreign = entries.iter().any(|e| !e.path.ends_with("checkpoint.tmp"));
    if foreign || known {
        return Err(Failure::damaged(
            "ledger/checkpoint is missing but the ledger is not empty",
        ));
    }
    let (origin, root) = (settings.origin.clone(), merkle::EMPTY_ROOT);
    let text = Checkpoint {
        origin,
        size: 0,
        root,
    }
    .sign(&keys.log.sign)?;
    Ok(text)
}

/// The runs of the index that this log begins with.
fn open_runs(
    files: &Files,
    settings: &Settings,
    keys: &LedgerKeys,
    covered: &Checkpoint,
) -> Outcome<Runs> {
    let dir = settings.data_dir.join("ledger.index");
    let secret = blake3::derive_key("chordae v1 index", keys.log.sign.as_bytes());
    let newest = (covered.size, covered.root);
    let of_this_log = |head: &Head, rotations: &[Retired]| {
        let earlier = Checkpoint {
            size: head.end,
            root: head.root,
            ..covered.clone()
        };
        // An entry that was changed is found when the entries are read again.
        Ok(files.begins_with(newest, &earlier)?
            && unless_damaged(state(files, head, rotations))?.is_some())
    };
    Runs::open(Arc::clone(&files.disk), dir, secret, &of_this_log)
}

/// What follows from the entries that a run and those before it cover.
///
/// # Errors
/// `Damaged` when the entries that the run names were changed, or are others than it says; `Io`.
fn state(files: &Files, head: &Head, rotations: &[Retired]) -> Outcome<State> {
    let mut index = Index::default();
    let places = rotations.iter().map(|retired| retired.leaf_index);
    for at in places.chain([head.audit, head.block].into_iter().flatten()) {
        let (leaf, entry) = files.entry(at, (head.end, head.root))?;
        let signed =
            event::decode(&entry).map_err(|e| damaged(e, &format!("ledger entry {at}")))?;
        index = Index::after(at, index.state().clone());
        index.append(leaf, &signed.event, None);
    }
    let mut state = index.state().clone();
    for retired in state.retired.values_mut() {
        // Read without its batch around it: where that ended is the run's word, as what is not found in it is.
        let said = rotations
            .iter()
            .find(|r| r.leaf_index == retired.leaf_index);
        retired.until = said.and_then(|said| said.until);
    }
    let named = (
        state.block.map(|b| b.leaf_index),
        state.audit.map(|a| a.leaf_index),
        state.retired.values().copied().collect::<Vec<_>>(),
    );
    if named != (head.block, head.audit, rotations.to_vec()) {
        return Err(Failure::damaged(format!(
            "the index names other entries than blocks, audit-heads and rotate-keys below entry {}",
            head.end
        )));
    }
    Ok(state)
}

/// Reads every entry that no run covers, makes every tile over them again, compares both with the disk and the
/// checkpoint. Where many are read their keys become runs on the way.
fn read_log(
    files: &Files,
    together: &Together,
    covered: &Checkpoint,
    runs: &Runs,
    run_entries: u64,
) -> Outcome<(Tree, Index)> {
    let (mut tree, mut index) = match runs.newest() {
        Some((head, rotations)) => begin_after(files, &head, &rotations)?,
        None => (Tree::new(), Index::default()),
    };
    for number in tree.size() / TILE_WIDTH..covered.size.div_ceil(TILE_WIDTH) {
        let entries = files.bundle(number, covered.size)?;
        let known = usize::try_from(tree.size() % TILE_WIDTH).unwrap_or(0);
        let entries = entries.get(known..).unwrap_or_default();
        if entries.is_empty() {
            continue;
        }
        for entry in entries {
            fold(&mut index, entry, together)?;
        }
        let made = tree.extend(entries)?;
        // Those that are partial on the way are not stored: partial tiles stand at checkpoint sizes only.
        let full = |f: &&TileFile| u64::from(f.tile.width()) == TILE_WIDTH;
        for file in made.iter().filter(full) {
            compare(files, file)?;
        }
        // If these entries turn out not to lead to the checkpoint, neither does the root in the run.
        if index.holds(run_entries) && runs.begin() {
            runs.freeze(&mut index, tree.root());
            runs.write();
        }
    }
    for file in tree.partial_tiles()? {
        compare(files, &file)?;
    }
    if tree.root() != covered.root {
        return Err(Failure::damaged(format!(
            "the {} entries of the ledger do not lead to the root of ledger/checkpoint",
            covered.size
        )));
    }
    Ok((tree, index))
}

/// Folds an entry in, with the heads that it names.
fn fold(index: &mut Index, entry: &[u8], together: &Together) -> Outcome<()> {
    let at = format!("ledger entry {}", index.size());
    let event = event::decode(entry).map_err(|e| damaged(e, &at))?.event;
    let heads = together.of(&event).map_err(|e| e.during(at))?;
    index.append(merkle::leaf_hash(entry), &event, heads.as_deref());
    Ok(())
}

/// The log where its runs end; the run was found to be of this log.
fn begin_after(files: &Files, head: &Head, rotations: &[Retired]) -> Outcome<(Tree, Index)> {
    let tree = edge(files, (head.end, head.root))?;
    Ok((tree, Index::after(head.end, state(files, head, rotations)?)))
}

/// The growing edge of the log of this size, read from its tiles and checked against its root.
pub(super) fn edge(files: &Files, (size, root): (u64, NodeHash)) -> Outcome<Tree> {
    let tail = match size % TILE_WIDTH {
        0 => Vec::new(),
        _ => files.bundle(size / TILE_WIDTH, size)?,
    };
    Tree::load(size, &TileHashReader::new(size, Hash(root), files), tail)
}

fn compare(files: &Files, made: &TileFile) -> Outcome<()> {
    let name = tree::path(&made.tile);
    match files.tile(&made.tile)? {
        Some(bytes) if bytes == made.bytes => Ok(()),
        Some(_) => Err(Failure::damaged(format!(
            "ledger/{name} does not fit the entries below it"
        ))),
        None => Err(Failure::damaged(format!("ledger/{name} is missing"))),
    }
}

pub(super) fn damaged(e: Failure, what: &str) -> Failure {
    Failure {
        kind: FailureKind::Damaged,
        ..e.during(what)
    }
}

fn unless_damaged<T>(outcome: Outcome<T>) -> Outcome<Option<T>> {
    match outcome {
        Err(e) if e.kind == FailureKind::Damaged => Ok(None),
        other => other.map(Some),
    }
}
