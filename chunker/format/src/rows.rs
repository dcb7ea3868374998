//! Rows in memory, and the rules that bind them to their metadata.
//!
//! One place holds these rules for both directions: [`check`] is called by `seal` before writing and by
//! `open` after reading, so the two cannot drift apart. What metadata must be in itself is
//! `ChunkMeta::check`'s.

use std::ops::Range;

use chordae_base::{Failure, Outcome, Span};
use chordae_chain::meta::ChunkMeta;

/// The rows of a chunk, column by column; every column has the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkRows {
    /// Mapped sample times, ns, strictly increasing.
    pub times: Vec<i64>,
    /// Codes per lead, in the order of the metadata; `wire::NO_VALUE` where there is none.
    pub leads: Vec<Vec<i32>>,
}

impl ChunkRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The indexes of the rows inside a span.
    pub fn within(&self, span: Span) -> Range<usize> {
        let start = self.times.partition_point(|t| *t < span.from_ns);
        let end = self.times.partition_point(|t| *t < span.until_ns);
        start..end.max(start)
    }
}

/// Checks rows against metadata that passed `ChunkMeta::check`.
///
/// # Errors
/// `BadInput` naming the rule that is broken; `Damaged` when number or times contradict the metadata.
pub(crate) fn check(meta: &ChunkMeta, rows: &ChunkRows) -> Outcome<()> {
    let slot_end = meta.slot_start_ns.saturating_add(meta.slot_len_ns);
    let outside = |t: Option<&i64>| t.is_none_or(|t| *t < meta.slot_start_ns || slot_end <= *t);
    let broken = if rows.leads.len() != meta.leads.len() {
        "columns differ from the leads"
    } else if rows.leads.iter().any(|lead| lead.len() != rows.times.len()) {
        "columns are of unequal length"
    } else if !rows.times.is_sorted_by(|a, b| a < b) {
        "times do not increase strictly"
    } else if outside(rows.times.first()) || outside(rows.times.last()) {
        "rows lie outside the slot, or there are none"
    } else {
        return meta.check_times(&rows.times).map_err(|e| e.during("chunk"));
    };
    Err(Failure::bad_input(format!("chunk: {broken}")))
}
