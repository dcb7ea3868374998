//! Buckets: the open rows of a lane in a slot, as pieces of frames; the codes stay in the WAL.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use chordae_base::{Rate, StreamKey, wire::Lead};
use chordae_chain::meta::Lane;

use super::{
    cut::Cell,
    deadlines::SealReason,
    times::{Fact, Mapping, Times},
};

/// Rows of a frame that lie in one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The frame.
    pub fact: Fact,
    /// Which of its samples.
    pub rows: Range<u32>,
    /// How they get their times.
    pub times: Times,
    /// The frame whose end they were spread against; the WAL keeps it until this piece is linked.
    pub leans_on: Option<u64>,
    /// A chunk is cut in front of this piece.
    pub step: bool,
    /// Time of the first row.
    pub first_ns: i64,
    /// Time of the last row.
    pub last_ns: i64,
}

impl Piece {
    /// Rows of the piece.
    pub fn count(&self) -> usize {
        self.rows.len()
    }
}

/// What the rows of a chunk have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Boot of the device.
    pub boot: u64,
    /// Live or late.
    pub lane: Lane,
    /// Did and slot.
    pub cell: Cell,
    /// Clock mapping.
    pub mapping: Mapping,
}

/// What the births of a boot say about its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Samples per second.
    pub rate: Rate,
    /// The leads.
    pub leads: Vec<Lead>,
}

/// An open bucket. A bucket without pieces holds only covered rows (see `coverage`): it keeps time,
/// so that replay cuts where life cut, and is sealed into nothing.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Number of its stream in the windower.
    pub stream: u32,
    /// What its rows share.
    pub key: Key,
    /// Rate and leads.
    pub shape: Arc<Shape>,
    /// By seq.
    pub pieces: BTreeMap<u64, Piece>,
    /// Rows of all pieces.
    pub rows: usize,
    /// When it was opened.
    pub opened_ns: i64,
    /// When a frame last reached it.
    pub touched_ns: i64,
    /// Time of the newest row, covered ones too.
    pub last_ns: i64,
}

/// An order to seal: everything a chunk's metadata and rows are made from.
#[derive(Debug, Clone)]
pub struct SealOrder {
    /// Number of the order.
    pub id: u64,
    /// The stream.
    pub stream: StreamKey,
    /// What the rows share.
    pub key: Key,
    /// Rate and leads.
    pub shape: Arc<Shape>,
    /// In order of seq; times increase strictly over all rows.
    pub pieces: Vec<Piece>,
    /// Why now.
    pub reason: SealReason,
}

impl SealOrder {
    /// Rows of the chunk.
    pub fn rows(&self) -> usize {
        self.pieces.iter().map(Piece::count).sum()
    }

    /// Codes of the chunk: rows times leads.
    pub fn codes(&self) -> u64 {
        let leads = u64::try_from(self.shape.leads.len()).unwrap_or(u64::MAX);
        u64::try_from(self.rows())
            .unwrap_or(u64::MAX)
            .saturating_mul(leads)
    }

    /// `end_ns` of the chunk: one sample after the last row, at most the slot's end.
    pub fn end_ns(&self) -> i64 {
        let last = self
            .pieces
            .last()
            .map_or(self.key.cell.slot_start_ns, |p| p.last_ns);
        let sample = self.shape.rate.after_ns(1).unwrap_or(0);
        last.saturating_add(sample).min(self.key.cell.end_ns())
    }
}
