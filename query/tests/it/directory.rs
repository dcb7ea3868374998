//! What the scheme promises of the directory (its properties F13, F25, F27, F29), each with a control.

use axum::http::StatusCode;
use chordae_base::{Digest, limits, time::SECOND_NS as S};
use chordae_chain::{
    event::{self, Event},
    session::open_content,
    token,
};

use crate::{trail::durable, world::*};

#[tokio::test]
async fn f13_records_that_expired_long_ago_are_swept_and_stay_away() {
    let w = World::new();
    let all = || vec![grant(ANNS, None, None)];
    let for_ever = w.made(&w.ann, &w.clinician, all());
    let brief = w.made_with(&w.ann, &w.clinician, all(), Some(NOW + S));
    for made in [&for_ever, &brief] {
        assert_eq!(w.post(made).await.status, StatusCode::CREATED);
    }
    let end = NOW + S + limits::EXPIRED_KEPT_NS;
    w.clock.set_wall(end - 1);
    assert_eq!(w.service.sweep_expired().unwrap(), 0, "not yet");
    // A clock that ran ahead and was set right removes nothing.
    w.clock.set_wall(end + S);
    w.service.now();
    w.clock.set_wall(end - 1);
    assert_eq!(w.service.sweep_expired().unwrap(), 0);
    w.clock.set_wall(end);
    assert_eq!(w.service.sweep_expired().unwrap(), 1);
    let left: Vec<_> = w.sessions.0.lock().unwrap().keys().copied().collect();
    assert_eq!(
        left,
        [for_ever.sid],
        "the control: one without an end stays"
    );
    assert_eq!(w.post(&brief).await.status, StatusCode::BAD_REQUEST);
    let look = format!("/v1/sessions/{}", Digest(brief.sid));
    let shown = w.get(&w.ann, None, &look).await.json();
    assert_eq!(shown["state"], "no-record");
}

#[tokio::test]
async fn f25_a_request_replayed_brings_nothing() {
    let w = World::new();
    let made = w.made(&w.ann, &w.clinician, vec![grant(ANNS, None, None)]);
    w.post(&made).await;
    let sid = Some(Digest(made.sid));
    let ask = window(ANNS, T0, T0 + S, "&format=csv");
    let token = token::sign(&w.claims(sid, &ask), &w.clinician).unwrap();
    assert_eq!(
        w.get_with(&ask, &token).await.status,
        StatusCode::OK,
        "the control"
    );
    for target in [ask.clone(), window(ANNS, T0, T0 + 2 * S, "&format=csv")] {
        let again = w.get_with(&target, &token).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED);
        assert!(!again.text().contains("time_ns"));
    }
    // The grant itself, posted again by whoever saw it, is the same grant.
    let logged = w.ledger.entries.lock().unwrap().len();
    assert_eq!(w.post(&made).await.status, StatusCode::CREATED);
    assert_eq!(w.ledger.entries.lock().unwrap().len(), logged);
    assert_eq!(w.sessions.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn f27_a_damaged_directory_lets_nobody_read_and_the_patient_recovers_it() {
    let w = World::new();
    let made = w.made(&w.ann, &w.clinician, vec![grant(ANNS, Some(T0), None)]);
    w.post(&made).await;
    let sid = Digest(made.sid);
    let ask = window(ANNS, T0, T0 + S, "&format=csv");
    let good = w.get(&w.clinician, Some(sid), &ask).await;
    assert_eq!(good.status, StatusCode::OK, "the control");

    // Altered: any byte of what is stored.
    let record = made.record.encode().unwrap();
    for byte in (0..record.len()).step_by(11) {
        let mut twin = record.clone();
        twin[byte] ^= 1;
        w.sessions.0.lock().unwrap().insert(made.sid, twin.into());
        let answer = w.get(&w.clinician, Some(sid), &ask).await;
        assert!(!answer.status.is_success(), "byte {byte}");
        assert!(!answer.text().contains("time_ns"), "byte {byte}");
    }
    // Lost: the ledger's own content, sealed to her, says what she granted, and to nobody else.
    w.sessions.0.lock().unwrap().clear();
    let refused = w.get(&w.clinician, Some(sid), &ask).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let look = format!("/v1/sessions/{sid}");
    for by in [&w.bob, &w.clinician, &w.operator] {
        assert_eq!(w.get(by, None, &look).await.status, StatusCode::NOT_FOUND);
    }
    let shown = w.get(&w.ann, None, &look).await.json();
    assert_eq!(shown["state"], "no-record");
    let entry = hex_bytes(shown["entry"].as_str().unwrap());
    assert_eq!(event::leaf_hash(&entry), made.sid);
    let content = content_of(event::decode(&entry).unwrap().event);
    for other in [&w.bob, &w.clinician, &w.provider] {
        assert!(open_content(&content, other.seal.as_ref().unwrap()).is_err());
    }
    let plains = open_content(&content, w.ann.seal.as_ref().unwrap()).unwrap();
    let anew = w.made(&w.ann, &w.clinician, plains[0].grants.clone());
    assert_eq!(w.post(&anew).await.status, StatusCode::CREATED);
    let again = w.get(&w.clinician, Some(Digest(anew.sid)), &ask).await;
    assert_eq!(again.body, good.body);
}

/// What a create-session event keeps for its patient; of another event, nothing that opens.
fn content_of(event: Event) -> Vec<u8> {
    match event {
        Event::CreateSession { content, .. } => content,
        _ => Vec::new(),
    }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[tokio::test]
async fn f29_who_asked_for_more_than_was_granted_cannot_deny_it() {
    let w = World::new();
    let made = w.made(
        &w.ann,
        &w.clinician,
        vec![grant(ANNS, Some(T0), Some(T0 + S))],
    );
    w.post(&made).await;
    let sid = Some(Digest(made.sid));
    let ask = |until| window(ANNS, T0, until, "&format=csv");
    w.get(&w.clinician, sid, &ask(T0 + S)).await;
    w.get(&w.clinician, sid, &ask(T0 + S + 1)).await;
    w.revoke(&w.ann, Digest(made.sid)).await;
    w.get(&w.clinician, sid, &ask(T0 + S)).await;
    let trail = durable(&w);
    let of = |r: &chordae_query::trail::TrailRecord| (r.deed.outcome.clone(), r.deed.until_ns);
    let said: Vec<_> = trail
        .iter()
        .filter(|r| r.deed.outcome != "complete")
        .map(of)
        .collect();
    let want = [("answered", S), ("window", S + 1), ("session", S)];
    let want = want.map(|(o, s)| (o.to_owned(), Some(T0 + s)));
    assert_eq!(said, want);
    for record in &trail {
        assert_eq!(
            (record.deed.kid, record.deed.sid),
            (w.clinician.key_id(), sid)
        );
    }
    // What was granted is under the patient's signature, in the log, with its bounds.
    let entry = event::decode(&made.entry).unwrap();
    entry.verify(&w.ann.sign_public()).unwrap();
    let content = content_of(entry.event);
    let plains = open_content(&content, w.ann.seal.as_ref().unwrap()).unwrap();
    assert_eq!(plains[0].grants[0].et_ns, Some(T0 + S));
    // The control: a record that says otherwise breaks the chain.
    let at = trail
        .iter()
        .position(|r| r.deed.outcome == "window")
        .unwrap();
    let mut kinder = trail[at].clone();
    kinder.deed.until_ns = Some(T0 + S);
    let digest =
        |r: &chordae_query::trail::TrailRecord| chordae_query::trail::digest(&r.encode().unwrap());
    assert_eq!(digest(&trail[at]), trail[at + 1].prev);
    assert_ne!(digest(&kinder), trail[at + 1].prev);
}
