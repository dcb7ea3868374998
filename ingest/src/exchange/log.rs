//! The journal `mqtt/`.
//!
//! ```text
//! segment: snapshot ─ step ─ step ─ ...  │  segment: snapshot ─ ...      the older one is then removed
//! ```
//!
//! Every start begins a segment, and so does a full one: once as much has been written behind the snapshot
//! as the segment or the snapshot is large, so that the cost of snapshots stays in proportion. What has
//! not been committed when a segment begins is in its snapshot already.
//!
//! A crash between beginning a segment and removing the older ones leaves them: they are folded first, and
//! the snapshot, or what there is of it, changes nothing (`core::exchange::snapshot`).

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Outcome,
    journal::{Journal, Opened, Settings},
    seams::Disk,
};

use crate::core::exchange::{
    board::Board,
    codec::{Decoder, encode},
};

/// See the module. Every call takes it and gives it back only on success.
pub(super) struct Log {
    journal: Journal,
    /// Where the newest segment begins, and where its snapshot ends.
    begun: u64,
    snapshot_end: u64,
    segment_bytes: u64,
}

impl Log {
    /// Opens the journal and folds it onto the board.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segment_bytes: u64,
        board: &mut Board,
    ) -> Outcome<Self> {
        let settings = Settings::large(dir, segment_bytes);
        let Opened { journal, torn } = Journal::open(disk, settings)?;
        if let Some(torn) = torn {
            tracing::warn!(at = torn.at, bytes = torn.bytes, "exchange: torn tail cut");
        }
        let mut decoder = Decoder::default();
        journal.reader().scan(0, &mut |_, bytes| {
            for record in decoder.read(bytes)? {
                board.fold(&record);
            }
            Ok(())
        })?;
        let end = journal.durable();
        Ok(Self {
            journal,
            begun: end,
            snapshot_end: end,
            segment_bytes,
        })
    }

    /// Begins a segment with all that is kept, and removes the older ones.
    pub(super) fn begin(mut self, board: &Board) -> Outcome<Self> {
        self.begun = self.journal.durable();
        let entries: Vec<Bytes> = board.snapshot().iter().map(encode).collect();
        (self.journal, _) = self.journal.roll(&entries)?;
        self.snapshot_end = self.journal.durable();
        self.journal = self.journal.trim(self.begun)?;
        Ok(self)
    }

    /// Writes and syncs the entries, all with one sync; what they say is on the board already.
    pub(super) fn commit(mut self, board: &Board, entries: &[Bytes]) -> Outcome<Self> {
        let written = self.journal.durable().saturating_sub(self.snapshot_end);
        let snapshot = self.snapshot_end.saturating_sub(self.begun);
        if written >= self.segment_bytes.max(snapshot) {
            return self.begin(board);
        }
        (self.journal, _) = self.journal.commit(entries)?;
        Ok(self)
    }

    /// Writes the idle mark, if there is something to mark.
    pub(super) fn mark(mut self) -> Outcome<Self> {
        self.journal = self.journal.mark()?;
        Ok(self)
    }
}
