//! What the WAL held at the start, fed through the ordinary windower before anything live.
//!
//! There is no second path: the same records in the same order give the same buckets, and coverage
//! drops the pieces that are linked. Plans are folded first (they are the registry's newest), which is
//! safe because a plan never changes below a linked row.

use chordae_base::{Outcome, journal::Reader, record::WalRecord};

use crate::core::ports::Nothing;

/// The records recovered at the start, in order.
pub trait Recovered: Send {
    /// Visits each record with its position, ascending; a second scan visits
    /// the same records again.
    ///
    /// # Errors
    /// `Damaged`, `Io`, and what `visit` returns, which ends the scan.
    fn scan(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()>;
}

/// The records of a WAL below a position: what its journal held when it was opened.
pub struct RecoveredWal {
    /// Reads the WAL.
    pub reader: Reader,
    /// `Journal::durable` right after it was opened; what follows comes live.
    pub until: u64,
}

impl Recovered for RecoveredWal {
    fn scan(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        // Live records may be appended while this runs: they come by the feed.
        let mut each = |position: u64, bytes| match position < self.until {
            true => visit(position, WalRecord::decode(bytes)?),
            false => Ok(()),
        };
        self.reader.scan(0, &mut each).map(|_| ())
    }
}

impl Recovered for Nothing {
    fn scan(&self, _: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        Ok(())
    }
}
