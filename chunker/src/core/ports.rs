//! The neighbours that the chunker needs; `node` hands over the implementations.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{Did, Digest, Failure, Outcome, RangeSet, StreamKey, StreamPlan};
use chordae_chain::{link::Link, meta::ChunkMeta};
use chordae_chunk::SealedChunk;

/// Gives WAL records back by position.
pub trait FrameSource: Send {
    /// The bytes of the WAL record at `position`, as `WalRecord::encode` made them.
    ///
    /// # Errors
    /// `NotFound` when the position was trimmed, `Damaged` when its checksum fails, `Io`.
    fn payload(&self, position: u64) -> Outcome<Bytes>;
}

impl FrameSource for chordae_base::journal::Reader {
    fn payload(&self, position: u64) -> Outcome<Bytes> {
        self.read(position)
    }
}

/// Where the next chunk of a did goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Index of the next chunk.
    pub next_index: u64,
    /// Digest of the newest link, or the genesis of the did.
    pub prev: Digest,
}

/// Stores and links sealed chunks.
pub trait ChunkSink: Send {
    /// Where the next chunk of `did` goes.
    fn tip(&self, did: &Did) -> Tip;

    /// Stores the files, then links them with one sync. At most one chunk per did; all or none is
    /// linked. The links come back in the order of the chunks. (A chunk that a crash left behind may
    /// be adopted in place of an equal one: then the link names the older file.)
    ///
    /// # Errors
    /// `Busy`: nothing is linked and the cause may pass (a full disk); asked again. `Io`: the sink is
    /// gone and says nothing about what was linked; the process must end. Anything else: nothing is
    /// linked and the fault is a chunk's.
    fn commit(&mut self, chunks: Vec<SealedChunk>) -> Outcome<Vec<Link>>;
}

/// What was history already when the chunker started.
pub trait Stored: Send {
    /// Metadata of every linked chunk whose file is whole.
    fn metas(&self) -> Vec<Arc<ChunkMeta>>;

    /// Times of the rows of one of them, ascending. Asked for a frame per stream at most, at the start.
    ///
    /// # Errors
    /// Those of reading and verifying the chunk.
    fn times(&self, did: &Did, index: u64) -> Outcome<Vec<i64>>;
}

/// Nothing is stored yet: a fresh data folder.
pub struct Nothing;

impl Stored for Nothing {
    fn metas(&self) -> Vec<Arc<ChunkMeta>> {
        Vec::new()
    }

    fn times(&self, did: &Did, index: u64) -> Outcome<Vec<i64>> {
        Err(Failure::not_found(format!("no chunk {index} of {did}")))
    }
}

/// News of one linked chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The stream.
    pub stream: StreamKey,
    /// The did that holds the rows.
    pub did: Did,
    /// Boot of the device.
    pub boot: u64,
    /// The slot.
    pub slot_start_ns: i64,
    /// Seqs with rows in this chunk.
    pub seqs: RangeSet,
    /// Those of them that are now whole: every row of the frame is in a linked chunk.
    pub whole: RangeSet,
}

/// A bucket that cannot be sealed, by whomever it is tried: a named gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: StreamKey,
    /// The did that would have held the rows.
    pub did: Did,
    /// Boot of the device.
    pub boot: u64,
    /// The slot.
    pub slot_start_ns: i64,
    /// Its frames: seq, and position of the record in the WAL.
    pub frames: Vec<(u64, u64)>,
    /// Why it failed the second time.
    pub why: String,
}

/// Hears what became history. **No call may wait for ingest**: ingest may be waiting for the
/// chunker's input, and then neither would ever go on. Keep the news in a bounded-by-the-WAL place
/// and let ingest collect it.
pub trait Progress: Send {
    /// Chunks were linked.
    fn covered(&mut self, news: Vec<Covered>);
    /// The frames of this bucket are to go to quarantine; a `Settled` record of each lets the WAL go. It
    /// may be said again of the same frames after a restart.
    fn gap(&mut self, gap: Gap);
    /// No WAL record below `floor` is needed by the chunker any more.
    fn trim(&mut self, floor: u64);
}

/// The plans of the streams, as the registry holds them.
pub trait Plans: Send {
    /// The newest plan; `None` for a stream without a did.
    fn plan(&self, stream: &StreamKey) -> Option<StreamPlan>;
}
