//! What the session machine takes for MQTT: the CONNECT, every later packet, and no other bytes.

use bytes::BytesMut;
use chordae_ingest::core::{identify::Peer, mqtt::session::Act, ports::DeviceKind};
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

use crate::wire::{OWN, Q1, Q15, Wire, connect4, connect5, device, publish5, up4, up5};

#[test]
fn a_connect_comes_first_and_once_and_says_who() {
    use v4::ConnectReturnCode as C;
    let refused = |peer: Peer, packet: v4::Packet| {
        let mut wire = Wire::new(peer);
        wire.v4(&packet);
        assert!(wire.session.is_closed());
        match wire.said_v4() {
            Some(v4::Packet::ConnAck(ack)) => ack.code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused(device("bed-7"), connect4("bed-8")),
        C::NotAuthorized
    );
    assert_eq!(
        refused(device("nobody"), connect4("nobody")),
        C::NotAuthorized
    );
    assert_eq!(refused(device("old"), connect4("old")), C::NotAuthorized);
    assert_eq!(refused(device("desk"), connect4("desk")), C::NotAuthorized);
    let gate = Peer::Certified(DeviceKind::Gateway, "gate".parse().unwrap());
    assert_eq!(refused(gate, connect4("gate")), C::NotAuthorized);
    for id in ["a+b", "a#", "a/b", "$a", "a b", "", &"x".repeat(129)] {
        assert_eq!(refused(Peer::Plain, connect4(id)), C::BadClientId, "{id:?}");
    }
    let unclean = v4::Connect {
        clean_session: false,
        ..v4::Connect::new("")
    };
    assert_eq!(
        refused(device("bed-7"), v4::Packet::Connect(unclean)),
        C::BadClientId
    );

    // Another's last will.
    for topic in ["chordae/v1/bed-8/status", OWN, "x"] {
        let will = v4::LastWill::new(topic, "offline", Q1, true);
        let connect = v4::Connect {
            last_will: Some(will),
            ..v4::Connect::new("bed-7")
        };
        assert_eq!(
            refused(device("bed-7"), v4::Packet::Connect(connect)),
            C::NotAuthorized
        );
    }
    let will = v4::LastWill::new("chordae/v1/bed-7/status", "offline", Q1, true);
    let connect = v4::Connect {
        last_will: Some(will),
        ..v4::Connect::new("bed-7")
    };
    let mut wire = Wire::new(device("bed-7"));
    wire.v4(&v4::Packet::Connect(connect));
    assert!(wire.session.is_up());
    assert!(wire.acts.contains(&Act::Claim("device:bed-7".into())));

    let mut wire = Wire::new(device("bed-7"));
    wire.v4(&v4::Packet::PingReq);
    assert!(
        wire.session.is_closed() && wire.out.is_empty(),
        "nothing before CONNECT"
    );
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.v5(&connect5("bed-7"));
    assert!(wire.session.is_closed());
    assert_eq!(wire.out.as_ref(), [0xe0, 2, 0x82, 0]);

    // An empty id in version 5 is given the device's.
    let mut wire = Wire::new(device("bed-7"));
    wire.v5(&connect5(""));
    match wire.said_v5() {
        Some(v5::Packet::ConnAck(ack)) => {
            assert_eq!(
                ack.properties.unwrap().assigned_client_identifier,
                Some("bed-7".into())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_that_are_no_mqtt_end_the_connection() {
    // (what, bytes, what is answered)
    let connect = |name: &[u8], level: u8, flags: u8| {
        let mut body = vec![0, u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name);
        body.extend_from_slice(&[level, flags, 0, 10]);
        if level == 5 {
            body.push(0);
        }
        body.extend_from_slice(b"\0\x05bed-7");
        let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        packet
    };
    let mut trailing = connect(b"MQTT", 4, 2);
    trailing[1] += 1;
    trailing.push(0);
    let first: &[(&str, Vec<u8>, &[u8])] = &[
        ("level 3", connect(b"MQTT", 3, 2), &[0x20, 2, 0, 1]),
        ("level 9", connect(b"MQTT", 9, 2), &[0x20, 3, 0, 0x84, 0]),
        ("MQIsdp", connect(b"MQIsdp", 3, 2), &[0x20, 2, 0, 1]),
        ("MQTTx", connect(b"MQTTx", 4, 2), &[0x20, 2, 0, 1]),
        ("reserved flag", connect(b"MQTT", 4, 3), &[]),
        (
            "reserved flag, 5",
            connect(b"MQTT", 5, 3),
            &[0x20, 3, 0, 0x81, 0],
        ),
        ("will qos without will", connect(b"MQTT", 4, 0x0a), &[]),
        ("password without user", connect(b"MQTT", 4, 0x42), &[]),
        ("trailing", trailing, &[]),
        ("256 MB", vec![0x10, 0xff, 0xff, 0xff, 0x7f], &[]),
        (
            "five length bytes",
            vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[],
        ),
        ("17 KiB", vec![0x10, 0x80, 0x88, 0x01], &[]),
        ("two forms of a length", vec![0xc0, 0x80, 0x00], &[]),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[]),
        (
            "a CONNECT with flags",
            [&[0x11][..], &connect(b"MQTT", 4, 2)[1..]].concat(),
            &[],
        ),
    ];
    for (what, bytes, answer) in first {
        let mut wire = Wire::new(device("bed-7"));
        wire.bytes(bytes);
        assert!(wire.session.is_closed(), "{what}");
        assert_eq!(wire.out.as_ref(), *answer, "{what}");
        assert!(!wire.refused().is_empty(), "{what} is counted");
    }
    let mut wire = Wire::new(device("bed-7"));
    let good = connect(b"MQTT", 4, 2);
    let mut sofar = BytesMut::new();
    for byte in &good[..good.len() - 1] {
        sofar.extend_from_slice(&[*byte]);
        assert_eq!(wire.session.split(&mut sofar), Ok(None), "not whole yet");
    }
    wire.bytes(&good);
    assert!(wire.session.is_up(), "the pattern of this test is sound");
}

#[test]
fn later_packets_are_held_to_the_standard() {
    let topic = |t: &str| {
        [
            &u16::try_from(t.len()).unwrap().to_be_bytes()[..],
            t.as_bytes(),
        ]
        .concat()
    };
    let packet =
        |first: u8, body: &[u8]| [&[first, u8::try_from(body.len()).unwrap()][..], body].concat();
    let own = topic(OWN);
    let sub = |options: u8| [&[0, 1][..], &topic("chordae/v1/bed-7/ack"), &[options]].concat();
    // Version 3.1.1: (what, packet)
    let four: Vec<(&str, Vec<u8>)> = vec![
        ("dup with qos 0", packet(0x38, &own)),
        ("qos 3", packet(0x36, &[&own[..], &[0, 1]].concat())),
        ("qos 2", packet(0x34, &[&own[..], &[0, 1]].concat())),
        ("packet id 0", packet(0x32, &[&own[..], &[0, 0]].concat())),
        ("wildcard", packet(0x30, &topic("chordae/v1/+/ecg/frame"))),
        ("hash", packet(0x30, &topic("#"))),
        ("nul", packet(0x30, &topic("chordae/v1/bed-7/e\0/frame"))),
        ("utf-8", packet(0x30, &[0, 2, 0xc0, 0x80])),
        ("surrogate", packet(0x30, &[0, 3, 0xed, 0xa0, 0x80])),
        ("no topic", packet(0x30, &[0])),
        ("empty topic", packet(0x30, &[0, 0])),
        ("foreign topic", packet(0x30, &topic("$SYS/x"))),
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
    ];
    for (what, bytes) in four {
        let mut wire = up4(device("bed-7"), "bed-7");
        wire.bytes(&bytes);
        assert!(wire.session.is_closed(), "{what}");
        assert!(wire.out.is_empty() && wire.offers().is_empty(), "{what}");
    }
    // Version 5: (what, packet, reason of the DISCONNECT)
    let pub5 = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        packet(0x32, &[&own[..], &[0, 1, length], properties].concat())
    };
    let five: Vec<(&str, Vec<u8>, u8)> = vec![
        (
            "wildcard",
            packet(0x30, &[&topic("a/#")[..], &[0]].concat()),
            0x90,
        ),
        (
            "qos 2",
            packet(0x34, &[&own[..], &[0, 1, 0]].concat()),
            0x9b,
        ),
        ("alias", pub5(&[35, 0, 1]), 0x94),
        ("property twice", pub5(&[1, 0, 1, 0]), 0x82),
        ("unknown property", pub5(&[99, 0]), 0x82),
        (
            "a property of another packet",
            pub5(&[17, 0, 0, 0, 1]),
            0x82,
        ),
        ("subscription identifier", pub5(&[11, 1]), 0x82),
        ("a flag of 2", pub5(&[1, 2]), 0x82),
        (
            "properties beyond the packet",
            packet(0x32, &[&own[..], &[0, 1, 9, 1]].concat()),
            0x81,
        ),
        ("a property cut short", pub5(&[2, 0, 0]), 0x81),
        (
            "filter identifier",
            packet(0x82, &[&[0, 1, 2, 11, 1][..], &sub(0)[2..]].concat()),
            0xa1,
        ),
        (
            "options",
            packet(0x82, &[&[0, 1, 0][..], &sub(0x40)[2..]].concat()),
            0x81,
        ),
        (
            "retain handling 3",
            packet(0x82, &[&[0, 1, 0][..], &sub(0x30)[2..]].concat()),
            0x81,
        ),
        ("too large", vec![0x30, 0xff, 0xff, 0x7f], 0x95),
        ("auth", vec![0xf0, 0], 0x82),
    ];
    for (what, bytes, reason) in five {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.bytes(&bytes);
        assert!(wire.session.is_closed(), "{what}");
        assert_eq!(wire.out.as_ref(), [0xe0, 2, reason, 0], "{what}");
        assert!(wire.offers().is_empty(), "{what}");
    }
    // User properties may repeat, and the short DISCONNECTs are fine.
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.bytes(&pub5(&[
        38, 0, 1, b'a', 0, 1, b'b', 38, 0, 1, b'a', 0, 1, b'b',
    ]));
    assert_eq!(wire.offers().len(), 1);
    for bye in [&[0xe0, 0][..], &[0xe0, 1, 4], &[0xe0, 2, 0, 0]] {
        let mut wire = up5(device("bed-7"), "bed-7");
        wire.bytes(bye);
        assert!(wire.session.is_closed() && wire.out.is_empty() && wire.refused().is_empty());
    }
}

#[test]
fn no_bytes_make_it_panic_and_cuts_make_no_difference() {
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
