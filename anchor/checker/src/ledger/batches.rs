//! The journal of batches beside the log: what was answered and is not in `ledger/` yet (docs/FORMATS.md 5).

use bytes::Bytes;
use chordae_base::{Failure, journal::scan_dir, limits};
use chordae_chain::{cbor, checkpoint::Checkpoint};
use ciborium::Value;

use super::body;
use crate::files::Folder;

/// What such a record of the journal of batches begins with.
const SETTLED: &str = "chordae settled 1";

/// What the journal says of the log beside it.
pub(super) struct Batches {
    /// The checkpoint up to which `ledger/` was brought last; its text, not verified.
    settled: String,
    /// Batches behind it.
    behind: u64,
}

impl Batches {
    /// Reads it; none where it is damaged, or absent.
    pub(super) fn read(folder: &Folder<'_>) -> Option<Self> {
        let mut batches = None;
        let mut visit = |_, record: Bytes| {
            match (settled(&record)?, &mut batches) {
                (Some(settled), _) => batches = Some(Self { settled, behind: 0 }),
                (None, Some(batches)) => batches.behind += 1,
                (None, None) => {}
            }
            Ok(())
        };
        let dir = folder.root.join("ledger.batches");
        let most = limits::LEDGER_BATCH_BYTES_MAX;
        scan_dir(folder.disk, &dir, most, &mut visit).ok()?;
        batches
    }

    /// Whether it holds what follows this checkpoint.
    pub(super) fn go_on_from(&self, checkpoint: &Checkpoint) -> bool {
        self.behind > 0 && body(&self.settled).as_ref() == Some(checkpoint)
    }

    /// What there is to say of a ledger that was not stopped in order.
    pub(super) fn note(&self) -> Option<String> {
        (self.behind > 0).then(|| {
            format!(
                "{} batches of the ledger stand in ledger.batches and were not checked: a start, and an orderly stop, bring \
                 them into ledger/",
                self.behind
            )
        })
    }
}

/// The checkpoint of a record `["chordae settled 1", checkpoint]`.
fn settled(record: &[u8]) -> Result<Option<String>, Failure> {
    let Value::Array(items) = cbor::decode(record)? else {
        return Ok(None);
    };
    Ok(match <[Value; 2]>::try_from(items) {
        Ok([Value::Text(word), Value::Text(text)]) if word == SETTLED => Some(text),
        _ => None,
    })
}
