//! The one append-only checksummed log: WAL, links, registry, trail, quarantine.
//!
//! ```text
//!  folder   00000000000000000000.log   00000000000067108913.log   ...      name = start position
//!           └──────── S bytes ───────┘ └─ start = start before + S ─┘
//!  segment  "CHJRNL01" | start u64 | crc32c of both u32 │ record │ record │ ...
//!  record   len u32 | mark u64 | crc32c u32 │ payload           crc32c over position, len, mark, payload
//! ```
//!
//! Big-endian. A **position** is a byte offset over all segments, headers included: start of the
//! segment plus offset in the file. It is part of the checksum, so a record is valid only where it was
//! written, and it never changes, whatever is trimmed or rewritten. **mark** is the position up to which
//! data was known to be synced when the record was written; an idle mark is a record without payload.
//!
//! # Invariants
//! 1. `commit`, `mark` and `roll` return only after their bytes are synced: everything below `durable`
//!    survives a power loss, and readers see nothing else.
//! 2. mark <= position of its record. A segment with a successor was synced whole, before the
//!    successor was made.
//! 3. A failed write or sync consumes the journal: nothing can be acknowledged from it again. What of
//!    that commit reached the disk is found, or cut, by the next `open`.
//!
//! # Recovery
//! `open` looks at every byte. In a segment that has a successor any bad byte is damage. In the newest,
//! bad bytes at P are damage if a valid record after them carries a mark above P (it knew them durable),
//! and a torn tail otherwise: cut and reported. So a batch is protected from the next batch, or idle
//! mark, on; before that nobody can tell its damage from the tear of a commit that never returned.
//! Zeros up to the end of the newest segment are its room, or never arrived: no tear.
//! Segments must be contiguous; a name that is not ours is refused. A newest segment without any record
//! is removed if it has a predecessor. Then the newest segment is copied to a fresh file, which is synced
//! and renamed over it, before `open` returns: a recovered record may have been read from a cache that a
//! killed process never synced, or whose sync failed, and must not be acknowledged on that ground.
//!
//! # A crash
//! - during `commit`, `mark`: the tail may be torn, or whole and never reported; positions after it are
//!   used again by the next records.
//! - during `roll`: the new segment may be absent, empty or torn; the old one is whole.
//! - during `trim`: segments go oldest first, each with a sync of the folder, so no hole can appear.
//! - during `open`: a `.tmp` beside the old newest segment, removed next time; or the new one.

mod format;
mod reader;
mod recover;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;

pub use reader::Reader;

use crate::{
    Failure, Outcome, limits,
    seams::{Disk, DiskFile},
};
use format::{RECORD_HEADER, put_record, put_record_with, segment_header};
use reader::Shared;

/// Bytes gathered before a write; a larger commit takes several writes and still one sync.
const WRITE: usize = 4 << 20;

/// Zeros ahead take at most such a part of what is free.
const ROOM_PART: u64 = 8;

/// Where a journal lies and how large its parts grow.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its folder, which holds nothing else.
    pub dir: PathBuf,
    /// A segment of this size is full; the commit that fills it may exceed it.
    pub segment_bytes: u64,
    /// Zeros written and synced ahead of the records at a time, which lie in the newest segment's file behind
    /// them; 0: the file grows with each record.
    ///
    /// A sync of what was written over zeros is one of data alone. Where a file grows, or lies in room that was
    /// only reserved, the file system has news of its own to write, and ext4 says that the sync is done
    /// though that news was refused because its journal had just failed: what was synced is then not there after
    /// the next mount (decision 44). It is also slower.
    pub room_bytes: u64,
    /// Longest payload, below 4 GiB. Records longer than this are damage to a reader.
    pub record_bytes_max: usize,
}

impl Settings {
    /// Those of a log that grows by single records: links, registry, trail, quarantine, outbox.
    pub fn small(dir: PathBuf, record_bytes_max: usize) -> Self {
        Self {
            dir,
            segment_bytes: limits::JOURNAL_SEGMENT_BYTES,
            room_bytes: limits::JOURNAL_ROOM_BYTES,
            record_bytes_max,
        }
    }

    /// Those of a log of all that arrives: WAL, exchange, a gateway's spool.
    pub fn large(dir: PathBuf, segment_bytes: u64) -> Self {
        Self {
            dir,
            segment_bytes,
            room_bytes: limits::WAL_ROOM_BYTES,
            record_bytes_max: limits::RECORD_BYTES_MAX,
        }
    }
}

/// What `open` cut off: bytes after the last valid record, which no mark covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// Position of the cut.
    pub at: u64,
    /// Bytes cut.
    pub bytes: u64,
}

/// A journal ready for use, and what had to be cut.
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// The torn tail, if there was one.
    pub torn: Option<TornTail>,
}

/// Proof that records are synced; only a journal makes one.
#[derive(Debug)]
pub struct Durable {
    upto: u64,
    positions: Vec<u64>,
}

impl Durable {
    /// Everything below this position is durable.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Positions of the records of this commit, in their order.
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// The same, kept.
    pub fn into_positions(self) -> Vec<u64> {
        self.positions
    }
}

#[derive(Debug, Clone)]
struct Segment {
    start: u64,
    len: u64,
    path: PathBuf,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

fn record_end(position: u64, payload: &Bytes) -> u64 {
    position
        .saturating_add(RECORD_HEADER)
        .saturating_add(payload.len() as u64)
}

/// See the module. Every call that writes takes the journal and gives it back only on success.
pub struct Journal {
    disk: Arc<dyn Disk>,
    settings: Settings,
    shared: Arc<Shared>,
    reader: Reader,
    file: Box<dyn DiskFile>,
    /// Of the newest segment.
    start: u64,
    durable: u64,
    /// Newest mark on the disk.
    marked: u64,
    /// End of the newest record that is no idle mark.
    records_end: u64,
    /// Up to where the newest segment's file holds synced zeros or records.
    room: u64,
    /// Memory that commits are made in.
    out: Vec<u8>,
}

impl Journal {
    /// Opens the journal in a folder, making both if they are absent; see the module for what it checks
    /// and repairs.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset, for bytes that contradict the module's invariants and for
    /// foreign files; `Io`.
    pub fn open(disk: Arc<dyn Disk>, settings: Settings) -> Outcome<Opened> {
        let dir = settings.dir.display().to_string();
        disk.create_dir_all(&settings.dir)
            .map_err(|err| Failure::os(format_args!("create {dir}"), &err))?;
        let found = recover::look(
            &*disk,
            &settings.dir,
            settings.record_bytes_max,
            &mut |_, _| Ok(()),
        )?;
        let (segments, file, found) = recover::settle(&disk, &settings, found)?;
        let (start, durable) = segments.last().map_or((0, 0), |s| (s.start, s.end()));
        let shared = Arc::new(Shared::default());
        shared.change(|list| *list = segments);
        let reader = Reader {
            disk: Arc::clone(&disk),
            shared: Arc::clone(&shared),
            payload_max: settings.record_bytes_max,
            open: Arc::new(Mutex::new(BTreeMap::new())),
        };
        let (marked, records_end) = (found.mark, found.records_end);
        let journal = Self {
            disk,
            settings,
            shared,
            reader,
            file,
            start,
            durable,
            marked,
            records_end,
            room: durable,
            out: Vec::new(),
        };
        Ok(Opened {
            journal,
            torn: found.torn,
        })
    }

    /// Zeros up to a position and some way on, but not past the end of the segment: what follows there is its
    /// successor. A crash in here leaves them, or a part of them.
    fn make_room(&mut self, end: u64) -> Outcome<()> {
        if self.settings.room_bytes == 0 || end <= self.room {
            return Ok(());
        }
        let full = self.start.saturating_add(self.settings.segment_bytes);
        // Others need the last room of a disk more: there it is made record by record.
        let free = self.disk.free_bytes(&self.settings.dir).unwrap_or(0);
        let ahead = self.settings.room_bytes.min(free / ROOM_PART);
        let upto = end.saturating_add(ahead).min(full.max(end));
        let fail = |err| Failure::os(format_args!("fill {}", self.settings.dir.display()), &err);
        let zeros = vec![0; usize::try_from(upto - self.room).unwrap_or(0)];
        self.file
            .write_all_at(&zeros, self.room - self.start)
            .and_then(|()| self.file.sync())
            .map_err(fail)?;
        self.room = upto;
        Ok(())
    }

    /// Appends records and syncs them: one sync, however many.
    ///
    /// # Errors
    /// `BadInput` for an empty or overlong record, before anything is written; `Io`. Either consumes the
    /// journal.
    pub fn commit(mut self, records: &[Bytes]) -> Outcome<(Self, Durable)> {
        self.check(records)?;
        let durable = self.append(records, put_bytes, false)?;
        Ok((self, durable))
    }

    /// As [`Self::commit`], of records that `put` appends, so that each is copied once.
    ///
    /// # Errors
    /// As [`Self::commit`]; a record that breaks the bounds may find others before it written, not synced.
    pub fn commit_each<R>(
        mut self,
        records: &[R],
        put: impl Fn(&R, &mut Vec<u8>),
    ) -> Outcome<(Self, Durable)> {
        let durable = self.append(records, put, false)?;
        Ok((self, durable))
    }

    /// Writes and syncs an idle mark, if the newest records lie above the newest mark: from then on
    /// their damage is told from a torn tail.
    ///
    /// # Errors
    /// `Io`, which consumes the journal.
    pub fn mark(mut self) -> Outcome<Self> {
        if !self.wants_mark() {
            return Ok(self);
        }
        let mut out = Vec::new();
        put_record(&mut out, self.durable, self.durable, &[]);
        self.write(&out, self.durable)?;
        self.marked = self.durable;
        self.finish(self.durable + out.len() as u64, false)?;
        Ok(self)
    }

    /// Whether `mark` would write.
    pub fn wants_mark(&self) -> bool {
        self.marked < self.records_end
    }

    /// Whether the newest segment is full.
    pub fn wants_roll(&self) -> bool {
        self.durable - self.start >= self.settings.segment_bytes
    }

    /// Begins a new segment with these records (none is fine). The old one is already synced whole.
    ///
    /// # Errors
    /// As [`Journal::commit`]; `Internal` if the old one has room left, which would be a hole: it has none when
    /// it is full, nor before anything was written to it since `open`.
    pub fn roll(mut self, first: &[Bytes]) -> Outcome<(Self, Durable)> {
        if self.room > self.durable {
            return Err(Failure::internal(
                "a segment with room left was to be rolled",
            ));
        }
        let start = self.durable;
        let path = recover::segment_path(&self.settings.dir, start);
        self.check(first)?;
        let doing = format!("create {}", path.display());
        self.file = self
            .disk
            .create_new(&path)
            .map_err(|err| Failure::os(&doing, &err))?;
        (self.start, self.room) = (start, start);
        // Readers know the segment from here on, but as an empty one.
        self.shared.change(|list| {
            list.push(Segment {
                start,
                len: 0,
                path,
            })
        });
        let durable = self.append(first, put_bytes, true)?;
        Ok((self, durable))
    }

    /// Removes whole segments that end at or below `floor`, oldest first, never the newest.
    ///
    /// # Errors
    /// `Io`, which consumes the journal.
    pub fn trim(self, floor: u64) -> Outcome<Self> {
        loop {
            let oldest = self.shared.change(|list| {
                let goes = list.len() > 1 && list.first().is_some_and(|s| s.end() <= floor);
                if goes { Some(list.remove(0)) } else { None }
            });
            let Some(oldest) = oldest else {
                return Ok(self);
            };
            let fail = |err| Failure::os(format_args!("trim {}", oldest.path.display()), &err);
            // An open file would keep its space.
            self.reader.forget(oldest.start);
            self.disk.remove(&oldest.path).map_err(fail)?;
            self.disk.sync_dir(&self.settings.dir).map_err(fail)?;
        }
    }

    /// A reader of what is durable.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Everything below this position is durable; the next record begins here, unless a roll or an idle
    /// mark comes first.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Start of the oldest segment.
    pub fn start(&self) -> u64 {
        self.shared.start().unwrap_or(self.start)
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.durable - self.start()
    }

    fn check(&self, records: &[Bytes]) -> Outcome<()> {
        records.iter().try_for_each(|r| self.check_length(r.len()))
    }

    fn check_length(&self, length: usize) -> Outcome<()> {
        let max = self.settings.record_bytes_max.min(u32::MAX as usize);
        if (1..=max).contains(&length) {
            return Ok(());
        }
        Err(Failure::bad_input(format!(
            "a log record of {length} bytes, must be 1 to {max}"
        )))
    }

    /// Writes the records (behind a header, if the segment is new), syncs, and lets readers see them.
    fn append<R>(
        &mut self,
        records: &[R],
        put: impl Fn(&R, &mut Vec<u8>),
        new: bool,
    ) -> Outcome<Durable> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        if new {
            out.extend_from_slice(&segment_header(self.start));
        }
        let mut positions = Vec::with_capacity(records.len());
        let (mark, mut at) = (self.durable, self.durable);
        for record in records {
            let position = at + out.len() as u64;
            positions.push(position);
            let length = put_record_with(&mut out, position, mark, |out| put(record, out));
            self.check_length(length)?;
            if out.len() >= WRITE {
                self.write(&out, at)?;
                at += out.len() as u64;
                out.clear();
            }
        }
        self.write(&out, at)?;
        let end = at + out.len() as u64;
        if out.capacity() <= 2 * WRITE {
            self.out = out;
        }
        if !records.is_empty() {
            self.marked = mark;
            self.records_end = end;
        }
        self.finish(end, new)?;
        Ok(Durable {
            upto: end,
            positions,
        })
    }

    fn write(&mut self, bytes: &[u8], position: u64) -> Outcome<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.make_room(position.saturating_add(bytes.len() as u64))?;
        let done = self.file.write_all_at(bytes, position - self.start);
        done.map_err(|err| Failure::os(format_args!("write {}", self.settings.dir.display()), &err))
    }

    /// Syncs up to `end`, and the folder if the file is new; only then is it durable and seen.
    fn finish(&mut self, end: u64, new_name: bool) -> Outcome<()> {
        if end == self.durable {
            return Ok(());
        }
        let dir = &self.settings.dir;
        let fail = |err| Failure::os(format_args!("sync {}", dir.display()), &err);
        self.file.sync().map_err(fail)?;
        if new_name {
            self.disk.sync_dir(dir).map_err(fail)?;
        }
        self.durable = end;
        let start = self.start;
        self.shared.change(|list| {
            if let Some(newest) = list.last_mut() {
                newest.len = end - start;
            }
        });
        Ok(())
    }
}

fn put_bytes(record: &Bytes, out: &mut Vec<u8>) {
    out.extend_from_slice(record);
}

/// Reads a journal's folder without changing it, for checkers: every valid record in order, then the torn
/// tail if there is one. Records of whole segments are visited before later segments are judged.
///
/// # Errors
/// `Damaged` naming file and offset, `NotFound` if there is no folder, `Io`, and whatever `visit` returns.
pub fn scan_dir(
    disk: &dyn Disk,
    dir: &Path,
    record_bytes_max: usize,
    visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
) -> Outcome<Option<TornTail>> {
    Ok(recover::look(disk, dir, record_bytes_max, visit)?.torn)
}
