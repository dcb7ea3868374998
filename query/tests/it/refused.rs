//! What must not be answered, as tables at the level of HTTP: every row is a request that is refused
//! without a byte of anybody's rows, and every table has its positive control.

use axum::http::{Request, StatusCode};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chordae_base::{Digest, time::SECOND_NS as S};
use chordae_chain::{
    event::{self, Event},
    keys::SecretKeys,
    session::SessionRecord,
    token::{self, Claims},
};
use serde_json::json;

use crate::world::*;

/// Ann's grant to the clinician in all these tests: [T0+10 s, T0+40 s), all leads.
const ST: i64 = T0 + 10 * S;
const ET: i64 = T0 + 40 * S;

fn no_rows(answer: &Answer, what: &str) {
    assert!(!answer.status.is_success(), "{what}: {}", answer.status);
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{what}"
    );
    let text = answer.text();
    assert!(
        !text.contains("time_ns") && !text.contains("1700000"),
        "{what}: {text}"
    );
}

#[tokio::test]
async fn h08_windows_beyond_the_grant() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, Some(ST), Some(ET))]).await);
    let ask = |from, until| window(ANNS, from, until, "&format=csv");
    let good = w.get(&w.clinician, sid, &ask(ST, ET)).await;
    assert_eq!(good.status, StatusCode::OK, "the positive control");
    assert!(good.text().lines().count() > 1000);

    for (what, from, until) in [
        ("one ns before", ST - 1, ET),
        ("one ns after", ST, ET + 1),
        ("both", ST - 1, ET + 1),
        ("wholly before", T0, ST),
        ("wholly after", ET, ET + S),
        ("everything", 0, i64::MAX),
    ] {
        let answer = w.get(&w.clinician, sid, &ask(from, until)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}");
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:chordae:problem:window", "{what}");
        // The allowed part is named, to this requester; and nothing else is in the body.
        assert_eq!(
            problem["allowed"],
            json!([{ "from_ns": ST, "until_ns": ET, "leads": null }])
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    // Asked to clip, the answer is exactly the allowed part.
    let wide = window(ANNS, ST - S, ET + S, "&format=csv&clip=true");
    let clipped = w.get(&w.clinician, sid, &wide).await;
    assert_eq!(clipped.body, good.body);
    assert_eq!(
        clipped.header("chordae-window"),
        format!("from-ns={ST}, until-ns={ET}")
    );
    // Whole pages only inside the grant.
    let inner = window(ANNS, ST + 1, ET - 1, "&format=csv&snap=page");
    assert_eq!(w.get(&w.clinician, sid, &inner).await.body, good.body);
}

#[tokio::test]
async fn h11_unknown_and_forbidden_streams_look_alike() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, None, None)]).await);
    let ask = |did| window(did, ST, ET, "&format=csv");
    assert_eq!(
        w.get(&w.clinician, sid, &ask(ANNS)).await.status,
        StatusCode::OK
    );
    assert_eq!(
        w.get(&w.ann, None, &ask(ANNS)).await.status,
        StatusCode::OK,
        "her own"
    );

    let unknown = w.get(&w.clinician, sid, &ask(NOBODYS)).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    no_rows(&unknown, "an unknown stream");
    for (what, by, sid, did) in [
        ("another patient's stream", &w.clinician, sid, BOBS),
        ("the same patient's, not granted", &w.clinician, sid, BIG),
        ("another patient for herself", &w.bob, None, ANNS),
        ("a patient, of an unknown stream", &w.bob, None, NOBODYS),
        ("an operator", &w.operator, None, ANNS),
        (
            "an operator, of an unknown stream",
            &w.operator,
            None,
            NOBODYS,
        ),
        ("a requester without a session", &w.clinician, None, ANNS),
    ] {
        for path in ["window", "proof", "chunks"] {
            let target = format!("/v1/streams/{did}/{path}?from={ST}&until={ET}");
            let answer = w.get(by, sid, &target).await;
            assert_eq!(answer.status, unknown.status, "{what}: {path}");
            assert_eq!(answer.body, unknown.body, "{what}: {path}");
            assert_eq!(answer.headers, unknown.headers, "{what}: {path}");
        }
        for index in [0, 77] {
            let answer = w
                .get(by, sid, &format!("/v1/streams/{did}/chunks/{index}"))
                .await;
            assert_eq!(answer.body, unknown.body, "{what}: chunk {index}");
        }
    }
}

#[tokio::test]
async fn sessions_that_do_not_hold() {
    let w = World::new();
    let ask = window(ANNS, ST, ET, "&format=csv");
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    assert_eq!(
        w.get(&w.clinician, Some(sid), &ask).await.status,
        StatusCode::OK
    );

    let dead = w.get(&w.clinician, Some(Digest([9; 32])), &ask).await;
    assert_eq!(dead.status, StatusCode::FORBIDDEN);
    no_rows(&dead, "no such session");
    let other = w.get(&w.stranger, Some(sid), &ask).await;
    assert_eq!(other.body, dead.body, "made out to another key");
    // The record is there and its event is not in the log.
    let made = w.made(&w.ann, &w.clinician, vec![grant(ANNS, None, None)]);
    let put = |sid: [u8; 32], record: &SessionRecord| {
        w.sessions
            .0
            .lock()
            .unwrap()
            .insert(sid, record.encode().unwrap().into());
    };
    put(made.sid, &made.record);
    let answer = w.get(&w.clinician, Some(Digest(made.sid)), &ask).await;
    assert_eq!(answer.body, dead.body, "not in the log");
    // The record of one session under the id of another.
    put(sid.0, &made.record);
    assert_eq!(
        w.get(&w.clinician, Some(sid), &ask).await.body,
        dead.body,
        "another record"
    );

    // Expired, by a clock that is set back afterwards.
    let made = w.made_with(
        &w.ann,
        &w.clinician,
        vec![grant(ANNS, None, None)],
        Some(NOW + 5 * S),
    );
    assert_eq!(w.post(&made).await.status, StatusCode::CREATED);
    let sid = Some(Digest(made.sid));
    assert_eq!(w.get(&w.clinician, sid, &ask).await.status, StatusCode::OK);
    w.clock.set_wall(NOW + 5 * S);
    assert_eq!(
        w.get(&w.clinician, sid, &ask).await.body,
        dead.body,
        "expired"
    );
    w.clock.set_wall(NOW);
    assert_eq!(
        w.get(&w.clinician, sid, &ask).await.body,
        dead.body,
        "the clock went back"
    );
}

#[tokio::test]
async fn a_stream_that_became_somebody_elses_shows_nothing_on_the_old_grant() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, None, None)]).await);
    let ask = window(ANNS, ST, ET, "&format=csv");
    assert_eq!(w.get(&w.clinician, sid, &ask).await.status, StatusCode::OK);
    w.assign(ANNS, Some(&w.bob));
    no_rows(&w.get(&w.clinician, sid, &ask).await, "on the old grant");
    no_rows(&w.get(&w.ann, None, &ask).await, "to the old patient");
    let streams = w.get(&w.clinician, sid, "/v1/streams").await;
    assert_eq!(streams.json(), json!({ "streams": [] }));
}

#[tokio::test]
async fn sessions_that_are_not_taken() {
    let w = World::new();
    let all = |did| vec![grant(did, None, None)];
    let good = w.made(&w.ann, &w.clinician, all(ANNS));
    assert_eq!(
        w.post(&good).await.status,
        StatusCode::CREATED,
        "the positive control"
    );
    assert_eq!(
        w.post(&good).await.status,
        StatusCode::CREATED,
        "twice is once"
    );
    let (live, logged) = (
        w.sessions.0.lock().unwrap().len(),
        w.ledger.entries.lock().unwrap().len(),
    );

    let expired = w.made_with(&w.ann, &w.clinician, all(ANNS), Some(NOW));
    let mut swapped = w.made(&w.ann, &w.clinician, all(ANNS));
    swapped.record = w.made(&w.ann, &w.clinician, all(ANNS)).record;
    swapped.record.sid = None;
    let mut renamed = w.made(&w.ann, &w.clinician, all(ANNS));
    renamed.record.sid = Some([1; 32]);
    for (what, made) in [
        (
            "signed by somebody who is not the stream's patient",
            w.made(&w.bob, &w.clinician, all(ANNS)),
        ),
        (
            "a stream that does not exist",
            w.made(&w.ann, &w.clinician, all(NOBODYS)),
        ),
        ("one good stream and one of another's", {
            w.made(&w.ann, &w.clinician, [all(ANNS), all(BOBS)].concat())
        }),
        (
            "signed by a requester",
            w.made(&w.clinician, &w.clinician, all(ANNS)),
        ),
        (
            "signed by nobody known",
            w.made(&w.unknown, &w.clinician, all(ANNS)),
        ),
        ("to nobody known", w.made(&w.ann, &w.unknown, all(ANNS))),
        ("to an operator", w.made(&w.ann, &w.operator, all(ANNS))),
        ("expired already", expired),
        ("another record than the event signs", swapped),
        ("a record under another id", renamed),
    ] {
        let answer = w.post(&made).await;
        assert!(answer.status.is_client_error(), "{what}: {}", answer.status);
        assert_eq!(w.sessions.0.lock().unwrap().len(), live, "{what}: stored");
        assert_eq!(
            w.ledger.entries.lock().unwrap().len(),
            logged,
            "{what}: logged"
        );
    }
    for body in [vec![], vec![0x80], vec![0x82, 0x40, 0x80], vec![0xff; 100]] {
        let answer = w
            .send(Request::post("/v1/sessions").body(body.into()).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    let long = vec![0; 1024 * 1024 + 1];
    let answer = w
        .send(Request::post("/v1/sessions").body(long.into()).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let zipped = Request::post("/v1/sessions").header("content-encoding", "gzip");
    let answer = w.send(zipped.body(vec![1].into()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn h07_a_revoked_session_stays_revoked() {
    let w = World::new();
    let made = w.made(&w.ann, &w.clinician, vec![grant(ANNS, None, None)]);
    assert_eq!(w.post(&made).await.status, StatusCode::CREATED);
    let sid = Digest(made.sid);
    let ask = window(ANNS, ST, ET, "&format=csv");
    assert_eq!(
        w.get(&w.clinician, Some(sid), &ask).await.status,
        StatusCode::OK
    );

    // Not by others, not by an event about another session, not by another event.
    for by in [&w.bob, &w.clinician, &w.unknown] {
        assert!(w.revoke(by, sid).await.status.is_client_error());
    }
    let wrong = Event::RevokeSession {
        sid: [3; 32],
        nonce: [1; 16],
    };
    for body in [
        event::sign(&wrong, &w.ann).unwrap(),
        made.entry.clone(),
        vec![1, 2, 3],
    ] {
        let request = Request::delete(format!("/v1/sessions/{sid}"))
            .body(body.into())
            .unwrap();
        assert_eq!(w.send(request).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(
        w.get(&w.clinician, Some(sid), &ask).await.status,
        StatusCode::OK,
        "still live"
    );

    assert_eq!(w.revoke(&w.ann, sid).await.status, StatusCode::OK);
    assert!(
        w.sessions.0.lock().unwrap().is_empty(),
        "the record is gone"
    );
    no_rows(
        &w.get(&w.clinician, Some(sid), &ask).await,
        "after the revocation",
    );
    let again = w.post(&made).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(w.sessions.0.lock().unwrap().is_empty(), "and stays gone");
    // Even if the record were put back, the ledger knows.
    let record = made.record.encode().unwrap();
    w.sessions.0.lock().unwrap().insert(made.sid, record.into());
    no_rows(
        &w.get(&w.clinician, Some(sid), &ask).await,
        "with the record put back",
    );
    let entries = w.ledger.entries.lock().unwrap().len();
    assert_eq!(
        w.revoke(&w.ann, sid).await.status,
        StatusCode::OK,
        "twice is once"
    );
    assert_eq!(w.ledger.entries.lock().unwrap().len(), entries);
}

/// A token with header and claims as given, signed by `sign`.
fn raw_token(
    header: &serde_json::Value,
    claims: &Claims,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let claims = serde_json::to_vec(claims).unwrap();
    let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(&claims));
    format!("{signed}.{}", part(&sign(signed.as_bytes())))
}

/// As a JWT library makes it, with a secret of its choice.
fn hs256(w: &World, claims: &Claims, secret: &[u8]) -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("chordae-request+jwt".to_owned());
    header.kid = Some(w.clinician.key_id().to_string());
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

#[tokio::test]
async fn h05_tokens_that_are_not_good() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, None, None)]).await);
    let ask = window(ANNS, ST, ET, "&format=csv");
    let claims = || w.claims(sid, &ask);
    let sign = |claims: &Claims, keys: &SecretKeys| token::sign(claims, keys).unwrap();
    let used = sign(&claims(), &w.clinician);
    assert_eq!(
        w.get_with(&ask, &used).await.status,
        StatusCode::OK,
        "the positive control"
    );

    let change = |change: &dyn Fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        sign(&claims, &w.clinician)
    };
    let now = NOW / S;
    let kid = w.clinician.key_id().to_string();
    let header =
        |alg: &str, kid: &str| json!({ "alg": alg, "typ": "chordae-request+jwt", "kid": kid });
    let ed = |bytes: &[u8]| w.clinician.sign(bytes).to_vec();
    let good = sign(&claims(), &w.clinician);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
    let cases = [
        ("replayed", used),
        ("forged signature", forged),
        ("cut signature", format!("{head}.{}", &signature[..40])),
        (
            "signed by another known key",
            raw_token(&header("EdDSA", &kid), &claims(), |b| {
                w.stranger.sign(b).to_vec()
            }),
        ),
        ("signed by an unknown key", sign(&claims(), &w.unknown)),
        (
            "alg none, no signature",
            raw_token(&header("none", &kid), &claims(), |_| Vec::new()),
        ),
        (
            "alg none, good signature",
            raw_token(&header("none", &kid), &claims(), ed),
        ),
        (
            "HS256 with the public key",
            hs256(&w, &claims(), &w.clinician.sign_public()),
        ),
        (
            "HS256 with the key id",
            hs256(&w, &claims(), kid.as_bytes()),
        ),
        (
            "kid is a path",
            raw_token(&header("EdDSA", "../../keys/op"), &claims(), ed),
        ),
        (
            "wrong audience",
            change(&|c| c.aud = "chordae.test/2".to_owned()),
        ),
        ("another method", change(&|c| c.htm = "DELETE".to_owned())),
        (
            "another window",
            change(&|c| c.target = window(ANNS, ST, ET - 1, "&format=csv")),
        ),
        (
            "the path alone",
            change(&|c| c.target = format!("/v1/streams/{ANNS}/window")),
        ),
        (
            "the same, escaped differently",
            change(&|c| c.target = ask.replace("csv", "%63sv")),
        ),
        ("expired", change(&|c| (c.iat, c.exp) = (now - 60, now))),
        ("lives too long", change(&|c| c.exp = c.iat + 301)),
        (
            "lives backwards",
            change(&|c| (c.iat, c.exp) = (now + 10, now + 5)),
        ),
        (
            "issued too far ahead",
            change(&|c| (c.iat, c.exp) = (now + 61, now + 100)),
        ),
        (
            "overflowing times",
            change(&|c| (c.iat, c.exp) = (i64::MIN, i64::MAX)),
        ),
        ("a body", change(&|c| c.body = Some(Digest([0; 32])))),
        ("no id", change(&|c| c.jti.clear())),
        ("an endless id", change(&|c| c.jti = "x".repeat(129))),
        ("empty", String::new()),
        ("a megabyte", "x".repeat(1024 * 1024)),
    ];
    let mut bodies = Vec::new();
    for (what, token) in cases {
        let answer = w.get_with(&ask, &token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
        no_rows(&answer, what);
        bodies.push((what, answer.body, answer.headers));
    }
    let bare = w
        .send(Request::get(&ask).body(axum::body::Body::empty()).unwrap())
        .await;
    let twice = Request::get(&ask)
        .header(
            "authorization",
            format!("Chordae {}", sign(&claims(), &w.clinician)),
        )
        .header(
            "authorization",
            format!("Chordae {}", sign(&claims(), &w.clinician)),
        );
    let twice = w.send(twice.body(axum::body::Body::empty()).unwrap()).await;
    let bearer = Request::get(&ask).header(
        "authorization",
        format!("Bearer {}", sign(&claims(), &w.clinician)),
    );
    let bearer = w
        .send(bearer.body(axum::body::Body::empty()).unwrap())
        .await;
    for (what, answer) in [("none", bare), ("two", twice), ("bearer", bearer)] {
        bodies.push((what, answer.body, answer.headers));
    }
    for (what, body, headers) in &bodies {
        assert_eq!(
            (body, headers),
            (&bodies[0].1, &bodies[0].2),
            "{what} looks different"
        );
    }
    // At the edges it is good.
    for (iat, exp) in [(now + 60, now + 360), (now - 299, now + 1)] {
        let token = change(&|c| (c.iat, c.exp) = (iat, exp));
        assert_eq!(
            w.get_with(&ask, &token).await.status,
            StatusCode::OK,
            "{iat} {exp}"
        );
    }
    // A disabled party is unknown.
    let kid = w.clinician.key_id();
    w.parties
        .known
        .lock()
        .unwrap()
        .get_mut(&kid)
        .unwrap()
        .enabled = false;
    let answer = w.get(&w.clinician, sid, &ask).await;
    assert_eq!(
        (answer.status, answer.body),
        (StatusCode::UNAUTHORIZED, bodies[0].1.clone())
    );
}

#[tokio::test]
async fn tokens_of_a_jwt_library_are_good() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, None, None)]).await);
    let ask = window(ANNS, ST, ET, "&format=csv");
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.typ = Some("chordae-request+jwt".to_owned());
    header.kid = Some(w.clinician.key_id().to_string());
    let pem = w.clinician.to_pem().unwrap();
    let end = "-----END PRIVATE KEY-----\n";
    let first = &pem[..pem.find(end).unwrap() + end.len()];
    let key = jsonwebtoken::EncodingKey::from_ed_pem(first.as_bytes()).unwrap();
    let token = jsonwebtoken::encode(&header, &w.claims(sid, &ask), &key).unwrap();
    assert_eq!(w.get_with(&ask, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn h07_a_token_is_good_once_also_across_a_restart() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, None, None)]).await);
    let ask = window(ANNS, ST, ET, "&format=csv");
    let used = token::sign(&w.claims(sid, &ask), &w.clinician).unwrap();
    let fresh = token::sign(&w.claims(sid, &ask), &w.clinician).unwrap();
    assert_eq!(w.get_with(&ask, &used).await.status, StatusCode::OK);
    // Long ago, for a memory that holds only minutes: the clock moves on a little, and back.
    w.clock.set_wall(NOW - 30 * S);
    let router = || chordae_query::http::router(&w.restarted());
    let answer = send(router(), request(&ask, &used)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = send(router(), request(&ask, &fresh)).await;
    assert_eq!(answer.status, StatusCode::OK, "the positive control");
}

#[tokio::test]
async fn h09_queries_with_no_one_meaning() {
    let w = World::new();
    let sid = Some(w.granted(vec![grant(ANNS, None, None)]).await);
    let base = format!("/v1/streams/{ANNS}/window");
    for query in [
        "",
        "?from=1",
        "?from=2&until=1",
        "?from=1.5&until=2",
        "?from=1e30&until=2",
        "?from=1&until=2&from=1",
        "?from=1&until=2&colour=red",
        "?from=1&until=2&snap=minute",
        "?from=1&until=2&clip=maybe",
        "?from=1&until=2&max_points=1",
        "?from=1&until=2&format=xml",
        "?from=1&until=2&leads=",
        &format!("?from={ST}&until={ET}&leads=aVR"),
    ] {
        let answer = w.get(&w.clinician, sid, &format!("{base}{query}")).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{query}: {}",
            answer.text()
        );
        no_rows(&answer, query);
    }
    for target in [
        "/v1/streams/..%2f..%2fetc%2fpasswd/window?from=1&until=2",
        "/v1/streams/%ff/window?from=1&until=2",
        "/v1/streams/00000000-0000-0000-0000-00000000000G/window?from=1&until=2",
        "/v1/streams/0B5F6C1E-8A37-4A52-9D0E-6F1C2B3A4D5E/window?from=1&until=2",
        &format!("/v1/streams/{ANNS}/chunks/+1"),
        &format!("/v1/streams/{ANNS}/chunks/01"),
    ] {
        let answer = w.get(&w.clinician, sid, target).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{target}");
    }
    let head = Request::head(window(ANNS, ST, ET, ""))
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(w.send(head).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let put = Request::put(window(ANNS, ST, ET, ""))
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(w.send(put).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let none = Request::get("/v2").body(axum::body::Body::empty()).unwrap();
    assert_eq!(w.send(none).await.status, StatusCode::NOT_FOUND);
}
