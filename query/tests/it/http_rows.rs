//! Rows H06, H10, H12 to H14, H16 to H18 of the list of bad inputs, as far as the router decides them.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use chordae_base::{Did, limits, time::SECOND_NS as S};
use chordae_chain::{keys::SecretKeys, token};

use crate::world::*;

#[tokio::test]
async fn h06_a_session_is_no_use_to_another_key_and_a_token_for_another_session() {
    let w = World::new();
    let (one, other) = (
        w.granted(vec![grant(ANNS, None, None)]).await,
        w.granted(vec![grant(BIG, None, None)]).await,
    );
    let ask = window(ANNS, T0, T0 + S, "&format=csv");
    assert_eq!(
        w.get(&w.clinician, Some(one), &ask).await.status,
        StatusCode::OK
    );
    assert_eq!(
        w.get(&w.stranger, Some(one), &ask).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        w.get(&w.clinician, Some(other), &ask).await.status,
        StatusCode::NOT_FOUND
    );
    // The claims of the one session under the signature of a token of the other.
    let [a, b] =
        [one, other].map(|sid| token::sign(&w.claims(Some(sid), &ask), &w.clinician).unwrap());
    let (head, _) = a.rsplit_once('.').unwrap();
    let (_, signature) = b.rsplit_once('.').unwrap();
    let mixed = w.get_with(&ask, &format!("{head}.{signature}")).await;
    assert_eq!(mixed.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn h10_a_path_is_looked_up_and_never_joined() {
    let w = World::new();
    let long = "a".repeat(4096);
    for did in [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "..%c0%af",
        "%00",
        "CON",
        "a%0d%0aset-cookie:x",
        &ANNS.to_string().replace('-', ""),
        &format!("{ANNS}%00"),
        &format!("{ANNS}%2fx"),
        &long,
    ] {
        for rest in [
            "/window?from=0&until=1",
            "/proof?from=0&until=1",
            "/aside?from=0&until=1",
            "/chunks?from=0&until=1",
            "/chunks/0",
            "/live",
        ] {
            let target = format!("/v1/streams/{did}{rest}");
            let answer = w.get(&w.ann, None, &target).await;
            let refused = matches!(
                answer.status,
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND
            );
            assert!(refused, "{target}: {}", answer.status);
            assert!(!answer.headers.contains_key("set-cookie"));
        }
    }
    for index in [
        "..",
        "%2e%2e",
        "-1",
        "00",
        "0%00",
        "18446744073709551616",
        "0/..",
        "x",
    ] {
        let answer = w
            .get(&w.ann, None, &format!("/v1/streams/{ANNS}/chunks/{index}"))
            .await;
        let refused = matches!(
            answer.status,
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND
        );
        assert!(refused, "{index}: {}", answer.status);
    }
    for path in [
        "../keys/log.key",
        "%2e%2e/keys/log.key",
        "tile/..%2f0/000",
        "checkpoint%00",
        "tile/0/../0/000",
    ] {
        let request = Request::get(format!("/ledger/{path}"))
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            w.send(request).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn h13_one_range_is_served_and_anything_else_refused() {
    let w = World::new();
    let target = format!("/v1/streams/{ANNS}/chunks/0");
    let whole = w.get(&w.ann, None, &target).await;
    assert_eq!(whole.status, StatusCode::OK);
    let length = whole.body.len();
    let asked = async |range: &str, if_range: Option<&str>| {
        let token = token::sign(&w.claims(None, &target), &w.ann).unwrap();
        let mut request = Request::get(&target)
            .header("authorization", format!("Chordae {token}"))
            .header("range", range);
        if let Some(tag) = if_range {
            request = request.header("if-range", tag);
        }
        w.send(request.body(Body::empty()).unwrap()).await
    };
    let part = asked("bytes=4-9", Some(whole.header("etag"))).await;
    assert_eq!(
        (part.status, &part.body[..]),
        (StatusCode::PARTIAL_CONTENT, &whole.body[4..10])
    );
    assert_eq!(part.header("content-range"), format!("bytes 4-9/{length}"));
    let many = format!("bytes={}", vec!["0-0"; 10_000].join(","));
    for bad in [
        &many[..],
        "bytes=-0",
        "bytes=0-1,1-2",
        &format!("bytes={length}-"),
        "bytes=9-4",
        "items=0-1",
    ] {
        let answer = asked(bad, None).await;
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert!(!answer.body.starts_with(b"PAR1"));
    }
    // A tag of another file: all of this one.
    let other = asked("bytes=4-9", Some("\"other\"")).await;
    assert_eq!((other.status, other.body.len()), (StatusCode::OK, length));
    // A range is no way around the grant.
    let sid = w.granted(vec![grant(ANNS, Some(T0 + S), None)]).await;
    let token = token::sign(&w.claims(Some(sid), &target), &w.clinician).unwrap();
    let request = Request::get(&target)
        .header("authorization", format!("Chordae {token}"))
        .header("range", "bytes=0-3");
    let answer = w.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn h14_ten_years_and_a_thousand_at_a_time_are_admitted_by_what_they_need() {
    let w = World::new();
    let ten_years = window(BIG, NOW - 3650 * 86_400 * S, NOW, "&format=csv");
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        let response = w.open(&w.ann, None, &ten_years).await;
        match response.status() {
            StatusCode::OK => open.push(response),
            StatusCode::TOO_MANY_REQUESTS => {
                assert_eq!(response.headers()["retry-after"], "1");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(!open.is_empty() && open.len() <= limits::PARTY_ANSWERS_MAX);
    assert_eq!(open.len() + refused, 1000);
    let body = axum::body::to_bytes(open.pop().unwrap().into_body(), usize::MAX)
        .await
        .unwrap();
    assert_eq!(
        body.iter().filter(|b| **b == b'\n').count(),
        60_001,
        "and it is all of it"
    );
}

#[tokio::test]
async fn h16_h17_no_other_method_no_override_no_cors() {
    let w = World::new();
    let ask = window(ANNS, T0, T0 + S, "&format=csv");
    for method in [
        "TRACE", "CONNECT", "OPTIONS", "PATCH", "PUT", "HEAD", "PROPFIND",
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::builder()
            .method(&method)
            .uri(&ask)
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "GET");
        let answer = w.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert!(
            answer
                .headers
                .keys()
                .all(|n| !n.as_str().starts_with("access-control"))
        );
    }
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    let token = token::sign(&w.claims(Some(sid), &ask), &w.clinician).unwrap();
    let request = Request::get(&ask)
        .header("authorization", format!("Chordae {token}"))
        .header("origin", "https://evil.example")
        .header("x-http-method-override", "DELETE")
        .header("x-original-url", "/v1/streams");
    let answer = w.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().starts_with("time_ns,"));
    assert!(
        answer
            .headers
            .keys()
            .all(|n| !n.as_str().starts_with("access-control"))
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn h18_names_of_others_are_no_markup_formulas_or_headers() {
    let w = World::new();
    let names = ["=cmd()", "<script>", "a\",b", "+1", "@x", "-2"];
    let from = NOW - 10 * S;
    let mut draft = hostile(ANNS, from);
    draft.leads = names.iter().map(|n| lead(n, 1.0)).collect();
    draft.rows = rows(from, from + S, 50, names.len(), 0);
    w.chunks.link(draft);
    let answer = w
        .get(
            &w.ann,
            None,
            &window(ANNS, from, from + S, "&format=csv&clip=true"),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.header("content-type").starts_with("text/csv"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let header = answer.text().lines().next().unwrap();
    for cell in header.split(',') {
        let bare = cell.trim_matches('"');
        assert!(
            !bare.starts_with(['=', '+', '@', '-', '\t', '\r']),
            "a formula: {header}"
        );
    }
    // A name in the query comes back escaped, in the one header that carries it.
    let ask = window(
        ANNS,
        from,
        from + S,
        "&format=csv&leads=%3Cscript%3E,%3Dcmd()",
    );
    let answer = w.get(&w.ann, None, &ask).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let link = answer.header("link");
    assert!(
        !link[1..link.len() - 13].contains(['<', '>', '"', '=']) || link.contains("%3Cscript%3E"),
        "{link}"
    );
    for crlf in ["a%0d%0aX-Evil:1", "a%0aX-Evil:1", "a%00"] {
        let ask = window(ANNS, from, from + S, &format!("&leads={crlf}"));
        let answer = w.get(&w.ann, None, &ask).await;
        assert!(!answer.headers.contains_key("x-evil"));
        assert!(
            answer
                .headers
                .values()
                .all(|v| !v.as_bytes().contains(&b'\n'))
        );
    }
}

fn hostile(did: Did, from: i64) -> Draft {
    Draft {
        did,
        lane: chordae_chain::meta::Lane::Live,
        boot: 99,
        seq: (0, 0),
        missing: Vec::new(),
        rate: 50,
        leads: Vec::new(),
        rows: rows(from, from + S, 50, 1, 0),
    }
}

// ---- H12: time

/// Requests of each kind; of the control a tenth.
const SAMPLES: usize = 10_000;
/// Of each block only its lower quartile counts: what the machine did beside it does not.
const BLOCK: usize = 100;

/// How long each of the kinds takes, in turns, ns.
#[expect(clippy::disallowed_methods, reason = "this test is about time")]
async fn measured(w: &World, kinds: &[(&SecretKeys, &str)]) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new(); kinds.len()];
    for n in 0..SAMPLES {
        // Whoever comes first in a round finds other caches than the one after.
        for k in 0..kinds.len() {
            let k = (k + n) % kinds.len();
            // Of the control, the last, a tenth will do.
            if k + 1 == kinds.len() && n % 10 != 0 {
                continue;
            }
            let (by, target) = kinds[k];
            let token = token::sign(&w.claims(None, target), by).unwrap();
            let begun = std::time::Instant::now();
            let answer = w.get_with(target, &token).await;
            all[k].push(begun.elapsed().as_nanos() as f64);
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED);
            assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        }
        w.clock.advance(10_000_000);
    }
    all
}

/// Welch's t of two kinds, over the lower quartiles of blocks.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    let quartile = |block: &[f64]| {
        let mut block = block.to_vec();
        block.sort_by(f64::total_cmp);
        block[block.len() / 4]
    };
    let moments = |all: &[f64]| {
        let block = BLOCK.min(all.len() / 20);
        let values: Vec<f64> = all.chunks(block).map(quartile).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((a, va), (b, vb)) = (moments(a), moments(b));
    (a - b).abs() / (va + vb).sqrt()
}

#[tokio::test]
async fn h12_unknown_and_forbidden_take_the_same_time() {
    let w = World::new();
    let (forbidden, unknown) = (
        window(BOBS, T0, T0 + S, ""),
        window(NOBODYS, T0, T0 + S, ""),
    );
    let granted = window(ANNS, T0, T0 + S, "&format=csv");
    let kinds = [
        (&w.ann, &forbidden[..]),
        (&w.ann, &unknown[..]),
        (&w.ann, &granted[..]),
    ];
    // A machine that is busy with other things may shake a run, a difference stays.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let all = measured(&w, &kinds).await;
        let (t, control) = (welch(&all[0], &all[1]), welch(&all[1], &all[2]));
        seen.push((t, control));
        assert!(control > 4.5, "the control is not seen: {seen:?}");
        if t < 4.5 {
            println!("t {t:.2}, of the control {control:.1}");
            return;
        }
    }
    panic!("unknown and forbidden are told apart by their time: {seen:?}");
}
