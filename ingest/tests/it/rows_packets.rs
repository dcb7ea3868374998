//! Bad inputs by their number, D04 and D16 to D26: packets that break the standard, in both versions. Each
//! beside the form that is allowed.

use bytes::BytesMut;
use chordae_base::limits;
use chordae_ingest::core::{
    exchange::{
        message::{Delivery, Message},
        request::{Request, ToClient},
    },
    mqtt::session::Input,
};
use rumqttc::v5::mqttbytes::v5;

use crate::wire::{OWN, Q15, Wire, connect5, device, packet, publish5, text, up4, up5};

/// Ends a connection of version 3.1.1 without a word.
fn ends4(what: &str, bytes: &[u8]) {
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.bytes(bytes);
    assert!(wire.session.is_closed(), "{what}");
    assert!(wire.out.is_empty() && wire.offers().is_empty(), "{what}");
    assert!(
        wire.asked().is_empty() && !wire.refused().is_empty(),
        "{what}"
    );
}

/// Ends a connection of version 5 with this reason.
fn ends5(what: &str, bytes: &[u8], reason: u8) {
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.bytes(bytes);
    assert!(wire.session.is_closed(), "{what}");
    assert_eq!(wire.bye(), Some(reason), "{what}");
    assert!(
        wire.offers().is_empty() && wire.asked().is_empty(),
        "{what}"
    );
}

/// A PUBLISH of version 5 at QoS 1 to the own topic.
fn pub5(properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    packet(
        0x32,
        &[&text(OWN)[..], &[0, 1, length], properties].concat(),
    )
}

#[test]
fn d04_a_header_that_announces_more_than_may_come() {
    // Before CONNECT, after it, and just above what may come.
    let mut wire = Wire::new(device("bed-7"));
    wire.bytes(&[0x10, 0xff, 0xff, 0xff, 0x7f]);
    assert!(wire.session.is_closed() && wire.out.is_empty());
    assert_eq!(wire.refused(), ["packet-too-large"]);
    let mut wire = Wire::new(device("bed-7"));
    wire.bytes(&[0x10, 0x80, 0x88, 0x01]);
    assert!(wire.session.is_closed(), "17 KiB before CONNECT");
    ends5("256 MB", &[0x30, 0xff, 0xff, 0xff, 0x7f], 0x95);
    ends4("256 MB", &[0x30, 0xff, 0xff, 0xff, 0x7f]);
    let most = limits::PACKET_BYTES_MAX - 4;
    let head = |length: usize| {
        let seven = |shift: usize| u8::try_from(length >> shift & 0x7f).unwrap();
        [0x30, seven(0) | 0x80, seven(7) | 0x80, seven(14)]
    };
    ends5("one byte more", &head(most + 1), 0x95);
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.bytes(&head(most));
    assert!(!wire.session.is_closed(), "the body is awaited");
}

#[test]
fn d16_topics_that_are_none() {
    for topic in ["chordae/v1/+/ecg/frame", "#", "a/+", "a/#", "a+b"] {
        ends4(topic, &packet(0x30, &text(topic)));
        ends5(
            topic,
            &packet(0x30, &[&text(topic)[..], &[0]].concat()),
            0x90,
        );
        let at_qos_1 = [&text(topic)[..], &[0, 1, 0]].concat();
        ends5(topic, &packet(0x32, &at_qos_1), 0x90);
    }
    ends4("no topic", &packet(0x30, &[0]));
    ends4("empty", &packet(0x30, &[0, 0]));
    ends5("empty", &packet(0x30, &[0, 0, 0]), 0x82);
    ends5("empty", &packet(0x32, &[0, 0, 0, 1, 0]), 0x82);
    for qos in [0x30, 0x32] {
        let id: &[u8] = if qos == 0x32 { &[0, 1] } else { &[] };
        let body = [&text("$SYS/x")[..], id].concat();
        ends4("$SYS/x", &packet(qos, &body));
        ends5("$SYS/x", &packet(qos, &[&body[..], &[0]].concat()), 0x90);
    }
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.bytes(&packet(0x30, &text(OWN)));
    assert_eq!(wire.offers().len(), 1);
}

#[test]
fn d17_qos_3_packet_id_0_and_dup_at_qos_0() {
    let own = text(OWN);
    let four: Vec<(&str, Vec<u8>)> = vec![
        ("qos 3", packet(0x36, &[&own[..], &[0, 1]].concat())),
        ("dup with qos 0", packet(0x38, &own)),
        ("packet id 0", packet(0x32, &[&own[..], &[0, 0]].concat())),
        (
            "packet id 0 at qos 2",
            packet(0x34, &[&own[..], &[0, 0]].concat()),
        ),
        ("no packet id", packet(0x32, &own)),
    ];
    for (what, bytes) in four {
        ends4(what, &bytes);
        let mut five = bytes[2..].to_vec();
        five.push(0);
        ends5(what, &packet(bytes[0], &five), 0x81);
    }
    for (first, id) in [
        (0x30, &[][..]),
        (0x32, &[0, 1]),
        (0x34, &[0, 1]),
        (0x3a, &[0, 1]),
    ] {
        let mut wire = up4(device("bed-7"), "bed-7");
        wire.bytes(&packet(first, &[&own[..], id].concat()));
        assert_eq!(wire.offers().len(), 1, "{first:x}");
    }
}

#[test]
fn d20_acknowledgements_of_what_was_not_sent() {
    let mut wire = up5(device("bed-7"), "bed-7");
    // PUBREC: there is no such delivery. PUBREL: the exchange does not know the id either.
    wire.bytes(&[0x50, 2, 0, 9]);
    assert_eq!(wire.out.split().as_ref(), [0x62, 4, 0, 9, 0x92, 0]);
    wire.bytes(&[0x62, 2, 0, 9]);
    assert_eq!(wire.out.split().as_ref(), [0x70, 4, 0, 9, 0x92, 0]);
    // PUBACK and PUBCOMP have no answer in which to say so.
    wire.bytes(&[0x40, 2, 0, 9]).bytes(&[0x70, 2, 0, 9]);
    assert!(wire.out.is_empty() && !wire.session.is_closed());
    assert_eq!(wire.refused(), ["unknown-packet-id"; 3]);
    let asked: Vec<Request> = wire.asked().into_iter().map(|(_, r)| r).collect();
    assert_eq!(
        asked,
        [Request::Release(9)],
        "no state, and no work for others"
    );
    let mut four = up4(device("bed-7"), "bed-7");
    four.bytes(&[0x50, 2, 0, 9]).bytes(&[0x62, 2, 0, 9]);
    assert_eq!(four.out.as_ref(), [0x62, 2, 0, 9, 0x70, 2, 0, 9]);
    // What was sent is acknowledged once.
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.bytes(&packet(
        0x82,
        &[&[0, 1, 0][..], &text("chordae/v1/bed-7/cmd"), &[1]].concat(),
    ));
    wire.out.clear();
    wire.acts.clear();
    let message = Message {
        topic: "chordae/v1/bed-7/cmd".into(),
        qos: 1,
        ..Message::default()
    };
    wire.take(Input::Exchange(ToClient::Deliver(Delivery {
        id: 9,
        dup: false,
        message,
        identifiers: vec![],
    })));
    wire.bytes(&[0x40, 2, 0, 9]).bytes(&[0x40, 2, 0, 9]);
    let asked: Vec<Request> = wire.asked().into_iter().map(|(_, r)| r).collect();
    assert_eq!(asked, [Request::Acked(9)]);
    assert_eq!(wire.refused(), ["unknown-packet-id"]);
}

#[test]
fn d22_properties_that_are_none() {
    for (what, bytes, reason) in [
        ("twice", pub5(&[1, 0, 1, 0]), 0x82),
        ("unknown", pub5(&[99, 0]), 0x82),
        ("of another packet", pub5(&[17, 0, 0, 0, 1]), 0x82),
        ("of the server", pub5(&[11, 1]), 0x82),
        ("a flag of 2", pub5(&[1, 2]), 0x82),
        ("a wildcard to answer to", pub5(&[8, 0, 1, b'#']), 0x82),
        (
            "beyond the packet",
            packet(0x32, &[&text(OWN)[..], &[0, 1, 9, 1]].concat()),
            0x81,
        ),
        ("cut short", pub5(&[2, 0, 0]), 0x81),
        (
            "a length without an end",
            packet(
                0x32,
                &[&text(OWN)[..], &[0, 1, 255, 255, 255, 255, 1]].concat(),
            ),
            0x81,
        ),
        ("a text that is none", pub5(&[3, 0, 1, 0xff]), 0x81),
    ] {
        ends5(what, &bytes, reason);
    }
    // In a CONNECT: value 0 where it is forbidden, a flag of 2, twice.
    for properties in [
        &[33, 0, 0][..],
        &[39, 0, 0, 0, 0],
        &[23, 2],
        &[17, 0, 0, 0, 1, 17, 0, 0, 0, 1],
    ] {
        let length = u8::try_from(properties.len()).unwrap();
        let head = [&b"\0\x04MQTT\x05\x02\0\x0a"[..], &[length], properties].concat();
        let mut wire = Wire::new(device("bed-7"));
        wire.bytes(&packet(0x10, &[&head[..], &text("bed-7")].concat()));
        assert!(wire.session.is_closed(), "{properties:?}");
        assert_eq!(wire.out[3], 0x82, "{properties:?}");
    }
    // A subscription identifier of 0.
    let zero = [&[0, 1, 2, 11, 0][..], &text("chordae/v1/bed-7/ack"), &[0]].concat();
    ends5("identifier 0", &packet(0x82, &zero), 0x82);
    // User properties may repeat.
    let mut wire = up5(device("bed-7"), "bed-7");
    let pair = [38, 0, 1, b'a', 0, 1, b'b'];
    wire.bytes(&pub5(&[pair, pair].concat()));
    assert_eq!(wire.offers().len(), 1);
}

#[test]
fn d25_filters_without_bound() {
    let many = |n: usize| {
        let filters: Vec<u8> = (0..n)
            .flat_map(|n| [text(&format!("chordae/v1/desk/s{n}/live")), vec![0]].concat())
            .collect();
        packet(0x82, &[&[0, 1][..], &filters].concat())
    };
    let desk = chordae_ingest::core::identify::Peer::Certified(
        chordae_ingest::core::ports::DeviceKind::Monitor,
        "desk".parse().unwrap(),
    );
    let mut wire = up4(desk, "desk");
    wire.bytes(&many(limits::SUBSCRIPTIONS_MAX + 3));
    let codes = wire
        .out
        .split_off(wire.out.len() - limits::SUBSCRIPTIONS_MAX - 3);
    let granted = codes.iter().filter(|c| **c == 0).count();
    assert_eq!(
        granted,
        limits::SUBSCRIPTIONS_MAX,
        "the exchange bounds a session, this a packet"
    );
    assert_eq!(codes.last(), Some(&0x80));
    // A thousand levels, 65,535 bytes: no filter of ours, whatever its length.
    for filter in ["a/".repeat(1000), "x".repeat(65_535), "+/".repeat(9_000)] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.bytes(&packet(
            0x82,
            &[&[0, 1, 0][..], &text(&filter), &[0]].concat(),
        ));
        assert_eq!(wire.out.last(), Some(&0x87));
        assert!(wire.asked().is_empty());
    }
}

#[test]
fn d26_keep_alive_0_and_silence() {
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
    assert_eq!(wire.bye(), Some(0x8d), "after one and a half");
    // Who asks for none, or for more than the cap, is told ours and held to it.
    for asked in [0, 301, u16::MAX] {
        let mut wire = Wire::new(device("bed-7"));
        let v5::Packet::Connect(mut connect, ..) = connect5("bed-7") else {
            panic!();
        };
        connect.keep_alive = asked;
        wire.v5(&v5::Packet::Connect(connect, None, None));
        match wire.said_v5() {
            Some(v5::Packet::ConnAck(ack)) => {
                assert_eq!(ack.properties.unwrap().server_keep_alive, Some(300));
            }
            other => panic!("{other:?}"),
        }
        wire.now = 451 * second;
        wire.take(Input::Tick);
        assert_eq!(wire.bye(), Some(0x8d));
    }
}

#[test]
fn packets_of_other_shapes() {
    let sub = |options: u8| [&[0, 1][..], &text("chordae/v1/bed-7/ack"), &[options]].concat();
    for (what, bytes) in [
        ("nul", packet(0x30, &text("chordae/v1/bed-7/e\0/frame"))),
        ("utf-8", packet(0x30, &[0, 2, 0xc0, 0x80])),
        ("surrogate", packet(0x30, &[0, 3, 0xed, 0xa0, 0x80])),
        ("subscribe flags", packet(0x80, &sub(0))),
        ("subscribe options", packet(0x82, &sub(4))),
        ("subscribe qos 3", packet(0x82, &sub(3))),
        (
            "subscribe id 0",
            packet(0x82, &[&[0, 0][..], &sub(0)[2..]].concat()),
        ),
        ("subscribe to nothing", packet(0x82, &[0, 1])),
        ("unsubscribe from nothing", packet(0xa2, &[0, 1])),
        ("ping with flags", vec![0xc1, 0]),
        ("ping with body", vec![0xc0, 1, 0]),
        ("connack", vec![0x20, 2, 0, 0]),
        ("type 0", vec![0, 0]),
        ("auth", vec![0xf0, 0]),
        ("pubrel flags", vec![0x60, 2, 0, 1]),
        ("puback of 0", vec![0x40, 2, 0, 0]),
    ] {
        ends4(what, &bytes);
    }
    let sub5 = |options: u8| packet(0x82, &[&[0, 1, 0][..], &sub(options)[2..]].concat());
    for (what, bytes, reason) in [
        ("options", sub5(0x40), 0x81),
        ("retain handling 3", sub5(0x30), 0x81),
        (
            "no local, shared",
            packet(0x82, &[&[0, 1, 0][..], &text("$share/g/a"), &[4]].concat()),
            0x82,
        ),
        ("auth", vec![0xf0, 0], 0x82),
        (
            "a session that begins to last at its end",
            vec![0xe0, 7, 0, 5, 17, 0, 0, 0, 1],
            0x82,
        ),
    ] {
        ends5(what, &bytes, reason);
    }
    for bye in [&[0xe0, 0][..], &[0xe0, 1, 4], &[0xe0, 2, 0, 0]] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.bytes(bye);
        assert!(wire.session.is_closed() && wire.out.is_empty() && wire.refused().is_empty());
    }
}

#[test]
fn no_bytes_make_it_panic() {
    use proptest::prelude::*;
    let mut bytes = BytesMut::new();
    connect5("bed-7").write(&mut bytes, None).unwrap();
    publish5(OWN, Q15, 1).write(&mut bytes, None).unwrap();
    let good = bytes.to_vec();
    proptest!(ProptestConfig::with_cases(2000), |(
        at in 0..good.len(), to in any::<u8>(), five in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..80),
    )| {
        let mut changed = good.clone();
        changed[at] = to;
        Wire::new(device("bed-7")).bytes(&changed);
        let mut wire = if five { up5(device("bed-7"), "bed-7") } else { up4(device("bed-7"), "bed-7") };
        wire.bytes(&noise);
    });
}
