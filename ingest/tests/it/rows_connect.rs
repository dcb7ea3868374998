//! Bad inputs by their number, D05 to D12: the first packet, and as whom it is taken. Each beside the
//! form that is allowed.

use bytes::BytesMut;
use chordae_ingest::core::{
    exchange::request::Request,
    identify::Peer,
    mqtt::{
        profile::Profile,
        session::{Act, Input},
    },
    ports::DeviceKind,
};
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

use crate::wire::{OWN, Q1, Wire, connect4, connect5, device, text, up4, up5};

/// Refused in version 3.1.1, and how.
fn refused4(peer: Peer, packet: &v4::Packet) -> v4::ConnectReturnCode {
    let mut wire = Wire::new(peer);
    wire.v4(packet);
    assert!(wire.session.is_closed());
    assert!(wire.asked().is_empty(), "the exchange hears nothing of it");
    assert!(!wire.refused().is_empty(), "counted");
    match wire.said_v4() {
        Some(v4::Packet::ConnAck(ack)) => ack.code,
        other => panic!("{other:?}"),
    }
}

/// Refused in version 5, and how; `None`: let in.
fn refused5(peer: Peer, packet: &v5::Packet) -> Option<v5::ConnectReturnCode> {
    let mut wire = Wire::new(peer);
    wire.v5(packet);
    if wire.session.is_up() {
        return None;
    }
    assert!(wire.session.is_closed() && wire.asked().is_empty());
    match wire.said_v5() {
        Some(v5::Packet::ConnAck(ack)) => {
            assert!(ack.properties.unwrap().reason_string.is_some(), "told why");
            Some(ack.code)
        }
        other => panic!("{other:?}"),
    }
}

/// A CONNECT by hand.
fn connect(name: &[u8], level: u8, flags: u8, id: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(name);
    body.extend_from_slice(&[level, flags, 0, 10]);
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&u16::try_from(id.len()).unwrap().to_be_bytes());
    body.extend_from_slice(id);
    crate::wire::packet(0x10, &body)
}

#[test]
fn d05_a_length_of_five_bytes() {
    for bytes in [
        &[0x10, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0x10, 0x80, 0x80, 0x80, 0x80, 0x01],
        // One length has one form.
        &[0x10, 0x80, 0x00],
    ] {
        let mut wire = Wire::new(device("bed-7"));
        wire.bytes(bytes);
        assert!(wire.session.is_closed() && wire.out.is_empty());
        assert_eq!(wire.refused(), ["packet-length"]);
    }
    // The allowed form, byte by byte: no part of it is a packet.
    let good = connect(b"MQTT", 4, 2, b"bed-7");
    let mut wire = Wire::new(device("bed-7"));
    let mut sofar = BytesMut::new();
    for byte in &good[..good.len() - 1] {
        sofar.extend_from_slice(&[*byte]);
        assert_eq!(wire.session.split(&mut sofar), Ok(None), "not whole yet");
    }
    wire.bytes(&good);
    assert!(wire.session.is_up());
}

#[test]
fn d06_a_packet_before_connect_and_a_second_connect() {
    for bytes in [
        &[0xc0, 0][..],
        &[0x30, 3, 0, 1, b'a'],
        &[0xe0, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut wire = Wire::new(device("bed-7"));
        wire.bytes(bytes);
        assert!(wire.session.is_closed() && wire.out.is_empty());
        assert_eq!(wire.refused(), ["not-connect"]);
    }
    let mut wire = up5(device("bed-7"), "bed-7");
    wire.v5(&connect5("bed-7"));
    assert!(wire.session.is_closed());
    assert_eq!(wire.bye(), Some(0x82));
    assert!(
        wire.asked().is_empty(),
        "no session is taken up by it, its own or another's"
    );
    let mut wire = up4(device("bed-7"), "bed-7");
    wire.v4(&connect4("bed-8"));
    assert!(wire.session.is_closed() && wire.out.is_empty() && wire.asked().is_empty());
}

#[test]
fn d07_another_protocol() {
    let mut trailing = connect(b"MQTT", 4, 2, b"bed-7");
    trailing[1] += 1;
    trailing.push(0);
    // (what, bytes, answer up to its code)
    let cases: &[(&str, Vec<u8>, &[u8])] = &[
        ("level 3", connect(b"MQTT", 3, 2, b"x"), &[0x20, 2, 0, 1]),
        (
            "level 9",
            connect(b"MQTT", 9, 2, b"x"),
            &[0x20, 22, 0, 0x84],
        ),
        ("MQIsdp", connect(b"MQIsdp", 3, 2, b"x"), &[0x20, 2, 0, 1]),
        ("MQTTx", connect(b"MQTTx", 4, 2, b"x"), &[0x20, 2, 0, 1]),
        ("reserved flag", connect(b"MQTT", 4, 3, b"x"), &[]),
        (
            "reserved flag, 5",
            connect(b"MQTT", 5, 3, b"x"),
            &[0x20, 19, 0, 0x81],
        ),
        (
            "will qos without will",
            connect(b"MQTT", 4, 0x0a, b"x"),
            &[],
        ),
        ("will qos 3", connect(b"MQTT", 4, 0x1e, b"x"), &[]),
        (
            "password without user",
            connect(b"MQTT", 4, 0x42, b"x"),
            &[],
        ),
        ("trailing", trailing, &[]),
        (
            "flags of the header",
            [&[0x11], &connect(b"MQTT", 4, 2, b"x")[1..]].concat(),
            &[],
        ),
    ];
    for (what, bytes, answer) in cases {
        let mut wire = Wire::new(device("bed-7"));
        wire.bytes(bytes);
        assert!(wire.session.is_closed(), "{what}");
        assert!(
            wire.out.starts_with(answer),
            "{what}: {:x?}",
            wire.out.as_ref()
        );
        assert_eq!(wire.out.is_empty(), answer.is_empty(), "{what}");
        assert!(!wire.refused().is_empty(), "{what} is counted");
    }
    for level in [4, 5] {
        let mut wire = Wire::new(device("bed-7"));
        wire.bytes(&connect(b"MQTT", level, 2, b"bed-7"));
        assert!(wire.session.is_up());
    }
    // User and password may be there, and the password be any bytes: nobody is known by them here.
    let mut login = connect(b"MQTT", 5, 0xc2, b"bed-7");
    login.extend_from_slice(&[0, 1, b'u', 0, 2, 0xff, 0]);
    login[1] += 7;
    let mut wire = Wire::new(device("bed-7"));
    wire.bytes(&login);
    assert!(wire.session.is_up());
}

#[test]
fn d08_a_client_id_that_is_none() {
    use v4::ConnectReturnCode as C;
    for id in ["a+b", "a#", "a/b", "$a", "a b", "\u{e9}", &"x".repeat(129)] {
        for _again in 0..2 {
            assert_eq!(
                refused4(Peer::Plain, &connect4(id)),
                C::BadClientId,
                "{id:?}"
            );
            let five = refused5(Peer::Plain, &connect5(id));
            assert_eq!(five, Some(v5::ConnectReturnCode::ClientIdentifierNotValid));
        }
    }
    for (what, id) in [
        ("bad UTF-8", &b"a\xff"[..]),
        ("overlong UTF-8", b"\xc0\x80"),
        ("U+D800", b"\xed\xa0\x80"),
        ("NUL", b"a\0b"),
    ] {
        for _again in 0..2 {
            let mut wire = Wire::new(Peer::Plain);
            wire.bytes(&connect(b"MQTT", 5, 2, id));
            assert!(
                wire.session.is_closed() && wire.asked().is_empty(),
                "{what}"
            );
            assert_eq!(wire.out[3], 0x81, "{what}");
        }
    }
    // Longer than anything before CONNECT may be: refused at its header.
    let mut wire = Wire::new(Peer::Plain);
    wire.bytes(&connect(b"MQTT", 4, 2, &[b'x'; 65_535])[..8]);
    assert_eq!(wire.refused(), ["packet-too-large"]);
    for id in ["tool", "a.b-c_d", &"x".repeat(128)] {
        up4(Peer::Plain, id);
    }
    // Where any may come, any text is a name.
    let mut wire = Wire::within(Peer::Plain, Profile::Open { refuse: vec![] });
    wire.v4(&connect4("a+b/c d\u{e9}"));
    assert!(wire.session.is_up());
}

#[test]
fn d09_no_client_id_for_a_session_that_is_to_be_kept() {
    let unclean = v4::Connect {
        clean_session: false,
        ..v4::Connect::new("")
    };
    for peer in [device("bed-7"), Peer::Plain] {
        let code = refused4(peer.clone(), &v4::Packet::Connect(unclean.clone()));
        assert_eq!(code, v4::ConnectReturnCode::BadClientId);
        let unclean = v5::Connect {
            keep_alive: 10,
            client_id: String::new(),
            clean_start: false,
            properties: None,
        };
        let code = refused5(peer, &v5::Packet::Connect(unclean, None, None));
        assert_eq!(code, Some(v5::ConnectReturnCode::ClientIdentifierNotValid));
    }
    // Clean, it is given one: the device's own, or on a plain listener one that nobody else has.
    for (peer, name) in [(device("bed-7"), "bed-7"), (Peer::Plain, "auto-1")] {
        let mut wire = Wire::new(peer.clone());
        wire.v5(&connect5(""));
        match wire.said_v5() {
            Some(v5::Packet::ConnAck(ack)) => {
                let assigned = ack.properties.unwrap().assigned_client_identifier;
                assert_eq!(assigned.as_deref(), Some(name));
            }
            other => panic!("{other:?}"),
        }
        up4(peer, "");
    }
}

#[test]
fn d10_the_certificate_of_one_and_the_client_id_of_another() {
    use v4::ConnectReturnCode as C;
    let gate = Peer::Certified(DeviceKind::Gateway, "gate".parse().unwrap());
    for (what, peer, id) in [
        ("another's id", device("bed-7"), "bed-8"),
        ("its own id in capitals", device("bed-7"), "BED-7"),
        ("not registered", device("nobody"), "nobody"),
        ("disabled", device("old"), "old"),
        ("another kind", device("desk"), "desk"),
        ("a gateway", gate, "gate"),
    ] {
        assert_eq!(
            refused4(peer.clone(), &connect4(id)),
            C::NotAuthorized,
            "{what}"
        );
        let five = refused5(peer, &connect5(id));
        assert_eq!(five, Some(v5::ConnectReturnCode::NotAuthorized), "{what}");
    }
    // Its own session, by the name of its certificate, and no other.
    let mut wire = Wire::new(device("bed-7"));
    wire.v4(&connect4("bed-7"));
    match &wire.asked()[..] {
        [(_, Request::Attach(hello))] => assert_eq!(hello.key, "device:bed-7"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn d12_a_last_will_on_the_topic_of_another() {
    let with = |topic: &str, payload: &str| {
        let mut connect = v4::Connect::new("bed-7");
        connect.last_will = Some(v4::LastWill::new(topic, payload, Q1, true));
        v4::Packet::Connect(connect)
    };
    for (topic, payload) in [
        ("chordae/v1/bed-8/status", "offline"),
        ("chordae/v1/nobody/status", "offline"),
        (OWN, "offline"),
        ("chordae/v1/bed-7/cmd/1", "{\"ok\":true}"),
        ("x", "offline"),
        ("$SYS/x", "offline"),
        ("chordae/v1/bed-7/status", "not what a status says"),
    ] {
        let code = refused4(device("bed-7"), &with(topic, payload));
        assert_eq!(code, v4::ConnectReturnCode::NotAuthorized, "{topic}");
    }
    let mut wire = Wire::new(device("bed-7"));
    wire.v4(&with("chordae/v1/bed-7/status", "offline"));
    assert!(wire.session.is_up());
    match &wire.asked()[..] {
        [(_, Request::Attach(hello))] => {
            let message = &hello.will.as_ref().unwrap().message;
            assert_eq!(message.topic, "chordae/v1/bed-7/status");
            assert!(message.retain, "a status is retained");
        }
        other => panic!("{other:?}"),
    }
    // The will goes with everything about it.
    let mut body = b"\0\x04MQTT\x05\x2e\0\x0a\0".to_vec();
    body.extend(text("bed-7"));
    let properties = b"\x18\0\0\0\x05\x01\x01\x26\0\x01k\0\x01v";
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend_from_slice(properties);
    body.extend(text("chordae/v1/bed-7/status"));
    body.extend(text("offline"));
    let mut wire = Wire::new(device("bed-7"));
    wire.bytes(&crate::wire::packet(0x10, &body));
    match &wire.asked()[..] {
        [(_, Request::Attach(hello))] => {
            let will = hello.will.clone().unwrap();
            assert_eq!((will.delay_s, will.message.qos), (5, 1));
            assert_eq!(will.message.properties.payload_format, Some(1));
            assert_eq!(will.message.properties.user, [("k".into(), "v".into())]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_before_the_session_is_taken_up_waits() {
    // The exchange has not answered: nothing else of the connection is looked at.
    let mut session = chordae_ingest::core::mqtt::session::Session::new(
        device("bed-7"),
        std::sync::Arc::default(),
        String::new(),
    );
    let wire = Wire::new(device("bed-7"));
    let mut fx = chordae_ingest::core::mqtt::session::Effects::default();
    let mut buf = BytesMut::from(&connect(b"MQTT", 4, 2, b"bed-7")[..]);
    buf.extend_from_slice(&[0xc0, 0]);
    let raw = session.split(&mut buf).unwrap().unwrap();
    session.take(Input::Packet(raw), 0, wire.registry.as_ref(), &mut fx);
    assert!(fx.out.is_empty() && !session.may_read() && !session.is_up());
    // Too many connects of this device: refused, and its session is not touched.
    session.take(Input::TooOften, 0, wire.registry.as_ref(), &mut fx);
    assert_eq!(fx.out.as_ref(), [0x20, 2, 0, 3]);
    assert!(fx.acts.contains(&Act::Close) && session.take_farewell().is_none());
}
