//! From a batch in the journal to its checkpoint: the one function for live batches and for those that
//! a crash left behind, so recovery is exercised by every batch.

use chordae_base::Outcome;
use chordae_chain::{checkpoint::Checkpoint, keys::SecretKeys};

use super::files::{Files, Unsettled};
use crate::core::{batch::Batch, tree::Tree};

/// What a batch became.
pub(super) struct Applied {
    pub(super) tree: Tree,
    pub(super) checkpoint: Checkpoint,
    pub(super) text: String,
}

/// Applies a batch that is durable in the journal.
///
/// # Errors
/// `Damaged` when it does not fit the tree; `Io`. After either the log must be opened anew.
pub(super) fn apply(
    files: &Files,
    unsettled: &mut Unsettled,
    tree: &Tree,
    batch: &Batch,
    origin: &str,
    log: &SecretKeys,
) -> Outcome<Applied> {
    // Before anything is written: the batch must lead from this tree to the root that it names.
    let (tree, made) = batch.grow(tree)?;
    // A crash leaves some of them, or torn ones: the next start writes the same bytes over them, because the journal
    // holds the batch until they are durable.
    files.put_tiles(made, unsettled)?;

    // Only now a signature exists that says so. Ed25519 is deterministic: after a crash the start comes here with
    // the same batch, and the same size and root are signed to the same bytes, so there are never two checkpoints of
    // one size, and what submitters are told from here on is so after any crash. The file follows when its tiles
    // are durable (`Batches::settle`).
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: batch.new_size,
        root: batch.root,
    };
    let text = checkpoint.sign(&log.sign)?;
    Ok(Applied {
        tree,
        checkpoint,
        text,
    })
}
