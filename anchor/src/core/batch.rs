//! A batch: 1-400 events and the `block` leaf that closes them (formats.md 5), and what the journal of batches says.
//!
//! ```text
//! batch   = CBOR ["chordae pending 1", old size, new size, root, time_ms, [entries..., block]]
//! settled = CBOR ["chordae settled 1", checkpoint as the log signed it]
//! ```
//!
//! A batch is synced before the checkpoint is signed: from then on it, and no other,
//! follows the old size. It checks itself: its entries must give its root on the tree of its old size.

use bytes::Bytes;
use chordae_base::{Failure, Outcome};
use chordae_chain::{
    cbor,
    event::{self, Event},
    keys::SecretKeys,
    merkle::{self, NodeHash},
};
use ciborium::Value;

use super::{
    index::LastBlock,
    tree::{TileFile, Tree},
};

const BATCH: &str = "chordae pending 1";
const SETTLED: &str = "chordae settled 1";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Size of the log before.
    pub old_size: u64,
    /// Size after.
    pub new_size: u64,
    /// Root after.
    pub root: NodeHash,
    /// Time of the block.
    pub time_ms: u64,
    /// The events, then the block.
    pub entries: Vec<Bytes>,
}

impl Batch {
    /// Closes a batch over events, in their order.
    ///
    /// # Errors
    /// `BadInput` for no event or more than 400.
    pub fn close(
        tree: &Tree,
        last: Option<LastBlock>,
        events: Vec<Bytes>,
        now_ms: u64,
        sequencer: &SecretKeys,
    ) -> Outcome<Self> {
        let leaves: Vec<NodeHash> = events.iter().map(|e| merkle::leaf_hash(e)).collect();
        // A block's time never goes back, whatever the clock does.
        let time_ms = last.map_or(now_ms, |block| block.time_ms.max(now_ms));
        let block = Event::Block {
            height: last.map_or(0, |block| block.height + 1),
            prev: last.map_or([0; 32], |block| block.leaf),
            events_root: merkle::root(&leaves),
            first: tree.size(),
            count: u32::try_from(events.len()).unwrap_or(u32::MAX),
            time_ms,
        };
        let mut entries = events;
        entries.push(Bytes::from(event::sign(&block, sequencer)?));
        let mut after = tree.clone();
        after.extend(&entries)?;
        let (old_size, new_size) = (tree.size(), after.size());
        Ok(Self {
            old_size,
            new_size,
            root: after.root(),
            time_ms,
            entries,
        })
    }

    /// The tree after this batch, and the files that are new.
    ///
    /// # Errors
    /// `Damaged` when the entries do not lead from the old size to the new size and root.
    pub fn grow(&self, tree: &Tree) -> Outcome<(Tree, Vec<TileFile>)> {
        let mut after = tree.clone();
        let files = after.extend(&self.entries)?;
        let fits = tree.size() == self.old_size
            && after.size() == self.new_size
            && after.root() == self.root;
        if fits {
            return Ok((after, files));
        }
        Err(Failure::damaged(
            "the pending batch does not lead to the root that it names",
        ))
    }

    /// As the journal keeps it.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        let entries = self
            .entries
            .iter()
            .map(|e| Value::Bytes(e.to_vec()))
            .collect();
        cbor::encode(&Value::Array(vec![
            BATCH.into(),
            self.old_size.into(),
            self.new_size.into(),
            Value::Bytes(self.root.to_vec()),
            self.time_ms.into(),
            Value::Array(entries),
        ]))
    }
}

/// A record of the journal of batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The tiles of the log of this checkpoint are synced; its text, as it was signed.
    Settled(String),
    /// What follows the log before it.
    Batch(Batch),
}

impl Record {
    /// As the journal keeps it.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        match self {
            Self::Batch(batch) => batch.encode(),
            Self::Settled(text) => {
                cbor::encode(&Value::Array(vec![SETTLED.into(), text.as_str().into()]))
            }
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `Damaged` for anything else.
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        let read = || {
            let fields = cbor::decode(bytes).ok()?.into_array().ok()?;
            match fields.first()?.as_text()? {
                BATCH => {
                    let [_, old_size, new_size, root, time_ms, entries] = fields.try_into().ok()?;
                    let entries = entries.into_array().ok()?.into_iter();
                    Some(Self::Batch(Batch {
                        old_size: number(old_size)?,
                        new_size: number(new_size)?,
                        root: hash(root)?,
                        time_ms: number(time_ms)?,
                        entries: entries
                            .map(|entry| entry.into_bytes().ok().map(Bytes::from))
                            .collect::<Option<_>>()?,
                    }))
                }
                SETTLED => {
                    let [_, text] = fields.try_into().ok()?;
                    Some(Self::Settled(text.into_text().ok()?))
                }
                _ => None,
            }
        };
        read().ok_or_else(|| {
            Failure::damaged("ledger.batches: a record is neither batch nor settled")
        })
    }
}

fn number(value: Value) -> Option<u64> {
    let wide = value.into_integer().ok().map(i128::from)?;
    u64::try_from(wide).ok()
}

fn hash(value: Value) -> Option<NodeHash> {
    value.into_bytes().ok()?.try_into().ok()
}
