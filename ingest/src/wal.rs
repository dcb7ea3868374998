//! The write-ahead log: `wal/`, a `base::journal` of `WalRecord`s.
//!
//! ```text
//! segment: State* ─ Birth ─ Frame ─ ... ─ State* (at every start) ─ Frame ─ ...
//! ```
//!
//! Every segment begins with the state that earlier, trimmed segments knew, and so does what is written
//! after a start: a roll that was torn between two pieces of the state is made good by the next start.
//! What a crash means is in `base::journal`; a failed commit consumes the log, and this process never
//! acknowledges anything again.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome,
    journal::{Journal, Opened, Reader, Settings, TornTail},
    limits,
    record::WalRecord,
    seams::Disk,
};

use crate::unreplayable::Unreplayable;

/// Where the log lies and how large a segment grows.
#[derive(Debug, Clone)]
pub struct WalSettings {
    /// The folder.
    pub dir: PathBuf,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

impl WalSettings {
    /// Segments of the usual size.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            segment_bytes: limits::WAL_SEGMENT_BYTES,
        }
    }
}

/// See the module.
pub struct Wal {
    journal: Journal,
}

impl Wal {
    /// Opens the log; all of its tail is synced when it returns.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset; `Io`.
    pub fn open(disk: Arc<dyn Disk>, settings: WalSettings) -> Outcome<(Self, Option<TornTail>)> {
        let settings = Settings::large(settings.dir, settings.segment_bytes);
        let Opened { journal, torn } = Journal::open(disk, settings)?;
        Ok((Self { journal }, torn))
    }

    /// Writes and syncs records: one sync, however many. Gives their positions.
    ///
    /// # Errors
    /// `Io`, which consumes the log.
    pub fn commit(self, records: &[WalRecord]) -> Outcome<(Self, Vec<u64>)> {
        let (journal, durable) = self.journal.commit_each(records, WalRecord::put)?;
        Ok((Self { journal }, durable.into_positions()))
    }

    /// Begins a new segment with the state.
    ///
    /// # Errors
    /// `Io`, which consumes the log.
    pub fn roll(self, state: &[WalRecord]) -> Outcome<(Self, Vec<u64>)> {
        let bytes: Vec<Bytes> = state.iter().map(|r| r.encode().into()).collect();
        let (journal, durable) = self.journal.roll(&bytes)?;
        Ok((Self { journal }, durable.into_positions()))
    }

    /// Whether the newest segment is full.
    pub fn wants_roll(&self) -> bool {
        self.journal.wants_roll()
    }

    /// Writes the idle mark, if there is something to mark.
    ///
    /// # Errors
    /// `Io`, which consumes the log.
    pub fn mark(self) -> Outcome<Self> {
        Ok(Self {
            journal: self.journal.mark()?,
        })
    }

    /// Removes segments that end at or below `floor`.
    ///
    /// # Errors
    /// `Io`, which consumes the log.
    pub fn trim(self, floor: u64) -> Outcome<Self> {
        Ok(Self {
            journal: self.journal.trim(floor)?,
        })
    }

    /// Where the log begins.
    pub fn start(&self) -> u64 {
        self.journal.start()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Where the next record goes; everything below is durable.
    pub fn end(&self) -> u64 {
        self.journal.durable()
    }

    /// A reader of what is durable, for the chunker and for replay.
    pub fn frame_source(&self) -> WalReader {
        WalReader {
            reader: self.journal.reader(),
            failing: None,
        }
    }
}

/// Reads durable records. Cheap to clone; works while the log is written and trimmed.
#[derive(Clone)]
pub struct WalReader {
    reader: Reader,
    /// Counts what fails at the start, and passes over what is set aside.
    failing: Option<Arc<Unreplayable>>,
}

impl WalReader {
    /// As it is, with `failing` in the way of every replay.
    pub(crate) fn counting(self, failing: Arc<Unreplayable>) -> Self {
        Self {
            failing: Some(failing),
            ..self
        }
    }

    /// The record at `position`.
    ///
    /// # Errors
    /// `NotFound` below the start of the log, `Damaged`, `Io`.
    pub fn record(&self, position: u64) -> Outcome<WalRecord> {
        WalRecord::decode(self.reader.read(position)?)
    }

    /// The bytes of the record at `position`, as [`WalRecord::encode`] made them.
    ///
    /// # Errors
    /// `NotFound` below the start of the log, `Damaged`, `Io`.
    pub fn raw(&self, position: u64) -> Outcome<Bytes> {
        self.reader.read(position)
    }

    /// The payload of the frame recorded at `position`.
    ///
    /// # Errors
    /// As [`Self::record`]; `Internal` if another kind of record lies there.
    pub fn payload(&self, position: u64) -> Outcome<Bytes> {
        match self.record(position)? {
            WalRecord::Frame(frame) => Ok(frame.payload),
            _ => Err(Failure::internal(format!(
                "no frame lies at {position} of the log"
            ))),
        }
    }

    /// All records in order. The visitor's first error ends the visit.
    ///
    /// # Errors
    /// `Damaged`, `Io`, and whatever `visit` returns.
    pub fn replay(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        self.replay_until(u64::MAX, visit)
    }

    /// The records below `until`, in order: what the log held before the service began to append.
    ///
    /// # Errors
    /// `Damaged`, `Io`, and whatever `visit` returns.
    pub fn replay_until(
        &self,
        until: u64,
        visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>,
    ) -> Outcome<()> {
        self.reader.scan(0, &mut |position, bytes| {
            if position >= until {
                return Ok(());
            }
            let Some(failing) = &self.failing else {
                return visit(position, WalRecord::decode(bytes)?);
            };
            let record = bytes.clone();
            failing.try_one(position, &record, || {
                visit(position, WalRecord::decode(bytes)?)
            })
        })?;
        Ok(())
    }
}
