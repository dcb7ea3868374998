//! Answers that are not given, or not to their end: damage, a grant that ends, a reader that leaves,
//! no place free.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use chordae_base::{
    limits,
    seams::{Clock, Stamp, Threads, Turns, real::OsClock},
    time::SECOND_NS as S,
};
use http_body_util::BodyExt;

use crate::world::*;

#[tokio::test]
async fn damage_is_never_served() {
    let w = World::new();
    let ask = window(ANNS, T0, T0 + 2 * SLOT, "&format=csv");
    assert_eq!(w.get(&w.ann, None, &ask).await.status, StatusCode::OK);
    {
        let mut all = w.chunks.0.lock().unwrap();
        let stored = &mut all.get_mut(&ANNS).unwrap()[0];
        let mut bytes = stored.bytes.to_vec();
        bytes[100] ^= 1;
        stored.bytes = bytes.into();
    }
    for target in [
        ask.clone(),
        ask.replace("window", "proof").replace("&format=csv", ""),
    ] {
        let answer = w.get(&w.ann, None, &target).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!answer.text().contains("1000"), "{}", answer.text());
    }
    let families = w.registry.gather();
    let failures = families
        .iter()
        .find(|f| f.name() == "chordae_verify_failures_total")
        .unwrap();
    assert_eq!(failures.get_metric()[0].get_counter().get_value() as u64, 2);
}

/// A file that was read and compared is kept; a bit that flips on the medium, without anybody writing, is met when the
/// file is read again, and that is not put off for ever.
#[tokio::test]
async fn what_rots_untouched_is_never_served_and_found_in_time() {
    let w = World::new();
    let ask = window(ANNS, T0, T0 + 2 * SLOT, "&format=csv");
    let good = w.get(&w.ann, None, &ask).await;
    assert_eq!(good.status, StatusCode::OK);
    {
        let mut all = w.chunks.0.lock().unwrap();
        let stored = &mut all.get_mut(&ANNS).unwrap()[0];
        stored.untouched = Some(Stamp::of_content(&stored.bytes));
        let mut bytes = stored.bytes.to_vec();
        bytes[100] ^= 1;
        stored.bytes = bytes.into();
    }
    let kept = w.get(&w.ann, None, &ask).await;
    assert_eq!((kept.status, kept.text()), (StatusCode::OK, good.text()));
    w.clock.advance(limits::CHUNK_AGE_NS + 1);
    let found = w.get(&w.ann, None, &ask).await;
    assert_eq!(found.status, StatusCode::INTERNAL_SERVER_ERROR);
}

/// What nobody has looked at since its age was over is let go when another file is read: memory follows the readers.
#[tokio::test]
async fn what_nobody_looks_at_any_more_is_not_held() {
    let w = World::new();
    let big = w
        .get(&w.ann, None, &window(BIG, T0, T0 + S, "&format=csv"))
        .await;
    assert_eq!(big.status, StatusCode::OK);
    let held = |w: &World| w.gauge("chordae_chunks_held_bytes");
    let one = held(&w);
    assert!(one > 0);
    let ask = window(ANNS, T0, T0 + S, "&format=csv");
    w.get(&w.ann, None, &ask).await;
    let two = held(&w);
    assert!(two > one, "the control: a young one stays");
    w.clock.advance(limits::CHUNK_AGE_NS + 1);
    w.get(&w.ann, None, &ask).await;
    assert_eq!(held(&w), two - one, "the young one alone");
}

#[tokio::test]
async fn h19_a_grant_that_ends_breaks_its_answer_off() {
    let w = World::new();
    let sid = w.granted(vec![grant(BIG, None, None)]).await;
    let ask = window(BIG, T0, T0 + SLOT, "&format=csv");
    let whole = w.get(&w.clinician, Some(sid), &ask).await;
    assert_eq!(whole.text().lines().count(), 60_001, "the positive control");

    let mut body = w.open(&w.clinician, Some(sid), &ask).await.into_body();
    // The header and some rows; more wait in the queue, and the rest is not made yet.
    let mut got = 0;
    for _ in 0..2 {
        got += body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
    assert_eq!(w.revoke(&w.ann, sid).await.status, StatusCode::OK);
    w.clock.advance(1_000_000_000);
    let (more, broken) = rest(body).await;
    got += more;
    assert!(
        broken && got < whole.body.len(),
        "{got} of {}",
        whole.body.len()
    );
    let about = w.trail.about(all(BIG), 100).unwrap().records;
    let last = about.last().unwrap();
    assert_eq!(last.deed.outcome, "revoked");
    assert!(
        last.deed.rows.is_some_and(|r| r > 0 && r < 60_000),
        "{last:?}"
    );
}

/// Bytes that still come, and whether the body breaks off instead of ending.
async fn rest(mut body: axum::body::Body) -> (usize, bool) {
    let mut got = 0;
    loop {
        match body.frame().await {
            Some(Ok(frame)) => got += frame.into_data().unwrap().len(),
            Some(Err(_)) => return (got, true),
            None => return (got, false),
        }
    }
}

/// Threads of the machine whose waits are over ten thousand times sooner.
struct Hurried {
    bells: AtomicU64,
}

impl Turns for Hurried {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(body).map(drop)
    }
    fn bell(&self) -> u64 {
        self.bells.fetch_add(1, Ordering::Relaxed)
    }
    // Who waits looks again by itself.
    fn ring(&self, _: u64) {}
    fn wait(&self, _: u64, _: Option<u64>) {
        std::thread::sleep(Duration::from_micros(200));
    }
    fn mono_ns(&self) -> u64 {
        OsClock.mono_ns() * 10_000
    }
}

/// Who takes nothing for a while and then goes on is told that the answer broke off: a body that just ended would be
/// taken for the whole.
#[tokio::test]
async fn a_reader_that_stalls_and_comes_back_is_not_told_that_it_has_everything() {
    let w = World::on(Threads::in_turns(Arc::new(Hurried {
        bells: AtomicU64::new(0),
    })));
    let ask = window(BIG, T0, T0 + SLOT, "&format=csv");
    let whole = w.get(&w.ann, None, &ask).await;
    assert_eq!(whole.text().lines().count(), 60_001, "the positive control");

    let body = w.open(&w.ann, None, &ask).await.into_body();
    let closed = |w: &World| {
        let about = w.trail.about(all(BIG), 1).unwrap().records;
        about.last().unwrap().deed.outcome.clone()
    };
    let cut = async {
        while closed(&w) != "cut" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), cut).await;
    assert!(waited.is_ok(), "{}", closed(&w));
    let (got, broken) = rest(body).await;
    assert!(
        broken && got > 0 && got < whole.body.len(),
        "{broken}, {got} of {}",
        whole.body.len()
    );
}

#[tokio::test]
async fn a_reader_that_goes_away_frees_its_place_and_is_in_the_trail() {
    let w = World::new();
    let ask = window(BIG, T0, T0 + SLOT, "&format=csv");
    for _ in 0..3 * chordae_base::limits::ANSWERS_AT_ONCE {
        let response = w.open(&w.ann, None, &ask).await;
        assert_eq!(response.status(), StatusCode::OK);
        drop(response);
        // The closing record is written when the sender notices.
        while w
            .trail
            .about(all(BIG), 1)
            .unwrap()
            .records
            .iter()
            .all(|r| r.deed.rows.is_none())
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let cut = w.trail.about(all(BIG), 1).unwrap().records;
    assert_eq!(cut[0].deed.outcome, "cut");
}

#[tokio::test]
async fn h14_too_many_at_one_time_are_told_to_wait_and_one_party_leaves_room_for_others() {
    let w = World::new();
    let ask = window(BIG, T0, T0 + SLOT, "&format=csv");
    let mut open = Vec::new();
    for _ in 0..chordae_base::limits::PARTY_ANSWERS_MAX {
        let response = w.open(&w.ann, None, &ask).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    let more = w.get(&w.ann, None, &ask).await;
    assert_eq!(more.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(more.header("retry-after"), "1");
    let his = w
        .get(&w.bob, None, &window(BOBS, T0, T0 + SLOT, "&format=csv"))
        .await;
    assert_eq!(his.status, StatusCode::OK, "{}", his.text());
    for response in open {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.iter().filter(|b| **b == b'\n').count(), 60_001);
    }
    // The places come back when the last pieces are taken and their records written.
    loop {
        let answer = w.get(&w.ann, None, &ask).await;
        if answer.status == StatusCode::OK {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_party_that_asks_too_often_is_told_when_to_come_back() {
    let w = World::new();
    let burst = chordae_base::limits::PARTY_REQUESTS_BURST;
    let ask = format!("/v1/trail?did={NOBODYS}");
    let mut taken = 0;
    let refused = loop {
        let answer = w.get(&w.stranger, None, &ask).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
        taken += 1;
        assert!(taken <= burst, "never refused");
    };
    assert_eq!((taken, refused.header("retry-after")), (burst, "1"));
    assert_eq!(
        w.get(&w.ann, None, &format!("/v1/trail?did={ANNS}"))
            .await
            .status,
        StatusCode::OK
    );
    w.clock.advance(1_000_000_000);
    assert_eq!(
        w.get(&w.stranger, None, &ask).await.status,
        StatusCode::NOT_FOUND
    );
}
