//! One connection's session: what it may do, what is open, what it is told.
//!
//! ```text
//!  New ──CONNECT──▶ Attaching ──(session taken up)──▶ Up ──────────────▶ Closed
//!   telemetry     PUBLISH ─▶ Act::Offer    ─▶ (durable) ─▶ Input::Fate     ─▶ PUBACK │ PUBREC ─▶ PUBREL ─▶ PUBCOMP
//!   anything else PUBLISH ─▶ Act::Exchange ─▶ (kept)    ─▶ Input::Exchange ─▶ PUBACK │ PUBREC ─▶ PUBREL ─▶ PUBCOMP
//! ```
//!
//! An acknowledgement is made from a [`Verdict`] or from an answer of the exchange and from nothing else,
//! and both come after a commit. Acknowledgements go out in the order of their publishes. Each telemetry
//! PUBLISH is offered, whatever its packet id: sameness is judged by (boot, seq), not by the transport.
//! What else may be lost with the connection lies in the exchange; a session here knows only what its own
//! connection has open, all of it bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use chordae_base::{DeviceId, StreamKey, limits};

use super::{
    acks::Acks,
    alias,
    deliver::Sent,
    framing::{self, Broken, Raw, Version},
    hearing::Judged,
    packet::{self, Packet, kind},
    profile::Profile,
    publish::{Kept, Known},
    standing::{self, News},
    topic::Filter,
    write,
};
use crate::core::{
    arrival::{Content, Standing, Verdict},
    decode::Shape,
    exchange::request::{Answer, Request, ToClient},
    identify::Peer,
    ports::{DeviceKind, LiveFrame, Registry},
};

/// Publishes that may wait for their acknowledgement: beyond, the connection is not read.
pub const OPEN_MAX: usize = 384;
/// Other questions to the exchange that may be open: beyond, the connection is not read.
pub const ASKED_MAX: usize = 64;
// Notices for open publishes and for the open questions of [`News`] fit the connection's channel, and so
// do answers of the exchange in its half of theirs.
const _: () = assert!(OPEN_MAX + standing::ASKING_MAX <= limits::CONNECTION_OWED_MAX);
const _: () = assert!(limits::CONNECTION_OWED_MAX < limits::CONNECTION_QUEUE);
const _: () = assert!(OPEN_MAX + ASKED_MAX < limits::CONNECTION_QUEUE / 2);
const _: () = assert!((limits::INFLIGHT_MAX as usize) < OPEN_MAX);

/// Tokens of requests that are no publish begin here.
const REQUESTS: u64 = 1 << 63;

/// Why the house ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The same device has connected again.
    TakenOver,
    /// Disabled or revoked, or its certificate has expired.
    Disabled,
    /// The node stops, or a part of it has ended.
    Stopping,
    /// It does not read what we send.
    Stalled,
}

/// What became of the reply to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replied {
    /// Kept, and synced.
    Kept,
    /// There is no such command of this device.
    Unknown,
    /// It breaks a rule.
    Refused,
    /// The exchange has ended.
    Gone,
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
    /// There is news about a boot, without an offer that was open.
    News(StreamKey, u64),
    /// The exchange answers or delivers.
    Exchange(ToClient),
    /// The answer to [`Act::Reply`], by its token.
    Replied(u64, Replied),
    /// A live frame.
    Live(LiveFrame),
    /// Time has passed.
    Tick,
    /// This identity connects too often; the answer to [`Request::Attach`] instead of the exchange's.
    TooOften,
    /// The house ends it.
    Cut(Cut),
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
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
    /// Ask the exchange; the token comes back with its answer, if there is one.
    Exchange(u64, Request),
    /// Keep the reply to a command.
    Reply {
        /// Comes back with [`Input::Replied`].
        token: u64,
        /// Authorised.
        device: DeviceId,
        /// Which command.
        id: String,
        /// The reply.
        payload: Bytes,
    },
    /// Live frames of these devices are wanted (`None`: of all); replaces what was wanted before.
    Watch(BTreeSet<Option<DeviceId>>),
    /// Count a refusal.
    Refuse(&'static str),
    /// Send what there is, then close.
    Close,
}

/// What comes of an input: bytes for the peer, and acts. The connection empties both and hands them in
/// again, so that nothing is allocated per packet.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes for the peer.
    pub out: BytesMut,
    /// What else is to be done, in order.
    pub acts: Vec<Act>,
}

impl Effects {
    pub(super) fn act(&mut self, act: Act) {
        self.acts.push(act);
    }
}

/// A question to the exchange that is no publish.
pub(super) enum Asked {
    Attach,
    /// Packet id, filters.
    Subscribe(u16, Vec<Judged>),
    Unsubscribe(u16, Vec<String>),
    /// We have taken a subscription away.
    Forget,
    /// Packet id.
    Release(u16),
}

pub(super) enum State {
    New,
    /// What is told once the session is taken up: what it did not ask for.
    Attaching(Told),
    Up,
    Closed,
}

/// See [`State::Attaching`].
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) assigned: Option<String>,
    pub(super) keep_alive: Option<u16>,
    pub(super) expiry_s: Option<u32>,
}

/// See the module.
pub struct Session {
    pub(super) peer: Peer,
    pub(super) profile: Arc<Profile>,
    /// A name for a client that brings none.
    pub(super) spare_name: String,
    pub(super) state: State,
    pub(super) version: Version,
    /// The identity of the session: device, monitor, or on a plain listener the client id.
    pub(super) client_id: String,
    pub(super) packet_max: usize,
    pub(super) reasons: bool,
    /// 0: not up yet.
    pub(super) silence_max_ns: u64,
    pub(super) heard_ns: u64,
    /// The session outlives its connection.
    pub(super) lasting: bool,
    /// What the exchange is to be told when the connection ends; `None`: it holds nothing of ours.
    pub(super) farewell: Option<Request>,
    pub(super) acks: Acks,
    /// Ids of publishes at QoS 2 between PUBREC and PUBREL.
    pub(super) received: BTreeMap<u16, Kept>,
    pub(super) asked: BTreeMap<u64, Asked>,
    next_request: u64,
    pub(super) sent: BTreeMap<u16, Sent>,
    pub(super) aliases: alias::Incoming,
    pub(super) our_aliases: alias::Outgoing,
    /// Subscriptions to topics of formats.md 2, with their identifiers.
    pub(super) filters: BTreeMap<Filter, Option<u32>>,
    /// Live frames of these devices come.
    pub(super) watching: BTreeSet<Option<DeviceId>>,
    pub(super) news: News,
    pub(super) known: Option<Known>,
    /// The registry's count of changes when the filters were last looked at.
    pub(super) looked_at: u64,
    pub(super) holding: usize,
}

impl Session {
    /// A connection that has not said anything yet. `spare_name` is the client id of one that brings none;
    /// nobody else has it.
    pub fn new(peer: Peer, profile: Arc<Profile>, spare_name: String) -> Self {
        Self {
            peer,
            profile,
            spare_name,
            state: State::New,
            version: Version::V4,
            client_id: String::new(),
            packet_max: usize::MAX,
            reasons: false,
            silence_max_ns: 0,
            heard_ns: 0,
            lasting: false,
            farewell: None,
            acks: Acks::default(),
            received: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: REQUESTS,
            sent: BTreeMap::new(),
            aliases: alias::Incoming::default(),
            our_aliases: alias::Outgoing::default(),
            filters: BTreeMap::new(),
            watching: BTreeSet::new(),
            news: News::default(),
            known: None,
            looked_at: 0,
            holding: 0,
        }
    }

    /// Which protocol it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes one packet off the buffer, within what is allowed now: before CONNECT nothing else, and
    /// what begins otherwise is refused at its first byte.
    ///
    /// # Errors
    /// See [`framing::split`]; to be given back as [`Input::Broken`].
    pub fn split(&self, buf: &mut BytesMut) -> Result<Option<Raw>, Broken> {
        let max = match self.state {
            State::Up => limits::PACKET_BYTES_MAX,
            _ => limits::CONNECT_BYTES_MAX,
        };
        let foreign = buf.first().is_some_and(|first| first >> 4 != kind::CONNECT);
        if foreign && matches!(self.state, State::New) {
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

    /// Whether more of its bytes are to be read. What one connection has open is bounded in number and in
    /// bytes, so that a flood of one is a part of a commit and not all of it.
    pub fn may_read(&self) -> bool {
        matches!(self.state, State::New | State::Up)
            && self.holding == 0
            && self.acks.len() < OPEN_MAX
            && self.acks.bytes() < limits::OPEN_BYTES_MAX
            && self.asked.len() < ASKED_MAX
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

    /// What the exchange must be told once the connection is over.
    pub fn take_farewell(&mut self) -> Option<Request> {
        self.farewell.take()
    }

    /// The boot of an offer has been decoded: news of it will be asked for by boot.
    pub fn decoded(&mut self, token: u64, of_boot: u64) {
        if let Some(super::acks::Waits::Ingest { boot, .. }) =
            self.acks.open(token).map(|open| &mut open.waits)
        {
            *boot = Some(of_boot);
        }
    }

    /// Takes an input. `now_ns` is monotonic.
    pub fn take(&mut self, input: Input, now_ns: u64, registry: &dyn Registry, fx: &mut Effects) {
        match (&self.state, input) {
            (State::Closed, _) => {}
            (_, Input::Cut(cut)) => self.cut(cut, fx),
            (_, Input::Broken(broken)) => self.break_off(broken, fx),
            (State::New, Input::Packet(raw)) => self.first(&raw, registry, fx),
            (State::Attaching(_), Input::Exchange(heard)) => {
                self.attached(heard, now_ns, registry, fx);
            }
            (State::Attaching(_), Input::TooOften) => {
                self.farewell = None;
                self.refuse(0x9f, "connect-rate", fx);
            }
            (State::New | State::Attaching(_), _) => {}
            (State::Up, Input::Packet(raw)) => {
                self.heard_ns = now_ns;
                match packet::decode(self.version, &raw) {
                    Ok(packet) => self.packet(packet, registry, fx),
                    Err(broken) => self.break_off(broken, fx),
                }
            }
            (State::Up, Input::Fate(token, verdict)) => self.fate(token, verdict, fx),
            (State::Up, Input::Replied(token, replied)) => self.replied(token, replied, fx),
            (State::Up, Input::Exchange(heard)) => self.hear(heard, fx),
            (State::Up, Input::Standing(standing)) => self.standing(&standing, fx),
            (State::Up, Input::News(stream, boot)) => {
                if self.hears_acks_of(&stream.device) {
                    self.news.note(&stream, boot, false);
                }
            }
            (State::Up, Input::Live(live)) => self.live(&live, fx),
            (State::Up, Input::Tick) => self.tick(now_ns, registry, fx),
            (State::Up, Input::TooOften) => {}
        }
        if self.is_up() {
            for (stream, boot) in self.news.due(now_ns) {
                fx.act(Act::Ask(stream, boot));
            }
        }
    }

    fn packet(&mut self, packet: Packet, registry: &dyn Registry, fx: &mut Effects) {
        match packet {
            Packet::Publish(publish) => self.publish(publish, registry, fx),
            Packet::Acked(id) => self.acked(id, fx),
            Packet::Received(id, taken) => self.was_received(id, taken, fx),
            Packet::Completed(id) => self.completed(id, fx),
            Packet::Released(id) => self.released(id, fx),
            Packet::Subscribe(id, wishes) => self.subscribe(id, wishes, registry, fx),
            Packet::Unsubscribe(id, filters) => self.unsubscribe(id, filters, fx),
            Packet::Ping => write::pong(&mut fx.out),
            Packet::Disconnect { reason, expiry_s } => self.goodbye(reason, expiry_s, fx),
            Packet::Connect(_) => self.break_off(Broken::protocol("second-connect"), fx),
        }
    }

    /// What the exchange says.
    fn hear(&mut self, heard: ToClient, fx: &mut Effects) {
        match heard {
            ToClient::Answer(token, answer) if token < REQUESTS => {
                self.published(token, &answer, fx);
            }
            ToClient::Answer(token, answer) => match (self.asked.remove(&token), answer) {
                (Some(Asked::Subscribe(id, wishes)), Answer::Subscribed(codes)) => {
                    self.subscribed(id, wishes, codes, fx);
                }
                (Some(Asked::Unsubscribe(id, filters)), Answer::Unsubscribed(known)) => {
                    self.unsubscribed(id, &filters, &known, fx);
                }
                (Some(Asked::Release(id)), Answer::Released { known }) => {
                    let code = if known { 0 } else { 0x92 };
                    write::ack(self.version, kind::PUBCOMP, id, code, None, &mut fx.out);
                }
                (Some(Asked::Forget) | None, _) => {}
                (Some(_), _) => self.break_off(IMPLEMENTATION, fx),
            },
            ToClient::Deliver(delivery) => self.deliver(&delivery, fx),
            ToClient::Release { id, known } => self.release(id, known, fx),
            ToClient::TakenOver => {
                self.farewell = None;
                self.cut(Cut::TakenOver, fx);
            }
            ToClient::Cut(_) => self.cut(Cut::Stalled, fx),
        }
    }

    /// Asks the exchange something that it answers.
    pub(super) fn ask(&mut self, request: Request, asked: Asked, fx: &mut Effects) {
        let token = self.next_request;
        self.next_request += 1;
        self.asked.insert(token, asked);
        fx.act(Act::Exchange(token, request));
    }

    fn goodbye(&mut self, reason: u8, expiry_s: Option<u32>, fx: &mut Effects) {
        let longest = limits::SESSION_EXPIRY_MAX_S;
        if expiry_s.is_some_and(|s| s > 0) && !self.lasting {
            return self.break_off(Broken::protocol("session-expiry"), fx);
        }
        if self.farewell.is_some() {
            self.farewell = Some(Request::Detach {
                will: reason != 0,
                expiry_s: expiry_s.map(|s| s.min(longest)),
            });
        }
        self.close(fx);
    }

    fn tick(&mut self, now_ns: u64, registry: &dyn Registry, fx: &mut Effects) {
        if !self.may_read() {
            // We are the ones who do not listen.
            self.heard_ns = now_ns;
        }
        if now_ns.saturating_sub(self.heard_ns) > self.silence_max_ns {
            let (code, why) = (0x8d, "keep-alive");
            return self.break_off(Broken { code, why }, fx);
        }
        if registry.changes() != self.looked_at {
            self.look_again(registry, fx);
        }
    }

    fn cut(&mut self, cut: Cut, fx: &mut Effects) {
        let (code, why) = match cut {
            Cut::TakenOver => (0x8e, "taken-over"),
            Cut::Disabled => (0x98, "disabled"),
            Cut::Stopping => (0x8b, "stopping"),
            Cut::Stalled => (0x97, "stalled"),
        };
        if self.is_up() {
            write::disconnect(self.version, code, why, &mut fx.out);
        }
        self.close(fx);
    }

    pub(super) fn break_off(&mut self, broken: Broken, fx: &mut Effects) {
        fx.act(Act::Refuse(broken.why));
        if self.is_up() {
            write::disconnect(self.version, broken.code, broken.why, &mut fx.out);
        }
        self.close(fx);
    }

    pub(super) fn close(&mut self, fx: &mut Effects) {
        self.state = State::Closed;
        fx.act(Act::Close);
    }

    pub(super) fn reason(&self, why: impl Into<String>) -> Option<String> {
        self.reasons.then(|| why.into())
    }
}

/// An answer that is none to its question.
const IMPLEMENTATION: Broken = Broken {
    code: 0x83,
    why: "exchange-answer",
};
