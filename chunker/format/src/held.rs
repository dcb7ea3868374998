//! A chunk file that is kept in memory as it is stored, and unpacked by the page.
//!
//! ```text
//! bytes ──open, once──▶ footer, metadata, first time of each data page
//!                          │
//! window ──▶ pages that it touches ──unpack──▶ times, then the codes of the leads asked for
//! proof  ──▶ digests of all pages, made when first asked for and kept: 32 bytes a column
//! ```
//!
//! Nothing is verified but that it is a chunk: whoever opens one has compared the bytes with a link, and
//! [`ChunkFile::digests`] compares what it makes with that link again.

use std::{ops::Range, sync::OnceLock};

use bytes::Bytes;
use chordae_base::{Outcome, Span};
use chordae_chain::{
    link::Link,
    meta::ChunkMeta,
    pages::{self, PageDigests},
};

use crate::{
    ChunkRows,
    file::{File, damaged},
    open::fenced,
    rows::check,
};

/// See the module. Reading takes it by reference, so one serves many threads.
pub struct ChunkFile {
    file: File,
    /// First row and first time of each data page of the times.
    pages: Vec<(usize, i64)>,
    digests: OnceLock<PageDigests>,
}

impl ChunkFile {
    /// Reads footer and times; touches no lead.
    ///
    /// # Errors
    /// `Damaged` as [`crate::open`].
    pub fn open(bytes: Bytes) -> Outcome<Self> {
        fenced(|| {
            let file = File::open(bytes)?;
            let times = file.times()?;
            if !times.is_sorted_by(|a, b| a < b) {
                return Err(damaged("times do not increase strictly"));
            }
            let mut pages = Vec::new();
            for row in file.time_pages()? {
                let first = times.get(row).copied();
                pages.push((row, first.ok_or_else(|| damaged("a page without a row"))?));
            }
            Ok(Self {
                file,
                pages,
                digests: OnceLock::new(),
            })
        })
    }

    /// The metadata.
    pub fn meta(&self) -> &ChunkMeta {
        &self.file.meta
    }

    /// The metadata as stored.
    pub fn meta_json(&self) -> &str {
        &self.file.meta_json
    }

    /// The salt of its page digests.
    pub fn salt(&self) -> &[u8; 32] {
        &self.file.salt
    }

    /// Bytes of memory that it takes at the most: the file, the digests once they are made, the rest roughly.
    pub fn memory(&self) -> u64 {
        const ROUGHLY: u64 = 16 * 1024;
        let meta = self.meta();
        let pages = u64::try_from(meta.slot_len_ns / chordae_base::limits::PAGE_NS).unwrap_or(0);
        let digests = pages.saturating_mul(32 * (meta.leads.len() as u64 + 2));
        let json = 4 * self.file.meta_json.len() as u64;
        (self.file.len() as u64).saturating_add(digests + json + ROUGHLY)
    }

    /// The times inside a span, and the row of the first of them.
    ///
    /// # Errors
    /// `Damaged` when the pages do not hold what they must.
    pub fn times(&self, span: Span) -> Outcome<(usize, Vec<i64>)> {
        let before = self.pages.partition_point(|(_, t)| *t <= span.from_ns);
        let start = self.pages.get(before.saturating_sub(1)).map_or(0, |p| p.0);
        let after = self.pages.partition_point(|(_, t)| *t < span.until_ns);
        let end = self.pages.get(after).map_or(self.file.rows(), |p| p.0);
        let mut times = fenced(|| self.file.times_of(start, end.saturating_sub(start)))?;
        let from = times.partition_point(|t| *t < span.from_ns);
        let until = times.partition_point(|t| *t < span.until_ns).max(from);
        times.truncate(until);
        times.drain(..from);
        Ok((start + from, times))
    }

    /// Codes of a lead, by its place in the metadata, in these rows; the pages before them are not unpacked.
    ///
    /// # Errors
    /// `Damaged` when the pages do not hold what they must, or there is no such lead.
    pub fn codes(&self, lead: usize, rows: Range<usize>) -> Outcome<Vec<i32>> {
        fenced(|| self.file.lead(lead, rows.start, rows.len()))
    }

    /// The row after the data page that holds this row.
    pub fn page_end(&self, row: usize) -> usize {
        let next = self.pages.partition_point(|(first, _)| *first <= row);
        self.pages.get(next).map_or(self.file.rows(), |p| p.0)
    }

    /// Whether [`Self::digests`] has been called.
    pub fn is_hashed(&self) -> bool {
        self.digests.get().is_some()
    }

    /// Digests of every page and column (formats.md 4): made of all rows at the first call, and kept.
    ///
    /// # Errors
    /// `Damaged` when they, or the metadata, are not those of the link.
    pub fn digests(&self, link: &Link) -> Outcome<&PageDigests> {
        let made = match self.digests.get() {
            Some(made) => made,
            None => {
                let made = self.hash()?;
                self.digests.get_or_init(|| made)
            }
        };
        self.meta().check_link(link)?;
        if pages::pages_root(self.meta_json(), &made.leaves) != link.pages_root {
            return Err(damaged("page digests differ from the link"));
        }
        Ok(made)
    }

    fn hash(&self) -> Outcome<PageDigests> {
        fenced(|| {
            let (meta, count) = (self.meta(), self.file.rows());
            let leads = (0..meta.leads.len()).map(|i| self.file.lead(i, 0, count));
            let rows = ChunkRows {
                times: self.file.times()?,
                leads: leads.collect::<Outcome<_>>()?,
            };
            check(meta, &rows)?;
            let (start_ns, len_ns) = (meta.slot_start_ns, meta.slot_len_ns);
            pages::page_digests(self.salt(), start_ns, len_ns, &rows.times, &rows.leads)
        })
    }
}
