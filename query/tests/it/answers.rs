//! What is answered: exactly the rows of the window, in order, in both formats, with a proof that an
//! outsider's verification accepts and that no altered row survives.

use std::io::Cursor;

use arrow_array::{Array, Int32Array, RecordBatch, TimestampNanosecondArray};
use arrow_ipc::reader::StreamReader;
use axum::http::StatusCode;
use chordae_base::{Did, Span, time::SECOND_NS as S, wire::NO_VALUE};
use chordae_chain::bundle::{AnswerRows, Asked, BundleVerdict, ProofBundle, Verdict, verify};

use crate::world::*;

/// What a window must show, row by row, from the chunks' own rows: time, index, codes by column.
fn model(w: &World, did: Did, span: Span, columns: &[&str]) -> Vec<(i64, u64, Vec<i32>)> {
    let mut all = Vec::new();
    for stored in w.chunks.of(did) {
        let place = |name: &&str| stored.meta.leads.iter().position(|l| l.name == **name);
        let places: Vec<Option<usize>> = columns.iter().map(place).collect();
        for (k, t) in stored.rows.times.iter().enumerate() {
            if span.holds(*t) && *t <= NOW {
                let code = |p: &Option<usize>| p.map_or(NO_VALUE, |p| stored.rows.leads[p][k]);
                all.push((*t, stored.link.index, places.iter().map(code).collect()));
            }
        }
    }
    all.sort();
    all
}

/// An Arrow answer: leads, and rows as (time, codes).
fn arrow(body: &[u8]) -> AnswerRows {
    let reader = StreamReader::try_new(Cursor::new(body), None).unwrap();
    let schema = reader.schema();
    let leads: Vec<String> = schema.fields()[1..]
        .iter()
        .map(|f| f.name().clone())
        .collect();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let mut rows = AnswerRows {
        codes: vec![Vec::new(); leads.len()],
        leads,
        ..Default::default()
    };
    for batch in batches {
        let time = batch
            .column(0)
            .as_any()
            .downcast_ref::<TimestampNanosecondArray>()
            .unwrap();
        rows.times.extend(time.values());
        for (codes, column) in rows.codes.iter_mut().zip(&batch.columns()[1..]) {
            let column = column.as_any().downcast_ref::<Int32Array>().unwrap();
            codes.extend(column.iter().map(|c| c.unwrap_or(NO_VALUE)));
        }
    }
    rows
}

/// A CSV answer.
fn csv(text: &str) -> AnswerRows {
    let mut lines = text.lines();
    let leads: Vec<String> = lines
        .next()
        .unwrap()
        .split(',')
        .skip(1)
        .map(str::to_owned)
        .collect();
    let mut rows = AnswerRows {
        codes: vec![Vec::new(); leads.len()],
        leads,
        ..Default::default()
    };
    for line in lines {
        let mut cells = line.split(',');
        rows.times.push(cells.next().unwrap().parse().unwrap());
        for codes in &mut rows.codes {
            let cell = cells.next().unwrap();
            codes.push(if cell.is_empty() {
                NO_VALUE
            } else {
                cell.parse().unwrap()
            });
        }
    }
    rows
}

async fn proof(w: &World, answer: &Answer) -> ProofBundle {
    let proof = w.get(&w.ann, None, &answer.proof_target()).await;
    assert_eq!(proof.status, StatusCode::OK, "{}", proof.text());
    ProofBundle::parse(proof.text()).unwrap()
}

fn judge(w: &World, bundle: &ProofBundle, rows: &AnswerRows) -> BundleVerdict {
    let leads = Some(rows.leads.clone());
    let asked = Asked {
        did: Some(ANNS),
        window: Some(bundle.window()),
        leads,
    };
    verify(bundle, rows, &asked, Some(&w.trust))
}

#[tokio::test]
async fn random_windows_are_exact_and_proven() {
    let w = World::new();
    let dice = chordae_base::seams::fake::FakeEntropy::new(42);
    let (mut overlapping, mut anchored, mut hidden, mut tampered) = (0, 0, 0, 0);
    for round in 0..60 {
        let from = T0 - 5 * S + dice.below(150_000) as i64 * 1_000_000 + dice.below(3) as i64;
        let until = from + 1 + dice.below(60_000) as i64 * 1_000_000;
        let leads = [None, Some("II"), Some("I,II"), Some("V1,I")][dice.below(4) as usize];
        let more = leads.map(|l| format!("&leads={l}")).unwrap_or_default();
        let target = |format: &str| window(ANNS, from, until, &format!("{more}&format={format}"));
        let got = w.get(&w.ann, None, &target("arrow")).await;
        if got.status == StatusCode::BAD_REQUEST {
            assert!(
                leads.is_some() && got.text().contains("not in this window"),
                "{}",
                got.text()
            );
            continue;
        }
        assert_eq!(got.status, StatusCode::OK, "{}", got.text());
        let rows = arrow(&got.body);
        let same = w.get(&w.ann, None, &target("csv")).await;
        assert_eq!(csv(same.text()), rows, "round {round}: the formats differ");

        let names: Vec<&str> = rows.leads.iter().map(String::as_str).collect();
        let want = model(
            &w,
            ANNS,
            Span {
                from_ns: from,
                until_ns: until,
            },
            &names,
        );
        assert_eq!(rows.times.len(), want.len(), "round {round}: rows");
        for (k, (t, _, codes)) in want.iter().enumerate() {
            assert_eq!(rows.times[k], *t, "round {round} row {k}");
            let got: Vec<i32> = rows.codes.iter().map(|c| c[k]).collect();
            assert_eq!(&got, codes, "round {round} row {k}");
        }
        overlapping += usize::from(want.windows(2).any(|p| p[0].0 == p[1].0));

        let bundle = proof(&w, &got).await;
        let verdict = judge(&w, &bundle, &rows);
        assert!(
            verdict.findings.is_empty(),
            "round {round}: {:?}",
            verdict.findings
        );
        let newest = want.iter().map(|r| r.1).max();
        let last = bundle.chunks.last().map(|c| c.index);
        let proven = last.is_some_and(|n| n <= 2);
        let says = if proven { "anchored" } else { "linked" };
        assert_eq!(got.header("chordae-integrity"), says);
        assert_eq!(
            verdict.verdict == Verdict::Anchored,
            proven,
            "round {round}: {newest:?}"
        );
        anchored += usize::from(proven);
        hidden += bundle
            .chunks
            .iter()
            .flat_map(|c| &c.pages)
            .filter(|p| !p.hidden.is_empty())
            .count();

        // The negative control: any proven cell altered is found.
        let sure: Vec<usize> = (0..rows.times.len())
            .filter(|k| {
                let page = rows.times[*k] - rows.times[*k].rem_euclid(10 * S);
                from <= page && page + 10 * S <= until.min(NOW + 1)
            })
            .collect();
        if let Some(k) = sure.get(dice.below(sure.len().max(1) as u64) as usize) {
            tampered += 1;
            let mut other = rows.clone();
            let column = dice.below(other.codes.len() as u64) as usize;
            other.codes[column][*k] = other.codes[column][*k].wrapping_add(1);
            assert_eq!(
                judge(&w, &bundle, &other).verdict,
                Verdict::Damaged,
                "round {round}"
            );
            let mut other = rows.clone();
            other.times[*k] += 1;
            assert_eq!(
                judge(&w, &bundle, &other).verdict,
                Verdict::Damaged,
                "round {round}"
            );
            let mut other = rows.clone();
            other.times.remove(*k);
            for codes in &mut other.codes {
                codes.remove(*k);
            }
            assert_eq!(
                judge(&w, &bundle, &other).verdict,
                Verdict::Damaged,
                "round {round}"
            );
        }
    }
    assert!(overlapping > 3 && anchored > 3 && hidden > 3 && tampered > 10);
}

#[tokio::test]
async fn a_chunk_linked_in_between_does_not_break_the_proof() {
    let w = World::new();
    let span = (T0 + 50 * S, T0 + 70 * S);
    let got = w
        .get(&w.ann, None, &window(ANNS, span.0, span.1, "&format=csv"))
        .await;
    assert!(
        got.proof_target().ends_with("&upto=1"),
        "{}",
        got.proof_target()
    );
    w.chunks.link(Draft {
        did: ANNS,
        lane: chordae_chain::meta::Lane::Late,
        boot: 3,
        seq: (0, 0),
        missing: Vec::new(),
        rate: 50,
        leads: vec![lead("I", 200.0)],
        rows: rows(T0 + 55 * S, T0 + 56 * S, 50, 1, 9000),
    });
    let bundle = proof(&w, &got).await;
    let verdict = judge(&w, &bundle, &csv(got.text()));
    assert_eq!(
        (verdict.verdict, verdict.findings),
        (Verdict::Anchored, Vec::new())
    );
    // Without upto the proof is of the rows as they are now, which are others.
    let target = got.proof_target().replace("&upto=1", "");
    let now = ProofBundle::parse(w.get(&w.ann, None, &target).await.text()).unwrap();
    assert_eq!(judge(&w, &now, &csv(got.text())).verdict, Verdict::Damaged);
}

#[tokio::test]
async fn no_salt_beyond_the_window_and_the_leads() {
    let w = World::new();
    let sid = w.granted(vec![chordae_chain::session::Grant {
        leads: Some(vec!["I".to_owned()]),
        ..grant(ANNS, Some(T0 + 70 * S), Some(T0 + 95 * S))
    }]);
    let sid = Some(sid.await);
    let ask = window(ANNS, T0 + 70 * S, T0 + 95 * S, "&leads=I");
    let got = w.get(&w.clinician, sid, &ask).await;
    assert_eq!(got.status, StatusCode::OK);
    let proof = w.get(&w.clinician, sid, &got.proof_target()).await;
    let bundle = ProofBundle::parse(proof.text()).unwrap();
    let pages: Vec<_> = bundle.chunks.iter().flat_map(|c| &c.pages).collect();
    let shown: Vec<u32> = pages.iter().map(|p| p.p).collect();
    assert_eq!(shown, [1, 2], "seconds 70-90; 90-100 is cut by the window");
    for page in pages {
        assert_eq!(page.salts.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(page.hidden.keys().copied().collect::<Vec<_>>(), [2, 3]);
    }
    // All leads, or one more, are not granted.
    for leads in ["", "&leads=I,II"] {
        let ask = window(ANNS, T0 + 70 * S, T0 + 95 * S, leads);
        assert_eq!(
            w.get(&w.clinician, sid, &ask).await.status,
            StatusCode::FORBIDDEN
        );
        let ask = ask.replace("window", "proof");
        assert_eq!(
            w.get(&w.clinician, sid, &ask).await.status,
            StatusCode::FORBIDDEN
        );
    }
    // Clipped, the answer has the one lead.
    let ask = window(ANNS, T0 + 70 * S, T0 + 95 * S, "&format=csv&clip=true");
    let clipped = w.get(&w.clinician, sid, &ask).await;
    assert_eq!(csv(clipped.text()).leads, ["I"]);
}

#[tokio::test]
async fn schema_coverage_and_emptiness() {
    let w = World::new();
    let got = w.get(&w.ann, None, &window(ANNS, T0, T0 + SLOT, "")).await;
    assert_eq!(
        got.header("content-type"),
        "application/vnd.apache.arrow.stream"
    );
    assert_eq!(got.header("cache-control"), "no-store");
    let schema = StreamReader::try_new(Cursor::new(&got.body), None)
        .unwrap()
        .schema();
    let did = ANNS.to_string();
    assert_eq!(schema.metadata().get("chordae.did"), Some(&did));
    assert_eq!(
        schema.metadata().get("chordae.rate").map(String::as_str),
        Some("50/1")
    );
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["time", "I", "II", "V1", "X"]);
    assert!(!schema.field(0).is_nullable() && schema.field(1).is_nullable());
    assert_eq!(
        schema
            .field(3)
            .metadata()
            .get("chordae.gain")
            .map(String::as_str),
        Some("100")
    );
    // Frame 20 came late, 21 never; the spans of the chunks reach over the hole.
    let coverage = "covered-ns=60000000000, window-ns=60000000000, chunks=3, missing-frames=1";
    assert_eq!(got.header("chordae-coverage"), coverage);

    let none = w
        .get(
            &w.ann,
            None,
            &window(ANNS, T0 - 20 * S, T0 - 10 * S, "&format=csv"),
        )
        .await;
    assert_eq!((none.status, none.text()), (StatusCode::OK, "time_ns\n"));
    assert_eq!(none.header("chordae-integrity"), "linked");
    let named = window(ANNS, T0 - 20 * S, T0 - 10 * S, "&format=csv&leads=I");
    assert_eq!(w.get(&w.ann, None, &named).await.text(), "time_ns,I\n");
    let bundle = proof(&w, &none).await;
    assert_eq!(
        (bundle.links.len(), bundle.rows.len(), bundle.anchor),
        (0, 0, None)
    );
}

#[tokio::test]
async fn a_scale_that_changes_is_told_and_not_mixed() {
    let w = World::new();
    let from = T0 - 2 * SLOT;
    for (k, gain) in [(0, 200.0), (1, 400.0)] {
        let at = from + k * 10 * S;
        w.chunks.link(Draft {
            did: BOBS,
            lane: chordae_chain::meta::Lane::Live,
            boot: 10 + k as u64,
            seq: (0, 9),
            missing: Vec::new(),
            rate: 50,
            leads: vec![lead("I", gain), lead("II", 200.0)],
            rows: rows(at, at + 10 * S, 50, 2, 0),
        });
    }
    let ask = |from, until, more: &str| window(BOBS, from, until, more);
    let mixed = w.get(&w.bob, None, &ask(from, from + 20 * S, "")).await;
    assert_eq!(mixed.status, StatusCode::BAD_REQUEST);
    let change = from + 10 * S;
    assert!(
        mixed.text().contains(&change.to_string()),
        "{}",
        mixed.text()
    );
    for good in [
        ask(from, change, ""),
        ask(change, from + 20 * S, ""),
        ask(from, from + 20 * S, "&leads=II"),
    ] {
        assert_eq!(
            w.get(&w.bob, None, &good).await.status,
            StatusCode::OK,
            "{good}"
        );
    }
}
