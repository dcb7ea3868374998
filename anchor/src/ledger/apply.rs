//! From a pending batch to a durable checkpoint: the one function for live batches and for those that
//! a crash left behind, so recovery is exercised by every batch.

use chordae_base::Outcome;
use chordae_chain::{checkpoint::Checkpoint, keys::SecretKeys};

use super::files::Files;
use crate::core::{
    batch::Batch,
    tree::{TILE_WIDTH, TileFile, Tree},
};

/// What a batch became.
pub(super) struct Applied {
    pub(super) tree: Tree,
    pub(super) checkpoint: Checkpoint,
    pub(super) text: String,
    /// Tiles that became full.
    pub(super) full: Vec<TileFile>,
}

/// Applies a batch whose pending form is durable.
///
/// # Errors
/// `Damaged` when it does not fit the tree; `Io`. After either the log must be opened anew.
pub(super) fn apply(
    files: &Files,
    tree: &Tree,
    batch: &Batch,
    origin: &str,
    log: &SecretKeys,
) -> Outcome<Applied> {
    // Before anything is written: the batch must lead from this tree to the root that it names. A crash
    // here leaves the pending form; the next start comes here again.
    let (after, made) = batch.grow(tree)?;

    // Bundles and tiles. A crash here leaves some that no checkpoint covers, torn ones too: nobody is told
    // of them, and the next start writes the same bytes over them, because the pending form fixes them.
    files.put_tiles(&made)?;

    // Only now a signature exists that says so. Ed25519 is deterministic: after a crash the same size
    // and root are signed to the same bytes, so there are never two checkpoints of one size.
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: batch.new_size,
        root: batch.root,
    };
    let text = checkpoint.sign(&log.sign)?;

    // A crash leaves the old checkpoint or this one. With the old one the next start finishes the pending
    // batch and signs these bytes again: what submitters are told from here on is so after any crash. The
    // name is durable before the next pending form is, which takes the place of this one.
    files.put_checkpoint(&text)?;

    let is_full = |file: &TileFile| u64::from(file.tile.width()) == TILE_WIDTH;
    let full = made.into_iter().filter(is_full).collect();
    Ok(Applied {
        tree: after,
        checkpoint,
        text,
        full,
    })
}
