//! The session machine in both versions: what is offered, acknowledged and heard, and why it ends.

use chordae_base::limits;
use chordae_ingest::core::{
    arrival::{Refusal, Standing, Verdict},
    identify::Peer,
    mqtt::{
        framing::Version,
        session::{Act, Cut, Input},
    },
    ports::{DeviceKind, LiveFrame},
};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::{mqttbytes as m5, mqttbytes::v5},
};

use crate::{
    support::key,
    wire::{OWN, Q1, Q15, Wire, device, publish4, publish5, up4, up5},
};

#[test]
fn a_puback_comes_from_a_verdict_and_in_any_order() {
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.v4(&publish4(OWN, Q1, 7)).v4(&publish4(OWN, Q1, 9));
    assert_eq!(wire.said_v4(), None, "nothing before the verdict");
    let offers = wire.offers();
    assert_eq!(offers.len(), 2);
    wire.take(Input::Fate(offers[1].0, Verdict::Durable));
    assert_eq!(wire.said_v4(), Some(v4::Packet::PubAck(v4::PubAck::new(9))));
    wire.take(Input::Fate(offers[1].0, Verdict::Durable));
    assert_eq!(wire.said_v4(), None, "once");
    wire.take(Input::Fate(offers[0].0, Verdict::Durable));
    assert_eq!(wire.said_v4(), Some(v4::Packet::PubAck(v4::PubAck::new(7))));
}

#[test]
fn a_resent_packet_id_is_offered_again() {
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.v4(&publish4(OWN, Q1, 7));
    let mut again = publish4(OWN, Q1, 7);
    if let v4::Packet::Publish(p) = &mut again {
        p.dup = true;
    }
    wire.v4(&again);
    assert_eq!(wire.offers().len(), 2);
}

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
fn nobody_speaks_for_another_device() {
    let foreign = "chordae/v1/bed-8/ecg/frame";
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.v5(&publish5(foreign, Q15, 1));
    match wire.said_v5() {
        Some(v5::Packet::PubAck(a)) => assert_eq!(a.reason, v5::PubAckReason::NotAuthorized),
        other => panic!("{other:?}"),
    }
    wire.v5(&publish5("chordae/v1/bed-7/nonsense", Q15, 2));
    match wire.said_v5() {
        Some(v5::Packet::PubAck(a)) => assert_eq!(a.reason, v5::PubAckReason::TopicNameInvalid),
        other => panic!("{other:?}"),
    }
    assert!(!wire.session.is_closed());
    wire.v5(&publish5(foreign, m5::QoS::AtMostOnce, 0));
    assert!(wire.session.is_closed(), "what cannot be answered ends it");
    assert!(wire.offers().is_empty());

    let mut wire = up4(device("bed-7"), "bed-7");
    wire.v4(&publish4(foreign, Q1, 1));
    assert!(wire.session.is_closed() && wire.offers().is_empty());
    assert_eq!(wire.said_v4(), None);

    // A monitor publishes nothing; a plain peer is believed if the device is registered.
    let desk = Peer::Certified(DeviceKind::Monitor, "desk".parse().unwrap());
    let mut wire = up4(desk, "desk");
    wire.v4(&publish4(OWN, Q1, 1));
    assert!(wire.session.is_closed());
    for (topic, fits) in [
        (OWN, true),
        (foreign, true),
        ("chordae/v1/nobody/ecg/frame", false),
    ] {
        let mut wire = up4(Peer::Plain, "tool");
        wire.v4(&publish4(topic, Q1, 1));
        assert_eq!(!wire.session.is_closed(), fits, "{topic}");
    }
    let mut wire = up4(Peer::Plain, "tool");
    wire.v4(&publish4("chordae/v1/old/ecg/frame", Q1, 1));
    assert!(wire.session.is_closed(), "a disabled device");
}

#[test]
fn only_registered_streams_if_there_is_a_list() {
    let mut wire = up5(device("bed-7"), "bed-7");
    let id = "bed-7".parse().unwrap();
    let mut devices = wire.registry.devices.lock().unwrap();
    let mut entry = devices.get(&id).cloned().unwrap();
    entry.streams = vec!["ecg".parse().unwrap()];
    devices.insert(id, entry);
    drop(devices);
    wire.v5(&publish5(OWN, Q15, 1))
        .v5(&publish5("chordae/v1/bed-7/ppg/frame", Q15, 2));
    assert_eq!(wire.offers().len(), 1);
    assert_eq!(wire.refused(), ["not-authorised"]);
}

#[test]
fn the_receive_maximum_holds_in_version_5_and_reading_stops_in_any() {
    let mut wire = up5(device("bed-7"), "bed-7");
    for id in 1..=limits::INFLIGHT_MAX {
        wire.v5(&publish5(OWN, Q15, id));
    }
    assert!(!wire.session.is_closed());
    let token = wire.offers()[0].0;
    wire.take(Input::Fate(token, Verdict::Durable));
    wire.out.clear();
    wire.v5(&publish5(OWN, Q15, 1));
    assert!(!wire.session.is_closed(), "one was acknowledged");
    wire.v5(&publish5(OWN, Q15, 300));
    assert_eq!(wire.out.as_ref(), [0xe0, 2, 0x93, 0]);

    let mut wire = up4(device("bed-7"), "bed-7");
    let mut sent = 0;
    while wire.session.may_read() {
        wire.v4(&publish4(OWN, Q1, 1));
        sent += 1;
        assert!(sent < 2_000, "reading never stops");
    }
    assert!(sent < limits::CONNECTION_QUEUE);
    let token = wire.offers()[0].0;
    wire.take(Input::Fate(token, Verdict::Durable));
    assert!(wire.session.may_read());
}

#[test]
fn silence_ends_a_session_after_one_and_a_half_keep_alives() {
    let second = 1_000_000_000;
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.now = 15 * second;
    wire.take(Input::Tick);
    assert!(!wire.session.is_closed());
    wire.v5(&v5::Packet::PingReq(v5::PingReq));
    assert_eq!(wire.said_v5(), Some(v5::Packet::PingResp(v5::PingResp)));
    wire.now = 30 * second;
    wire.take(Input::Tick);
    assert!(!wire.session.is_closed());
    wire.now += 1;
    wire.take(Input::Tick);
    assert_eq!(wire.out.as_ref(), [0xe0, 2, 0x8d, 0]);
    // A client that asks for none is told ours.
    let mut wire = Wire::new(device("bed-7"));
    let connect = v5::Connect {
        keep_alive: 0,
        client_id: "bed-7".into(),
        clean_start: false,
        properties: None,
    };
    wire.v5(&v5::Packet::Connect(connect, None, None));
    match wire.said_v5() {
        Some(v5::Packet::ConnAck(ack)) => {
            assert!(!ack.session_present, "nothing is kept, and it is said");
            assert_eq!(ack.properties.unwrap().server_keep_alive, Some(300));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_hears_its_own_and_monitors_the_live_frames() {
    use v5::SubscribeReasonCode as S;
    let filters = [
        "chordae/v1/bed-7/ack",
        "chordae/v1/bed-7/cmd",
        "chordae/v1/bed-8/ack",
        "chordae/v1/+/+/live",
        "chordae/v1/bed-7/ecg/live",
        "chordae/v1/nobody/ecg/live",
        "#",
        "$SYS/#",
        "$share/g/#",
        "a#",
    ];
    let ask = |wire: &mut Wire| {
        let filters = filters.iter().map(|f| v5::Filter::new(*f, Q15));
        let mut subscribe = v5::Subscribe::new_many(filters, None);
        subscribe.pkid = 5;
        wire.v5(&v5::Packet::Subscribe(subscribe));
        match wire.said_v5() {
            Some(v5::Packet::SubAck(ack)) => ack.return_codes,
            other => panic!("{other:?}"),
        }
    };
    let (yes, no) = (S::Success(m5::QoS::AtMostOnce), S::NotAuthorized);
    let (shared, invalid) = (S::SharedSubscriptionsNotSupported, S::TopicFilterInvalid);
    let mut own = up5(device("bed-7"), "bed-7");
    assert_eq!(
        ask(&mut own),
        [yes, yes, no, no, no, no, no, no, shared, invalid]
    );
    let desk = Peer::Certified(DeviceKind::Monitor, "desk".parse().unwrap());
    let mut monitor = up5(desk.clone(), "desk");
    assert_eq!(
        ask(&mut monitor),
        [no, no, no, yes, yes, no, no, no, shared, invalid]
    );
    assert!(
        monitor.acts.contains(&Act::Watch([None].into())),
        "one feed for all"
    );
    let live = |topic: &str| LiveFrame {
        topic: topic.into(),
        payload: vec![1].into(),
    };
    monitor.take(Input::Live(live("chordae/v1/bed-8/ecg/live")));
    assert!(matches!(monitor.said_v5(), Some(v5::Packet::Publish(_))));

    // One stream of one device: the rest of that device's feed is not passed on.
    let mut monitor = up4(desk, "desk");
    let mut subscribe = v4::Subscribe::new("chordae/v1/bed-7/ecg/live", Q1);
    subscribe.pkid = 5;
    monitor.v4(&v4::Packet::Subscribe(subscribe));
    assert!(matches!(monitor.said_v4(), Some(v4::Packet::SubAck(_))));
    monitor.take(Input::Live(live("chordae/v1/bed-7/ppg/live")));
    assert_eq!(monitor.said_v4(), None);
    monitor.take(Input::Live(live("chordae/v1/bed-7/ecg/live")));
    assert!(matches!(monitor.said_v4(), Some(v4::Packet::Publish(_))));
    let mut unsubscribe = v4::Unsubscribe::new("chordae/v1/bed-7/ecg/live");
    unsubscribe.pkid = 6;
    monitor.v4(&v4::Packet::Unsubscribe(unsubscribe));
    assert!(matches!(monitor.said_v4(), Some(v4::Packet::UnsubAck(_))));
    assert!(monitor.acts.contains(&Act::Watch([].into())));
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
        assert_eq!(wire.out.as_ref(), [0xe0, 2, code, 0]);
        assert!(wire.session.is_closed());
        let mut wire = up4(device("bed-7"), "bed-7");
        wire.take(Input::Cut(cut));
        assert!(wire.session.is_closed() && wire.out.is_empty());
    }
    assert_eq!(up5(device("bed-7"), "bed-7").session.version(), Version::V5);
}
