//! Bad inputs by their number, D11 to D23: what a device may say, on which topics, and how often. Each
//! beside the form that is allowed.

use chordae_base::limits;
use chordae_ingest::core::{
    arrival::Verdict,
    exchange::request::{Answer, Denied, Request},
    identify::Peer,
    mqtt::{profile::Profile, session::Input},
    ports::DeviceKind,
};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::{mqttbytes as m5, mqttbytes::v5},
};

use crate::wire::{
    OWN, Q1, Q15, Wire, connect5, device, packet, publish4, publish5, text, up4, up5,
};

const FOREIGN: &str = "chordae/v1/bed-8/ecg/frame";
const STATUS: &str = "chordae/v1/bed-7/status";

fn monitor() -> Peer {
    Peer::Certified(DeviceKind::Monitor, "desk".parse().unwrap())
}

/// In the open profile, on a plain listener.
pub(crate) fn open5(id: &str) -> Wire {
    let refuse = vec!["test/nosubscribe".to_owned()];
    let mut wire = Wire::within(Peer::Plain, Profile::Open { refuse });
    wire.v5(&connect5(id));
    assert!(wire.session.is_up());
    wire.out.clear();
    wire.acts.clear();
    wire
}

fn ack5(wire: &mut Wire) -> (u16, v5::PubAckReason) {
    match wire.said_v5() {
        Some(v5::Packet::PubAck(ack)) => (ack.pkid, ack.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn d11_a_device_publishes_to_the_topic_of_another() {
    for topic in [
        FOREIGN,
        "chordae/v1/bed-8/status",
        "chordae/v1/bed-8/cmd/1",
        "chordae/v1/nobody/ecg/frame",
    ] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.v5(&publish5(topic, Q15, 1));
        assert_eq!(
            ack5(&mut wire),
            (1, v5::PubAckReason::NotAuthorized),
            "{topic}"
        );
        assert!(!wire.session.is_closed());
        // What cannot be answered ends it.
        wire.v5(&publish5(topic, m5::QoS::AtMostOnce, 0));
        assert_eq!(wire.bye(), Some(0x87));
        assert!(
            wire.offers().is_empty() && wire.asked().is_empty(),
            "{topic}"
        );
        assert_eq!(wire.refused(), ["not-authorised"; 2], "told and counted");
        let mut wire = up4(device("bed-7"), "bed-7");
        wire.v4(&publish4(topic, Q1, 1));
        assert!(
            wire.session.is_closed() && wire.offers().is_empty(),
            "{topic}"
        );
        assert_eq!(wire.said_v4(), None);
    }
    // A monitor publishes nothing; a plain peer is believed if the device is registered and enabled.
    let mut wire = up4(monitor(), "desk");
    wire.v4(&publish4(OWN, Q1, 1));
    assert!(wire.session.is_closed());
    for (topic, fits) in [
        (OWN, true),
        (FOREIGN, true),
        ("chordae/v1/nobody/ecg/frame", false),
        ("chordae/v1/old/ecg/frame", false),
    ] {
        let mut wire = up4(Peer::Plain, "tool");
        wire.v4(&publish4(topic, Q1, 1));
        assert_eq!(!wire.session.is_closed(), fits, "{topic}");
        assert_eq!(wire.offers().len(), usize::from(fits), "{topic}");
    }
}

#[test]
fn only_registered_streams_if_there_is_a_list() {
    let mut wire = up5(device("bed-7"), "bed-7");
    let (own, other) = (
        publish5(OWN, Q15, 1),
        publish5("chordae/v1/bed-7/ppg/frame", Q15, 2),
    );
    wire.v5(&own).v5(&other);
    assert_eq!(wire.offers().len(), 2, "any, without a list");
    // The registry changes under the connection: what was authorised is asked again.
    let id = "bed-7".parse().unwrap();
    let mut entry = wire
        .registry
        .devices
        .lock()
        .unwrap()
        .get(&id)
        .cloned()
        .unwrap();
    entry.streams = vec!["ecg".parse().unwrap()];
    wire.registry.put("bed-7", DeviceKind::Device, true);
    wire.registry.devices.lock().unwrap().insert(id, entry);
    wire.v5(&other).v5(&own);
    assert_eq!(wire.offers().len(), 3);
    assert_eq!(wire.refused(), ["not-authorised"]);
}

#[test]
fn d13_an_alias_that_is_pointed_at_the_topic_of_another() {
    let aliased = |topic: &str, id: u16, alias: u16| {
        let publish5 = publish5(topic, Q15, id);
        let v5::Packet::Publish(mut publish) = publish5 else {
            panic!();
        };
        publish.properties = Some(v5::PublishProperties {
            topic_alias: Some(alias),
            ..v5::PublishProperties::default()
        });
        v5::Packet::Publish(publish)
    };
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.v5(&aliased(OWN, 1, 3)).v5(&aliased("", 2, 3));
    let streams: Vec<String> = wire.offers().into_iter().map(|(_, s, _)| s).collect();
    assert_eq!(streams, ["bed-7/ecg", "bed-7/ecg"], "set, and used");
    for (token, _, _) in wire.offers() {
        wire.take(Input::Fate(token, Verdict::Durable));
    }
    wire.out.clear();
    // It may stand for another's topic; it may not be used for it, neither now nor later.
    for (id, topic) in [(3, FOREIGN), (4, "")] {
        wire.v5(&aliased(topic, id, 3));
        assert_eq!(ack5(&mut wire), (id, v5::PubAckReason::NotAuthorized));
    }
    assert_eq!(wire.offers().len(), 2);
    // Beyond what we take, 0, and one that stands for nothing.
    for (alias, code) in [(limits::TOPIC_ALIASES_MAX + 1, 0x94), (0, 0x94), (5, 0x82)] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.v5(&aliased("", 1, alias));
        assert_eq!(wire.bye(), Some(code));
    }
}

#[test]
fn d14_topics_that_look_like_the_own() {
    for topic in [
        "chordae/v1/bed-7/../bed-8/frame",
        "chordae/v1/bed-7//frame",
        "chordae/v1//frame",
        "chordae/v1/bed-7/ecg/frame ",
        " chordae/v1/bed-7/ecg/frame",
        "chordae/v1/bed-7/ecg/frame/",
        "/chordae/v1/bed-7/ecg/frame",
        "chordae/v1/BED-7/ecg/frame",
        "CHORDAE/v1/bed-7/ecg/frame",
        "chordae/v1/bed-7/\u{e9}cg/frame",
        "chordae/v1/bed-7/e\u{301}cg/frame",
        "chordae/v1/b\u{435}d-7/ecg/frame",
    ] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.v5(&publish5(topic, Q15, 1));
        let (_, reason) = ack5(&mut wire);
        assert_ne!(reason, v5::PubAckReason::Success, "{topic:?}");
        assert!(
            wire.offers().is_empty() && wire.asked().is_empty(),
            "{topic:?}"
        );
        let mut wire = up4(device("bed-7"), "bed-7");
        wire.v4(&publish4(topic, Q1, 1));
        assert!(
            wire.session.is_closed() && wire.offers().is_empty(),
            "{topic:?}"
        );
    }
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.bytes(&packet(
        0x32,
        &[&text("chordae/v1/bed-7/ecg/fra\0me")[..], &[0, 1]].concat(),
    ));
    assert!(wire.session.is_closed() && wire.offers().is_empty(), "NUL");
    wire = up4(device("bed-7"), "bed-7");
    wire.v4(&publish4(OWN, Q1, 1));
    assert_eq!(wire.offers().len(), 1);
}

#[test]
fn d15_a_device_subscribes_to_everything() {
    use v5::SubscribeReasonCode as S;
    let filters = [
        "#",
        "+/+",
        "chordae/#",
        "$SYS/#",
        "$share/g/#",
        "chordae/v1/+/+/frame",
        "chordae/v1/bed-7/ecg/frame",
        "chordae/v1/+/+/live",
        "chordae/v1/bed-7/ecg/live",
        "chordae/v1/bed-7/ecg/birth",
        "chordae/v1/+/status",
        "chordae/v1/bed-8/ack",
        "chordae/v1/bed-8/cmd",
        "a#",
        "chordae/v1/bed-7/ack",
        "chordae/v1/bed-7/cmd",
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
    let (no, shared, invalid) = (
        S::NotAuthorized,
        S::SharedSubscriptionsNotSupported,
        S::TopicFilterInvalid,
    );
    let (zero, one) = (
        S::Success(m5::QoS::AtMostOnce),
        S::Success(m5::QoS::AtLeastOnce),
    );
    let mut own = up5(device("bed-7"), "bed-7");
    assert_eq!(
        ask(&mut own),
        [
            no, no, no, no, shared, no, no, no, no, no, no, no, no, invalid, zero, one
        ]
    );
    let kept: Vec<&str> = own.kept.keys().map(String::as_str).collect();
    assert_eq!(
        kept,
        ["chordae/v1/bed-7/ack", "chordae/v1/bed-7/cmd"],
        "nothing else is kept"
    );
    let mut desk = up5(monitor(), "desk");
    assert_eq!(
        ask(&mut desk),
        [
            no, no, no, no, shared, no, no, zero, zero, one, one, no, no, invalid, no, no
        ]
    );
}

#[test]
fn d18_a_packet_id_of_qos_2_comes_again_with_another_payload() {
    let twice = |payload: u8| {
        let v5::Packet::Publish(mut publish) = publish5("any/topic", m5::QoS::ExactlyOnce, 7)
        else {
            panic!();
        };
        publish.payload = vec![payload].into();
        v5::Packet::Publish(publish)
    };
    let mut wire = open5("tool");
    wire.v5(&twice(1));
    wire.taken(true);
    assert_eq!(wire.out.split().as_ref(), [0x50, 2, 0, 7]);
    // The same id is the same message: the exchange is told so, answers, and delivers nothing twice.
    wire.v5(&twice(2));
    wire.taken(true);
    assert_eq!(wire.out.split().as_ref(), [0x50, 2, 0, 7]);
    let ids: Vec<Option<u16>> = wire
        .asked()
        .into_iter()
        .map(|(_, request)| match request {
            Request::Publish { id, .. } => id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [Some(7), Some(7)]);
    assert_eq!(wire.refused(), ["repeated-packet-id"], "counted");
    // Once released, the id is free.
    wire.acts.clear();
    wire.bytes(&[0x62, 2, 0, 7]);
    assert_eq!(wire.asked()[0].1, Request::Release(7));
    wire.v5(&twice(3));
    assert_eq!(wire.refused(), [] as [&str; 0]);
    // Telemetry is offered each time: it knows itself by boot and seq.
    let mut wire = up5(device("bed-7"), "bed-7");
    for _ in 0..2 {
        wire.v5(&publish5(OWN, m5::QoS::ExactlyOnce, 7));
    }
    assert_eq!(wire.offers().len(), 2);
    let tokens: Vec<u64> = wire.offers().into_iter().map(|(token, ..)| token).collect();
    tokens
        .iter()
        .for_each(|t| wire.take(Input::Fate(*t, Verdict::Durable)));
    assert_eq!(wire.out.split().as_ref(), [0x50, 2, 0, 7, 0x50, 2, 0, 7]);
    wire.bytes(&[0x62, 2, 0, 7]);
    assert_eq!(wire.out.split().as_ref(), [0x70, 2, 0, 7], "known here");
    wire.bytes(&[0x62, 2, 0, 7]);
    assert_eq!(wire.out.split().as_ref(), [0x70, 4, 0, 7, 0x92, 0], "once");
}

#[test]
fn d19_an_acknowledged_packet_comes_again() {
    let mut wire = up4(device("bed-7"), "bed-7");
    for dup in [false, true] {
        let v4::Packet::Publish(mut publish) = publish4(OWN, Q1, 7) else {
            panic!();
        };
        publish.dup = dup;
        wire.v4(&v4::Packet::Publish(publish));
        let token = wire.offers().last().unwrap().0;
        wire.take(Input::Fate(token, Verdict::Durable));
        assert_eq!(wire.said_v4(), Some(v4::Packet::PubAck(v4::PubAck::new(7))));
    }
    assert_eq!(
        wire.offers().len(),
        2,
        "offered again: ingest stores it once (see rules.rs)"
    );
}

#[test]
fn d21_receive_maximum_exceeded() {
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
    assert_eq!(wire.bye(), Some(0x93));
    assert!(
        wire.offers().len() <= usize::from(limits::INFLIGHT_MAX) + 1,
        "bounded"
    );
    // At QoS 2 a message counts until it is released.
    let mut wire = up5(device("bed-7"), "bed-7");
    for id in 1..=limits::INFLIGHT_MAX {
        wire.v5(&publish5(OWN, m5::QoS::ExactlyOnce, id));
        let token = wire.offers().last().unwrap().0;
        wire.take(Input::Fate(token, Verdict::Durable));
    }
    wire.bytes(&[0x62, 2, 0, 1]).v5(&publish5(OWN, Q15, 1));
    assert!(!wire.session.is_closed());
    wire.out.clear();
    wire.v5(&publish5(OWN, Q15, 300));
    assert_eq!(wire.bye(), Some(0x93));

    // Version 3.1.1 has no such bound: it is not read beyond ours.
    let mut wire = up4(device("bed-7"), "bed-7");
    let mut sent = 0;
    while wire.session.may_read() {
        wire.v4(&publish4(OWN, Q1, 1));
        sent += 1;
        assert!(sent < 2_000, "reading never stops");
    }
    assert!(sent < limits::CONNECTION_QUEUE / 2);
    let token = wire.offers()[0].0;
    wire.take(Input::Fate(token, Verdict::Durable));
    assert!(wire.session.may_read());
    // Nor beyond our bytes: a flood of one is a part of what waits.
    let mut wire = up4(device("bed-7"), "bed-7");
    let large = vec![0; limits::PAYLOAD_BYTES_MAX];
    let mut sent = 0;
    while wire.session.may_read() {
        wire.v4(&v4::Packet::Publish(v4::Publish::new(
            OWN,
            mqttbytes::QoS::AtMostOnce,
            large.clone(),
        )));
        sent += large.len();
        assert!(sent < 64 << 20, "reading never stops");
    }
    assert!(sent <= limits::OPEN_BYTES_MAX + large.len());
}

#[test]
fn d23_an_empty_publish_that_is_not_retained() {
    let status = |payload: &str, retain: bool| {
        let v5::Packet::Publish(mut publish) = publish5(STATUS, Q15, 1) else {
            panic!();
        };
        (publish.payload, publish.retain) = (payload.to_owned().into(), retain);
        v5::Packet::Publish(publish)
    };
    // It would clear nothing, and it says nothing: refused. So is what no status says.
    for payload in ["", "sleeping"] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.v5(&status(payload, false));
        assert_eq!(ack5(&mut wire), (1, v5::PubAckReason::PayloadFormatInvalid));
        assert!(wire.asked().is_empty(), "the exchange keeps what it has");
    }
    for (payload, retain) in [("online", false), ("offline", true), ("", true)] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.v5(&status(payload, retain));
        match &wire.asked()[..] {
            [(_, Request::Publish { message, id: None })] => {
                assert_eq!((message.topic.as_str(), message.qos), (STATUS, 1));
                assert!(message.retain, "a status is retained");
                assert_eq!(message.payload, payload);
            }
            other => panic!("{other:?}"),
        }
        assert!(wire.out.is_empty(), "nothing before it is kept");
        wire.taken(false);
        assert_eq!(ack5(&mut wire), (1, v5::PubAckReason::Success));
    }
    // Where any topic may be: passed on as it is, whoever it is for, and the retained one stays.
    let mut wire = open5("tool");
    let v5::Packet::Publish(mut publish) = publish5("any/topic", Q15, 1) else {
        panic!();
    };
    publish.payload = Vec::new().into();
    wire.v5(&v5::Packet::Publish(publish));
    match &wire.asked()[..] {
        [(_, Request::Publish { message, .. })] => assert!(!message.retain),
        other => panic!("{other:?}"),
    }
}

#[test]
fn d24_more_retained_than_a_device_may() {
    // The exchange bounds them; its refusal reaches the sender, and nothing is acknowledged.
    let publish = |qos| publish5("any/topic", qos, 7);
    for (qos, first) in [(Q15, 0x40), (m5::QoS::ExactlyOnce, 0x50)] {
        let mut wire = open5("tool");
        wire.v5(&publish(qos));
        let (token, _) = wire.asked().pop().unwrap();
        wire.told(token, Answer::Refused(Denied::Quota));
        assert_eq!((wire.out[0], wire.out[4]), (first, 0x97));
        assert_eq!(wire.refused(), ["quota"]);
        wire.out.clear();
        // Refused is not received: there is nothing to release.
        wire.bytes(&[0x62, 2, 0, 7]);
        assert_eq!(wire.out.as_ref(), [0x70, 4, 0, 7, 0x92, 0]);
    }
    // Version 3.1.1 cannot be told, and is not acknowledged.
    let mut wire = Wire::within(Peer::Plain, Profile::Open { refuse: vec![] });
    wire.v4(&crate::wire::connect4("tool"));
    wire.out.clear();
    wire.v4(&publish4("any/topic", Q1, 7));
    let (token, _) = wire.asked().pop().unwrap();
    wire.told(token, Answer::Refused(Denied::Quota));
    assert!(wire.session.is_closed() && wire.out.is_empty());
}
