//! The witness file: the newest checkpoint of our own log, kept outside the data folder.
//!
//! ```text
//! checkpoint durable ─▶ witness file (written aside, synced, renamed) ─▶ its submitters are told
//! start: witness ≤ ledger, and the ledger begins with it ─▶ as always
//!        anything else: the folder was set back ─▶ read only, until an operator accepts it
//! ```
//!
//! A data folder of yesterday is flawless in itself: every file is what it was, ledger included. Going on from
//! it would sign a second history beside the one that readers have seen. Only a memory elsewhere can tell, and
//! the checkpoint is a good one: it is signed, so nobody can plant another, and it moves with every link and at
//! least hourly. A folder that was set back by less than one checkpoint is not noticed.
//!
//! A crash between checkpoint and witness leaves a witness that is older than the ledger: that is no rollback.
//! A witness that cannot be read or is not signed by our log refuses the start: without it we would be blind.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_anchor::Ledger;
use chordae_base::{
    Failure, Outcome, limits,
    seams::{Disk, write_atomic},
};
use chordae_chain::checkpoint::Checkpoint;

/// Bytes of a checkpoint.
const TEXT_MAX: u64 = limits::CHECKPOINT_BYTES_MAX as u64;

/// See the module.
#[derive(Clone)]
pub struct WitnessFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl WitnessFile {
    /// The witness of a data folder, at a path of its own.
    ///
    /// # Errors
    /// `BadInput` for a path that is relative or in the folder, with which it would be set back.
    pub fn new(disk: Arc<dyn Disk>, path: &Path, folder: &Path) -> Outcome<Self> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let parent = path.parent().unwrap_or(path);
        let real = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        if path.is_relative() || real.starts_with(&folder) {
            return Err(Failure::bad_input(format!(
                "ledger.witness = {:?}: name a whole path outside the data folder, or it is set back with it",
                path.display()
            )));
        }
        let path = path.to_owned();
        Ok(Self { disk, path })
    }

    /// Why the folder of this ledger is not what it was; `None` if it is, or nobody remembers.
    ///
    /// # Errors
    /// `Damaged` for a witness that is no checkpoint of this log; `Io` when it cannot be read.
    pub fn contradicts(&self, ledger: &Ledger) -> Outcome<Option<String>> {
        let Some(seen) = self.recall(ledger)? else {
            return Ok(None);
        };
        if ledger.begins_with(&seen)? {
            return Ok(None);
        }
        let (size, path) = (ledger.size(), self.path.display());
        Ok(Some(format!(
            "the data folder was set back: {path} saw a ledger of {} entries, here are {} it does not begin with",
            seen.size,
            match size < seen.size {
                true => format!("{size};"),
                false => format!("{size}, another history;"),
            }
        )))
    }

    fn recall(&self, ledger: &Ledger) -> Outcome<Option<Checkpoint>> {
        let advice = "bring the file back, or take ledger.witness out of the settings";
        let path = self.path.display();
        let text = match self.disk.read(&self.path, TEXT_MAX) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::io(format!("read {path}: {e}; {advice}"))),
        };
        let text = String::from_utf8(text).unwrap_or_default();
        let seen = ledger.known(&text).map_err(|e| {
            Failure::damaged(format!(
                "{path} is no checkpoint of this log ({}); {advice}",
                e.why
            ))
        })?;
        Ok(Some(seen))
    }

    /// Keeps a checkpoint instead of the one before.
    ///
    /// # Errors
    /// `Io`; the one before is then still there.
    pub fn keep(&self, text: &str) -> Outcome<()> {
        write_atomic(&*self.disk, &self.path, text.as_bytes())
            .map_err(|e| Failure::os(format_args!("write {}", self.path.display()), &e))
    }

    /// Keeps what was seen under another name, then the ledger as it is: an operator has accepted it.
    ///
    /// # Errors
    /// `Io`; the next start then asks again.
    pub fn accept(&self, ledger: &Ledger, time_ms: u64) -> Outcome<()> {
        let seen = match self.disk.read(&self.path, TEXT_MAX) {
            Ok(seen) => seen,
            // It was a gateway that remembered.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return self.keep(&ledger.checkpoint());
            }
            Err(e) => return Err(Failure::os(self.path.display(), &e)),
        };
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".until-{time_ms}"));
        write_atomic(&*self.disk, Path::new(&aside), &seen)
            .map_err(|e| Failure::os(format_args!("write {}", Path::new(&aside).display()), &e))?;
        self.keep(&ledger.checkpoint())
    }
}
