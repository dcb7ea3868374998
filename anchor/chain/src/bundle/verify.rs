//! The judge of a proof bundle: a pure function of bundle, answer, question and trust.
//!
//! Nothing in the bundle is believed; each claim leads, over digests, to the signed entry in the
//! trusted log, or the verdict is not `Anchored`:
//!
//! - the ledger names the last link, each link names the one before: any other link is found, and
//!   each bad one is named;
//! - a link names metadata and leaves of its chunk, a leaf the rows of its page: in a page wholly
//!   inside the window no row can be changed, added or left out;
//! - a checkpoint that its log has signed and too few witnesses have cosigned proves nothing yet; what
//!   the policy's quorum lacks is told in `lacks`;
//! - a page that the window cuts proves nothing: its rows are counted as `unproven_rows`;
//! - a chunk that meets the window and is not listed is a finding. One linked *after* the newest
//!   listed chunk may have come after the answer was made; it is told in `newer`, and whoever asked
//!   asks again or must call the answer incomplete.
//!
//! What a bundle cannot show: chunks before its first link (a late chunk of an older index has the
//! smaller index, so an honest bundle begins there), and that a stream without links has no rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use chordae_base::{Did, Digest, Span, wire::NO_VALUE};

use super::{BundleAnchor, BundleChunk, BundlePage, ProofBundle, page_span, provable_pages};
use crate::{
    event::{self, Event},
    finding::{Code, Finding, Findings},
    link::{self, Link},
    meta::ChunkMeta,
    pages,
    receipt::{Proof, Receipt},
    trust::TrustFile,
};

/// The rows of an answer as ADC codes, in answer order: by time, then by index of their chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerRows {
    /// Names of the leads that the answer has, in its column order.
    pub leads: Vec<String>,
    /// One per row, nanoseconds.
    pub times: Vec<i64>,
    /// Per lead one code per row, [`NO_VALUE`] where there is none.
    pub codes: Vec<Vec<i32>>,
}

/// What the reader asked for; the bundle must answer that and nothing else. Where it is not known (a
/// bundle from a file), `None` takes the stream and window that the bundle says; the leads are then
/// best the answer's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The data stream.
    pub did: Option<Did>,
    /// The window, after snapping or clipping.
    pub window: Option<Span>,
    /// The leads; `None` asks for all that the chunks have.
    pub leads: Option<Vec<String>>,
}

/// How far the answer is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All proven rows lead to the trusted log. Look at `unproven_rows` and `newer` too.
    Anchored,
    /// Nothing is wrong, but nothing leads to a trusted log: not anchored yet, not cosigned yet, or no
    /// trust file.
    Unanchored,
    /// There are findings.
    Damaged,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleVerdict {
    /// `Damaged` iff there are findings.
    pub verdict: Verdict,
    /// Rows in pages that the window cuts: they may be right, nothing shows it.
    pub unproven_rows: u64,
    /// Chunks of the window that were linked after the newest one listed: the answer lacks them.
    pub newer: Vec<u64>,
    /// Index of the anchored link; `None` unless the verdict is `Anchored`.
    pub anchored_to: Option<u64>,
    /// The receipt behind it.
    pub receipt: Option<Receipt>,
    /// The log holds the entry, but its checkpoint is not cosigned as the policy demands: what it lacks,
    /// for people.
    pub lacks: Option<String>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

/// Judges an answer by its bundle. Without a trust file no verdict is better than `Unanchored`.
pub fn verify(
    bundle: &ProofBundle,
    answer: &AnswerRows,
    asked: &Asked,
    trust: Option<&TrustFile>,
) -> BundleVerdict {
    let mut judge = Judge::new(bundle, answer);
    judge.question(asked);
    judge.links();
    let newer = judge.completeness();
    let runs = judge.runs();
    for chunk in &bundle.chunks {
        judge.chunk(
            chunk,
            asked,
            runs.get(&chunk.index).map_or(&[], Vec::as_slice),
        );
    }
    judge.conclude(newer, trust)
}

/// A chunk of which link and metadata are known, and no row.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownChunk {
    /// Its link.
    pub link: Link,
    /// Its metadata, which agree with the link.
    pub meta: ChunkMeta,
}

/// Judges a bundle that shows links and metadata only (`pages=none`): the chain, that no chunk of the
/// window is left out, that metadata and leaves lead to their links, and the anchor. The chunks are worth
/// as much as the verdict says.
pub fn verify_metadata(
    bundle: &ProofBundle,
    asked: &Asked,
    trust: Option<&TrustFile>,
) -> (BundleVerdict, Vec<KnownChunk>) {
    let nothing = AnswerRows::default();
    let mut judge = Judge::new(bundle, &nothing);
    judge.question(asked);
    judge.links();
    let newer = judge.completeness();
    let mut known = Vec::with_capacity(bundle.chunks.len());
    for chunk in &bundle.chunks {
        if !chunk.pages.is_empty() {
            let why = "a bundle of metadata shows a page";
            judge
                .found
                .add(judge.object(chunk.index), Code::PagesDigest, why);
        }
        if let Some((link, meta)) = judge.metadata(chunk) {
            known.push(KnownChunk { link, meta });
        }
    }
    (judge.conclude(newer, trust), known)
}

struct Judge<'a> {
    bundle: &'a ProofBundle,
    answer: &'a AnswerRows,
    links: BTreeMap<u64, &'a Link>,
    listed: BTreeSet<u64>,
    found: Findings,
    unproven_rows: u64,
    lacks: Option<String>,
}

/// The rows of one chunk in the answer.
struct ChunkAnswer {
    times: Vec<i64>,
    /// Per lead of the chunk its codes, `None` where the answer does not have the lead.
    leads: Vec<Option<Vec<i32>>>,
    /// Per row, whether a lead that the chunk does not have holds a value.
    strange: Vec<bool>,
}

impl<'a> Judge<'a> {
    fn new(bundle: &'a ProofBundle, answer: &'a AnswerRows) -> Self {
        Self {
            bundle,
            answer,
            links: bundle.links.iter().map(|l| (l.0.index, &l.0)).collect(),
            listed: bundle.chunks.iter().map(|c| c.index).collect(),
            found: Findings::default(),
            unproven_rows: 0,
            lacks: None,
        }
    }

    /// Holds the last link against the ledger; the verdict.
    fn conclude(mut self, newer: Vec<u64>, trust: Option<&TrustFile>) -> BundleVerdict {
        let bundle = self.bundle;
        let receipt = match (&bundle.anchor, bundle.links.last()) {
            (Some(anchor), Some(last)) => self.anchor(anchor, &last.0, trust),
            (Some(_), None) => {
                let why = "there is an anchor but no link";
                self.found.add("anchor", Code::LinkPrev, why);
                None
            }
            (None, _) => None,
        };
        let findings = self.found.into_vec();
        let verdict = match (&receipt, findings.is_empty()) {
            (_, false) => Verdict::Damaged,
            (Some(_), true) => Verdict::Anchored,
            (None, true) => Verdict::Unanchored,
        };
        let receipt = receipt.filter(|_| verdict == Verdict::Anchored);
        let anchored_to = receipt
            .as_ref()
            .and_then(|_| bundle.links.last())
            .map(|l| l.0.index);
        BundleVerdict {
            verdict,
            unproven_rows: self.unproven_rows,
            newer,
            anchored_to,
            receipt,
            lacks: self.lacks,
            findings,
        }
    }

    fn object(&self, index: u64) -> String {
        link::object_name(&self.bundle.did, index)
    }

    /// The bundle must be about what was asked, and the answer a table.
    fn question(&mut self, asked: &Asked) {
        let (bundle, answer) = (self.bundle, self.answer);
        let mut wrong = |why: &str| self.found.add("answer", Code::Metadata, why);
        if bundle.v != 1 {
            wrong("the bundle is not of version 1");
        }
        if asked.did.is_some_and(|did| did != bundle.did) {
            wrong("the proof is about another stream than was asked for");
        }
        if asked.window.is_some_and(|w| w != bundle.window()) {
            wrong("the proof is about another window than was asked for");
        }
        if bundle.from_ns >= bundle.until_ns {
            wrong("the window is empty");
        }
        let rows = answer.times.len();
        let table = answer.codes.len() == answer.leads.len()
            && answer.codes.iter().all(|lead| lead.len() == rows);
        if !table {
            wrong("the answer's columns do not have equal lengths");
        }
        let twice = |(i, name): (usize, &String)| answer.leads.iter().take(i).any(|n| n == name);
        if answer.leads.iter().enumerate().any(twice) {
            wrong("the answer has a lead twice");
        }
        if let Some(leads) = &asked.leads {
            let same = leads.iter().all(|l| answer.leads.contains(l))
                && answer.leads.iter().all(|l| leads.contains(l));
            if !same {
                wrong("the answer does not have exactly the leads that were asked for");
            }
        }
    }

    /// Each link is what the next one names; the last one is the ledger's business.
    fn links(&mut self) {
        for link in self.bundle.links.iter().map(|l| &l.0) {
            if link.did != self.bundle.did {
                let why = "the link belongs to another stream";
                self.found.add(self.object(link.index), Code::Metadata, why);
            }
            if link.index == 0 && link.prev != link::genesis(&link.did) {
                let why = "the first link does not begin its stream";
                self.found.add(self.object(0), Code::LinkPrev, why);
            }
        }
        for pair in self.bundle.links.windows(2) {
            let [a, b] = pair else { continue };
            if a.0.index.checked_add(1) != Some(b.0.index) {
                let why = format!("link {} is followed by link {}", a.0.index, b.0.index);
                self.found.add(self.object(a.0.index), Code::IndexGap, why);
            }
            if b.0.prev != a.0.digest() {
                let why = format!(
                    "link {} is not the one that link {} names",
                    a.0.index, b.0.index
                );
                self.found.add(self.object(a.0.index), Code::LinkPrev, why);
            }
        }
    }

    /// Every linked chunk that meets the window is listed, once, in order. Returns those that were
    /// linked after the newest listed one.
    fn completeness(&mut self) -> Vec<u64> {
        let chunks = &self.bundle.chunks;
        for pair in chunks.windows(2) {
            if let [a, b] = pair
                && a.index >= b.index
            {
                let why = "chunks are not listed once each by ascending index";
                self.found
                    .add(self.object(b.index), Code::DuplicateIndex, why);
            }
        }
        let newest = self.listed.last().copied();
        let mut newer = Vec::new();
        for link in self.bundle.links.iter().map(|l| &l.0) {
            if self.listed.contains(&link.index) || !link.span().meets(&self.bundle.window()) {
                continue;
            }
            if newest.is_some_and(|n| link.index > n) {
                newer.push(link.index);
            } else {
                let why = "the chunk meets the window and is left out";
                self.found.add(self.object(link.index), Code::IndexGap, why);
            }
        }
        newer
    }

    /// The answer's row ranges per chunk; each row inside the window and in order.
    fn runs(&mut self) -> BTreeMap<u64, Vec<Range<usize>>> {
        let mut runs: BTreeMap<u64, Vec<Range<usize>>> = BTreeMap::new();
        let mut at = 0usize;
        let mut before: Option<(i64, u64)> = None;
        for (index, count) in &self.bundle.rows {
            let end = usize::try_from(*count).ok().and_then(|n| at.checked_add(n));
            let times = end.and_then(|end| self.answer.times.get(at..end));
            let (Some(end), Some(times)) = (end.filter(|end| *end > at), times) else {
                let why = format!("the run [{index},{count}] is empty or longer than the answer");
                self.found.add("rows", Code::PagesDigest, why);
                return runs;
            };
            for t in times {
                if before.is_some_and(|b| b >= (*t, *index)) || !self.bundle.window().holds(*t) {
                    let why = format!("the row at {t} is outside the window or out of order");
                    self.found.add(self.object(*index), Code::PagesDigest, why);
                }
                before = Some((*t, *index));
            }
            if !self.listed.contains(index) {
                let why = "rows of the answer come from a chunk that is not listed";
                self.found.add(self.object(*index), Code::PagesDigest, why);
            }
            runs.entry(*index).or_default().push(at..end);
            at = end;
        }
        if at != self.answer.times.len() {
            let why = format!(
                "{} rows of the answer belong to no run",
                self.answer.times.len() - at
            );
            self.found.add("rows", Code::PagesDigest, why);
        }
        runs
    }

    /// The chunk's link and metadata; metadata and all leaves must lead to the link's `pages_root`.
    fn metadata(&mut self, chunk: &BundleChunk) -> Option<(Link, ChunkMeta)> {
        let object = self.object(chunk.index);
        let Some(link) = self.links.get(&chunk.index).copied() else {
            self.found.add(
                object,
                Code::IndexGap,
                "the chunk is listed but has no link",
            );
            return None;
        };
        let meta = match ChunkMeta::parse(&chunk.meta) {
            Ok(meta) => meta,
            Err(e) => {
                self.found.add(object, Code::Metadata, e);
                return None;
            }
        };
        if let Err(e) = meta.check_link(link) {
            self.found.add(&object, Code::Metadata, e);
        }
        let counted = pages::page_count(link.slot_len_ns)
            .is_ok_and(|n| usize::try_from(n).is_ok_and(|n| n == chunk.leaves.len()));
        if !counted || pages::pages_root(&chunk.meta, &chunk.leaves) != link.pages_root {
            let why = "metadata and leaves do not lead to the link's pages_root";
            self.found.add(&object, Code::PagesDigest, why);
        }
        Some((link.clone(), meta))
    }

    fn chunk(&mut self, chunk: &BundleChunk, asked: &Asked, runs: &[Range<usize>]) {
        let Some((link, meta)) = self.metadata(chunk) else {
            return;
        };
        let object = self.object(chunk.index);
        let lacks = meta
            .leads
            .iter()
            .find(|l| !self.answer.leads.contains(&l.name));
        if let (Some(lead), None) = (lacks, &asked.leads) {
            let why = format!(
                "all leads were asked for and lead {:?} is left out",
                lead.name
            );
            self.found.add(&object, Code::PagesDigest, why);
        }
        let rows = self.collect(&meta, runs);
        if rows.times.iter().any(|t| !link.span().holds(*t)) {
            let why = "the answer has rows before the chunk's first or after its last";
            self.found.add(&object, Code::PagesDigest, why);
        }
        self.pages(&object, chunk, &link, &rows);
    }

    fn collect(&self, meta: &ChunkMeta, runs: &[Range<usize>]) -> ChunkAnswer {
        fn cut<T: Copy>(all: &[T], runs: &[Range<usize>]) -> Vec<T> {
            let parts = runs.iter().filter_map(|run| all.get(run.clone()));
            parts.flat_map(|part| part.iter().copied()).collect()
        }
        let times = cut(&self.answer.times, runs);
        let named = || self.answer.leads.iter().zip(&self.answer.codes);
        let lead = |name: &str| {
            named()
                .find(|(n, _)| *n == name)
                .map(|(_, codes)| cut(codes, runs))
        };
        let leads = meta.leads.iter().map(|l| lead(&l.name)).collect();
        let mut strange = vec![false; times.len()];
        for (_, codes) in named().filter(|(n, _)| !meta.leads.iter().any(|l| l.name == **n)) {
            for (s, code) in strange.iter_mut().zip(cut(codes, runs)) {
                *s |= code != NO_VALUE;
            }
        }
        ChunkAnswer {
            times,
            leads,
            strange,
        }
    }

    /// Holds the rows against the shown pages; counts those that no page can prove.
    fn pages(&mut self, object: &str, chunk: &BundleChunk, link: &Link, rows: &ChunkAnswer) {
        let due = provable_pages(link, self.bundle.window());
        let mut proven = 0usize;
        for p in due.clone() {
            let Some(page) = chunk.pages.iter().find(|page| page.p == p) else {
                let why = format!("page {p} lies inside the window and is not shown");
                self.found.add(object, Code::PagesDigest, why);
                continue;
            };
            let span = page_span(link.slot_start_ns, p);
            let at = rows.times.partition_point(|t| *t < span.from_ns);
            let end = rows.times.partition_point(|t| *t < span.until_ns).max(at);
            proven += end - at;
            if rows.strange.get(at..end).is_some_and(|s| s.contains(&true)) {
                let why = format!("page {p} has values in a lead that the chunk does not have");
                self.found.add(object, Code::PagesDigest, why);
            }
            let leaf = usize::try_from(p).ok().and_then(|p| chunk.leaves.get(p));
            match page_leaf(page, rows, at..end) {
                Ok(computed) if Some(&computed) == leaf => {}
                Ok(_) => {
                    let why = format!("the rows of page {p} are not the chunk's");
                    self.found.add(object, Code::PagesDigest, why);
                }
                Err(why) => self
                    .found
                    .add(object, Code::PagesDigest, format!("page {p}: {why}")),
            }
        }
        if !chunk.pages.iter().map(|page| page.p).eq(due) {
            let why = "the pages shown are not those with rows wholly inside the window, in order";
            self.found.add(object, Code::PagesDigest, why);
        }
        let rest = rows.times.len().saturating_sub(proven);
        self.unproven_rows = self
            .unproven_rows
            .saturating_add(u64::try_from(rest).unwrap_or(u64::MAX));
    }

    /// The entry names the last link, a trusted provider signed it, the trusted log holds it.
    fn anchor(
        &mut self,
        anchor: &BundleAnchor,
        last: &Link,
        trust: Option<&TrustFile>,
    ) -> Option<Receipt> {
        let found = &mut self.found;
        let signed = match event::decode(&anchor.entry) {
            Ok(signed) => signed,
            Err(e) => {
                found.add("anchor", Code::EntrySignature, e);
                return None;
            }
        };
        let head = (link::tag(&last.did, last.index), last.digest());
        let named = match (&signed.event, &anchor.head) {
            (Event::AddData { digest, tag, .. }, None) => (*tag, *digest) == head,
            (Event::AddHeads { root, count }, Some(way)) => way.check(&head, *root, *count).is_ok(),
            (Event::AddData { .. } | Event::AddHeads { .. }, _) => {
                let why =
                    "a way to the root of heads belongs to an add-heads event, and to no other";
                found.add("anchor", Code::EntrySignature, why);
                return None;
            }
            _ => {
                let why = "the entry is not an add-data or add-heads event";
                found.add("anchor", Code::EntrySignature, why);
                return None;
            }
        };
        if !named {
            let object = link::object_name(&last.did, last.index);
            found.add(
                object,
                Code::LinkPrev,
                "the last link is not the one that the ledger names",
            );
        }
        let trust = trust?;
        let signer = trust.provider(&signed.kid);
        if signer.is_none_or(|who| signed.verify(&who.sign).is_err()) {
            let why = "the entry is not signed by a trusted provider (has its key changed since? then ask for the \
                       new trust file)";
            found.add("anchor", Code::EntrySignature, why);
        }
        let proof = Proof::parse(&anchor.proof).map_err(|e| (Code::LogRoot, e));
        let receipt = proof.and_then(|proof| {
            let policy = trust.policy().map_err(|e| (Code::CheckpointSignature, e))?;
            let opened = policy
                .open(&proof.checkpoint)
                .map_err(|e| (Code::CheckpointSignature, e))?;
            proof
                .check_entry(&anchor.entry, &opened.checkpoint)
                .map_err(|e| (Code::LogRoot, e))?;
            let receipt = Receipt {
                leaf_index: proof.leaf_index,
                checkpoint: opened.checkpoint,
                cosigned: opened.cosigned,
            };
            Ok((receipt, opened.lacks))
        });
        let (receipt, lacks) = receipt
            .map_err(|(code, e)| found.add("anchor", code, e))
            .ok()?;
        if let Err(e) = trust.in_force(&signed.kid, receipt.leaf_index) {
            found.add("anchor", Code::EntrySignature, e);
        }
        self.lacks = lacks;
        Some(receipt).filter(|_| self.lacks.is_none())
    }
}

/// The leaf that the answer's rows of a page lead to.
fn page_leaf(page: &BundlePage, rows: &ChunkAnswer, at: Range<usize>) -> Result<Digest, String> {
    let times = rows.times.get(at.clone()).unwrap_or_default();
    let salt = page
        .salts
        .get(&0)
        .ok_or("the salt of the times is missing")?;
    let mut cols = vec![pages::col_times(&salt.0, times)];
    for (c, lead) in (1u32..).zip(&rows.leads) {
        let col = match (lead, page.salts.get(&c), page.hidden.get(&c)) {
            (Some(codes), Some(salt), None) => {
                pages::col_lead(&salt.0, codes.get(at.clone()).unwrap_or_default())
            }
            (None, None, Some(hidden)) => *hidden,
            (Some(_), ..) => return Err(format!("column {c} is answered and not shown")),
            (None, ..) => return Err(format!("column {c} is not answered and not hidden")),
        };
        cols.push(col);
    }
    if page.salts.len() + page.hidden.len() != cols.len() {
        return Err("it names columns that the chunk does not have".to_owned());
    }
    Ok(pages::leaf(&cols))
}
