//! The start's first half: the log is brought to where the journal of batches ends.
//!
//! Batches that a crash kept from `ledger/` are applied, as they were when they were answered (decisions 49, 53).

use std::io::ErrorKind;

use chordae_base::{Failure, Outcome, limits};
use chordae_chain::checkpoint::{self, Checkpoint, TrustedLog};

use super::{
    LedgerKeys, Settings,
    apply::apply,
    batches::{Batches, Left},
    files::{Files, Unsettled},
    open::{damaged, edge},
};
use crate::core::batch::{Batch, Record};

/// Where versions without the journal kept their newest batch.
const PENDING: &str = "ledger.pending";

/// What a start has at hand.
pub(super) struct Start<'a> {
    pub(super) files: &'a Files,
    pub(super) settings: &'a Settings,
    pub(super) keys: &'a LedgerKeys,
    pub(super) log: &'a TrustedLog,
}

impl Start<'_> {
    /// The newest checkpoint, and its text, of the log that `ledger/checkpoint`, as it is stored, and the journal lead to.
    ///
    /// # Errors
    /// `Damaged` when checkpoint and journal are of two histories, or one of them was rolled back; `Io`.
    pub(super) fn finish(
        &self,
        batches: &mut Batches,
        left: Option<Left>,
        stored: &str,
    ) -> Outcome<(Checkpoint, String)> {
        let newest = self.opened(stored);
        let newest = newest.map_err(|e| e.during("ledger/checkpoint"))?;
        let left = match left {
            Some(left) => left,
            None => self.begin(batches, &newest)?,
        };
        let settled = self.opened(&left.settled);
        let settled = settled.map_err(|e| e.during("ledger.batches"))?.0;
        let mut unsettled = Unsettled::default();
        let (newest, text) = self.lead_on(&settled, &left.batches, newest, &mut unsettled)?;
        // Of a log whose key was changed, the key of today signs the same size and root.
        if text != stored || text != left.settled {
            batches.settle(self.files, &mut unsettled, &text)?;
        }
        self.forget_pending()?;
        Ok((newest, text))
    }

    /// A checkpoint of this log, as the key of today signs it: signed by that key or, of a log whose key was changed, by
    /// a key of the policy before that one was retired.
    fn opened(&self, text: &str) -> Outcome<(Checkpoint, String)> {
        let own = match checkpoint::open(text, self.log) {
            Ok(covered) => return Ok((covered, text.to_owned())),
            Err(e) => damaged(e, "the checkpoint"),
        };
        let policy = self.settings.policy.as_ref();
        match policy.map(|policy| policy.open(text)) {
            Some(Ok(opened)) => {
                let text = opened.checkpoint.sign(&self.keys.log.sign)?;
                Ok((opened.checkpoint, text))
            }
            _ => Err(own),
        }
    }

    /// Begins the journal of a log that is new, brought back from a copy of the log alone, or of a version without it.
    fn begin(&self, batches: &mut Batches, (newest, text): &(Checkpoint, String)) -> Outcome<Left> {
        // Also where it is there: a killed process may have left it in a cache that was never synced.
        self.files.write_checkpoint(text)?;
        let left = Left {
            settled: text.clone(),
            batches: self.pending(newest)?.into_iter().collect(),
        };
        batches.begin(&left)?;
        Ok(left)
    }

    /// Goes from the newest `settled` over all batches behind it; the newest checkpoint, and its text.
    fn lead_on(
        &self,
        settled: &Checkpoint,
        batches: &[Batch],
        mut newest: (Checkpoint, String),
        unsettled: &mut Unsettled,
    ) -> Outcome<(Checkpoint, String)> {
        of_one_history(settled, batches, &newest.0)?;
        if batches.is_empty() {
            return Ok(newest);
        }
        let (files, origin, log) = (self.files, &self.settings.origin, &self.keys.log);
        let mut tree = edge(files, (settled.size, settled.root))?;
        for batch in batches {
            let one = || format!("ledger.batches, the batch behind entry {}", batch.old_size);
            let applied = apply(files, unsettled, &tree, batch, origin, log);
            let applied = applied.map_err(|e| e.during(one()))?;
            tree = applied.tree;
            newest = (applied.checkpoint, applied.text);
            if unsettled.is_much() {
                files.sync(unsettled)?;
            }
        }
        tracing::info!(
            "ledger: applied {} batches that were not in ledger/ yet, up to entry {}",
            batches.len(),
            newest.0.size,
        );
        Ok(newest)
    }

    /// The batch that a version without the journal left without its checkpoint.
    fn pending(&self, covered: &Checkpoint) -> Outcome<Option<Batch>> {
        let path = self.settings.data_dir.join(PENDING);
        let max = limits::LEDGER_BATCH_BYTES_MAX as u64;
        let bytes = match self.files.disk.read(&path, max) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| Failure::os(PENDING, &e))?,
        };
        match Record::decode(&bytes).map_err(|e| e.during(PENDING))? {
            Record::Batch(batch) if batch.old_size == covered.size => Ok(Some(batch)),
            Record::Batch(batch)
                if (batch.new_size, batch.root) == (covered.size, covered.root) =>
            {
                Ok(None)
            }
            _ => Err(Failure::damaged(format!(
                "{PENDING} does not fit the {} entries of the ledger: one was rolled back",
                covered.size
            ))),
        }
    }

    /// The journal says from now on what it said. What a crash brings back is not read: the journal is there.
    fn forget_pending(&self) -> Outcome<()> {
        let path = self.settings.data_dir.join(PENDING);
        match self.files.disk.remove(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::os(PENDING, &e)),
            _ => Ok(()),
        }
    }
}

/// Whether a checkpoint is that of `settled`, or of one of the batches behind it.
fn of_one_history(settled: &Checkpoint, batches: &[Batch], checkpoint: &Checkpoint) -> Outcome<()> {
    let after = batches.iter().map(|batch| (batch.new_size, batch.root));
    let mut states = std::iter::once((settled.size, settled.root)).chain(after);
    match states.find(|(size, _)| *size == checkpoint.size) {
        Some((_, root)) if root == checkpoint.root => Ok(()),
        Some(_) => Err(Failure::damaged(
            "ledger/checkpoint and ledger.batches name two roots for one size: a fork",
        )),
        None => Err(Failure::damaged(format!(
            "ledger.batches stands on {} entries and ends at {}, but the ledger has {}: one was rolled back",
            settled.size,
            batches.last().map_or(settled.size, |last| last.new_size),
            checkpoint.size
        ))),
    }
}
