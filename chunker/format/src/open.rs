//! Bytes to rows, and rows against a link.

use std::panic::{self, AssertUnwindSafe};

use bytes::Bytes;
use chordae_base::{Digest, Failure, FailureKind, Outcome, time::Span};
use chordae_chain::{
    link::Link,
    meta::ChunkMeta,
    pages::{self, PageDigests},
};

use crate::{
    ChunkRows,
    file::{File, damaged},
    rows::check,
};

/// A chunk that was read: bounded and consistent in itself, but a claim until [`OpenChunk::verify`].
#[derive(Debug, Clone, PartialEq)]
pub struct OpenChunk {
    /// The metadata.
    pub meta: ChunkMeta,
    /// The metadata as stored, which is what is hashed.
    pub meta_json: String,
    /// The salt of its page digests.
    pub salt: [u8; 32],
    /// Digest of the bytes it was read from.
    pub file_root: Digest,
    rows: ChunkRows,
}

/// BLAKE3 of a file's bytes: what `b3sum` prints.
pub fn file_root(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// What is wrong inside a stored file is damage, however the broken rule is named elsewhere.
fn as_damage(mut failure: Failure) -> Failure {
    if failure.kind == FailureKind::BadInput {
        failure.kind = FailureKind::Damaged;
    }
    failure
}

/// Runs a reading of bytes that anybody may have written. The Parquet crate panics on some of them
/// (arithmetic in its bit and thrift readers); such a file is damage, not the end of the process. The
/// closure owns what it works on, so nothing half-changed is seen afterwards.
pub(crate) fn fenced<T>(read: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let caught = panic::catch_unwind(AssertUnwindSafe(read));
    caught
        .unwrap_or_else(|_| Err(damaged("the decoder gave up on it")))
        .map_err(as_damage)
}

/// Reads a whole chunk file.
///
/// Memory is bounded by the file's length, the limits and the rows its metadata names.
///
/// # Errors
/// `Damaged` for anything that [`crate::seal`] would not have written.
pub fn open(bytes: Bytes) -> Outcome<OpenChunk> {
    let file_root = file_root(&bytes);
    fenced(|| {
        let file = File::open(bytes)?;
        let times = file.times()?;
        let count = times.len();
        let leads = (0..file.meta.leads.len()).map(|i| file.lead(i, 0, count));
        let rows = ChunkRows {
            times,
            leads: leads.collect::<Outcome<_>>()?,
        };
        check(&file.meta, &rows)?;
        let File {
            meta,
            meta_json,
            salt,
            ..
        } = file;
        Ok(OpenChunk {
            meta,
            meta_json,
            salt,
            file_root,
            rows,
        })
    })
}

/// Reads a chunk only if its bytes are those that the link names, and verifies it.
///
/// # Errors
/// `Damaged` when the digest, the metadata or the page digests differ from the link.
pub fn open_verified(bytes: Bytes, link: &Link) -> Outcome<OpenChunk> {
    let found = file_root(&bytes);
    if found != link.file_root {
        return Err(damaged(format!(
            "file digest is {found}, the link says {}",
            link.file_root
        )));
    }
    let chunk = open(bytes)?;
    chunk.verify(link)?;
    Ok(chunk)
}

/// Reads the metadata (parsed, and as stored) from the footer alone.
///
/// # Errors
/// `Damaged` when the footer is not that of a chunk.
pub fn read_meta(bytes: Bytes) -> Outcome<(ChunkMeta, String)> {
    fenced(|| {
        let file = File::open(bytes)?;
        Ok((file.meta, file.meta_json))
    })
}

/// Reads the rows inside a span, unpacking only the pages they lie in (and all times). `leads` are
/// indexes into the metadata's leads, in the order wanted.
///
/// Nothing is verified: the caller has checked the bytes against a link.
///
/// # Errors
/// `Damaged` as [`open`]; `BadInput` for a lead that the chunk does not have.
pub fn read_span(bytes: Bytes, span: Span, leads: &[usize]) -> Outcome<(ChunkMeta, ChunkRows)> {
    let read = fenced(|| {
        let file = File::open(bytes)?;
        if leads.iter().any(|i| *i >= file.meta.leads.len()) {
            return Ok(None);
        }
        let mut rows = ChunkRows {
            times: file.times()?,
            leads: Vec::new(),
        };
        if !rows.times.is_sorted_by(|a, b| a < b) {
            return Err(damaged("times do not increase strictly"));
        }
        let within = rows.within(span);
        for i in leads {
            rows.leads.push(file.lead(*i, within.start, within.len())?);
        }
        rows.times.truncate(within.end);
        rows.times.drain(..within.start);
        Ok(Some((file.meta, rows)))
    })?;
    read.ok_or_else(|| Failure::bad_input("the chunk has no such lead"))
}

impl OpenChunk {
    /// The rows.
    pub fn rows(&self) -> &ChunkRows {
        &self.rows
    }

    /// The rows, taken.
    pub fn into_rows(self) -> ChunkRows {
        self.rows
    }

    /// Digests of every page and column (formats.md 4).
    ///
    /// # Errors
    /// Those of `chordae_chain::pages`; none for a chunk that was opened.
    pub fn page_digests(&self) -> Outcome<PageDigests> {
        let meta = &self.meta;
        let (times, leads) = (&self.rows.times, &self.rows.leads);
        pages::page_digests(
            &self.salt,
            meta.slot_start_ns,
            meta.slot_len_ns,
            times,
            leads,
        )
    }

    /// The digest over metadata and pages.
    ///
    /// # Errors
    /// As [`OpenChunk::page_digests`].
    pub fn pages_root(&self) -> Outcome<Digest> {
        Ok(pages::pages_root(
            &self.meta_json,
            &self.page_digests()?.leaves,
        ))
    }

    /// The link that this chunk asks for.
    ///
    /// # Errors
    /// As [`OpenChunk::page_digests`].
    pub fn link(&self) -> Outcome<Link> {
        Ok(self.link_with(&self.page_digests()?))
    }

    /// As [`OpenChunk::link`], for who needs the page digests too: they are hashed once. `digests`
    /// are those of this chunk.
    pub fn link_with(&self, digests: &PageDigests) -> Link {
        let meta = &self.meta;
        Link {
            did: meta.did,
            index: meta.index,
            slot_start_ns: meta.slot_start_ns,
            slot_len_ns: meta.slot_len_ns,
            first_ns: meta.first_ns,
            end_ns: meta.end_ns,
            rows: meta.rows,
            file_root: self.file_root,
            pages_root: pages::pages_root(&self.meta_json, &digests.leaves),
            prev: meta.prev,
        }
    }

    /// Whether this chunk is the one that `link` names: file digest, metadata, page digests.
    ///
    /// # Errors
    /// `Damaged` naming the first of them that differs.
    pub fn verify(&self, link: &Link) -> Outcome<()> {
        if self.file_root != link.file_root {
            return Err(damaged("file digest differs from the link"));
        }
        self.meta.check_link(link)?;
        if self.pages_root()? != link.pages_root {
            return Err(damaged("page digests differ from the link"));
        }
        Ok(())
    }
}
