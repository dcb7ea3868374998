//! Coverage: which rows are history already, per (did, boot, slot, seq).
//!
//! A chunk holds, for each of its seqs, all rows of that frame that fall into its cell, so a piece is
//! stored as a whole or not at all and these four name it. Coverage is folded from the metadata of
//! linked chunks at the start; replay asks it for every piece and drops what is covered. Afterwards
//! ingest's dedupe answers for repeats and the windower forgets it.
//!
//! # The one frame that metadata cannot tell
//! A frame that leaned on the end of the frame before it keeps that one in the WAL until it is wholly
//! linked. Then the WAL may lose the one and still hold the other, and replay lays the other by its
//! claimed times. A row near the end of a cell may then fall into a cell that the frame never touched:
//! was that part not linked yet, or was it never there? Only the times of the stored rows say; see
//! [`Coverage::whole_by_spread`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chordae_base::{Did, RangeSet, StreamPlan, limits::JITTER_NS_MAX, time::spread_ns};
use chordae_chain::meta::ChunkMeta;

use super::{cut::Cell, ports::Stored, times::Fact};

/// See the module.
#[derive(Default)]
pub struct Coverage {
    cells: BTreeMap<(Did, u64, i64), RangeSet>,
    ends: BTreeMap<Did, i64>,
    metas: Vec<Arc<ChunkMeta>>,
    stored: Option<Box<dyn Stored>>,
}

impl Coverage {
    /// The coverage of everything that is linked.
    pub fn new(stored: Box<dyn Stored>) -> Self {
        let mut coverage = Self {
            metas: stored.metas(),
            ..Self::default()
        };
        for meta in &coverage.metas {
            let cell = (meta.did, meta.boot, meta.slot_start_ns);
            let seqs = coverage.cells.entry(cell).or_default();
            meta.covered()
                .iter()
                .for_each(|(first, last)| seqs.insert_range(first, last));
            let end = coverage.ends.entry(meta.did).or_insert(meta.end_ns);
            *end = (*end).max(meta.end_ns);
        }
        coverage.stored = Some(stored);
        coverage
    }

    /// Whether the rows of frame `seq` in this cell are linked.
    pub fn holds(&self, cell: &Cell, boot: u64, seq: u64) -> bool {
        let seqs = self.cells.get(&(cell.did, boot, cell.slot_start_ns));
        seqs.is_some_and(|seqs| seqs.holds(seq))
    }

    /// The end of the newest row per did.
    pub fn ends(&self) -> &BTreeMap<Did, i64> {
        &self.ends
    }

    /// Whether a frame that is about to be laid by its claimed times, for want of the frame before it,
    /// is stored as a whole by spread times. (A chunk that cannot be read says no: rather twice than
    /// never.)
    pub fn whole_by_spread(&self, plan: &StreamPlan, boot: u64, fact: &Fact) -> bool {
        let (mut stored, mut missing) = (Vec::new(), false);
        let mut at = fact.t0_ns;
        while at < fact.end_ns {
            let cell = Cell::of(plan, at);
            match self.holds(&cell, boot, fact.seq) {
                true => stored.push(cell),
                false => missing = true,
            }
            at = plan.cell_end(at);
        }
        if stored.is_empty() || !missing {
            return false;
        }
        let times = stored
            .iter()
            .flat_map(|cell| self.times(cell, boot, fact.seq));
        fits(&times.collect(), fact)
    }

    fn times(&self, cell: &Cell, boot: u64, seq: u64) -> Vec<i64> {
        let holds = |meta: &&Arc<ChunkMeta>| {
            (meta.did, meta.boot, meta.slot_start_ns) == (cell.did, boot, cell.slot_start_ns)
                && meta.covered().holds(seq)
        };
        let meta = self.metas.iter().find(holds);
        let times = meta.and_then(|m| self.stored.as_ref()?.times(&m.did, m.index).ok());
        times.unwrap_or_default()
    }
}

/// Whether the stored times hold all times of the frame, spread from one of them. By its claim, a part
/// of a frame never does: it has fewer rows between any of its own and the frame's end.
fn fits(stored: &BTreeSet<i64>, fact: &Fact) -> bool {
    let n = u64::from(fact.samples);
    let span = fact.end_ns.saturating_sub(fact.t0_ns);
    let latest = fact.t0_ns.saturating_add(JITTER_NS_MAX.min(span / 2));
    stored
        .range(fact.t0_ns..=latest)
        .any(|start| (0..n).all(|k| stored.contains(&spread_ns(*start, fact.end_ns, k, n))))
}
