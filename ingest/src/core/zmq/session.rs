//! One connection's session: what it may say, what is open, what it is told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chordae_base::{DeviceId, StreamKey, limits};

use super::{
    alive::{Alive, Look},
    answers::Answers,
    outgoing::{self, Outgoing},
    parts::{self, Number, Said},
    rights::Rights,
};
use crate::core::{
    arrival::{Content, Verdict},
    decode::Shape,
    exchange::command::{CommandLine, CommandState},
    identify::Peer,
    ports::Registry,
    zmtp::Broken,
};

/// What happens to a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Both ends are ready; what the peer calls itself, and whether it understands PING.
    Ready(Bytes, bool),
    /// A message.
    Message(Vec<Bytes>),
    /// A PING, to be answered with its context.
    Ping(Bytes),
    /// Another sign of life.
    Pong,
    /// The fate of an offer, by its token.
    Fate(u64, Verdict),
    /// The commands that [`Session::wants`] asked for.
    Commands(Vec<CommandLine>),
    /// The reply has been kept, or nobody waits for it.
    Replied(DeviceId, String),
    /// The newest checkpoint of our log, for a gateway whose own has been looked at.
    Checkpoint(String),
    /// Bytes that are no message: the connection ends.
    Broken(Broken),
    /// The house ends it, with the reason for the count.
    Cut(&'static str),
    /// There is room again.
    Room,
    /// Time has passed.
    Tick,
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Send this.
    Send(Outgoing),
    /// Offer this.
    Offer {
        /// Comes back with the fate.
        token: u64,
        /// Authorised.
        stream: StreamKey,
        /// What it is.
        content: Content,
        /// When a gateway received it.
        relayed_ns: Option<i64>,
    },
    /// Keep and publish a device's status.
    Status(DeviceId, bool),
    /// Keep a reply; then [`Input::Replied`].
    Reply(DeviceId, String, Bytes),
    /// A command has been delivered.
    Delivered(DeviceId, String),
    /// What this gateway was given to keep (nothing: an empty text) is to be held against our log before
    /// anything else; then [`Input::Checkpoint`].
    Remembered(DeviceId, String),
    /// Others' commands are wanted than before: see [`Session::wants`].
    Look,
    /// This is whose session it is: the one before is cut.
    Claim(String),
    /// Count a refusal.
    Refuse(&'static str),
    /// Send what there is, then close.
    Close,
}

/// Whose commands a session wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wants {
    /// Nobody's.
    Nothing,
    /// One device's.
    Of(DeviceId),
    /// Those of several; the session picks them out of all.
    Several,
}

/// An offer that waits for its fate.
#[derive(Debug, Clone)]
struct Open {
    stream: StreamKey,
    number: Option<Number>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Up,
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    rights: Rights,
    state: State,
    alive: Alive,
    open: BTreeMap<u64, Open>,
    open_bytes: usize,
    next_token: u64,
    answers: Answers,
    /// Refused messages in a row.
    strikes: usize,
    paused_until_ns: u64,
    /// Devices whose commands go here.
    serves: BTreeSet<DeviceId>,
    /// Commands sent on this connection.
    sent: BTreeSet<(DeviceId, String)>,
    /// The checkpoint that this gateway keeps; `None` before it has said what it kept.
    keeps: Option<String>,
}

impl Session {
    /// A connection that has not said anything yet.
    pub fn new(peer: Peer) -> Self {
        Self {
            rights: Rights::new(peer),
            state: State::New,
            alive: Alive::default(),
            open: BTreeMap::new(),
            open_bytes: 0,
            next_token: 0,
            answers: Answers::default(),
            strikes: 0,
            paused_until_ns: 0,
            serves: BTreeSet::new(),
            sent: BTreeSet::new(),
            keeps: None,
        }
    }

    /// Whether READY has been exchanged.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether another message may be read: there is credit for the largest, and the peer has not just been
    /// told that there is no room.
    pub fn may_read(&self, now_ns: u64) -> bool {
        !self.is_closed()
            && self.open.len() < usize::from(limits::INFLIGHT_MAX)
            && self.open_bytes + limits::ZMTP_MESSAGE_BYTES_MAX <= limits::ZMQ_INFLIGHT_BYTES_MAX
            && !self.is_paused(now_ns)
    }

    /// Whether it waits for room, or for the end of its pause.
    pub fn is_paused(&self, now_ns: u64) -> bool {
        now_ns < self.paused_until_ns
    }

    /// Whether the peer is the device itself, or many: its end is theirs. A gateway's devices go on without
    /// it.
    pub fn is_direct(&self) -> bool {
        self.rights.gateway().is_none()
    }

    /// Whether the peer is a gateway that keeps checkpoints, and has another one than `newest`.
    pub fn keeps_another(&self, newest: &str) -> bool {
        self.keeps.as_ref().is_some_and(|kept| kept != newest)
    }

    /// Whose commands are wanted.
    pub fn wants(&self) -> Wants {
        match (self.serves.first(), self.serves.len()) {
            (None, _) => Wants::Nothing,
            (Some(device), 1) => Wants::Of(device.clone()),
            (Some(_), _) => Wants::Several,
        }
    }

    /// The acknowledgements that have come together; to be taken when no more fates wait.
    pub fn answers(&mut self) -> Vec<Outgoing> {
        self.answers.take()
    }

    /// Takes an input. `now_ns` is monotonic.
    pub fn take(&mut self, input: Input, now_ns: u64, registry: &dyn Registry) -> Vec<Act> {
        let mut acts = Vec::new();
        match (self.state, input) {
            (State::Closed, _) | (State::Up, Input::Ready(..)) => {}
            (State::New, Input::Ready(identity, pings)) => {
                self.alive.heard(now_ns);
                self.alive.pings = pings;
                self.ready(&identity, registry, &mut acts);
            }
            (_, Input::Broken(Broken(why)) | Input::Cut(why)) => self.end(why, &mut acts),
            (State::New, _) => {}
            (State::Up, Input::Message(parts)) => {
                self.alive.heard(now_ns);
                self.message(&parts, registry, &mut acts);
            }
            (State::Up, Input::Ping(context)) if self.alive.answers(now_ns) => {
                acts.push(Act::Send(Outgoing::Pong(context)));
            }
            (State::Up, Input::Ping(_)) => acts.push(Act::Refuse("pings")),
            (State::Up, Input::Pong) => self.alive.heard(now_ns),
            (State::Up, Input::Fate(token, verdict)) => {
                self.fate(token, verdict, now_ns, &mut acts);
            }
            (State::Up, Input::Commands(commands)) => self.commands(commands, &mut acts),
            (State::Up, Input::Replied(device, id)) => {
                acts.push(Act::Send(Outgoing::Replied(device, id)));
            }
            (State::Up, Input::Checkpoint(text)) => {
                self.keeps = Some(text.clone());
                acts.push(Act::Send(Outgoing::Checkpoint(text)));
            }
            (State::Up, Input::Room) => self.paused_until_ns = 0,
            (State::Up, Input::Tick) => self.tick(now_ns, registry, &mut acts),
        }
        acts
    }

    fn ready(&mut self, identity: &Bytes, registry: &dyn Registry, acts: &mut Vec<Act>) {
        if !self.rights.may_enter(identity, registry) {
            return self.end("not-authorised", acts);
        }
        self.state = State::Up;
        acts.extend(self.rights.claim().map(Act::Claim));
        self.serves.extend(self.rights.itself().cloned());
        self.list(registry, acts);
    }

    /// Tells a gateway who is behind it.
    fn list(&mut self, registry: &dyn Registry, acts: &mut Vec<Act>) {
        let Some(gateway) = self.rights.gateway() else {
            return;
        };
        let mut behind = registry.behind(gateway);
        if behind.len() > limits::GATEWAY_DEVICES_MAX {
            acts.push(Act::Refuse("gateway-devices"));
            behind.truncate(limits::GATEWAY_DEVICES_MAX);
        }
        let enabled = behind.iter().filter(|(_, entry)| entry.enabled);
        self.serves = enabled.map(|(id, _)| id.clone()).collect();
        acts.push(Act::Look);
        acts.push(Act::Send(Outgoing::Devices(outgoing::devices(&behind))));
    }

    fn message(&mut self, parts: &[Bytes], registry: &dyn Registry, acts: &mut Vec<Act>) {
        if let (Some(gateway), Some(text)) = (self.rights.gateway(), parts::checkpoint(parts)) {
            return acts.push(Act::Remembered(gateway.clone(), text));
        }
        // A device does not say when a gateway received what it sends itself.
        let relays = self.rights.itself().is_none();
        let said = parts::read(parts).filter(|said| relays || !said.is_relayed());
        let Some(said) = said else {
            let name = parts.get(1).cloned().unwrap_or_default();
            return self.strike(name, None, "parts", acts);
        };
        if !self.rights.may_say(&said, registry) {
            let (name, number) = said.addressee();
            return self.strike(name.into(), number, "not-authorised", acts);
        }
        self.strikes = 0;
        let anyone = self.rights.itself().is_none() && self.is_direct();
        let room = self.serves.len() < limits::GATEWAY_DEVICES_MAX;
        if anyone && room && self.serves.insert(said.device().clone()) {
            acts.push(Act::Look);
        }
        match said {
            Said::Telemetry {
                stream,
                shape,
                payload,
                relayed_ns,
            } => self.offer(stream, shape, payload, relayed_ns, acts),
            Said::Status(device, online) => acts.push(Act::Status(device, online)),
            Said::Reply(device, id, json) => acts.push(Act::Reply(device, id, json)),
            Said::Taken(device, id) => acts.push(Act::Delivered(device, id)),
        }
    }

    fn offer(
        &mut self,
        stream: StreamKey,
        shape: Shape,
        payload: Bytes,
        relayed_ns: Option<i64>,
        acts: &mut Vec<Act>,
    ) {
        let (content, number) = parts::content(shape, payload);
        let token = self.next_token;
        self.next_token += 1;
        let open = Open {
            stream: stream.clone(),
            number,
            bytes: content.bytes(),
        };
        self.open_bytes += open.bytes;
        self.open.insert(token, open);
        acts.push(Act::Offer {
            token,
            stream,
            content,
            relayed_ns,
        });
    }

    fn fate(&mut self, token: u64, verdict: Verdict, now_ns: u64, acts: &mut Vec<Act>) {
        let Some(open) = self.open.remove(&token) else {
            return;
        };
        self.open_bytes = self.open_bytes.saturating_sub(open.bytes);
        let why = match (verdict, open.number) {
            (Verdict::Durable, Some(number)) => return self.answers.durable(open.stream, number),
            // Only what cannot be read has no number, and it is refused.
            (Verdict::Durable, None) => "parts",
            (Verdict::Refused(refusal), _) => refusal.label(),
            (Verdict::Full(_), _) => {
                self.paused_until_ns = now_ns.saturating_add(limits::ZMQ_FULL_PAUSE_NS);
                "full"
            }
            (Verdict::Unsure, _) => "unsure",
        };
        let name = open.stream.to_string().into();
        acts.push(Act::Send(Outgoing::Nack(name, open.number, why)));
    }

    fn commands(&mut self, commands: Vec<CommandLine>, acts: &mut Vec<Act>) {
        let gateway = !self.is_direct();
        let mut waiting = BTreeSet::new();
        for command in commands {
            if command.state != CommandState::Waiting || !self.serves.contains(&command.device) {
                continue;
            }
            let key = (command.device, command.id);
            if !self.sent.contains(&key) {
                let lapses_ns = gateway.then_some(command.expires_ns);
                let command = Outgoing::Command(key.0.clone(), command.body, lapses_ns);
                acts.push(Act::Send(command));
            }
            waiting.insert(key);
        }
        self.sent = waiting;
    }

    /// Refused: told why, and after too many in a row shown the door.
    fn strike(
        &mut self,
        name: Bytes,
        number: Option<Number>,
        why: &'static str,
        acts: &mut Vec<Act>,
    ) {
        acts.push(Act::Refuse(why));
        acts.push(Act::Send(Outgoing::Nack(name, number, why)));
        self.strikes += 1;
        if self.strikes >= limits::ZMQ_STRIKES_MAX {
            self.end("strikes", acts);
        }
    }

    fn tick(&mut self, now_ns: u64, registry: &dyn Registry, acts: &mut Vec<Act>) {
        match self.alive.look(now_ns, self.may_read(now_ns)) {
            Look::Well => {}
            Look::Ask => acts.push(Act::Send(Outgoing::Ping)),
            Look::Gone => return self.end("keep-alive", acts),
        }
        if self.rights.changed(registry) {
            self.list(registry, acts);
        }
    }

    fn end(&mut self, why: &'static str, acts: &mut Vec<Act>) {
        acts.push(Act::Refuse(why));
        self.state = State::Closed;
        acts.push(Act::Close);
    }
}
