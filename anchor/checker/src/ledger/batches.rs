//! The journal of batches beside the log.

use bytes::Bytes;
use chordae_base::{journal::scan_dir, limits};

use crate::files::Folder;

/// What such a record of the journal of batches begins with.
const SETTLED: &[u8] = b"chordae settled 1";

/// What to do first about a ledger that a power loss left: tiles behind the newest `settled` of its journal were not
/// synced, and a start writes them again (docs/FORMATS.md 5, decision 49).
pub(super) fn unfinished(folder: &Folder<'_>) -> Option<String> {
    let mut behind = 0_u64;
    let mut count = |_, record: Bytes| {
        // Behind two bytes that say: an array, a text.
        let settled = record
            .get(2..)
            .is_some_and(|word| word.starts_with(SETTLED));
        behind = if settled { 0 } else { behind + 1 };
        Ok(())
    };
    let dir = folder.root.join("ledger.batches");
    // Where it is damaged, or absent, there is nothing to say.
    scan_dir(
        folder.disk,
        &dir,
        limits::LEDGER_BATCH_BYTES_MAX,
        &mut count,
    )
    .ok()?;
    (behind > 0).then(|| {
        format!(
            "the ledger was not stopped in order; a start writes {behind} of its batches again: start it, stop it, and check again"
        )
    })
}
