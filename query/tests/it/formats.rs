//! Every format: read back out of its own bytes to the very rows, proven; a forged sample is found in each;
//! what a format cannot say is refused, not bent.

use std::io::{Cursor, Read};

use axum::http::StatusCode;
use bytes::Bytes;
use chordae_base::{Outcome, Rate, time::SECOND_NS as S, wire::NO_VALUE};
use chordae_chain::bundle::{AnswerRows, Asked, ProofBundle, Verdict, verify};
use chordae_chunk::ChunkRows;
use chordae_query::{
    core::plan::Column,
    formats::{Format, Heading, Surveyor, check_scales, read, sniff},
};

use crate::world::*;

/// Formats that are read here; the checker reads CSV.
fn readable() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|f| *f != Format::Csv)
}

fn columns(leads: &[(&str, f64)]) -> Vec<Column> {
    let column = |(name, gain): &(&str, f64)| Column {
        name: (*name).to_owned(),
        lead: Some(lead(name, *gain)),
    };
    leads.iter().map(column).collect()
}

/// What a server makes of rows, right ones or not.
fn written(format: Format, columns: Vec<Column>, rate: Rate, rows: &AnswerRows) -> Outcome<Bytes> {
    let heading = Heading {
        did: ANNS,
        rates: vec![rate],
        columns,
    };
    let pieces = || {
        (0..rows.times.len()).step_by(1000).map(|from| {
            let until = rows.times.len().min(from + 1000);
            ChunkRows {
                times: rows.times[from..until].to_vec(),
                leads: rows.codes.iter().map(|c| c[from..until].to_vec()).collect(),
            }
        })
    };
    let mut survey = None;
    if format.surveyed() {
        let mut surveyor = Surveyor::new(&heading.rates)?;
        for piece in pieces() {
            surveyor.rows(&piece)?;
        }
        survey = Some(surveyor.end()?);
    }
    let mut writer = format.writer(heading, survey)?;
    let mut out = writer.begin()?.to_vec();
    for piece in pieces() {
        out.extend(writer.rows(piece)?);
    }
    out.extend(writer.end()?);
    Ok(Bytes::from(out))
}

async fn answer(w: &World, format: Format, from: i64, until: i64) -> Answer {
    let ask = window(ANNS, from, until, &format!("&format={}", format.word()));
    w.get(&w.ann, None, &ask).await
}

#[tokio::test]
async fn the_very_rows_proven_and_a_forged_sample_found() {
    let w = World::new();
    // A hole of a second, samples without a value, the end of a late chunk.
    let (from, until) = (T0, T0 + 30 * S);
    let plain = read(
        Format::Arrow,
        &answer(&w, Format::Arrow, from, until).await.body,
    )
    .unwrap();
    assert_eq!((plain.leads.len(), plain.times.len()), (3, 29 * 50));
    let three = || columns(&[("I", 200.0), ("II", 200.0), ("V1", 100.0)]);
    let rate = Rate::new(50, 1).unwrap();
    for format in readable() {
        let got = answer(&w, format, from, until).await;
        assert_eq!(got.status, StatusCode::OK, "{format:?} {}", got.text());
        assert_eq!(got.header("content-type"), format.media_type());
        let name = format!("{ANNS}_{from}_{until}.{}", format.extension());
        let disposition = format!("attachment; filename=\"{name}\"");
        assert_eq!(got.header("content-disposition"), disposition);
        assert_eq!(sniff(&got.body), Some(format));
        assert_eq!(read(format, &got.body).unwrap(), plain, "{format:?}");

        let proof = w.get(&w.ann, None, &got.proof_target()).await;
        let bundle = ProofBundle::parse(proof.text()).unwrap();
        let judge = |rows: &AnswerRows| {
            let asked = Asked {
                did: Some(ANNS),
                window: Some(bundle.window()),
                leads: Some(rows.leads.clone()),
            };
            verify(&bundle, rows, &asked, Some(&w.trust)).verdict
        };
        assert_eq!(judge(&plain), Verdict::Anchored);

        // Forgers who know the format: one sample, one time, one sample too many in the hole.
        let same = written(format, three(), rate, &plain).unwrap();
        assert_eq!(read(format, &same).unwrap(), plain, "the control");
        let mut sample = plain.clone();
        sample.codes[1][700] += 1;
        let mut time = plain.clone();
        time.times[700] += 1;
        let mut more = plain.clone();
        let hole = plain.times.partition_point(|t| *t < T0 + 21 * S);
        more.times.insert(hole, T0 + 21 * S);
        more.codes.iter_mut().for_each(|c| c.insert(hole, 7));
        for forged in [sample, time, more] {
            let bytes = written(format, three(), rate, &forged).unwrap();
            let rows = read(format, &bytes).unwrap();
            assert_eq!(rows, forged, "{format:?}");
            assert_eq!(judge(&rows), Verdict::Damaged, "{format:?}");
        }
        // And one who leaves the samples alone, and changes what they mean.
        let leads = [lead("I", 200.0), lead("II", 200.0), lead("V1", 100.0)];
        assert_eq!(
            check_scales(format, &got.body, &leads),
            Ok(()),
            "{format:?}"
        );
        let other = columns(&[("I", 200.0), ("II", 201.0), ("V1", 100.0)]);
        let scaled = written(format, other, rate, &plain).unwrap();
        assert_eq!(read(format, &scaled).unwrap(), plain);
        assert!(check_scales(format, &scaled, &leads).is_err(), "{format:?}");
        broken(format, &got.body, &plain, judge);
    }
}

/// A cut answer is no answer, and a flipped bit is refused, or found, or changes nothing of the rows.
fn broken(
    format: Format,
    body: &Bytes,
    plain: &AnswerRows,
    judge: impl Fn(&AnswerRows) -> Verdict,
) {
    for cut in [1, 2, 100, body.len() / 2, body.len() - 1] {
        // A line feed is all that a JSON text may lose.
        let blank = cut == 1 && matches!(format, Format::Json | Format::Fhir);
        let part = body.slice(..body.len() - cut);
        assert!(
            blank || read(format, &part).is_err(),
            "{format:?} less {cut}"
        );
    }
    let dice = chordae_base::seams::fake::FakeEntropy::new(7);
    let (mut refused, mut found) = (0, 0);
    for _ in 0..150 {
        let mut bytes = body.to_vec();
        let at = dice.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
        match read(format, &Bytes::from(bytes)) {
            Err(_) => refused += 1,
            Ok(rows) if rows == *plain => {}
            Ok(rows) => {
                assert_eq!(judge(&rows), Verdict::Damaged, "{format:?} at {at}");
                found += 1;
            }
        }
    }
    assert!(
        refused + found > 20,
        "{format:?}: {refused} refused, {found} found"
    );
}

/// Rows at 1000 Hz from `from` on.
fn stretch(rows: &mut AnswerRows, from: i64, count: i64, code: impl Fn(i64) -> i32) {
    for k in 0..count {
        rows.times.push(from + k * 1_000_000);
        for (lead, column) in rows.codes.iter_mut().enumerate() {
            column.push(code(k + lead as i64));
        }
    }
}

#[test]
fn long_gaps_long_windows_and_wide_codes() {
    let rate = Rate::new(1000, 1).unwrap();
    let both = || columns(&[("I", 200.0), ("V1", -12.5)]);
    let mut rows = AnswerRows {
        leads: vec!["I".to_owned(), "V1".to_owned()],
        times: Vec::new(),
        codes: vec![Vec::new(); 2],
    };
    let code = |k: i64| {
        if k % 97 == 5 {
            NO_VALUE
        } else {
            (k % 4000) as i32 - 2000
        }
    };
    stretch(&mut rows, T0 + 123_456_789, 70_001, code);
    stretch(&mut rows, T0 + 75 * S, 2_500, code);
    stretch(&mut rows, T0 + 200 * S + 1, 333, code);
    for format in readable() {
        let bytes = written(format, both(), rate, &rows).unwrap();
        assert_eq!(read(format, &bytes).unwrap(), rows, "{format:?}");
        let text = String::from_utf8_lossy(&bytes);
        match format {
            Format::Fhir => {
                let bundle: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(bundle["resourceType"], "Bundle");
                assert_eq!(bundle["entry"].as_array().unwrap().len(), 3);
            }
            Format::Edf => assert_eq!(&bytes[192..197], b"EDF+D"),
            Format::Wfdb => {
                let mut zip = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
                let mut master = String::new();
                let mut entry = zip.by_name(&format!("{ANNS}.hea")).unwrap();
                entry.read_to_string(&mut master).unwrap();
                let lines: Vec<&str> = master.lines().collect();
                let layout = format!("{ANNS}_0000 0");
                let (one, two) = (format!("{ANNS}_0001 77377"), format!("{ANNS}_0002 333"));
                assert_eq!(
                    lines[1..],
                    [layout.as_str(), one.as_str(), "~ 122500", two.as_str()]
                );
            }
            _ => assert!(!text.is_empty()),
        }
    }
    for (wide, name) in [(40_000, " 24 "), (1 << 29, " 32 "), (-32_768, " 24 ")] {
        rows.codes[0][3] = wide;
        assert!(
            written(Format::Edf, both(), rate, &rows).is_err(),
            "{wide} in 16 bits"
        );
        let bytes = written(Format::Wfdb, both(), rate, &rows).unwrap();
        assert_eq!(read(Format::Wfdb, &bytes).unwrap(), rows);
        assert!(String::from_utf8_lossy(&bytes).contains(&format!(".dat{name}")));
    }
}

#[tokio::test]
async fn what_has_no_place_on_a_grid_is_refused() {
    let w = World::new();
    for format in Format::ALL {
        // Two chunks with rows at the same instants; and a window without a row.
        for (from, until, why) in [
            (T0 + 25 * S, T0 + 40 * S, "half a sample"),
            (T0 - 20 * S, T0 - 10 * S, "nothing in this window"),
        ] {
            let got = answer(&w, format, from, until).await;
            if format.surveyed() {
                assert_eq!(got.status, StatusCode::BAD_REQUEST, "{format:?}");
                assert!(got.text().contains(why), "{format:?} {}", got.text());
            } else {
                assert_eq!(got.status, StatusCode::OK, "{format:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_overview_has_the_extremes_and_no_proof() {
    let w = World::new();
    let (from, until) = (T0, T0 + 30 * S);
    let plain = read(
        Format::Arrow,
        &answer(&w, Format::Arrow, from, until).await.body,
    )
    .unwrap();
    let ask = |more: &str| window(ANNS, from, until, more);
    let got = w
        .get(&w.ann, None, &ask("&max_points=60&format=json"))
        .await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    assert_eq!(
        got.header("chordae-overview"),
        "buckets=30, bucket-ns=1000000000"
    );
    assert_eq!(
        (got.header("link"), got.header("chordae-integrity")),
        ("", "anchored")
    );
    let seen = got.json();
    let names = [
        "time_ns", "I~min", "I~max", "II~min", "II~max", "V1~min", "V1~max",
    ];
    assert_eq!(seen["columns"], serde_json::json!(names));
    let rows = seen["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 29, "second 21 has no row");
    for row in rows {
        let start = row[0].as_i64().unwrap();
        for (lead, codes) in plain.codes.iter().enumerate() {
            let inside = plain.times.iter().zip(codes);
            let inside = inside.filter(|(t, c)| (start..start + S).contains(*t) && **c != NO_VALUE);
            let codes: Vec<i64> = inside.map(|(_, c)| i64::from(*c)).collect();
            assert_eq!(row[1 + 2 * lead].as_i64(), codes.iter().min().copied());
            assert_eq!(row[2 + 2 * lead].as_i64(), codes.iter().max().copied());
        }
    }
    // Nobody takes it for the rows.
    assert!(read(Format::Json, &got.body).is_err_and(|e| e.why.contains("overview")));
    for more in [
        "&max_points=1",
        "&max_points=0",
        "&max_points=100001",
        "&max_points=x",
    ] {
        let got = w.get(&w.ann, None, &ask(more)).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{more}");
    }
    for format in Format::ALL {
        let more = format!("&max_points=60&format={}", format.word());
        let got = w.get(&w.ann, None, &ask(&more)).await;
        assert_eq!(
            got.status == StatusCode::OK,
            format.overviews(),
            "{format:?}"
        );
    }
}

#[tokio::test]
async fn gaps_between_chunks_are_named() {
    let w = World::new();
    let got = answer(&w, Format::Csv, T0 - 20 * S, T0 + 10 * S).await;
    let want = format!("count=1, spans=\"{}/{T0}\", more=0", T0 - 20 * S);
    assert_eq!(got.header("chordae-gaps"), want);
    let got = answer(&w, Format::Csv, T0, T0 + 10 * S).await;
    assert_eq!(got.header("chordae-gaps"), "count=0, spans=\"\", more=0");
}

#[tokio::test]
async fn compressed_on_the_way_if_asked() {
    let w = World::new();
    let ask = |format: Format| {
        let more = format!("&format={}", format.word());
        let target = window(BIG, T0, T0 + SLOT, &more);
        let token = chordae_chain::token::sign(&w.claims(None, &target), &w.ann).unwrap();
        request(&target, &token)
    };
    for format in Format::ALL {
        let plain = w.send(ask(format)).await;
        if plain.status != StatusCode::OK {
            assert_eq!(format, Format::Edf, "its codes are wider than 16 bits");
            continue;
        }
        assert_eq!(plain.header("content-encoding"), "");
        for name in ["gzip", "zstd"] {
            let mut request = ask(format);
            request
                .headers_mut()
                .insert("accept-encoding", name.parse().unwrap());
            let got = w.send(request).await;
            assert_eq!(got.header("vary"), "accept, accept-encoding");
            if !format.compressible() {
                assert_eq!(got.header("content-encoding"), "");
                continue;
            }
            assert_eq!(got.header("content-encoding"), name);
            let mut body = Vec::new();
            match name {
                "gzip" => flate2::read::GzDecoder::new(&*got.body).read_to_end(&mut body),
                _ => zstd::stream::read::Decoder::new(&*got.body)
                    .unwrap()
                    .read_to_end(&mut body),
            }
            .unwrap();
            assert_eq!(body, plain.body, "{format:?} {name}");
            assert!(got.body.len() < body.len(), "{format:?} {name}");
        }
    }
}
