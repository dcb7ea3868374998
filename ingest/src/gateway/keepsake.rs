//! The newest checkpoint of the node's log, as the node gave it: a memory outside its data folder (decision 0034).
//!
//! It is said first on every connection, and replaced by what the node gives after that. A node that was set
//! back does not get so far: it sees what it has forgotten, and takes nothing more. We cannot judge it, and need
//! not: the node's own signature is on it, and nobody but the node can make another.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use chordae_base::{
    Failure, Outcome, limits,
    seams::{Disk, write_atomic},
};

/// See the module.
pub struct Keepsake {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    text: Mutex<String>,
}

impl Keepsake {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// `Io`. What stands in it is the node's to judge.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Outcome<Self> {
        let text = match disk.read(&path, limits::CHECKPOINT_BYTES_MAX as u64) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => String::new(),
            Err(err) => return Err(Failure::os(format_args!("read {}", path.display()), &err)),
        };
        let text = Mutex::new(text);
        Ok(Self { disk, path, text })
    }

    /// What the node gave last; empty before it gave anything.
    pub fn text(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }

    /// Keeps another one instead. Blocks on the disk.
    ///
    /// # Errors
    /// `Io`; the one before is then still there.
    pub fn keep(&self, text: String) -> Outcome<()> {
        write_atomic(&*self.disk, &self.path, text.as_bytes())
            .map_err(|err| Failure::os(format_args!("write {}", self.path.display()), &err))?;
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }
}
