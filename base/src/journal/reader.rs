//! Reading durable records while the journal goes on.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;

use super::{
    Segment,
    format::{RECORD_HEADER, RecordHead, SEGMENT_HEADER, Step, Walk, unreadable},
};
use crate::{
    Failure, Outcome,
    seams::{Disk, DiskFile},
};

/// Segments kept open for reading.
const OPEN_FILES: usize = 8;

/// What journal and readers share: the segments as far as they are durable.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) segments: RwLock<Vec<Segment>>,
}

impl Shared {
    pub(super) fn change<T>(&self, how: impl FnOnce(&mut Vec<Segment>) -> T) -> T {
        // Each change is one push, pop or number: nothing half-made can be left behind by a panic.
        how(&mut self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Start of the oldest segment.
    pub(super) fn start(&self) -> Option<u64> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.first().map(|s| s.start)
    }

    /// The segment that a position lies in or after.
    fn holding(&self, position: u64) -> Option<Segment> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let n = segments
            .partition_point(|s| s.start <= position)
            .checked_sub(1)?;
        segments.get(n).cloned()
    }

    fn copy(&self) -> Vec<Segment> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Reads durable records of a journal; clones share its open files. Never sees what is not synced.
#[derive(Clone)]
pub struct Reader {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) shared: Arc<Shared>,
    pub(super) payload_max: usize,
    pub(super) open: Arc<Mutex<BTreeMap<u64, Arc<dyn DiskFile>>>>,
}

impl Reader {
    /// The record at a position that `commit`, `roll` or `scan` told.
    ///
    /// # Errors
    /// `NotFound` if no durable record begins there (or it was trimmed); `Damaged` if its bytes no
    /// longer hold; `Io`.
    pub fn read(&self, position: u64) -> Outcome<Bytes> {
        let none = || Failure::not_found(format!("no log record at {position}"));
        let segment = self.shared.holding(position).ok_or_else(none)?;
        let offset = position - segment.start;
        let room = segment
            .len
            .checked_sub(offset.saturating_add(RECORD_HEADER))
            .ok_or_else(none)?;
        let file = self.file(&segment)?;
        let read = |buf: &mut [u8], at: u64| {
            file.read_exact_at(buf, at)
                .map_err(|err| unreadable(&segment.path, at, &err))
        };
        let bad = |path: &Path| {
            Failure::damaged(format!("{} at offset {offset}: bad record", path.display()))
        };
        let mut head = [0; 16];
        read(&mut head, offset)?;
        let head = RecordHead::parse(&head)
            .filter(|h| offset >= SEGMENT_HEADER && h.plausible(position, room, self.payload_max))
            .ok_or_else(|| bad(&segment.path))?;
        let mut payload = vec![0; usize::try_from(head.len).map_err(|_| bad(&segment.path))?];
        read(&mut payload, offset + RECORD_HEADER)?;
        if !head.holds(position, &payload) {
            return Err(bad(&segment.path));
        }
        if payload.is_empty() {
            return Err(none());
        }
        Ok(payload.into())
    }

    /// Visits every record from a position on (a record's position, or anything at or below the start
    /// of a segment) up to what is durable now; returns where that ends.
    ///
    /// # Errors
    /// `Damaged`, `Io`, and whatever `visit` returns, which ends the scan.
    pub fn scan(
        &self,
        from: u64,
        visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
    ) -> Outcome<u64> {
        let segments = self.shared.copy();
        // A segment that a roll has just entered is empty until its first records are synced.
        for segment in segments.iter().filter(|s| s.len > 0 && s.end() > from) {
            let file = self.file(segment)?;
            let (path, start, len) = (&segment.path, segment.start, segment.len);
            let mut walk = Walk::new(&*file, path, start, len, self.payload_max);
            if !walk.header()? {
                return Err(Failure::damaged(format!(
                    "{}: bad segment header",
                    path.display()
                )));
            }
            if from > start {
                walk.seek(from);
            }
            loop {
                match walk.step()? {
                    Step::Record {
                        position, payload, ..
                    } if !payload.is_empty() => {
                        visit(position, payload)?;
                    }
                    Step::Record { .. } => {}
                    Step::End => break,
                    Step::Bad { position } => {
                        let offset = position - start;
                        let why = format!("{} at offset {offset}: bad record", path.display());
                        return Err(Failure::damaged(why));
                    }
                }
            }
        }
        Ok(segments.last().map_or(0, Segment::end))
    }

    /// Closes the file of a segment that goes.
    pub(super) fn forget(&self, start: u64) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&start);
    }

    fn file(&self, segment: &Segment) -> Outcome<Arc<dyn DiskFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&segment.start) {
            return Ok(Arc::clone(file));
        }
        let doing = format_args!("open {}", segment.path.display()).to_string();
        let file = self
            .disk
            .open_read(&segment.path)
            .map_err(|err| Failure::os(doing, &err))?;
        let file: Arc<dyn DiskFile> = Arc::from(file);
        if open.len() >= OPEN_FILES {
            open.pop_first();
        }
        open.insert(segment.start, Arc::clone(&file));
        Ok(file)
    }
}
