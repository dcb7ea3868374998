//! One connection's session: what it may do, what is open, what it is told.
//!
//! ```text
//!  New ──CONNECT──▶ Up ──────────────▶ Closed
//!                   │ PUBLISH ─▶ Act::Offer ─▶ (durable) ─▶ Input::Fate ─▶ PUBACK
//! ```
//!
//! A PUBACK is made from a [`Verdict`] and from nothing else, and verdicts come after the commit. They
//! may go out in another order than the publishes came. Each telemetry PUBLISH is offered, whatever its
//! packet id: sameness is judged by (boot, seq), not by the transport.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use chordae_base::{DeviceId, StreamKey, limits};

use super::{
    framing::{self, Broken, Raw, Version},
    outgoing::{Outgoing, PublishCode},
    packet::{self, Packet, Publish},
    standing::{self, News},
    strict::kind,
    topic::{Filter, Topic},
};
use crate::core::{
    arrival::{Content, Refusal, Standing, Verdict},
    decode::Shape,
    identify::{self, Peer},
    ports::{DeviceKind, LiveFrame, Registry},
};

/// Offers that may be open: beyond, the connection is not read. Notices for these, and for the open
/// questions of [`News`], fit the connection's channel.
pub const OPEN_MAX: usize = 512;
const _: () = assert!(OPEN_MAX + standing::ASKING_MAX < limits::CONNECTION_QUEUE);
const _: () = assert!((limits::INFLIGHT_MAX as usize) < OPEN_MAX);

/// Why the house ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The same device has connected again.
    TakenOver,
    /// Disabled in the registry, or its certificate has expired.
    Disabled,
    /// The node stops, or ingest has ended.
    Stopping,
    /// It does not read what we send.
    Stalled,
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A packet.
    Packet(Raw),
    /// Bytes that are none.
    Broken(Broken),
    /// The fate of an offer, by its token.
    Fate(u64, Verdict),
    /// The answer to [`Act::Ask`].
    Standing(Standing),
    /// A live frame.
    Live(LiveFrame),
    /// Time has passed.
    Tick,
    /// The house ends it.
    Cut(Cut),
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Send this.
    Send(Outgoing),
    /// Decode and offer this.
    Offer {
        /// Comes back with the fate.
        token: u64,
        /// Authorised.
        stream: StreamKey,
        /// How the payload is encoded.
        shape: Shape,
        /// The payload.
        payload: Bytes,
    },
    /// Do not read on; offer this again, under the same token, when the doors are open again.
    Hold(u64, StreamKey, Content),
    /// Ask for the standing of a boot.
    Ask(StreamKey, u64),
    /// This is whose session it is: the one before is cut.
    Claim(String),
    /// Live frames of these devices are wanted (`None`: of all); replaces what was wanted before.
    Watch(BTreeSet<Option<DeviceId>>),
    /// Count a refusal.
    Refuse(&'static str),
    /// Send what there is, then close.
    Close,
}

/// An offer that waits for its fate.
#[derive(Debug, Clone)]
struct Open {
    /// None for QoS 0.
    id: Option<u16>,
    stream: StreamKey,
    shape: Shape,
}

pub(super) enum State {
    New,
    Up,
    Closed,
}

/// See the module.
pub struct Session {
    pub(super) peer: Peer,
    pub(super) state: State,
    pub(super) version: Version,
    /// The identity of the session: device, monitor, or on a plain listener the client id.
    pub(super) client_id: String,
    pub(super) packet_max: usize,
    pub(super) reasons: bool,
    /// 0: not up yet.
    pub(super) silence_max_ns: u64,
    pub(super) heard_ns: u64,
    open: BTreeMap<u64, Open>,
    open_acknowledged: usize,
    /// Boot of offered births and frames, to know of which boot the news is.
    boots: BTreeMap<u64, u64>,
    next_token: u64,
    pub(super) filters: BTreeSet<Filter>,
    pub(super) news: News,
    holding: usize,
}

impl Session {
    /// A connection that has not said anything yet.
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            state: State::New,
            version: Version::V4,
            client_id: String::new(),
            packet_max: usize::MAX,
            reasons: false,
            silence_max_ns: 0,
            heard_ns: 0,
            open: BTreeMap::new(),
            open_acknowledged: 0,
            boots: BTreeMap::new(),
            next_token: 0,
            filters: BTreeSet::new(),
            news: News::default(),
            holding: 0,
        }
    }

    /// Which protocol it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Greatest packet the client takes.
    pub fn packet_max(&self) -> usize {
        self.packet_max
    }

    /// Takes one packet off the buffer, within what is allowed now: before CONNECT nothing else, and
    /// what begins otherwise is refused at its first byte.
    ///
    /// # Errors
    /// See [`framing::split`]; to be given back as [`Input::Broken`].
    pub fn split(&self, buf: &mut BytesMut) -> Result<Option<Raw>, Broken> {
        let max = match self.state {
            State::Up => limits::PACKET_BYTES_MAX,
            State::New | State::Closed => limits::CONNECT_BYTES_MAX,
        };
        let foreign = buf.first().is_some_and(|first| first >> 4 != kind::CONNECT);
        if foreign && !self.is_up() {
            return Err(Broken::protocol("not-connect"));
        }
        framing::split(buf, max)
    }

    /// Whether CONNECT has been accepted.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether its sender can be told of a refusal.
    pub fn can_be_told(&self) -> bool {
        self.version == Version::V5
    }

    /// Whether more of its bytes are to be read.
    pub fn may_read(&self) -> bool {
        !self.is_closed() && self.holding == 0 && self.open.len() < OPEN_MAX
    }

    /// A held offer has been offered again.
    pub fn resumed(&mut self) {
        self.holding = self.holding.saturating_sub(1);
    }

    /// The names by which the registry knows who is connected, for the recheck.
    pub fn identity(&self) -> Option<(DeviceKind, &DeviceId)> {
        match &self.peer {
            Peer::Plain => None,
            Peer::Certified(kind, id) => Some((*kind, id)),
        }
    }

    /// The boot and stream of an offer have been decoded: news of it will be asked for by boot.
    pub fn decoded(&mut self, token: u64, boot: u64) {
        if self.open.contains_key(&token) {
            self.boots.insert(token, boot);
        }
    }

    /// Takes an input. `now_ns` is monotonic.
    pub fn take(&mut self, input: Input, now_ns: u64, registry: &dyn Registry) -> Vec<Act> {
        let mut acts = Vec::new();
        match (&self.state, input) {
            (State::Closed, _) => {}
            (_, Input::Cut(cut)) => self.cut(cut, &mut acts),
            (_, Input::Broken(broken)) => self.break_off(broken, &mut acts),
            (State::New, Input::Packet(raw)) => self.first(&raw, now_ns, registry, &mut acts),
            (State::New, _) => {}
            (State::Up, Input::Packet(raw)) => {
                self.heard_ns = now_ns;
                match packet::decode(self.version, &raw) {
                    Ok(Packet::Connect(_)) => {
                        self.break_off(Broken::protocol("second-connect"), &mut acts);
                    }
                    Ok(packet) => self.packet(packet, registry, &mut acts),
                    Err(broken) => self.break_off(broken, &mut acts),
                }
            }
            (State::Up, Input::Fate(token, verdict)) => self.fate(token, verdict, &mut acts),
            (State::Up, Input::Standing(standing)) => self.standing(&standing, &mut acts),
            (State::Up, Input::Live(live)) => {
                if self.filters.iter().any(|f| f.takes(&live.topic)) {
                    acts.push(Act::Send(Outgoing::Publish(live.topic, live.payload)));
                }
            }
            (State::Up, Input::Tick) => self.tick(now_ns, &mut acts),
        }
        if self.is_up() {
            for (stream, boot) in self.news.due(now_ns) {
                acts.push(Act::Ask(stream, boot));
            }
        }
        acts
    }

    fn packet(&mut self, packet: Packet, registry: &dyn Registry, acts: &mut Vec<Act>) {
        match packet {
            Packet::Publish(publish) => self.publish(publish, registry, acts),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, registry, acts),
            Packet::Unsubscribe(id, filters) => self.unsubscribe(id, &filters, acts),
            Packet::Ping => acts.push(Act::Send(Outgoing::PingResp)),
            Packet::Received(id) => acts.push(Act::Send(Outgoing::UnknownReceived(id))),
            Packet::Released(id) => acts.push(Act::Send(Outgoing::UnknownReleased(id))),
            // We send nothing that is acknowledged, so there is nothing to look up.
            Packet::Acknowledged | Packet::Connect(_) => {}
            Packet::Disconnect { .. } => self.close(acts),
        }
    }

    fn publish(&mut self, publish: Publish, registry: &dyn Registry, acts: &mut Vec<Act>) {
        let Publish {
            topic,
            qos,
            id,
            alias,
            payload,
        } = publish;
        if qos == 2 {
            return self.break_off(
                Broken {
                    code: 0x9b,
                    why: "qos-2",
                },
                acts,
            );
        }
        if alias {
            // We offered a maximum of 0.
            return self.break_off(
                Broken {
                    code: 0x94,
                    why: "topic-alias",
                },
                acts,
            );
        }
        let id = (qos == 1).then_some(id);
        let Some(topic) = Topic::parse(&topic) else {
            return self.forbid(id, PublishCode::Topic, "topic", acts);
        };
        if !self.may_speak_for(&topic, registry) {
            return self.forbid(id, PublishCode::NotAuthorised, "not-authorised", acts);
        }
        let Topic::Telemetry(stream, shape) = topic else {
            // Status and replies to commands have no keeper yet.
            acts.extend(id.map(|id| Act::Send(Outgoing::PubAck(id, PublishCode::Success, None))));
            return;
        };
        if id.is_some() {
            if self.open_acknowledged >= usize::from(limits::INFLIGHT_MAX)
                && self.version == Version::V5
            {
                return self.break_off(
                    Broken {
                        code: 0x93,
                        why: "receive-maximum",
                    },
                    acts,
                );
            }
            self.open_acknowledged += 1;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(
            token,
            Open {
                id,
                stream: stream.clone(),
                shape,
            },
        );
        acts.push(Act::Offer {
            token,
            stream,
            shape,
            payload,
        });
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
            Topic::Status(_) | Topic::Reply(_) => true,
        })
    }

    /// Not for this peer. What cannot be answered ends the connection.
    fn forbid(
        &mut self,
        id: Option<u16>,
        code: PublishCode,
        why: &'static str,
        acts: &mut Vec<Act>,
    ) {
        match id {
            Some(id) if self.version == Version::V5 => {
                acts.push(Act::Refuse(why));
                acts.push(Act::Send(Outgoing::PubAck(
                    id,
                    code,
                    self.reason(why.into()),
                )));
            }
            _ => {
                let code = if code == PublishCode::Topic {
                    0x90
                } else {
                    0x87
                };
                self.break_off(Broken { code, why }, acts);
            }
        }
    }

    fn fate(&mut self, token: u64, verdict: Verdict, acts: &mut Vec<Act>) {
        let boot = self.boots.remove(&token);
        let Some(open) = self.open.remove(&token) else {
            return;
        };
        let code = match verdict {
            Verdict::Durable => PublishCode::Success,
            Verdict::Refused(refusal) => {
                self.note(&open, boot);
                return self.tell_refusal(&open, &refusal, acts);
            }
            Verdict::Full(content) => {
                if self.version == Version::V4 && open.id.is_some() {
                    // It cannot be told: it waits, unread, until there is room.
                    acts.push(Act::Hold(token, open.stream.clone(), content));
                    self.boots.extend(boot.map(|boot| (token, boot)));
                    self.open.insert(token, open);
                    self.holding += 1;
                    return;
                }
                PublishCode::Quota
            }
            Verdict::Unsure => {
                // It must come again, and it does so only on a new connection.
                return self.break_off(
                    Broken {
                        code: 0x83,
                        why: "unsure",
                    },
                    acts,
                );
            }
        };
        self.note(&open, boot);
        if let Some(id) = open.id {
            self.open_acknowledged = self.open_acknowledged.saturating_sub(1);
            let why = (code == PublishCode::Quota).then(|| self.reason("no room now".into()));
            acts.push(Act::Send(Outgoing::PubAck(id, code, why.flatten())));
        }
    }

    fn tell_refusal(&mut self, open: &Open, refusal: &Refusal, acts: &mut Vec<Act>) {
        let Some(id) = open.id else { return };
        self.open_acknowledged = self.open_acknowledged.saturating_sub(1);
        let code = match refusal {
            Refusal::TooManyStreams => PublishCode::Quota,
            _ => PublishCode::Payload,
        };
        acts.push(Act::Send(Outgoing::PubAck(
            id,
            code,
            self.reason(refusal.why()),
        )));
    }

    fn note(&mut self, open: &Open, boot: Option<u64>) {
        if let (Some(boot), true) = (boot, self.hears_acks_of(&open.stream.device)) {
            let birth = matches!(open.shape, Shape::Birth | Shape::BirthJson);
            self.news.note(&open.stream, boot, birth);
        }
    }

    fn tick(&mut self, now_ns: u64, acts: &mut Vec<Act>) {
        if !self.may_read() {
            // We are the ones who do not listen.
            self.heard_ns = now_ns;
        }
        if now_ns.saturating_sub(self.heard_ns) > self.silence_max_ns {
            self.break_off(
                Broken {
                    code: 0x8d,
                    why: "keep-alive",
                },
                acts,
            );
        }
    }

    fn cut(&mut self, cut: Cut, acts: &mut Vec<Act>) {
        let code = match cut {
            Cut::TakenOver => 0x8e,
            Cut::Disabled => 0x98,
            Cut::Stopping => 0x8b,
            Cut::Stalled => 0x97,
        };
        if self.is_up() && self.version == Version::V5 {
            acts.push(Act::Send(Outgoing::Disconnect(code)));
        }
        self.close(acts);
    }

    pub(super) fn break_off(&mut self, broken: Broken, acts: &mut Vec<Act>) {
        acts.push(Act::Refuse(broken.why));
        if self.is_up() && self.version == Version::V5 {
            acts.push(Act::Send(Outgoing::Disconnect(broken.code)));
        }
        self.close(acts);
    }

    pub(super) fn close(&mut self, acts: &mut Vec<Act>) {
        self.state = State::Closed;
        acts.push(Act::Close);
    }

    fn reason(&self, why: String) -> Option<String> {
        self.reasons.then_some(why)
    }
}
