//! Rules of formats.md 2 about time: the window, offsets and clock maps, and who waits for them.

use bytes::Bytes;
use chordae_base::{
    limits,
    record::{Place, WalRecord},
    wire::{ClockKind, Frame},
};
use chordae_ingest::core::{
    arrival::{ConnId, Offer, Verdict},
    clock::{ClockMap, SYNCED, Setting},
    judge::{Answers, Effect, Step},
    steady::Now,
};

use crate::{
    desk::{Desk, NOW, durable},
    support::{birth, content, frame, key, seconds},
};

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
        arrived_ns: NOW,
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

/// formats.md 2: a gateway's receive time serves the clock offset, and nothing else.
#[test]
fn a_gateways_receive_time_is_what_a_clock_is_compared_with() {
    let unknown = |seq: u64| Frame {
        clock: ClockKind::Unknown,
        ..frame(1, seq, seconds(i64::try_from(seq).unwrap()), 1)
    };
    let hour = seconds(3600);
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    // Spooled for an hour: its samples lie an hour back, its record and our timers do not.
    desk.relayed = Some(NOW - hour);
    assert_eq!(desk.frame(&unknown(0)), durable("late"));
    let last = desk.last();
    assert_eq!(
        (last.offset_ns, last.recv_ns),
        (NOW - hour - seconds(1), NOW)
    );
    // Synced: it says its own time.
    assert_eq!(
        desk.frame(&frame(1, 1, NOW - seconds(2), 1)),
        durable("live")
    );
    // The negative control: received by ourselves, the same frame of another boot is of now.
    desk.relayed = None;
    desk.birth(&birth(2));
    let direct = Frame {
        boot: 2,
        ..unknown(0)
    };
    assert_eq!(desk.frame(&direct), durable("live"));
    assert_eq!(desk.last().offset_ns, NOW - seconds(1));
    // A gateway that is ahead of us is not believed.
    desk.birth(&birth(3));
    desk.relayed = Some(NOW + hour);
    let ahead = Frame {
        boot: 3,
        ..unknown(0)
    };
    assert_eq!(desk.frame(&ahead), durable("live"));
    assert_eq!(desk.last().offset_ns, NOW - seconds(1));
    // One that has lost its clock maps its frames out of the window: kept aside, with the reason.
    for (boot, relayed) in [(4, 0), (5, i64::MIN)] {
        desk.birth(&birth(boot));
        desk.relayed = Some(relayed);
        let lost = Frame { boot, ..unknown(0) };
        assert_eq!(desk.frame(&lost), durable("quarantined"));
    }
    let reasons: Vec<_> = desk.aside.iter().map(|(q, _)| q.reason.as_str()).collect();
    assert_eq!(reasons, ["past", "time-overflow"]);
}

#[test]
fn a_gateways_receive_time_outlives_waiting_and_restarts() {
    let unknown = Frame {
        clock: ClockKind::Unknown,
        ..frame(1, 0, 0, 1)
    };
    // In the log, in the log across a restart, in quarantine, there across a restart.
    for (minutes, restarts) in [(0, false), (0, true), (11, false), (11, true)] {
        let mut desk = Desk::new();
        desk.relayed = Some(NOW - seconds(600));
        assert_eq!(desk.frame(&unknown), durable("parked-no-birth"));
        desk.tick(NOW + seconds(60 * minutes));
        assert_eq!(desk.aside.len(), usize::from(minutes > 0));
        if restarts {
            desk.restart().unwrap();
        }
        desk.birth(&birth(1));
        let last = desk.last();
        assert_eq!(
            (last.place, last.offset_ns),
            (Place::Late, NOW - seconds(601)),
            "{minutes} minutes, restarted: {restarts}"
        );
    }
}
