//! One connection of the session machine, with the codec of a real client on the other side.

use std::sync::Arc;

use bytes::BytesMut;
use chordae_base::limits;
use chordae_ingest::core::{
    decode::Shape,
    identify::Peer,
    mqtt::{
        outgoing,
        session::{Act, Input, Session},
    },
    ports::DeviceKind,
};
use rumqttc::{
    mqttbytes::{self, v4},
    v5::{mqttbytes as m5, mqttbytes::v5},
};

use crate::support::Known;

/// One connection: bytes in, bytes out, and what else it wanted.
pub(crate) struct Wire {
    pub(crate) session: Session,
    pub(crate) registry: Arc<Known>,
    pub(crate) now: u64,
    pub(crate) acts: Vec<Act>,
    pub(crate) out: BytesMut,
}

impl Wire {
    pub(crate) fn new(peer: Peer) -> Self {
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

    pub(crate) fn take(&mut self, input: Input) {
        let acts = self.session.take(input, self.now, self.registry.as_ref());
        for act in &acts {
            if let Act::Send(packet) = act {
                let (version, max) = (self.session.version(), self.session.packet_max());
                outgoing::write(version, packet, max, &mut self.out);
            }
        }
        self.acts.extend(acts);
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
