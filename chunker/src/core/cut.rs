//! Cutting: a frame into cells, a bucket into chunks (formats.md 3).
//!
//! A *cell* is one did and one slot. Row times increase within a frame, so the rows of a frame that
//! fall into a cell are one range, and each row falls into exactly one cell: the cells of a plan are
//! half-open and tile the time axis.
//!
//! A bucket becomes more than one chunk where rows would not increase strictly, where the clock
//! stepped back, or where the list of missing seqs would grow too long. Cuts fall between frames.

use std::ops::Range;

use chordae_base::{
    Did, Outcome, Rate, StreamPlan,
    limits::{CHUNK_MISSING_MAX, CHUNK_ROWS_MAX},
    time,
};

use super::{
    bucket::Piece,
    times::{Fact, Times},
};

/// One did and one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The did.
    pub did: Did,
    /// Start of the slot.
    pub slot_start_ns: i64,
    /// Its length.
    pub slot_len_ns: i64,
}

impl Cell {
    /// The cell of a plan that holds a row at `t_ns`.
    pub fn of(plan: &StreamPlan, t_ns: i64) -> Self {
        let slot_len_ns = plan.slot_len_at(t_ns);
        let slot_start_ns = time::slot_start(t_ns, slot_len_ns);
        Self {
            did: plan.did_at(t_ns),
            slot_start_ns,
            slot_len_ns,
        }
    }

    /// First instant after the slot.
    pub fn end_ns(&self) -> i64 {
        self.slot_start_ns.saturating_add(self.slot_len_ns)
    }
}

/// Rows of a frame in one cell, with the times of the first and the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// The cell.
    pub cell: Cell,
    /// Samples of the frame, never empty.
    pub rows: Range<u32>,
    /// Time of the first.
    pub first_ns: i64,
    /// Time of the last.
    pub last_ns: i64,
}

/// Divides `rows` of a frame over the cells of a plan, in order.
///
/// # Errors
/// `BadInput` when a time leaves 64 bits; then nothing of the frame may be placed.
pub fn portions(
    plan: &StreamPlan,
    fact: &Fact,
    times: Times,
    rate: Rate,
    rows: Range<u32>,
) -> Outcome<Vec<Portion>> {
    let at = |k: u32| times.at(k, fact.samples, rate);
    let mut out = Vec::new();
    let mut start = rows.start;
    while start < rows.end {
        let first_ns = at(start)?;
        let cell_end = plan.cell_end(first_ns);
        // The first row at or after the cell's end, by halving (start, rows.end].
        let (mut low, mut high) = (start + 1, rows.end);
        while low < high {
            let mid = low + (high - low) / 2;
            if at(mid)? < cell_end {
                low = mid + 1
            } else {
                high = mid
            }
        }
        let cell = Cell::of(plan, first_ns);
        out.push(Portion {
            cell,
            rows: start..low,
            first_ns,
            last_ns: at(low - 1)?,
        });
        start = low;
    }
    Ok(out)
}

/// Divides the pieces of a bucket, in order of seq, into the pieces of chunks.
pub fn runs(pieces: impl IntoIterator<Item = Piece>) -> Vec<Vec<Piece>> {
    let mut runs: Vec<Vec<Piece>> = Vec::new();
    let (mut missing, mut rows) = (0usize, 0usize);
    for piece in pieces {
        let gap = |before: &Piece| before.fact.seq.checked_add(1) != Some(piece.fact.seq);
        let before = runs.last().and_then(|run| run.last());
        let breaks = before.is_none_or(|b| {
            piece.step
                || piece.first_ns <= b.last_ns
                || (missing >= CHUNK_MISSING_MAX && gap(b))
                || rows >= CHUNK_ROWS_MAX
        });
        if breaks {
            (missing, rows) = (0, piece.count());
            runs.push(vec![piece]);
            continue;
        }
        missing += usize::from(before.is_some_and(gap));
        rows += piece.count();
        if let Some(run) = runs.last_mut() {
            run.push(piece);
        }
    }
    runs
}
