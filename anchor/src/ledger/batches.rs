//! The journal of batches, `ledger.batches/` (docs/FORMATS.md 5): one sync makes a batch durable, and with it every
//! tile, bundle and checkpoint that follow from it.
//!
//! ```text
//! settled 0 │ batch │ batch │ ... │ settled n │ batch │ batch ...
//!                     in `ledger/` ┘          └ not in `ledger/` yet: a start applies it again ┘
//! ```
//!
//! `settled` is a signed checkpoint that lies in `ledger/`, with every tile under it. Everything before the newest one is
//! history; a full segment is rolled to begin with one, and the old one goes.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome,
    journal::{Journal, Settings},
    limits,
    seams::Disk,
};

use super::files::{Files, Unsettled};
use crate::core::batch::{Batch, Record};

pub(super) struct Batches {
    journal: Option<Journal>,
    /// Batches behind the newest `settled`.
    behind: usize,
}

/// What the start finds.
pub(super) struct Left {
    /// The newest `settled`: a checkpoint's text, not verified.
    pub(super) settled: String,
    /// The batches behind it, each standing on the one before.
    pub(super) batches: Vec<Batch>,
}

impl Batches {
    /// Opens it; nothing is left in a new one.
    ///
    /// # Errors
    /// `Damaged` for records that do not stand on each other, and as [`Journal::open`]; `Io`.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Outcome<(Self, Option<Left>)> {
        let opened = Journal::open(
            disk,
            Settings {
                dir,
                segment_bytes: limits::LEDGER_BATCHES_SEGMENT_BYTES,
                room_bytes: limits::LEDGER_BATCHES_ROOM_BYTES,
                record_bytes_max: limits::LEDGER_BATCH_BYTES_MAX,
            },
        )?;
        if let Some(torn) = opened.torn {
            // Not durable, so nobody was told of it.
            tracing::warn!(
                "ledger.batches: {} bytes of a torn tail were cut",
                torn.bytes
            );
        }
        let mut left: Option<Left> = None;
        let reader = opened.journal.reader();
        reader.scan(opened.journal.start(), &mut |at, record| {
            match (Record::decode(&record)?, &mut left) {
                (Record::Settled(settled), _) => {
                    let batches = Vec::new();
                    left = Some(Left { settled, batches });
                }
                (Record::Batch(batch), Some(left))
                    if left
                        .batches
                        .last()
                        .is_none_or(|last| last.new_size == batch.old_size) =>
                {
                    left.batches.push(batch);
                }
                (Record::Batch(_), _) => {
                    return Err(Failure::damaged(format!(
                        "ledger.batches: the batch at {at} does not stand on what is before it"
                    )));
                }
            }
            Ok(())
        })?;
        let batches = Self {
            journal: Some(opened.journal),
            behind: left.as_ref().map_or(0, |left| left.batches.len()),
        };
        Ok((batches, left))
    }

    /// What a new journal begins with.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn begin(&mut self, left: &Left) -> Outcome<()> {
        let settled = Record::Settled(left.settled.clone()).encode();
        let batches = left.batches.iter().map(Batch::encode);
        let records = std::iter::once(settled).chain(batches);
        let records = records.map(|record| record.map(Bytes::from));
        self.append(&records.collect::<Outcome<Vec<_>>>()?)?;
        self.behind = left.batches.len();
        Ok(())
    }

    /// Makes a batch durable: from here on it, and no other, follows the size that it stands on.
    ///
    /// # Errors
    /// `Io`, from the first failed write on.
    pub(super) fn commit(&mut self, batch: &Batch) -> Outcome<()> {
        self.append(&[Bytes::from(batch.encode()?)])?;
        self.behind += 1;
        Ok(())
    }

    /// Brings `ledger/` up to this newest checkpoint, durable: the tiles, then the checkpoint; and says so. Gives the space of
    /// full segments back, and of the partial tiles whose full ones are durable now.
    ///
    /// # Errors
    /// `Io`, from the first failed write on.
    pub(super) fn settle(
        &mut self,
        files: &Files,
        unsettled: &mut Unsettled,
        checkpoint: &str,
    ) -> Outcome<()> {
        files.sync(unsettled)?;
        // A crash before this leaves the log of the `settled` before, whole, and after it that of this checkpoint.
        files.write_checkpoint(checkpoint)?;
        let record = Bytes::from(Record::Settled(checkpoint.to_owned()).encode()?);
        if self.is_full() {
            let journal = self.journal.take().ok_or_else(closed)?;
            let floor = journal.durable();
            // A crash between the two leaves old segments, of which only the newest record counts.
            let (journal, _) = journal.roll(&[record])?;
            self.journal = Some(journal.trim(floor)?);
        } else {
            self.append(&[record])?;
        }
        self.behind = 0;
        // Not before: the log of the `settled` before this one needed them. Whoever wants the partial one of a full tile
        // takes the beginning of that. What is left behind here is only space.
        for tile in unsettled.take_full() {
            if let Err(e) = files.remove_partials(&tile) {
                tracing::warn!("ledger: partial tiles stay: {e}");
            }
        }
        Ok(())
    }

    /// Batches behind the newest `settled`.
    pub(super) fn behind(&self) -> usize {
        self.behind
    }

    /// Whether a segment is full, so that its space could be given back.
    pub(super) fn is_full(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::wants_roll)
    }

    fn append(&mut self, records: &[Bytes]) -> Outcome<()> {
        let journal = self.journal.take().ok_or_else(closed)?;
        let (journal, _) = journal.commit(records)?;
        self.journal = Some(journal);
        Ok(())
    }
}

fn closed() -> Failure {
    Failure::io("the journal of batches failed; the ledger goes on after a restart")
}
