//! Sealing: the one way to make a chunk.
//!
//! A [`SealedChunk`] is a token. Whoever holds one knows that the bytes were read back, that the link
//! was made from what was read, and that this, once hashed, was still what was to be written. So a bit
//! that flips between encoding and hashing is met here and not in a verification years later.

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits};
use chordae_chain::{link::Link, meta::ChunkMeta};

use crate::{ChunkRows, open::open, rows::check, write::write};

/// A chunk that was written, read back and verified in this process. Only sealing makes one.
#[derive(Debug, Clone)]
pub struct SealedChunk {
    bytes: Bytes,
    link: Link,
    meta: ChunkMeta,
}

impl SealedChunk {
    /// The file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its link.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Its metadata.
    pub fn meta(&self) -> &ChunkMeta {
        &self.meta
    }

    /// Its rows, decoded anew: a sealed chunk waits for its link as bytes, not twice.
    ///
    /// # Errors
    /// None unless memory went bad since the seal.
    pub fn rows(&self) -> Outcome<ChunkRows> {
        Ok(open(self.bytes.clone())?.into_rows())
    }
}

/// Seals rows. The metadata must be complete (index and prev too) and say what the rows say. Equal
/// input gives equal bytes.
///
/// # Errors
/// `BadInput` naming the rule that metadata or rows break; `Internal` or `Damaged` when the bytes do
/// not read back as what was written: then nothing may be stored.
pub fn seal(meta: ChunkMeta, salt: [u8; 32], rows: &ChunkRows) -> Outcome<SealedChunk> {
    seal_through(meta, salt, rows, |bytes| bytes)
}

/// As [`seal`], with memory that may go bad: `between` is given the encoded bytes before they are hashed,
/// and gives back what memory made of them. For the tests of damage.
///
/// # Errors
/// Those of [`seal`].
#[doc(hidden)]
pub fn seal_through(
    meta: ChunkMeta,
    salt: [u8; 32],
    rows: &ChunkRows,
    between: impl FnOnce(Bytes) -> Bytes,
) -> Outcome<SealedChunk> {
    meta.check()?;
    check(&meta, rows)?;
    let json = meta.to_json();
    if json.len() > limits::CHUNK_META_BYTES_MAX {
        return Err(Failure::bad_input(format!(
            "chunk: metadata of {} bytes is too long: too many missing ranges, cut earlier",
            json.len()
        )));
    }
    let bytes = between(write(&meta, json.clone(), &salt, rows)?);
    let read = open(bytes.clone()).map_err(|e| e.during("reading a sealed chunk back"))?;
    let link = read.link()?;
    // After the hashing and not before: then what was hashed is what is compared.
    let same = read.meta == meta && read.meta_json == json && read.salt == salt;
    if !same || read.rows() != rows {
        return Err(Failure::damaged(
            "a sealed chunk reads back differently: check this machine's memory",
        ));
    }
    meta.check_link(&link)?;
    Ok(SealedChunk { bytes, link, meta })
}
