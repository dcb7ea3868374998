//! Reports: a signed page that says what of a span of a stream is there, and what is missing and why.
//!
//! ```text
//! evidence: bundles of links, metadata, leaves, anchors ──▶ judged against a trust file
//!     │ SHA-256                    │
//!     ▼                            ▼ computed by one pure function
//! report { did, span, figures, proof, evidence } ──▶ Ed25519 by whoever made it
//! ```
//!
//! A figure is never only claimed: the evidence travels with the report, so that [`open`] computes every
//! figure again. A figure that was changed later breaks the signature; one that was signed falsely does
//! not come out of the evidence. No row is in it; what links and metadata cannot tell, it does not say.
//!
//! The text is JSON with sorted keys, no spaces, whole numbers and strings only; what is spelled in another
//! way is refused, so that no two readers see two reports in one text.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chordae_base::{Did, Digest, Failure, Outcome, Span, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    bundle::{Asked, KnownChunk, ProofBundle, Verdict, verify_metadata},
    finding::{Code, Finding, Findings},
    keys::{self, SecretKeys},
    receipt::Receipt,
    trust::TrustFile,
};

mod figures;
mod gaps;

pub use figures::{Band, Clock, Counts, Figures, Kind, LeadFigure, figures};
pub use gaps::{Cause, Gap, Place};

/// In front of what is signed.
const DOMAIN: &[u8] = b"chordae v1 report\n";
/// What a report calls itself.
pub const KIND: &str = "chordae-report";

/// What is signed. Times in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanReport {
    /// Version, 1.
    pub v: u32,
    /// The data stream.
    pub did: Did,
    /// Start of the span.
    pub from_ns: i64,
    /// End of the span, half-open.
    pub until_ns: i64,
    /// Rows later than this could not be there yet.
    pub known_until_ns: i64,
    /// When it was made, by the clock of whoever made it.
    pub made_ns: i64,
    /// The session that it was read on.
    pub session: Option<Digest>,
    /// Ed25519 key of whoever made it, hex.
    pub signer: Digest,
    /// Origin of the ledger.
    pub origin: String,
    /// What is there and what is not.
    pub figures: Figures,
    /// How far the figures lead to the ledger.
    pub proof: ProofFigure,
    /// What the node says it set aside about the known span, by reason (`conflict` and others). Nothing
    /// proves it; absent where the node could not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub set_aside: Option<BTreeMap<String, u64>>,
    /// Remarks of the node, which nothing proves.
    pub remarks: Vec<String>,
    /// SHA-256 of the evidence.
    pub evidence: Digest,
}

/// How far the evidence is proven, by the trust file of whoever made the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFigure {
    /// Whether every link of the span leads to the trusted ledger.
    pub anchored: bool,
    /// Index of the newest link that does.
    pub anchored_to: Option<u64>,
    /// Its digest: the head of the chain.
    pub head: Option<Digest>,
    /// Leaf index of the entry that names it.
    pub leaf_index: Option<u64>,
    /// Leaves under the checkpoint.
    pub tree_size: Option<u64>,
    /// Root over them, hex.
    pub root: Option<Digest>,
}

/// The file: a report, its signature and its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReport {
    /// [`KIND`].
    pub kind: String,
    /// What is signed.
    pub report: SpanReport,
    /// Ed25519 signature, base64url.
    pub signature: String,
    /// Bundles of links and metadata whose windows follow each other from `from_ns` on.
    pub evidence: Vec<ProofBundle>,
}

/// What evidence comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// By ascending index.
    pub chunks: Vec<KnownChunk>,
    /// How far they are proven.
    pub proof: ProofFigure,
    /// Everything wrong.
    pub findings: Vec<Finding>,
}

/// Judges bundles that cover `[from, known_until)` one after the other.
pub fn judge(did: Did, span: Span, evidence: &[ProofBundle], trust: Option<&TrustFile>) -> Judged {
    let mut found = Findings::default();
    let mut chunks: BTreeMap<u64, KnownChunk> = BTreeMap::new();
    let mut newest: Option<(u64, Digest, Receipt)> = None;
    let (mut at, mut proven, mut linked) = (span.from_ns, true, false);
    for bundle in evidence {
        let window = bundle.window();
        if window.from_ns != at {
            let why = "the evidence does not follow on without a hole";
            found.add("evidence", Code::IndexGap, why);
        }
        at = window.until_ns;
        let asked = Asked {
            did: Some(did),
            ..Asked::default()
        };
        let (verdict, known) = verify_metadata(bundle, &asked, trust);
        for finding in verdict.findings {
            found.add(finding.object, finding.code, finding.detail);
        }
        for index in verdict.newer {
            let why = "was linked while the report was made: make it again";
            found.add(crate::link::object_name(&did, index), Code::IndexGap, why);
        }
        if let Some(last) = bundle.links.last() {
            linked = true;
            proven &= verdict.verdict == Verdict::Anchored;
            if let Some(receipt) = verdict.receipt
                && newest
                    .as_ref()
                    .is_none_or(|(index, ..)| *index <= last.0.index)
            {
                newest = Some((last.0.index, last.0.digest(), receipt));
            }
        }
        for chunk in known {
            let index = chunk.link.index;
            if let Some(before) = chunks.get(&index)
                && before.link != chunk.link
            {
                let object = crate::link::object_name(&did, index);
                found.add(object, Code::Fork, "two links have this index");
            }
            chunks.insert(index, chunk);
        }
    }
    if at != span.until_ns {
        let why = "the evidence does not reach the end of what is known";
        found.add("evidence", Code::IndexGap, why);
    }
    let findings = found.into_vec();
    let anchored = linked && proven && findings.is_empty();
    Judged {
        chunks: chunks.into_values().collect(),
        proof: ProofFigure {
            anchored,
            anchored_to: newest.as_ref().map(|(index, ..)| *index),
            head: newest.as_ref().map(|(_, digest, _)| *digest),
            leaf_index: newest.as_ref().map(|(.., r)| r.leaf_index),
            tree_size: newest.as_ref().map(|(.., r)| r.checkpoint.size),
            root: newest.as_ref().map(|(.., r)| Digest(r.checkpoint.root)),
        },
        findings,
    }
}

/// SHA-256 of evidence as it stands in a report.
///
/// # Errors
/// `Internal` if it cannot be written.
pub fn evidence_digest(evidence: &[ProofBundle]) -> Outcome<Digest> {
    Ok(Digest(Sha256::digest(canonical(&evidence)?).into()))
}

/// Signs a report; its `signer` and `evidence` are filled in.
///
/// # Errors
/// `Internal` if it cannot be written.
pub fn sign(
    report: SpanReport,
    evidence: Vec<ProofBundle>,
    keys: &SecretKeys,
) -> Outcome<SignedReport> {
    let report = SpanReport {
        signer: Digest(keys.sign_public()),
        evidence: evidence_digest(&evidence)?,
        ..report
    };
    let signature = URL_SAFE_NO_PAD.encode(keys.sign(&signed_bytes(&report)?));
    Ok(SignedReport {
        kind: KIND.to_owned(),
        report,
        signature,
        evidence,
    })
}

/// Whether a text calls itself a report; says nothing about whether it is one.
pub fn looks_like(text: &str) -> bool {
    text.contains(r#""kind":"chordae-report""#)
}

impl SignedReport {
    /// The text, one line.
    ///
    /// # Errors
    /// `Internal` if it cannot be written.
    pub fn to_json(&self) -> Outcome<String> {
        Ok(canonical(self)? + "\n")
    }

    /// Reads a text, strictly; nothing of it is verified.
    ///
    /// # Errors
    /// `BadInput` for what [`Self::to_json`] would not write.
    pub fn parse(text: &str) -> Outcome<Self> {
        let read: Self = serde_json::from_str(text)
            .map_err(|e| Failure::bad_input(format!("not a report: {e}")))?;
        let links: usize = read.evidence.iter().map(|b| b.links.len()).sum();
        let version = read.kind == KIND && read.report.v == 1;
        if !version || links > 2 * limits::LINKS_MAX {
            return Err(Failure::bad_input(
                "not a report of version 1, or one with more links than any has",
            ));
        }
        if read.to_json()?.trim_end() != text.trim_end() {
            return Err(Failure::damaged(
                "the report is not spelled as it was signed: sorted keys, no spaces",
            ));
        }
        Ok(read)
    }
}

/// Verifies a report: the signature, the evidence against the trust file, and every figure again.
pub fn open(signed: &SignedReport, trust: Option<&TrustFile>) -> Judged {
    let report = &signed.report;
    let mut found = Findings::default();
    let signature = URL_SAFE_NO_PAD.decode(&signed.signature).ok();
    let signature: Option<[u8; 64]> = signature.and_then(|s| s.try_into().ok());
    let good = signature
        .zip(signed_bytes(report).ok())
        .is_some_and(|(s, bytes)| keys::verify_strict(&report.signer.0, &bytes, &s).is_ok());
    if !good {
        let why = "is not what its maker signed";
        found.add("report", Code::EntrySignature, why);
    }
    if evidence_digest(&signed.evidence).ok() != Some(report.evidence) {
        let why = "the evidence is not the one that the report names";
        found.add("evidence", Code::Metadata, why);
    }
    let known = Span {
        from_ns: report.from_ns,
        until_ns: report.known_until_ns,
    };
    let mut judged = judge(report.did, known, &signed.evidence, trust);
    let again = figures(&judged.chunks, known);
    if again != report.figures {
        let why = "the figures do not come out of the evidence";
        found.add("report", Code::Metadata, why);
    }
    if let Some(trust) = trust {
        if trust.origin != report.origin {
            let why = "the report names another ledger than the trust file";
            found.add("report", Code::Metadata, why);
        }
        if report.proof.anchored && report.proof != judged.proof {
            let why = "what it says of the ledger does not come out of the evidence";
            found.add("report", Code::Metadata, why);
        }
    }
    for finding in std::mem::take(&mut judged.findings) {
        found.add(finding.object, finding.code, finding.detail);
    }
    judged.findings = found.into_vec();
    judged.proof.anchored &= judged.findings.is_empty();
    judged
}

fn signed_bytes(report: &SpanReport) -> Outcome<Vec<u8>> {
    Ok([DOMAIN, canonical(report)?.as_bytes()].concat())
}

/// JSON with sorted keys and no spaces, whatever the map type of the library.
fn canonical(value: &impl Serialize) -> Outcome<String> {
    let fault = |e: serde_json::Error| Failure::internal(format!("write a report: {e}"));
    let value = serde_json::to_value(value).map_err(fault)?;
    let mut text = String::new();
    write(&value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, into: &mut String) -> Outcome<()> {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                into.push(if i == 0 { '[' } else { ',' });
                write(item, into)?;
            }
            into.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            for (i, (key, item)) in sorted.iter().enumerate() {
                into.push(if i == 0 { '{' } else { ',' });
                into.push_str(&Value::from(key.as_str()).to_string());
                into.push(':');
                write(item, into)?;
            }
            into.push_str(if fields.is_empty() { "{}" } else { "}" });
        }
        Value::Number(n) if n.is_f64() => {
            return Err(Failure::internal("a report holds a broken number"));
        }
        plain => into.push_str(&plain.to_string()),
    }
    Ok(())
}
