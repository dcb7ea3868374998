//! The start: nothing that is stored is believed before it leads to the checkpoint, and the checkpoint
//! not before its signature holds under our own key.
//!
//! ```text
//! checkpoint ─ verified ─▶ size, root
//! bundles ─▶ leaf hashes ─▶ every tile made again, compared ─▶ root, compared
//! pending: old size = size    finished through `apply`, unchanged
//!          new size = size    history
//!          anything else      the ledger was rolled back, or the pending form was: stop
//! ```

use std::{path::PathBuf, sync::Arc};

use chordae_base::{Failure, FailureKind, Outcome, seams::Disk};
use chordae_chain::{
    checkpoint::{self, Checkpoint, TrustedLog},
    event, merkle,
    policy::Policy,
};

use super::{LedgerKeys, View, apply::apply, cosigned::Quorum, files::Files};
use crate::core::{
    batch::{Batch, PENDING_BYTES_MAX},
    index::Index,
    tree::{self, TILE_WIDTH, TileFile, Tree},
};

/// Where the log lies and what it is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data folder: the log lies in `ledger/`, the pending batch beside it in `ledger.pending`.
    pub data_dir: PathBuf,
    /// The log's name.
    pub origin: String,
    /// Witnesses that receipts wait for; `None`: every checkpoint counts at once.
    pub policy: Option<Policy>,
}

pub(super) struct Opened {
    pub(super) files: Files,
    pub(super) pending: PathBuf,
    pub(super) log: TrustedLog,
    pub(super) tree: Tree,
    pub(super) view: View,
    pub(super) quorum: Option<Quorum>,
}

pub(super) fn open(disk: Arc<dyn Disk>, settings: &Settings, keys: &LedgerKeys) -> Outcome<Opened> {
    let dir = settings.data_dir.join("ledger");
    disk.create_dir_all(&dir)
        .map_err(|e| Failure::os(dir.display(), &e))?;
    // A killed process may have left the names of checkpoint and pending batch in a cache that was never
    // synced. They are now: what follows is built on them, and must not outlive them.
    for holds_names in [&dir, &settings.data_dir] {
        disk.sync_dir(holds_names)
            .map_err(|e| Failure::os(format_args!("sync {}", holds_names.display()), &e))?;
    }
    let log = TrustedLog::new(&settings.origin, &keys.log.sign_public())?;
    let files = Files::new(disk, dir);
    let pending_path = settings.data_dir.join("ledger.pending");
    let pending = read_pending(&files, &pending_path)?;
    let text = first_checkpoint(&files, settings, keys, pending.as_ref())?;
    let covered = checkpoint::open(&text, &log).map_err(|e| damaged(e, "ledger/checkpoint"))?;
    let (mut tree, mut index) = read_log(&files, &covered)?;
    let mut view = View {
        checkpoint: covered,
        text,
        index: Index::default(),
        waits: false,
        cosigned: None,
    };
    match pending {
        // The newest batch's form stays until the next one: history, if it names the same root.
        Some(batch)
            if batch.new_size == view.checkpoint.size && batch.root == view.checkpoint.root => {}
        Some(batch) if batch.new_size == view.checkpoint.size => {
            return Err(Failure::damaged(
                "ledger/checkpoint and ledger.pending name two roots for one size: a fork",
            ));
        }
        Some(batch) if batch.old_size == view.checkpoint.size => {
            let applied = apply(&files, &tree, &batch, &settings.origin, &keys.log)
                .map_err(|e| e.during("ledger.pending"))?;
            for entry in &batch.entries {
                index.append(merkle::leaf_hash(entry), &event::decode(entry)?);
            }
            tracing::info!(
                "ledger: finished the pending batch up to entry {}",
                batch.new_size
            );
            (tree, view.checkpoint, view.text) = (applied.tree, applied.checkpoint, applied.text);
        }
        Some(batch) => {
            let (old, size) = (batch.old_size, view.checkpoint.size);
            return Err(Failure::damaged(format!(
                "ledger.pending stands on {old} entries but the ledger has {size}: one was rolled back"
            )));
        }
        // New, or brought back from a copy of the log alone.
        None => {}
    }
    view.index = index;
    files.sweep(view.checkpoint.size)?;
    let policy = settings.policy.clone().filter(|p| p.demands_witnesses());
    let quorum = policy.map(|policy| Quorum::new(policy, &settings.data_dir));
    view.waits = quorum.is_some();
    if let Some(quorum) = &quorum {
        view.cosigned = quorum.read(&files, &view.checkpoint)?;
    }
    Ok(Opened {
        files,
        pending: pending_path,
        log,
        tree,
        view,
        quorum,
    })
}

fn read_pending(files: &Files, path: &std::path::Path) -> Outcome<Option<Batch>> {
    let bytes = match files.disk.read(path, PENDING_BYTES_MAX) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|e| Failure::os(path.display(), &e))?,
    };
    Batch::decode(&bytes)
        .map(Some)
        .map_err(|e| e.during(path.display()))
}

/// The checkpoint's text; a ledger without one is new, and must then be empty.
fn first_checkpoint(
    files: &Files,
    settings: &Settings,
    keys: &LedgerKeys,
    pending: Option<&Batch>,
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
    if foreign || pending.is_some() {
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
    files.put_checkpoint(&text)?;
    Ok(text)
}

/// Reads every entry, makes every tile again, compares both with the disk and the checkpoint.
fn read_log(files: &Files, covered: &Checkpoint) -> Outcome<(Tree, Index)> {
    let (mut tree, mut index) = (Tree::new(), Index::default());
    for number in 0..covered.size.div_ceil(TILE_WIDTH) {
        let entries = files.bundle(number, covered.size)?;
        for (i, entry) in entries.iter().enumerate() {
            let at = number * TILE_WIDTH + i as u64;
            let signed =
                event::decode(entry).map_err(|e| damaged(e, &format!("ledger entry {at}")))?;
            index.append(merkle::leaf_hash(entry), &signed);
        }
        let made = tree.extend(&entries)?;
        // Those that are partial on the way are not stored: partial tiles stand at checkpoint sizes only.
        let full = |f: &&TileFile| u64::from(f.tile.width()) == TILE_WIDTH;
        for file in made.iter().filter(full) {
            compare(files, file)?;
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

fn damaged(e: Failure, what: &str) -> Failure {
    Failure {
        kind: FailureKind::Damaged,
        ..e.during(what)
    }
}
