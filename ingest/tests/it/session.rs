//! The session machine in both versions: what is acknowledged when, what monitors and devices hear, and why
//! it ends. Bad inputs have their own files (`rows_*`).

use chordae_base::limits;
use chordae_ingest::core::{
    arrival::{Refusal, Standing, Verdict},
    exchange::{
        message::{Delivery, Message, Properties, Wish},
        request::{Request, ToClient},
    },
    identify::Peer,
    mqtt::{
        framing::Version,
        profile::Profile,
        session::{Act, Cut, Input, Replied},
    },
    ports::{DeviceKind, LiveFrame},
};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::{mqttbytes as m5, mqttbytes::v5},
};

use crate::{
    rows_publish::open5,
    support::key,
    wire::{OWN, Q1, Q15, Wire, connect5, device, publish4, publish5, up4, up5},
};

#[test]
fn version_5_is_told_why() {
    let mut wire = up5(device("bed-7"), "bed-7");
    let refusal = Refusal::Malformed("protobuf", "no".into());
    let cases = [
        (Verdict::Durable, v5::PubAckReason::Success),
        (
            Verdict::Refused(refusal),
            v5::PubAckReason::PayloadFormatInvalid,
        ),
        (
            Verdict::Refused(Refusal::Conflict),
            v5::PubAckReason::PayloadFormatInvalid,
        ),
        (
            Verdict::Refused(Refusal::BootReused),
            v5::PubAckReason::PayloadFormatInvalid,
        ),
        (
            Verdict::Refused(Refusal::TooManyStreams),
            v5::PubAckReason::QuotaExceeded,
        ),
        (
            Verdict::Full(chordae_ingest::core::arrival::Content::Birth(
                crate::support::birth(1),
            )),
            v5::PubAckReason::QuotaExceeded,
        ),
    ];
    for (n, (verdict, reason)) in cases.into_iter().enumerate() {
        let id = u16::try_from(n).unwrap() + 1;
        wire.v5(&publish5(OWN, Q15, id));
        let token = wire.offers().last().unwrap().0;
        wire.take(Input::Fate(token, verdict));
        match wire.said_v5() {
            Some(v5::Packet::PubAck(ack)) => assert_eq!((ack.pkid, ack.reason), (id, reason)),
            other => panic!("{other:?}"),
        }
    }
    // It cannot be judged: nobody is acknowledged, and it comes again on another connection.
    wire.v5(&publish5(OWN, Q15, 99));
    let token = wire.offers().last().unwrap().0;
    wire.take(Input::Fate(token, Verdict::Unsure));
    assert!(matches!(wire.said_v5(), Some(v5::Packet::Disconnect(_))));
    assert!(wire.session.is_closed());
}

#[test]
fn version_3_is_not_read_while_there_is_no_room() {
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.v4(&publish4(OWN, Q1, 7));
    let token = wire.offers()[0].0;
    let content = chordae_ingest::core::arrival::Content::Birth(crate::support::birth(1));
    wire.take(Input::Fate(token, Verdict::Full(content.clone())));
    assert_eq!(wire.said_v4(), None);
    assert_eq!(
        wire.acts.last(),
        Some(&Act::Hold(token, key("bed-7/ecg"), content))
    );
    assert!(!wire.session.may_read());
    // However long it takes: we are the ones who do not listen.
    wire.now = 1_000_000_000_000;
    wire.take(Input::Tick);
    assert!(!wire.session.is_closed());
    wire.session.resumed();
    assert!(wire.session.may_read());
    wire.take(Input::Fate(token, Verdict::Durable));
    assert_eq!(wire.said_v4(), Some(v4::Packet::PubAck(v4::PubAck::new(7))));
}

#[test]
fn the_ack_topic_speaks_at_once_after_a_birth_and_else_once_a_second() {
    let mut wire = up4(device("bed-7"), "bed-7");
    let mut subscribe = v4::Subscribe::new("chordae/v1/bed-7/ack", Q1);
    subscribe.pkid = 5;
    wire.v4(&v4::Packet::Subscribe(subscribe));
    wire.out.clear();
    let asks = |wire: &Wire| {
        wire.acts
            .iter()
            .filter(|a| matches!(a, Act::Ask(..)))
            .count()
    };
    let standing = Standing {
        stream: key("bed-7/ecg"),
        boot: u64::MAX,
        durable: vec![(0, 4), (6, 7)],
        refused: vec![(5, 5, "conflict")],
        boots: vec![1, u64::MAX],
    };
    let done = |wire: &mut Wire, topic: &str| {
        wire.v4(&publish4(topic, mqttbytes::QoS::AtMostOnce, 0));
        let token = wire.offers().last().unwrap().0;
        wire.session.decoded(token, u64::MAX);
        wire.take(Input::Fate(token, Verdict::Durable));
    };
    done(&mut wire, "chordae/v1/bed-7/ecg/birth");
    assert_eq!(asks(&wire), 1);
    wire.take(Input::Standing(standing.clone()));
    match wire.said_v4() {
        Some(v4::Packet::Publish(p)) => {
            assert_eq!(p.topic, "chordae/v1/bed-7/ack");
            let want = r#"{"stream":"ecg","boot":18446744073709551615,"durable":[[0,4],[6,7]],"archived":[],"refused":[[5,5,"conflict"]],"boots":[1,18446744073709551615]}"#;
            assert_eq!(p.payload, want);
        }
        other => panic!("{other:?}"),
    }
    for _ in 0..10 {
        done(&mut wire, OWN);
    }
    assert_eq!(asks(&wire), 1, "not within the second");
    wire.now += 1_000_000_000;
    wire.take(Input::Tick);
    assert_eq!(asks(&wire), 2);
    wire.take(Input::Tick);
    assert_eq!(asks(&wire), 2, "no news, no question");
    wire.take(Input::Standing(standing.clone()));
    done(&mut wire, OWN);
    assert_eq!(asks(&wire), 2);
    done(&mut wire, "chordae/v1/bed-7/ecg/birth");
    assert_eq!(asks(&wire), 3, "a birth does not wait");
}

#[test]
fn acknowledgements_come_from_verdicts_and_in_the_order_of_the_publishes() {
    let mut wire = up4(device("bed-7"), "bed-7");
    let two = mqttbytes::QoS::ExactlyOnce;
    wire.v4(&publish4(OWN, Q1, 7))
        .v4(&publish4(OWN, two, 8))
        .v4(&publish4(OWN, mqttbytes::QoS::AtMostOnce, 0))
        .v4(&publish4(OWN, Q1, 9));
    assert!(wire.out.is_empty(), "nothing before the verdict");
    let offers = wire.offers();
    assert_eq!(offers.len(), 4);
    for at in [3, 1, 2, 1] {
        wire.take(Input::Fate(offers[at].0, Verdict::Durable));
        assert!(wire.out.is_empty(), "7 was first");
    }
    wire.take(Input::Fate(offers[0].0, Verdict::Durable));
    let all = [0x40, 2, 0, 7, 0x50, 2, 0, 8, 0x40, 2, 0, 9];
    assert_eq!(wire.out.split().as_ref(), all);
    wire.take(Input::Fate(offers[0].0, Verdict::Durable));
    assert!(wire.out.is_empty(), "once");
    wire.bytes(&[0x62, 2, 0, 8]);
    assert_eq!(wire.out.as_ref(), [0x70, 2, 0, 8]);
}

#[test]
fn monitors_hear_what_they_watch_and_devices_their_own() {
    let desk = || Peer::Certified(DeviceKind::Monitor, "desk".parse().unwrap());
    let subscribe = |filter: &str, identifier: Option<usize>| {
        let properties = v5::SubscribeProperties {
            id: identifier,
            user_properties: vec![],
        };
        let mut subscribe = v5::Subscribe::new(v5::Filter::new(filter, Q15), Some(properties));
        subscribe.pkid = 5;
        v5::Packet::Subscribe(subscribe)
    };
    let live = |topic: &str| {
        Input::Live(LiveFrame {
            topic: topic.into(),
            payload: vec![1].into(),
        })
    };
    let mut wire = up5(desk(), "desk");
    wire.v5(&subscribe("chordae/v1/+/+/live", Some(300)));
    assert!(
        wire.acts.contains(&Act::Watch([None].into())),
        "one feed for all"
    );
    wire.out.clear();
    wire.take(live("chordae/v1/bed-8/ecg/live"));
    match wire.said_v5() {
        Some(v5::Packet::Publish(p)) => {
            let properties = p.properties.unwrap();
            assert_eq!(properties.subscription_identifiers, [300]);
        }
        other => panic!("{other:?}"),
    }
    // One stream of one device: the rest of that device's feed is not passed on.
    let mut wire = up4(desk(), "desk");
    let mut one = v4::Subscribe::new("chordae/v1/bed-7/ecg/live", Q1);
    one.pkid = 5;
    wire.v4(&v4::Packet::Subscribe(one));
    assert!(matches!(wire.said_v4(), Some(v4::Packet::SubAck(_))));
    wire.take(live("chordae/v1/bed-7/ppg/live"));
    assert_eq!(wire.said_v4(), None);
    wire.take(live("chordae/v1/bed-7/ecg/live"));
    assert!(matches!(wire.said_v4(), Some(v4::Packet::Publish(_))));
    let mut unsubscribe = v4::Unsubscribe::new("chordae/v1/bed-7/ecg/live");
    unsubscribe.pkid = 6;
    wire.v4(&v4::Packet::Unsubscribe(unsubscribe));
    assert!(matches!(wire.said_v4(), Some(v4::Packet::UnsubAck(_))));
    assert!(wire.acts.contains(&Act::Watch([].into())));
    // A session that is taken up hears again what it heard, as far as it still may.
    let mut wire = Wire::new(desk());
    wire.present = true;
    for filter in [
        "chordae/v1/bed-7/+/live",
        "chordae/v1/bed-8/status",
        "chordae/v1/bed-7/ack",
    ] {
        wire.kept.insert(filter.into(), Wish::plain(filter, 1));
    }
    let unclean = v4::Connect {
        clean_session: false,
        ..v4::Connect::new("desk")
    };
    wire.v4(&v4::Packet::Connect(unclean));
    assert_eq!(
        wire.out.split().as_ref(),
        [0x20, 2, 1, 0],
        "session present"
    );
    let bed_7 = Some("bed-7".parse().unwrap());
    assert!(wire.acts.contains(&Act::Watch([bed_7].into())));
    assert!(
        !wire.kept.contains_key("chordae/v1/bed-7/ack"),
        "a monitor may not hear that"
    );
    // The registry takes the right away: at the next look it is gone, here and in the exchange.
    wire.registry.put("desk", DeviceKind::Monitor, false);
    wire.take(Input::Tick);
    assert!(wire.kept.is_empty());
    wire.take(live("chordae/v1/bed-7/ecg/live"));
    assert!(wire.out.is_empty());
}

fn delivery(id: u16, topic: &str, qos: u8) -> Delivery {
    let properties = Properties {
        payload_format: Some(1),
        expiry_s: Some(5),
        content_type: Some("text".into()),
        response_topic: Some("answer".into()),
        correlation: Some(vec![1, 2].into()),
        user: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
    };
    let message = Message {
        topic: topic.into(),
        payload: vec![7].into(),
        qos,
        retain: true,
        properties,
    };
    Delivery {
        id,
        dup: true,
        message,
        identifiers: vec![1, 456_789],
    }
}

fn delivered(wire: &mut Wire, delivery: Delivery) {
    wire.take(Input::Exchange(ToClient::Deliver(delivery)));
}

#[test]
fn deliveries_run_their_course() {
    let mut wire = open5("tool");
    delivered(&mut wire, delivery(4, "a/b", 1));
    delivered(&mut wire, delivery(5, "a/b", 2));
    match wire.said_v5() {
        Some(v5::Packet::Publish(p)) => {
            assert_eq!(
                (p.topic.as_ref(), p.pkid, p.dup, p.retain),
                (&b"a/b"[..], 4, true, true)
            );
            let got = p.properties.unwrap();
            assert_eq!(got.payload_format_indicator, Some(1));
            assert_eq!(got.message_expiry_interval, Some(5));
            assert_eq!(got.content_type.as_deref(), Some("text"));
            assert_eq!(got.response_topic.as_deref(), Some("answer"));
            assert_eq!(got.correlation_data.as_deref(), Some(&[1, 2][..]));
            assert_eq!(got.user_properties.len(), 2);
            assert_eq!(got.subscription_identifiers, [1, 456_789]);
        }
        other => panic!("{other:?}"),
    }
    wire.out.clear();
    wire.bytes(&[0x40, 2, 0, 4]).bytes(&[0x50, 2, 0, 5]);
    let asked = |wire: &Wire| wire.asked().into_iter().map(|(_, r)| r).collect::<Vec<_>>();
    assert_eq!(
        asked(&wire),
        [Request::Acked(4), Request::Received(5, true)]
    );
    assert!(wire.out.is_empty(), "PUBREL comes once that is kept");
    wire.take(Input::Exchange(ToClient::Release { id: 5, known: true }));
    assert_eq!(wire.out.split().as_ref(), [0x62, 2, 0, 5]);
    // It lost our PUBREL: it gets it again.
    wire.bytes(&[0x50, 2, 0, 5]);
    assert_eq!(wire.out.split().as_ref(), [0x62, 2, 0, 5]);
    wire.bytes(&[0x70, 2, 0, 5]);
    assert_eq!(asked(&wire).last(), Some(&Request::Completed(5)));
    // A client that refuses: done.
    delivered(&mut wire, delivery(6, "a/b", 2));
    wire.bytes(&[0x50, 3, 0, 6, 0x97]);
    assert_eq!(asked(&wire).last(), Some(&Request::Received(6, false)));
    assert_eq!(wire.refused(), [] as [&str; 0]);
}

#[test]
fn a_client_gets_no_more_than_it_takes() {
    // 40 bytes are enough for a short topic, and not for the rest.
    let v5::Packet::Connect(mut connect, ..) = connect5("tool") else {
        panic!();
    };
    let properties = v5::ConnectProperties {
        max_packet_size: Some(90),
        topic_alias_max: Some(1),
        request_problem_info: Some(0),
        ..v5::ConnectProperties::new()
    };
    connect.properties = Some(properties);
    let mut wire = Wire::within(Peer::Plain, Profile::Open { refuse: vec![] });
    wire.v5(&v5::Packet::Connect(connect, None, None));
    wire.out.clear();
    let long = "a/very/long/topic".repeat(4);
    delivered(&mut wire, delivery(4, &long, 1));
    delivered(&mut wire, delivery(5, &long, 2));
    assert!(wire.out.is_empty(), "too long: not sent");
    let asked: Vec<Request> = wire.asked().into_iter().map(|(_, r)| r).collect();
    let done = [Request::Acked(4), Request::Received(5, false)];
    assert_eq!(asked[asked.len() - 2..], done, "and done with");
    assert_eq!(wire.refused(), ["client-packet-max"; 2]);
    // The one alias it takes: set with the topic, then used instead of it.
    let mut topics = Vec::new();
    for (id, topic) in [(6, "a/b"), (7, "a/b"), (8, "c")] {
        delivered(&mut wire, delivery(id, topic, 1));
        match wire.said_v5() {
            Some(v5::Packet::Publish(p)) => {
                let alias = p.properties.unwrap().topic_alias;
                topics.push((String::from_utf8(p.topic.to_vec()).unwrap(), alias));
            }
            other => panic!("{other:?}"),
        }
    }
    let expected = [("a/b", Some(1)), ("", Some(1)), ("c", None)];
    assert_eq!(topics, expected.map(|(t, a)| (t.to_owned(), a)));
    // It does not want reasons.
    wire.v5(&publish5("chordae/v1/nobody/ecg/frame", Q15, 1));
    assert_eq!(wire.out.as_ref(), [0x40, 4, 0, 1, 0x87, 0]);
}

#[test]
fn a_reply_goes_to_whom_it_is_awaited() {
    let topic = "chordae/v1/bed-7/cmd/c-1";
    let reply = |payload: &str| {
        let v5::Packet::Publish(mut publish) = publish5(topic, Q15, 7) else {
            panic!();
        };
        publish.payload = payload.to_owned().into();
        v5::Packet::Publish(publish)
    };
    let mut wire = up5(device("bed-7"), "bed-7");
    for (replied, reason) in [
        (Replied::Kept, v5::PubAckReason::Success),
        (Replied::Unknown, v5::PubAckReason::TopicNameInvalid),
        (Replied::Refused, v5::PubAckReason::PayloadFormatInvalid),
    ] {
        wire.v5(&reply("{\"ok\":true,\"why\":\"done\"}"));
        let token = match wire
            .acts
            .iter()
            .rev()
            .find(|a| matches!(a, Act::Reply { .. }))
        {
            Some(Act::Reply {
                token, id, device, ..
            }) => {
                assert_eq!((device.as_str(), id.as_str()), ("bed-7", "c-1"));
                *token
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(wire.said_v5(), None, "nothing before it is kept");
        wire.take(Input::Replied(token, replied));
        match wire.said_v5() {
            Some(v5::Packet::PubAck(ack)) => assert_eq!(ack.reason, reason),
            other => panic!("{other:?}"),
        }
    }
    let before = wire.acts.len();
    wire.v5(&reply("done"));
    assert!(
        wire.acts[before..]
            .iter()
            .all(|a| !matches!(a, Act::Reply { .. })),
        "no reply"
    );
}

#[test]
fn a_session_says_how_it_ends() {
    // (packet, whether the will is wanted, the new expiry)
    let last = limits::SESSION_EXPIRY_MAX_S;
    for (bye, will, expiry_s) in [
        (&[0xe0, 0][..], false, None),
        (&[0xe0, 1, 0], false, None),
        (&[0xe0, 1, 4], true, None),
        (&[0xe0, 7, 0, 5, 17, 0, 0, 0, 9], false, Some(9)),
        (&[0xe0, 7, 4, 5, 17, 255, 255, 255, 255], true, Some(last)),
        (&[0xc1, 0], true, None),
    ] {
        let v5::Packet::Connect(mut connect, ..) = connect5("bed-7") else {
            panic!();
        };
        let properties = v5::ConnectProperties {
            session_expiry_interval: Some(u32::MAX),
            ..v5::ConnectProperties::new()
        };
        connect.properties = Some(properties);
        let mut wire = Wire::new(device("bed-7"));
        wire.v5(&v5::Packet::Connect(connect, None, None));
        match wire.said_v5() {
            Some(v5::Packet::ConnAck(ack)) => {
                let told = ack.properties.unwrap().session_expiry_interval;
                assert_eq!(told, Some(last), "our cap, and it is told");
            }
            other => panic!("{other:?}"),
        }
        wire.bytes(bye);
        assert!(wire.session.is_closed());
        let farewell = wire.session.take_farewell();
        assert_eq!(
            farewell,
            Some(Request::Detach { will, expiry_s }),
            "{bye:x?}"
        );
    }
    // One that was taken over has no session to leave.
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.take(Input::Exchange(ToClient::TakenOver));
    assert!(wire.session.is_closed() && wire.session.take_farewell().is_none());
    // Version 3.1.1 without clean session: as long as our cap.
    let mut wire = Wire::new(device("bed-7"));
    let unclean = v4::Connect {
        clean_session: false,
        ..v4::Connect::new("bed-7")
    };
    wire.v4(&v4::Packet::Connect(unclean));
    match &wire.asked()[0].1 {
        Request::Attach(hello) => assert_eq!((hello.clean, hello.expiry_s), (false, last)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_told_why_the_house_ends_it() {
    let cuts = [
        (Cut::TakenOver, 0x8e),
        (Cut::Disabled, 0x98),
        (Cut::Stopping, 0x8b),
        (Cut::Stalled, 0x97),
    ];
    for (cut, code) in cuts {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.take(Input::Cut(cut));
        assert_eq!(wire.bye(), Some(code));
        assert!(wire.session.is_closed());
        let mut wire = up4(device("bed-7"), "bed-7");
        wire.take(Input::Cut(cut));
        assert!(wire.session.is_closed() && wire.out.is_empty());
    }
    assert_eq!(up5(device("bed-7"), "bed-7").session.version(), Version::V5);
}

#[test]
fn where_any_topic_may_be_the_standard_holds() {
    let mut wire = open5("any id/+#");
    let subscribe = |filter: &str| {
        let mut subscribe = v5::Subscribe::new(v5::Filter::new(filter, m5::QoS::ExactlyOnce), None);
        subscribe.pkid = 5;
        v5::Packet::Subscribe(subscribe)
    };
    use v5::SubscribeReasonCode as S;
    for (filter, code) in [
        ("#", S::Success(m5::QoS::ExactlyOnce)),
        ("$share/g/a/+", S::Success(m5::QoS::ExactlyOnce)),
        ("a#", S::TopicFilterInvalid),
        ("test/nosubscribe", S::Unspecified),
    ] {
        wire.v5(&subscribe(filter));
        match wire.said_v5() {
            Some(v5::Packet::SubAck(ack)) => assert_eq!(ack.return_codes, [code], "{filter}"),
            other => panic!("{other:?}"),
        }
    }
    wire.acts.clear();
    wire.v5(&publish5("a/b", Q15, 1));
    wire.taken(false);
    assert_eq!(
        wire.out.split().as_ref(),
        [0x40, 4, 0, 1, 0x10, 0],
        "nobody is subscribed"
    );
    // What is ours stays ours.
    wire.v5(&publish5(OWN, Q15, 2));
    assert_eq!(wire.offers().len(), 1);
    wire.v5(&publish5("chordae/v1/nobody/ecg/frame", Q15, 3));
    assert_eq!(wire.asked().len(), 1, "and goes nowhere else");
}
