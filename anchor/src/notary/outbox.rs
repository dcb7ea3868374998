//! Signed events on their way into the log: a journal in `outbox/` (docs/FORMATS.md 10).
//!
//! One commit a round. A full segment is rolled when nothing is under way, and the old ones removed:
//! what they hold is in the log. A failed write is fatal to the outbox, and with it to anchoring, until
//! the next start; nothing is submitted that might not be durable.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome,
    journal::{Journal, Settings},
    limits,
    seams::Disk,
};

pub(super) struct Outbox(Option<Journal>);

impl Outbox {
    /// Opens it: the events that it still holds, oldest first, most of them long in the log.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Outcome<(Self, Vec<Bytes>)> {
        let settings = Settings::small(dir, limits::ENTRY_BYTES_MAX);
        let opened = Journal::open(disk, settings)?;
        if let Some(torn) = opened.torn {
            // Not durable, so never submitted: its head is signed anew.
            tracing::warn!(
                "notary: {} bytes of a torn outbox tail were cut",
                torn.bytes
            );
        }
        let mut left = Vec::new();
        opened
            .journal
            .reader()
            .scan(opened.journal.start(), &mut |_, record| {
                left.push(record);
                Ok(())
            })?;
        Ok((Self(Some(opened.journal)), left))
    }

    /// Makes events durable.
    ///
    /// # Errors
    /// `Io`, from the first failed write on.
    pub(super) fn commit(&mut self, events: &[Bytes]) -> Outcome<()> {
        if events.is_empty() {
            return Ok(());
        }
        let journal = self.0.take().ok_or_else(closed)?;
        let (journal, _) = journal.commit(events)?;
        self.0 = Some(journal);
        Ok(())
    }

    /// Gives the space of settled events back; `under_way` are the others.
    ///
    /// # Errors
    /// `Io`, which closes the outbox.
    pub(super) fn settle(&mut self, under_way: &[Bytes]) -> Outcome<()> {
        if !self.0.as_ref().is_some_and(Journal::wants_roll) {
            return Ok(());
        }
        let journal = self.0.take().ok_or_else(closed)?;
        let floor = journal.durable();
        // The new segment begins with what is not settled, so the old ones may go. A crash between the
        // two leaves events twice; the log counts them once.
        let (journal, _) = journal.roll(under_way)?;
        self.0 = Some(journal.trim(floor)?);
        Ok(())
    }
}

fn closed() -> Failure {
    Failure::io("the outbox failed; anchoring goes on after a restart")
}
