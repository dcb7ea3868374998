//! The clock of a boot: what is added to a claimed time (formats.md 2, "Time of a sample").
//!
//! ```text
//! seq     0 ......... 40 .......... 90 ......
//!         offset a    offset b      offset c     an offset holds to the next change in seq order;
//!         ◀── earlier seqs use the first          earlier seqs use the first
//! ```
//!
//! Changes are made by live frames only (and by the newest parked historical frame when no live one
//! comes). Nothing here is written to the log as such: each record carries the offset it was mapped
//! with, and [`ClockMap::fold`] finds the same changes again from the records, in log order.

use std::collections::BTreeMap;

use chordae_base::{limits, wire::ClockKind};

/// Changes of clock that one boot may have; the oldest is forgotten first.
const CHANGES_MAX: usize = 256;

/// What a claimed time is mapped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Claimed time plus this is the mapped time.
    pub offset_ns: i64,
    /// The clock it was made for.
    pub clock: ClockKind,
}

/// Claimed time is used as it is.
pub const SYNCED: Setting = Setting {
    offset_ns: 0,
    clock: ClockKind::Synced,
};

/// The changes of one boot by the seq that made them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockMap {
    changes: BTreeMap<u64, Setting>,
}

impl ClockMap {
    /// The setting in force at `seq`.
    pub fn at(&self, seq: u64) -> Option<Setting> {
        let before = self.changes.range(..=seq).next_back();
        before
            .or_else(|| self.changes.iter().next())
            .map(|(_, s)| *s)
    }

    /// Whether no frame has set anything yet.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What a live frame is mapped with. `None` if its offset would not fit 64 bits. The map changes
    /// only by [`Self::fold`], once the frame is accepted as live.
    pub fn live(
        &self,
        seq: u64,
        clock: ClockKind,
        claimed_end_ns: i64,
        recv_ns: i64,
    ) -> Option<Setting> {
        if clock == ClockKind::Synced {
            return Some(SYNCED);
        }
        let held = match self.at(seq) {
            Some(s) if s.clock == clock => Some(s.offset_ns),
            // It stopped being synced: for now it still shows the right time.
            Some(s) if s == SYNCED && clock == ClockKind::FreeRunning => Some(0),
            _ => None,
        };
        let drifts = |offset: &i64| {
            let mapped_end = i128::from(claimed_end_ns) + i128::from(*offset);
            mapped_end > i128::from(recv_ns) + i128::from(limits::OFFSET_DRIFT_NS_MAX)
        };
        match held {
            Some(offset_ns) if !drifts(&offset_ns) => Some(Setting { offset_ns, clock }),
            _ => Some(Setting {
                offset_ns: recv_ns.checked_sub(claimed_end_ns)?,
                clock,
            }),
        }
    }

    /// What a historical frame is mapped with; `None`: it must wait for an offset.
    pub fn historical(&self, seq: u64, clock: ClockKind) -> Option<Setting> {
        if clock == ClockKind::Synced {
            return Some(SYNCED);
        }
        let offset_ns = match self.at(seq)? {
            s if s.clock == clock => s.offset_ns,
            s if s == SYNCED && clock == ClockKind::FreeRunning => 0,
            _ => return None,
        };
        Some(Setting { offset_ns, clock })
    }

    /// Takes note of what an accepted frame was mapped with. Historical frames change nothing, except
    /// the first that sets an offset where there was none.
    pub fn fold(&mut self, seq: u64, used: Setting, live: bool) {
        let sets = match live {
            true => self.at(seq) != Some(used),
            false => self.historical(seq, used.clock).is_none(),
        };
        if sets {
            self.put(seq, used);
        }
    }

    /// All changes in order of seq, for the log's state record.
    pub fn changes(&self) -> impl Iterator<Item = (u64, Setting)> + '_ {
        self.changes.iter().map(|(seq, s)| (*seq, *s))
    }

    /// Writes a change read from a state record.
    pub fn put(&mut self, seq: u64, setting: Setting) {
        self.changes.insert(seq, setting);
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_first();
        }
    }
}
