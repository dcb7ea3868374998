//! Sessions: how long they last, their wills, and deliveries across reconnects and crashes.

use chordae_ingest::core::exchange::{
    board::Bounds,
    message::{Message, Wish},
    request::{Answer, Denied, Hello, Request, ToClient},
};

use crate::exchange_stage::{Stage, hello, lasting, message, text, will};

#[test]
fn a_session_lasts_as_long_as_it_was_asked_to() {
    for crash in [false, true] {
        let mut stage = Stage::new();
        let turn = |stage: &mut Stage, expiry, later: Option<u32>, away| {
            let (conn, present) = stage.attach(hello("e", false, expiry));
            stage.subscribe(conn, Wish::plain("t", 1)).unwrap();
            stage.detach(conn, false, later);
            if crash {
                stage.crash();
            }
            stage.pass(away);
            present
        };
        assert!(!turn(&mut stage, 0, None, 0));
        assert!(
            !turn(&mut stage, 5, None, 2),
            "0: ended with its connection"
        );
        assert!(turn(&mut stage, 5, None, 6), "5: there after 2");
        assert!(!turn(&mut stage, 1, Some(5), 3), "5: gone after 6");
        assert!(
            turn(&mut stage, 9, Some(0), 0),
            "changed to 5 by its goodbye"
        );
        assert!(!turn(&mut stage, u32::MAX, None, 1 << 32), "changed to 0");
        assert!(turn(&mut stage, 0, Some(60), 0), "never");
        assert!(!turn(&mut stage, 0, None, 0), "0 cannot be changed");
        assert_eq!(stage.board.sessions(), 0);
        stage.attach(hello("e", false, 100));
        assert!(!stage.attach(hello("e", true, 100)).1, "clean start");
    }
}

#[test]
fn a_second_connection_takes_over() {
    let mut stage = Stage::new();
    let first = stage.regular("a");
    stage.subscribe(first, Wish::plain("t", 1)).unwrap();
    let (second, present) = stage.attach(hello("a", false, u32::MAX));
    assert!(present);
    assert_eq!(stage.hears(first), [ToClient::TakenOver]);
    let other = stage.guest("b");
    stage.publish(other, message("t", "x", 1));
    assert_eq!(stage.texts(second), ["x"]);
    assert!(stage.hears(first).is_empty());
    // What the first one still says changes nothing.
    let late = stage.publish(first, message("t", "late", 1));
    assert_eq!(late, Answer::Refused(Denied::NotAttached));
    stage.lose(first);
    stage.publish(other, message("t", "y", 1));
    assert_eq!(stage.texts(second), ["y"]);
}

fn with_will(name: &str, expiry_s: u32, delay_s: u32) -> Hello {
    Hello {
        will: Some(will("w", "gone", delay_s)),
        ..hello(name, false, expiry_s)
    }
}

#[test]
fn a_will_is_published_at_the_earlier_of_its_delay_and_the_end_of_the_session() {
    // (expiry, delay, seconds until it is published)
    for (expiry, delay, after) in [
        (0, 0, 0),
        (0, 9, 0),
        (9, 0, 0),
        (9, 3, 3),
        (3, 9, 3),
        (u32::MAX, 5, 5),
    ] {
        for crash in [false, true] {
            let mut stage = Stage::new();
            let watcher = stage.regular("watcher");
            stage.subscribe(watcher, Wish::plain("w", 1)).unwrap();
            let (a, _) = stage.attach(with_will("a", expiry, delay));
            stage.lose(a);
            let watcher = match crash {
                true => {
                    stage.crash();
                    stage.regular("watcher")
                }
                false => watcher,
            };
            if after > 0 {
                stage.pass(after - 1);
                assert!(
                    stage.texts(watcher).is_empty(),
                    "{expiry} {delay}: too early"
                );
                stage.pass(1);
            }
            assert_eq!(stage.texts(watcher), ["gone"], "{expiry} {delay}");
            stage.pass(100);
            stage.crash();
            let watcher = stage.regular("watcher");
            let again = stage.gets(watcher);
            assert!(again.iter().all(|d| d.dup), "once");
            assert!(again.len() <= 1);
        }
    }
}

#[test]
fn a_will_is_cancelled_by_a_goodbye_or_a_reconnect_in_time() {
    let mut stage = Stage::new();
    let watcher = stage.regular("watcher");
    stage.subscribe(watcher, Wish::plain("w", 1)).unwrap();
    let (a, _) = stage.attach(with_will("a", 60, 0));
    stage.detach(a, false, None);
    let (a, _) = stage.attach(with_will("a", 60, 5));
    stage.lose(a);
    stage.pass(4);
    let (a, present) = stage.attach(hello("a", false, 60));
    assert!(present);
    stage.pass(10);
    assert!(stage.texts(watcher).is_empty(), "neither");
    stage.detach(a, false, None);
    let (a, _) = stage.attach(with_will("a", 60, 5));
    stage.lose(a);
    stage.attach(hello("a", true, 60));
    assert_eq!(
        stage.texts(watcher),
        ["gone"],
        "a clean start ends the session"
    );
    let (a, _) = stage.attach(with_will("a", 60, 0));
    let (_, present) = stage.attach(hello("a", false, 60));
    assert!(present);
    assert_eq!(stage.hears(a), [ToClient::TakenOver]);
    assert_eq!(
        stage.texts(watcher),
        ["gone"],
        "the first connection was lost"
    );
}

#[test]
fn a_retained_will_corrects_what_it_says_even_if_we_crash() {
    let mut stage = Stage::new();
    let retained_will = |text: &str| {
        let mut will = will("chordae/v1/d/status", text, 0);
        will.message.retain = true;
        Some(will)
    };
    let (a, _) = stage.attach(Hello {
        will: retained_will("offline"),
        ..hello("a", true, 0)
    });
    let mut online = message("chordae/v1/d/status", "online", 1);
    online.retain = true;
    stage.publish(a, online);
    assert!(stage.changed, "a status");
    stage.crash();
    let kept = stage.board.retained("chordae/v1/d/status", stage.now_ns);
    assert_eq!(kept.unwrap().message.payload, "offline");
    assert_eq!(stage.board.sessions(), 0);
}

#[test]
fn messages_wait_for_a_session_that_is_away() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    stage.subscribe(a, Wish::plain("+/+", 2)).unwrap();
    stage.detach(a, false, None);
    let b = stage.guest("b");
    for qos in [0, 1, 2, 1] {
        stage.publish(b, message("t/x", &format!("qos {qos}"), qos));
    }
    stage.crash();
    let (a, present) = stage.attach(hello("a", false, u32::MAX));
    assert!(present);
    let got = stage.gets(a);
    let got: Vec<_> = got.iter().map(|d| (text(d), d.message.qos)).collect();
    let wanted = [("qos 1", 1), ("qos 2", 2), ("qos 1", 1)];
    assert_eq!(got, wanted.map(|(t, q)| (t.to_owned(), q)), "not QoS 0");
}

#[test]
fn unfinished_deliveries_come_again_in_order_with_dup_and_their_id() {
    for crash in [false, true] {
        let mut stage = Stage::new();
        let a = stage.regular("a");
        stage.subscribe(a, Wish::plain("t", 2)).unwrap();
        for (n, qos) in [1, 2, 2, 1].into_iter().enumerate() {
            stage.publish(a, message("t", &n.to_string(), qos));
        }
        let first = stage.gets(a);
        assert!(first.iter().all(|d| !d.dup));
        // The second is received, the first is done.
        stage.ask(a, Request::Received(first[1].id, true));
        let release = ToClient::Release {
            id: first[1].id,
            known: true,
        };
        assert_eq!(stage.hears(a), std::slice::from_ref(&release));
        stage.ask(a, Request::Acked(first[0].id));
        if crash {
            stage.crash();
        } else {
            stage.lose(a);
        }
        let a = stage.regular("a");
        let again = stage.hears(a);
        assert_eq!(again[0], release, "PUBREL again");
        for (n, what) in again[1..].iter().enumerate() {
            let ToClient::Deliver(delivery) = what else {
                panic!("{what:?}");
            };
            assert!(delivery.dup);
            assert_eq!(delivery.id, first[n + 2].id);
            assert_eq!(delivery.message, first[n + 2].message);
        }
        assert_eq!(again.len(), 3);
        stage.ask(a, Request::Completed(first[1].id));
        stage.ask(a, Request::Received(first[2].id, false));
        stage.ask(a, Request::Acked(first[3].id));
        stage.lose(a);
        let a = stage.regular("a");
        assert!(stage.hears(a).is_empty(), "all done");
        assert_eq!(stage.board.queued().count, 0);
    }
}

#[test]
fn d18_the_same_packet_at_qos_2_counts_once_until_it_is_released() {
    for crash in [false, true] {
        let mut stage = Stage::new();
        let watcher = stage.regular("watcher");
        stage.subscribe(watcher, Wish::plain("t", 1)).unwrap();
        let a = stage.regular("a");
        let ok = Answer::Published { matched: true };
        assert_eq!(stage.publish_as(a, 5, message("t", "first", 2)), ok);
        let a = match crash {
            true => {
                stage.crash();
                stage.regular("a")
            }
            false => a,
        };
        assert_eq!(stage.publish_as(a, 5, message("t", "other", 2)), ok);
        assert_eq!(stage.dropped["repeat"], 1, "dropped and counted");
        let released = |known| Some(Answer::Released { known });
        assert_eq!(stage.ask(a, Request::Release(5)), released(true));
        assert!(
            stage.urgent || !crash,
            "the id is free only after the commit"
        );
        assert_eq!(stage.ask(a, Request::Release(5)), released(false), "0x92");
        let a = match crash {
            true => {
                stage.crash();
                stage.regular("a")
            }
            false => a,
        };
        assert_eq!(stage.publish_as(a, 5, message("t", "second", 2)), ok);
        let watcher = stage.regular("watcher");
        let got = stage.gets(watcher);
        let got: Vec<_> = got.iter().map(text).collect();
        assert_eq!(got, ["first", "second"]);
    }
}

#[test]
fn d20_ids_that_mean_nothing_change_nothing() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    stage.subscribe(a, Wish::plain("t", 2)).unwrap();
    stage.publish(a, message("t", "x", 2));
    let id = stage.gets(a)[0].id;
    for request in [
        Request::Acked(id),
        Request::Acked(9),
        Request::Completed(id),
        Request::Completed(9),
    ] {
        stage.ask(a, request);
    }
    assert!(stage.hears(a).is_empty());
    stage.ask(a, Request::Received(9, true));
    let unknown = ToClient::Release {
        id: 9,
        known: false,
    };
    assert_eq!(stage.hears(a), [unknown]);
    assert_eq!(stage.dropped["unknown-id"], 5);
    stage.ask(a, Request::Received(id, true));
    assert_eq!(stage.hears(a), [ToClient::Release { id, known: true }]);
}

#[test]
fn never_more_is_open_than_the_client_receives() {
    let mut stage = Stage::new();
    let (a, _) = stage.attach(Hello {
        receive_max: 2,
        ..hello("a", false, u32::MAX)
    });
    stage.subscribe(a, Wish::plain("t", 2)).unwrap();
    let b = stage.guest("b");
    for (n, qos) in [2, 1, 1, 2, 1].into_iter().enumerate() {
        stage.publish(b, message("t", &n.to_string(), qos));
    }
    stage.publish(b, message("t", "free", 0));
    let got = stage.gets(a);
    let texts: Vec<_> = got.iter().map(text).collect();
    assert_eq!(texts, ["0", "1", "free"], "QoS 0 needs no window");
    stage.ask(a, Request::Received(got[0].id, true));
    assert_eq!(
        stage.hears(a).len(),
        1,
        "the release; the window is still closed"
    );
    stage.ask(a, Request::Acked(got[1].id));
    assert!(!stage.urgent, "at QoS 1 no commit is waited for");
    assert_eq!(stage.texts(a), ["2"]);
    stage.ask(a, Request::Completed(got[0].id));
    assert!(
        stage.urgent,
        "at QoS 2 the id is committed before it goes out"
    );
    assert_eq!(stage.texts(a), ["3"]);
    stage.lose(a);
    let (a, _) = stage.attach(Hello {
        receive_max: 1,
        ..hello("a", false, u32::MAX)
    });
    let again = stage.gets(a);
    assert_eq!(
        again.len(),
        1,
        "a smaller window holds for what comes again, too"
    );
    stage.ask(a, Request::Acked(again[0].id));
    let rest = stage.gets(a);
    assert_eq!(text(&rest[0]), "3");
    assert!(rest[0].dup);
}

#[test]
fn d29_a_client_that_reads_nothing_is_bounded_and_told_to_go() {
    let bounds = Bounds {
        queue: 10,
        ..Bounds::default()
    };
    let mut stage = Stage::with(bounds);
    stage.room = 4;
    let a = stage.regular("a");
    stage.subscribe(a, Wish::plain("t", 1)).unwrap();
    let b = stage.guest("b");
    let ok = Answer::Published { matched: true };
    for n in 0..9 {
        assert_eq!(stage.publish(b, message("t", &n.to_string(), n % 2)), ok);
    }
    assert_eq!(stage.gets(a).len(), 4, "as many as fit");
    assert_eq!(stage.dropped["channel-full"], 3, "QoS 0: now or never");
    stage.make_room(a, 4);
    assert_eq!(
        stage.texts(a),
        ["5", "7"],
        "QoS 1 waited: here 1, 3 went before"
    );
    for n in 10..30 {
        assert_eq!(
            stage.publish(b, message("t", &n.to_string(), 1)),
            ok,
            "others go on"
        );
    }
    let heard = stage.hears(a);
    assert_eq!(
        heard.len(),
        3,
        "the room, then the word to go, then nothing"
    );
    assert_eq!(heard[2], ToClient::Cut(Denied::Quota));
    assert_eq!(
        stage.board.queued().count,
        6 + 10,
        "in flight, and the queue"
    );
    assert_eq!(stage.dropped["queue-full"], 8);
    stage.lose(a);
    stage.room = 100;
    let a = stage.regular("a");
    let texts = stage.texts(a);
    assert_eq!(texts[..4], ["1", "3", "5", "7"]);
    assert_eq!(
        texts[6..],
        (20..30).map(|n| n.to_string()).collect::<Vec<_>>(),
        "the oldest went"
    );
}

#[test]
fn bytes_are_bounded_per_session_and_over_all() {
    let payload = "x".repeat(1000);
    let bounds = Bounds {
        queue_bytes: 5_000,
        queued_bytes: 8_000,
        ..Bounds::default()
    };
    let mut stage = Stage::with(bounds);
    for name in ["a", "b"] {
        let conn = stage.regular(name);
        stage
            .subscribe(conn, Wish::plain(format!("{name}/#"), 1))
            .unwrap();
        stage.lose(conn);
    }
    let c = stage.guest("c");
    let ok = Answer::Published { matched: true };
    for _ in 0..10 {
        assert_eq!(
            stage.publish(c, message("a/t", &payload, 1)),
            ok,
            "the oldest goes"
        );
    }
    assert_eq!(stage.board.queued().count, 4);
    for _ in 0..3 {
        assert_eq!(stage.publish(c, message("b/t", &payload, 1)), ok);
    }
    let full = Answer::Refused(Denied::Quota);
    assert_eq!(
        stage.publish(c, message("b/t", &payload, 1)),
        full,
        "the publisher is told"
    );
    assert_eq!(
        stage.publish(c, message("b/t", &payload, 0)),
        ok,
        "QoS 0 waits nowhere"
    );
    assert_eq!(stage.board.queued().count, 7, "nothing of it is kept");
    let a = stage.regular("a");
    let got = stage.gets(a);
    assert_eq!(got.len(), 4);
    for delivery in got {
        stage.ask(a, Request::Acked(delivery.id));
    }
    assert_eq!(
        stage.publish(c, message("b/t", &payload, 1)),
        ok,
        "there is room again"
    );
}

#[test]
fn sessions_are_bounded() {
    let bounds = Bounds {
        sessions: 2,
        ..Bounds::default()
    };
    let mut stage = Stage::with(bounds);
    stage.regular("a");
    let b = stage.guest("b");
    let request = Request::Attach(hello("c", false, 1));
    let conn = chordae_ingest::core::arrival::ConnId(900);
    assert_eq!(
        stage.ask(conn, request),
        Some(Answer::Refused(Denied::Quota))
    );
    stage.regular("a");
    stage.lose(b);
    stage.regular("c");
}

#[test]
fn an_expired_delivery_is_not_begun_again_unless_the_client_may_remember_it() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    stage.subscribe(a, Wish::plain("t", 2)).unwrap();
    for qos in [1, 2] {
        let m: Message = lasting(5, message("t", &qos.to_string(), qos));
        stage.publish(a, m);
    }
    assert_eq!(stage.gets(a).len(), 2);
    stage.lose(a);
    stage.pass(9);
    let a = stage.regular("a");
    let got = stage.gets(a);
    assert_eq!(got.len(), 1);
    assert_eq!(
        (text(&got[0]), got[0].message.properties.expiry_s),
        ("2".into(), Some(0))
    );
}

#[test]
fn a_snapshot_may_be_folded_over_what_it_describes() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    stage.subscribe(a, Wish::plain("t/#", 2)).unwrap();
    stage.subscribe(a, Wish::plain("$share/g/u", 1)).unwrap();
    let (c, _) = stage.attach(with_will("c", 50, 20));
    stage.publish_as(c, 3, message("t/1", "x", 2));
    stage.publish(c, message("t/1", "y", 1));
    let id = stage.gets(a)[0].id;
    stage.ask(a, Request::Received(id, true));
    stage.lose(a);
    let mut kept = message("t/2", "kept", 1);
    kept.retain = true;
    stage.publish(c, kept);
    let before = stage.board.snapshot();
    let whole = stage.journal.clone();
    // Torn after every entry of the snapshot, and whole, twice.
    for upto in 0..=before.len() * 2 {
        stage.journal = whole.clone();
        for entry in before.iter().chain(&before).take(upto) {
            let entry = chordae_ingest::core::exchange::codec::encode(entry);
            stage.journal.push(entry);
        }
        stage.take(chordae_ingest::core::exchange::effects::Effects::default());
    }
    stage.journal.drain(..whole.len());
    stage.take(chordae_ingest::core::exchange::effects::Effects::default());
}
