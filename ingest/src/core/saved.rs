//! What the state record at the head of each log segment says, so that trimming the segments before it
//! forgets nothing: births, clock changes, and the newest receive time.
//!
//! `StateRecord::births` is for everyone; `StateRecord::ingest` is this JSON. A large state is split
//! into several records; folding them is adding them up.

use chordae_base::{Failure, Outcome, StreamKey, record::StateRecord, wire::ClockKind};
use serde::{Deserialize, Serialize};

/// Bytes of births and clocks after which a further state record is begun.
pub const PIECE_BYTES: usize = 1024 * 1024;

/// One piece of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Newest receive time in the log.
    pub recv_ns: i64,
    /// Clock changes.
    pub clocks: Vec<SavedClock>,
}

/// Clock changes of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedClock {
    /// The stream.
    pub stream: StreamKey,
    /// Boot of the device.
    pub boot: u64,
    /// Seq, offset and clock of each change.
    pub changes: Vec<(u64, i64, ClockKind)>,
}

impl Saved {
    /// As bytes.
    ///
    /// # Errors
    /// None in practice; JSON of these types always can be written.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Failure::internal(format!("the log's state: {e}")))
    }

    /// Reads a state record.
    ///
    /// # Errors
    /// `Damaged` for anything that [`Self::encode`] does not write; nothing at all reads as empty.
    pub fn decode(state: &StateRecord) -> Outcome<Self> {
        if state.ingest.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&state.ingest)
            .map_err(|e| Failure::damaged(format!("a state record of the log: {e}")))
    }
}
