//! What the windower can be asked.

use super::Windower;

impl Windower {
    /// Whether the WAL record at `position` is needed.
    pub fn needs(&self, position: u64) -> bool {
        self.pins.holds(position)
    }

    /// No WAL record below this position is needed.
    pub fn floor(&self) -> u64 {
        self.pins.floor()
    }

    /// Open buckets that hold rows, and when the oldest was opened.
    pub fn open_buckets(&self) -> (usize, Option<i64>) {
        let open = self.buckets.values().filter(|b| !b.pieces.is_empty());
        open.fold((0, None), |(n, oldest), b| {
            (
                n + 1,
                Some(oldest.map_or(b.opened_ns, |o: i64| o.min(b.opened_ns))),
            )
        })
    }

    /// Orders that wait for their link.
    pub fn sealing(&self) -> usize {
        self.sealing.len()
    }

    /// Buckets that failed to seal twice and still lie in the WAL.
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Frames that no rule could place.
    pub fn stranded(&self) -> u64 {
        self.stranded
    }

    /// Frames that wait for their turn, and parked ones.
    pub fn waiting(&self) -> (usize, usize) {
        self.streams.values().fold((0, 0), |(held, parked), s| {
            let waits: usize = s.boots.values().map(|b| b.turn.held()).sum();
            (held + waits, parked + s.parked.len())
        })
    }
}
