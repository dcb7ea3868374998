//! Every rule of formats.md 2 that ingest keeps, one by one, on the bare core.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{
    Outcome, RangeSet, StreamKey, limits,
    record::{FrameRecord, Place, WalRecord},
    wire::{Birth, ClockKind, Frame},
};
use chordae_ingest::core::{
    arrival::{ConnId, Content, Offer, Refusal, Verdict},
    clock::{ClockMap, SYNCED, Setting},
    decode::{Shape, decode},
    judge::{Answers, Effect, Step},
    park::Body,
    quarantined::Quarantined,
    state::Core,
    steady::Now,
};

use crate::support::{birth, content, frame, key, seconds};

pub(crate) const NOW: i64 = 1_700_000_000_000_000_000;

/// Both clocks agree.
fn at(now: i64) -> Now {
    Now {
        ours_ns: now,
        wall_ns: now,
    }
}

/// The service without threads and disks: effects are carried out on two vectors.
pub(crate) struct Desk {
    pub(crate) core: Core,
    pub(crate) log: Vec<WalRecord>,
    pub(crate) aside: Vec<(Quarantined, Bytes)>,
    pub(crate) now: i64,
    pub(crate) room: bool,
    pub(crate) same_rows: Option<bool>,
    pub(crate) asked: usize,
    pub(crate) stream: StreamKey,
    /// Positions before this are trimmed.
    pub(crate) start: usize,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            core: Core::new(limits::PAST_NS_MAX),
            log: Vec::new(),
            aside: Vec::new(),
            now: NOW,
            room: true,
            same_rows: Some(true),
            asked: 0,
            stream: key("bed-7/ecg"),
            start: 0,
        }
    }

    /// Gives verdict and outcome label.
    pub(crate) fn offer_as(
        &mut self,
        conn: u64,
        can_be_told: bool,
        content: Content,
    ) -> (Verdict, &'static str) {
        let (stream, now) = (self.stream.clone(), at(self.now));
        let offer = Offer {
            stream,
            content,
            now,
            conn: ConnId(conn),
            can_be_told,
        };
        let mut answers = Answers {
            room: self.room,
            ..Answers::default()
        };
        let (effects, label) = loop {
            match self.core.step(&offer, answers) {
                Step::Done(effects, label) => break (effects, label),
                Step::OpenStream => answers.opened = true,
                Step::AskHistory { .. } => {
                    self.asked += 1;
                    answers.same_rows = Some(self.same_rows);
                }
            }
        };
        let mut told = self.perform(effects);
        assert_eq!(told.len(), 1, "exactly one verdict per arrival");
        (told.remove(0), label)
    }

    pub(crate) fn offer(&mut self, content: Content) -> (Verdict, &'static str) {
        self.offer_as(1, true, content)
    }

    pub(crate) fn frame(&mut self, frame: &Frame) -> (Verdict, &'static str) {
        self.offer(content(frame))
    }

    pub(crate) fn birth(&mut self, birth: &Birth) -> (Verdict, &'static str) {
        self.offer(Content::Birth(birth.clone()))
    }

    pub(crate) fn tick(&mut self, now: i64) {
        self.now = now;
        let effects = self.core.tick(at(now));
        assert!(self.perform(effects).is_empty(), "a tick tells nobody");
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Vec<Verdict> {
        let mut told = Vec::new();
        let (mut fresh, mut fresh_aside) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Append(WalRecord::Frame(f), Some(body)) => {
                    let payload = self.payload(body);
                    fresh.push(WalRecord::Frame(FrameRecord { payload, ..f }));
                }
                Effect::Append(record, _) => fresh.push(record),
                Effect::Quarantine(q, body) => {
                    let payload = self.payload(body);
                    fresh_aside.push((q, payload));
                }
                Effect::Tell(verdict) => told.push(verdict),
                Effect::Live(_) | Effect::Gap(_) => {}
            }
        }
        for (q, payload) in fresh_aside {
            self.core.moved(&q, self.aside.len() as u64);
            self.aside.push((q, payload));
        }
        for record in fresh {
            self.core.located(&record, self.log.len() as u64);
            self.log.push(record);
        }
        told
    }

    fn payload(&self, body: Body) -> Bytes {
        match body {
            Body::Here(payload) => payload,
            Body::Wal(at) => match &self.log[usize::try_from(at).unwrap()] {
                WalRecord::Frame(f) => f.payload.clone(),
                other => panic!("no frame: {other:?}"),
            },
            Body::Quarantine(at) => self.aside[usize::try_from(at).unwrap()].1.clone(),
        }
    }

    /// What a restart finds.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        let mut core = Core::new(limits::PAST_NS_MAX);
        for (at, (q, _)) in self.aside.iter().enumerate() {
            core.fold_quarantined(at as u64, q);
        }
        for (at, record) in self.log.iter().enumerate().skip(self.start) {
            core.fold(at as u64, record)?;
        }
        core.recovered();
        self.core = core;
        Ok(())
    }

    pub(crate) fn frames(&self) -> Vec<&FrameRecord> {
        let frames = self.log.iter().filter_map(|r| match r {
            WalRecord::Frame(f) => Some(f),
            _ => None,
        });
        frames.collect()
    }

    fn last(&self) -> &FrameRecord {
        self.frames().last().expect("no frame in the log")
    }
}

fn durable(label: &'static str) -> (Verdict, &'static str) {
    (Verdict::Durable, label)
}

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
    // Its frames of that boot go to quarantine, acknowledged; another connection's do not.
    assert_eq!(desk.frame(&frame(1, 0, NOW, 5)), durable("quarantined"));
    assert_eq!(desk.aside.last().unwrap().0.reason, "boot-reused");
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
fn outside_the_window_is_quarantine_old_is_late() {
    let past = limits::PAST_NS_MAX;
    let cases = [
        (NOW - seconds(1), "live"),
        (NOW + limits::FUTURE_NS_MAX - seconds(1), "live"),
        (NOW + limits::FUTURE_NS_MAX - seconds(1) + 1, "future"),
        (NOW - limits::LIVE_AGE_NS_MAX - seconds(1), "live"),
        (NOW - limits::LIVE_AGE_NS_MAX - seconds(1) - 1, "late"),
        (NOW - past, "late"),
        (NOW - past - 1, "past"),
        (i64::MAX, "time-overflow"),
        (i64::MIN, "past"),
        (0, "past"),
    ];
    for (t0, want) in cases {
        let mut desk = Desk::new();
        desk.birth(&birth(1));
        let (verdict, label) = desk.frame(&frame(1, 0, t0, 1));
        assert_eq!(
            verdict,
            Verdict::Durable,
            "{t0}: acknowledged whatever it is"
        );
        match desk.aside.last() {
            None => assert_eq!(label, want, "{t0}"),
            Some((q, payload)) => {
                assert_eq!((q.reason.as_str(), label), (want, "quarantined"), "{t0}");
                assert_eq!(*payload, Bytes::from(frame(1, 0, t0, 1).encode()));
                assert!(matches!(desk.log.last(), Some(WalRecord::Settled(_))));
                assert_eq!(desk.frame(&frame(1, 0, t0, 1)), durable("repeat"));
                desk.restart().unwrap();
                assert_eq!(desk.frame(&frame(1, 0, t0, 1)), durable("repeat"));
                assert_eq!(desk.frame(&frame(1, 0, t0, 2)).1, "conflict");
            }
        }
    }
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let historical = Frame {
        historical: true,
        ..frame(1, 0, NOW - seconds(2), 1)
    };
    assert_eq!(desk.frame(&historical), durable("late"));
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
fn offsets_follow_the_first_live_frame_and_change_by_the_rules() {
    let free = ClockKind::FreeRunning;
    let unknown = ClockKind::Unknown;
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let send = |desk: &mut Desk, seq: u64, t0: i64, clock: ClockKind, historical: bool| {
        let sent = Frame {
            clock,
            historical,
            ..frame(1, seq, t0, 1)
        };
        let (verdict, _) = desk.frame(&sent);
        assert_eq!(verdict, Verdict::Durable);
        let last = desk.last();
        (last.seq, last.offset_ns, last.place)
    };
    // A device that counts from its start: the end of its first live frame is now.
    let start = NOW - seconds(1);
    assert_eq!(
        send(&mut desk, 5, 0, unknown, false),
        (5, start, Place::Live)
    );
    desk.now += seconds(1);
    assert_eq!(
        send(&mut desk, 6, seconds(1), unknown, false),
        (6, start, Place::Live)
    );
    // Earlier seqs use the first.
    assert_eq!(
        send(&mut desk, 4, -seconds(1), unknown, true),
        (4, start, Place::Late)
    );
    // Two seconds ahead of its receipt is the limit; beyond, the offset is set anew.
    let (_, offset, _) = send(&mut desk, 7, seconds(3), unknown, false);
    assert_eq!(offset, start);
    let (_, offset, _) = send(&mut desk, 8, seconds(3) + 1, unknown, false);
    assert_eq!(offset, desk.now - seconds(4) - 1);
    // It holds from the seq that set it: 7 and before keep the first.
    assert_eq!(send(&mut desk, 3, -seconds(2), unknown, true).1, start);
    // Synced: claimed times are used; freed from that: still right.
    let now = desk.now;
    assert_eq!(
        send(&mut desk, 9, now, ClockKind::Synced, false),
        (9, 0, Place::Live)
    );
    assert_eq!(
        send(&mut desk, 10, now + seconds(1), free, false),
        (10, 0, Place::Live)
    );
    // A change between the other two kinds is measured anew.
    assert_eq!(send(&mut desk, 11, 0, unknown, false).1, now - seconds(1));
}

#[test]
fn a_clock_map_is_found_again_from_its_records() {
    let mut map = ClockMap::default();
    let mut again = ClockMap::default();
    let kinds = [
        ClockKind::Unknown,
        ClockKind::Unknown,
        ClockKind::Synced,
        ClockKind::FreeRunning,
    ];
    for (n, clock) in kinds.into_iter().cycle().take(40).enumerate() {
        let seq = (n as u64 * 7) % 40;
        let end = n as i64 * 3 * 1_000_000_000;
        let used = map.live(seq, clock, end, end / 2).unwrap();
        map.fold(seq, used, true);
        again.fold(seq, used, true);
        assert_eq!(map, again);
    }
    assert_eq!(
        ClockMap::default().live(0, ClockKind::Synced, 0, 0),
        Some(SYNCED)
    );
    let far = ClockMap::default().live(0, ClockKind::Unknown, i64::MAX, i64::MIN);
    assert_eq!(far, None, "an offset that does not fit");
    let mut map = ClockMap::default();
    assert_eq!(map.historical(0, ClockKind::Unknown), None);
    map.fold(
        9,
        Setting {
            offset_ns: 5,
            clock: ClockKind::Unknown,
        },
        false,
    );
    assert_eq!(map.historical(0, ClockKind::Unknown).unwrap().offset_ns, 5);
}

#[test]
fn historical_frames_wait_for_an_offset_a_minute_at_most() {
    let old = |seq, t0| Frame {
        historical: true,
        clock: ClockKind::FreeRunning,
        ..frame(1, seq, t0, 1)
    };
    // A live frame comes in time: it sets the offset for those that waited.
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    assert_eq!(desk.frame(&old(0, 0)), durable("parked-no-offset"));
    let live = Frame {
        clock: ClockKind::FreeRunning,
        ..frame(1, 1, seconds(1), 1)
    };
    assert_eq!(desk.frame(&live), durable("live"));
    let placed: Vec<_> = desk.frames()[1..]
        .iter()
        .map(|f| (f.seq, f.offset_ns))
        .collect();
    let offset = NOW - seconds(2);
    assert_eq!(placed, [(1, offset), (0, offset)]);

    // None comes: after a minute the newest of them does, and its record is written first.
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    desk.frame(&old(3, seconds(3)));
    desk.frame(&old(2, seconds(2)));
    desk.tick(NOW + limits::HISTORICAL_WAIT_NS - 1);
    assert_eq!(desk.frames().len(), 2);
    desk.tick(NOW + limits::HISTORICAL_WAIT_NS);
    let placed: Vec<_> = desk.frames()[2..]
        .iter()
        .map(|f| (f.seq, f.offset_ns, f.place))
        .collect();
    let offset = NOW - seconds(4);
    assert_eq!(placed, [(3, offset, Place::Late), (2, offset, Place::Late)]);
    // The log alone says so too.
    desk.restart().unwrap();
    assert_eq!(desk.frame(&old(1, seconds(1))), durable("late"));
    assert_eq!(desk.last().offset_ns, offset);
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

#[test]
fn after_a_wild_wall_clock_samples_are_compared_with_the_right_one_again() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    // The log has seen a day in ten years; the wall clock is right again.
    let ours_ns = NOW + seconds(10 * 365 * 86_400);
    let offer = |seq, clock| Offer {
        stream: key("bed-7/ecg"),
        content: content(&Frame {
            clock,
            ..frame(1, seq, NOW - seconds(1), 1)
        }),
        now: Now {
            ours_ns,
            wall_ns: NOW,
        },
        conn: ConnId(1),
        can_be_told: true,
    };
    for (seq, clock) in [(0, ClockKind::Synced), (1, ClockKind::Unknown)] {
        let answers = Answers {
            room: true,
            ..Answers::default()
        };
        let Step::Done(effects, label) = desk.core.step(&offer(seq, clock), answers) else {
            panic!("asked for something")
        };
        assert_eq!(label, "live");
        let record = effects.into_iter().find_map(|e| match e {
            Effect::Append(WalRecord::Frame(f), _) => Some(f),
            _ => None,
        });
        let record = record.unwrap();
        assert_eq!(
            (record.recv_ns, record.offset_ns),
            (ours_ns, 0),
            "the log does not go back"
        );
    }
}
