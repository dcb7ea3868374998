//! The log cut at every byte, flipped at every bit, and a folder with the wrong files in it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind,
    journal::{Journal, Settings, TornTail, scan_dir},
    seams::{Disk, EntryKind, fake::FakeDisk},
};

use crate::log::{
    SEGMENT_HEADER, layout, open, payload, records, segments, settings, three_segments,
};

/// What `open` must find after damage at `offset` of segment number `which`, told from the layout alone:
/// the length of the valid part of the newest segment, or damage at an offset.
fn verdict(which: usize, files: &[(PathBuf, u64, Vec<u8>)], offset: usize) -> Result<usize, usize> {
    let (_, start, bytes) = &files[which];
    let all = layout(bytes);
    let hit = all.iter().find(|(_, end, _)| offset < *end);
    let bad = if offset < SEGMENT_HEADER {
        0
    } else {
        hit.unwrap().0
    };
    let covered = all
        .iter()
        .any(|(at, _, mark)| *at > bad && *mark > start + bad as u64);
    if which + 1 < files.len() || covered {
        Err(bad)
    } else {
        Ok(bad)
    }
}

fn assert_names(failure: &Failure, path: &Path, offset: usize) {
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    let wanted = format!("{} at offset {offset}:", path.display());
    assert!(
        failure.why.starts_with(&wanted),
        "{failure} does not begin with {wanted}"
    );
}

#[test]
fn cut_at_every_byte() {
    let (disk, written) = three_segments();
    let files = segments(&disk);
    for (which, (path, start, bytes)) in files.iter().enumerate() {
        let whole = layout(bytes);
        for len in 0..bytes.len() {
            let broken = disk.copy();
            broken.put(path, &bytes[..len]);
            let opened = open(&broken);
            if which + 1 < files.len() {
                // A segment with a successor was durable to its last byte; where its end is a record's
                // end, the gap shows in the successor.
                let failure = opened.err().unwrap();
                assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
                continue;
            }
            let valid = whole
                .iter()
                .map(|r| r.1)
                .take_while(|end| *end <= len)
                .last();
            let valid = valid.unwrap_or(if len < SEGMENT_HEADER {
                0
            } else {
                SEGMENT_HEADER
            });
            let end = start + valid as u64;
            let before: Vec<(u64, Bytes)> = written.iter().filter(|w| w.0 < end).cloned().collect();
            let opened = opened.unwrap();
            // Zeros at the end are no tear: room, or what never arrived.
            let data = bytes[..len]
                .iter()
                .rposition(|b| *b != 0)
                .map_or(0, |at| at + 1);
            let cut = data.saturating_sub(valid) as u64;
            assert_eq!(
                opened.torn,
                (cut > 0).then_some(TornTail {
                    at: end,
                    bytes: cut
                })
            );
            assert_eq!(records(&opened.journal), before, "cut at {len}");
            // The log goes on, and the cut is repaired for good.
            let (journal, durable) = opened.journal.commit(&[payload(99)]).unwrap();
            assert_eq!(
                journal.reader().read(durable.positions()[0]).unwrap(),
                payload(99)
            );
            drop(journal);
            let again = open(&broken).unwrap();
            assert_eq!(again.torn, None);
            assert_eq!(records(&again.journal).len(), before.len() + 1);
        }
    }
}

#[test]
fn a_log_of_one_segment_cut_at_every_byte() {
    let disk = FakeDisk::new();
    let journal = open(&disk).unwrap().journal;
    let (journal, first) = journal.commit(&[payload(1)]).unwrap();
    let (_, second) = journal.commit(&[payload(2)]).unwrap();
    let (path, _, bytes) = segments(&disk).remove(0);
    for len in 0..bytes.len() as u64 {
        let broken = disk.copy();
        broken.put(&path, &bytes[..usize::try_from(len).unwrap()]);
        let found = records(&open(&broken).unwrap().journal).len();
        let want = usize::from(len >= first.upto()) + usize::from(len >= second.upto());
        assert_eq!(found, want, "cut at {len}");
    }
}

#[test]
fn a_tail_of_zeros_is_cut_like_a_missing_one() {
    let (disk, written) = three_segments();
    let files = segments(&disk);
    let (path, start, bytes) = files.last().unwrap();
    let unmarked = layout(bytes).len() - 3;
    let last_batch = layout(bytes)[unmarked].0;
    for from in 0..bytes.len() {
        let broken = disk.copy();
        let mut zeroed = bytes.clone();
        zeroed[from..].fill(0);
        zeroed.extend([0; 1000]);
        broken.put(path, &zeroed);
        let found = records(&open(&broken).unwrap().journal);
        let whole = layout(bytes)
            .iter()
            .filter(|r| r.1 <= from)
            .map(|r| start + r.0 as u64)
            .collect::<Vec<_>>();
        let want = written
            .iter()
            .filter(|w| w.0 < *start || whole.contains(&w.0))
            .count();
        // A record may end in bytes that are zero anyway; none here does.
        assert_eq!(
            found.len(),
            want,
            "zeros from {from}, last batch at {last_batch}"
        );
    }
}

/// Safety: no flipped bit yields a wrong record; what a mark covers is damage; the rest costs only what
/// lies at or after the flip.
#[test]
fn every_bit_flipped() {
    let (disk, written) = three_segments();
    let files = segments(&disk);
    let (mut cuts, mut damages) = (0, 0);
    for (which, (path, start, bytes)) in files.iter().enumerate() {
        for offset in 0..bytes.len() {
            let expected = verdict(which, &files, offset);
            for bit in 0..8 {
                let broken = disk.copy();
                let mut flipped = bytes.clone();
                flipped[offset] ^= 1 << bit;
                broken.put(path, &flipped);
                match (open(&broken), expected) {
                    (Err(failure), Err(at)) => {
                        assert_names(&failure, path, at);
                        damages += 1;
                    }
                    (Ok(opened), Ok(valid)) => {
                        let end = start + valid as u64;
                        let want: Vec<_> = written.iter().filter(|w| w.0 < end).cloned().collect();
                        assert_eq!(records(&opened.journal), want, "byte {offset} bit {bit}");
                        cuts += 1;
                    }
                    (found, _) => {
                        panic!(
                            "byte {offset} bit {bit}: {:?}, expected {expected:?}",
                            found.is_ok()
                        );
                    }
                }
            }
        }
    }
    assert!(
        cuts > 0 && damages > cuts,
        "both kinds were met: {cuts} cuts, {damages} damages"
    );
}

/// Control for the marks: the same flip in the last batch is a cut before its idle mark and damage after.
#[test]
fn an_idle_mark_turns_a_cut_into_damage() {
    let (disk, written) = three_segments();
    let (path, start, bytes) = segments(&disk).pop().unwrap();
    let target = usize::try_from(written.last().unwrap().0 - start).unwrap();
    let mut flipped = bytes.clone();
    flipped[target + 3] ^= 1;
    let broken = disk.copy();
    broken.put(&path, &flipped);
    assert_eq!(
        records(&open(&broken).unwrap().journal).len(),
        written.len() - 1
    );

    let journal = open(&disk).unwrap().journal.mark().unwrap();
    assert!(!journal.wants_mark());
    drop(journal);
    let mut flipped = disk.peek(&path).unwrap();
    assert!(flipped.len() > bytes.len(), "the mark is on the disk");
    flipped[target + 3] ^= 1;
    disk.put(&path, &flipped);
    assert_names(&open(&disk).err().unwrap(), &path, target);
}

#[test]
fn records_swapped_or_repeated_in_place_are_not_records() {
    let (disk, _) = three_segments();
    let (path, _, bytes) = segments(&disk).remove(0);
    let first = layout(&bytes)[0];
    // The first record once more where the second was: right bytes, wrong place.
    let mut doubled = bytes[..first.1].to_vec();
    doubled.extend(&bytes[first.0..first.1]);
    doubled.extend(&bytes[(first.1 + first.1 - first.0).min(bytes.len())..]);
    disk.put(&path, &doubled);
    assert_names(&open(&disk).err().unwrap(), &path, first.1);
}

#[test]
fn segments_must_be_contiguous_and_their_own() {
    let (disk, _) = three_segments();
    let files = segments(&disk);
    let gone = disk.copy();
    gone.remove(&files[1].0).unwrap();
    let failure = open(&gone).err().unwrap();
    assert_names(&failure, &files[2].0, 0);
    assert!(failure.why.contains("missing"), "{failure}");

    // A stale copy of a segment under a later name, and one that overlaps.
    let stale = disk.copy();
    let end = files[2].1 + files[2].2.len() as u64;
    let name = |start: u64| PathBuf::from(format!("data/log/{start:020}.log"));
    stale.put(&name(end), &files[1].2);
    assert_names(&open(&stale).err().unwrap(), &name(end), 0);
    let overlapping = disk.copy();
    overlapping.put(&name(end - 1), &files[2].2);
    assert!(open(&overlapping).err().unwrap().why.contains("overlaps"));

    // The only segment of a trimmed log may not be headless: it was durable when the others went.
    let alone = disk.copy();
    alone.remove(&files[0].0).unwrap();
    alone.remove(&files[1].0).unwrap();
    assert_eq!(
        open(&alone).unwrap().journal.start(),
        files[2].1,
        "trimmed is fine"
    );
    alone.put(&files[2].0, &[]);
    assert_names(&open(&alone).err().unwrap(), &files[2].0, 0);
}

#[test]
fn a_foreign_name_is_refused_and_a_leftover_of_ours_removed() {
    let (disk, written) = three_segments();
    let foreign = [
        "notes.txt",
        "1.log",
        "99999999999999999999.log",
        "core",
        ".hidden",
        "x.tmp",
    ];
    for name in foreign {
        let with = disk.copy();
        let path = Path::new("data/log").join(name);
        with.put(&path, b"hello");
        let failure = open(&with).err().unwrap();
        assert!(
            failure.kind == FailureKind::Damaged && failure.why.contains(name),
            "{failure}"
        );
        assert_eq!(with.peek(&path).unwrap(), b"hello", "and left alone");
    }
    let leftover = Path::new("data/log/00000000000000000020.log.tmp");
    disk.put(leftover, b"half");
    assert_eq!(records(&open(&disk).unwrap().journal), written);
    assert_eq!(disk.peek(leftover), None);
    disk.create_dir_all(Path::new("data/log/00000000000000009999.log"))
        .unwrap();
    assert!(
        open(&disk).is_err(),
        "a directory with the name of a segment"
    );
}

#[test]
fn an_empty_newest_segment_gives_way_to_the_one_before() {
    let (disk, written) = three_segments();
    let files = segments(&disk);
    let end = files[2].1 + files[2].2.len() as u64;
    let path = PathBuf::from(format!("data/log/{end:020}.log"));
    for header in 0..=SEGMENT_HEADER {
        let broken = disk.copy();
        broken.put(&path, &files[2].2[..header]);
        if header == SEGMENT_HEADER {
            // Another segment's header: as good as none.
            broken.put(&path, &[0; SEGMENT_HEADER]);
        }
        let journal = open(&broken).unwrap().journal;
        assert_eq!(records(&journal), written);
        assert!(broken.peek(&path).is_none());
        // What the one before ends with is marked anew.
        assert!(journal.wants_mark());
        let journal = journal.mark().unwrap();
        assert!(!journal.wants_mark());
        assert!(records(&journal.roll(&[payload(7)]).unwrap().0).len() == written.len() + 1);
    }
}

#[test]
fn a_checker_reads_the_same_and_changes_nothing() {
    let (disk, written) = three_segments();
    let (path, _, bytes) = segments(&disk).pop().unwrap();
    let mut torn = bytes.clone();
    torn.extend([1, 2, 3]);
    disk.put(&path, &torn);
    disk.put(Path::new("data/log/00000000000000000000.log.tmp"), b"half");
    let before = segments_raw(&disk);
    let mut seen = Vec::new();
    let found = scan_dir(&disk, &settings().dir, 700, &mut |position, payload| {
        seen.push((position, payload));
        Ok(())
    });
    assert_eq!(found.unwrap().unwrap().bytes, 3);
    assert_eq!(seen, written);
    assert_eq!(segments_raw(&disk), before);
    let none = scan_dir(&disk, Path::new("data/none"), 700, &mut |_, _| Ok(()));
    assert_eq!(none.unwrap_err().kind, FailureKind::NotFound);
    let stop = scan_dir(&disk, &settings().dir, 700, &mut |_, _| {
        Err(Failure::busy("enough"))
    });
    assert_eq!(stop.unwrap_err().kind, FailureKind::Busy);
}

fn segments_raw(disk: &FakeDisk) -> Vec<(PathBuf, EntryKind, Option<Vec<u8>>)> {
    let entries = disk.list(Path::new("data/log")).unwrap();
    entries
        .into_iter()
        .map(|e| (e.path.clone(), e.kind, disk.peek(&e.path)))
        .collect()
}

#[test]
fn a_reader_never_serves_a_damaged_record() {
    let (disk, written) = three_segments();
    let journal = open(&disk).unwrap().journal;
    let reader = journal.reader();
    let (position, good) = &written[4];
    assert_eq!(&reader.read(*position).unwrap(), good);
    for wrong in [0, 19, position + 1, journal.durable(), u64::MAX] {
        let failure = reader.read(wrong).unwrap_err();
        assert!(
            matches!(failure.kind, FailureKind::NotFound | FailureKind::Damaged),
            "{failure}"
        );
    }
    let (path, start, bytes) = segments(&disk)
        .into_iter()
        .rfind(|(_, start, _)| start <= position)
        .unwrap();
    let offset = position - start + 20;
    let flipped = bytes[usize::try_from(offset).unwrap()] ^ 4;
    disk.open(&path)
        .unwrap()
        .write_all_at(&[flipped], offset)
        .unwrap();
    let failure = reader.read(*position).unwrap_err();
    assert_names(&failure, &path, usize::try_from(offset).unwrap() - 20);
    let mut seen = 0;
    let scanned = reader.scan(0, &mut |_, _| {
        seen += 1;
        Ok(())
    });
    assert_eq!((scanned.unwrap_err().kind, seen), (FailureKind::Damaged, 4));
    assert_eq!(
        reader.scan(written[5].0, &mut |_, _| Ok(())).unwrap(),
        journal.durable()
    );
}

/// Right checksums do not make a record: a mark that lies after it, or an idle mark of nothing.
#[test]
fn a_record_that_cannot_be_ours_is_none() {
    let (disk, written) = three_segments();
    let (path, start, bytes) = segments(&disk).pop().unwrap();
    let position = start + bytes.len() as u64;
    for (mark, taken) in [
        (position, true),
        (start, true),
        (position + 1, false),
        (0, false),
    ] {
        let mut head = position.to_be_bytes().to_vec();
        head.extend([0; 4]);
        head.extend(u64::to_be_bytes(mark));
        let mut file = bytes.clone();
        file.extend(&head[8..]);
        file.extend(crc32c::crc32c(&head).to_be_bytes());
        disk.put(&path, &file);
        let opened = open(&disk).unwrap();
        assert_eq!(opened.torn.is_none(), taken, "mark {mark} at {position}");
        assert_eq!(records(&opened.journal), written);
    }
}

/// The search for a witness reads a megabyte at a time: one that straddles two pieces is found too.
#[test]
fn a_witness_is_found_wherever_it_lies() {
    let settings = Settings {
        segment_bytes: 1 << 30,
        record_bytes_max: 2 << 20,
        ..crate::log::settings()
    };
    for shift in [0, 13, 14, 15, 28, 29, 30] {
        let disk = FakeDisk::new();
        let open = || Journal::open(Arc::new(disk.clone()), settings.clone());
        // Bad record, filler, witness; the first piece ends 14 bytes before an unshifted witness, the
        // second begins 15 bytes before that.
        let filler = (1 << 20) - 26 - shift;
        let (journal, first) = open().unwrap().journal.commit(&[payload(0)]).unwrap();
        let (journal, second) = journal.commit(&[vec![9; filler].into()]).unwrap();
        journal.commit(&[payload(1)]).unwrap();
        let (path, _, mut bytes) = segments(&disk).remove(0);
        for position in [first.positions()[0], second.positions()[0]] {
            bytes[usize::try_from(position).unwrap() + 13] ^= 1;
        }
        disk.put(&path, &bytes);
        assert_names(&open().err().unwrap(), &path, SEGMENT_HEADER);
    }
}
