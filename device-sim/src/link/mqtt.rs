//! MQTT over `rumqttc` (3.1.1 and 5), at QoS 0, 1 or 2.
//!
//! `rumqttc` 0.25 forgets unacknowledged packets when the session is new, keeps a collided packet over
//! a reconnect and can then stand still; a client of one connection's life does neither. The event loop
//! runs in a task of its own because its `poll` must not be cancelled half-way.
//!
//! A frame counts as acknowledged at PUBACK and at PUBREC, which both mean on disk; at QoS 0 when the
//! `ack` topic has it. Status and replies go at QoS 1 whatever the frames do.

use std::time::Duration;

use bytes::Bytes;
use chordae_base::{Outcome, limits};
use rumqttc::{Transport, v5};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{CONNECT_S, Dial, Event, Mqtt, Parcel, Reason, bracketed, tunnel};

/// Reason code 0x97: quota exceeded, try later.
const QUOTA: u8 = 0x97;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Packet ids before they repeat; more than twice what may be in flight, so that acknowledgements
/// out of order never meet an id that is still in use.
const PACKET_IDS: u16 = 2 * limits::SIM_INFLIGHT_MAX as u16 + 112;

enum Version {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

pub(super) struct Client {
    version: Version,
    qos: u8,
    /// `chordae/v1/{device}`, and the stream's name.
    base: (String, String),
}

/// Connects, subscribes `cmd` and `ack`, and leaves the will `offline`.
pub(super) async fn open(
    dial: &Dial,
    events: mpsc::Sender<Event>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Outcome<Client> {
    let (host, transport) = match dial.tls {
        Some(_) => (tunnel(dial, events.clone(), tasks).await?, Transport::Unix),
        None => (bracketed(&dial.endpoint.host), Transport::Tcp),
    };
    let (device, port) = (dial.key.device.as_str(), dial.endpoint.port);
    let base = format!("chordae/v1/{device}");
    let (status, orders, acks) = (
        format!("{base}/status"),
        format!("{base}/cmd"),
        format!("{base}/ack"),
    );
    // What may wait here for the event loop: births, frames, replies, never more than are in flight.
    let room = 2 * limits::SIM_INFLIGHT_MAX + limits::SIM_ORDERS_MAX + 8;
    let version = match dial.mqtt {
        Mqtt::V3 => {
            use rumqttc::{QoS, SubscribeFilter};
            let mut options = rumqttc::MqttOptions::new(device, host, port);
            options
                .set_transport(transport)
                .set_clean_session(true)
                .set_keep_alive(KEEP_ALIVE)
                .set_inflight(PACKET_IDS)
                .set_last_will(rumqttc::LastWill::new(
                    status,
                    "offline",
                    QoS::AtLeastOnce,
                    true,
                ))
                .set_max_packet_size(limits::PACKET_BYTES_MAX, limits::PACKET_BYTES_MAX);
            let (client, polled) = rumqttc::AsyncClient::new(options, room);
            let wish = [
                SubscribeFilter::new(orders, QoS::AtLeastOnce),
                SubscribeFilter::new(acks, QoS::AtMostOnce),
            ];
            // A new queue has room.
            client.try_subscribe_many(wish).ok();
            tasks.push(tokio::spawn(drive_v3(polled, events)));
            Version::V3(client)
        }
        Mqtt::V5 => {
            use v5::mqttbytes::{
                QoS,
                v5::{Filter, LastWill},
            };
            let most = u32::try_from(limits::PACKET_BYTES_MAX).unwrap_or(u32::MAX);
            let mut options = v5::MqttOptions::new(device, host, port);
            options
                .set_transport(transport)
                .set_clean_start(true)
                .set_keep_alive(KEEP_ALIVE)
                .set_connection_timeout(CONNECT_S)
                .set_max_packet_size(Some(most))
                .set_last_will(LastWill::new(
                    status,
                    "offline",
                    QoS::AtLeastOnce,
                    true,
                    None,
                ))
                .set_outgoing_inflight_upper_limit(PACKET_IDS);
            let (client, polled) = v5::AsyncClient::new(options, room);
            let wish = [
                Filter::new(orders, QoS::AtLeastOnce),
                Filter::new(acks, QoS::AtMostOnce),
            ];
            client.try_subscribe_many(wish).ok();
            tasks.push(tokio::spawn(drive_v5(polled, events)));
            Version::V5(client)
        }
    };
    Ok(Client {
        version,
        qos: dial.qos,
        base: (base, dial.key.stream.to_string()),
    })
}

impl Client {
    pub(super) fn names(&self) -> bool {
        self.qos == 0
    }

    pub(super) fn send(&self, parcel: Parcel<'_>) -> bool {
        let (base, stream) = &self.base;
        let twin = |json| if json { ".json" } else { "" };
        match parcel {
            Parcel::Birth { payload, json } => {
                let topic = format!("{base}/{stream}/birth{}", twin(json));
                self.publish(topic, payload, self.qos, false)
            }
            Parcel::Frame { payload, json } => {
                let topic = format!("{base}/{stream}/frame{}", twin(json));
                self.publish(topic, payload, self.qos, false)
            }
            Parcel::Status(online) => {
                let word = if online { "online" } else { "offline" };
                self.publish(format!("{base}/status"), word.into(), 1, true)
            }
            Parcel::Reply { id, payload } => {
                self.publish(format!("{base}/cmd/{id}"), payload, 1, false)
            }
        }
    }

    fn publish(&self, topic: String, payload: Bytes, qos: u8, retain: bool) -> bool {
        match &self.version {
            Version::V3(client) => {
                use rumqttc::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
                let qos = [AtMostOnce, AtLeastOnce, ExactlyOnce].get(usize::from(qos));
                let qos = qos.copied().unwrap_or(AtLeastOnce);
                let payload = payload.to_vec();
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
            Version::V5(client) => {
                use v5::mqttbytes::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
                let qos = [AtMostOnce, AtLeastOnce, ExactlyOnce].get(usize::from(qos));
                let qos = qos.copied().unwrap_or(AtLeastOnce);
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
        }
    }

    pub(super) fn disconnect(&self) -> bool {
        match &self.version {
            Version::V3(client) => client.try_disconnect().is_ok(),
            Version::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

/// What came on a topic of ours.
fn heard(topic: &[u8], payload: &Bytes) -> Option<Event> {
    if topic.ends_with(b"/cmd") {
        Some(Event::Command(payload.clone()))
    } else if topic.ends_with(b"/ack") {
        Some(Event::Standing(payload.clone()))
    } else {
        None
    }
}

fn v3_event(event: &rumqttc::Event) -> Option<Event> {
    use rumqttc::Packet;
    match event {
        // 0: at QoS 0, which has no number.
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(pkid)) if *pkid != 0 => {
            Some(Event::Numbered(*pkid))
        }
        rumqttc::Event::Outgoing(_) => None,
        rumqttc::Event::Incoming(packet) => match packet {
            Packet::ConnAck(_) => Some(Event::Connected),
            Packet::PubAck(ack) => Some(Event::Acked(ack.pkid)),
            Packet::PubRec(ack) => Some(Event::Acked(ack.pkid)),
            Packet::Publish(p) => heard(p.topic.as_bytes(), &p.payload),
            _ => None,
        },
    }
}

fn v5_event(event: &v5::Event) -> Option<Event> {
    use v5::mqttbytes::v5::Packet;
    match event {
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(pkid)) if *pkid != 0 => {
            Some(Event::Numbered(*pkid))
        }
        v5::Event::Outgoing(_) => None,
        v5::Event::Incoming(packet) => match packet {
            Packet::ConnAck(_) => Some(Event::Connected),
            Packet::PubAck(ack) => {
                let why = ack.properties.as_ref();
                let why = why.and_then(|p| p.reason_string.as_deref());
                Some(answer(ack.pkid, puback(ack.reason), why))
            }
            Packet::PubRec(rec) => {
                let why = rec.properties.as_ref();
                let why = why.and_then(|p| p.reason_string.as_deref());
                Some(answer(rec.pkid, pubrec(rec.reason), why))
            }
            Packet::Publish(p) => heard(&p.topic, &p.payload),
            _ => None,
        },
    }
}

fn answer(pkid: u16, code: u8, why: Option<&str>) -> Event {
    if code < 0x80 {
        return Event::Acked(pkid);
    }
    let reason = Reason {
        label: format!("{code:#04x}"),
        why: why.unwrap_or_default().to_owned(),
        later: code == QUOTA,
    };
    Event::Refused(pkid, reason)
}

/// The reason code on the wire (MQTT 5, 3.4.2.1).
fn puback(reason: v5::mqttbytes::v5::PubAckReason) -> u8 {
    use v5::mqttbytes::v5::PubAckReason as R;
    match reason {
        R::Success => 0x00,
        R::NoMatchingSubscribers => 0x10,
        R::UnspecifiedError => 0x80,
        R::ImplementationSpecificError => 0x83,
        R::NotAuthorized => 0x87,
        R::TopicNameInvalid => 0x90,
        R::PacketIdentifierInUse => 0x91,
        R::QuotaExceeded => QUOTA,
        R::PayloadFormatInvalid => 0x99,
    }
}

/// The same of a PUBREC (3.5.2.1).
fn pubrec(reason: v5::mqttbytes::v5::PubRecReason) -> u8 {
    use v5::mqttbytes::v5::PubRecReason as R;
    match reason {
        R::Success => 0x00,
        R::NoMatchingSubscribers => 0x10,
        R::UnspecifiedError => 0x80,
        R::ImplementationSpecificError => 0x83,
        R::NotAuthorized => 0x87,
        R::TopicNameInvalid => 0x90,
        R::PacketIdentifierInUse => 0x91,
        R::QuotaExceeded => QUOTA,
        R::PayloadFormatInvalid => 0x99,
    }
}

/// Polls until the connection ends. Acknowledgements that came with the end are still reported.
macro_rules! driver {
    ($name:ident, $events:ty, $map:ident) => {
        async fn $name(mut events: $events, out: mpsc::Sender<Event>) {
            let end = loop {
                match events.poll().await {
                    Ok(event) => {
                        let Some(event) = $map(&event) else { continue };
                        if out.send(event).await.is_err() {
                            return;
                        }
                    }
                    Err(end) => break Event::Closed(end.to_string()),
                }
            };
            let last = std::mem::take(&mut events.state.events);
            for event in last.iter().filter_map($map).chain([end]) {
                if out.send(event).await.is_err() {
                    return;
                }
            }
        }
    };
}
driver!(drive_v3, rumqttc::EventLoop, v3_event);
driver!(drive_v5, v5::EventLoop, v5_event);
