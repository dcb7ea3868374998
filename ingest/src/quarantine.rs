//! The folder `quarantine/`: a `base::journal` of [`Quarantined`] records, never trimmed by us.
//!
//! Written and synced before the log record that settles the frame, and before any acknowledgement: a
//! crash between the two leaves a second copy here after the device has sent again, never none.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Outcome,
    journal::{Journal, Opened, Reader, Settings},
    limits,
    seams::Disk,
};

use crate::core::quarantined::Quarantined;

/// See the module.
pub struct Quarantine {
    journal: Journal,
}

impl Quarantine {
    /// Opens the folder.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset; `Io`.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Outcome<Self> {
        let settings = Settings::small(dir, limits::RECORD_BYTES_MAX);
        let Opened { journal, torn } = Journal::open(disk, settings)?;
        if let Some(torn) = torn {
            tracing::warn!(
                at = torn.at,
                bytes = torn.bytes,
                "quarantine: torn tail cut"
            );
        }
        Ok(Self { journal })
    }

    /// Writes and syncs records; gives their positions.
    ///
    /// # Errors
    /// `Io`, which consumes the journal.
    pub fn commit(self, records: &[Bytes]) -> Outcome<(Self, Vec<u64>)> {
        let mut journal = self.journal;
        if journal.wants_roll() {
            (journal, _) = journal.roll(&[])?;
        }
        let (journal, durable) = journal.commit(records)?;
        Ok((Self { journal }, durable.positions().to_vec()))
    }

    /// Writes the idle mark, if there is something to mark.
    ///
    /// # Errors
    /// `Io`, which consumes the journal.
    pub fn mark(self) -> Outcome<Self> {
        Ok(Self {
            journal: self.journal.mark()?,
        })
    }

    /// A reader of what is durable.
    pub fn reader(&self) -> QuarantineReader {
        QuarantineReader {
            reader: self.journal.reader(),
        }
    }
}

/// Reads what lies in quarantine.
#[derive(Clone)]
pub struct QuarantineReader {
    reader: Reader,
}

impl QuarantineReader {
    /// Head and payload of the record at `position`.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn read(&self, position: u64) -> Outcome<(Quarantined, Bytes)> {
        Quarantined::decode(&self.reader.read(position)?)
    }

    /// All records in order.
    ///
    /// # Errors
    /// `Damaged`, `Io`, and whatever `visit` returns.
    pub fn scan(
        &self,
        visit: &mut dyn FnMut(u64, Quarantined, Bytes) -> Outcome<()>,
    ) -> Outcome<()> {
        self.reader.scan(0, &mut |position, bytes| {
            let (head, payload) = Quarantined::decode(&bytes)?;
            visit(position, head, payload)
        })?;
        Ok(())
    }
}
