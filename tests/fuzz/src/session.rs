//! The session machines of both doors under any bytes of a peer, with a house behind them that takes
//! everything: no input makes them break, answer without bound, or go on after they have closed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chordae_base::{DeviceId, Outcome, StreamKey};
use chordae_ingest::core::{
    arrival::Verdict,
    exchange::{
        message::Delivery,
        request::{Answer, Request, ToClient},
    },
    identify::Peer,
    mqtt::{
        profile::Profile,
        session::{Act, Effects, Input, Session},
    },
    ports::{DeviceEntry, DeviceKind, Registry},
    zmq::session as zmq,
    zmtp,
};

/// Everybody is a device.
struct Everybody;

impl Registry for Everybody {
    fn device(&self, _id: &DeviceId) -> Option<DeviceEntry> {
        Some(DeviceEntry::new(DeviceKind::Device))
    }

    fn behind(&self, _gateway: &DeviceId) -> Vec<(DeviceId, DeviceEntry)> {
        Vec::new()
    }

    fn changes(&self) -> u64 {
        0
    }

    fn open_stream(&self, _key: &StreamKey) -> Outcome<()> {
        Ok(())
    }
}

/// Any bytes of an MQTT client; the first says whether any topic may be used.
pub fn mqtt(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let profile = match how & 2 {
        0 => Profile::Closed,
        _ => Profile::Open { refuse: Vec::new() },
    };
    let mut session = Session::new(Peer::Plain, Arc::new(profile), "spare".into());
    let mut buf = BytesMut::from(bytes);
    let (mut fx, mut now_ns, mut sent) = (Effects::default(), 0, 0);
    while session.may_read() {
        let input = match session.split(&mut buf) {
            Ok(Some(raw)) => Input::Packet(raw),
            Ok(None) => break,
            Err(broken) => Input::Broken(broken),
        };
        now_ns += 1_000_000_000;
        session.take(input, now_ns, &Everybody, &mut fx);
        sent += oblige(&mut session, &mut fx, now_ns);
    }
    // The largest answer to few bytes: a CONNACK, or a retained message that the house delivers.
    assert!(
        sent <= 4096 + 64 * bytes.len(),
        "{sent} bytes for {}",
        bytes.len()
    );
    let was_closed = session.is_closed();
    session.take(Input::Tick, u64::MAX, &Everybody, &mut fx);
    assert!(!was_closed || fx.out.is_empty(), "it speaks after its end");
}

/// The house's side of it: every offer is durable, every request is granted. Gives the bytes sent.
fn oblige(session: &mut Session, fx: &mut Effects, now_ns: u64) -> usize {
    let mut sent = 0;
    // Each answer may ask for more; a machine that never rests is a fault too.
    let mut rounds = 0;
    loop {
        sent += fx.out.split().len();
        if fx.acts.is_empty() {
            return sent;
        }
        rounds += 1;
        assert!(rounds < 64, "the session never rests");
        for act in std::mem::take(&mut fx.acts) {
            for input in answer(act) {
                session.take(input, now_ns, &Everybody, fx);
            }
        }
    }
}

fn answer(act: Act) -> Vec<Input> {
    match act {
        Act::Offer { token, .. } => vec![Input::Fate(token, Verdict::Durable)],
        Act::Exchange(token, request) => {
            let (granted, deliver) = grant(request);
            let answer = granted.map(|a| Input::Exchange(ToClient::Answer(token, a)));
            let delivery = deliver.map(|d| Input::Exchange(ToClient::Deliver(d)));
            answer.into_iter().chain(delivery).collect()
        }
        _ => Vec::new(),
    }
}

fn grant(request: Request) -> (Option<Answer>, Option<Delivery>) {
    match request {
        Request::Attach(_) => {
            let kept = Vec::new();
            (
                Some(Answer::Attached {
                    present: false,
                    kept,
                }),
                None,
            )
        }
        Request::Publish { message, .. } => {
            // It comes back to whoever sent it, as to any subscriber.
            let id = u16::from(message.qos > 0);
            let (dup, identifiers) = (false, Vec::new());
            let delivery = Delivery {
                id,
                dup,
                message,
                identifiers,
            };
            (Some(Answer::Published { matched: true }), Some(delivery))
        }
        Request::Release(_) => (Some(Answer::Released { known: true }), None),
        Request::Subscribe(wishes) => {
            let codes = wishes.iter().map(|wish| Ok(wish.qos)).collect();
            (Some(Answer::Subscribed(codes)), None)
        }
        Request::Unsubscribe(filters) => {
            let known = filters.iter().map(|_| true).collect();
            (Some(Answer::Unsubscribed(known)), None)
        }
        _ => (None, None),
    }
}

/// Any bytes as the messages of a ZeroMQ peer: each part begins with its length and whether more follow.
pub fn zmq(data: &[u8]) {
    let mut session = zmq::Session::new(Peer::Plain);
    let mut rest = data;
    let (mut parts, mut now_ns) = (Vec::new(), 0);
    session.take(zmq::Input::Ready(Bytes::new(), true), now_ns, &Everybody);
    while let Some((head, tail)) = rest.split_first() {
        let length = usize::from(head >> 1).min(tail.len());
        let (part, tail) = tail.split_at(length);
        rest = tail;
        parts.push(Bytes::copy_from_slice(part));
        if head & 1 == 1 && parts.len() < 16 {
            continue;
        }
        now_ns += 1_000_000;
        let message = zmq::Input::Message(std::mem::take(&mut parts));
        for act in session.take(message, now_ns, &Everybody) {
            if let zmq::Act::Offer { token, .. } = act {
                session.take(
                    zmq::Input::Fate(token, Verdict::Durable),
                    now_ns,
                    &Everybody,
                );
            }
        }
        let answers = session.answers();
        assert!(
            answers.len() <= 16,
            "{} answers to one message",
            answers.len()
        );
    }
}

/// Messages that devices and gateways send.
pub fn zmq_seeds() -> Vec<Vec<u8>> {
    let birth = crate::wire::birth_seeds().concat();
    let mut messages = vec![
        vec![b"birth".to_vec(), b"bed-7/ecg".to_vec(), birth],
        vec![b"status".to_vec(), b"bed-7".to_vec(), b"online".to_vec()],
        vec![
            b"reply".to_vec(),
            b"bed-7".to_vec(),
            b"c1".to_vec(),
            b"{\"ok\":true}".to_vec(),
        ],
        vec![b"cmd-ack".to_vec(), b"bed-7".to_vec(), b"c1".to_vec()],
    ];
    for frame in crate::wire::frame_seeds()
        .into_iter()
        .filter(|f| f.len() < 128)
    {
        let parts = vec![b"frame".to_vec(), b"bed-7/ecg".to_vec(), frame];
        let mut relayed = parts.clone();
        relayed.push(1_700_000_000_000_000_000_i64.to_be_bytes().to_vec());
        messages.extend([parts, relayed]);
    }
    let written = messages.iter().map(|parts| {
        let last = parts.len() - 1;
        let written = parts.iter().enumerate().flat_map(|(i, part)| {
            let length = u8::try_from(part.len().min(127)).unwrap_or(127);
            let head = length << 1 | u8::from(i != last);
            std::iter::once(head).chain(part.iter().copied().take(127))
        });
        written.collect::<Vec<u8>>()
    });
    let each: Vec<_> = written.collect();
    let all = each.concat();
    // The codec's own words are no message of the session; they are here for what they may break.
    let mut foreign = BytesMut::new();
    zmtp::message(&[b"frame".as_slice(), b"bed-7/ecg"], &mut foreign);
    each.into_iter().chain([all, foreign.to_vec()]).collect()
}
