//! What counts for readers. Under a policy that asks for witnesses: the newest checkpoint that enough of them
//! cosigned (C2SP tlog-policy). Without one: the newest.
//!
//! ```text
//! newest: signed, durable ─▶ witnesses are asked ─▶ enough of them ─▶ settled ─▶ `ledger.cosigned`, synced ─▶ receipts
//! ```
//!
//! A receipt that a witness has not seen could be one of a history that only one reader is shown, so none is given
//! out. A crash before the file is durable costs time: the witnesses are asked again and say the same.

use std::{io, path::PathBuf};

use chordae_base::{Failure, Outcome, limits, seams};
use chordae_chain::{checkpoint::Checkpoint, policy::Policy};

use super::{Ledger, files::Files, write_view};

/// The file beside the log.
const FILE: &str = "ledger.cosigned";

/// A policy that asks for witnesses, and where what meets it is kept.
pub(super) struct Quorum {
    pub(super) policy: Policy,
    path: PathBuf,
}

/// A checkpoint and its signed text.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) text: String,
}

impl Quorum {
    pub(super) fn new(policy: Policy, data_dir: &std::path::Path) -> Self {
        let path = data_dir.join(FILE);
        Self { policy, path }
    }

    /// What counted before the start; none if the policy is another one by now.
    ///
    /// # Errors
    /// `Damaged` for what the log up to `newest` does not begin with: witnesses have seen more of it, or another
    /// history, so the folder was set back.
    pub(super) fn read(&self, files: &Files, newest: &Checkpoint) -> Outcome<Option<Signed>> {
        let bytes = match files
            .disk
            .read(&self.path, limits::CHECKPOINT_BYTES_MAX as u64)
        {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| Failure::os(FILE, &e))?,
        };
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Failure::damaged(format!("{FILE} is not text")))?;
        let opened = self.policy.open(&text).map_err(|e| e.during(FILE))?;
        if !opened.counts() {
            tracing::warn!(
                "{FILE} does not meet the policy any more: the witnesses are asked anew"
            );
            return Ok(None);
        }
        let checkpoint = opened.checkpoint;
        if !files.begins_with((newest.size, newest.root), &checkpoint)? {
            return Err(Failure::damaged(format!(
                "{FILE} was cosigned over {} entries that the ledger does not begin with: it was set back",
                checkpoint.size
            )));
        }
        Ok(Some(Signed { checkpoint, text }))
    }
}

impl Ledger {
    /// The policy that receipts wait for.
    pub fn policy(&self) -> Option<&Policy> {
        self.0.quorum.as_ref().map(|quorum| &quorum.policy)
    }

    /// Size of the newest checkpoint that counts for readers; 0 if none does.
    pub fn counted(&self) -> u64 {
        self.view().counted().map_or(0, |(c, _)| c.size)
    }

    /// A checkpoint of this log with cosignatures: if it meets the policy and is newer than what counts, it counts
    /// from now on. Whether it does.
    ///
    /// # Errors
    /// `BadInput` or `Damaged` for what is no checkpoint of this log, or one that it does not begin with; `Io`.
    pub fn count(&self, text: &str) -> Outcome<bool> {
        let Some(quorum) = &self.0.quorum else {
            return Ok(false);
        };
        let opened = quorum.policy.open(text)?;
        let newer = match self.view().counted() {
            Some((counted, _)) => opened.checkpoint.size > counted.size,
            None => true,
        };
        if !opened.counts() || !newer {
            return Ok(false);
        }
        if !self.begins_with(&opened.checkpoint)? {
            return Err(Failure::damaged(
                "a cosigned checkpoint is of another history than this log's",
            ));
        }
        // What witnesses have seen must be in the folder before it says so: without that a crash would read as a log
        // that was set back.
        self.settle()?;
        seams::write_atomic(&*self.0.shelf.files.disk, &quorum.path, text.as_bytes())
            .map_err(|e| Failure::os(format_args!("write {FILE}"), &e))?;
        let (checkpoint, text) = (opened.checkpoint, text.to_owned());
        let mut view = write_view(&self.0.shelf.view);
        view.cosigned = Some(Signed { checkpoint, text });
        self.0.metrics.show_uncounted(&view);
        Ok(true)
    }
}
