//! Files below `chunks/` that no link names.

use bytes::Bytes;
use chordae_base::{Did, Outcome, limits, seams::EntryKind};
use chordae_chain::{
    finding::Code,
    link::{self, Link, genesis},
};

use super::{Chain, Streams};
use crate::files::{Read, name_of};

/// Third pass of the module above.
pub(super) fn check(streams: &mut Streams<'_>) -> Outcome<()> {
    for entry in streams.folder.list("chunks")?.unwrap_or_default() {
        let name = format!("chunks/{}", name_of(&entry.path));
        match name_of(&entry.path).parse::<Did>() {
            Ok(did) if entry.kind == EntryKind::Dir => stream(streams, &did, &name)?,
            _ => streams
                .found
                .add(name, Code::ExtraFile, "not the folder of a stream"),
        }
    }
    Ok(())
}

fn stream(streams: &mut Streams<'_>, did: &Did, dir: &str) -> Outcome<()> {
    for thousand in streams.folder.list(dir)?.unwrap_or_default() {
        let dir = format!("{dir}/{}", name_of(&thousand.path));
        if thousand.kind != EntryKind::Dir {
            streams.blame(did, dir, Code::ExtraFile, "not a folder of chunks");
            continue;
        }
        for file in streams.folder.list(&dir)?.unwrap_or_default() {
            let name = format!("{dir}/{}", name_of(&file.path));
            if let Some(why) = unwanted(streams, &name, file.kind)? {
                streams.blame(did, name, Code::ExtraFile, why);
            }
        }
    }
    Ok(())
}

/// Why a file should not be there; `None` if a link names it or a crash explains it.
fn unwanted(streams: &mut Streams<'_>, name: &str, kind: EntryKind) -> Outcome<Option<String>> {
    if kind == EntryKind::File && name.ends_with(".parquet.tmp") {
        streams.notes.push(format!(
            "{name} is left from a crash: removed at the next start"
        ));
        return Ok(None);
    }
    let Some((did, index)) = link::parse_object_name(name) else {
        return Ok(Some("not the name of a chunk".into()));
    };
    let chain = streams.chains.get(&did);
    if chain.is_some_and(|c| c.seen.holds(index)) {
        return Ok(None); // the second pass has looked at it
    }
    let next = chain.map_or(0, Chain::next);
    if streams.broken && index >= next {
        return Ok(None); // its link may lie behind the damage
    }
    if index == next && kind == EntryKind::File {
        let last = chain.and_then(|c| c.last.clone());
        return remnant(streams, name, &did, last.as_ref());
    }
    Ok(Some("no link names it".into()))
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
    let torn = bytes.is_empty() || bytes.starts_with(b"PAR1") || bytes.iter().all(|b| *b == 0);
    let fits = match chordae_chunk::open(bytes) {
        Ok(chunk) => {
            let index = last.map_or(0, |l| l.index.saturating_add(1));
            let prev = last.map_or_else(|| genesis(did), Link::digest);
            chunk.meta.did == *did && chunk.meta.index == index && chunk.meta.prev == prev
        }
        Err(_) => torn,
    };
    if fits {
        streams.notes.push(format!(
            "{name} was not linked yet: adopted or removed at the next start"
        ));
        return Ok(None);
    }
    Ok(Some(
        "no link names it, and it does not continue its stream".into(),
    ))
}
