//! The commit of sealed chunks: the order of truth, steps c and d.
//!
//! ```text
//!  check ─▶ files (create, write, sync, sync folder) ─▶ read again, hash ─▶ links (one sync) ─▶ told
//!            crash: orphans, adopted or removed                      crash: history or orphans
//! ```
//!
//! Nothing is linked that was not just read back from the store with the digest the link names: a disk
//! that lies about a write is met here, while the WAL still has the rows.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use chordae_base::{Did, Failure, Outcome, limits::COMMIT_CHUNKS_MAX, seams::Disk};
use chordae_chain::{link::Link, meta::ChunkMeta};
use chordae_chunk::{SealedChunk, file_root};

use crate::{
    catalogue::{Catalogue, Tip},
    links::LinkJournal,
    store::{ChunkStore, Put},
    sweep::sweep,
};

/// Called with new links, in order, after they are history and in the catalogue.
pub type OnLinked = Box<dyn Fn(&[Link]) + Send>;

/// The one writer of `chunks/` and `links/`.
pub struct Committer {
    store: ChunkStore,
    links: LinkJournal,
    catalogue: Arc<Catalogue>,
    on_linked: OnLinked,
}

impl Committer {
    /// Opens a data folder: folds the links, verifies every linked file (`progress(done, all)` after
    /// each), sweeps what no link names. The catalogue is shared with the readers.
    ///
    /// # Errors
    /// `Damaged` naming the place, when links do not follow each other or were lost; `Io`. A chunk file
    /// that is missing or does not match its link is no error here: the catalogue marks it, serves all
    /// others, and never serves it.
    pub fn open(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
        on_linked: OnLinked,
    ) -> Outcome<(Self, Arc<Catalogue>)> {
        let store = ChunkStore::new(Arc::clone(&disk), data_dir);
        // Before the journal is opened, which makes an empty one: chunks come after links/, always.
        if !LinkJournal::is_there(&*disk, data_dir)? && store.has_any()? {
            return Err(Failure::damaged(format!(
                "{} has chunks and no links: they were lost; bring them back, or make them anew: \
                 chordae rebuild --data {0}",
                data_dir.display()
            )));
        }
        let (links, linked) = LinkJournal::open(disk, data_dir)?;
        let catalogue = Arc::new(Catalogue::fold(store.clone(), linked, progress));
        sweep(&store, &catalogue)?;
        Ok((
            Self {
                store,
                links,
                catalogue: Arc::clone(&catalogue),
                on_linked,
            },
            catalogue,
        ))
    }

    /// Where the next chunk of a did goes.
    pub fn tip(&self, did: &Did) -> Tip {
        self.catalogue.tip(did)
    }

    /// Stores and links chunks, at most one per did; all of them or none.
    ///
    /// # Errors
    /// `Busy`: nothing is linked and the disk is full. `Io`: the link journal is gone and nobody knows
    /// whether these are linked; the process must end. Anything else: nothing is linked.
    pub fn commit(&mut self, chunks: &[SealedChunk]) -> Outcome<Vec<Link>> {
        self.check(chunks)?;
        let mut linked = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            // c. Crash in here: files at the next index of their dids that no link names.
            match self.file(chunk) {
                Ok(link) => linked.push((link, chunk.meta().clone())),
                Err(failure) => {
                    self.withdraw(&linked);
                    return Err(failure);
                }
            }
        }
        let links: Vec<Link> = linked.iter().map(|(link, _)| link.clone()).collect();
        // d. Crash before this returns: the first links of the batch may be history, the files of the
        // others are orphans. On failure all files stay, for their links may be there.
        self.links.append(&links)?;
        // Crash from here on: history. The next start folds it.
        self.catalogue.add(linked);
        (self.on_linked)(&links);
        Ok(links)
    }

    fn check(&self, chunks: &[SealedChunk]) -> Outcome<()> {
        let mut dids = BTreeSet::new();
        for chunk in chunks {
            let link = chunk.link();
            let tip = self.tip(&link.did);
            if (link.index, link.prev) != (tip.next_index, tip.prev) {
                return Err(Failure::internal(format!(
                    "chunk {} of {} was sealed for another place than {}",
                    link.index, link.did, tip.next_index
                )));
            }
            if !dids.insert(link.did) {
                return Err(Failure::internal(format!(
                    "two chunks of {} in a commit",
                    link.did
                )));
            }
        }
        if chunks.len() > COMMIT_CHUNKS_MAX {
            return Err(Failure::internal(format!(
                "{} chunks in a commit",
                chunks.len()
            )));
        }
        Ok(())
    }

    /// Puts one file there, or adopts the equal one that a crash left; returns the link of what was
    /// read back.
    fn file(&self, chunk: &SealedChunk) -> Outcome<Link> {
        let (did, index) = (chunk.link().did, chunk.link().index);
        let mut link = chunk.link().clone();
        if self.store.put(&did, index, chunk.bytes())? == Put::Taken {
            match self.adopt(chunk)? {
                Some(adopted) => link = adopted,
                None => {
                    self.store.remove(&did, index)?;
                    if self.store.put(&did, index, chunk.bytes())? == Put::Taken {
                        return Err(Failure::internal(format!(
                            "another writer makes chunk {index} of {did}; stop it"
                        )));
                    }
                }
            }
        }
        // A failure to read is this chunk's until the next start; the file is an orphan till then.
        let read = self
            .store
            .read(&did, index)
            .map_err(|e| Failure::internal(e.why))?;
        if file_root(&read) != link.file_root {
            self.store.remove(&did, index)?;
            return Err(Failure::damaged(format!(
                "chunk {index} of {did} reads back other than it was written; check the disk"
            )));
        }
        Ok(link)
    }

    /// The link of the file that is there already, if it says what the new chunk says: same metadata
    /// (so the same place and `prev`), same rows. Only its salt is its own. It may never have been
    /// synced, so it is synced before it is believed.
    fn adopt(&self, chunk: &SealedChunk) -> Outcome<Option<Link>> {
        let (did, index) = (chunk.link().did, chunk.link().index);
        let Ok(found) = self.store.read(&did, index).and_then(chordae_chunk::open) else {
            return Ok(None);
        };
        if found.meta != *chunk.meta() || *found.rows() != chunk.rows()? {
            return Ok(None);
        }
        self.store.settle(&did, index)?;
        tracing::info!(%did, index, "adopted a chunk file that had no link");
        found.link().map(Some)
    }

    /// Takes back files of a commit that failed before its links. What cannot be removed is an orphan
    /// like after a crash.
    fn withdraw(&self, files: &[(Link, ChunkMeta)]) {
        for (link, _) in files {
            if let Err(failure) = self.store.remove(&link.did, link.index) {
                tracing::warn!(why = %failure, "a chunk file without link stays behind");
            }
        }
    }
}
