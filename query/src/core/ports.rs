//! What the query service asks of the rest of the house. The node implements these over the catalogue,
//! the ledger, the directory and the registry; tests implement them in memory.
//!
//! All calls block (they may read a disk, `submit` waits for a checkpoint) and are made on threads that
//! may block. Answers are claims: sections, entries and chunks are verified here before anyone relies
//! on them, except that [`ChunkSource::bytes`] vouches for the file digest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use chordae_base::{Did, KeyId, Outcome, Span, StreamKey, seams::Stamp, wire::Birth};
use chordae_chain::{heads::HeadPath, keys::PublicIdentity, link::Link, meta::ChunkMeta};
use chordae_chunk::ChunkRows;

use super::ledger_path::LedgerPath;

/// A linked chunk, without its rows.
#[derive(Debug, Clone)]
pub struct Touched {
    /// Its link.
    pub link: Link,
    /// Its metadata, which agrees with the link.
    pub meta: Arc<ChunkMeta>,
}

/// Linked chunks.
pub trait ChunkSource: Send + Sync {
    /// At most `most` links of a stream from an index on, ascending and without a hole; none for an
    /// unknown stream.
    ///
    /// # Errors
    /// Those of the store.
    fn links(&self, did: &Did, from_index: u64, most: usize) -> Outcome<Vec<Link>>;

    /// The chunks whose `[first_ns, end_ns)` shares an instant with the span, in any order.
    ///
    /// # Errors
    /// Those of the store.
    fn touching(&self, did: &Did, span: Span) -> Outcome<Vec<Touched>>;

    /// Index of the newest link of a stream.
    fn newest(&self, did: &Did) -> Option<u64>;

    /// The file of a linked chunk; its digest has been compared with the link's.
    ///
    /// # Errors
    /// `Damaged` when it differs or the file is missing; never other bytes.
    fn bytes(&self, did: &Did, index: u64) -> Outcome<Bytes>;

    /// What the store says of a chunk's file without reading it. While it stays equal, nobody has touched the file;
    /// `None` if that cannot be told, or the chunk is known to be damaged.
    fn stamp(&self, did: &Did, index: u64) -> Option<Stamp>;
}

/// The event that vouches for a stream's links up to an index, with its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Index of the link whose digest the event holds.
    pub index: u64,
    /// The signed `add-data` or `add-heads` entry.
    pub entry: Bytes,
    /// Its receipt: tlog-proof text.
    pub proof: String,
    /// The way from the link to the root of an `add-heads` entry.
    pub way: Option<HeadPath>,
}

/// The ledger. A session id is the leaf hash of its `create-session` entry.
pub trait Ledger: Send + Sync {
    /// The `create-session` entry with this id, if a checkpoint covers it.
    ///
    /// # Errors
    /// Those of the log's files.
    fn session(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>>;

    /// Whether the session's signer revoked it.
    ///
    /// # Errors
    /// Those of the log's files.
    fn revoked(&self, sid: &[u8; 32]) -> Outcome<bool>;

    /// The earliest anchor at or after an index.
    ///
    /// # Errors
    /// Those of the log's files.
    fn anchor(&self, did: &Did, at_least: u64) -> Outcome<Option<Anchor>>;

    /// Whether there is one.
    ///
    /// # Errors
    /// Those of the log's files.
    fn anchored(&self, did: &Did, at_least: u64) -> Outcome<bool> {
        Ok(self.anchor(did, at_least)?.is_some())
    }

    /// Submits a signed entry and waits for a checkpoint that covers it; gives its leaf index. An entry
    /// that is there already counts once.
    ///
    /// # Errors
    /// `Busy` when the log is full or stopping.
    fn submit(&self, entry: Bytes) -> Outcome<u64>;

    /// A file of the log.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn file(&self, path: &LedgerPath) -> Outcome<Bytes>;
}

/// The directory's session records, as the CBOR that the patient made.
pub trait Sessions: Send + Sync {
    /// Stores a record; durable when it returns.
    ///
    /// # Errors
    /// Those of the disk.
    fn put(&self, sid: &[u8; 32], record: &[u8]) -> Outcome<()>;

    /// A record.
    ///
    /// # Errors
    /// Those of the disk.
    fn get(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>>;

    /// Removes a record, durably; nothing happens if there is none.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, sid: &[u8; 32]) -> Outcome<()>;

    /// At most `most` ids with a record, ascending, from one on.
    ///
    /// # Errors
    /// Those of the disk.
    fn list(&self, from: &[u8; 32], most: usize) -> Outcome<Vec<[u8; 32]>>;
}

/// The directory's inventories: the newest record of each, as its owner signed it.
pub trait Inventories: Send + Sync {
    /// Stores a record in the place of the one with this SHA-256; durable when it returns.
    ///
    /// # Errors
    /// `Refused` when another one is there; `Busy` when there is no room; those of the disk.
    fn put(
        &self,
        owner: &KeyId,
        id: &[u8; 32],
        record: &[u8],
        replaces: Option<&[u8; 32]>,
    ) -> Outcome<()>;

    /// Whose it is, and its newest record, a removal too.
    ///
    /// # Errors
    /// Those of the disk.
    fn get(&self, id: &[u8; 32]) -> Outcome<Option<(KeyId, Bytes)>>;

    /// Whose it is; the same work for any id.
    fn owner(&self, id: &[u8; 32]) -> Option<KeyId>;

    /// The ids of a patient, removed ones too.
    fn of(&self, owner: &KeyId) -> Vec<[u8; 32]>;
}

/// A party as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Name, role and keys.
    pub identity: PublicIdentity,
    /// Whether its requests count.
    pub enabled: bool,
}

/// Who is known here, and whose a stream is.
pub trait Parties: Send + Sync {
    /// The party with this key.
    fn party(&self, kid: &KeyId) -> Option<Party>;
    /// The patient of a stream, if it exists and has one.
    fn patient_of(&self, did: &Did) -> Option<KeyId>;
    /// The stream as its device knows it.
    fn stream_name(&self, did: &Did) -> Option<StreamKey>;
    /// All streams, also those without a chunk.
    fn dids(&self) -> Vec<Did>;
}

/// The rows of one frame that belong to the stream asked for: durable, acknowledged, not sealed when the
/// frame came.
#[derive(Debug, Clone)]
pub struct TailFrame {
    /// Its place in the tail: later ones have greater numbers, until the process ends.
    pub at: u64,
    /// Boot of the device.
    pub boot: u64,
    /// Number within the boot.
    pub seq: u64,
    /// Whether it came too late for its place among the others.
    pub late: bool,
    /// Rate and leads.
    pub birth: Arc<Birth>,
    /// Times as they will be sealed (where the frame before had come), and codes in the order of the leads.
    pub rows: ChunkRows,
}

/// Frames of the tail.
#[derive(Debug, Clone, Default)]
pub struct TailPage {
    /// In the order in which they came.
    pub frames: Vec<TailFrame>,
    /// Where to go on: the place of the last one that was looked at.
    pub next: u64,
    /// The frame that was let go last because others needed its room: boot, seq and span; only if it came
    /// after the place from which this page was asked.
    pub lost: Option<(u64, u64, Span)>,
    /// Nothing more will come.
    pub ended: bool,
}

/// Rung when something has come. Must not block.
pub type Bell = dyn Fn() + Send + Sync;

/// What was received of a stream and went into no chunk: it lies in quarantine.
pub trait Aside: Send + Sync {
    /// How many things of this did are about the span, by the reason for which they were set aside: by their own
    /// time where their clock is disciplined, else by that of their receipt. One that a later birth or offset
    /// released counts too.
    ///
    /// # Errors
    /// `Damaged`, `Io`; `BadInput` where more lies there than one request looks through.
    fn counts(&self, did: &Did, span: Span) -> Outcome<BTreeMap<String, u64>>;
}

/// The newest frames of every stream, in memory.
pub trait Tail: Send + Sync {
    /// The frames of a stream after a place (0: all that are there), at most `most` of them. Whose a row
    /// is, is looked up at each call.
    ///
    /// # Errors
    /// `Damaged` when a frame cannot be read.
    fn after(&self, did: &Did, at: u64, most: usize) -> Outcome<TailPage>;

    /// The place of a frame that is still there.
    fn find(&self, did: &Did, boot: u64, seq: u64) -> Option<u64>;

    /// Rings the bell after each further frame of the stream, as long as somebody else holds it.
    fn ring(&self, did: &Did, bell: Weak<Bell>);
}
