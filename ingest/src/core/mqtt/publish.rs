//! What a client publishes: telemetry goes to ingest, the reply to a command to whom it is awaited, all
//! else to the exchange. Whether it may is asked of the resolved topic, each time.
//!
//! ```text
//! QoS 1  PUBLISH ─▶ durable ─▶ PUBACK
//! QoS 2  PUBLISH ─▶ durable ─▶ PUBREC ─▶ [received] ─▶ PUBREL ─▶ PUBCOMP
//! ```
//!
//! At QoS 2 the exchange knows a repeat by its packet id until PUBREL. Telemetry needs none of that: what
//! comes again under an id is offered again.

use chordae_base::{StreamKey, limits};
use serde::Deserialize;

use super::{
    acks::{Open, Waits},
    framing::{Broken, Version},
    packet::{Publish, kind},
    session::{Act, Asked, Effects, Replied, Session},
    topic::Topic,
    walk::Text,
    write,
};
use crate::core::{
    arrival::{Refusal, Verdict},
    decode::Shape,
    exchange::{
        message::Message,
        request::{Answer, Denied, Request},
    },
    identify::{self, Peer},
    ports::{DeviceKind, Registry},
};

/// Who knows a packet id between PUBREC and PUBREL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Here,
    Exchange,
}

/// The topic of the last telemetry, authorised: a device sends on few.
pub(super) struct Known {
    topic: Text,
    stream: StreamKey,
    shape: Shape,
    /// The registry's count of changes when that was so.
    changes: u64,
}

/// Where a publish may go.
enum Place {
    Ingest(StreamKey, Shape),
    Reply(chordae_base::DeviceId, String),
    Exchange,
    Status,
}

/// Whether a topic may be published to where any may be: all but the server's own. Others with a dollar are
/// ordinary topics that no wildcard finds.
pub(super) fn is_topic(topic: &str) -> bool {
    let own = ["$SYS", "$share"];
    !topic.is_empty() && !own.iter().any(|own| topic.starts_with(own))
}

/// Whether a payload says what a status says.
pub(super) fn is_status(payload: &[u8]) -> bool {
    matches!(payload, b"online" | b"offline")
}

/// The reply to a command says whether it was obeyed.
fn is_reply(payload: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(rename = "ok")]
        _ok: bool,
    }
    serde_json::from_slice::<Reply>(payload).is_ok()
}

impl Session {
    pub(super) fn publish(&mut self, p: Publish, registry: &dyn Registry, fx: &mut Effects) {
        let topic = match p.alias {
            None if p.topic.as_str().is_empty() => {
                return self.break_off(Broken::protocol("topic-empty"), fx);
            }
            None => p.topic.clone(),
            Some(alias) => {
                let max = limits::TOPIC_ALIASES_MAX;
                match self.aliases.resolve(alias, &p.topic, max) {
                    Ok(topic) => topic,
                    Err(broken) => return self.break_off(broken, fx),
                }
            }
        };
        let repeated = p.qos == 2 && self.received.contains_key(&p.id);
        let promised = self.acks.promised() + self.received.len();
        if p.qos > 0
            && !repeated
            && promised >= usize::from(limits::INFLIGHT_MAX)
            && self.version == Version::V5
        {
            let (code, why) = (0x93, "receive-maximum");
            return self.break_off(Broken { code, why }, fx);
        }
        match self.place(&topic, registry) {
            Ok(Place::Ingest(stream, shape)) => self.offer(&p, stream, shape, fx),
            Ok(Place::Reply(device, id)) if is_reply(&p.payload) => {
                let token = self.acks.push(open(&p, Waits::Reply));
                let payload = p.payload;
                fx.act(Act::Reply {
                    token,
                    device,
                    id,
                    payload,
                });
            }
            Ok(Place::Exchange) => self.pass_on(p, &topic, repeated, fx),
            // An empty retained one clears it.
            Ok(Place::Status) if is_status(&p.payload) || (p.payload.is_empty() && p.retain) => {
                let p = Publish { retain: true, ..p };
                self.pass_on(p, &topic, repeated, fx);
            }
            Ok(Place::Status | Place::Reply(..)) => self.garbled(&p, fx),
            Err((code, why)) => self.forbid(&p, code, why, fx),
        }
    }

    /// Where this peer may publish to this topic, or a code and a label.
    fn place(
        &mut self,
        topic: &Text,
        registry: &dyn Registry,
    ) -> Result<Place, (u8, &'static str)> {
        let changes = registry.changes();
        if let Some(known) = &self.known
            && known.changes == changes
            && known.topic == *topic
        {
            return Ok(Place::Ingest(known.stream.clone(), known.shape));
        }
        let text = topic.as_str();
        let Some(parsed) = Topic::parse(text) else {
            return if self.profile.is_open() && is_topic(text) {
                Ok(Place::Exchange)
            } else {
                Err((0x90, "topic"))
            };
        };
        if !self.may_speak_for(&parsed, registry) {
            return Err((0x87, "not-authorised"));
        }
        Ok(match parsed {
            Topic::Status(_) => Place::Status,
            Topic::Reply(device, id) => Place::Reply(device, id),
            Topic::Telemetry(stream, shape) => {
                self.known = Some(Known {
                    topic: Text::from(text),
                    stream: stream.clone(),
                    shape,
                    changes,
                });
                Place::Ingest(stream, shape)
            }
        })
    }

    /// The certificate's own device; on a plain listener any registered one.
    fn may_speak_for(&self, topic: &Topic, registry: &dyn Registry) -> bool {
        let device = topic.device();
        let own = match &self.peer {
            Peer::Plain => true,
            Peer::Certified(DeviceKind::Device, id) => id == device,
            Peer::Certified(..) => false,
        };
        let entry = identify::entry(registry, DeviceKind::Device, device);
        own && entry.is_some_and(|entry| match topic {
            Topic::Telemetry(key, _) => {
                entry.streams.is_empty() || entry.streams.contains(&key.stream)
            }
            Topic::Status(_) | Topic::Reply(..) => true,
        })
    }

    fn offer(&mut self, p: &Publish, stream: StreamKey, shape: Shape, fx: &mut Effects) {
        let waits = Waits::Ingest {
            stream: stream.clone(),
            shape,
            boot: None,
        };
        let token = self.acks.push(open(p, waits));
        let payload = p.payload.clone();
        fx.act(Act::Offer {
            token,
            stream,
            shape,
            payload,
        });
    }

    fn pass_on(&mut self, p: Publish, topic: &Text, repeated: bool, fx: &mut Effects) {
        if repeated {
            fx.act(Act::Refuse("repeated-packet-id"));
        }
        let token = self
            .acks
            .push(open(&p, Waits::Exchange { retain: p.retain }));
        let message = Message {
            topic: topic.as_str().to_owned(),
            payload: p.payload,
            qos: p.qos,
            retain: p.retain,
            properties: p.properties,
        };
        let id = (p.qos == 2).then_some(p.id);
        fx.act(Act::Exchange(token, Request::Publish { message, id }));
    }

    /// Not for this peer. What cannot be answered ends the connection.
    fn forbid(&mut self, p: &Publish, code: u8, why: &'static str, fx: &mut Effects) {
        // Topics of the server itself are never a client's to write.
        let servers = p.topic.as_str().starts_with("$SYS/");
        let told = p.qos > 0 && self.version == Version::V5 && !servers;
        if !told {
            return self.break_off(Broken { code, why }, fx);
        }
        fx.act(Act::Refuse(why));
        self.settle(p, code, why, fx);
    }

    /// A status or reply that is none. Version 3.1.1 cannot be told: acknowledged, or it would come back
    /// for ever, and counted.
    fn garbled(&mut self, p: &Publish, fx: &mut Effects) {
        fx.act(Act::Refuse("payload"));
        let code = if self.version == Version::V5 { 0x99 } else { 0 };
        self.settle(p, code, "payload: not what this topic carries", fx);
    }

    /// Nothing is waited for, but its turn.
    fn settle(&mut self, p: &Publish, code: u8, why: &str, fx: &mut Effects) {
        let why = if code == 0 { None } else { self.reason(why) };
        let token = self.acks.push(open(p, Waits::Nothing));
        self.done(token, code, why, fx);
    }

    pub(super) fn fate(&mut self, token: u64, verdict: Verdict, fx: &mut Effects) {
        let Some(open) = self.acks.open(token) else {
            return;
        };
        let Waits::Ingest {
            stream,
            shape,
            boot,
        } = &open.waits
        else {
            return;
        };
        let (stream, boot, qos) = (stream.clone(), *boot, open.qos);
        let birth = matches!(shape, Shape::Birth | Shape::BirthJson);
        let (code, why) = match verdict {
            Verdict::Durable => (0, None),
            Verdict::Refused(refusal) => {
                let code = match refusal {
                    Refusal::TooManyStreams => 0x97,
                    _ => 0x99,
                };
                (code, self.reason(refusal.why()))
            }
            Verdict::Full(content) if self.version == Version::V4 && qos > 0 => {
                // It cannot be told: it waits, unread, until there is room.
                fx.act(Act::Hold(token, stream, content));
                self.holding += 1;
                return;
            }
            Verdict::Full(_) => (0x97, self.reason("no room now")),
            Verdict::Unsure => {
                // It must come again, and it does so only on a new connection.
                let (code, why) = (0x83, "unsure");
                return self.break_off(Broken { code, why }, fx);
            }
        };
        if let (Some(boot), true) = (boot, self.hears_acks_of(&stream.device)) {
            self.news.note(&stream, boot, birth);
        }
        self.done(token, code, why, fx);
    }

    /// The exchange has taken a publish, or refuses it.
    pub(super) fn published(&mut self, token: u64, answer: &Answer, fx: &mut Effects) {
        let Some(open) = self.acks.open(token) else {
            return;
        };
        let Waits::Exchange { retain } = open.waits else {
            return;
        };
        match answer {
            Answer::Published { matched } => {
                let nobody = !matched && !retain && self.version == Version::V5;
                self.done(token, if nobody { 0x10 } else { 0 }, None, fx);
            }
            Answer::Refused(denied) => {
                let code = match denied {
                    Denied::Quota => 0x97,
                    Denied::Invalid | Denied::TooDeep => 0x90,
                    Denied::NotAttached => 0x83,
                };
                let why = denied.label();
                if self.version == Version::V4 && open.qos > 0 {
                    return self.break_off(Broken { code, why }, fx);
                }
                fx.act(Act::Refuse(why));
                let why = self.reason(denied.why());
                self.done(token, code, why, fx);
            }
            _ => {}
        }
    }

    pub(super) fn replied(&mut self, token: u64, replied: Replied, fx: &mut Effects) {
        let (code, why) = match replied {
            Replied::Kept => (0, None),
            Replied::Unknown => (0x90, Some("command: no such command of this device")),
            Replied::Refused => (0x99, Some("payload: not what this topic carries")),
            // Nothing is acknowledged any more.
            Replied::Gone => return,
        };
        let why = why.filter(|_| self.version == Version::V5);
        let why = why.and_then(|why| self.reason(why));
        let code = if self.version == Version::V5 { code } else { 0 };
        if !matches!(replied, Replied::Kept) {
            fx.act(Act::Refuse("reply"));
        }
        self.done(token, code, why, fx);
    }

    /// How a publish is to be acknowledged is known; it, and what waited behind it, may go.
    fn done(&mut self, token: u64, code: u8, why: Option<String>, fx: &mut Effects) {
        if let Some(open) = self.acks.open(token) {
            open.done = Some((code, why));
        }
        while let Some(open) = self.acks.pop_done() {
            let Some((code, why)) = open.done else {
                continue;
            };
            let what = match open.qos {
                0 => continue,
                1 => kind::PUBACK,
                _ => kind::PUBREC,
            };
            if what == kind::PUBREC && code < 0x80 {
                let kept = match open.waits {
                    Waits::Exchange { .. } => Kept::Exchange,
                    _ => Kept::Here,
                };
                self.received.insert(open.id, kept);
            }
            let why = why.as_deref();
            write::ack(self.version, what, open.id, code, why, &mut fx.out);
        }
    }

    /// PUBREL. What is not known here may be known to the exchange, from an earlier connection.
    pub(super) fn released(&mut self, id: u16, fx: &mut Effects) {
        match self.received.remove(&id) {
            Some(Kept::Here) => {
                write::ack(self.version, kind::PUBCOMP, id, 0, None, &mut fx.out);
            }
            Some(Kept::Exchange) | None => {
                self.ask(Request::Release(id), Asked::Release(id), fx);
            }
        }
    }
}

fn open(p: &Publish, waits: Waits) -> Open {
    Open {
        id: p.id,
        qos: p.qos,
        bytes: p.payload.len(),
        waits,
        done: None,
    }
}
