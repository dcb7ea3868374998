//! One connection of the session machine, with the codec of a real client on the other side.

use std::{collections::BTreeMap, sync::Arc};

use bytes::BytesMut;
use chordae_base::limits;
use chordae_ingest::core::{
    decode::Shape,
    exchange::{
        message::Wish,
        request::{Answer, Request, ToClient},
    },
    identify::Peer,
    mqtt::{
        profile::Profile,
        session::{Act, Effects, Input, Session},
    },
    ports::DeviceKind,
};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::{mqttbytes as m5, mqttbytes::v5},
};

use crate::support::Known;

/// One connection: bytes in, bytes out, and what else it wanted. Behind it an exchange that takes up every
/// session and grants every subscription; what is published is answered by the test.
pub(crate) struct Wire {
    pub(crate) session: Session,
    pub(crate) registry: Arc<Known>,
    pub(crate) now: u64,
    pub(crate) acts: Vec<Act>,
    pub(crate) out: BytesMut,
    /// What the exchange holds of this session.
    pub(crate) kept: BTreeMap<String, Wish>,
    pub(crate) present: bool,
    fx: Effects,
}

impl Wire {
    pub(crate) fn new(peer: Peer) -> Self {
        Self::within(peer, Profile::Closed)
    }

    pub(crate) fn within(peer: Peer, profile: Profile) -> Self {
        let registry = Known::with(&[
            ("bed-7", DeviceKind::Device),
            ("bed-8", DeviceKind::Device),
            ("desk", DeviceKind::Monitor),
            ("gate", DeviceKind::Gateway),
        ]);
        registry.put("old", DeviceKind::Device, false);
        Self {
            session: Session::new(peer, Arc::new(profile), "auto-1".into()),
            registry,
            now: 0,
            acts: Vec::new(),
            out: BytesMut::new(),
            kept: BTreeMap::new(),
            present: false,
            fx: Effects::default(),
        }
    }

    pub(crate) fn take(&mut self, input: Input) {
        let registry = self.registry.as_ref();
        self.session.take(input, self.now, registry, &mut self.fx);
        self.out.extend_from_slice(&self.fx.out.split());
        for act in std::mem::take(&mut self.fx.acts) {
            let answer = match &act {
                Act::Exchange(token, request) => self.answer(request).map(|a| (*token, a)),
                _ => None,
            };
            self.acts.push(act);
            if let Some((token, answer)) = answer {
                self.take(Input::Exchange(ToClient::Answer(token, answer)));
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Option<Answer> {
        match request {
            Request::Attach(_) => Some(Answer::Attached {
                present: self.present,
                kept: self.kept.values().cloned().collect(),
            }),
            Request::Subscribe(wishes) => {
                let keep = |wish: &Wish| {
                    self.kept.insert(wish.filter.clone(), wish.clone());
                    Ok(wish.qos)
                };
                Some(Answer::Subscribed(wishes.iter().map(keep).collect()))
            }
            Request::Unsubscribe(filters) => {
                let known = filters.iter().map(|f| self.kept.remove(f).is_some());
                Some(Answer::Unsubscribed(known.collect()))
            }
            Request::Release(_) => Some(Answer::Released { known: false }),
            _ => None,
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
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

    pub(crate) fn v4(&mut self, packet: &v4::Packet) -> &mut Self {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.bytes(&bytes)
    }

    pub(crate) fn v5(&mut self, packet: &v5::Packet) -> &mut Self {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.bytes(&bytes)
    }

    pub(crate) fn said_v4(&mut self) -> Option<v4::Packet> {
        (!self.out.is_empty()).then(|| v4::Packet::read(&mut self.out, 1 << 20).unwrap())
    }

    pub(crate) fn said_v5(&mut self) -> Option<v5::Packet> {
        (!self.out.is_empty()).then(|| v5::Packet::read(&mut self.out, None).unwrap())
    }

    /// The reason of the DISCONNECT that is all there is to read.
    pub(crate) fn bye(&self) -> Option<u8> {
        let whole =
            self.out.first() == Some(&0xe0) && self.out.len() == 2 + usize::from(self.out[1]);
        whole.then(|| self.out[2])
    }

    pub(crate) fn offers(&self) -> Vec<(u64, String, Shape)> {
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

    /// What the exchange was asked.
    pub(crate) fn asked(&self) -> Vec<(u64, Request)> {
        let asked = self.acts.iter().filter_map(|a| match a {
            Act::Exchange(token, request) => Some((*token, request.clone())),
            _ => None,
        });
        asked.collect()
    }

    /// The exchange has taken the newest publish.
    pub(crate) fn taken(&mut self, matched: bool) {
        let (token, _) = self.asked().pop().expect("nothing was asked");
        self.told(token, Answer::Published { matched });
    }

    pub(crate) fn told(&mut self, token: u64, answer: Answer) {
        self.take(Input::Exchange(ToClient::Answer(token, answer)));
    }

    pub(crate) fn refused(&self) -> Vec<&'static str> {
        let refused = self.acts.iter().filter_map(|a| match a {
            Act::Refuse(why) => Some(*why),
            _ => None,
        });
        refused.collect()
    }
}

pub(crate) fn device(name: &str) -> Peer {
    Peer::Certified(DeviceKind::Device, name.parse().unwrap())
}

pub(crate) fn connect4(id: &str) -> v4::Packet {
    v4::Packet::Connect(v4::Connect::new(id))
}

pub(crate) fn connect5(id: &str) -> v5::Packet {
    let connect = v5::Connect {
        keep_alive: 10,
        client_id: id.into(),
        clean_start: true,
        properties: None,
    };
    v5::Packet::Connect(connect, None, None)
}

pub(crate) fn up4(peer: Peer, id: &str) -> Wire {
    let mut wire = Wire::new(peer);
    wire.v4(&connect4(id));
    let ack = v4::ConnAck::new(v4::ConnectReturnCode::Success, false);
    assert_eq!(wire.said_v4(), Some(v4::Packet::ConnAck(ack)));
    wire.acts.clear();
    wire
}

pub(crate) fn up5(peer: Peer, id: &str) -> Wire {
    let mut wire = Wire::new(peer);
    wire.v5(&connect5(id));
    match wire.said_v5() {
        Some(v5::Packet::ConnAck(ack)) => {
            assert_eq!(
                (ack.code, ack.session_present),
                (v5::ConnectReturnCode::Success, false)
            );
            let p = ack.properties.unwrap();
            assert_eq!(p.session_expiry_interval, None, "as asked");
            assert_eq!(p.receive_max, Some(limits::INFLIGHT_MAX));
            assert_eq!(p.topic_alias_max, Some(limits::TOPIC_ALIASES_MAX));
            assert_eq!((p.max_qos, p.retain_available), (None, None), "all of it");
            assert_eq!(p.shared_subscription_available, Some(0));
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

pub(crate) fn publish4(topic: &str, qos: mqttbytes::QoS, id: u16) -> v4::Packet {
    let mut publish = v4::Publish::new(topic, qos, vec![1, 2, 3]);
    publish.pkid = id;
    v4::Packet::Publish(publish)
}

pub(crate) fn publish5(topic: &str, qos: m5::QoS, id: u16) -> v5::Packet {
    let mut publish = v5::Publish::new(topic, qos, vec![1, 2, 3], None);
    publish.pkid = id;
    v5::Packet::Publish(publish)
}

pub(crate) const Q1: mqttbytes::QoS = mqttbytes::QoS::AtLeastOnce;
pub(crate) const Q15: m5::QoS = m5::QoS::AtLeastOnce;
pub(crate) const OWN: &str = "chordae/v1/bed-7/ecg/frame";

/// A packet by its first byte and its body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend_from_slice(body);
    packet
}

/// A text as packets carry it.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}
