//! One connection to the broker, as a machine.
//!
//! ```text
//!  Greeting ──CONNACK──▶ Subscribing ──SUBACK──▶ Up ──▶ Closed
//!                             └── PUBLISH ─▶ Act::Offer ─▶ Input::Fate ─▶ PUBACK / PUBREC
//! ```
//!
//! The broker cannot be told what is wrong with a message, so ingest is asked to quarantine what it
//! refuses, and everything but "no room" and "cannot be judged" is acknowledged: it would come again for
//! ever. No room: the message is held, the window fills, nothing more is read, and the broker keeps the
//! rest. Cannot be judged: the connection ends, and the message comes again with the next.

use std::time::Duration;

use bytes::Bytes;
use chordae_base::{StreamKey, limits};

use super::{
    backoff::Ended,
    packet::{self, Heard, Publish, Wanted},
    reading::Part,
    window::Window,
};
use crate::core::{
    arrival::{Content, Verdict},
    decode::Shape,
    identify,
    mqtt::{framing::Broken, topic::Topic},
    ports::{DeviceKind, Registry},
};

/// What happens to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A packet.
    Packet(Part),
    /// Bytes that are none.
    Broken(Broken),
    /// The fate of an offer, by its token.
    Fate(u64, Verdict),
    /// Time has passed.
    Tick,
    /// The house stops.
    Stop,
}

/// What it wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Send this.
    Send(Bytes),
    /// Decode and offer this; with `cut` it is too long, whatever it decodes to.
    Offer {
        /// Comes back with the fate.
        token: u64,
        /// Authorised.
        stream: StreamKey,
        /// How the payload is encoded.
        shape: Shape,
        /// The payload.
        payload: Bytes,
        /// See [`Publish::cut`].
        cut: bool,
    },
    /// Offer this again, under the same token, when there is room.
    Hold(u64, StreamKey, Content),
    /// Count and say: a message that is acknowledged and goes nowhere.
    Refuse(&'static str, String),
    /// Say why ingest refused a message, which is acknowledged; it is counted there.
    Say(String),
    /// The broker has accepted us; without a session of ours it has forgotten what it held.
    Connected {
        /// Whether it had one.
        present: bool,
        /// How long it keeps it, if not for ever, seconds.
        expiry_s: Option<u32>,
    },
    /// It has answered our subscription; these filters it refuses.
    Subscribed(Vec<String>),
    /// Close.
    Close(Ended, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Subscribing,
    Up,
    Closed,
}

/// See the module.
pub struct Subscriber {
    wanted: Wanted,
    state: State,
    window: Window,
    next_token: u64,
    settled: bool,
    began_ns: u64,
    heard_ns: u64,
    pinged_ns: u64,
    keep_alive_ns: u64,
}

impl Subscriber {
    /// A new connection, at monotonic time `now_ns`, and the CONNECT to send. `first_token` is greater than
    /// every token of the connections before.
    ///
    /// `None` if the settings fit no packet.
    pub fn open(wanted: Wanted, first_token: u64, now_ns: u64) -> Option<(Self, Bytes)> {
        let connect = packet::connect(&wanted)?;
        let machine = Self {
            wanted,
            state: State::Greeting,
            window: Window::default(),
            next_token: first_token,
            settled: false,
            began_ns: now_ns,
            heard_ns: now_ns,
            pinged_ns: now_ns,
            keep_alive_ns: nanos(limits::BRIDGE_KEEP_ALIVE),
        };
        Some((machine, connect))
    }

    /// The first token of the next connection.
    pub fn next_token(&self) -> u64 {
        self.next_token
    }

    /// Whether more bytes are to be read.
    pub fn may_read(&self) -> bool {
        self.state != State::Closed && self.window.len() < usize::from(limits::BRIDGE_WINDOW)
    }

    /// Whether all that came is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    /// What came and is not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.window.len()
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How the next try should think of this connection when the other side, or the line, ends it.
    pub fn ended(&self) -> Ended {
        let lived_ns = self.heard_ns.saturating_sub(self.began_ns);
        let worked = self.settled || lived_ns > nanos(limits::BRIDGE_PAUSE_MAX);
        match (self.state, worked) {
            (State::Up, true) => Ended::Lost,
            _ => Ended::Failed,
        }
    }

    /// Takes an input. `now_ns` is monotonic.
    pub fn take(&mut self, input: Input, now_ns: u64, registry: &dyn Registry) -> Vec<Act> {
        let mut acts = Vec::new();
        match input {
            _ if self.is_closed() => {}
            Input::Packet(part) => {
                self.heard_ns = now_ns;
                match packet::decode(self.wanted.version, &part) {
                    Ok(heard) => self.hear(heard, registry, &mut acts),
                    Err(broken) => self.broken(broken, &mut acts),
                }
            }
            Input::Broken(broken) => self.broken(broken, &mut acts),
            Input::Fate(token, verdict) => self.fate(token, verdict, &mut acts),
            Input::Tick => self.tick(now_ns, &mut acts),
            Input::Stop => {
                if self.state != State::Greeting {
                    acts.push(Act::Send(packet::disconnect()));
                }
                self.close(Ended::Lost, "the house stops".into(), &mut acts);
            }
        }
        acts
    }

    fn hear(&mut self, heard: Heard, registry: &dyn Registry, acts: &mut Vec<Act>) {
        match (self.state, heard) {
            (
                State::Greeting,
                Heard::Accepted {
                    present,
                    keep_alive,
                    expiry_s,
                },
            ) => {
                if let Some(seconds) = keep_alive.filter(|seconds| *seconds > 0) {
                    let asked = Duration::from_secs(seconds.into());
                    self.keep_alive_ns = self.keep_alive_ns.min(nanos(asked));
                }
                self.state = State::Subscribing;
                let expiry_s = expiry_s.filter(|s| *s != u32::MAX);
                acts.push(Act::Connected { present, expiry_s });
                // Also in a session that is there: the filters may be others than last time.
                acts.extend(packet::subscribe(&self.wanted).map(Act::Send));
            }
            (State::Greeting, Heard::Rejected(code)) => {
                let why = format!("the broker does not accept us: {code}");
                self.close(Ended::Unwanted, why, acts);
            }
            (State::Subscribing, Heard::Subscribed(granted)) => self.subscribed(&granted, acts),
            // Resumed sessions deliver before they answer.
            (State::Subscribing | State::Up, Heard::Publish(p)) => self.publish(p, registry, acts),
            (State::Subscribing | State::Up, Heard::Release(id)) => {
                // Whether we know it or not: its PUBREC left after the commit, perhaps on a connection before.
                acts.push(Act::Send(packet::complete(id)));
            }
            (State::Subscribing | State::Up, Heard::Pong) => {}
            (_, Heard::Disconnect(code)) => {
                let ended = match code {
                    // Taken over; not authorised; banned: coming back at once would not end well.
                    0x8e | 0x87 | 0x8a => Ended::Unwanted,
                    _ => self.ended(),
                };
                let more = match code {
                    0x8e => ": another client connected with our client id",
                    _ => "",
                };
                let why = format!("the broker ended it with reason {code:#04x}{more}");
                self.close(ended, why, acts);
            }
            _ => self.broken(Broken::protocol("packet-order"), acts),
        }
    }

    fn subscribed(&mut self, granted: &[bool], acts: &mut Vec<Act>) {
        if granted.len() != self.wanted.filters.len() {
            return self.broken(Broken::protocol("suback-length"), acts);
        }
        let refused = self.wanted.filters.iter().zip(granted);
        let refused: Vec<String> = refused
            .filter(|(_, granted)| !**granted)
            .map(|(filter, _)| filter.clone())
            .collect();
        self.state = State::Up;
        let nothing_left = refused.len() == granted.len();
        acts.push(Act::Subscribed(refused));
        if nothing_left {
            let why = "the broker refuses every filter: give our user the right to read them";
            self.close(Ended::Unwanted, why.into(), acts);
        }
    }

    fn publish(&mut self, publish: Publish, registry: &dyn Registry, acts: &mut Vec<Act>) {
        let Publish {
            topic,
            way,
            payload,
            cut,
        } = publish;
        let token = self.next_token;
        self.next_token += 1;
        match destination(&topic, registry) {
            Ok((stream, shape)) => {
                self.window.arrived(token, way, Some(stream.clone()));
                acts.push(Act::Offer {
                    token,
                    stream,
                    shape,
                    payload,
                    cut,
                });
            }
            Err((label, why)) => {
                acts.push(Act::Refuse(label, why));
                self.window.arrived(token, way, None);
                self.settle(token, acts);
            }
        }
    }

    fn fate(&mut self, token: u64, verdict: Verdict, acts: &mut Vec<Act>) {
        match (self.window.stream(token).cloned(), verdict) {
            // Of a connection that is gone: that message comes again.
            (None, _) => {}
            (Some(_), Verdict::Durable) => self.settle(token, acts),
            (Some(stream), Verdict::Refused(refusal)) => {
                acts.push(Act::Say(format!("{stream}: {}", refusal.why())));
                self.settle(token, acts);
            }
            (Some(stream), Verdict::Full(content)) => acts.push(Act::Hold(token, stream, content)),
            (Some(stream), Verdict::Unsure) => {
                let why = format!("a message of {stream} could not be judged; it must come again");
                self.close(Ended::Failed, why, acts);
            }
        }
    }

    fn settle(&mut self, token: u64, acts: &mut Vec<Act>) {
        for way in self.window.done(token) {
            self.settled = true;
            acts.extend(packet::acknowledge(way).map(Act::Send));
        }
    }

    fn tick(&mut self, now_ns: u64, acts: &mut Vec<Act>) {
        let connecting = self.state != State::Up;
        if connecting && now_ns.saturating_sub(self.began_ns) > nanos(limits::BRIDGE_CONNECT) {
            return self.close(Ended::Failed, "the broker does not answer".into(), acts);
        }
        if connecting {
            return;
        }
        if !self.may_read() {
            // We are the ones who do not listen.
            self.heard_ns = now_ns;
        }
        if now_ns.saturating_sub(self.heard_ns) > self.keep_alive_ns * 3 / 2 {
            return self.close(self.ended(), "the broker is silent".into(), acts);
        }
        // Also while messages flow: only its answer shows that the broker hears us.
        if now_ns.saturating_sub(self.pinged_ns) >= self.keep_alive_ns / 2 {
            self.pinged_ns = now_ns;
            acts.push(Act::Send(packet::ping()));
        }
    }

    fn broken(&mut self, broken: Broken, acts: &mut Vec<Act>) {
        let why = format!("the broker broke the protocol: {}", broken.why);
        self.close(Ended::Failed, why, acts);
    }

    fn close(&mut self, ended: Ended, why: String, acts: &mut Vec<Act>) {
        self.state = State::Closed;
        acts.push(Act::Close(ended, why));
    }
}

/// Where a message goes, or why nowhere.
fn destination(
    topic: &str,
    registry: &dyn Registry,
) -> Result<(StreamKey, Shape), (&'static str, String)> {
    let Some(Topic::Telemetry(stream, shape)) = Topic::parse(topic) else {
        let topic: String = topic.chars().take(200).collect();
        return Err((
            "topic",
            format!("{topic:?} is no birth or frame of a stream"),
        ));
    };
    let entry = identify::entry(registry, DeviceKind::Device, &stream.device);
    let allowed = entry.is_some_and(|e| e.streams.is_empty() || e.streams.contains(&stream.stream));
    if allowed {
        return Ok((stream, shape));
    }
    let why = format!("{stream} is not registered here: chordae device add");
    Err(("not-authorised", why))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
