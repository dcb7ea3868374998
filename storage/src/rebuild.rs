//! The link journal made anew, after it was lost (decision 0041).
//!
//! ```text
//! links.rebuilt/   links, stream after stream, synced ──rename──▶ links/
//! ```
//!
//! The one step that counts is the rename: before it the folder has no links and the node does not
//! start, after it the folder has all of them. A crash before leaves a `links.rebuilt/` that the next
//! rebuild begins again. Nothing here judges a chunk; whoever calls has held it against the ledger.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_base::{Failure, Outcome, limits::REBUILD_LINKS_AT_ONCE, seams::Disk};
use chordae_chain::link::Link;

use crate::{links::LinkJournal, store::ChunkStore};

/// See the module.
pub struct Rebuild {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    store: ChunkStore,
    journal: LinkJournal,
}

impl Rebuild {
    /// Whether a data folder has no links.
    ///
    /// # Errors
    /// `Io`.
    pub fn needed(disk: &dyn Disk, data_dir: &Path) -> Outcome<bool> {
        Ok(!LinkJournal::is_there(disk, data_dir)?)
    }

    /// Begins in a data folder that has no links.
    ///
    /// # Errors
    /// `Refused` if there are links, which are never written over; `Io`.
    pub fn begin(disk: Arc<dyn Disk>, data_dir: &Path) -> Outcome<Self> {
        if LinkJournal::is_there(&*disk, data_dir)? {
            let links = LinkJournal::dir(data_dir);
            return Err(Failure::refused(format!(
                "{0} is there, and is not written over; if `chordae verify` finds fault with it, move it away \
                 (mv {0} {0}.old) and rebuild",
                links.display()
            )));
        }
        let dir = beside(data_dir);
        clear(&*disk, &dir)?;
        let (journal, _) = LinkJournal::open_in(Arc::clone(&disk), dir)?;
        Ok(Self {
            store: ChunkStore::new(Arc::clone(&disk), data_dir),
            disk,
            data_dir: data_dir.to_owned(),
            journal,
        })
    }

    /// Takes the links of a stream, from its first. The files of those from index `unproven` on are synced
    /// first: a crash may have left the newest one in a cache.
    ///
    /// # Errors
    /// `Io`.
    pub fn take(&mut self, links: &[Link], unproven: u64) -> Outcome<()> {
        for link in links.iter().filter(|link| link.index >= unproven) {
            let settled = self.store.settle(&link.did, link.index);
            settled.map_err(|e| Failure::io(e.why))?;
        }
        for some in links.chunks(REBUILD_LINKS_AT_ONCE) {
            self.journal.append(some)?;
        }
        Ok(())
    }

    /// Reads back what was written and puts it in its place; durable when it returns.
    ///
    /// # Errors
    /// `Damaged` if what was written does not read back, `Io`. The folder has no links then, or, where
    /// only the last sync failed, perhaps all of them.
    pub fn put_in_place(self) -> Outcome<()> {
        let dir = beside(&self.data_dir);
        drop(self.journal);
        drop(LinkJournal::open_in(Arc::clone(&self.disk), dir.clone())?);
        let place = LinkJournal::dir(&self.data_dir);
        // Crash before: no links, and no start. After: all of them.
        let done = self.disk.rename(&dir, &place);
        done.and_then(|()| self.disk.sync_dir(&self.data_dir))
            .map_err(|e| Failure::os(format_args!("rename {}", dir.display()), &e))
    }

    /// Leaves the folder as it was.
    ///
    /// # Errors
    /// `Io`; what stays behind is cleared by the next rebuild.
    pub fn withdraw(self) -> Outcome<()> {
        drop(self.journal);
        clear(&*self.disk, &beside(&self.data_dir))
    }
}

fn beside(data_dir: &Path) -> PathBuf {
    data_dir.join("links.rebuilt")
}

/// Removes the files of a rebuild that did not come to its end.
fn clear(disk: &dyn Disk, dir: &Path) -> Outcome<()> {
    let os = |e| Failure::os(format_args!("clear {}", dir.display()), &e);
    let entries = match disk.list(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(os)?,
    };
    for entry in entries {
        disk.remove(&entry.path).map_err(os)?;
    }
    disk.sync_dir(dir).map_err(os)
}
