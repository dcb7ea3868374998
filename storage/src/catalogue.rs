//! The catalogue: what is stored, for readers. Folded from links and chunk files at every start, and
//! grown by each commit; it keeps nothing of its own on the disk.
//!
//! Bytes leave it only after their digest matched their link. A file that is missing or does not match
//! is marked damaged, listed, and never served; its neighbours are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, FailureKind, Outcome, Span, limits::SLOT_NS_MAX, seams::Stamp,
};
use chordae_chain::{
    link::{Link, genesis},
    meta::ChunkMeta,
};
use chordae_chunk::OpenChunk;

use crate::store::ChunkStore;

/// Where the next chunk of a did goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Index of the next chunk.
    pub next_index: u64,
    /// Digest of the newest link, or the genesis of the did.
    pub prev: Digest,
}

/// What is known of a linked chunk's file.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkState {
    /// It matched its link when it was last read.
    Whole(Arc<ChunkMeta>),
    /// It is missing or does not match; never served.
    Damaged(Arc<str>),
}

/// A linked chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its link.
    pub link: Link,
    /// Its file.
    pub state: ChunkState,
}

impl Entry {
    /// The metadata; none of a damaged chunk.
    pub fn meta(&self) -> Option<&Arc<ChunkMeta>> {
        match &self.state {
            ChunkState::Whole(meta) => Some(meta),
            ChunkState::Damaged(_) => None,
        }
    }
}

#[derive(Default)]
struct Chain {
    entries: Vec<Entry>,
    /// (slot start, index): the time index. A chunk lies in one slot and slots are at most an hour.
    by_slot: BTreeSet<(i64, u64)>,
    tip: Option<Tip>,
}

impl Chain {
    fn push(&mut self, entry: Entry) {
        self.by_slot
            .insert((entry.link.slot_start_ns, entry.link.index));
        let next_index = entry.link.index.saturating_add(1);
        self.tip = Some(Tip {
            next_index,
            prev: entry.link.digest(),
        });
        self.entries.push(entry);
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }
}

/// The chunk opened last, with its did and index.
type LastOpened = Option<(Did, u64, Arc<OpenChunk>)>;

/// See the module.
pub struct Catalogue {
    store: ChunkStore,
    chains: RwLock<BTreeMap<Did, Chain>>,
    /// Repeats of old frames come in order, so the last chunk is usually the next one too.
    opened: Mutex<LastOpened>,
}

impl Catalogue {
    /// Folds links that follow each other; reads and verifies each file.
    pub(crate) fn fold(
        store: ChunkStore,
        links: Vec<Link>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Self {
        let all = links.len();
        let mut chains: BTreeMap<Did, Chain> = BTreeMap::new();
        for (n, link) in links.into_iter().enumerate() {
            let state = match verified_meta(&store, &link) {
                Ok(meta) => ChunkState::Whole(Arc::new(meta)),
                Err(failure) => {
                    tracing::error!(did = %link.did, index = link.index, why = %failure,
                        "a linked chunk is damaged; it is not served");
                    ChunkState::Damaged(failure.why.into())
                }
            };
            chains
                .entry(link.did)
                .or_default()
                .push(Entry { link, state });
            progress(n + 1, all);
        }
        Self {
            store,
            chains: RwLock::new(chains),
            opened: Mutex::new(None),
        }
    }

    pub(crate) fn add(&self, linked: Vec<(Link, ChunkMeta)>) {
        let mut chains = self.write();
        for (link, meta) in linked {
            let state = ChunkState::Whole(Arc::new(meta));
            chains
                .entry(link.did)
                .or_default()
                .push(Entry { link, state });
        }
    }

    /// Every did with a chunk.
    pub fn dids(&self) -> Vec<Did> {
        self.read().keys().copied().collect()
    }

    /// Where the next chunk of a did goes.
    pub fn tip(&self, did: &Did) -> Tip {
        let tip = self.read().get(did).and_then(|c| c.tip);
        tip.unwrap_or_else(|| Tip {
            next_index: 0,
            prev: genesis(did),
        })
    }

    /// The newest link of a did.
    pub fn head(&self, did: &Did) -> Option<Link> {
        self.read().get(did)?.entries.last().map(|e| e.link.clone())
    }

    /// Links of a did by index; indexes that are not there are left out.
    pub fn links(&self, did: &Did, range: Range<u64>) -> Vec<Link> {
        let chains = self.read();
        let Some(chain) = chains.get(did) else {
            return Vec::new();
        };
        let end = usize::try_from(range.end)
            .unwrap_or(usize::MAX)
            .min(chain.entries.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        let entries = chain.entries.get(start..end).unwrap_or_default();
        entries.iter().map(|e| e.link.clone()).collect()
    }

    /// One chunk.
    pub fn entry(&self, did: &Did, index: u64) -> Option<Entry> {
        self.read().get(did)?.entry(index).cloned()
    }

    /// Chunks whose rows' span shares an instant with `span`, by index.
    pub fn touching(&self, did: &Did, span: Span) -> Vec<Entry> {
        let chains = self.read();
        let Some(chain) = chains.get(did) else {
            return Vec::new();
        };
        let (from, until) = (span.from_ns.saturating_sub(SLOT_NS_MAX), span.until_ns);
        if span.from_ns >= until {
            return Vec::new();
        }
        let near = chain.by_slot.range((from, 0)..(until, 0));
        let entries = near.filter_map(|(_, index)| chain.entry(*index));
        let mut out: Vec<Entry> = entries
            .filter(|e| e.link.span().meets(&span))
            .cloned()
            .collect();
        out.sort_by_key(|e| e.link.index);
        out
    }

    /// Metadata of every whole chunk: coverage is folded from it.
    pub fn metas(&self) -> Vec<Arc<ChunkMeta>> {
        let chains = self.read();
        let entries = chains.values().flat_map(|c| &c.entries);
        entries.filter_map(|e| e.meta().map(Arc::clone)).collect()
    }

    /// Damaged chunks: did, index, why.
    pub fn damaged(&self) -> Vec<(Did, u64, Arc<str>)> {
        let chains = self.read();
        let entries = chains.values().flat_map(|c| &c.entries);
        let bad = entries.filter_map(|e| match &e.state {
            ChunkState::Damaged(why) => Some((e.link.did, e.link.index, Arc::clone(why))),
            ChunkState::Whole(_) => None,
        });
        bad.collect()
    }

    /// How many chunks are linked.
    pub fn chunks(&self) -> usize {
        self.read().values().map(|c| c.entries.len()).sum()
    }

    /// The file of a chunk, after its digest matched its link.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` when it does not match, from then on without reading it again; `Io`.
    pub fn chunk_bytes(&self, did: &Did, index: u64) -> Outcome<Bytes> {
        let none = || Failure::not_found(format!("no chunk {index} of {did}"));
        let entry = self.entry(did, index).ok_or_else(none)?;
        if let ChunkState::Damaged(why) = &entry.state {
            return Err(Failure::damaged(&**why));
        }
        let read = checked_bytes(&self.store, &entry.link);
        if let Err(failure) = &read
            && failure.kind == FailureKind::Damaged
        {
            self.mark_damaged(did, index, &failure.why);
        }
        read
    }

    /// The stamp of a chunk's file; `None` if there is no whole chunk of that name, or its file cannot be looked at.
    pub fn chunk_stamp(&self, did: &Did, index: u64) -> Option<Stamp> {
        self.entry(did, index)?.meta()?;
        self.store.stamp(did, index)
    }

    /// A chunk opened, after its digest matched its link. Only the last one is kept.
    ///
    /// # Errors
    /// As [`Self::chunk_bytes`].
    pub fn open_chunk(&self, did: &Did, index: u64) -> Outcome<Arc<OpenChunk>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((d, i, chunk)) = &*opened
            && (d, *i) == (did, index)
        {
            return Ok(Arc::clone(chunk));
        }
        let chunk = Arc::new(chordae_chunk::open(self.chunk_bytes(did, index)?)?);
        *opened = Some((*did, index, Arc::clone(&chunk)));
        Ok(chunk)
    }

    fn mark_damaged(&self, did: &Did, index: u64, why: &str) {
        tracing::error!(%did, index, why, "a linked chunk is damaged; it is not served");
        let mut chains = self.write();
        let place = usize::try_from(index).ok();
        let entry = chains.get_mut(did).and_then(|c| c.entries.get_mut(place?));
        if let Some(entry) = entry {
            entry.state = ChunkState::Damaged(why.into());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Did, Chain>> {
        // Entries are only ever pushed whole: a panic elsewhere leaves no half of one.
        self.chains.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Did, Chain>> {
        self.chains.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a linked chunk, if their digest is the link's.
fn checked_bytes(store: &ChunkStore, link: &Link) -> Outcome<Bytes> {
    let bytes = store
        .read(&link.did, link.index)
        .map_err(|e| match e.kind {
            FailureKind::NotFound => Failure::damaged(e.why),
            _ => e,
        })?;
    let found = chordae_chunk::file_root(&bytes);
    if found != link.file_root {
        return Err(Failure::damaged(format!(
            "chunk {} of {}: file digest is {found}, its link says {}",
            link.index, link.did, link.file_root
        )));
    }
    Ok(bytes)
}

fn verified_meta(store: &ChunkStore, link: &Link) -> Outcome<ChunkMeta> {
    let (meta, _) = chordae_chunk::read_meta(checked_bytes(store, link)?)?;
    meta.check_link(link)?;
    Ok(meta)
}
