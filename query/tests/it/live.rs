//! The live answer: what is open and granted, as it comes, and nothing else.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use chordae_base::{
    Did, Span, limits,
    seams::Clock,
    time::{Rate, SECOND_NS as S},
    wire::{Birth, ClockKind},
};
use chordae_chain::token;
use chordae_query::core::ports::TailFrame;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::world::*;

/// A second of frame `seq` of boot `boot`, from `from` on.
fn frame(at: u64, boot: u64, seq: u64, from: i64) -> TailFrame {
    let birth = Birth {
        boot,
        rate: Rate::new(50, 1).unwrap(),
        leads: vec![lead("I", 200.0), lead("II", 200.0), lead("V1", 100.0)],
        model: String::new(),
        firmware: String::new(),
        clock: ClockKind::Synced,
    };
    TailFrame {
        at,
        boot,
        seq,
        late: false,
        birth: Arc::new(birth),
        rows: rows(from, from + S, 50, 3, seq as i32),
    }
}

/// Events as they come.
struct Events {
    body: Body,
    text: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    data: serde_json::Value,
}

impl Events {
    /// The next event; `None` at the end of the answer.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((one, rest)) = self.text.split_once("\n\n") {
                let (one, rest) = (one.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let mut lines = one.lines().filter_map(|l| l.split_once(": "));
                    lines.find(|(n, _)| *n == name).map(|(_, v)| v.to_owned())
                };
                let Some(name) = field("event") else { continue };
                return Some(Event {
                    name,
                    id: field("id"),
                    data: serde_json::from_str(&field("data").unwrap()).unwrap(),
                });
            }
            let more = tokio::time::timeout(Duration::from_secs(20), self.body.frame());
            let bytes = more.await.unwrap()?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn named(&mut self, name: &str) -> Event {
        let event = self.next().await.unwrap();
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// The code of the end, whatever comes before it.
    async fn ended(&mut self) -> String {
        loop {
            let event = self.next().await.unwrap();
            if event.name == "end" {
                return event.data["code"].as_str().unwrap().to_owned();
            }
        }
    }

    /// Ids of the next `count` events with rows.
    async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let event = self.next().await.unwrap();
            ids.extend(event.id.filter(|_| event.name == "rows"));
        }
        ids
    }
}

fn live(did: Did, more: &str) -> String {
    format!("/v1/streams/{did}/live{more}")
}

async fn follow(
    w: &World,
    by: &chordae_chain::keys::SecretKeys,
    sid: Option<chordae_base::Digest>,
    target: &str,
    last: Option<&str>,
) -> Events {
    let token = token::sign(&w.claims(sid, target), by).unwrap();
    let mut request = Request::get(target).header("authorization", format!("Chordae {token}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = w.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["chordae-integrity"], "open");
    assert_eq!(response.headers()["cache-control"], "no-store");
    Events {
        body: response.into_body(),
        text: String::new(),
    }
}

fn times(event: &Event) -> Vec<i64> {
    let first = event.data["first_ns"].as_i64().unwrap();
    let after = event.data["after_ns"].as_array().unwrap().iter();
    after.map(|a| first + a.as_i64().unwrap()).collect()
}

#[tokio::test]
async fn the_tail_first_then_the_catalogue_and_what_is_covered_is_dropped() {
    let w = World::new();
    // Boot 1 is linked: seqs 60 to 119 in slot 1, 120 to 179 in slot 2. The last of these three lies in
    // both slots, and only its first half is in a chunk.
    w.tail.push(ANNS, frame(1, 1, 121, T0 + 121 * S));
    w.tail.push(ANNS, frame(2, 2, 0, T0 + 121 * S));
    w.tail.push(ANNS, frame(3, 1, 119, T0 + 2 * SLOT - S / 2));
    let mut events = follow(&w, &w.ann, None, &live(ANNS, ""), None).await;
    let open = events.named("open").await;
    assert_eq!(open.data["integrity"], "open");
    assert_eq!(open.data["resumed"], false);
    assert_eq!(w.gauge("chordae_live_readers"), 1);
    let birth = events.named("birth").await;
    assert_eq!(
        (birth.data["boot"].as_u64(), birth.data["rate"][0].as_u64()),
        (Some(2), Some(50))
    );
    assert_eq!(birth.data["leads"].as_array().unwrap().len(), 3);
    // Boot 2 is no frame of the chunk, whatever its instants.
    let first = events.named("rows").await;
    assert_eq!(first.id.as_deref(), Some("2.0"));
    let expected = rows(T0 + 121 * S, T0 + 122 * S, 50, 3, 0);
    assert_eq!(times(&first), expected.times);
    for (name, codes) in ["I", "II", "V1"].iter().zip(&expected.leads) {
        let told = first.data["leads"][name].as_array().unwrap();
        let told: Vec<i32> = told
            .iter()
            .map(|c| c.as_i64().map_or(i32::MIN, |c| c as i32))
            .collect();
        assert_eq!(&told, codes);
    }
    events.named("birth").await;
    let half = events.named("rows").await;
    assert_eq!(half.id.as_deref(), Some("1.119"));
    assert_eq!((times(&half).len(), times(&half)[0]), (25, T0 + 2 * SLOT));
    // And what comes from now on, at once.
    w.tail.push(ANNS, frame(4, 1, 1001, NOW - S));
    assert_eq!(events.named("rows").await.id.as_deref(), Some("1.1001"));
    drop(events);
    while w.trail.about(all(ANNS), 1).unwrap().records[0]
        .deed
        .rows
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(w.gauge("chordae_live_readers"), 0);
    let about = w.trail.about(all(ANNS), 10).unwrap().records;
    let [first, last] = &about[..] else {
        panic!("{about:?}")
    };
    assert_eq!(
        (first.deed.format.as_str(), first.deed.outcome.as_str()),
        ("live", "answered")
    );
    assert_eq!(
        (last.deed.outcome.as_str(), last.deed.rows),
        ("cut", Some(125))
    );
}

#[tokio::test]
async fn no_row_outside_the_grant_none_later_than_now_and_no_other_lead() {
    let w = World::new();
    let mut hers = grant(ANNS, Some(NOW - 10 * S + S / 2), Some(NOW + 20 * S + S / 2));
    hers.leads = Some(vec!["II".to_owned()]);
    let sid = w.granted(vec![hers]).await;
    w.tail.push(ANNS, frame(1, 7, 0, NOW - 11 * S));
    w.tail.push(ANNS, frame(2, 7, 1, NOW - 10 * S));
    // All leads were not granted; a lead that was not granted neither.
    for more in ["", "?leads=I", "?leads=I,II"] {
        let answer = w.get(&w.clinician, Some(sid), &live(ANNS, more)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(!answer.text().contains("after_ns"));
    }
    let mut events = follow(&w, &w.clinician, Some(sid), &live(ANNS, "?leads=II"), None).await;
    events.named("open").await;
    events.named("birth").await;
    let one = events.named("rows").await;
    assert_eq!(
        times(&one).len(),
        25,
        "the first half lies before the grant"
    );
    assert!(times(&one)[0] >= NOW - 10 * S + S / 2);
    assert_eq!(one.data["leads"].as_object().unwrap().len(), 1);
    // Half a second later than now: waited for. A minute later: left out, and said.
    w.tail.push(ANNS, frame(3, 7, 2, NOW - S / 2));
    w.tail.push(ANNS, frame(4, 7, 3, NOW + 60 * S));
    let early = tokio::time::timeout(Duration::from_millis(400), events.next()).await;
    assert!(early.is_err(), "{early:?}");
    w.clock.advance(S as u64);
    assert_eq!(events.named("rows").await.id.as_deref(), Some("7.2"));
    assert_eq!(events.named("hole").await.data["code"], "later-than-now");
    // The grant ends in the middle of a frame; then the answer ends.
    w.clock.advance(19 * S as u64);
    w.tail.push(ANNS, frame(5, 7, 4, NOW + 20 * S - S / 2));
    w.clock.advance(S as u64);
    let mut got = 0;
    let end = loop {
        let event = events.next().await.unwrap();
        match event.name.as_str() {
            "rows" => {
                got += times(&event)
                    .iter()
                    .filter(|t| **t < NOW + 20 * S + S / 2)
                    .count()
            }
            "end" => break event,
            other => panic!("{other}"),
        }
        assert!(times(&event).iter().all(|t| *t < NOW + 20 * S + S / 2));
    };
    assert_eq!(end.data["code"], "revoked");
    assert!(got <= 50);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn h19_a_live_answer_ends_within_a_second_of_the_revocation() {
    let w = World::new();
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    let mut events = follow(&w, &w.clinician, Some(sid), &live(ANNS, ""), None).await;
    events.named("open").await;
    // Some wait in the queue, unread; they are not sent any more.
    for n in 0..5 {
        w.tail
            .push(ANNS, frame(n + 1, 9, n, NOW - (20 - n as i64) * S));
    }
    assert_eq!(events.ids(1).await, ["9.0"], "the positive control");
    assert_eq!(w.revoke(&w.ann, sid).await.status, StatusCode::OK);
    w.clock.advance(500_000_000);
    w.tail.push(ANNS, frame(6, 9, 5, NOW - 10 * S));
    let begun = w.clock.mono_ns();
    while !w
        .trail
        .about(all(ANNS), 1)
        .unwrap()
        .records
        .iter()
        .any(|r| r.deed.outcome == "revoked")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(w.clock.mono_ns(), begun, "no further second had to pass");
    let end = events.named("end").await;
    assert_eq!(end.data["code"], "revoked");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn h19_a_live_answer_ends_within_a_second_of_the_expiry_or_the_party() {
    let w = World::new();
    let grants = vec![grant(ANNS, None, None)];
    let made = w.made_with(&w.ann, &w.clinician, grants, Some(NOW + 2 * S));
    assert_eq!(w.post(&made).await.status, StatusCode::CREATED);
    let sid = Some(chordae_base::Digest(made.sid));
    let mut events = follow(&w, &w.clinician, sid, &live(ANNS, ""), None).await;
    events.named("open").await;
    w.clock.advance(S as u64);
    w.tail.push(ANNS, frame(1, 9, 0, NOW - S));
    assert_eq!(events.ids(1).await, ["9.0"], "it has not expired yet");
    w.clock.advance(S as u64);
    assert_eq!(events.named("end").await.data["code"], "revoked");
    assert!(events.next().await.is_none());
    // A party that is disabled while it listens.
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    let mut events = follow(&w, &w.clinician, Some(sid), &live(ANNS, ""), None).await;
    events.named("open").await;
    let kid = w.clinician.key_id();
    w.parties
        .known
        .lock()
        .unwrap()
        .get_mut(&kid)
        .unwrap()
        .enabled = false;
    w.clock.advance(500_000_000);
    assert_eq!(events.ended().await, "revoked");
}

#[tokio::test]
async fn h11_another_patients_live_stream_looks_like_none() {
    let w = World::new();
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    let good = w.open(&w.clinician, Some(sid), &live(ANNS, "")).await;
    assert_eq!(good.status(), StatusCode::OK, "the positive control");
    for (by, sid) in [
        (&w.clinician, Some(sid)),
        (&w.ann, None),
        (&w.operator, None),
    ] {
        let forbidden = w.get(by, sid, &live(BOBS, "")).await;
        let unknown = w.get(by, sid, &live(NOBODYS, "")).await;
        assert_eq!(forbidden.status, StatusCode::NOT_FOUND);
        assert_eq!(
            (forbidden.status, &forbidden.headers, &forbidden.body),
            (unknown.status, &unknown.headers, &unknown.body)
        );
    }
}

#[tokio::test]
async fn a_reader_goes_on_behind_her_last_event_or_is_told_of_the_hole() {
    let w = World::new();
    for n in 0..4 {
        w.tail
            .push(ANNS, frame(n + 1, 3, n, NOW - (9 - n as i64) * S));
    }
    let target = live(ANNS, "");
    let mut all = follow(&w, &w.ann, None, &target, None).await;
    assert_eq!(all.ids(4).await, ["3.0", "3.1", "3.2", "3.3"]);
    let mut rest = follow(&w, &w.ann, None, &target, Some("3.1")).await;
    assert_eq!(rest.named("open").await.data["resumed"], true);
    assert_eq!(rest.ids(2).await, ["3.2", "3.3"]);
    let mut gone = follow(&w, &w.ann, None, &target, Some("2.77")).await;
    assert_eq!(gone.named("open").await.data["resumed"], false);
    assert_eq!(gone.named("hole").await.data["code"], "not-here");
    assert_eq!(gone.ids(4).await.len(), 4);
    for bad in [
        "",
        "3",
        "3.x",
        "03.1",
        "3.1.1",
        "-3.1",
        "99999999999999999999.1",
    ] {
        let token = token::sign(&w.claims(None, &target), &w.ann).unwrap();
        let request = Request::get(&target)
            .header("authorization", format!("Chordae {token}"))
            .header("last-event-id", bad);
        let answer = w.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn frames_that_went_before_the_reader_came_are_a_hole_and_later_she_was_too_slow() {
    let w = World::new();
    for n in 0..4 {
        w.tail
            .push(ANNS, frame(n + 1, 3, n, NOW - (9 - n as i64) * S));
    }
    let target = live(ANNS, "");
    let span = Span {
        from_ns: NOW - 40 * S,
        until_ns: NOW - 39 * S,
    };
    *w.tail.lost.lock().unwrap() = Some((1, 3, 0, span));
    let mut later = follow(&w, &w.ann, None, &target, None).await;
    later.named("open").await;
    assert_eq!(later.named("hole").await.data["code"], "older");
    assert_eq!(later.ids(4).await.len(), 4);
    // She has caught up once she asked for more and there was none.
    let read_out = async {
        while !w.tail.read_out.load(std::sync::atomic::Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read_out)
        .await
        .unwrap();
    *w.tail.lost.lock().unwrap() = Some((9, 3, 8, span));
    let end = later.named("end").await;
    assert_eq!(end.data["code"], "slow");
    assert!(later.next().await.is_none());
}

#[tokio::test]
async fn a_reader_who_takes_nothing_is_dropped_and_places_come_back() {
    let w = World::new();
    let target = live(ANNS, "");
    let mut slow = follow(&w, &w.ann, None, &target, None).await;
    slow.named("open").await;
    for n in 0..3 * limits::LIVE_EVENTS_QUEUE as u64 {
        w.tail.push(ANNS, frame(n + 1, 5, n, NOW - 60 * S));
    }
    let about = || w.trail.about(all(ANNS), 1).unwrap().records;
    let bound = tokio::time::Instant::now() + 4 * limits::LIVE_STALL;
    while about()[0].deed.outcome != "slow" {
        assert!(tokio::time::Instant::now() < bound, "{:?}", about());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(slow.named("end").await.data["code"], "slow");
    assert!(slow.next().await.is_none());
    // The tail ends: so does the answer.
    let mut last = follow(&w, &w.ann, None, &target, Some("5.47")).await;
    last.named("open").await;
    w.tail
        .ended
        .store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(last.named("end").await.data["code"], "stopped");
}
