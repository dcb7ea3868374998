//! `chordae report`: what of a span is there, what is missing and why, signed and with its evidence.
//!
//! ```text
//! pieces of the span ─▶ proofs of links and metadata ─▶ judged ─▶ figures ─▶ signed ─▶ HTML, JSON
//! ```
//!
//! The two files are written only after everything has been judged; evidence that contradicts itself or
//! the trust file is a finding and no report.

use std::collections::BTreeMap;

use chordae_base::{
    Did, Digest, Failure, FailureKind, Outcome, Span, limits,
    seams::{Clock, real},
    time,
};
use chordae_chain::{
    bundle::ProofBundle,
    report::{self, SignedReport, SpanReport},
    trust::TrustFile,
};
use chordae_checker as checker;
use indicatif::ProgressBar;

use super::{asking::Asking, pull::replace, say, session::far};
use crate::{Verdict, cli, keyfile};

mod html;

pub(super) async fn run(args: &cli::ReportArgs) -> Outcome<Verdict> {
    let far = far(&args.server, args.trust.as_deref())?;
    let keys = keyfile::read(&args.key)?;
    let did: Did = args.did.parse()?;
    let span = Span {
        from_ns: time::parse(&args.from)?,
        until_ns: time::parse(&args.until)?,
    };
    let length = span.until_ns.checked_sub(span.from_ns);
    if !length.is_some_and(|l| l > 0 && l <= limits::REPORT_SPAN_NS_MAX) {
        let why =
            "the span must end after it begins and be no longer than 31 days: report on parts";
        return Err(Failure::bad_input(why));
    }
    let asking = Asking {
        far: &far,
        keys: &keys,
        session: args.session.as_deref(),
    };
    let (evidence, known_until_ns) = gather(&asking, did, span).await?;
    let known = Span {
        until_ns: known_until_ns,
        ..span
    };
    // The trust file in a server's own folder names the origin for the token; it proves nothing.
    let trust = args.trust.is_some().then_some(&far.trust);
    let judged = report::judge(did, known, &evidence, trust);
    if let Some(finding) = judged.findings.first() {
        for finding in &judged.findings {
            let (object, code) = (&finding.object, finding.code);
            say(format!("TAMPERED {object} {code}: {}", finding.detail));
        }
        return Err(Failure::damaged(format!(
            "{}: {}; no report was written",
            finding.object, finding.detail
        )));
    }
    let session = args.session.as_deref().map(str::parse).transpose()?;
    let mut remarks = remarks(args.trust.is_some());
    let set_aside = set_aside(&asking, did, known).await?;
    let set_aside = set_aside.map_err(|why| remarks.push(why)).ok();
    let unsigned = SpanReport {
        v: 1,
        did,
        from_ns: span.from_ns,
        until_ns: span.until_ns,
        known_until_ns,
        made_ns: real::OsClock.wall_ns(),
        session,
        signer: Digest([0; 32]),
        origin: far.trust.origin.clone(),
        figures: report::figures(&judged.chunks, known),
        proof: judged.proof,
        set_aside,
        remarks,
        evidence: Digest([0; 32]),
    };
    let signed = report::sign(unsigned, evidence, &keys)?;
    replace(&args.out, html::page(&signed)?.as_bytes())?;
    if let Some(path) = &args.json {
        replace(path, signed.to_json()?.as_bytes())?;
    }
    Ok(told(&signed, args))
}

fn remarks(trusted: bool) -> Vec<String> {
    let quarantine = "Links and metadata do not tell frames in quarantine or refused from frames never sent; \
                      how many were set aside is the node's word.";
    let mut remarks = vec![quarantine.to_owned()];
    if !trusted {
        remarks.push("Made without a trust file: nothing leads to a trusted ledger.".to_owned());
    }
    remarks
}

/// What the node says it set aside; or why it cannot say.
async fn set_aside(
    asking: &Asking<'_>,
    did: Did,
    known: Span,
) -> Outcome<Result<BTreeMap<String, u64>, String>> {
    #[derive(serde::Deserialize)]
    struct Said {
        aside: BTreeMap<String, u64>,
    }
    let (from, until) = (known.from_ns, known.until_ns);
    if from >= until {
        return Ok(Ok(BTreeMap::new()));
    }
    let target = format!("/v1/streams/{did}/aside?from={from}&until={until}");
    match asking.get(&target, limits::REPORT_BYTES_MAX).await {
        Ok(answer) => {
            let said = serde_json::from_slice::<Said>(&answer.body);
            let said = said.map_err(|e| Failure::damaged(format!("what was set aside: {e}")))?;
            Ok(Ok(said.aside))
        }
        Err(why) if matches!(why.kind, FailureKind::NotFound | FailureKind::BadInput) => Ok(Err(
            format!("What was set aside is not known: {}.", why.why),
        )),
        Err(why) => Err(why),
    }
}

fn told(signed: &SignedReport, args: &cli::ReportArgs) -> Verdict {
    let (report, figures) = (&signed.report, &signed.report.figures);
    say(format!(
        "{}  {} present  {} gaps  {} chunks",
        args.out.display(),
        html::share(figures),
        figures.gaps.len() as u64 + figures.gaps_more,
        figures.counts.chunks
    ));
    match (report.proof.anchored, report.proof.leaf_index) {
        (true, Some(leaf)) => {
            say(format!(
                "verified: every figure, anchored in {} at leaf {leaf}",
                report.origin
            ));
            Verdict::Done
        }
        _ => {
            say("intact, but not anchored in a trusted ledger yet; make it again in a few seconds");
            Verdict::Unproven
        }
    }
}

/// Bundles that cover the span, or what of it is known by now, one after the other.
async fn gather(asking: &Asking<'_>, did: Did, span: Span) -> Outcome<(Vec<ProofBundle>, i64)> {
    let length = span.until_ns.saturating_sub(span.from_ns);
    let pieces = u64::try_from(length / limits::REPORT_PIECE_NS).unwrap_or(0);
    let bar = ProgressBar::new(pieces + 1);
    let (mut bundles, mut at, mut links) = (Vec::new(), span.from_ns, 0usize);
    while at < span.until_ns {
        let until = at
            .saturating_add(limits::REPORT_PIECE_NS)
            .min(span.until_ns);
        let target = format!("/v1/streams/{did}/proof?from={at}&until={until}&pages=none");
        let answer = asking.get(&target, limits::REPORT_BYTES_MAX).await?;
        let text = std::str::from_utf8(&answer.body);
        let text = text.map_err(|_| Failure::damaged("the proof is not text"))?;
        let bundle = ProofBundle::parse(text)?;
        let window = bundle.window();
        if bundle.did != did || window.from_ns != at || window.until_ns > until {
            let why = "the proof is not for the window that was asked for";
            return Err(Failure::damaged(why));
        }
        links += bundle.links.len();
        if links > limits::LINKS_MAX {
            return Err(Failure::bad_input(
                "too many chunks: report on a shorter span",
            ));
        }
        // Nothing is answered later than the server's now.
        if window.until_ns > at {
            bundles.push(bundle);
        }
        at = window.until_ns;
        bar.inc(1);
        if at < until {
            break;
        }
    }
    bar.finish_and_clear();
    Ok((bundles, at))
}

/// Whether a report holds, as `chordae verify` says it.
pub(super) fn check(text: &str, trust: Option<&TrustFile>) -> Outcome<checker::Report> {
    let signed = SignedReport::parse(text)?;
    let judged = report::open(&signed, trust);
    let verdict = match (judged.findings.is_empty(), judged.proof.anchored) {
        (false, _) => checker::Verdict::Damaged,
        (true, true) => checker::Verdict::Ok,
        (true, false) => checker::Verdict::Unanchored,
    };
    let signer = chordae_chain::keys::key_id(&signed.report.signer.0);
    Ok(checker::Report {
        v: 1,
        verdict,
        streams: vec![checker::StreamReport {
            did: signed.report.did,
            chunks: judged.chunks.len() as u64,
            anchored_to: judged.proof.anchored_to,
            verdict,
        }],
        findings: judged.findings,
        fresh_ms: None,
        notes: vec![format!(
            "a report on [{}, {}), signed by key {signer}: compare that with whoever gave it to you",
            time::show(signed.report.from_ns),
            time::show(signed.report.until_ns)
        )],
    })
}
