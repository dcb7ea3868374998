//! What lies in the folder: looking (read-only), judging, and making it ours again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Segment, Settings, TornTail,
    format::{SEGMENT_HEADER, Step, Walk, put_record, segment_header, unreadable},
};
use crate::{
    Failure, Outcome,
    seams::{Disk, DiskFile, EntryKind},
};

/// Bytes of the rewritten segment gathered before a write.
const WRITE: usize = 1 << 20;

/// What a look at the folder found.
pub(super) struct Found {
    /// Oldest first, contiguous; the newest ends where its valid records end.
    pub(super) segments: Vec<Segment>,
    /// The newest durable mark in the newest segment.
    pub(super) mark: u64,
    /// End of the newest record that is no idle mark; 0 if the newest segment has none.
    pub(super) records_end: u64,
    /// Valid bytes cut from the newest segment, if any.
    pub(super) torn: Option<TornTail>,
    /// A newest file that holds no record and whose predecessor is whole: to be removed.
    pub(super) hollow: Option<PathBuf>,
    /// Leftovers of replacements that a crash interrupted.
    pub(super) leftovers: Vec<PathBuf>,
}

pub(super) fn segment_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}.log"))
}

fn damaged(path: &Path, offset: u64, why: &str) -> Failure {
    Failure::damaged(format!("{} at offset {offset}: {why}", path.display()))
}

/// The start position that a file name says, if it is a name of ours.
fn start_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Sorts the folder's entries into segments (by start) and leftovers; anything else is refused.
fn sort_folder(disk: &dyn Disk, dir: &Path) -> Outcome<(Vec<Segment>, Vec<PathBuf>)> {
    let (mut segments, mut leftovers) = (Vec::new(), Vec::new());
    let entries = disk
        .list(dir)
        .map_err(|err| Failure::os(format_args!("list {}", dir.display()), &err))?;
    for entry in entries {
        let name = entry
            .path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let ours = entry.kind == EntryKind::File;
        match (start_of(name), name.strip_suffix(".tmp").and_then(start_of)) {
            (Some(start), _) if ours => {
                segments.push(Segment {
                    start,
                    len: entry.len,
                    path: entry.path,
                });
            }
            (_, Some(_)) if ours => leftovers.push(entry.path),
            _ => {
                let why = format!(
                    "{} is not part of this log: move it away",
                    entry.path.display()
                );
                return Err(Failure::damaged(why));
            }
        }
    }
    segments.sort_by_key(|s| s.start);
    Ok((segments, leftovers))
}

fn open_read(disk: &dyn Disk, path: &Path) -> Outcome<Box<dyn DiskFile>> {
    disk.open_read(path)
        .map_err(|err| Failure::os(format_args!("open {}", path.display()), &err))
}

/// Looks at every byte of the folder and judges it; `visit` gets each valid record that is no idle mark,
/// in order, the records of whole segments before a later segment is judged. Changes nothing.
pub(super) fn look(
    disk: &dyn Disk,
    dir: &Path,
    payload_max: usize,
    visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
) -> Outcome<Found> {
    let (mut segments, leftovers) = sort_folder(disk, dir)?;
    let mut found = Found {
        segments: Vec::new(),
        mark: 0,
        records_end: 0,
        torn: None,
        hollow: None,
        leftovers,
    };
    let Some(mut newest) = segments.pop() else {
        return Ok(found);
    };
    let mut expected = None;
    for segment in &segments {
        check_start(segment, expected)?;
        look_whole(disk, segment, payload_max, visit)?;
        expected = Some(segment.end());
    }
    check_start(&newest, expected)?;
    let tail = look_newest(disk, &newest, payload_max, visit)?;
    let cut = tail.data.saturating_sub(tail.valid);
    if cut > 0 {
        found.torn = Some(TornTail {
            at: newest.start.saturating_add(tail.valid),
            bytes: cut,
        });
    }
    if tail.valid <= SEGMENT_HEADER && !segments.is_empty() {
        // The crash fell between the making of this segment and its first sync.
        found.hollow = Some(newest.path);
        // Its marks went with it: what the one before ends with is marked anew.
        found.records_end = newest.start;
    } else if tail.valid == 0 && newest.start > 0 {
        // Earlier segments are trimmed only when this one is durable: it was, and now it is not.
        return Err(damaged(&newest.path, 0, "bad header in the only segment"));
    } else {
        newest.len = tail.valid;
        segments.push(newest);
        found.mark = tail.mark;
        found.records_end = tail.records_end;
    }
    found.segments = segments;
    Ok(found)
}

fn check_start(segment: &Segment, expected: Option<u64>) -> Outcome<()> {
    match expected {
        Some(end) if segment.start > end => Err(damaged(
            &segment.path,
            0,
            &format!("a segment is missing before it: the one before ends at {end}"),
        )),
        Some(end) if segment.start < end => Err(damaged(
            &segment.path,
            0,
            &format!("overlaps the segment before it, which ends at {end}"),
        )),
        _ => Ok(()),
    }
}

/// A segment with a successor was synced before the successor was made: every byte must be right.
fn look_whole(
    disk: &dyn Disk,
    segment: &Segment,
    payload_max: usize,
    visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
) -> Outcome<()> {
    let file = open_read(disk, &segment.path)?;
    let mut walk = Walk::new(
        &*file,
        &segment.path,
        segment.start,
        segment.len,
        payload_max,
    );
    if !walk.header()? {
        return Err(damaged(
            &segment.path,
            0,
            "bad segment header, and later segments exist",
        ));
    }
    loop {
        match walk.step()? {
            Step::Record {
                position, payload, ..
            } if !payload.is_empty() => visit(position, payload)?,
            Step::Record { .. } => {}
            Step::End => return Ok(()),
            Step::Bad { position } => {
                let offset = position - segment.start;
                return Err(damaged(
                    &segment.path,
                    offset,
                    "bad record, and later segments exist",
                ));
            }
        }
    }
}

struct Tail {
    /// Bytes from the front that are valid; 0: not even the header.
    valid: u64,
    /// Bytes from the front that are not just zeros to the end; at least `valid`.
    data: u64,
    mark: u64,
    records_end: u64,
}

/// The newest segment may end in what a crash left; what a later mark covers must be right.
fn look_newest(
    disk: &dyn Disk,
    segment: &Segment,
    payload_max: usize,
    visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
) -> Outcome<Tail> {
    let file = open_read(disk, &segment.path)?;
    let mut walk = Walk::new(
        &*file,
        &segment.path,
        segment.start,
        segment.len,
        payload_max,
    );
    let (mut mark, mut records_end) = (0, 0);
    let bad = if walk.header()? {
        loop {
            match walk.step()? {
                Step::Record {
                    position,
                    mark: m,
                    payload,
                } => {
                    mark = mark.max(m);
                    if !payload.is_empty() {
                        records_end = super::record_end(position, &payload);
                        visit(position, payload)?;
                    }
                }
                Step::End => {
                    return Ok(Tail {
                        valid: segment.len,
                        data: segment.len,
                        mark,
                        records_end,
                    });
                }
                Step::Bad { position } => break position,
            }
        }
    } else {
        segment.start
    };
    if let Some(witness) = walk.proof_of(bad)? {
        let why = format!(
            "bad bytes that the record at offset {} knows durable",
            witness - segment.start
        );
        return Err(damaged(&segment.path, bad - segment.start, &why));
    }
    Ok(Tail {
        valid: bad - segment.start,
        data: walk.data_end(bad)? - segment.start,
        mark,
        records_end,
    })
}

/// Makes the folder ours: leftovers and a hollow newest file removed, the newest segment rewritten to a
/// fresh file that is synced before it takes the name. Returns the segments and the newest one's handle.
pub(super) fn settle(
    disk: &Arc<dyn Disk>,
    settings: &Settings,
    mut found: Found,
) -> Outcome<(Vec<Segment>, Box<dyn DiskFile>, Found)> {
    let dir = settings.dir.as_path();
    let fail = |what: &'static str| {
        move |err: io::Error| Failure::os(format_args!("{what} in {}", dir.display()), &err)
    };
    for path in found.leftovers.drain(..).chain(found.hollow.take()) {
        disk.remove(&path)
            .map_err(fail("remove what a crash left"))?;
    }
    disk.sync_dir(dir).map_err(fail("sync the folder"))?;
    let mut segments = std::mem::take(&mut found.segments);
    let mut newest = segments.pop().unwrap_or_else(|| Segment {
        start: 0,
        len: 0,
        path: segment_path(dir, 0),
    });
    let (file, len) = rewrite(disk, settings, &newest)?;
    newest.len = len;
    segments.push(newest);
    Ok((segments, file, found))
}

/// Copies the valid part of a segment to a fresh file, record by record, each checked again as it is
/// copied: what was read before may have been read from a cache that no sync ever reached, and could
/// read otherwise now.
fn rewrite(
    disk: &Arc<dyn Disk>,
    settings: &Settings,
    segment: &Segment,
) -> Outcome<(Box<dyn DiskFile>, u64)> {
    let tmp = segment.path.with_extension("log.tmp");
    let fail = |err: io::Error| {
        let (path, needs) = (segment.path.display(), segment.len.max(SEGMENT_HEADER));
        Failure::os(
            format_args!("copy {path} (needs {needs} bytes of free disk)"),
            &err,
        )
    };
    let mut fresh = disk.create_new(&tmp).map_err(fail)?;
    let mut out = segment_header(segment.start).to_vec();
    let mut written = 0u64;
    if segment.len > SEGMENT_HEADER {
        let old = open_read(&**disk, &segment.path)?;
        let max = settings.record_bytes_max;
        let mut walk = Walk::new(&*old, &segment.path, segment.start, segment.len, max);
        let good = walk.header()?;
        while let Step::Record {
            position,
            mark,
            payload,
        } = walk.step()?
        {
            put_record(&mut out, position, mark, &payload);
            if out.len() >= WRITE {
                fresh.write_all_at(&out, written).map_err(fail)?;
                written += out.len() as u64;
                out.clear();
            }
        }
        if !good || written + out.len() as u64 != segment.len {
            return Err(unreadable(
                &segment.path,
                0,
                &io::ErrorKind::UnexpectedEof.into(),
            ));
        }
    }
    fresh.write_all_at(&out, written).map_err(fail)?;
    fresh.sync().map_err(fail)?;
    disk.rename(&tmp, &segment.path).map_err(fail)?;
    disk.sync_dir(&settings.dir).map_err(fail)?;
    Ok((fresh, written + out.len() as u64))
}
