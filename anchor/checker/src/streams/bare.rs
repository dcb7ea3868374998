//! Chains without `links/`: each chunk file tells its own link, and the ledger which of them are true.
//!
//! ```text
//! chunks/{did}/... ─ open ─▶ claims (index of the name, link of the bytes) ─┐
//! ledger: heads under the tags of did and index ────────────────────────────┴▶ verify_stream ─▶ findings
//! ```
//!
//! Who wants the chains themselves, to make `links/` anew, gives a `Take`.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{Did, Outcome, RangeSet, limits};
use chordae_chain::{
    finding::Code,
    link::{self, Link},
    stream::{Anchored, ChunkClaim, LedgerReads, StreamVerdict, verify_stream},
};

use super::{
    Chain, PROBE, Streams,
    extra::{Present, torn},
    heads,
};
use crate::{Progress, ReadChain, files::Read, ledger::Facts};

/// Takes the links of a stream with which nothing is wrong.
pub(super) type Take<'t> = &'t mut dyn FnMut(&ReadChain) -> Outcome<()>;

/// Checks every stream that has files; those in which nothing was found are handed to `take`.
pub(super) fn check(
    streams: &mut Streams<'_>,
    present: &Present,
    facts: &Facts,
    unmatched: &mut [bool],
    progress: &mut dyn FnMut(Progress),
    take: Take<'_>,
) -> Outcome<()> {
    if streams.bare && !present.is_empty() {
        let note = "there is no links/: the chains are read from the chunk files alone";
        streams.notes.push(note.into());
    }
    let of = present.values().map(held).sum();
    let mut done = 0;
    for (did, indexes) in present {
        let mut anchors = Anchors::of(did, indexes, facts, unmatched);
        let files = read(streams, did, indexes, &anchors, &mut || {
            progress(Progress {
                what: "chunks",
                done,
                of,
            });
            done += 1;
        })?;
        let verdict = verify_stream(*did, &files.claims, &mut anchors)?;
        tell(streams, did, &files, &verdict);
        let chunks = files.claims.len() as u64;
        let links: Vec<Link> = files.claims.into_iter().filter_map(|c| c.link).collect();
        let chain = streams.chains.entry(*did).or_default();
        *chain = Chain {
            seen: indexes.clone(),
            last: links.last().cloned(),
            anchored_to: verdict.proven.last(),
            chunks,
            damaged: chain.damaged,
        };
        if !chain.damaged && verdict.is_intact() {
            take(&ReadChain {
                did: *did,
                links,
                proven_to: verdict.proven.last(),
            })?;
        }
    }
    Ok(())
}

fn held(indexes: &RangeSet) -> u64 {
    let spans = indexes.iter();
    spans.map(|(a, b)| (b - a).saturating_add(1)).sum()
}

/// The heads of a stream in the ledger.
struct Anchors(BTreeMap<u64, Anchored>);

impl Anchors {
    /// Looks under the tags of all indexes that have a file, and of the holes between them.
    fn of(did: &Did, indexes: &RangeSet, facts: &Facts, unmatched: &mut [bool]) -> Self {
        let last = indexes.last().unwrap_or_default();
        let holes = indexes.gaps(0, last).into_iter().flat_map(|(a, b)| a..=b);
        // A name far off makes a hole of any width: it is not walked through to its end.
        let holes = holes.take(usize::try_from(PROBE).unwrap_or(usize::MAX));
        let held = indexes.iter().flat_map(|(a, b)| a..=b);
        let mut found = BTreeMap::new();
        for index in holes.chain(held) {
            for (head, free) in heads(facts, unmatched, &link::tag(did, index)) {
                *free = false;
                // A second digest under the tag is a fork, which the ledger's own check names.
                found.entry(index).or_insert((index, head.digest));
            }
        }
        Self(found)
    }
}

impl LedgerReads for Anchors {
    fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>> {
        Ok(self.0.range(..=upto).next_back().map(|(_, head)| *head))
    }
}

/// The files of a stream.
#[derive(Default)]
struct Files {
    /// By ascending index.
    claims: Vec<ChunkClaim>,
    /// Why a file is no chunk of its place.
    unfit: BTreeMap<u64, String>,
}

fn read(
    streams: &mut Streams<'_>,
    did: &Did,
    indexes: &RangeSet,
    anchors: &Anchors,
    looked: &mut dyn FnMut(),
) -> Outcome<Files> {
    let mut files = Files::default();
    let vouched = anchors.0.keys().next_back().copied();
    for index in indexes.iter().flat_map(|(a, b)| a..=b) {
        looked();
        let name = link::object_name(did, index);
        let mut remnant = false;
        let link = match streams.folder.read(&name, limits::CHUNK_BYTES_MAX)? {
            Read::Bytes(bytes) => {
                remnant = torn(&bytes) && Some(index) > vouched && Some(index) == indexes.last();
                claim(Bytes::from(bytes), did, index)
            }
            // Listed a moment ago: the verdict names the hole.
            Read::Missing => continue,
            Read::Unfit(why) => Err(why),
        };
        if remnant && link.is_err() {
            let note = format!("{name} was not linked yet: removed at the next start");
            streams.notes.push(note);
            continue;
        }
        let link = link.map_err(|why| files.unfit.insert(index, why)).ok();
        files.claims.push(ChunkClaim { index, link });
    }
    Ok(files)
}

/// The link that a file asks for.
fn claim(bytes: Bytes, did: &Did, index: u64) -> Result<Link, String> {
    let link = chordae_chunk::open(bytes).and_then(|chunk| chunk.link());
    let link = link.map_err(|e| e.why)?;
    if (link.did, link.index) != (*did, index) {
        return Err(format!("it holds chunk {} of {}", link.index, link.did));
    }
    Ok(link)
}

/// Makes findings of a verdict.
fn tell(streams: &mut Streams<'_>, did: &Did, files: &Files, verdict: &StreamVerdict) {
    let name = |index| link::object_name(did, index);
    for index in verdict.bad.iter().flat_map(|(a, b)| a..=b) {
        match files.unfit.get(&index) {
            Some(why) => streams.blame(did, name(index), Code::Metadata, why),
            None => {
                let why = "the ledger, or the chunk after it, names another chunk of this index";
                streams.blame(did, name(index), Code::LinkPrev, why);
            }
        }
    }
    for index in verdict.broken.iter().flat_map(|(a, b)| a..=b) {
        let named = |index: u64| verdict.bad.holds(index);
        if !named(index) && !index.checked_sub(1).is_some_and(named) {
            let why = "does not name the digest of the chunk before it";
            streams.blame(did, name(index), Code::LinkPrev, why);
        }
    }
    for (first, last) in verdict.missing.iter() {
        let why = match first == last {
            true => "chunks after it are here, it is not".into(),
            false => format!("chunks {first} to {last} are not here, chunks after them are"),
        };
        streams.blame(did, name(first), Code::MissingFile, why);
    }
}
