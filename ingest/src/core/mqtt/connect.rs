//! The first packet of a connection: it must be a CONNECT, of a version we speak, from who the transport
//! says it is. Nothing of a refused one is kept: the exchange, which has the sessions, hears only of
//! accepted ones.

use chordae_base::limits;

use super::{
    framing::{Broken, Raw, Version},
    packet::{self, Connect, Packet, kind},
    publish,
    read::{self, Level},
    session::{Act, Asked, Effects, Session, State, Told},
    topic::Topic,
    write::{self, Terms},
};
use crate::core::{
    exchange::{
        message::{Will, Wish},
        request::{Answer, Hello, Request, ToClient},
    },
    identify::{self, Peer},
    ports::{DeviceKind, Registry},
};

/// A version 5 code, and the label it is counted under.
type Refused = (u8, &'static str);

const NOT_AUTHORISED: Refused = (0x87, "not-authorised");
const CLIENT_ID: Refused = (0x85, "client-id");

impl Session {
    pub(super) fn first(&mut self, raw: &Raw, registry: &dyn Registry, fx: &mut Effects) {
        if raw.kind != kind::CONNECT {
            return self.break_off(Broken::protocol("not-connect"), fx);
        }
        match read::level(raw) {
            Err(broken) => self.break_off(broken, fx),
            Ok(Level::Other(version)) => {
                self.version = version;
                self.refuse(0x84, "protocol-version", fx);
            }
            Ok(Level::Ours(version)) => {
                self.version = version;
                match packet::decode(version, raw) {
                    Ok(Packet::Connect(connect)) => {
                        if let Err((code, why)) = self.connect(*connect, registry, fx) {
                            self.refuse(code, why, fx);
                        }
                    }
                    Ok(_) => self.refuse(0x82, "not-connect", fx),
                    Err(broken) => self.refuse(broken.code, broken.why, fx),
                }
            }
        }
    }

    fn connect(
        &mut self,
        connect: Connect,
        registry: &dyn Registry,
        fx: &mut Effects,
    ) -> Result<(), Refused> {
        if connect.authentication {
            return Err((0x8c, "authentication"));
        }
        let who = self.who(&connect, registry)?;
        let will = connect.will.map(|will| self.check_will(will, registry));
        let will = will.transpose()?;
        let keep_alive_max = self.profile.keep_alive_max(self.version);
        let keep_alive = match connect.keep_alive {
            0 => keep_alive_max,
            asked => asked.min(keep_alive_max),
        };
        let expiry_s = connect.expiry_s.min(limits::SESSION_EXPIRY_MAX_S);
        self.packet_max = connect
            .packet_max
            .and_then(|max| usize::try_from(max).ok())
            .unwrap_or(usize::MAX);
        self.reasons = connect.reasons;
        self.silence_max_ns = u64::from(keep_alive) * 1_500_000_000;
        self.our_aliases.max = connect.alias_max.min(limits::TOPIC_ALIASES_MAX);
        self.lasting = expiry_s > 0;
        self.client_id = who.name;
        self.state = State::Attaching(Told {
            assigned: who.assigned.then(|| self.client_id.clone()),
            keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            expiry_s: (expiry_s != connect.expiry_s).then_some(expiry_s),
        });
        self.farewell = Some(Request::Detach {
            will: true,
            expiry_s: None,
        });
        let hello = Hello {
            key: who.key,
            clean: connect.clean,
            expiry_s,
            receive_max: connect.receive_max,
            will,
        };
        self.ask(Request::Attach(hello), Asked::Attach, fx);
        Ok(())
    }

    /// The exchange has taken up the session, or cannot.
    pub(super) fn attached(
        &mut self,
        heard: ToClient,
        now_ns: u64,
        registry: &dyn Registry,
        fx: &mut Effects,
    ) {
        let State::Attaching(told) = &self.state else {
            return;
        };
        let told = told.clone();
        let (present, kept) = match heard {
            ToClient::Answer(_, Answer::Attached { present, kept }) => (present, kept),
            ToClient::Answer(_, Answer::Refused(denied)) => {
                self.farewell = None;
                return self.refuse(0x97, denied.label(), fx);
            }
            // Another connection was quicker.
            ToClient::TakenOver => {
                self.farewell = None;
                return self.close(fx);
            }
            _ => return,
        };
        self.asked.clear();
        self.state = State::Up;
        self.heard_ns = now_ns;
        let terms = Terms {
            present,
            expiry_s: told.expiry_s,
            receive_max: limits::INFLIGHT_MAX,
            packet_max: u32::try_from(limits::PACKET_BYTES_MAX).unwrap_or(u32::MAX),
            assigned: told.assigned.as_deref(),
            alias_max: limits::TOPIC_ALIASES_MAX,
            shared: self.profile.is_open(),
            keep_alive: told.keep_alive,
        };
        write::accepted(self.version, &terms, &mut fx.out);
        self.take_up(kept, registry, fx);
    }

    /// Subscriptions of the session from before: what it may still hear.
    fn take_up(&mut self, kept: Vec<Wish>, registry: &dyn Registry, fx: &mut Effects) {
        for wish in kept {
            self.heed(&wish);
        }
        self.look_again(registry, fx);
    }

    /// Whose session this is, or why it is nobody's.
    fn who(&self, connect: &Connect, registry: &dyn Registry) -> Result<Who, Refused> {
        let id = connect.client_id.as_str();
        let nameless = id.is_empty();
        // What is to be kept needs a name to be found by. Version 5 lets us choose one, and says which.
        if nameless && !connect.clean && !(self.profile.is_open() && self.version == Version::V5) {
            return Err(CLIENT_ID);
        }
        match &self.peer {
            Peer::Plain => {
                let name = if nameless {
                    self.spare_name.as_str()
                } else {
                    id
                };
                if !self.profile.client_id(name) {
                    return Err(CLIENT_ID);
                }
                Ok(Who {
                    name: name.into(),
                    key: format!("plain:{name}"),
                    assigned: nameless,
                })
            }
            Peer::Certified(kind, name) => {
                // Gateways speak through their own door.
                let kind_name = match kind {
                    DeviceKind::Device => "device",
                    DeviceKind::Monitor => "monitor",
                    DeviceKind::Gateway => return Err(NOT_AUTHORISED),
                };
                if !nameless && id != name.as_str() {
                    return Err(NOT_AUTHORISED);
                }
                if identify::entry(registry, *kind, name).is_none() {
                    return Err(NOT_AUTHORISED);
                }
                Ok(Who {
                    name: name.to_string(),
                    key: format!("{kind_name}:{name}"),
                    assigned: nameless,
                })
            }
        }
    }

    /// A will speaks for its own device's status, nothing else; in the open profile for any topic that is
    /// none of ours.
    fn check_will(&self, mut will: Will, registry: &dyn Registry) -> Result<Will, Refused> {
        let topic = will.message.topic.as_str();
        match Topic::parse(topic) {
            Some(Topic::Status(device)) => {
                let own = match &self.peer {
                    Peer::Plain => identify::entry(registry, DeviceKind::Device, &device).is_some(),
                    Peer::Certified(DeviceKind::Device, id) => *id == device,
                    Peer::Certified(..) => false,
                };
                if !own {
                    return Err((0x87, "will-topic"));
                }
                if !publish::is_status(&will.message.payload) {
                    return Err((0x99, "will-payload"));
                }
                will.message.retain = true;
                Ok(will)
            }
            None if self.profile.is_open() && publish::is_topic(topic) => Ok(will),
            _ => Err((0x87, "will-topic")),
        }
    }

    pub(super) fn refuse(&mut self, code: u8, why: &'static str, fx: &mut Effects) {
        fx.act(Act::Refuse(why));
        write::refused(self.version, code, why, &mut fx.out);
        self.close(fx);
    }
}

struct Who {
    name: String,
    key: String,
    assigned: bool,
}
