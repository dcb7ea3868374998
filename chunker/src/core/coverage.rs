//! Coverage: which rows are history already, per (did, boot, slot, seq).
//!
//! A chunk holds, for each of its seqs, all rows of that frame that fall into its cell, so a piece is
//! stored as a whole or not at all and these four name it. Coverage is folded from the metadata of
//! linked chunks at the start; replay asks it for every piece and drops what is covered. Afterwards
//! ingest's dedupe answers for repeats and the windower forgets it.

use std::collections::BTreeMap;

use chordae_base::{Did, RangeSet};
use chordae_chain::meta::ChunkMeta;

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct Coverage {
    stored: BTreeMap<(Did, u64, i64), RangeSet>,
    ends: BTreeMap<Did, i64>,
}

impl Coverage {
    /// Folds the metadata of one linked chunk.
    pub fn fold(&mut self, meta: &ChunkMeta) {
        let cell = (meta.did, meta.boot, meta.slot_start_ns);
        let seqs = self.stored.entry(cell).or_default();
        for (first, last) in meta.covered().iter() {
            seqs.insert_range(first, last);
        }
        let end = self.ends.entry(meta.did).or_insert(meta.end_ns);
        *end = (*end).max(meta.end_ns);
    }

    /// Whether the rows of frame `seq` in this cell are linked.
    pub fn holds(&self, did: Did, boot: u64, slot_start_ns: i64, seq: u64) -> bool {
        self.stored
            .get(&(did, boot, slot_start_ns))
            .is_some_and(|seqs| seqs.holds(seq))
    }

    /// The end of the newest row per did.
    pub fn ends(&self) -> &BTreeMap<Did, i64> {
        &self.ends
    }
}
