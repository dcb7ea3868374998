//! The chains: links against each other, against the ledger, and against the chunk files.
//!
//! Four passes, so that memory holds one chain end per did and one chunk at a time:
//! 1. over the names in `chunks/`;
//! 2. over `links/`: indexes, `prev`, and the ledger's word for each link;
//! 3. over `links/` again: the file that each link names;
//! 4. over the names that no link took. One is no finding: at the next index of its did, the remnant
//!    of a crash between chunk and link (order of truth, step c), which the next start adopts or
//!    removes.
//!
//! Where `links/` is missing, the chains are read from the chunk files alone (`bare`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chordae_base::{Did, Digest, Failure, FailureKind, Outcome, RangeSet, journal, limits};
use chordae_chain::{
    finding::{Code, Findings},
    link::{self, Link},
};

use crate::{
    CheckOptions, Progress, ReadChain,
    files::{Folder, name_of},
    ledger::{Facts, Head, entry_name},
};

mod bare;
mod extra;
mod files;

const LINKS: &str = "links";
/// Indexes past the end of a chain that are tried to name a head whose link is gone.
const PROBE: u64 = 10_000;

/// One did.
#[derive(Default)]
pub(crate) struct Chain {
    seen: RangeSet,
    last: Option<Link>,
    pub(crate) anchored_to: Option<u64>,
    pub(crate) chunks: u64,
    pub(crate) damaged: bool,
}

impl Chain {
    /// Index of the newest link.
    pub(crate) fn tip(&self) -> Option<u64> {
        self.last.as_ref().map(|l| l.index)
    }

    fn next(&self) -> u64 {
        self.tip().map_or(0, |tip| tip.saturating_add(1))
    }
}

/// The chains of a folder, and what was found of them.
pub(crate) struct Streams<'a> {
    folder: &'a Folder<'a>,
    pub(crate) chains: BTreeMap<Did, Chain>,
    found: &'a mut Findings,
    notes: &'a mut Vec<String>,
    options: &'a CheckOptions,
    /// The link journal could not be read to its end.
    broken: bool,
    /// There is none.
    bare: bool,
    links: u64,
}

/// A link as an object of findings.
fn link_name(did: &Did, index: u64) -> String {
    format!("links/{did}/{index}")
}

/// Checks `links/` and `chunks/`.
pub(crate) fn check(
    folder: &Folder<'_>,
    facts: &Facts,
    options: &CheckOptions,
    found: &mut Findings,
    notes: &mut Vec<String>,
    progress: &mut dyn FnMut(Progress),
) -> Outcome<BTreeMap<Did, Chain>> {
    let present = extra::list(folder, found)?;
    let mut streams = Streams::new(folder, options, found, notes);
    let mut unmatched = vec![true; facts.heads.len()];
    streams.chains_of(facts, &mut unmatched)?;
    if streams.bare {
        let mut nobody = |_: &ReadChain| Ok(());
        bare::check(
            &mut streams,
            &present,
            facts,
            &mut unmatched,
            progress,
            &mut nobody,
        )?;
        streams.vanished(facts, &mut unmatched)?;
    } else {
        streams.vanished(facts, &mut unmatched)?;
        streams.files(progress)?;
        extra::check(&mut streams, &present)?;
    }
    Ok(streams.chains)
}

/// Checks `chunks/` alone, whatever lies in `links/`: see [`bare`].
pub(crate) fn from_files(
    folder: &Folder<'_>,
    facts: &Facts,
    found: &mut Findings,
    notes: &mut Vec<String>,
    progress: &mut dyn FnMut(Progress),
    take: bare::Take<'_>,
) -> Outcome<BTreeMap<Did, Chain>> {
    let present = extra::list(folder, found)?;
    let options = CheckOptions::default();
    let mut streams = Streams::new(folder, &options, found, notes);
    let mut unmatched = vec![true; facts.heads.len()];
    bare::check(
        &mut streams,
        &present,
        facts,
        &mut unmatched,
        progress,
        take,
    )?;
    // What is told of heads without a chunk is of chunks.
    streams.bare = true;
    streams.vanished(facts, &mut unmatched)?;
    Ok(streams.chains)
}

impl<'a> Streams<'a> {
    fn new(
        folder: &'a Folder<'a>,
        options: &'a CheckOptions,
        found: &'a mut Findings,
        notes: &'a mut Vec<String>,
    ) -> Self {
        Self {
            folder,
            chains: BTreeMap::new(),
            found,
            notes,
            options,
            broken: false,
            bare: false,
            links: 0,
        }
    }
}

impl Streams<'_> {
    /// Adds a finding about a stream.
    fn blame(&mut self, did: &Did, object: String, code: Code, detail: impl std::fmt::Display) {
        self.found.add(object, code, detail);
        self.chains.entry(*did).or_default().damaged = true;
    }

    fn chains_of(&mut self, facts: &Facts, unmatched: &mut [bool]) -> Outcome<()> {
        let scanned = scan(self.folder, &mut |position, record| {
            match Link::decode(&record) {
                Ok(link) => self.link(&link, facts, unmatched),
                Err(e) => self
                    .found
                    .add(format!("links record at {position}"), Code::Metadata, e),
            }
            Ok(())
        });
        match scanned {
            Ok(None) => {}
            Ok(Some(torn)) => self.notes.push(format!(
                "links/ ends in {} torn bytes: those of a crash, cut at the next start",
                torn.bytes
            )),
            Err(e) if e.kind == FailureKind::Damaged => {
                self.broken = true;
                self.found.add(LINKS, Code::TruncatedTail, e);
            }
            Err(e) if e.kind == FailureKind::NotFound => self.bare = true,
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// One link against the one before it and against the ledger.
    fn link(&mut self, link: &Link, facts: &Facts, unmatched: &mut [bool]) {
        self.links += 1;
        let (did, index) = (&link.did, link.index);
        let chain = self.chains.entry(*did).or_default();
        let (last, next) = (
            chain.last.take(),
            chain.seen.last().map_or(0, |l| l.saturating_add(1)),
        );
        let fresh = chain.seen.insert(index);
        let newest = last.as_ref().is_none_or(|l| l.index < index);
        let follows = link.follows(last.as_ref());
        chain.last = if newest { Some(link.clone()) } else { last };
        let name = || link_name(did, index);
        if !fresh {
            return self.blame(
                did,
                name(),
                Code::DuplicateIndex,
                "two links have this index",
            );
        }
        chain.chunks += 1;
        if index > next {
            let why = format!(
                "links {next} to {} of the stream are left out before it",
                index - 1
            );
            self.blame(did, name(), Code::IndexGap, why);
        } else if !newest {
            self.blame(did, name(), Code::LinkPrev, "stands after a later link");
        } else if let Err(e) = follows {
            self.blame(did, name(), Code::LinkPrev, e);
        }
        let (tag, digest) = (link::tag(did, index), link.digest());
        for (head, free) in heads(facts, unmatched, &tag) {
            *free = false;
            if head.digest == digest {
                let chain = self.chains.entry(*did).or_default();
                chain.anchored_to = chain.anchored_to.max(Some(index));
            } else {
                let why = format!(
                    "{} vouches for another link of this index",
                    entry_name(head.leaf)
                );
                self.blame(did, name(), Code::Fork, why);
            }
        }
    }

    /// Heads in the ledger whose links are not here: chains that were cut at their end.
    fn vanished(&mut self, facts: &Facts, unmatched: &mut [bool]) -> Outcome<()> {
        if !unmatched.iter().any(|free| *free) {
            return Ok(());
        }
        let mut dids: BTreeSet<Did> = self.chains.keys().copied().collect();
        for entry in self.folder.list("chunks")?.unwrap_or_default() {
            dids.extend(name_of(&entry.path).parse::<Did>().ok());
        }
        for did in dids {
            let next = self.chains.get(&did).map_or(0, Chain::next);
            let mut cut: Option<(u64, u64)> = None;
            for index in next..next.saturating_add(PROBE) {
                for (head, free) in heads(facts, unmatched, &link::tag(&did, index)) {
                    *free = false;
                    cut = Some((index, head.leaf));
                }
            }
            if let Some((index, leaf)) = cut {
                let (object, what) = match self.bare {
                    true => (link::object_name(&did, index), "chunks"),
                    false => (link_name(&did, index), "links"),
                };
                let entry = entry_name(leaf);
                let why = format!("{entry} vouches for it, the {what} end before {next}");
                self.blame(&did, object, Code::TruncatedTail, why);
            }
        }
        for (head, _) in facts.heads.iter().zip(unmatched).filter(|(_, free)| **free) {
            let why = "vouches for a link that is not here: of a stream that is gone, or of a later state";
            self.found.add(entry_name(head.leaf), Code::Rollback, why);
        }
        Ok(())
    }

    /// The files that the links name.
    fn files(&mut self, progress: &mut dyn FnMut(Progress)) -> Outcome<()> {
        let (mut done, of) = (0, self.links);
        let mut some = Vec::new();
        let mut look = |streams: &mut Self, some: &mut Vec<Link>| {
            progress(Progress {
                what: "chunks",
                done,
                of,
            });
            done += some.len() as u64;
            streams.look(&std::mem::take(some))
        };
        let scanned = scan(self.folder, &mut |_, record| {
            some.extend(Link::decode(&record).ok());
            if some.len() < limits::CHECK_FILES_AT_ONCE {
                return Ok(());
            }
            look(self, &mut some)
        });
        match scanned {
            // Reported by the first pass.
            Err(e) if !matches!(e.kind, FailureKind::Damaged | FailureKind::NotFound) => Err(e),
            _ => look(self, &mut some),
        }
    }

    fn look(&mut self, links: &[Link]) -> Outcome<()> {
        let wrong = files::look(self.folder, links, self.options)?;
        for (link, wrong) in links.iter().zip(wrong) {
            if let Some((code, why)) = wrong {
                let name = link::object_name(&link.did, link.index);
                self.blame(&link.did, name, code, why);
            }
        }
        Ok(())
    }
}

/// Reads the link journal.
fn scan(
    folder: &Folder<'_>,
    visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
) -> Outcome<Option<journal::TornTail>> {
    // Through the listing first: `links` itself must be a folder, not a way to one.
    if folder.list(LINKS)?.is_none() {
        return Err(Failure::not_found("there is no links/"));
    }
    journal::scan_dir(
        folder.disk,
        &folder.root.join(LINKS),
        limits::RECORD_BYTES_MAX,
        visit,
    )
}

/// The heads with a tag (they are sorted by it), each with its mark of being unmatched.
fn heads<'h>(
    facts: &'h Facts,
    unmatched: &'h mut [bool],
    tag: &Digest,
) -> impl Iterator<Item = (&'h Head, &'h mut bool)> {
    let start = facts.heads.partition_point(|h| h.tag < *tag);
    let end = facts.heads.partition_point(|h| h.tag <= *tag);
    let heads = facts.heads.get(start..end).unwrap_or_default();
    heads
        .iter()
        .zip(unmatched.get_mut(start..end).unwrap_or_default())
}
