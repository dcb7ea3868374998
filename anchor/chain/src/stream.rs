//! A whole stream against the ledger, with as few look-ups as the chain allows (formats.md 4, 6).
//!
//! ```text
//! places    0 ── 1 ── 2 ── 3 ║ 4 ── 5 ── 6 ║ · ║ 8 ── 9      ║ where a chunk does not name the one before it,
//! runs      └──── run ─────┘ └─── run ───┘     └─ run ┘      or there is none
//! asked                  (3)           (6)          (9)      a run whose end the ledger names is good as a whole
//! ```
//!
//! A chunk names the digest of the one before it, so that inside a run goodness is a beginning: if the
//! ledger vouches for one chunk, it vouches for all before it, and if one is not what the ledger says,
//! none after it is. Hence
//! - a clean stream costs one look-up, that of its newest head;
//! - a run that does not end well is halved until its first bad chunk stands: `ceil(log2 n)` more;
//! - a chunk that a proven successor does not name is bad without asking, and its run goes on before it.
//!
//! Where the ledger anchors every index, each chunk is proven or bad. Between two anchored ones the
//! first bad chunk can only be narrowed down: what lies between is `unproven`.
//!
//! Pure: chunks come as claims (what a file says of itself, in the place where it lies), the ledger as
//! a port whose look-ups are counted.

use std::collections::BTreeMap;

use chordae_base::{Did, Digest, Outcome, RangeSet};

use crate::link::{Link, genesis};

/// A head that the ledger vouches for: index of the link, and its digest.
pub type Anchored = (u64, Digest);

/// What is asked of a ledger that the reader trusts: entries under a verified checkpoint.
pub trait LedgerReads {
    /// The newest anchored head of the stream at or before an index.
    ///
    /// # Errors
    /// Whatever keeps the ledger from being read.
    fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>>;
}

/// What lies in one place of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkClaim {
    /// The place: the index in the file's name.
    pub index: u64,
    /// The link that the file's own bytes ask for; none if it is no chunk.
    pub link: Option<Link>,
}

/// What became of a stream; each set holds indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamVerdict {
    /// What the ledger vouches for.
    pub proven: RangeSet,
    /// Not what the ledger, or a proven chunk beside it, names.
    pub bad: RangeSet,
    /// Nothing lies there, below the newest place that is claimed or anchored.
    pub missing: RangeSet,
    /// Nothing is known to be wrong with it, and nothing vouches for it.
    pub unproven: RangeSet,
    /// Does not name the chunk before it; one of the two is wrong.
    pub broken: RangeSet,
    /// Claimed more than once; the first claim counts.
    pub twice: RangeSet,
    /// The newest head that the ledger has, whether its chunk is here or not.
    pub anchored_to: Option<u64>,
    /// Questions that the ledger was asked.
    pub lookups: u64,
}

impl StreamVerdict {
    /// Whether nothing is wrong; what is `unproven` may still be anything.
    pub fn is_intact(&self) -> bool {
        let wrong = [&self.bad, &self.missing, &self.broken, &self.twice];
        wrong.into_iter().all(RangeSet::is_empty)
    }

    /// Whether all of it is here, and proven up to its newest chunk.
    pub fn is_proven(&self) -> bool {
        self.is_intact() && self.unproven.is_empty() && !self.proven.is_empty()
    }

    /// The lowest index with which something is wrong.
    pub fn first_bad(&self) -> Option<u64> {
        let wrong = [&self.bad, &self.missing, &self.broken, &self.twice];
        let first = |set: &RangeSet| set.iter().next().map(|(first, _)| first);
        wrong.into_iter().filter_map(first).min()
    }
}

/// Verifies a stream from what its chunks claim, in any order.
///
/// # Errors
/// Those of the ledger; nothing wrong with the chunks is one.
pub fn verify_stream(
    did: Did,
    claims: &[ChunkClaim],
    ledger: &mut dyn LedgerReads,
) -> Outcome<StreamVerdict> {
    let mut verdict = StreamVerdict::default();
    let claims = by_place(did, claims, &mut verdict);
    let runs = runs(&claims, &mut verdict);
    let mut asked = Asked::of(ledger);
    verdict.anchored_to = asked.newest(u64::MAX)?.map(|(index, _)| index);
    // The newest first: a proven run tells that the chunk before it, which it does not name, is bad.
    let mut splits = Vec::with_capacity(runs.len());
    let mut proven_from: Option<u64> = None;
    for run in runs.iter().rev() {
        let disowned = proven_from.is_some_and(|from| run.end() == Some(from));
        let split = judge(run, disowned, &mut asked)?;
        proven_from = (split.good > run.first).then_some(run.first);
        splits.push(split);
    }
    for (run, split) in runs.iter().zip(splits.into_iter().rev()) {
        verdict.settle(run, split);
    }
    verdict.absent(&claims);
    verdict.lookups = asked.lookups;
    Ok(verdict)
}

/// Claims by place. What is no chunk, or one of another place, is bad whatever the ledger says.
fn by_place<'c>(
    did: Did,
    claims: &'c [ChunkClaim],
    verdict: &mut StreamVerdict,
) -> BTreeMap<u64, Option<&'c Link>> {
    let mut places = BTreeMap::new();
    for claim in claims {
        if places.contains_key(&claim.index) {
            verdict.twice.insert(claim.index);
            continue;
        }
        let fits = |link: &&Link| {
            let begins = link.index > 0 || link.prev == genesis(&did);
            link.did == did && link.index == claim.index && begins
        };
        let link = claim.link.as_ref().filter(fits);
        if link.is_none() {
            verdict.bad.insert(claim.index);
        }
        places.insert(claim.index, link);
    }
    places
}

/// Chunks that follow each other, each naming the one before it.
struct Run<'c> {
    first: u64,
    /// Never empty.
    links: Vec<&'c Link>,
    /// It stands behind a chunk that its first one does not name.
    cut: bool,
}

impl Run<'_> {
    /// The index after its last chunk; none at the end of all indexes.
    fn end(&self) -> Option<u64> {
        self.first.checked_add(self.links.len() as u64)
    }

    /// The digest of the chunk with an index, if it is in the run.
    fn digest(&self, index: u64) -> Option<Digest> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.links.get(at).map(|link| link.digest())
    }
}

fn runs<'c>(claims: &BTreeMap<u64, Option<&'c Link>>, verdict: &mut StreamVerdict) -> Vec<Run<'c>> {
    let mut runs: Vec<Run<'c>> = Vec::new();
    let mut before: Option<Anchored> = None;
    for (index, link) in claims {
        let Some(link) = *link else {
            before = None;
            continue;
        };
        let neighbour = before.filter(|(at, _)| at.checked_add(1) == Some(*index));
        let cut = neighbour.is_some_and(|(_, digest)| digest != link.prev);
        if cut {
            verdict.broken.insert(*index);
        }
        match runs.last_mut() {
            Some(run) if neighbour.is_some() && !cut => run.links.push(link),
            _ => runs.push(Run {
                first: *index,
                links: vec![link],
                cut,
            }),
        }
        before = Some((*index, link.digest()));
    }
    runs
}

/// How far a run is good: `[first, good)` is proven, from `open` on all is bad.
struct Split {
    good: u64,
    open: u64,
}

/// Splits a run. `disowned`: the chunk after it is proven, and does not name its last one.
fn judge(run: &Run<'_>, disowned: bool, asked: &mut Asked<'_>) -> Outcome<Split> {
    let first = run.first;
    let end = run.end().unwrap_or(u64::MAX);
    let mut open = if disowned { end.saturating_sub(1) } else { end };
    // No head in [good, asked_to) is anchored.
    let (mut good, mut asked_to) = (first, first);
    let mut next = open.checked_sub(1).filter(|at| *at >= first);
    while let Some(at) = next {
        match asked.newest(at)?.filter(|(index, _)| *index >= asked_to) {
            None => asked_to = at.saturating_add(1),
            Some((index, digest)) if run.digest(index) == Some(digest) => {
                good = index.saturating_add(1);
                asked_to = at.saturating_add(1);
            }
            Some((index, _)) => open = index,
        }
        let width = open.saturating_sub(asked_to);
        next = (width > 0).then(|| asked_to.saturating_add((width - 1) / 2));
    }
    Ok(Split { good, open })
}

impl StreamVerdict {
    /// Writes a run down; the runs before it are.
    fn settle(&mut self, run: &Run<'_>, split: Split) {
        let (first, Split { good, mut open }) = (run.first, split);
        let fill = |set: &mut RangeSet, from: u64, until: u64| {
            if let Some(last) = until.checked_sub(1) {
                set.insert_range(from, last);
            }
        };
        // What nothing vouches for cannot go on from a proven chunk that it does not name.
        let behind_proven = first.checked_sub(1).is_some_and(|b| self.proven.holds(b));
        if good == first && run.cut && behind_proven {
            open = first;
        }
        fill(&mut self.proven, first, good);
        fill(&mut self.unproven, good, open);
        fill(&mut self.bad, open, run.end().unwrap_or(u64::MAX));
    }

    /// Places below the newest that is claimed or anchored where nothing lies.
    fn absent(&mut self, claims: &BTreeMap<u64, Option<&Link>>) {
        let newest = claims.keys().next_back().copied().max(self.anchored_to);
        let Some(newest) = newest else { return };
        let mut next = Some(0);
        for index in claims.keys() {
            if let (Some(from), Some(to)) = (next, index.checked_sub(1)) {
                self.missing.insert_range(from, to);
            }
            next = index.checked_add(1);
        }
        if let Some(from) = next {
            self.missing.insert_range(from, newest);
        }
    }
}

/// The ledger, asked nothing twice.
struct Asked<'a> {
    ledger: &'a mut dyn LedgerReads,
    /// Answers by the index up to which was asked.
    known: BTreeMap<u64, Option<Anchored>>,
    lookups: u64,
}

impl<'a> Asked<'a> {
    fn of(ledger: &'a mut dyn LedgerReads) -> Self {
        Self {
            ledger,
            known: BTreeMap::new(),
            lookups: 0,
        }
    }

    fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>> {
        // What was newest up to a later index is newest up to this one, if it is not beyond it.
        if let Some((_, found)) = self.known.range(upto..).next()
            && found.is_none_or(|(index, _)| index <= upto)
        {
            return Ok(*found);
        }
        self.lookups += 1;
        // A ledger that answers beyond the question would let an index be judged by another's digest.
        let found = self
            .ledger
            .newest(upto)?
            .filter(|(index, _)| *index <= upto);
        self.known.insert(upto, found);
        Ok(found)
    }
}
