//! A batch: 1-400 events and the `block` leaf that closes them (formats.md 5), and its pending form.
//!
//! ```text
//! pending = CBOR ["chordae pending 1", old size, new size, root, time_ms, [entries..., block]]
//! ```
//!
//! The pending form is synced before the checkpoint is signed: from then on this batch, and no other,
//! follows the old size. It checks itself: its entries must give its root on the tree of its old size.

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits};
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

const MAGIC: &str = "chordae pending 1";
/// Bytes of a pending file: every entry at its longest.
pub const PENDING_BYTES_MAX: u64 = 401 * (limits::ENTRY_BYTES_MAX as u64 + 8) + 1024;

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

    /// The pending form.
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
            MAGIC.into(),
            self.old_size.into(),
            self.new_size.into(),
            Value::Bytes(self.root.to_vec()),
            self.time_ms.into(),
            Value::Array(entries),
        ]))
    }

    /// Reads the pending form.
    ///
    /// # Errors
    /// `Damaged` for anything else.
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        let damaged = || Failure::damaged("the pending batch is not one");
        let value = cbor::decode(bytes).map_err(|_| damaged())?;
        let fields: [Value; 6] = value
            .into_array()
            .ok()
            .and_then(|a| a.try_into().ok())
            .ok_or_else(damaged)?;
        let [magic, old_size, new_size, root, time_ms, entries] = fields;
        let number = |v: Value| {
            let wide = v.into_integer().ok().map(i128::from);
            wide.and_then(|n| u64::try_from(n).ok()).ok_or_else(damaged)
        };
        if magic.as_text() != Some(MAGIC) {
            return Err(damaged());
        }
        let root = root
            .into_bytes()
            .ok()
            .and_then(|b| b.try_into().ok())
            .ok_or_else(damaged)?;
        let entries = entries.into_array().map_err(|_| damaged())?;
        let entry = |v: Value| v.into_bytes().map(Bytes::from).map_err(|_| damaged());
        Ok(Self {
            old_size: number(old_size)?,
            new_size: number(new_size)?,
            root,
            time_ms: number(time_ms)?,
            entries: entries.into_iter().map(entry).collect::<Outcome<_>>()?,
        })
    }
}
