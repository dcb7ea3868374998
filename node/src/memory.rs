//! What gateways remember of our log, held against it (decision 0034).
//!
//! ```text
//! gateway connects: "I was given this" ─▶ our log begins with it ─▶ it is given the newest one, and each after
//!                                      ─▶ it does not ─▶ `rollback.json` (synced) ─▶ the server ends there and then
//! the next start: `rollback.json` names a checkpoint that our log does not begin with ─▶ reading only
//! ```
//!
//! A gateway connects after the start, so the doors may have been open for a moment; nothing can be done about
//! that but to end at once, without sealing or anchoring: what was acknowledged lies in the write-ahead log.
//!
//! A checkpoint is signed by us, so a gateway cannot make one up. One that is not signed by our log (the keys
//! were made anew) is said, and is no reason to stop. What an operator has accepted as lost is kept by name:
//! the same memory does not stop the server twice.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chordae_anchor::Ledger;
use chordae_base::{
    DeviceId, Failure, Outcome,
    seams::{Disk, write_atomic},
};
use chordae_ingest::core::ports::Checkpoints;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A checkpoint that somebody remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// The gateway.
    by: DeviceId,
    /// As it was signed.
    checkpoint: String,
}

/// The file, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// What our log did not begin with, when it was told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    seen: Option<Remembered>,
    /// What an operator has accepted as lost.
    #[serde(default)]
    accepted: Vec<Remembered>,
}

/// See the module.
pub struct Memory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    ledger: Ledger,
    note: Mutex<Note>,
    set_back: watch::Sender<Option<Outcome<String>>>,
}

impl Memory {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// `Damaged` for a file that we did not write; `Io`.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, ledger: Ledger) -> Outcome<Self> {
        let note = match disk.read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                Failure::damaged(format!("{}: {e}; gateways say it again", path.display()))
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Note::default(),
            Err(e) => return Err(Failure::os(format_args!("read {}", path.display()), &e)),
        };
        Ok(Self {
            disk,
            path,
            ledger,
            note: Mutex::new(note),
            set_back: watch::Sender::new(None),
        })
    }

    /// Why the folder is not what a gateway was told it was; `None` if it is.
    ///
    /// # Errors
    /// Those of the ledger's tiles.
    pub fn contradicts(&self) -> Outcome<Option<String>> {
        let seen = self.lock().seen.clone();
        match seen {
            Some(seen) => self.judge(&seen),
            None => Ok(None),
        }
    }

    fn judge(&self, told: &Remembered) -> Outcome<Option<String>> {
        let Remembered { by, checkpoint } = told;
        let seen = match self.ledger.known(checkpoint) {
            Ok(seen) => seen,
            Err(e) => {
                let why = e.why;
                tracing::warn!(gateway = %by, why, "what it remembers is no checkpoint of this log");
                return Ok(None);
            }
        };
        if self.ledger.begins_with(&seen)? {
            return Ok(None);
        }
        let here = self.ledger.size();
        Ok(Some(format!(
            "the data folder was set back: gateway {by} saw a ledger of {} entries, here are {here}{}",
            seen.size,
            match here < seen.size {
                true => ";",
                false => " of another history;",
            }
        )))
    }

    /// Completes when a gateway has contradicted the log, and says how: nothing more may be taken.
    ///
    /// # Errors
    /// When that could not be written down: a start would know of nothing.
    pub async fn set_back(&self) -> Outcome<String> {
        let mut set_back = self.set_back.subscribe();
        loop {
            if let Some(why) = set_back.borrow_and_update().clone() {
                return why;
            }
            // The sender is ours, so it does not end.
            set_back.changed().await.ok();
        }
    }

    /// An operator takes the log as it is: the same memory stops nothing any more.
    ///
    /// # Errors
    /// `Io`; the next start then asks again.
    pub fn accept(&self) -> Outcome<()> {
        let mut note = self.lock();
        let seen = note.seen.take();
        note.accepted.extend(seen);
        self.write(&note)
    }

    fn write(&self, note: &Note) -> Outcome<()> {
        let bytes = serde_json::to_vec(note)
            .map_err(|e| Failure::internal(format!("{}: {e}", self.path.display())))?;
        write_atomic(&*self.disk, &self.path, &bytes)
            .map_err(|e| Failure::os(format_args!("write {}", self.path.display()), &e))
    }

    fn lock(&self) -> MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checkpoints for Memory {
    fn newest(&self) -> String {
        self.ledger.checkpoint()
    }

    fn remembered(&self, gateway: &DeviceId, text: &str) -> Outcome<()> {
        let told = Remembered {
            by: gateway.clone(),
            checkpoint: text.to_owned(),
        };
        let Some(why) = self.judge(&told)? else {
            return Ok(());
        };
        let mut note = self.lock();
        if note.accepted.iter().any(|old| old.checkpoint == text) {
            return Ok(());
        }
        // First of all: whatever becomes of this process, the next start knows. If it cannot be written, we
        // end all the same, and the gateway says it again.
        note.seen = Some(told);
        let kept = self.write(&note);
        drop(note);
        tracing::error!(why, "nothing more is taken");
        let told = kept.map(|()| why.clone()).map_err(|e| e.during(&why));
        self.set_back.send_replace(Some(told));
        Err(Failure::refused(why))
    }
}
