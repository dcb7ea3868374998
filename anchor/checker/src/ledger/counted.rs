//! Which part of the log counts while witnesses lag behind: `ledger.cosigned` holds the newest checkpoint that the
//! node's policy was met by (C2SP tlog-policy).

use chordae_base::Outcome;
use chordae_chain::{
    checkpoint::Checkpoint,
    finding::Code,
    merkle::{Frontier, NodeHash},
    policy::Policy,
};

use super::{CHECKPOINT_BYTES, Walk};

const COSIGNED: &str = "ledger.cosigned";

/// An earlier checkpoint that enough witnesses have cosigned, and the log up to there as it is walked over.
pub(super) struct Counted {
    checkpoint: Checkpoint,
    walked: Frontier,
}

impl Counted {
    /// Goes over the next leaves of the log.
    pub(super) fn walk(&mut self, leaves: &[NodeHash]) {
        let left = self.checkpoint.size.saturating_sub(self.walked.size());
        for leaf in leaves
            .iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            self.walked.append(*leaf);
        }
    }
}

impl Walk<'_> {
    /// Whether an earlier checkpoint counts: the node keeps the newest that enough witnesses have cosigned.
    pub(super) fn cosigned(
        &mut self,
        policy: &Policy,
        newest: &Checkpoint,
        notes: &mut Vec<String>,
    ) -> Outcome<bool> {
        let read = self.stored.folder.read(COSIGNED, CHECKPOINT_BYTES)?;
        let Some(read) = read.text() else {
            return Ok(false);
        };
        let opened = read.and_then(|text| match policy.open(&text) {
            Ok(opened) => Ok((text, opened)),
            Err(e) => Err(e.why),
        });
        let (text, opened) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.found.add(COSIGNED, Code::CheckpointSignature, why);
                return Ok(false);
            }
        };
        // The trust file may ask for other witnesses than the node does.
        if !opened.counts() {
            return Ok(false);
        }
        let checkpoint = opened.checkpoint;
        if checkpoint.size > newest.size {
            let why = format!(
                "was cosigned over {} entries, the ledger has {}",
                checkpoint.size, newest.size
            );
            self.found.add(COSIGNED, Code::Rollback, why);
            return Ok(false);
        }
        notes.push(format!(
            "what counts are the first {} entries, which enough witnesses have cosigned",
            checkpoint.size
        ));
        self.signed = Some(text);
        self.counted = Some(Counted {
            checkpoint,
            walked: Frontier::default(),
        });
        Ok(true)
    }

    /// Forgets what lies beyond the checkpoint that counts, if that is an earlier one.
    pub(super) fn only_counted(&mut self) {
        let Some(Counted { checkpoint, walked }) = &self.counted else {
            return;
        };
        let size = checkpoint.size;
        if (walked.size(), walked.root()) != (size, checkpoint.root) {
            let why =
                format!("was cosigned over {size} entries that the ledger does not begin with");
            self.found.add(COSIGNED, Code::Fork, why);
        }
        self.facts.heads.retain(|head| head.leaf < size);
        self.facts.audits.retain(|audit| audit.leaf < size);
    }
}
