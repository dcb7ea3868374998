//! Who gets a message: subscriptions, their options, retained messages, shared subscriptions, bounds.

use bytes::Bytes;
use chordae_ingest::core::exchange::{
    board::Bounds,
    message::{Message, Properties, Wish},
    request::{Answer, Denied, Request},
};

use crate::exchange_stage::{Stage, lasting, message, retained, text};

#[test]
fn overlapping_subscriptions_give_one_delivery_with_the_highest_qos_and_all_identifiers() {
    let mut stage = Stage::new();
    let (a, b) = (stage.guest("a"), stage.guest("b"));
    for (filter, qos, identifier) in [("t/#", 2, Some(3)), ("#", 1, None), ("t/+", 0, Some(9))] {
        let wish = Wish {
            identifier,
            ..Wish::plain(filter, qos)
        };
        assert_eq!(stage.subscribe(a, wish), Ok(qos));
    }
    let answer = stage.publish(b, message("t/x", "one", 2));
    assert_eq!(answer, Answer::Published { matched: true });
    let got = stage.gets(a);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].message.qos, 2);
    let mut identifiers = got[0].identifiers.clone();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [3, 9]);
    let answer = stage.publish(b, message("other", "x", 1));
    assert_eq!(answer, Answer::Published { matched: true }, "by #");
    stage.unsubscribe(a, "#");
    let answer = stage.publish(b, message("other", "x", 1));
    assert_eq!(answer, Answer::Published { matched: false });
}

#[test]
fn effective_qos_is_the_lower_of_both_and_properties_are_passed_on() {
    let mut stage = Stage::new();
    let a = stage.guest("a");
    stage.subscribe(a, Wish::plain("t", 1)).unwrap();
    let properties = Properties {
        payload_format: Some(1),
        expiry_s: None,
        content_type: Some("text".into()),
        response_topic: Some("back".into()),
        correlation: Some(Bytes::from_static(b"334")),
        user: vec![("a".into(), "2".into()), ("a".into(), "1".into())],
    };
    for qos in 0..=2 {
        let message = Message {
            properties: properties.clone(),
            ..message("t", "x", qos)
        };
        stage.publish(a, message);
    }
    let got = stage.gets(a);
    let qos: Vec<_> = got.iter().map(|d| d.message.qos).collect();
    assert_eq!(qos, [0, 1, 1]);
    for delivery in got {
        assert_eq!(delivery.message.properties, properties);
        assert_eq!(delivery.id == 0, delivery.message.qos == 0);
    }
}

#[test]
fn no_local_keeps_ones_own_messages_away() {
    let mut stage = Stage::new();
    let (a, b) = (stage.guest("a"), stage.guest("b"));
    for conn in [a, b] {
        let wish = Wish {
            no_local: true,
            ..Wish::plain("t", 2)
        };
        stage.subscribe(conn, wish).unwrap();
    }
    stage.publish(a, message("t", "from a", 1));
    assert_eq!(stage.texts(a), [""; 0]);
    assert_eq!(stage.texts(b), ["from a"]);
}

#[test]
fn the_retain_flag_is_cleared_unless_it_is_asked_for_as_published() {
    let mut stage = Stage::new();
    let (a, b) = (stage.guest("a"), stage.guest("b"));
    stage.subscribe(a, Wish::plain("t", 1)).unwrap();
    let wish = Wish {
        retain_as_published: true,
        ..Wish::plain("t", 1)
    };
    stage.subscribe(b, wish).unwrap();
    stage.publish(a, message("t", "plain", 1));
    stage.publish(a, retained("t", "kept", 1));
    let flags = |got: Vec<chordae_ingest::core::exchange::message::Delivery>| -> Vec<bool> {
        got.iter().map(|d| d.message.retain).collect()
    };
    assert_eq!(flags(stage.gets(a)), [false, false]);
    assert_eq!(flags(stage.gets(b)), [false, true]);
}

#[test]
fn retained_messages_come_with_a_subscription_as_its_handling_says() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    for (topic, qos) in [("T/a", 0), ("T/b", 1), ("T/c", 2), ("other", 1)] {
        stage.publish(a, retained(topic, topic, qos));
    }
    let wish = |filter: &str, retain_handling| Wish {
        retain_handling,
        ..Wish::plain(filter, 2)
    };
    let comes = |stage: &mut Stage, filter: &str, handling| {
        stage.subscribe(a, wish(filter, handling)).unwrap();
        let got = stage.gets(a);
        assert!(got.iter().all(|d| d.message.retain), "flag set");
        let mut got: Vec<_> = got.iter().map(|d| (text(d), d.message.qos)).collect();
        got.sort();
        got
    };
    let all = [("T/a", 0), ("T/b", 1), ("T/c", 2)].map(|(t, q)| (t.to_owned(), q));
    assert_eq!(comes(&mut stage, "+/+", 1), all, "1: new");
    assert_eq!(comes(&mut stage, "+/+", 1), [], "1: not new");
    assert_eq!(comes(&mut stage, "+/+", 0), all, "0: always");
    assert!(stage.unsubscribe(a, "+/+"));
    assert!(!stage.unsubscribe(a, "+/+"));
    assert_eq!(comes(&mut stage, "+/+", 2), [], "2: never");
    assert_eq!(comes(&mut stage, "T/#", 0), all, "T/# takes T and below");
    assert_eq!(comes(&mut stage, "other", 0).len(), 1);
    assert_eq!(comes(&mut stage, "oth", 0), []);
}

#[test]
fn d23_an_empty_payload_removes_only_with_the_retain_flag() {
    let mut stage = Stage::new();
    let a = stage.guest("a");
    stage.publish(a, retained("t", "kept", 1));
    stage.publish(a, message("t", "", 1));
    assert!(stage.board.retained("t", stage.now_ns).is_some());
    stage.crash();
    assert!(stage.board.retained("t", stage.now_ns).is_some());
    let a = stage.guest("a");
    stage.subscribe(a, Wish::plain("t", 0)).unwrap();
    assert_eq!(stage.texts(a), ["kept"]);
    stage.publish(a, retained("t", "", 1));
    assert_eq!(stage.texts(a), [""], "passed on as any other");
    stage.crash();
    assert!(stage.board.retained("t", stage.now_ns).is_none());
}

#[test]
fn topics_that_begin_with_a_dollar_are_not_taken_by_leading_wildcards() {
    let mut stage = Stage::new();
    let a = stage.guest("a");
    for filter in ["#", "+/b"] {
        stage.subscribe(a, Wish::plain(filter, 1)).unwrap();
    }
    stage.publish(a, retained("$a/b", "x", 1));
    assert_eq!(stage.texts(a), [""; 0]);
    stage.subscribe(a, Wish::plain("+/+", 1)).unwrap();
    assert_eq!(stage.texts(a), [""; 0], "retained neither");
    stage.subscribe(a, Wish::plain("$a/#", 1)).unwrap();
    assert_eq!(stage.texts(a), ["x"]);
}

#[test]
fn shared_subscriptions_give_each_message_to_one_member_in_turn() {
    let mut stage = Stage::new();
    let (a, b) = (stage.regular("a"), stage.regular("b"));
    let whole = stage.guest("whole");
    stage.publish(whole, retained("t", "old", 1));
    for conn in [a, b] {
        let shared = Wish::plain("$share/g/t", 2);
        assert_eq!(stage.subscribe(conn, shared), Ok(2));
    }
    assert!(stage.gets(a).is_empty(), "no retained messages");
    stage.subscribe(whole, Wish::plain("t", 0)).unwrap();
    stage.gets(whole);
    for n in 0..4 {
        stage.publish(whole, message("t", &n.to_string(), 1));
    }
    let (to_a, to_b) = (stage.texts(a), stage.texts(b));
    assert_eq!((to_a.len(), to_b.len()), (2, 2));
    assert_eq!(stage.texts(whole).len(), 4, "others get all");
    // A member without connection gets nothing while another is there; if none is, it is kept for one.
    stage.lose(a);
    stage.publish(whole, message("t", "to b", 1));
    assert_eq!(stage.texts(b), ["to b"]);
    stage.lose(b);
    stage.publish(whole, message("t", "for somebody", 1));
    stage.crash();
    let (a, b) = (stage.regular("a"), stage.regular("b"));
    let again = [stage.texts(a), stage.texts(b)].concat();
    let kept = again.iter().filter(|t| *t == "for somebody").count();
    assert_eq!(kept, 1);
    let selfish = Wish {
        no_local: true,
        ..Wish::plain("$share/g/t", 1)
    };
    assert_eq!(stage.subscribe(a, selfish), Err(Denied::Invalid));
}

#[test]
fn d25_subscriptions_are_bounded_in_number_depth_and_length() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    let deep = |levels: usize| vec!["x"; levels].join("/");
    assert_eq!(stage.subscribe(a, Wish::plain(deep(16), 0)), Ok(0));
    for bad in [deep(17), deep(1000), format!("$share/g/{}", deep(17))] {
        assert_eq!(
            stage.subscribe(a, Wish::plain(bad, 0)),
            Err(Denied::TooDeep)
        );
    }
    let long = "x".repeat(65_535);
    assert_eq!(
        stage.subscribe(a, Wish::plain(long, 0)),
        Err(Denied::Invalid)
    );
    assert_eq!(
        stage.publish(a, message(&deep(1000), "", 1)),
        Answer::Refused(Denied::TooDeep)
    );
    let wishes = (0..10_000)
        .map(|n| Wish::plain(format!("f/{n}"), 1))
        .collect();
    let Some(Answer::Subscribed(verdicts)) = stage.ask(a, Request::Subscribe(wishes)) else {
        panic!("an answer for each");
    };
    assert_eq!(verdicts.iter().filter(|v| v.is_ok()).count(), 63);
    assert_eq!(verdicts[63], Err(Denied::Quota));
    let again = Wish::plain("f/1", 2);
    assert_eq!(stage.subscribe(a, again), Ok(2), "a change needs no room");
    assert!(stage.unsubscribe(a, "f/1"));
    assert_eq!(stage.subscribe(a, Wish::plain("f/new", 0)), Ok(0));
}

#[test]
fn d24_retained_messages_are_bounded_per_device_and_in_all() {
    let bounds = Bounds {
        retained_owner: 3,
        retained_owner_bytes: 10_000,
        retained: 5,
        ..Bounds::default()
    };
    let mut stage = Stage::with(bounds);
    let (a, b) = (stage.guest("a"), stage.guest("b"));
    let of = |device: &str, n: u32| retained(&format!("chordae/v1/{device}/s{n}/birth"), "b", 1);
    let ok = Answer::Published { matched: false };
    let full = Answer::Refused(Denied::Quota);
    for n in 0..3 {
        assert_eq!(stage.publish(a, of("d1", n)), ok);
    }
    assert_eq!(stage.publish(a, of("d1", 3)), full, "of the device");
    assert_eq!(stage.publish(b, of("d1", 4)), full, "whoever publishes");
    assert_eq!(
        stage.publish(a, of("d1", 2)),
        ok,
        "another for its own topic"
    );
    assert_eq!(stage.publish(b, of("d2", 0)), ok, "another device");
    assert_eq!(
        stage.publish(b, retained("any", "x", 1)),
        ok,
        "by publisher"
    );
    assert_eq!(stage.publish(b, retained("more", "x", 1)), full, "in all");
    stage.crash();
    let a = stage.guest("a");
    assert_eq!(
        stage.publish(a, of("d1", 3)),
        full,
        "a restart forgets none"
    );
    let gone = Message {
        payload: Bytes::new(),
        ..of("d1", 0)
    };
    assert_eq!(stage.publish(a, gone), ok);
    let big = "x".repeat(10_000);
    let big = retained("chordae/v1/d1/s0/birth", &big, 1);
    assert_eq!(stage.publish(a, big), full, "bytes of the device");
    assert_eq!(stage.publish(a, of("d1", 3)), ok);
}

#[test]
fn retained_messages_of_qos_0_wait_for_room_and_none_is_lost() {
    let mut stage = Stage::new();
    let a = stage.guest("a");
    for n in 0..50 {
        stage.publish(a, retained(&format!("t/{n}/status"), &n.to_string(), n % 2));
    }
    stage.room = 7;
    let b = stage.guest("b");
    let wish = Wish::plain("t/+/status", 0);
    stage.subscribe(b, wish).unwrap();
    let mut got = Vec::new();
    for _ in 0..10 {
        let some = stage.texts(b);
        assert!(some.len() <= 7, "never more than fits");
        got.extend(some);
        stage.make_room(b, 7);
    }
    assert_eq!(got.len(), 50);
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 50);
    assert!(stage.dropped.is_empty());
}

#[test]
fn messages_expire_and_say_how_long_they_last() {
    let mut stage = Stage::new();
    let a = stage.regular("a");
    stage.subscribe(a, Wish::plain("t", 2)).unwrap();
    stage.lose(a);
    let b = stage.guest("b");
    for (name, qos, expiry) in [("x1", 1, 1), ("x2", 2, 1), ("k1", 1, 6), ("k2", 2, 6)] {
        stage.publish(b, lasting(expiry, message("t", name, qos)));
    }
    stage.publish(b, lasting(2, retained("r", "short", 1)));
    stage.publish(b, lasting(60, retained("s", "long", 1)));
    stage.pass(3);
    stage.crash();
    let a = stage.regular("a");
    let got = stage.gets(a);
    let got: Vec<_> = got
        .iter()
        .map(|d| (text(d), d.message.properties.expiry_s))
        .collect();
    assert_eq!(got, [("k1".into(), Some(3)), ("k2".into(), Some(3))]);
    assert_eq!(stage.dropped["expired"], 2, "and counted");
    stage.subscribe(a, Wish::plain("r", 1)).unwrap();
    stage.subscribe(a, Wish::plain("s", 1)).unwrap();
    let got = stage.gets(a);
    assert_eq!(got.len(), 1, "the other is over");
    assert_eq!(got[0].message.properties.expiry_s, Some(57));
    assert_eq!(stage.board.retained_load().count, 1, "and gone");
}

#[test]
fn what_nobody_keeps_costs_no_sync() {
    let mut stage = Stage::new();
    let (a, b) = (stage.guest("a"), stage.guest("b"));
    stage.subscribe(a, Wish::plain("t", 2)).unwrap();
    let quiet = |stage: &mut Stage, m: Message| {
        stage.publish(b, m);
        (stage.urgent, stage.journal.is_empty())
    };
    assert_eq!(quiet(&mut stage, message("t", "x", 0)), (false, true));
    assert_eq!(quiet(&mut stage, message("t", "x", 1)), (false, true));
    assert_eq!(quiet(&mut stage, message("t", "x", 2)), (false, true));
    assert_eq!(stage.texts(a).len(), 3);
    let (urgent, empty) = quiet(&mut stage, retained("t", "x", 0));
    assert_eq!(
        (urgent, empty),
        (false, false),
        "QoS 0 retained: kept, not waited for"
    );
    assert_eq!(quiet(&mut stage, retained("t", "x", 1)), (true, false));
    let c = stage.regular("c");
    assert!(stage.urgent, "a session that stays");
    stage.subscribe(c, Wish::plain("t", 1)).unwrap();
    assert!(stage.urgent);
    assert_eq!(quiet(&mut stage, message("t", "x", 1)), (true, false));
    assert!(!quiet(&mut stage, message("t", "x", 0)).0);
}
