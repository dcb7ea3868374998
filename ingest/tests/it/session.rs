//! The session machine, byte by byte, in both versions: the codec of a real client on the other side.

use std::sync::Arc;

use bytes::BytesMut;
use chordae_base::limits;
use chordae_ingest::core::{
    arrival::{Refusal, Standing, Verdict},
    decode::Shape,
    identify::Peer,
    mqtt::{
        framing::Version,
        outgoing,
        session::{Act, Cut, Input, Session},
    },
    ports::{DeviceKind, LiveFrame},
};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes as m5,
    v5::mqttbytes::v5,
};

use crate::support::{Known, key};

/// One connection: bytes in, bytes out, and what else it wanted.
struct Wire {
    session: Session,
    registry: Arc<Known>,
    now: u64,
    acts: Vec<Act>,
    out: BytesMut,
}

impl Wire {
    fn new(peer: Peer) -> Self {
        let registry = Known::with(&[
            ("bed-7", DeviceKind::Device),
            ("bed-8", DeviceKind::Device),
            ("desk", DeviceKind::Monitor),
            ("gate", DeviceKind::Gateway),
        ]);
        registry.put("old", DeviceKind::Device, false);
        let (acts, out) = (Vec::new(), BytesMut::new());
        Self {
            session: Session::new(peer),
            registry,
            now: 0,
            acts,
            out,
        }
    }

    fn take(&mut self, input: Input) {
        let acts = self.session.take(input, self.now, self.registry.as_ref());
        for act in &acts {
            if let Act::Send(packet) = act {
                let (version, max) = (self.session.version(), self.session.packet_max());
                outgoing::write(version, packet, max, &mut self.out);
            }
        }
        self.acts.extend(acts);
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let mut buf = BytesMut::from(bytes);
        while self.session.may_read() {
            match self.session.split(&mut buf) {
                Ok(Some(raw)) => self.take(Input::Packet(raw)),
                Ok(None) => break,
                Err(broken) => self.take(Input::Broken(broken)),
            }
        }
        self
    }

    fn v4(&mut self, packet: &v4::Packet) -> &mut Self {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.bytes(&bytes)
    }

    fn v5(&mut self, packet: &v5::Packet) -> &mut Self {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.bytes(&bytes)
    }

    fn said_v4(&mut self) -> Option<v4::Packet> {
        (!self.out.is_empty()).then(|| v4::Packet::read(&mut self.out, 1 << 20).unwrap())
    }

    fn said_v5(&mut self) -> Option<v5::Packet> {
        (!self.out.is_empty()).then(|| v5::Packet::read(&mut self.out, None).unwrap())
    }

    fn offers(&self) -> Vec<(u64, String, Shape)> {
        let offers = self.acts.iter().filter_map(|a| match a {
            Act::Offer {
                token,
                stream,
                shape,
                ..
            } => Some((*token, stream.to_string(), *shape)),
            _ => None,
        });
        offers.collect()
    }

    fn refused(&self) -> Vec<&'static str> {
        let refused = self.acts.iter().filter_map(|a| match a {
            Act::Refuse(why) => Some(*why),
            _ => None,
        });
        refused.collect()
    }
}

fn device(name: &str) -> Peer {
    Peer::Certified(DeviceKind::Device, name.parse().unwrap())
}

fn connect4(id: &str) -> v4::Packet {
    v4::Packet::Connect(v4::Connect::new(id))
}

fn connect5(id: &str) -> v5::Packet {
    let connect = v5::Connect {
        keep_alive: 10,
        client_id: id.into(),
        clean_start: true,
        properties: None,
    };
    v5::Packet::Connect(connect, None, None)
}

fn up4(peer: Peer, id: &str) -> Wire {
    let mut wire = Wire::new(peer);
    wire.v4(&connect4(id));
    let ack = v4::ConnAck::new(v4::ConnectReturnCode::Success, false);
    assert_eq!(wire.said_v4(), Some(v4::Packet::ConnAck(ack)));
    wire.acts.clear();
    wire
}

fn up5(peer: Peer, id: &str) -> Wire {
    let mut wire = Wire::new(peer);
    wire.v5(&connect5(id));
    match wire.said_v5() {
        Some(v5::Packet::ConnAck(ack)) => {
            assert_eq!(
                (ack.code, ack.session_present),
                (v5::ConnectReturnCode::Success, false)
            );
            let p = ack.properties.unwrap();
            assert_eq!(p.session_expiry_interval, Some(0));
            assert_eq!(p.receive_max, Some(limits::INFLIGHT_MAX));
            assert_eq!((p.max_qos, p.topic_alias_max), (Some(1), None));
            assert_eq!(
                p.max_packet_size,
                u32::try_from(limits::PACKET_BYTES_MAX).ok()
            );
        }
        other => panic!("{other:?}"),
    }
    wire.acts.clear();
    wire
}

fn publish4(topic: &str, qos: mqttbytes::QoS, id: u16) -> v4::Packet {
    let mut publish = v4::Publish::new(topic, qos, vec![1, 2, 3]);
    publish.pkid = id;
    v4::Packet::Publish(publish)
}

fn publish5(topic: &str, qos: m5::QoS, id: u16) -> v5::Packet {
    let mut publish = v5::Publish::new(topic, qos, vec![1, 2, 3], None);
    publish.pkid = id;
    v5::Packet::Publish(publish)
}

const Q1: mqttbytes::QoS = mqttbytes::QoS::AtLeastOnce;
const Q15: m5::QoS = m5::QoS::AtLeastOnce;
const OWN: &str = "chordae/v1/bed-7/ecg/frame";

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
