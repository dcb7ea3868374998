//! Chunks: rows to Parquet bytes and back (formats.md 3 and 4, profile `open`).
//!
//! ```text
//! ChunkMeta + salt + ChunkRows ──seal──▶ SealedChunk (bytes, link)      a token: made only here
//! bytes of anybody            ──open──▶ OpenChunk ──verify(link)──▶ Ok  a claim until then
//! ```
//!
//! The argument, in three steps:
//! 1. [`seal`] writes a file and then reads it back through [`open`] and [`OpenChunk::verify`], so no
//!    chunk is ever handed on that a reader would refuse, and what is linked was read, not remembered.
//! 2. [`open`] takes nothing from the file on trust: every length is bounded by the file and by
//!    `base::limits` before anything is allocated or decoded.
//! 3. Equal rows, metadata and salt give equal bytes: one writer, fixed settings, one write call per
//!    column. A crash between the file and its link costs nothing but the file.
//!
//! Only this crate and the answer formats know Parquet.

mod file;
mod held;
mod layout;
mod open;
mod pages;
mod rows;
mod seal;
mod write;

pub use held::ChunkFile;
pub use layout::{CREATED_BY, DATA_PAGE_S, ZSTD_LEVEL};
pub use open::{OpenChunk, file_root, open, open_verified, read_meta, read_span};
pub use rows::ChunkRows;
#[doc(hidden)]
pub use seal::seal_through;
pub use seal::{SealedChunk, seal};
