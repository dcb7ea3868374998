//! The first packet of a connection: it must be a CONNECT, of a version we speak, from who the transport
//! says it is. Nothing of a refused one is kept.

use chordae_base::limits;

use super::{
    framing::{Broken, Raw, Version},
    outgoing::{ConnectCode, Outgoing},
    packet::{self, Connect, Packet},
    session::{Act, Session, State},
    strict::{self, Level, kind},
    topic::Topic,
};
use crate::core::{
    identify::{self, Peer},
    ports::{DeviceKind, Registry},
};

/// Bytes of a client id on a plain listener.
const CLIENT_ID_MAX: usize = 128;

impl Session {
    pub(super) fn first(
        &mut self,
        raw: &Raw,
        now_ns: u64,
        registry: &dyn Registry,
        acts: &mut Vec<Act>,
    ) {
        if raw.kind != kind::CONNECT {
            return self.break_off(Broken::protocol("not-connect"), acts);
        }
        match strict::level(raw) {
            Err(broken) => self.break_off(broken, acts),
            Ok(Level::Other(version)) => {
                self.version = version;
                self.refuse(ConnectCode::Version, "protocol-version", acts);
            }
            Ok(Level::Ours(version)) => {
                self.version = version;
                match packet::decode(version, raw) {
                    Ok(Packet::Connect(connect)) => {
                        self.connect(&connect, now_ns, registry, acts);
                    }
                    _ => self.refuse(ConnectCode::Malformed, "malformed-connect", acts),
                }
            }
        }
    }

    fn connect(
        &mut self,
        connect: &Connect,
        now_ns: u64,
        registry: &dyn Registry,
        acts: &mut Vec<Act>,
    ) {
        if connect.authentication {
            return self.refuse(ConnectCode::Authentication, "authentication", acts);
        }
        let who = match self.who(connect, registry) {
            Ok(who) => who,
            Err((code, why)) => return self.refuse(code, why, acts),
        };
        if let Some((topic, qos)) = &connect.will
            && let Err((code, why)) = self.check_will(topic, *qos, registry)
        {
            return self.refuse(code, why, acts);
        }
        let keep_alive_max = u16::try_from(limits::KEEP_ALIVE_MAX.as_secs()).unwrap_or(u16::MAX);
        let keep_alive = match connect.keep_alive {
            0 => keep_alive_max,
            asked => asked.min(keep_alive_max),
        };
        self.state = State::Up;
        self.packet_max = connect
            .packet_max
            .and_then(|max| usize::try_from(max).ok())
            .unwrap_or(limits::PACKET_BYTES_MAX);
        self.reasons = connect.reasons;
        self.silence_max_ns = u64::from(keep_alive) * 1_500_000_000;
        self.heard_ns = now_ns;
        let assigned = (connect.client_id.is_empty()).then(|| who.name.clone());
        self.client_id = who.name;
        acts.push(Act::Claim(who.key));
        acts.push(Act::Send(Outgoing::ConnAck {
            code: ConnectCode::Accepted,
            keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            assigned,
        }));
    }

    /// Whose session this is, or why it is nobody's.
    fn who(
        &self,
        connect: &Connect,
        registry: &dyn Registry,
    ) -> Result<Who, (ConnectCode, &'static str)> {
        let id = connect.client_id.as_str();
        if id.is_empty() && !connect.clean {
            return Err((ConnectCode::ClientId, "client-id"));
        }
        match &self.peer {
            Peer::Plain => {
                // Safe in logs, and in every broker behind us.
                let safe = |b: u8| b.is_ascii_graphic() && !matches!(b, b'+' | b'#' | b'/' | b'$');
                if id.len() > CLIENT_ID_MAX || !id.bytes().all(safe) {
                    return Err((ConnectCode::ClientId, "client-id"));
                }
                if id.is_empty() {
                    // No name of its own: it takes nobody's place.
                    return Err((ConnectCode::ClientId, "client-id"));
                }
                Ok(Who {
                    name: id.into(),
                    key: format!("plain:{id}"),
                })
            }
            Peer::Certified(kind, name) => {
                // Gateways speak through their own door.
                let kind_name = match kind {
                    DeviceKind::Device => "device",
                    DeviceKind::Monitor => "monitor",
                    DeviceKind::Gateway => return Err(not_authorised()),
                };
                if !id.is_empty() && id != name.as_str() {
                    return Err(not_authorised());
                }
                if identify::entry(registry, *kind, name).is_none() {
                    return Err(not_authorised());
                }
                Ok(Who {
                    name: name.to_string(),
                    key: format!("{kind_name}:{name}"),
                })
            }
        }
    }

    /// A will speaks for its own device's status, nothing else.
    fn check_will(
        &self,
        topic: &str,
        qos: u8,
        registry: &dyn Registry,
    ) -> Result<(), (ConnectCode, &'static str)> {
        let Some(Topic::Status(device)) = Topic::parse(topic) else {
            return Err((ConnectCode::NotAuthorised, "will-topic"));
        };
        let own = match &self.peer {
            Peer::Plain => identify::entry(registry, DeviceKind::Device, &device).is_some(),
            Peer::Certified(DeviceKind::Device, id) => *id == device,
            Peer::Certified(..) => false,
        };
        match (own, qos) {
            (false, _) => Err((ConnectCode::NotAuthorised, "will-topic")),
            (true, 2) if self.version == Version::V5 => Err((ConnectCode::WillQos, "will-qos")),
            (true, _) => Ok(()),
        }
    }

    fn refuse(&mut self, code: ConnectCode, why: &'static str, acts: &mut Vec<Act>) {
        acts.push(Act::Refuse(why));
        let (keep_alive, assigned) = (None, None);
        acts.push(Act::Send(Outgoing::ConnAck {
            code,
            keep_alive,
            assigned,
        }));
        self.close(acts);
    }
}

struct Who {
    name: String,
    key: String,
}

fn not_authorised() -> (ConnectCode, &'static str) {
    (ConnectCode::NotAuthorised, "not-authorised")
}
