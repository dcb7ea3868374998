//! What the WAL held at the start, fed through the ordinary windower before anything live.
//!
//! There is no second path: the same records in the same order give the same buckets, and coverage
//! drops the pieces that are linked. Plans are folded first (they are the registry's newest), which is
//! safe because a plan never changes below a linked row.

use std::{thread, time::Duration};

use chordae_base::{FailureKind, Outcome, journal::Reader, record::WalRecord};

use crate::core::ports::Nothing;

/// The records recovered at the start, in order.
pub trait Recovered: Send {
    /// Visits each record with its position, ascending; a record may be visited again.
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

/// How often, and after which pause, a scan that met bad bytes is begun again where it stopped.
const AGAIN: (u32, Duration) = (50, Duration::from_millis(20));

impl Recovered for RecoveredWal {
    fn scan(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        let mut from = 0;
        for _ in 0..AGAIN.0 {
            match self.once(&mut from, visit) {
                // Ingest may begin a segment while we read, and a segment that is being made has no
                // header yet. What is really damaged is so again.
                Err(failure) if failure.kind == FailureKind::Damaged => thread::sleep(AGAIN.1),
                done => return done,
            }
        }
        self.once(&mut from, visit)
    }
}

impl RecoveredWal {
    /// Visits from the record at `from`, which follows along; that one again, if it was visited.
    fn once(
        &self,
        from: &mut u64,
        visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>,
    ) -> Outcome<()> {
        let start = *from;
        let mut each = |position: u64, bytes| {
            // Live records may be appended while this runs: they come by the feed.
            if position >= self.until {
                return Ok(());
            }
            *from = position;
            visit(position, WalRecord::decode(bytes)?)
        };
        self.reader.scan(start, &mut each).map(|_| ())
    }
}

impl Recovered for Nothing {
    fn scan(&self, _: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        Ok(())
    }
}
