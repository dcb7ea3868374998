//! Files below `chunks/` that no link names.
//!
//! They are listed *before* the links are read: a chunk is stored before its link, so in a folder in use
//! every file listed either is linked by the time the links are read, or is the next of its stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{Did, Outcome, RangeSet, limits, seams::EntryKind};
use chordae_chain::{
    finding::{Code, Findings},
    link::{self, Link, genesis},
};

use super::{Chain, Streams};
use crate::files::{Folder, Read, name_of};

/// The indexes for which each stream has a file.
pub(super) type Present = BTreeMap<Did, RangeSet>;

/// Lists `chunks/`; names that no chunk can have are findings at once.
pub(super) fn list(folder: &Folder<'_>, found: &mut Findings) -> Outcome<Present> {
    let mut present = Present::new();
    for entry in folder.list("chunks")?.unwrap_or_default() {
        let dir = format!("chunks/{}", name_of(&entry.path));
        match name_of(&entry.path).parse::<Did>() {
            Ok(did) if entry.kind == EntryKind::Dir => {
                present.insert(did, stream(folder, &dir, found)?);
            }
            _ => found.add(dir, Code::ExtraFile, "not the folder of a stream"),
        }
    }
    Ok(present)
}

fn stream(folder: &Folder<'_>, dir: &str, found: &mut Findings) -> Outcome<RangeSet> {
    let mut present = RangeSet::new();
    for thousand in folder.list(dir)?.unwrap_or_default() {
        let dir = format!("{dir}/{}", name_of(&thousand.path));
        if thousand.kind != EntryKind::Dir {
            found.add(dir, Code::ExtraFile, "not a folder of chunks");
            continue;
        }
        for file in folder.list(&dir)?.unwrap_or_default() {
            let name = format!("{dir}/{}", name_of(&file.path));
            match link::parse_object_name(&name) {
                Some((_, index)) => present.insert_range(index, index),
                None => found.add(name, Code::ExtraFile, "not the name of a chunk"),
            }
        }
    }
    Ok(present)
}

/// Holds the files listed against the links read since.
pub(super) fn check(streams: &mut Streams<'_>, present: &Present) -> Outcome<()> {
    for (did, files) in present {
        let chain = streams.chains.get(did);
        let (next, last) = (
            chain.map_or(0, Chain::next),
            chain.and_then(|c| c.last.clone()),
        );
        let unlinked: Vec<(u64, u64)> = match chain {
            Some(chain) => files
                .iter()
                .flat_map(|(a, b)| chain.seen.gaps(a, b))
                .collect(),
            None => files.iter().collect(),
        };
        for index in unlinked.into_iter().flat_map(|(a, b)| a..=b) {
            if streams.broken && index >= next {
                break; // their links may lie behind the damage
            }
            let name = link::object_name(did, index);
            let why = match index == next {
                true => remnant(streams, &name, did, last.as_ref())?,
                false => Some("no link names it".into()),
            };
            if let Some(why) = why {
                streams.blame(did, name, Code::ExtraFile, why);
            }
        }
    }
    Ok(())
}

/// A file at the next index: whole and fitting, or torn in the writing.
fn remnant(
    streams: &mut Streams<'_>,
    name: &str,
    did: &Did,
    last: Option<&Link>,
) -> Outcome<Option<String>> {
    let bytes = match streams.folder.read(name, limits::CHUNK_BYTES_MAX)? {
        Read::Bytes(bytes) => Bytes::from(bytes),
        Read::Missing => return Ok(None),
        Read::Unfit(why) => return Ok(Some(why)),
    };
    let torn = torn(&bytes);
    let fits = match chordae_chunk::open(bytes) {
        Ok(chunk) => {
            let index = last.map_or(0, |l| l.index.saturating_add(1));
            let prev = last.map_or_else(|| genesis(did), Link::digest);
            chunk.meta.did == *did && chunk.meta.index == index && chunk.meta.prev == prev
        }
        Err(_) => torn,
    };
    if fits {
        let note = format!("{name} was not linked yet: adopted or removed at the next start");
        streams.notes.push(note);
        return Ok(None);
    }
    Ok(Some(
        "no link names it, and it does not continue its stream".into(),
    ))
}

/// Whether bytes that are no chunk can be what a crash left of one: nothing, zeros, or a beginning.
pub(super) fn torn(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.starts_with(b"PAR1") || bytes.iter().all(|b| *b == 0)
}
