//! "The same frame?" after the original has left the WAL (formats.md 2): its codes occur as consecutive
//! stored rows that begin within 50 ms of its mapped time.

use chordae_base::{
    Did, FailureKind, Outcome, Span,
    limits::{FRAME_SPAN_NS_MAX, JITTER_NS_MAX},
    wire::Frame,
};
use chordae_chunk::ChunkRows;

use crate::catalogue::{Catalogue, Entry};

impl Catalogue {
    /// Whether the rows of (boot, seq) that are stored for `did` are those of `frame`, whose first
    /// sample maps to `mapped_t0_ns`. `None` when that cannot be told: no chunk there holds the seq,
    /// a chunk that does is damaged, or only a part of the frame is stored.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn same_rows(&self, did: &Did, mapped_t0_ns: i64, frame: &Frame) -> Outcome<Option<bool>> {
        let mut entries = self.touching(did, around(mapped_t0_ns));
        entries.retain(|e| holds(e, frame));
        // A frame over several slots: its rows follow each other in the order of the slots.
        entries.sort_by_key(|e| (e.link.slot_start_ns, e.link.first_ns));
        let mut rows = ChunkRows {
            times: Vec::new(),
            leads: vec![Vec::new(); frame.leads()],
        };
        for entry in &entries {
            let chunk = match self.open_chunk(did, entry.link.index) {
                Err(failure) if failure.kind == FailureKind::Damaged => return Ok(None),
                opened => opened?,
            };
            if chunk.rows().leads.len() != frame.leads() {
                return Ok(Some(false));
            }
            rows.times.extend(&chunk.rows().times);
            for (all, lead) in rows.leads.iter_mut().zip(&chunk.rows().leads) {
                all.extend(lead);
            }
        }
        Ok(find(&rows, mapped_t0_ns, frame))
    }
}

fn around(mapped_t0_ns: i64) -> Span {
    Span {
        from_ns: mapped_t0_ns.saturating_sub(JITTER_NS_MAX),
        until_ns: mapped_t0_ns.saturating_add(JITTER_NS_MAX + FRAME_SPAN_NS_MAX),
    }
}

fn holds(entry: &Entry, frame: &Frame) -> bool {
    entry.meta().is_some_and(|meta| {
        let missing = |(a, b): &(u64, u64)| (*a..=*b).contains(&frame.seq);
        meta.boot == frame.boot
            && (meta.seq.0..=meta.seq.1).contains(&frame.seq)
            && !meta.missing.iter().any(missing)
    })
}

fn find(rows: &ChunkRows, t0_ns: i64, frame: &Frame) -> Option<bool> {
    let samples = usize::try_from(frame.samples).ok()?;
    let near = Span {
        from_ns: t0_ns.saturating_sub(JITTER_NS_MAX),
        until_ns: t0_ns.saturating_add(JITTER_NS_MAX + 1),
    };
    // Concatenated chunks need not ascend: look at each row, not by halving.
    let starts = rows
        .times
        .iter()
        .enumerate()
        .filter(|(_, t)| near.holds(**t));
    let (mut seen, mut partly) = (false, false);
    for (start, _) in starts {
        seen = true;
        let end = start.saturating_add(samples);
        let stored = end.min(rows.times.len());
        let same = rows.leads.iter().enumerate().all(|(i, lead)| {
            let had = lead.get(start..stored).unwrap_or_default();
            frame
                .lead(i)
                .get(..stored - start)
                .is_some_and(|codes| codes == had)
        });
        if same && stored == end {
            return Some(true);
        }
        partly |= same;
    }
    if seen && !partly { Some(false) } else { None }
}
