//! Whether the spool takes more: bytes, frames and free disk, each with the gap that keeps the answer from
//! flickering. Repeats are absorbed even when it does not: they take no room.
//!
//! ```text
//! open ──(bytes or frames ≥ bound, or free < least)──▶ shut ──(all at most 7/8, free ≥ 9/8)──▶ open
//! ```
//!
//! A segment is at most an eighth of the bound, so that a spool whose items are all upstream always falls
//! below the lower mark: the newest segment alone cannot keep it shut.

/// How much the spool may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolBounds {
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Items not yet upstream.
    pub items_max: u64,
    /// Bytes that must stay free on the disk.
    pub free_min: u64,
}

impl SpoolBounds {
    /// Bytes of a segment.
    pub fn segment_bytes(&self) -> u64 {
        (self.bytes_max / 16).min(chordae_base::limits::JOURNAL_SEGMENT_BYTES)
    }

    /// Bytes that one commit may add.
    pub fn batch_bytes(&self) -> u64 {
        (self.bytes_max / 16).min(8 << 20)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Gate {
    bounds: SpoolBounds,
    open: bool,
}

impl Gate {
    /// Open until a reading says otherwise.
    pub fn new(bounds: SpoolBounds) -> Self {
        Self { bounds, open: true }
    }

    /// Takes a reading; says whether more is taken. An unknown free space changes nothing.
    pub fn read(&mut self, free: Option<u64>, bytes: u64, items: u64) -> bool {
        let SpoolBounds {
            bytes_max,
            items_max,
            free_min,
        } = self.bounds;
        self.open = if self.open {
            free.is_none_or(|free| free >= free_min) && bytes < bytes_max && items < items_max
        } else {
            free.is_some_and(|free| free >= free_min.saturating_add(free_min / 8))
                && bytes < bytes_max - bytes_max / 8
                && items < items_max - items_max / 8
        };
        self.open
    }

    /// Whether more is taken.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuts_at_each_bound_and_opens_well_below_it() {
        let bounds = SpoolBounds {
            bytes_max: 80,
            items_max: 16,
            free_min: 800,
        };
        let mut gate = Gate::new(bounds);
        let readings = [
            (Some(800), 79, 15, true),
            (Some(800), 80, 0, false),
            (Some(900), 70, 0, false),
            (Some(900), 69, 0, true),
            (None, 0, 16, false),
            (Some(900), 0, 14, false),
            (None, 0, 0, false),
            (Some(900), 0, 13, true),
            (Some(799), 0, 0, false),
            (Some(899), 0, 0, false),
            (Some(900), 0, 0, true),
        ];
        for (n, (free, bytes, items, open)) in readings.into_iter().enumerate() {
            assert_eq!(gate.read(free, bytes, items), open, "reading {n}");
        }
    }
}
