//! What the WAL must still keep.
//!
//! Every reason to need a WAL record is a *pin* on its position: the frame waits for its turn, is
//! parked, its end may place its successor, a piece of it is not linked, or a piece that leans on its
//! end is not linked. The trim floor is the least pinned position. Invariant: a position never gets a
//! pin after its last one went (what is needed later is pinned before what is needed now is freed).

use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Pin {
    pins: u32,
    /// Pieces of this very frame that are not linked yet.
    pieces: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pins {
    pinned: BTreeMap<u64, Pin>,
    /// Newest position seen; nothing at or above it is known to be free.
    newest: u64,
}

impl Pins {
    /// A record went by.
    pub fn saw(&mut self, position: u64) {
        self.newest = self.newest.max(position);
    }

    /// Pins a position.
    pub fn hold(&mut self, position: u64) {
        self.pinned.entry(position).or_default().pins += 1;
    }

    /// Takes one pin away.
    pub fn free(&mut self, position: u64) {
        let Some(pin) = self.pinned.get_mut(&position) else {
            return;
        };
        pin.pins = pin.pins.saturating_sub(1);
        if pin.pins == 0 {
            self.pinned.remove(&position);
        }
    }

    /// Pins a frame for one of its pieces.
    pub fn hold_piece(&mut self, position: u64) {
        self.hold(position);
        self.pinned.entry(position).or_default().pieces += 1;
    }

    /// Takes the pin of a piece away; true if no piece of the frame is left.
    pub fn free_piece(&mut self, position: u64) -> bool {
        let Some(pin) = self.pinned.get_mut(&position) else {
            return true;
        };
        pin.pieces = pin.pieces.saturating_sub(1);
        let whole = pin.pieces == 0;
        self.free(position);
        whole
    }

    /// Whether anything needs the position.
    pub fn holds(&self, position: u64) -> bool {
        self.pinned.contains_key(&position)
    }

    /// No record below this position is needed.
    pub fn floor(&self) -> u64 {
        self.pinned.keys().next().map_or(self.newest, |p| *p)
    }
}
