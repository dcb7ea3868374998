//! Chunk files that were read, compared with their links and kept, so that a window that many look at is not
//! hashed again for each of them.
//!
//! ```text
//! asked ──▶ held? ──▶ stamp as it was when read? ──▶ read less than CHUNK_AGE ago? ──▶ from memory
//!             │ no             │ no                            │ no
//!             └────────────────┴───────────────────────────────┴──▶ ChunkSource::bytes: read, hashed, compared
//! ```
//!
//! What is served from here was verified and has not left our memory since. A file that is written to, replaced or
//! removed has another stamp and is read again at the next request, so it is found exactly as if nothing were kept;
//! what rots on the medium without being written to is found when the age is over (and an operating system that has
//! the file in its page cache would not have shown it before either). At most `CHUNKS_HELD_BYTES` are held; the one
//! used longest ago goes first, and at the next reading whatever nobody has used since its age was over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chordae_base::{
    Did, Failure, Outcome, limits,
    seams::{Clock, Stamp},
};
use chordae_chain::link::Link;
use chordae_chunk::ChunkFile;
use prometheus::IntGauge;

use crate::core::ports::ChunkSource;

type Name = (Did, u64);

struct Held {
    chunk: Arc<ChunkFile>,
    stamp: Stamp,
    read_ns: u64,
    bytes: u64,
    /// Its place in the order of use.
    used: u64,
}

impl Held {
    /// Whether it has to be read again before it is used.
    fn is_old(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.read_ns) > limits::CHUNK_AGE_NS
    }
}

#[derive(Default)]
struct Shelf {
    held: BTreeMap<Name, Held>,
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    bytes: u64,
}

/// See the module.
pub(super) struct Hot {
    shelf: Mutex<Shelf>,
    /// Bytes held, for operators.
    held: IntGauge,
}

impl Hot {
    pub(super) fn new(held: IntGauge) -> Self {
        let shelf = Mutex::default();
        Self { shelf, held }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk of a link, from memory or from its source.
    ///
    /// # Errors
    /// `Damaged` when the file is missing or is not the one that the link names; those of the source.
    pub(super) fn chunk(
        &self,
        source: &dyn ChunkSource,
        clock: &dyn Clock,
        link: &Link,
    ) -> Outcome<Arc<ChunkFile>> {
        let name = (link.did, link.index);
        // Before the reading: what is changed meanwhile has another stamp afterwards.
        let stamp = source.stamp(&link.did, link.index);
        let now_ns = clock.mono_ns();
        if let Some(stamp) = stamp
            && let Some(chunk) = self.find(name, stamp, now_ns)
        {
            return Ok(chunk);
        }
        let _verifying = tracing::debug_span!("verify", rows = link.rows).entered();
        let chunk = ChunkFile::open(source.bytes(&link.did, link.index)?)?;
        chunk.meta().check_link(link).map_err(|_| {
            let index = link.index;
            Failure::damaged(format!("chunk {index} is not the one its link names"))
        })?;
        let chunk = Arc::new(chunk);
        if let Some(stamp) = stamp {
            self.keep(name, &chunk, stamp, now_ns);
        }
        Ok(chunk)
    }

    /// Whether a chunk is held with its page digests.
    pub(super) fn is_hashed(&self, link: &Link) -> bool {
        let shelf = self.shelf();
        let held = shelf.held.get(&(link.did, link.index));
        held.is_some_and(|h| h.chunk.is_hashed())
    }

    fn find(&self, name: Name, stamp: Stamp, now_ns: u64) -> Option<Arc<ChunkFile>> {
        let mut shelf = self.shelf();
        let held = shelf.held.get(&name)?;
        if held.stamp != stamp || held.is_old(now_ns) {
            shelf.drop_one(name);
            return None;
        }
        let chunk = Arc::clone(&held.chunk);
        shelf.touch(name);
        Some(chunk)
    }

    fn keep(&self, name: Name, chunk: &Arc<ChunkFile>, stamp: Stamp, read_ns: u64) {
        let bytes = chunk.memory();
        let mut shelf = self.shelf();
        shelf.drop_one(name);
        if bytes > limits::CHUNKS_HELD_BYTES {
            return;
        }
        while let Some((_, &oldest)) = shelf.by_use.first_key_value() {
            let room = shelf.bytes.saturating_add(bytes) <= limits::CHUNKS_HELD_BYTES;
            if room && !shelf.held.get(&oldest).is_some_and(|h| h.is_old(read_ns)) {
                break;
            }
            shelf.drop_one(oldest);
        }
        shelf.bytes = shelf.bytes.saturating_add(bytes);
        let held = Held {
            chunk: Arc::clone(chunk),
            stamp,
            read_ns,
            bytes,
            used: 0,
        };
        shelf.held.insert(name, held);
        shelf.touch(name);
        self.held
            .set(i64::try_from(shelf.bytes).unwrap_or(i64::MAX));
    }
}

impl Shelf {
    fn touch(&mut self, name: Name) {
        self.uses += 1;
        if let Some(held) = self.held.get_mut(&name) {
            self.by_use.remove(&held.used);
            held.used = self.uses;
            self.by_use.insert(self.uses, name);
        }
    }

    fn drop_one(&mut self, name: Name) {
        if let Some(held) = self.held.remove(&name) {
            self.by_use.remove(&held.used);
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
    }
}
