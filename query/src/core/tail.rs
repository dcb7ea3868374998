//! Where a live reader is, and what of the tail she need not be sent.

use std::fmt;

use chordae_base::{Failure, Outcome};
use chordae_chunk::ChunkRows;

use super::ports::{TailFrame, TailPage, Touched};

/// A frame of a stream, as live readers name it: `boot.seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameId {
    /// Boot of the device.
    pub boot: u64,
    /// Number within the boot.
    pub seq: u64,
}

impl FrameId {
    /// Reads `boot.seq`.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn parse(text: &str) -> Outcome<Self> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| n.to_string() == text);
        text.split_once('.')
            .and_then(|(boot, seq)| Some((number(boot)?, number(seq)?)))
            .map(|(boot, seq)| Self { boot, seq })
            .ok_or_else(|| Failure::bad_input("Last-Event-ID is no id of an event of ours"))
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.boot, self.seq)
    }
}

/// Drops the rows that linked chunks hold. A chunk holds all rows of each of its frames that fall into
/// its slot, so boot, seq and slot tell. What was let go of the tail is no loss if a chunk holds it.
pub fn drop_covered(page: &mut TailPage, chunks: &[Touched]) {
    let held = |boot: u64, seq: u64, t_ns: i64| {
        let holds = |c: &Touched| {
            let slot =
                c.link.slot_start_ns..c.link.slot_start_ns.saturating_add(c.link.slot_len_ns);
            c.meta.boot == boot && slot.contains(&t_ns) && c.meta.covered().holds(seq)
        };
        chunks.iter().any(holds)
    };
    let lost = page.lost.filter(|(boot, seq, span)| {
        let last_ns = span.until_ns.saturating_sub(1);
        !held(*boot, *seq, span.from_ns) || !held(*boot, *seq, last_ns)
    });
    page.lost = lost;
    for frame in &mut page.frames {
        let (boot, seq) = (frame.boot, frame.seq);
        retain(frame, |t_ns| !held(boot, seq, t_ns));
    }
}

fn retain(frame: &mut TailFrame, keep: impl Fn(i64) -> bool) {
    let kept: Vec<bool> = frame.rows.times.iter().map(|t| keep(*t)).collect();
    if kept.iter().all(|k| *k) {
        return;
    }
    fn only<T: Copy>(column: &[T], kept: &[bool]) -> Vec<T> {
        let both = column.iter().zip(kept);
        both.filter(|(_, k)| **k).map(|(v, _)| *v).collect()
    }
    frame.rows = ChunkRows {
        times: only(&frame.rows.times, &kept),
        leads: frame.rows.leads.iter().map(|l| only(l, &kept)).collect(),
    };
}
