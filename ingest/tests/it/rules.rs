//! Every rule of formats.md 2 that ingest keeps, one by one, on the bare core; those about time are in
//! `rules_clock`.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{
    RangeSet, limits,
    record::{Place, WalRecord},
    wire::{ClockKind, Frame},
};
use chordae_ingest::core::{
    arrival::{ConnId, Content, Offer, Refusal, Verdict},
    decode::{Shape, decode},
    judge::{Answers, Effect, Step},
};

use crate::{
    desk::{Desk, NOW, at, durable},
    support::{birth, content, frame, key, seconds},
};

#[test]
fn a_birth_is_immutable_within_its_boot() {
    let mut desk = Desk::new();
    assert_eq!(desk.birth(&birth(1)), durable("birth"));
    assert_eq!(desk.birth(&birth(1)), durable("repeat"));
    let mut other = birth(1);
    other.leads.pop();
    assert_eq!(
        desk.birth(&other),
        (Verdict::Refused(Refusal::BootReused), "refused")
    );
    // Its frames of that boot go to quarantine, and it is told; another connection's do not.
    assert_eq!(
        desk.frame(&frame(1, 0, NOW, 5)),
        (Verdict::Refused(Refusal::BootReused), "quarantined")
    );
    assert_eq!(desk.aside.last().unwrap().0.reason, "boot-reused");
    assert_eq!(
        desk.core.standing(&desk.stream, 1).refused,
        [(0, 0, "boot-reused")]
    );
    assert_eq!(
        desk.offer_as(2, true, content(&frame(1, 0, NOW, 6))),
        durable("live")
    );
    assert_eq!(desk.frame(&frame(2, 0, NOW, 5)), durable("parked-no-birth"));
    // The connection is gone, and with it the suspicion.
    desk.core.gone(ConnId(1));
    assert_eq!(desk.frame(&frame(1, 1, NOW, 5)), durable("live"));
    assert_eq!(
        desk.log
            .iter()
            .filter(|r| matches!(r, WalRecord::Birth(_)))
            .count(),
        1
    );
}

#[test]
fn who_cannot_be_told_is_quarantined_and_acknowledged() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let mut other = birth(1);
    other.firmware = "2".into();
    let mut one_lead = frame(1, 0, NOW, 1);
    one_lead.codes.truncate(100);
    let cases = [
        (2, Content::Birth(other), "boot-reused"),
        (3, content(&one_lead), "frame-leads"),
        (
            3,
            decode(Shape::Frame, Bytes::from_static(b"\xff")),
            "protobuf",
        ),
        (
            3,
            decode(Shape::FrameJson, Bytes::from_static(b"{")),
            "json",
        ),
        (
            3,
            decode(Shape::Birth, vec![0; limits::PAYLOAD_BYTES_MAX + 1].into()),
            "payload-size",
        ),
    ];
    for (conn, content, reason) in cases {
        let before = desk.aside.len();
        assert_eq!(
            desk.offer_as(conn, false, content.clone()),
            durable("quarantined"),
            "{reason}"
        );
        assert_eq!(desk.aside.len(), before + 1);
        assert_eq!(desk.aside.last().unwrap().0.reason, reason);
        let (verdict, label) = desk.offer_as(conn + 10, true, content);
        assert!(
            matches!(verdict, Verdict::Refused(_)) && label == "refused",
            "{reason}"
        );
        assert_eq!(
            desk.aside.len(),
            before + 1,
            "{reason}: who is told keeps it"
        );
    }
    assert!(desk.frames().is_empty());
    // None of them took the seq of an honest frame.
    assert_eq!(
        desk.offer_as(9, true, content(&frame(1, 0, NOW, 1))),
        durable("live")
    );
}

#[test]
fn the_same_frame_in_any_encoding_is_absorbed_and_another_is_a_conflict() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let first = frame(1, 0, NOW, 1);
    assert_eq!(desk.frame(&first), durable("live"));
    let i16le = decode(Shape::Frame, first.encode_i16le().unwrap().into());
    let json = decode(Shape::FrameJson, first.to_json().into());
    let flagged = Frame {
        historical: true,
        clock: ClockKind::Unknown,
        ..first.clone()
    };
    for again in [content(&first), i16le, json, content(&flagged)] {
        assert_eq!(desk.offer(again), durable("repeat"));
    }
    let conflict = (Verdict::Refused(Refusal::Conflict), "conflict");
    assert_eq!(desk.frame(&frame(1, 0, NOW, 2)), conflict);
    assert_eq!(desk.frame(&frame(1, 0, NOW + 1, 1)), conflict);
    assert_eq!(
        desk.offer_as(2, false, content(&frame(1, 0, NOW, 3))),
        durable("conflict")
    );
    assert_eq!(desk.frames().len(), 1, "the first stays");
    assert_eq!(desk.aside.len(), 3, "the others are kept");
    let standing = desk.core.standing(&desk.stream, 1);
    assert_eq!(standing.durable, [(0, 0)]);
    assert_eq!(standing.refused.last(), Some(&(0, 0, "conflict")));
}

#[test]
fn once_trimmed_the_rows_decide_and_once_erased_nothing_does() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    for seq in 0..3 {
        desk.frame(&frame(1, seq, NOW, 1));
    }
    let mut covered = RangeSet::new();
    covered.insert_range(0, 1);
    desk.core.cover(&desk.stream.clone(), 1, &covered);
    desk.start = 3;
    desk.core.trim(3);
    assert_eq!(desk.frame(&frame(1, 2, NOW, 1)), durable("repeat"));
    assert_eq!(desk.asked, 0, "the print of 2 is still there");
    assert_eq!(desk.frame(&frame(1, 0, NOW, 1)), durable("repeat"));
    assert_eq!(desk.asked, 1);
    desk.same_rows = Some(false);
    assert_eq!(desk.frame(&frame(1, 1, NOW, 9)).1, "conflict");
    desk.same_rows = None;
    assert_eq!(desk.frame(&frame(1, 1, NOW, 9)), durable("repeat"));
}

#[test]
fn what_may_repeat_a_quarantined_frame_is_put_beside_it_once_the_log_has_forgotten() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let old = NOW - 40 * 86_400 * 1_000_000_000;
    assert_eq!(desk.frame(&frame(1, 0, old, 5)), durable("quarantined"));
    // While the log knows it, the same is absorbed and another is told.
    assert_eq!(desk.frame(&frame(1, 0, old, 5)), durable("repeat"));
    let told = desk.frame(&frame(1, 0, old, 6));
    assert_eq!(told.0, Verdict::Refused(Refusal::Conflict));
    let aside = desk.aside.len();
    desk.core.trim(100);
    // Afterwards nobody knows: acknowledged, and kept.
    for content in [5, 6] {
        assert_eq!(
            desk.frame(&frame(1, 0, old, content)),
            durable("quarantined")
        );
    }
    assert_eq!(desk.aside.len(), aside + 2);
    let (last, _) = desk.aside.last().unwrap();
    assert_eq!(
        (last.reason.as_str(), last.settles),
        ("maybe-repeat", false)
    );
}

#[test]
fn a_frame_waits_for_its_birth_and_is_released_with_its_place() {
    let mut desk = Desk::new();
    assert_eq!(desk.frame(&frame(1, 1, NOW, 1)), durable("parked-no-birth"));
    assert_eq!(
        desk.frame(&frame(1, 0, NOW - seconds(1), 1)),
        durable("parked-no-birth")
    );
    assert_eq!(
        desk.frame(&frame(1, 0, NOW - seconds(1), 1)),
        durable("repeat")
    );
    assert_eq!(desk.frame(&frame(1, 0, NOW - seconds(1), 2)).1, "conflict");
    let mut one_lead = frame(1, 2, NOW, 1);
    one_lead.codes.truncate(100);
    assert_eq!(desk.frame(&one_lead), durable("parked-no-birth"));
    desk.now += seconds(400);
    desk.birth(&birth(1));
    let places: Vec<_> = desk
        .frames()
        .iter()
        .map(|f| (f.seq, f.place, f.recv_ns))
        .collect();
    let (then, now) = (NOW, NOW + seconds(400));
    let want = [
        (1, Place::Parked, then),
        (0, Place::Parked, then),
        (2, Place::Parked, then),
        // By now they are old: late lane.
        (0, Place::Late, now),
        (1, Place::Late, now),
    ];
    assert_eq!(places, want);
    assert!(
        desk.frames().iter().all(|f| !f.payload.is_empty()),
        "payloads travel along"
    );
    assert_eq!(desk.aside.last().unwrap().0.reason, "frame-leads");
    assert!(matches!(desk.log.last(), Some(WalRecord::Settled(s)) if s.seq == 2));
}

#[test]
fn after_ten_minutes_quarantine_holds_it_and_its_birth_still_releases_it() {
    for restart in [false, true] {
        let mut desk = Desk::new();
        desk.frame(&frame(1, 0, NOW, 1));
        desk.tick(NOW + limits::PARKED_NS_MAX - 1);
        assert!(desk.aside.is_empty());
        desk.tick(NOW + limits::PARKED_NS_MAX);
        assert_eq!(desk.aside.len(), 1);
        assert_eq!(desk.aside[0].0.reason, "no-birth");
        assert!(
            matches!(desk.log.last(), Some(WalRecord::Settled(_))),
            "the log is free of it"
        );
        desk.tick(NOW + 2 * limits::PARKED_NS_MAX);
        assert_eq!(desk.aside.len(), 1, "once is enough");
        if restart {
            desk.start = desk.log.len();
            desk.restart().unwrap();
        }
        assert_eq!(desk.frame(&frame(1, 0, NOW, 1)), durable("repeat"));
        desk.birth(&birth(1));
        let last = desk.last();
        assert_eq!((last.seq, last.place), (0, Place::Late));
        assert_eq!(last.payload, Bytes::from(frame(1, 0, NOW, 1).encode()));
        // Released once, also across a restart.
        desk.restart().unwrap();
        let before = desk.log.len();
        desk.birth(&birth(1));
        assert_eq!(desk.log.len(), before);
    }
}

#[test]
fn a_crash_between_quarantine_and_log_settles_again() {
    let mut desk = Desk::new();
    desk.frame(&frame(1, 0, NOW, 1));
    desk.tick(NOW + limits::PARKED_NS_MAX);
    desk.log.pop();
    desk.restart().unwrap();
    desk.tick(NOW + limits::PARKED_NS_MAX + 1);
    assert!(matches!(desk.log.last(), Some(WalRecord::Settled(_))));
}

#[test]
fn no_room_refuses_what_is_new_and_still_absorbs_repeats() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let first = frame(1, 0, NOW, 1);
    desk.frame(&first);
    desk.room = false;
    let log = desk.log.len();
    for new in [
        content(&frame(1, 1, NOW, 1)),
        content(&frame(2, 0, NOW, 1)),
        content(&frame(1, 0, NOW, 2)),
        Content::Birth(birth(2)),
    ] {
        assert_eq!(desk.offer(new.clone()), (Verdict::Full(new), "full"));
    }
    let bad = decode(Shape::Frame, Bytes::from_static(b"\xff"));
    assert_eq!(
        desk.offer_as(2, false, bad.clone()),
        (Verdict::Full(bad), "full")
    );
    assert_eq!(desk.frame(&first), durable("repeat"));
    assert_eq!(desk.birth(&birth(1)), durable("repeat"));
    assert_eq!((desk.log.len(), desk.aside.len()), (log, 0));
    desk.room = true;
    assert_eq!(desk.frame(&frame(1, 1, NOW, 1)), durable("live"));
}

#[test]
fn a_device_has_so_many_streams_and_a_stream_so_many_boots() {
    let mut desk = Desk::new();
    for n in 0..limits::STREAMS_PER_DEVICE_MAX {
        desk.stream = key(&format!("bed-7/s{n}"));
        assert_eq!(desk.birth(&birth(1)), durable("birth"));
    }
    desk.stream = key("bed-7/one-more");
    let refused = (Verdict::Refused(Refusal::TooManyStreams), "refused");
    assert_eq!(desk.birth(&birth(1)), refused);
    assert_eq!(desk.frame(&frame(1, 0, NOW, 1)), refused);
    desk.stream = key("bed-8/ecg");
    // The first boot waits for its birth when it is forgotten: quarantine keeps what it had.
    desk.frame(&frame(0, 0, NOW, 1));
    for boot in 1..=limits::BOOTS_PER_STREAM_MAX as u64 {
        desk.now += 1;
        desk.birth(&birth(boot));
    }
    assert_eq!(desk.aside.len(), 1);
    assert_eq!(desk.aside[0].0.reason, "boot-forgotten");
    let boots = desk.core.standing(&desk.stream, 1).boots;
    assert_eq!(boots.len(), limits::ACK_RANGES_MAX, "the newest are told");
    assert_eq!(boots.last(), Some(&(limits::BOOTS_PER_STREAM_MAX as u64)));
}

#[test]
fn gaps_are_counted_and_the_newest_live_frame_is_known() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let gap = |desk: &mut Desk, seq: u64| {
        let offer = Offer {
            stream: desk.stream.clone(),
            content: content(&frame(1, seq, NOW, 1)),
            now: at(NOW),
            arrived_ns: NOW,
            conn: ConnId(1),
            can_be_told: true,
        };
        let answers = Answers {
            room: true,
            ..Answers::default()
        };
        let Step::Done(effects, _) = desk.core.step(&offer, answers) else {
            panic!()
        };
        effects.iter().find_map(|e| match e {
            Effect::Gap(n) => Some(*n),
            _ => None,
        })
    };
    assert_eq!(gap(&mut desk, 0), None);
    assert_eq!(gap(&mut desk, 1), None);
    assert_eq!(gap(&mut desk, 5), Some(3));
    assert_eq!(gap(&mut desk, 3), None);
    assert_eq!(gap(&mut desk, u64::MAX), Some(u64::MAX - 6));
    assert_eq!(
        desk.core.newest(&desk.stream).unwrap().mapped_end_ns,
        NOW + seconds(1)
    );
}

#[test]
fn the_state_record_carries_what_trimmed_segments_knew() {
    let mut desk = Desk::new();
    for boot in 1..=20 {
        desk.birth(&birth(boot));
        desk.frame(&Frame {
            clock: ClockKind::Unknown,
            ..frame(boot, 0, 0, 1)
        });
    }
    let state = desk.core.save().unwrap();
    desk.log = state.into_iter().map(WalRecord::State).collect();
    let mut covered = RangeSet::new();
    covered.insert(0);
    let boots: BTreeMap<_, _> = (1..=20).map(|boot| (boot, covered.clone())).collect();
    desk.restart().unwrap();
    desk.core.learn(&desk.stream.clone(), boots);
    assert_eq!(desk.core.recv_ns(), NOW);
    for boot in 1..=20 {
        assert_eq!(desk.birth(&birth(boot)), durable("repeat"));
        let again = Frame {
            clock: ClockKind::Unknown,
            ..frame(boot, 0, 0, 1)
        };
        assert_eq!(desk.frame(&again), durable("repeat"), "the rows decide");
        let old = Frame {
            historical: true,
            clock: ClockKind::Unknown,
            ..frame(boot, 1, 0, 1)
        };
        assert_eq!(desk.frame(&old), durable("late"), "its offset is known");
        assert_eq!(desk.last().offset_ns, NOW - seconds(1));
    }
    assert_eq!(desk.asked, 20);
}
