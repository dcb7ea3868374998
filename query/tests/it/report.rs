//! A report on a span with known gaps: its evidence over HTTP, its figures, its signature, and what each
//! change to it is found by.

use axum::http::StatusCode;
use chordae_base::{Digest, Span, time::SECOND_NS as S};
use chordae_chain::{
    bundle::ProofBundle,
    report::{self, Cause, Place, SignedReport, SpanReport},
};

use crate::world::*;

const SPAN: Span = Span {
    from_ns: T0,
    until_ns: T0 + 2 * SLOT,
};

fn bare(from: i64, until: i64) -> String {
    format!("/v1/streams/{ANNS}/proof?from={from}&until={until}&pages=none")
}

async fn evidence(w: &World) -> Vec<ProofBundle> {
    let mut bundles = Vec::new();
    // Two pieces: the seam lies in the middle of a chunk.
    for (from, until) in [(T0, T0 + 50 * S), (T0 + 50 * S, T0 + 2 * SLOT)] {
        let answer = w.get(&w.ann, None, &bare(from, until)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let bundle = ProofBundle::parse(answer.text()).unwrap();
        assert!(bundle.rows.is_empty() && bundle.chunks.iter().all(|c| c.pages.is_empty()));
        bundles.push(bundle);
    }
    bundles
}

async fn signed(w: &World) -> SignedReport {
    let link = w.chunks.of(ANNS)[3].link.clone();
    w.ledger.anchor_link(&link, &w.provider);
    let evidence = evidence(w).await;
    let judged = report::judge(ANNS, SPAN, &evidence, Some(&w.trust));
    assert_eq!(judged.findings, []);
    let unsigned = SpanReport {
        v: 1,
        did: ANNS,
        from_ns: SPAN.from_ns,
        until_ns: SPAN.until_ns,
        known_until_ns: SPAN.until_ns,
        made_ns: NOW,
        session: None,
        signer: Digest([0; 32]),
        origin: ORIGIN.to_owned(),
        figures: report::figures(&judged.chunks, SPAN),
        proof: judged.proof,
        set_aside: None,
        remarks: Vec::new(),
        evidence: Digest([0; 32]),
    };
    report::sign(unsigned, evidence, &w.ann).unwrap()
}

#[tokio::test]
async fn the_figures_of_known_gaps() {
    let w = World::new();
    let signed = signed(&w).await;
    let figures = &signed.report.figures;
    // Second 21 never came; 20 came late; boot 2 says something else about three seconds.
    let told: Vec<_> = figures
        .gaps
        .iter()
        .map(|g| (g.cause, g.boot, g.seq))
        .collect();
    assert_eq!(told, [(Cause::NotDelivered, Some(1), Some((21, 21)))]);
    let gap = &figures.gaps[0];
    assert_eq!((gap.from_ns, gap.until_ns), (T0 + 21 * S, T0 + 22 * S));
    assert_eq!((gap.place, gap.lost_ns), (Place::Estimated, S));
    // What the two boots may share is taken off the lower bound.
    assert_eq!(figures.present_ns, (119 * S, 120 * S));
    let counts = &figures.counts;
    assert_eq!((counts.chunks, counts.late_chunks, counts.boots), (4, 2, 2));
    assert_eq!((counts.frames, counts.missing_frames), (119 + 3, 1));
    assert_eq!(counts.rows, 50 * (58 + 60 + 1 + 3));
    assert_eq!(figures.rates, [(50, 1)]);
    let leads: Vec<&str> = figures.leads.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(leads, ["I", "II", "V1", "X"]);
    let proof = &signed.report.proof;
    assert!(proof.anchored && proof.anchored_to == Some(3) && proof.leaf_index.is_some());
}

#[tokio::test]
async fn what_was_set_aside_is_counted_inside_the_grant_alone() {
    let w = World::new();
    let ask = |from: i64, until: i64| format!("/v1/streams/{ANNS}/aside?from={from}&until={until}");
    let whole = w.get(&w.ann, None, &ask(T0, T0 + SLOT)).await;
    assert_eq!(whole.status, StatusCode::OK, "{}", whole.text());
    assert!(
        whole.text().contains(r#""aside":{"conflict":3}"#),
        "{}",
        whole.text()
    );
    let sid = w
        .granted(vec![grant(ANNS, Some(T0 + S), Some(T0 + 2 * S))])
        .await;
    let inside = w
        .get(&w.clinician, Some(sid), &ask(T0 + S, T0 + 2 * S))
        .await;
    assert!(
        inside.text().contains(r#""aside":{"conflict":1}"#),
        "{}",
        inside.text()
    );
    let beyond = w.get(&w.clinician, Some(sid), &ask(T0, T0 + 2 * S)).await;
    assert_eq!(beyond.status, StatusCode::FORBIDDEN);
    let others = w.get(&w.bob, None, &ask(T0, T0 + S)).await;
    assert_eq!(others.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn holes_at_the_edges_have_their_causes() {
    let w = World::new();
    let wide = Span {
        from_ns: T0 - 30 * S,
        until_ns: NOW + 1,
    };
    let answer = w
        .get(&w.ann, None, &bare(wide.from_ns, wide.until_ns + S))
        .await;
    let bundle = ProofBundle::parse(answer.text()).unwrap();
    assert_eq!(bundle.until_ns, wide.until_ns, "nothing later than now");
    let judged = report::judge(ANNS, wide, &[bundle], None);
    assert!(!judged.proof.anchored && judged.findings.is_empty());
    let figures = report::figures(&judged.chunks, wide);
    let first = &figures.gaps[0];
    assert_eq!(
        (first.cause, first.lost_ns),
        (Cause::BeforeTheStream, 30 * S)
    );
    // Bob's stream ends after a minute: the rest of his span is not sealed yet, or nothing came.
    for (until, cause) in [
        (T0 + SLOT + 90 * S, Cause::NotSealedYet),
        (T0 + 3600 * S, Cause::NothingSince),
    ] {
        w.clock.advance(u64::try_from(until - T0).unwrap());
        let target = bare(T0, until).replace(&ANNS.to_string(), &BOBS.to_string());
        let bundle = ProofBundle::parse(w.get(&w.bob, None, &target).await.text()).unwrap();
        let span = Span {
            from_ns: T0,
            until_ns: until,
        };
        let judged = report::judge(BOBS, span, &[bundle], None);
        let figures = report::figures(&judged.chunks, span);
        assert_eq!(figures.gaps.len(), 1);
        assert_eq!(figures.gaps[0].cause, cause);
        assert_eq!(figures.present_ns, (SLOT, SLOT));
    }
}

#[tokio::test]
async fn every_change_is_found() {
    let w = World::new();
    let signed = signed(&w).await;
    let text = signed.to_json().unwrap();
    let open =
        |text: &str, trust| SignedReport::parse(text).map(|signed| report::open(&signed, trust));
    let good = open(&text, Some(&w.trust)).unwrap();
    assert!(
        good.proof.anchored && good.findings.is_empty(),
        "the control"
    );
    assert!(
        !open(&text, None).unwrap().proof.anchored,
        "no trust, no proof"
    );

    let codes = |text: &str| -> Vec<String> {
        let judged = open(text, Some(&w.trust)).unwrap();
        assert!(!judged.proof.anchored);
        judged.findings.iter().map(|f| f.code.to_string()).collect()
    };
    // A figure that was changed after it was signed.
    let more = text.replace("\"present_ns\":[119", "\"present_ns\":[120");
    assert_ne!(more, text);
    assert!(codes(&more).contains(&"entry-signature".to_owned()));
    // One that was signed falsely.
    let mut lie = signed.clone();
    lie.report.figures.gaps.clear();
    lie.report.figures.lost_ns.clear();
    let lie = report::sign(lie.report, lie.evidence, &w.clinician).unwrap();
    assert_eq!(codes(&lie.to_json().unwrap()), ["metadata"]);
    // Evidence that leaves a chunk out, signed anew.
    let mut less = signed.clone();
    less.evidence[1].chunks.pop();
    let judged = report::judge(ANNS, SPAN, &less.evidence, Some(&w.trust));
    assert!(!judged.findings.is_empty());
    // Another spelling of the same report.
    assert!(open(&text.replace("\"v\":1", "\"v\": 1"), None).is_err());
    assert!(
        open(
            &text.replace("\"made_ns\":", "\"made_ns\":0,\"made_ns\":"),
            None
        )
        .is_err()
    );
}

#[tokio::test]
async fn metadata_need_a_grant_of_the_span_and_no_lead() {
    let w = World::new();
    let mut limited = grant(ANNS, Some(T0), Some(T0 + SLOT));
    limited.leads = Some(vec!["II".to_owned()]);
    let sid = Some(w.granted(vec![limited]).await);
    for (until, status) in [
        (T0 + SLOT, StatusCode::OK),
        (T0 + SLOT + 1, StatusCode::FORBIDDEN),
    ] {
        let answer = w.get(&w.clinician, sid, &bare(T0, until)).await;
        assert_eq!(answer.status, status);
    }
    for more in ["&leads=II", "&pages=all"] {
        let target = format!("{}{more}", bare(T0, T0 + SLOT));
        let answer = w.get(&w.clinician, sid, &target).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{more}");
    }
}
