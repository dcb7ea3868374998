//! The chain of blocks: every event lies under the block leaf that closes its batch.

use chordae_base::limits;
use chordae_chain::{
    event::Event,
    finding::{Code, Findings},
    merkle::{self, NodeHash},
};

use super::entry_name;

/// The batch being read, and what the block before it said.
#[derive(Default)]
pub(super) struct Blocks {
    events: Vec<NodeHash>,
    /// More events than a batch can have: only counted.
    over: bool,
    /// Entries are missing: the next block cannot be checked against its events.
    lost: bool,
    /// (height, leaf hash, time) of the block before.
    last: Option<(u64, NodeHash, u64)>,
}

impl Blocks {
    /// An event of the open batch.
    pub(super) fn event(&mut self, hash: NodeHash) {
        if self.events.len() < limits::BLOCK_EVENTS_MAX {
            self.events.push(hash);
        } else {
            self.over = true;
        }
    }

    /// Entries could not be read.
    pub(super) fn lost(&mut self) {
        self.lost = true;
    }

    /// A block leaf.
    pub(super) fn block(&mut self, leaf: u64, entry: &[u8], block: &Event, found: &mut Findings) {
        let Event::Block {
            height,
            prev,
            events_root,
            first,
            count,
            time_ms,
        } = block
        else {
            return;
        };
        let mut wrong =
            |why: &str| found.add(entry_name(leaf), Code::LogRoot, format!("block: {why}"));
        match self.last {
            Some((h, _, _)) if *height == h => {
                found.add(
                    entry_name(leaf),
                    Code::Fork,
                    "a second block of the same height",
                );
            }
            Some((h, hash, time)) if !self.lost => {
                if h.checked_add(1) != Some(*height) || hash != *prev {
                    wrong("does not follow the block before it");
                }
                if *time_ms < time {
                    wrong("is older than the block before it");
                }
            }
            None if !self.lost && (*height != 0 || *prev != [0; 32]) => {
                wrong("the first one does not begin the chain");
            }
            _ => {}
        }
        if !self.lost {
            let here = self.events.len() as u64;
            if self.over || u64::from(*count) != here || first.checked_add(here) != Some(leaf) {
                found.add(
                    entry_name(leaf),
                    Code::LogRoot,
                    "block: counts other events than its own",
                );
            } else if *events_root != merkle::root(&self.events) {
                found.add(
                    entry_name(leaf),
                    Code::LogRoot,
                    "block: its events are not under its root",
                );
            }
        }
        self.last = Some((*height, merkle::leaf_hash(entry), *time_ms));
        self.events.clear();
        (self.over, self.lost) = (false, false);
    }

    /// The end of the log: a checkpoint stands right after a block.
    pub(super) fn end(&self, size: u64, found: &mut Findings) {
        if size > 0 && !self.lost && !self.events.is_empty() {
            found.add(
                super::CHECKPOINT,
                Code::LogRoot,
                "its last entries are under no block",
            );
        }
    }
}
