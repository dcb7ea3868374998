//! The bridge's machine against a broker written byte by byte: what it acknowledges, when, in which order.

use bytes::{Bytes, BytesMut};
use chordae_base::limits;
use chordae_ingest::core::{
    arrival::{Content, Refusal, Verdict},
    bridge::{
        backoff::Ended,
        packet::Wanted,
        reading::Reading,
        subscriber::{Act, Input, Subscriber},
    },
    decode::Shape,
    mqtt::framing::Version,
    ports::DeviceKind,
};
use proptest::prelude::*;

use crate::support::{Known, frame, key, seconds};

const BIRTH: &str = "chordae/v1/bed-7/ecg/birth";
const FRAME: &str = "chordae/v1/bed-7/ecg/frame";

fn wanted(version: Version) -> Wanted {
    Wanted {
        version,
        client_id: "chordae".into(),
        login: Some(("ward".into(), "secret".into())),
        filters: vec!["chordae/v1/+/+/birth".into(), "chordae/v1/+/+/frame".into()],
        qos: 1,
    }
}

/// A broker's end of the conversation, and the house's.
struct Ward {
    machine: Subscriber,
    version: Version,
    reading: Reading,
    now_ns: u64,
    known: std::sync::Arc<Known>,
}

impl Ward {
    fn connect(version: Version) -> (Self, Bytes) {
        Self::connect_from(version, 0)
    }

    fn connect_from(version: Version, first_token: u64) -> (Self, Bytes) {
        let (machine, connect) = Subscriber::open(wanted(version), first_token, 0).unwrap();
        let known = Known::with(&[("bed-7", DeviceKind::Device), ("desk", DeviceKind::Monitor)]);
        let ward = Self {
            machine,
            version,
            reading: Reading::default(),
            now_ns: 0,
            known,
        };
        (ward, connect)
    }

    /// Accepted and subscribed.
    fn up(version: Version) -> Self {
        let (mut ward, _) = Self::connect(version);
        ward.hears(&ward.connack(true));
        let acts = ward.hears(&ward.suback(&[1, 1]));
        assert_eq!(acts, [Act::Subscribed(vec![])]);
        ward
    }

    fn take(&mut self, input: Input) -> Vec<Act> {
        self.machine.take(input, self.now_ns, self.known.as_ref())
    }

    fn hears(&mut self, bytes: &[u8]) -> Vec<Act> {
        let (mut buf, mut acts) = (BytesMut::from(bytes), Vec::new());
        while let Some(part) = self.reading.split(&mut buf).unwrap() {
            acts.extend(self.take(Input::Packet(part)));
        }
        acts
    }

    fn connack(&self, present: bool) -> Vec<u8> {
        match self.version {
            Version::V4 => vec![0x20, 2, present.into(), 0],
            Version::V5 => vec![0x20, 3, present.into(), 0, 0],
        }
    }

    fn suback(&self, codes: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 1];
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend(codes);
        let mut packet = vec![0x90, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        packet
    }

    fn publish(&self, topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend(payload);
        let mut packet = vec![0x30 | qos << 1];
        let mut length = body.len();
        while length > 0x7f {
            packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        packet.push(u8::try_from(length).unwrap());
        packet.extend(body);
        packet
    }

    /// A frame is published; the token it is offered under.
    fn offered(&mut self, qos: u8, id: u16) -> u64 {
        let payload = frame(1, id.into(), seconds(1), 0).encode();
        let acts = self.hears(&self.publish(FRAME, qos, id, &payload));
        match acts.as_slice() {
            [
                Act::Offer {
                    token,
                    stream,
                    shape,
                    ..
                },
            ] => {
                assert_eq!((stream, *shape), (&key("bed-7/ecg"), Shape::Frame));
                *token
            }
            other => panic!("not one offer: {other:?}"),
        }
    }

    fn durable(&mut self, token: u64) -> Vec<Act> {
        self.take(Input::Fate(token, Verdict::Durable))
    }
}

fn sent(bytes: &[u8]) -> Act {
    Act::Send(Bytes::copy_from_slice(bytes))
}

fn content() -> Content {
    Content::Malformed("protobuf", String::new(), Bytes::new())
}

#[test]
fn it_asks_for_a_session_that_stays_and_bounds_what_is_in_flight() {
    let (_, v5) = Ward::connect(Version::V5);
    // No clean start, user and password; session expiry never, receive maximum the window.
    assert_eq!(v5[9], 0xc0, "flags");
    let window = limits::BRIDGE_WINDOW.to_be_bytes();
    for property in [
        &[17, 0xff, 0xff, 0xff, 0xff][..],
        &[33, window[0], window[1]],
    ] {
        assert!(v5.windows(property.len()).any(|w| w == property));
    }
    let (_, v4) = Ward::connect(Version::V4);
    assert_eq!((v4[8], v4[9]), (4, 0xc0), "level and flags");
}

#[test]
fn nothing_is_acknowledged_before_its_verdict() {
    for version in [Version::V4, Version::V5] {
        let mut ward = Ward::up(version);
        let one = ward.offered(1, 7);
        let two = ward.offered(2, 8);
        assert_eq!(ward.durable(one), [sent(&[0x40, 2, 0, 7])]);
        assert_eq!(ward.durable(two), [sent(&[0x50, 2, 0, 8])]);
        assert_eq!(ward.hears(&[0x62, 2, 0, 8]), [sent(&[0x70, 2, 0, 8])]);
        // QoS 0 hears nothing.
        let none = ward.offered(0, 0);
        assert_eq!(ward.durable(none), []);
        assert!(ward.machine.is_idle());
    }
}

#[test]
fn acknowledgements_keep_the_order_of_arrival() {
    let mut ward = Ward::up(Version::V5);
    let tokens: Vec<u64> = (1..=3).map(|id| ward.offered(1, id)).collect();
    assert_eq!(ward.durable(tokens[2]), []);
    assert_eq!(ward.durable(tokens[1]), []);
    let all = [1, 2, 3].map(|id| sent(&[0x40, 2, 0, id]));
    assert_eq!(ward.durable(tokens[0]), all);
}

#[test]
fn a_verdict_of_another_connection_acknowledges_nothing_here() {
    // rumqttc's way to lose: packet id 7 is an old message's, then a new one's in a session that is new.
    let mut old = Ward::up(Version::V5);
    let stale = old.offered(1, 7);
    let (mut new, _) = Ward::connect_from(Version::V5, old.machine.next_token());
    new.hears(&new.connack(false));
    new.hears(&new.suback(&[1, 1]));
    let fresh = new.offered(1, 7);
    assert_ne!(stale, fresh);
    assert_eq!(new.durable(stale), [], "acknowledged before its sync");
    assert_eq!(new.durable(fresh), [sent(&[0x40, 2, 0, 7])]);
}

#[test]
fn a_resumed_session_may_deliver_and_release_before_it_answers() {
    // Where rumqttc ends the connection ("unsolicited"), again with every connection.
    for version in [Version::V4, Version::V5] {
        let (mut ward, _) = Ward::connect(version);
        let acts = ward.hears(&ward.connack(true));
        assert!(matches!(
            acts.as_slice(),
            [Act::Connected { present: true, .. }, Act::Send(_)]
        ));
        assert_eq!(ward.hears(&[0x62, 2, 0, 9]), [sent(&[0x70, 2, 0, 9])]);
        let token = ward.offered(1, 3);
        assert_eq!(ward.durable(token), [sent(&[0x40, 2, 0, 3])]);
        ward.hears(&ward.suback(&[1, 1]));
        assert!(!ward.machine.is_closed());
    }
}

#[test]
fn a_forgotten_session_is_told_apart_from_one_that_is_there() {
    let (mut ward, _) = Ward::connect(Version::V5);
    let acts = ward.hears(&[0x20, 8, 0, 0, 5, 17, 0, 0, 14, 16]);
    assert_eq!(
        acts.first(),
        Some(&Act::Connected {
            present: false,
            expiry_s: Some(3600)
        })
    );
}

#[test]
fn a_message_in_an_id_that_is_open_is_acknowledged_once() {
    let mut ward = Ward::up(Version::V4);
    let first = ward.offered(1, 7);
    let second = ward.offered(1, 7);
    assert_eq!(ward.durable(first), []);
    assert_eq!(ward.durable(second), [sent(&[0x40, 2, 0, 7])]);
}

#[test]
fn no_room_holds_the_message_and_stops_the_reading() {
    let mut ward = Ward::up(Version::V5);
    for id in 1..=limits::BRIDGE_WINDOW {
        assert!(ward.machine.may_read());
        let token = ward.offered(1, id);
        let acts = ward.take(Input::Fate(token, Verdict::Full(content())));
        assert_eq!(acts, [Act::Hold(token, key("bed-7/ecg"), content())]);
    }
    assert!(!ward.machine.may_read(), "the window has no bound");
    // Hours later: it did not listen, so it does not call the broker silent; and it keeps itself alive.
    ward.now_ns = 3_600_000_000_000;
    assert_eq!(ward.take(Input::Tick), [sent(&[0xc0, 0])]);
    // There is room again: the shell offers under the same tokens.
    assert_eq!(ward.durable(0), [sent(&[0x40, 2, 0, 1])]);
    assert!(ward.machine.may_read());
}

#[test]
fn what_cannot_be_judged_comes_again_and_what_is_refused_does_not() {
    let mut ward = Ward::up(Version::V5);
    let refused = ward.offered(1, 1);
    let verdict = Verdict::Refused(Refusal::Conflict);
    let acts = ward.take(Input::Fate(refused, verdict));
    assert!(
        matches!(acts.as_slice(), [Act::Say(_), Act::Send(_)]),
        "{acts:?}"
    );
    let unsure = ward.offered(1, 2);
    let acts = ward.take(Input::Fate(unsure, Verdict::Unsure));
    assert!(
        matches!(acts.as_slice(), [Act::Close(Ended::Failed, _)]),
        "{acts:?}"
    );
}

#[test]
fn what_is_not_for_us_is_counted_and_acknowledged() {
    let mut ward = Ward::up(Version::V5);
    let cases = [
        ("weather/today", "topic"),
        ("chordae/v1/bed-7/status", "topic"),
        ("chordae/v1/bed-9/ecg/frame", "not-authorised"),
        ("chordae/v1/desk/ecg/frame", "not-authorised"),
    ];
    for (id, (topic, reason)) in (1..).zip(cases) {
        let acts = ward.hears(&ward.publish(topic, 1, id, b"x"));
        let ack = sent(&[0x40, 2, 0, u8::try_from(id).unwrap()]);
        match acts.as_slice() {
            [Act::Refuse(label, _), told] => assert_eq!((*label, told), (reason, &ack), "{topic}"),
            other => panic!("{topic}: {other:?}"),
        }
    }
    // Behind one that waits, it waits too.
    let token = ward.offered(1, 20);
    let acts = ward.hears(&ward.publish("weather", 1, 21, b"x"));
    assert!(matches!(acts.as_slice(), [Act::Refuse("topic", _)]));
    assert_eq!(ward.durable(token).len(), 2);
}

#[test]
fn a_payload_beyond_the_bound_is_cut_marked_and_acknowledged() {
    for version in [Version::V4, Version::V5] {
        let mut ward = Ward::up(version);
        let long = vec![7; 3 * limits::PACKET_BYTES_MAX];
        let mut bytes = ward.publish(BIRTH, 1, 5, &long);
        bytes.extend(ward.publish(FRAME, 1, 6, b"short"));
        let acts = ward.hears(&bytes);
        let [
            Act::Offer {
                cut: true,
                payload,
                token,
                ..
            },
            Act::Offer { cut: false, .. },
        ] = acts.as_slice()
        else {
            panic!("{acts:?}");
        };
        assert!(payload.len() <= limits::PACKET_BYTES_MAX);
        let token = *token;
        assert_eq!(ward.durable(token), [sent(&[0x40, 2, 0, 5])]);
    }
}

#[test]
fn a_broker_that_says_no_is_not_asked_again_at_once() {
    let ends = |version, bytes: &[u8]| {
        let (mut ward, _) = Ward::connect(version);
        match ward.hears(bytes).pop() {
            Some(Act::Close(ended, why)) => (ended, why),
            other => panic!("{other:?}"),
        }
    };
    let (ended, why) = ends(Version::V4, &[0x20, 2, 0, 5]);
    assert!(
        ended == Ended::Unwanted && why.contains("NotAuthorized"),
        "{why}"
    );
    let (ended, why) = ends(Version::V5, &[0x20, 3, 0, 0x84, 0]);
    assert!(ended == Ended::Unwanted && why.contains("Version"), "{why}");
    for version in [Version::V4, Version::V5] {
        let (mut ward, _) = Ward::connect(version);
        ward.hears(&ward.connack(false));
        let acts = ward.hears(&ward.suback(&[0x80, 0x80]));
        assert!(
            matches!(acts.as_slice(), [Act::Subscribed(all), Act::Close(Ended::Unwanted, _)]
            if all.len() == 2)
        );
        // One of two is a complaint, no end.
        let (mut ward, _) = Ward::connect(version);
        ward.hears(&ward.connack(false));
        let acts = ward.hears(&ward.suback(&[0x80, 1]));
        assert_eq!(acts, [Act::Subscribed(vec!["chordae/v1/+/+/birth".into()])]);
    }
    let mut ward = Ward::up(Version::V5);
    let acts = ward.hears(&[0xe0, 1, 0x8e]);
    assert!(
        matches!(acts.as_slice(), [Act::Close(Ended::Unwanted, why)] if why.contains("client id"))
    );
}

#[test]
fn silence_ends_a_connection_and_work_makes_the_next_come_soon() {
    let (mut ward, _) = Ward::connect(Version::V5);
    ward.now_ns = nanos(limits::BRIDGE_CONNECT) + 1;
    let acts = ward.take(Input::Tick);
    assert!(matches!(acts.as_slice(), [Act::Close(Ended::Failed, _)]));

    let mut ward = Ward::up(Version::V5);
    let token = ward.offered(1, 1);
    ward.durable(token);
    ward.now_ns = nanos(limits::BRIDGE_KEEP_ALIVE) / 2;
    assert_eq!(ward.take(Input::Tick), [sent(&[0xc0, 0])]);
    assert_eq!(ward.take(Input::Tick), [], "one question is enough");
    ward.now_ns = nanos(limits::BRIDGE_KEEP_ALIVE) * 3 / 2 + 1;
    let acts = ward.take(Input::Tick);
    assert!(
        matches!(acts.as_slice(), [Act::Close(Ended::Lost, _)]),
        "{acts:?}"
    );
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

proptest! {
    /// Whatever a broker sends: no panic, no acknowledgement without a verdict, the window holds.
    #[test]
    fn any_bytes_of_a_broker_end_in_order(
        v5 in any::<bool>(),
        packets in prop::collection::vec(
            (prop::sample::select(vec![0x20_u8, 0x30, 0x32, 0x34, 0x3a, 0x40, 0x62, 0x90, 0xb0, 0xd0, 0xe0, 0xf0]),
             prop::collection::vec(any::<u8>(), 0..40)),
            0..30),
    ) {
        let version = if v5 { Version::V5 } else { Version::V4 };
        let mut ward = Ward::up(version);
        for (first, body) in packets {
            let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
            bytes.extend(body);
            for act in ward.hears(&bytes) {
                if let Act::Send(out) = act {
                    // A topic that is none of ours, or an answer to PUBREL.
                    prop_assert!(matches!(out.first(), Some(0x40 | 0x50 | 0x70)));
                }
            }
            prop_assert!(ward.machine.unacknowledged() <= usize::from(limits::BRIDGE_WINDOW));
        }
    }
}
