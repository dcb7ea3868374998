//! What is served whole: chunks as they are stored, the lists of what a party may see, and the log.

use axum::http::{Request, StatusCode};
use chordae_base::FailureKind;

use crate::world::*;

#[tokio::test]
async fn whole_chunks_need_all_of_them() {
    let w = World::new();
    let path = |index: u64| format!("/v1/streams/{ANNS}/chunks/{index}");
    let file = w.get(&w.ann, None, &path(1)).await;
    assert_eq!(file.status, StatusCode::OK);
    let stored = w.chunks.of(ANNS)[1].clone();
    assert_eq!(file.body, stored.bytes);
    assert_eq!(
        file.header("etag"),
        format!("\"{}\"", stored.link.file_root)
    );
    let later = w.get(&w.ann, None, &path(4)).await;
    assert_eq!(
        later.status,
        StatusCode::FORBIDDEN,
        "it has rows later than now"
    );
    assert_eq!(
        w.get(&w.ann, None, &path(5)).await.status,
        StatusCode::NOT_FOUND
    );

    let (first, end) = (stored.link.first_ns, stored.link.end_ns);
    let leads = |g: chordae_chain::session::Grant| chordae_chain::session::Grant {
        leads: Some(vec!["I".to_owned(), "II".to_owned(), "V1".to_owned()]),
        ..g
    };
    for (what, grant, fine) in [
        ("exactly", grant(ANNS, Some(first), Some(end)), true),
        (
            "one ns short at the start",
            grant(ANNS, Some(first + 1), Some(end)),
            false,
        ),
        (
            "one ns short at the end",
            grant(ANNS, Some(first), Some(end - 1)),
            false,
        ),
        ("leads by name", leads(grant(ANNS, None, None)), false),
    ] {
        let sid = Some(w.granted(vec![grant]).await);
        let answer = w.get(&w.clinician, sid, &path(1)).await;
        let want = if fine {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(answer.status, want, "{what}");
        // Links and metadata of what it touches are visible to it.
        let list = format!(
            "/v1/streams/{ANNS}/chunks?from={}&until={}",
            first + 1,
            end - 1
        );
        let links = w.get(&w.clinician, sid, &list).await;
        assert_eq!(links.status, StatusCode::OK, "{what}");
        assert_eq!(
            links.json()["links"][0]["digest"],
            stored.link.digest().to_string()
        );
        assert_eq!(links.json()["links"].as_array().unwrap().len(), 1);
    }

    let target = path(1);
    let part = |range: &str| {
        let token = chordae_chain::token::sign(&w.claims(None, &target), &w.ann).unwrap();
        let mut request = request(&target, &token);
        request
            .headers_mut()
            .insert("range", range.parse().unwrap());
        w.send(request)
    };
    let some = part("bytes=4-9").await;
    assert_eq!(
        (some.status, &some.body[..]),
        (StatusCode::PARTIAL_CONTENT, &stored.bytes[4..10])
    );
    assert_eq!(
        some.header("content-range"),
        format!("bytes 4-9/{}", stored.bytes.len())
    );
    for bad in ["bytes=-0", "bytes=0-1,3-4", "bytes=999999999-"] {
        assert_eq!(
            part(bad).await.status,
            StatusCode::RANGE_NOT_SATISFIABLE,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn what_each_party_may_see() {
    let w = World::new();
    let sid = w.granted(vec![grant(ANNS, Some(5), None)]).await;
    let dids = |answer: &Answer| -> Vec<String> {
        let streams = answer.json()["streams"].as_array().unwrap().clone();
        streams
            .iter()
            .map(|s| s["did"].as_str().unwrap().to_owned())
            .collect()
    };
    let seen = w.get(&w.clinician, Some(sid), "/v1/streams").await;
    let want = serde_json::json!({ "streams": [{ "did": ANNS,
        "allowed": [{ "from_ns": 5, "until_ns": null, "leads": null }] }] });
    assert_eq!(seen.json(), want);
    let hers = w.get(&w.ann, None, "/v1/streams").await;
    assert_eq!(dids(&hers), [ANNS.to_string(), BIG.to_string()]);
    let all = w.get(&w.operator, None, "/v1/streams").await;
    assert_eq!(
        dids(&all),
        [ANNS.to_string(), BOBS.to_string(), BIG.to_string()]
    );
    assert_eq!(
        w.get(&w.clinician, None, "/v1/streams").await.status,
        StatusCode::NOT_FOUND
    );

    let path = format!("/v1/sessions/{sid}");
    for by in [&w.ann, &w.clinician] {
        let look = w.get(by, None, &path).await;
        assert_eq!(look.json()["state"], "live");
        let section = &look.json()["sections"][0];
        assert_eq!(section["requester_name"], "Dr. Who", "{section}");
        assert_eq!(
            look.json()["sections"][0]["grants"][0]["did"],
            ANNS.to_string()
        );
        let list = w.get(by, None, "/v1/sessions").await;
        assert_eq!(list.json()["sessions"].as_array().unwrap().len(), 1);
    }
    for by in [&w.bob, &w.stranger, &w.operator] {
        assert_eq!(w.get(by, None, &path).await.status, StatusCode::NOT_FOUND);
        let list = w.get(by, None, "/v1/sessions").await;
        assert_eq!(list.json()["sessions"].as_array().unwrap().len(), 0);
    }
    w.revoke(&w.ann, sid).await;
    assert_eq!(w.get(&w.ann, None, &path).await.json()["state"], "revoked");
    assert_eq!(
        w.get(&w.clinician, None, &path).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_log_is_for_everybody_and_nothing_beside_it() {
    let w = World::new();
    let get = |path: &str| w.send(Request::get(path).body(axum::body::Body::empty()).unwrap());
    let checkpoint = get("/ledger/checkpoint").await;
    assert!(checkpoint.text().starts_with(ORIGIN));
    assert_eq!(checkpoint.header("cache-control"), "no-cache");
    let tile = get("/ledger/tile/0/000.p/1").await;
    assert_eq!((tile.status, tile.text()), (StatusCode::OK, "tile"));
    assert!(tile.header("cache-control").contains("immutable"));
    assert_eq!(
        get("/ledger/tile/entries/000.p/1").await.status,
        StatusCode::OK
    );
    for path in [
        "/ledger/tile/0/001",
        "/ledger/tile/0/0",
        "/ledger/tile/0/%2e%2e/%2e%2e/keys/log",
        "/ledger/../keys/log",
        "/ledger/checkpoint?x=1",
        "/ledger/pending",
        "/ledger/",
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{path}"
        );
    }
    // Where reading entries is switched off.
    let closed = chordae_query::http::router(&w.restarted());
    let request = Request::get("/ledger/tile/entries/000.p/1").body(axum::body::Body::empty());
    assert_eq!(
        send(closed, request.unwrap()).await.status,
        StatusCode::NOT_FOUND
    );
    let missing = chordae_query::core::ports::ChunkSource::bytes(&*w.chunks, &NOBODYS, 0);
    assert_eq!(missing.map_err(|e| e.kind), Err(FailureKind::Damaged));
}
