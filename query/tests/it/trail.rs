//! The trail over HTTP: written before the answer, chained, shown to the patient alone, and without it
//! nothing is answered.

use std::{path::Path, sync::Arc};

use axum::http::StatusCode;
use chordae_base::{FailureKind, seams::Threads, time::SECOND_NS as S};
use chordae_query::trail::{NOTHING, Trail, TrailRecord, digest};

use crate::world::*;

/// The records that a power loss at this instant would leave.
pub(crate) fn durable(w: &World) -> Vec<TrailRecord> {
    let disk = w.disk.copy();
    disk.crash();
    let mut records = Vec::new();
    let torn =
        chordae_base::journal::scan_dir(&disk, Path::new("/trail"), 65_536, &mut |_, bytes| {
            records.push(TrailRecord::decode(&bytes)?);
            Ok(())
        });
    assert_eq!(torn, Ok(None));
    records
}

#[tokio::test]
async fn written_before_the_first_byte_and_closed_after_the_last() {
    let w = World::new();
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    let ask = window(ANNS, T0, T0 + 10 * S, "&format=csv&leads=I,II");
    let response = w.open(&w.clinician, Some(sid), &ask).await;
    // Nothing of the body has been read yet.
    let first = durable(&w).first().cloned().unwrap();
    let deed = &first.deed;
    assert_eq!((first.n, first.prev), (0, NOTHING));
    assert_eq!((deed.outcome.as_str(), deed.rows), ("answered", None));
    assert_eq!(
        (deed.did, deed.sid, deed.kid),
        (Some(ANNS), Some(sid), w.clinician.key_id())
    );
    assert_eq!((deed.from_ns, deed.until_ns), (Some(T0), Some(T0 + 10 * S)));
    assert_eq!(deed.leads, Some(vec!["I".to_owned(), "II".to_owned()]));
    assert_eq!(
        (deed.format.as_str(), deed.time_ms),
        ("csv", (NOW / 1_000_000) as u64)
    );

    axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let records = durable(&w);
    assert_eq!(records.len(), 2);
    let last = &records[1].deed;
    assert_eq!(
        (last.outcome.as_str(), last.rows, &last.jti),
        ("complete", Some(500), &deed.jti)
    );

    // Refusals are there too, and requests that no known party signed are not.
    let more = [
        (
            &w.clinician,
            Some(sid),
            window(BOBS, T0, T0 + S, ""),
            "stream",
        ),
        (&w.clinician, None, window(ANNS, T0, T0 + S, ""), "stream"),
        (
            &w.clinician,
            Some(sid),
            window(ANNS, 2, 1, ""),
            "bad-request",
        ),
        (&w.unknown, Some(sid), window(ANNS, T0, T0 + S, ""), ""),
    ];
    for (by, sid, ask, _) in &more {
        w.get(by, *sid, ask).await;
    }
    let records = durable(&w);
    let outcomes: Vec<&str> = records[2..]
        .iter()
        .map(|r| r.deed.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["stream", "stream", "bad-request"]);
    let mut prev = NOTHING;
    for (n, record) in records.iter().enumerate() {
        assert_eq!((record.n, record.prev), (n as u64, prev));
        prev = digest(&record.encode().unwrap());
    }
    let head = w.trail.head();
    assert_eq!((head.count, head.digest), (records.len() as u64, prev));
}

#[tokio::test]
async fn no_record_no_answer() {
    let w = World::new();
    let ask = window(ANNS, T0, T0 + 10 * S, "&format=csv");
    assert_eq!(w.get(&w.ann, None, &ask).await.status, StatusCode::OK);
    w.disk.set_capacity(0);
    // What room the trail has already made is good for some hundred more.
    for n in 0..400 {
        if w.get(&w.ann, None, "/v1/streams").await.status != StatusCode::OK {
            break;
        }
        assert!(n < 399, "an endless trail on a full disk");
    }
    for target in [&ask, "/v1/streams"] {
        let answer = w.get(&w.ann, None, target).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!answer.text().contains("time_ns"));
    }
    // The disk heals; the log that failed is never written again.
    w.disk.set_capacity(u64::MAX);
    assert_eq!(
        w.get(&w.ann, None, &ask).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn the_patient_sees_who_looked_and_nobody_else_does() {
    let w = World::new();
    let sid = w.granted(vec![grant(ANNS, None, None)]).await;
    for k in 0..3 {
        w.get(&w.clinician, Some(sid), &window(ANNS, T0 + k, T0 + 10, ""))
            .await;
    }
    w.get(&w.bob, None, &window(BOBS, T0, T0 + 10, "")).await;
    let target = format!("/v1/trail?did={ANNS}");
    let seen = w.get(&w.ann, None, &target).await;
    let records = seen.json()["records"].as_array().unwrap().clone();
    assert_eq!(records.len(), 6, "three answers, opened and closed");
    for record in &records {
        assert_eq!(record["name"], "Dr. Who");
        assert_eq!(record["kid"], w.clinician.key_id().to_string());
        assert_eq!(record["did"], ANNS.to_string());
    }
    let n = records[2]["n"].as_u64().unwrap();
    let before = w.get(&w.ann, None, &format!("{target}&before={n}")).await;
    assert_eq!(before.json()["records"].as_array().unwrap().len(), 2);
    for (by, sid) in [
        (&w.bob, None),
        (&w.clinician, Some(sid)),
        (&w.clinician, None),
        (&w.operator, None),
    ] {
        assert_eq!(w.get(by, sid, &target).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_damaged_trail_refuses_the_start() {
    let w = World::new();
    for _ in 0..5 {
        w.get(&w.ann, None, "/v1/streams").await;
    }
    let path = Path::new("/trail/00000000000000000000.log");
    let good = w.disk.peek(path).unwrap();
    let open = |bytes: &[u8]| {
        let disk = w.disk.copy();
        disk.put(path, bytes);
        Trail::open(
            Arc::new(disk),
            Path::new("/trail"),
            &Threads::of_the_machine(),
        )
    };
    let (trail, recall) = open(&good).unwrap();
    assert_eq!(
        (trail.head().count, recall.jtis.len()),
        (5, 5),
        "the positive control"
    );
    assert_eq!(recall.newest_ns, NOW);
    let mut bad = good.clone();
    bad[60] ^= 1;
    assert_eq!(
        open(&bad).map(drop).map_err(|e| e.kind),
        Err(FailureKind::Damaged)
    );

    // Records that are whole, but do not follow each other.
    let disk = w.disk.copy();
    disk.put(path, &good);
    let settings = chordae_base::journal::Settings {
        dir: "/other".into(),
        segment_bytes: 1 << 20,
        room_bytes: 0,
        record_bytes_max: 65_536,
    };
    let records = durable(&w);
    let opened = chordae_base::journal::Journal::open(Arc::new(disk.clone()), settings).unwrap();
    let skipped: Vec<_> = [0, 1, 3]
        .iter()
        .map(|k: &usize| records[*k].encode().unwrap().into())
        .collect();
    drop(opened.journal.commit(&skipped).unwrap());
    let broken = Trail::open(
        Arc::new(disk),
        Path::new("/other"),
        &Threads::of_the_machine(),
    )
    .map(drop);
    assert_eq!(broken.map_err(|e| e.kind), Err(FailureKind::Damaged));
}

#[test]
fn ids_are_remembered_as_long_as_their_tokens_can_live() {
    let world = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    world.block_on(async {
        let w = World::new();
        w.get(&w.ann, None, "/v1/streams").await;
        w.clock.advance(400 * S as u64);
        w.get(&w.ann, None, "/v1/streams").await;
        let disk = w.disk.copy();
        let (_, recall) = Trail::open(
            Arc::new(disk),
            Path::new("/trail"),
            &Threads::of_the_machine(),
        )
        .unwrap();
        assert_eq!(recall.jtis.len(), 1, "the first has expired for certain");
    });
}
