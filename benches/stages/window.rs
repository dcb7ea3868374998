//! A chunk to a verified window of ten seconds, warm, beside a plain read of the same rows.
//!
//! ```text
//! plain    file (page cache) ─▶ read_span ─▶ rows
//! window   file ─▶ BLAKE3 = link's? ─▶ read_span ─▶ rows                            as the query service
//! proof    file ─▶ BLAKE3 = link's? ─▶ open ─▶ page digests ─▶ bundle, JSON         as the query service, nothing held
//! verify   JSON, rows ─▶ bundle::verify against a trust file ─▶ anchored            as the reader
//! ```
//!
//! The functions are those of the product; not measured are HTTP, the signed request, the access rule and
//! the synced trail, which cost the same for any window. The chain is six chunks long, the window a whole
//! page in the third, the anchor at the last. Every turn checks that the rows are the plain ones and that
//! the verdict is `Anchored`; before the first, that a changed code is found.

use std::{fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, Span, limits, seams::Clock};
use chordae_chain::{
    bundle::{AnswerRows, Asked, BundleAnchor, LinkHex, ProofBundle, Verdict, verify},
    checkpoint::{Checkpoint, TrustedLog},
    event::{self, Event},
    keys::{Role, SecretKeys},
    link::{self, Link},
    merkle, receipt,
    trust::{self, TrustFile},
};
use chordae_chunk::{ChunkFile, ChunkRows, file_root, read_span};
use chordae_query::core::{
    access::Leads,
    plan::{Plan, plan},
    ports::Touched,
    proof,
};

use super::{ingest::Place, timed};
use crate::{
    material::{DID, Material},
    table::{Rounds, Table, grouped, short},
};

/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 15;
/// Windows of a round; the round's figure is their median.
const WINDOWS: usize = 20;
/// Chunk and page that hold the window.
const CHUNK: usize = 2;
const PAGE: i64 = 12;
/// The log: its name, its entries, and which of them is the anchor.
const ORIGIN: &str = "chordae.local/benches";
const ENTRIES: u64 = 1000;
const ANCHOR: u64 = 700;

/// What a server holds, and what a reader has kept.
struct House {
    dir: tempfile::TempDir,
    touched: Vec<Touched>,
    anchor: BundleAnchor,
    trust: TrustFile,
    window: Span,
}

/// Measures and reports.
///
/// # Errors
/// When a window does not verify, or a wrong one does.
pub fn run(material: &Material, rounds: usize, place: &Place<'_>) -> Outcome<String> {
    let house = House::build(material, place)?;
    house.control()?;
    let names = [
        "plain read, nothing checked",
        "window: rows",
        "window: proof",
        "verify",
    ];
    let mut figures = names.map(|_| Rounds::default());
    for _ in 0..rounds {
        let mut took = names.map(|_| Rounds::default());
        for _ in 0..WINDOWS {
            for (took, ns) in took.iter_mut().zip(house.turn(place.clock)?) {
                took.0.push(ns);
            }
        }
        for (figure, took) in figures.iter_mut().zip(took) {
            figure.0.push(took.median() / 1e3);
        }
    }
    let whole: Vec<f64> = (0..rounds)
        .map(|n| {
            figures
                .iter()
                .skip(1)
                .filter_map(|figure| figure.0.get(n))
                .sum()
        })
        .collect();
    let (plain, whole) = (figures.first().cloned().unwrap_or_default(), Rounds(whole));
    let mut table = Table::new(&["", "us", "(min-max)", "x plain"]);
    let rows = names
        .into_iter()
        .zip(&figures)
        .chain([("verified window, all three", &whole)]);
    for (name, figure) in rows {
        let cells = [short(figure.median()), figure.spread(grouped)];
        let ratio = short(figure.over(&plain).median());
        table.row([name.to_owned()].into_iter().chain(cells).chain([ratio]));
    }
    let (rows, json) = (house.rows()?, house.proof()?);
    Ok(format!(
        "window: {}, ten seconds ({} rows of {} leads) of a chunk of 300 s, warm, proof of {} bytes;\n        \
         {rounds} interleaved rounds of {WINDOWS}, medians, one thread; every window came out anchored\n{table}",
        material.name,
        grouped(rows.len() as f64),
        rows.leads.len(),
        grouped(json.len() as f64),
    ))
}

impl House {
    fn build(material: &Material, place: &Place<'_>) -> Outcome<Self> {
        let os = |e: std::io::Error| Failure::os("make the chunks", &e);
        let dir = tempfile::Builder::new()
            .prefix("window-")
            .tempdir_in(place.dir)
            .map_err(os)?;
        let chunks = material.chain()?;
        let mut touched = Vec::new();
        for chunk in &chunks {
            let (link, meta) = (chunk.link().clone(), Arc::new(chunk.meta().clone()));
            fs::write(dir.path().join(link.index.to_string()), chunk.bytes()).map_err(os)?;
            touched.push(Touched { link, meta });
        }
        let (last, of) = match (touched.last(), touched.get(CHUNK)) {
            (Some(last), Some(of)) => (&last.link, &of.link),
            _ => {
                return Err(Failure::bad_input(
                    "the record fills fewer than three slots",
                ));
            }
        };
        let from_ns = of.slot_start_ns + PAGE * limits::PAGE_NS;
        let window = Span {
            from_ns,
            until_ns: from_ns + limits::PAGE_NS,
        };
        let (anchor, trust) = anchored(last)?;
        Ok(Self {
            dir,
            touched,
            anchor,
            trust,
            window,
        })
    }

    fn file(&self, link: &Link) -> Outcome<Bytes> {
        let path: PathBuf = self.dir.path().join(link.index.to_string());
        let bytes = fs::read(&path).map_err(|e| Failure::os("read a chunk", &e))?;
        Ok(Bytes::from(bytes))
    }

    fn checked(&self, link: &Link) -> Outcome<Bytes> {
        let bytes = self.file(link)?;
        if file_root(&bytes) == link.file_root {
            return Ok(bytes);
        }
        Err(Failure::damaged("a chunk is not the one its link names"))
    }

    fn plan(&self) -> Outcome<Plan> {
        plan(self.touched.clone(), self.window, &Leads::All, None)
    }

    fn plain(&self) -> Outcome<ChunkRows> {
        let of = self
            .touched
            .get(CHUNK)
            .ok_or_else(|| Failure::internal("no chunk"))?;
        let leads: Vec<usize> = (0..of.meta.leads.len()).collect();
        Ok(read_span(self.file(&of.link)?, self.window, &leads)?.1)
    }

    /// The rows of the answer. The chunks of this chain do not overlap, so they need no merging.
    fn rows(&self) -> Outcome<ChunkRows> {
        let plan = self.plan()?;
        let mut answer = ChunkRows {
            times: Vec::new(),
            leads: vec![Vec::new(); plan.columns.len()],
        };
        for of in &plan.chunks {
            let leads: Vec<usize> = (0..of.meta.leads.len()).collect();
            let (_, rows) = read_span(self.checked(&of.link)?, plan.rows, &leads)?;
            answer.times.extend(rows.times);
            for (to, from) in answer.leads.iter_mut().zip(rows.leads) {
                to.extend(from);
            }
        }
        Ok(answer)
    }

    /// The proof's text.
    fn proof(&self) -> Outcome<String> {
        let plan = self.plan()?;
        let (mut chunks, mut runs) = (Vec::new(), Vec::new());
        for of in &plan.chunks {
            let opened = ChunkFile::open(self.checked(&of.link)?)?;
            chunks.push(proof::show(&opened, &of.link, &plan)?);
            let (_, times) = opened.times(plan.rows)?;
            proof::add_run(&mut runs, of.link.index, times.len() as u64);
        }
        let first = plan.chunks.first().map_or(0, |of| of.link.index);
        let links = self
            .touched
            .iter()
            .map(|of| &of.link)
            .filter(|link| link.index >= first);
        let bundle = ProofBundle {
            v: 1,
            did: DID,
            from_ns: plan.rows.from_ns,
            until_ns: plan.rows.until_ns,
            links: links.cloned().map(LinkHex).collect(),
            chunks,
            rows: runs,
            anchor: Some(self.anchor.clone()),
        };
        bundle.to_json()
    }

    fn verify(&self, rows: &ChunkRows, proof: &str) -> Outcome<Verdict> {
        let names = self
            .touched
            .first()
            .map(|of| of.meta.leads.iter().map(|l| l.name.clone()));
        let leads: Vec<String> = names.into_iter().flatten().collect();
        let asked = Asked {
            did: Some(DID),
            window: Some(self.window),
            leads: Some(leads.clone()),
        };
        let answer = AnswerRows {
            leads,
            times: rows.times.clone(),
            codes: rows.leads.clone(),
        };
        let bundle = ProofBundle::parse(proof)?;
        let found = verify(&bundle, &answer, &asked, Some(&self.trust));
        match (found.unproven_rows, found.newer.is_empty()) {
            (0, true) => Ok(found.verdict),
            _ => Err(Failure::damaged("a whole page is not proven whole")),
        }
    }

    /// The untouched window is anchored; one changed code, and it is not.
    fn control(&self) -> Outcome<()> {
        let (mut rows, proof) = (self.rows()?, self.proof()?);
        let before = self.verify(&rows, &proof)?;
        let code = rows.leads.first_mut().and_then(|lead| lead.get_mut(1000));
        *code.ok_or_else(|| Failure::internal("no row 1000"))? ^= 1;
        match (before, self.verify(&rows, &proof)?) {
            (Verdict::Anchored, Verdict::Damaged) => Ok(()),
            other => Err(Failure::internal(format!(
                "the verification does not work: {other:?}"
            ))),
        }
    }

    /// Nanoseconds of: plain, rows, proof, verify.
    fn turn(&self, clock: &dyn Clock) -> Outcome<[f64; 4]> {
        // Whatever comes first would pay for the caches that the turn before has filled with other things.
        self.plain()?;
        let (plain_ns, plain) = timed(clock, || self.plain())?;
        let (rows_ns, rows) = timed(clock, || self.rows())?;
        let (proof_ns, proof) = timed(clock, || self.proof())?;
        let (verify_ns, verdict) = timed(clock, || self.verify(&rows, &proof))?;
        if rows != plain || verdict != Verdict::Anchored {
            return Err(Failure::damaged(format!("a window came out {verdict:?}")));
        }
        Ok([plain_ns, rows_ns, proof_ns, verify_ns])
    }
}

/// An anchor for this link in a log of its own, and the trust file of its reader.
fn anchored(link: &Link) -> Outcome<(BundleAnchor, TrustFile)> {
    let keys = |seed: u8| SecretKeys::from_secrets(&[seed; 32], None);
    let (provider, sequencer, log) = (keys(1)?, keys(2)?, keys(3)?);
    let event = Event::AddData {
        digest: link.digest(),
        tag: link::tag(&link.did, link.index),
        content: vec![7; 120],
    };
    let entry = event::sign(&event, &provider)?;
    let leaf = |n: u64| match n {
        ANCHOR => merkle::leaf_hash(&entry),
        n => merkle::leaf_hash(&n.to_be_bytes()),
    };
    let leaves: Vec<_> = (0..ENTRIES).map(leaf).collect();
    let root = merkle::root(&leaves);
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: ENTRIES,
        root,
    };
    let path = merkle::inclusion_path(ENTRIES, ANCHOR, &merkle::StoredHashes::of(&leaves))?;
    let proof = receipt::make(ANCHOR, &path, &checkpoint.sign(&log.sign)?);
    let trust = TrustFile {
        origin: ORIGIN.to_owned(),
        policy: trust::policy_text(&TrustedLog::new(ORIGIN, &log.sign_public())?),
        providers: vec![provider.public("provider", Role::Provider)],
        sequencers: vec![sequencer.public("sequencer", Role::Sequencer)],
        retired: Vec::new(),
        ca: None,
    };
    let head = None;
    Ok((BundleAnchor { entry, proof, head }, trust))
}
