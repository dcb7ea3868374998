//! Bytes of a segment: header, records, and the walk that reads them back.

use std::{io, path::Path};

use bytes::Bytes;

use crate::{Failure, Outcome, seams::DiskFile};

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: u64 = 20;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: u64 = 16;

const MAGIC: &[u8; 8] = b"CHJRNL01";
/// Bytes read at once while walking.
const READ: u64 = 1 << 20;
/// Bytes of checksum that a search for later records may cost.
const SEARCH_BYTES: u64 = 1 << 32;

/// The header of the segment that begins at `start`.
pub(super) fn segment_header(start: u64) -> [u8; 20] {
    let mut header = [0; 20];
    let (magic, rest) = header.split_at_mut(8);
    magic.copy_from_slice(MAGIC);
    let (at, crc) = rest.split_at_mut(8);
    at.copy_from_slice(&start.to_be_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(MAGIC), &start.to_be_bytes());
    crc.copy_from_slice(&sum.to_be_bytes());
    header
}

/// The checksum covers the position too: a record is valid only where it was written.
fn checksum(position: u64, len: u32, mark: u64, payload: &[u8]) -> u32 {
    let mut head = [0; 20];
    let (a, rest) = head.split_at_mut(8);
    let (b, c) = rest.split_at_mut(4);
    a.copy_from_slice(&position.to_be_bytes());
    b.copy_from_slice(&len.to_be_bytes());
    c.copy_from_slice(&mark.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// Appends the record that begins at `position`.
pub(super) fn put_record(out: &mut Vec<u8>, position: u64, mark: u64, payload: &[u8]) {
    put_record_with(out, position, mark, |out| out.extend_from_slice(payload));
}

/// Appends the record that begins at `position`, its payload as `put` appends it; the payload's length.
pub(super) fn put_record_with(
    out: &mut Vec<u8>,
    position: u64,
    mark: u64,
    put: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let head = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER as usize]);
    put(out);
    let Some((place, payload)) = out
        .get_mut(head..)
        .and_then(|rest| rest.split_first_chunk_mut::<16>())
    else {
        return 0;
    };
    // Checked against the settings' bound, which is below 2^32, before anything is written.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let crc = checksum(position, len, mark, payload);
    let (a, rest) = place.split_at_mut(4);
    let (b, c) = rest.split_at_mut(8);
    a.copy_from_slice(&len.to_be_bytes());
    b.copy_from_slice(&mark.to_be_bytes());
    c.copy_from_slice(&crc.to_be_bytes());
    payload.len()
}

/// A record's header as read, not yet believed.
#[derive(Clone, Copy)]
pub(super) struct RecordHead {
    pub(super) len: u32,
    pub(super) mark: u64,
    crc: u32,
}

impl RecordHead {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (mark, rest) = rest.split_first_chunk::<8>()?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            len: u32::from_be_bytes(*len),
            mark: u64::from_be_bytes(*mark),
            crc: u32::from_be_bytes(*crc),
        })
    }

    /// Whether these could be the header of a record at `position` with `room` bytes behind it. A mark
    /// never lies after its record, and an idle mark always marks something: zeros are no record.
    pub(super) fn plausible(&self, position: u64, room: u64, payload_max: usize) -> bool {
        let fits = usize::try_from(self.len).is_ok_and(|len| len <= payload_max);
        fits && u64::from(self.len) <= room
            && self.mark <= position
            && (self.len > 0 || self.mark > 0)
    }

    pub(super) fn holds(&self, position: u64, payload: &[u8]) -> bool {
        self.crc == checksum(position, self.len, self.mark, payload)
    }
}

/// What a step of the walk found.
pub(super) enum Step {
    /// A valid record; an idle mark has an empty payload.
    Record {
        position: u64,
        mark: u64,
        payload: Bytes,
    },
    /// The end of the file, right after a valid record or the header.
    End,
    /// Bytes that are no valid record begin here.
    Bad { position: u64 },
}

/// Reads one segment from front to back, a megabyte at a time.
pub(super) struct Walk<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    start: u64,
    len: u64,
    at: u64,
    payload_max: usize,
    buf: Vec<u8>,
    buf_at: u64,
}

impl<'a> Walk<'a> {
    /// A walk over the first `len` bytes of a segment that begins at position `start`.
    pub(super) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        start: u64,
        len: u64,
        payload_max: usize,
    ) -> Self {
        Self {
            file,
            path,
            start,
            len,
            at: 0,
            payload_max,
            buf: Vec::new(),
            buf_at: 0,
        }
    }

    /// Goes on at a position inside the segment.
    pub(super) fn seek(&mut self, position: u64) {
        self.at = position.saturating_sub(self.start);
    }

    /// `len` bytes at a file offset, which the caller knows to lie inside the file.
    fn bytes(&mut self, offset: u64, len: u64) -> Outcome<&[u8]> {
        let buffered = offset >= self.buf_at
            && offset.saturating_add(len) <= self.buf_at.saturating_add(self.buf.len() as u64);
        if !buffered {
            let size = READ.max(len).min(self.len.saturating_sub(offset));
            self.buf
                .resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
            self.buf_at = offset;
            self.file
                .read_exact_at(&mut self.buf, offset)
                .map_err(|err| {
                    self.buf_at = u64::MAX;
                    unreadable(self.path, offset, &err)
                })?;
        }
        let from = usize::try_from(offset - self.buf_at).unwrap_or(usize::MAX);
        let until = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .saturating_add(from);
        let inside = self.buf.get(from..until);
        inside.ok_or_else(|| Failure::internal("journal: read outside the segment"))
    }

    /// Whether the segment begins with the header it must have; the walk then stands behind it.
    ///
    /// # Errors
    /// `Damaged` for the whole header of another segment: no crash writes that.
    pub(super) fn header(&mut self) -> Outcome<bool> {
        if self.len < SEGMENT_HEADER {
            return Ok(false);
        }
        let wanted = segment_header(self.start);
        let header = self.bytes(0, SEGMENT_HEADER)?;
        let good = header == wanted;
        let start = header.get(8..16).and_then(|b| <[u8; 8]>::try_from(b).ok());
        let other = start
            .map(u64::from_be_bytes)
            .filter(|start| header == segment_header(*start));
        if let Some(other) = other.filter(|_| !good) {
            let why = format!(
                "{} at offset 0: the header of segment {other}",
                self.path.display()
            );
            return Err(Failure::damaged(why));
        }
        self.at = SEGMENT_HEADER;
        Ok(good)
    }

    /// The next record, the end, or the first bad byte.
    pub(super) fn step(&mut self) -> Outcome<Step> {
        let (offset, position) = (self.at, self.start.saturating_add(self.at));
        if offset >= self.len {
            return Ok(Step::End);
        }
        match self.record_at(offset)? {
            Some((mark, payload)) => {
                self.at = offset + RECORD_HEADER + payload.len() as u64;
                Ok(Step::Record {
                    position,
                    mark,
                    payload,
                })
            }
            None => Ok(Step::Bad { position }),
        }
    }

    fn head_at(&mut self, offset: u64) -> Outcome<Option<RecordHead>> {
        let left = self.len.saturating_sub(offset);
        let Some(room) = left.checked_sub(RECORD_HEADER) else {
            return Ok(None);
        };
        let (position, max) = (self.start.saturating_add(offset), self.payload_max);
        let head = RecordHead::parse(self.bytes(offset, RECORD_HEADER)?);
        Ok(head.filter(|head| head.plausible(position, room, max)))
    }

    fn record_at(&mut self, offset: u64) -> Outcome<Option<(u64, Bytes)>> {
        let Some(head) = self.head_at(offset)? else {
            return Ok(None);
        };
        let position = self.start.saturating_add(offset);
        let payload = self.bytes(offset + RECORD_HEADER, u64::from(head.len))?;
        if !head.holds(position, payload) {
            return Ok(None);
        }
        Ok(Some((head.mark, Bytes::copy_from_slice(payload))))
    }

    /// Looks, from the bad bytes at `bad` on, for a valid record that says they were durable: its
    /// position, if there is one. A chance hit needs a plausible length, a mark between `bad` and the
    /// record and 32 right bits of checksum.
    ///
    /// The search costs one look per byte and a checksum per plausible header; bytes made to look like
    /// headers could make it long, so beyond a bound it gives up and says "durable": stop and look.
    pub(super) fn proof_of(&mut self, bad: u64) -> Outcome<Option<u64>> {
        let mut spent = 0u64;
        let mut offset = bad.saturating_sub(self.start).saturating_add(1);
        while offset.saturating_add(RECORD_HEADER) <= self.len {
            let size = READ.min(self.len - offset);
            for candidate in self.candidates(offset, size, bad)? {
                let found = self.record_at(candidate)?;
                spent = spent.saturating_add(self.buf.len() as u64);
                if found.is_some() || spent > SEARCH_BYTES {
                    return Ok(Some(self.start.saturating_add(candidate)));
                }
            }
            // Headers that begin in the last bytes of this piece are whole in the next.
            offset += size - RECORD_HEADER + 1;
        }
        Ok(None)
    }

    /// Where the last byte at or after `position` ends that is not zero; `position` if there is none.
    pub(super) fn data_end(&mut self, position: u64) -> Outcome<u64> {
        let from = position.saturating_sub(self.start);
        let mut until = self.len.max(from);
        while until > from {
            let size = READ.min(until - from);
            let bytes = self.bytes(until - size, size)?;
            if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
                return Ok(self.start.saturating_add(until - size + last as u64 + 1));
            }
            until -= size;
        }
        Ok(position)
    }

    /// Offsets in a piece of the file where a header with a mark above `bad` could begin.
    fn candidates(&mut self, offset: u64, size: u64, bad: u64) -> Outcome<Vec<u64>> {
        let (len, start, max) = (self.len, self.start, self.payload_max);
        let bytes = self.bytes(offset, size)?;
        // Room that was never written may be most of a segment, and holds no mark.
        if bytes.iter().all(|b| *b == 0) {
            return Ok(Vec::new());
        }
        let heads = bytes.windows(16);
        let plausible = heads.zip(offset..).filter_map(|(bytes, at)| {
            let head = RecordHead::parse(bytes).filter(|head| head.mark > bad)?;
            let room = len.checked_sub(at.saturating_add(RECORD_HEADER))?;
            head.plausible(start.saturating_add(at), room, max)
                .then_some(at)
        });
        Ok(plausible.collect())
    }
}

/// A read that failed while a segment was looked at.
pub(super) fn unreadable(path: &Path, offset: u64, err: &io::Error) -> Failure {
    match err.kind() {
        io::ErrorKind::UnexpectedEof => {
            Failure::damaged(format!("{} shrank while it was read", path.display()))
        }
        _ => Failure::os(format_args!("{} at {offset}", path.display()), err),
    }
}
