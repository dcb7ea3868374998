//! The ZeroMQ session machine: who may say what, credit, answers, commands, signs of life. Row Z13, and the
//! session's part of Z06, Z07 and Z09.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{DeviceId, limits};
use chordae_ingest::core::{
    arrival::{Refusal, Verdict},
    exchange::command::{CommandLine, CommandState},
    identify::Peer,
    ports::{DeviceEntry, DeviceKind},
    zmq::{
        outgoing::Outgoing,
        session::{Act, Input, Session, Wants},
    },
    zmtp::Broken,
};

use crate::support::{Known, birth, frame, key};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const BIRTH: u64 = u64::MAX;

/// One session, what it wanted, and what it said.
pub(crate) struct Talk {
    session: Session,
    pub(crate) registry: Arc<Known>,
    pub(crate) now: u64,
    pub(crate) acts: Vec<Act>,
}

impl Talk {
    /// With bed-7 on its own, bed-8 and bed-9 behind ward-3, `old` disabled.
    pub(crate) fn new(peer: Peer) -> Self {
        let registry = Known::with(&[
            ("bed-7", DeviceKind::Device),
            ("ward-3", DeviceKind::Gateway),
            ("ward-4", DeviceKind::Gateway),
            ("desk", DeviceKind::Monitor),
        ]);
        registry.put("old", DeviceKind::Device, false);
        for bed in ["bed-8", "bed-9"] {
            registry.put_entry(bed, behind("ward-3"));
        }
        let (session, acts) = (Session::new(peer), Vec::new());
        Self {
            session,
            registry,
            now: 1,
            acts,
        }
    }

    pub(crate) fn up(peer: Peer, calls_itself: &str) -> Self {
        let mut talk = Self::new(peer);
        let identity = Bytes::copy_from_slice(calls_itself.as_bytes());
        talk.take(Input::Ready(identity, true));
        assert!(talk.session.is_up(), "{:?}", talk.acts);
        talk
    }

    pub(crate) fn take(&mut self, input: Input) -> &mut Self {
        let acts = self.session.take(input, self.now, self.registry.as_ref());
        self.acts.extend(acts);
        self
    }

    pub(crate) fn say(&mut self, parts: &[&[u8]]) -> &mut Self {
        let parts = parts.iter().map(|p| Bytes::copy_from_slice(p)).collect();
        self.take(Input::Message(parts))
    }

    pub(crate) fn frame(&mut self, stream: &str, seq: u64) -> &mut Self {
        let payload = frame(1, seq, 0, 1).encode();
        self.say(&[b"frame", stream.as_bytes(), &payload])
    }

    /// All it has said since it was last asked.
    pub(crate) fn said(&mut self) -> Vec<Outgoing> {
        let mut said = Vec::new();
        self.acts.retain(|act| match act {
            Act::Send(out) => {
                said.push(out.clone());
                false
            }
            _ => true,
        });
        said.extend(self.session.answers());
        said
    }

    pub(crate) fn tokens(&mut self) -> Vec<u64> {
        let mut tokens = Vec::new();
        self.acts.retain(|act| match act {
            Act::Offer { token, .. } => {
                tokens.push(*token);
                false
            }
            _ => true,
        });
        tokens
    }

    fn fate(&mut self, token: u64, verdict: Verdict) -> &mut Self {
        self.take(Input::Fate(token, verdict))
    }

    fn reads(&self) -> bool {
        self.session.may_read(self.now)
    }

    pub(crate) fn ended(&self) -> bool {
        self.session.is_closed()
    }
}

pub(crate) fn behind(gateway: &str) -> DeviceEntry {
    DeviceEntry {
        gateway: Some(id(gateway)),
        ..DeviceEntry::new(DeviceKind::Device)
    }
}

pub(crate) fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

pub(crate) fn device() -> Peer {
    Peer::Certified(DeviceKind::Device, id("bed-7"))
}

pub(crate) fn gateway() -> Peer {
    Peer::Certified(DeviceKind::Gateway, id("ward-3"))
}

fn nack(name: &str, number: Option<(u64, u64)>, why: &'static str) -> Outgoing {
    Outgoing::Nack(Bytes::copy_from_slice(name.as_bytes()), number, why)
}

#[test]
fn acknowledgements_are_drawn_together_and_name_nothing_else() {
    let mut talk = Talk::up(device(), "");
    talk.say(&[b"birth", b"bed-7/ecg", &birth(1).encode()]);
    for seq in [0, 1, 2, 3, 7, 9] {
        talk.frame("bed-7/ecg", seq);
    }
    talk.frame("bed-7/spo2", 2);
    let tokens = talk.tokens();
    assert!(talk.said().is_empty(), "nothing before a verdict");
    // All but seq 2 are durable; another order than they came in.
    for n in [7, 6, 5, 4, 2, 1, 0] {
        talk.fate(tokens[n], Verdict::Durable);
    }
    let ecg = || key("bed-7/ecg");
    let want = [
        Outgoing::Born(ecg(), 1),
        Outgoing::Ack(ecg(), 1, 0, 1),
        Outgoing::Ack(ecg(), 1, 3, 3),
        Outgoing::Ack(ecg(), 1, 7, 7),
        Outgoing::Ack(ecg(), 1, 9, 9),
        Outgoing::Ack(key("bed-7/spo2"), 1, 2, 2),
    ];
    assert_eq!(talk.said(), want);
    talk.fate(tokens[3], Verdict::Durable);
    assert_eq!(talk.said(), [Outgoing::Ack(ecg(), 1, 2, 2)]);
    talk.fate(tokens[3], Verdict::Durable)
        .fate(99, Verdict::Durable);
    assert!(talk.said().is_empty(), "each once, and nobody else's");
}

#[test]
fn what_is_not_taken_is_told_by_its_number_and_reason() {
    let mut talk = Talk::up(device(), "bed-7");
    talk.frame("bed-7/ecg", 5);
    talk.frame("bed-7/ecg", 6);
    talk.say(&[b"birth", b"bed-7/ecg", &birth(1).encode()]);
    let tokens = talk.tokens();
    talk.fate(tokens[0], Verdict::Refused(Refusal::Conflict));
    talk.fate(tokens[1], Verdict::Unsure);
    talk.fate(tokens[2], Verdict::Refused(Refusal::BootReused));
    let want = [
        nack("bed-7/ecg", Some((1, 5)), "conflict"),
        nack("bed-7/ecg", Some((1, 6)), "unsure"),
        nack("bed-7/ecg", Some((1, BIRTH)), "boot-reused"),
    ];
    assert_eq!(talk.said(), want);
    assert!(!talk.ended());
}

#[test]
fn z09_beyond_the_credit_nothing_is_read_and_nothing_is_dropped() {
    let mut talk = Talk::up(device(), "");
    for seq in 0..u64::from(limits::INFLIGHT_MAX) {
        assert!(talk.reads(), "{seq}");
        talk.frame("bed-7/ecg", seq);
    }
    assert!(!talk.reads(), "256 are open");
    let tokens = talk.tokens();
    assert_eq!(tokens.len(), 256);
    talk.fate(tokens[0], Verdict::Durable);
    assert!(talk.reads(), "one place is free again");
    for token in &tokens[1..] {
        talk.fate(*token, Verdict::Durable);
    }
    assert_eq!(talk.said(), [Outgoing::Ack(key("bed-7/ecg"), 1, 0, 255)]);
    // By bytes: never more than 4 MiB, however large the next message is.
    let large = vec![0xff; limits::PAYLOAD_BYTES_MAX];
    let mut bytes = 0;
    while talk.reads() {
        talk.say(&[b"frame", b"bed-7/ecg", &large]);
        bytes += large.len();
    }
    let most = limits::ZMQ_INFLIGHT_BYTES_MAX;
    assert!((most / 2..=most).contains(&bytes));
    for token in talk.tokens() {
        talk.fate(token, Verdict::Durable);
    }
    assert!(talk.reads());
}

#[test]
fn without_room_each_is_told_and_the_peer_is_slowed_down() {
    let mut talk = Talk::up(device(), "");
    talk.frame("bed-7/ecg", 0).frame("bed-7/ecg", 1);
    let full = |talk: &mut Talk| {
        for token in talk.tokens() {
            let content = crate::support::content(&frame(1, 0, 0, 1));
            talk.fate(token, Verdict::Full(content));
        }
    };
    full(&mut talk);
    let told = [0, 1].map(|seq| nack("bed-7/ecg", Some((1, seq)), "full"));
    assert_eq!(talk.said(), told);
    assert!(!talk.reads(), "it is not read for a moment");
    talk.now += limits::ZMQ_FULL_PAUSE_NS;
    assert!(
        talk.reads(),
        "then it is, in case it has something else to say"
    );
    talk.frame("bed-7/ecg", 0);
    full(&mut talk);
    assert!(!talk.reads());
    assert!(talk.take(Input::Room).reads(), "there is room");
    assert!(!talk.ended());
}

#[test]
fn z13_nobody_speaks_for_another() {
    let cases = [
        (device(), "", "bed-7/ecg", true),
        (device(), "", "bed-8/ecg", false),
        (device(), "", "old/ecg", false),
        (device(), "", "who/ecg", false),
        (gateway(), "", "bed-8/ecg", true),
        (gateway(), "", "bed-9/ecg", true),
        (gateway(), "", "bed-7/ecg", false),
        (gateway(), "", "ward-3/ecg", false),
        (
            Peer::Certified(DeviceKind::Gateway, id("ward-4")),
            "",
            "bed-8/ecg",
            false,
        ),
        (Peer::Plain, "", "bed-7/ecg", true),
        (Peer::Plain, "whoever", "bed-8/ecg", true),
        (Peer::Plain, "", "old/ecg", false),
        (Peer::Plain, "", "ward-3/ecg", false),
        // On loopback the name of a gateway is believed, with what it means.
        (Peer::Plain, "ward-3", "bed-8/ecg", true),
        (Peer::Plain, "ward-3", "bed-7/ecg", false),
    ];
    for (peer, calls_itself, stream, may) in cases {
        let what = format!("{peer:?} {calls_itself} {stream}");
        let name = stream.split('/').next().unwrap().as_bytes();
        let mut talk = Talk::up(peer, calls_itself);
        talk.said();
        talk.frame(stream, 3);
        assert_eq!(talk.tokens().len(), usize::from(may), "{what}");
        let refused = nack(stream, Some((1, 3)), "not-authorised");
        let told = if may { vec![] } else { vec![refused] };
        assert_eq!(talk.said(), told, "{what}");
        // Nor in the other things that are said for a device.
        for parts in [
            &[&b"status"[..], name, b"online"][..],
            &[b"reply", name, b"c1", b"{}"],
            &[b"cmd-ack", name, b"c1"],
        ] {
            talk.acts.clear();
            talk.say(parts);
            let refused = talk.acts.contains(&Act::Refuse("not-authorised"));
            assert_eq!(refused, !may, "{what} {parts:?}");
        }
    }
    // Who is not here at all: monitors, the unknown, the disabled.
    for (kind, name) in [
        (DeviceKind::Monitor, "desk"),
        (DeviceKind::Device, "old"),
        (DeviceKind::Device, "who"),
        (DeviceKind::Device, "ward-3"),
        (DeviceKind::Gateway, "bed-7"),
    ] {
        let mut talk = Talk::new(Peer::Certified(kind, id(name)));
        talk.take(Input::Ready(Bytes::new(), true));
        assert!(talk.ended() && talk.said().is_empty(), "{name}");
    }
}

#[test]
fn streams_are_bounded_by_the_registry_and_a_change_counts_at_once() {
    let mut talk = Talk::up(device(), "");
    let only = DeviceEntry {
        streams: vec!["ecg".parse().unwrap()],
        ..DeviceEntry::new(DeviceKind::Device)
    };
    talk.frame("bed-7/spo2", 0);
    talk.registry.put_entry("bed-7", only);
    talk.frame("bed-7/spo2", 1).frame("bed-7/ecg", 1);
    assert_eq!(talk.tokens().len(), 2);
    assert_eq!(
        talk.said(),
        [nack("bed-7/spo2", Some((1, 1)), "not-authorised")]
    );
    talk.registry.put("bed-7", DeviceKind::Device, false);
    talk.frame("bed-7/ecg", 2);
    assert_eq!(
        talk.said(),
        [nack("bed-7/ecg", Some((1, 2)), "not-authorised")]
    );
}

#[test]
fn what_is_no_message_is_told_and_sixteen_in_a_row_end_it() {
    let good = frame(1, 0, 0, 1).encode();
    let long = vec![b'x'; 5000];
    let bad: &[&[&[u8]]] = &[
        &[b""],
        &[b"frame"],
        &[b"frame", b"bed-7/ecg"],
        &[b"frame", b"bed-7", &good],
        &[b"frame", b"bed-7/ECG", &good],
        &[b"frame", b"bed-7/../x", &good],
        &[b"frame", b"\xff\xfe/ecg", &good],
        &[b"frame", &long, &good],
        &[b"frame", b"bed-7/ecg", &good, &[0; 7]],
        &[b"frame", b"bed-7/ecg", &good, &[0; 8], b""],
        // Its own receive time is not a device's to say.
        &[b"frame", b"bed-7/ecg", &good, &[0; 8]],
        &[b"frame\0", b"bed-7/ecg", &good],
        &[b"FRAME", b"bed-7/ecg", &good],
        &[b"frame.json", b"bed-7/ecg", b"{}"],
        &[b"status", b"bed-7", b"asleep"],
        &[b"ack", b"bed-7/ecg", &[0; 8], &[0; 8], &[0; 8]],
    ];
    let mut talk = Talk::up(device(), "");
    for (n, parts) in bad.iter().enumerate() {
        assert!(!talk.ended(), "{n}");
        talk.say(parts);
        let name = parts.get(1).copied().unwrap_or_default();
        let said = talk.said();
        let told = Outgoing::Nack(Bytes::copy_from_slice(name), None, "parts");
        assert_eq!(said, [told], "{n}");
    }
    assert!(talk.ended());
    assert!(talk.tokens().is_empty());
    // One good message in between, and it goes on.
    let mut talk = Talk::up(device(), "");
    for _ in 0..10 {
        for _ in 1..limits::ZMQ_STRIKES_MAX {
            talk.say(&[b"what"]);
        }
        talk.frame("bed-7/ecg", 0);
    }
    assert!(!talk.ended());
    assert!(talk.take(Input::Broken(Broken("zmtp-flags"))).ended());
}

#[test]
fn a_gateway_says_when_it_received_and_hears_who_is_behind_it() {
    let mut talk = Talk::up(gateway(), "ward-3");
    let list = |enabled: bool| {
        let json = format!(
            r#"[{{"id":"bed-8","streams":[],"enabled":true,"revoked":[]}},{{"id":"bed-9","streams":[],"enabled":{enabled},"revoked":[]}}]"#
        );
        Outgoing::Devices(json.into())
    };
    assert_eq!(talk.said(), [list(true)]);
    assert!(talk.acts.contains(&Act::Claim("ward-3".into())));
    let payload = frame(1, 0, 0, 1).encode();
    talk.say(&[b"frame", b"bed-8/ecg", &payload, &(-5i64).to_be_bytes()]);
    let relayed = talk.acts.iter().find_map(|act| match act {
        Act::Offer { relayed_ns, .. } => Some(*relayed_ns),
        _ => None,
    });
    assert_eq!(relayed, Some(Some(-5)));
    talk.take(Input::Tick);
    assert!(talk.said().is_empty(), "nothing has changed");
    let off = DeviceEntry {
        enabled: false,
        ..behind("ward-3")
    };
    talk.registry.put_entry("bed-9", off);
    assert_eq!(talk.take(Input::Tick).said(), [list(false)]);
    assert_eq!(talk.session.wants(), Wants::Of(id("bed-8")));
}

#[test]
fn a_broken_payload_is_refused_by_the_number_that_it_claims() {
    let broken = || Verdict::Refused(Refusal::Malformed("protobuf", "broken".into()));
    let mut talk = Talk::up(gateway(), "");
    talk.said();
    assert!(!talk.session.is_direct());
    talk.say(&[b"frame", b"bed-8/ecg", b"\x08\x01\x10\x05 what"]);
    talk.say(&[b"birth", b"bed-8/ecg", b"\x08\x07\x10"]);
    talk.say(&[b"frame", b"bed-8/ecg", b"\xff"]);
    for token in talk.tokens() {
        talk.fate(token, broken());
    }
    let told = [Some((1, 5)), Some((7, BIRTH)), None].map(|n| nack("bed-8/ecg", n, "protobuf"));
    assert_eq!(talk.said(), told);
}

#[test]
fn commands_go_once_to_whom_they_are_for_until_they_are_taken() {
    let command = |n: u8, device: &str, state| CommandLine {
        id: format!("c{n}"),
        device: id(device),
        body: format!("{{\"id\":\"c{n}\"}}"),
        state,
        issued_ns: 0,
        expires_ns: 99,
        replied_ns: None,
        reply: None,
    };
    let all = || {
        vec![
            command(1, "bed-7", CommandState::Waiting),
            command(2, "bed-8", CommandState::Waiting),
            command(3, "bed-8", CommandState::Delivered),
            command(4, "bed-9", CommandState::Expired),
        ]
    };
    let sent = |n: u8, device: &str, lapses| {
        Outgoing::Command(id(device), format!("{{\"id\":\"c{n}\"}}"), lapses)
    };
    let mut talk = Talk::up(device(), "");
    assert_eq!(talk.session.wants(), Wants::Of(id("bed-7")));
    talk.take(Input::Commands(all()));
    assert_eq!(talk.said(), [sent(1, "bed-7", None)]);
    talk.take(Input::Commands(all()));
    assert!(talk.said().is_empty(), "once on a connection");
    let mut talk = Talk::up(gateway(), "");
    talk.said();
    assert_eq!(talk.session.wants(), Wants::Several);
    talk.take(Input::Commands(all()));
    assert_eq!(talk.said(), [sent(2, "bed-8", Some(99))]);
    // On loopback: for the devices that it has spoken for.
    let mut talk = Talk::up(Peer::Plain, "");
    assert_eq!(talk.session.wants(), Wants::Nothing);
    assert!(talk.take(Input::Commands(all())).said().is_empty());
    talk.say(&[b"status", b"bed-8", b"online"]);
    assert!(talk.acts.contains(&Act::Look));
    assert!(talk.acts.contains(&Act::Status(id("bed-8"), true)));
    assert_eq!(
        talk.take(Input::Commands(all())).said(),
        [sent(2, "bed-8", None)]
    );
    talk.say(&[b"cmd-ack", b"bed-8", b"c2"]);
    assert!(
        talk.acts
            .contains(&Act::Delivered(id("bed-8"), "c2".into()))
    );
    talk.say(&[b"reply", b"bed-8", b"c2", b"{\"ok\":true}"]);
    let reply = Act::Reply(
        id("bed-8"),
        "c2".into(),
        Bytes::from_static(b"{\"ok\":true}"),
    );
    assert!(talk.acts.contains(&reply));
    assert!(talk.said().is_empty(), "confirmed only when it is kept");
    talk.take(Input::Replied(id("bed-8"), "c2".into()));
    assert_eq!(talk.said(), [Outgoing::Replied(id("bed-8"), "c2".into())]);
}

#[test]
fn z07_pings_are_answered_and_a_flood_of_them_is_not() {
    let mut talk = Talk::up(device(), "");
    let context = Bytes::from_static(b"0123456789abcdef");
    for _ in 0..1000 {
        talk.take(Input::Ping(context.clone()));
    }
    let pongs = talk.said();
    assert_eq!(pongs, vec![Outgoing::Pong(context.clone()); 10]);
    talk.now += SECOND;
    assert_eq!(
        talk.take(Input::Ping(context.clone())).said(),
        [Outgoing::Pong(context)]
    );
    assert!(!talk.ended());
}

#[test]
fn a_silent_peer_is_asked_and_then_left_but_not_while_we_do_not_listen() {
    let mut talk = Talk::up(device(), "");
    let mut asked = 0;
    for _ in 0..290 {
        talk.now += SECOND;
        asked += talk.take(Input::Tick).said().len();
    }
    assert!((25..=30).contains(&asked), "{asked}");
    talk.take(Input::Pong);
    talk.now += 299 * SECOND;
    assert!(!talk.take(Input::Tick).ended());
    talk.now += 2 * SECOND;
    assert!(talk.take(Input::Tick).ended());
    // It waits for its acks and may say nothing: that is our doing.
    let mut talk = Talk::up(device(), "");
    for seq in 0..256 {
        talk.frame("bed-7/ecg", seq);
    }
    talk.now += 1000 * SECOND;
    assert!(!talk.take(Input::Tick).ended());
    assert_eq!(talk.said(), [Outgoing::Ping], "it is told that we are here");
    // A peer of 3.0 knows no PING.
    let mut talk = Talk::new(device());
    talk.take(Input::Ready(Bytes::new(), false));
    talk.now += 60 * SECOND;
    assert!(talk.take(Input::Tick).said().is_empty());
}
