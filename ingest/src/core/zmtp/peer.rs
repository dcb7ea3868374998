//! One end of a connection: greeting, READY, then messages.

use bytes::{Bytes, BytesMut};
use chordae_base::limits;

use super::{
    Broken,
    command::{self, Command},
    frame::{self, Frame},
    greeting,
};

/// What one message may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Parts of a message.
    pub parts: usize,
    /// Bytes of all its parts.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            parts: limits::ZMTP_PARTS_MAX,
            bytes: limits::ZMTP_MESSAGE_BYTES_MAX,
        }
    }
}

/// What the bytes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Both ends are ready; messages may be sent from here on. With what the peer calls itself: empty
    /// where it does not say. It is a claim and identifies nobody.
    Ready {
        /// 0-255 bytes, the first not zero.
        identity: Bytes,
        /// Whether it speaks 3.1 and so answers PING.
        pings: bool,
    },
    /// A whole message.
    Message(Vec<Bytes>),
    /// To be answered with [`super::pong`], unless the peer asks too often.
    Ping(Bytes),
    /// The answer to our PING.
    Pong(Bytes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    /// Whether the peer announced 3.1.
    Handshake(bool),
    Traffic,
    Broken(Broken),
}

/// Which end this is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// With the only identity that the peer may claim, if there is such.
    Router(Option<Bytes>),
    /// With the identity that we claim.
    Dealer(Bytes),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Zmtp {
    role: Role,
    bounds: Bounds,
    state: State,
    parts: Vec<Bytes>,
    bytes: usize,
}

impl Zmtp {
    /// The end that binds: a ROUTER, which talks to DEALERs. A peer whose name is `known` may call itself
    /// that, or nothing; where nobody is known, a claim harms nobody and any is taken.
    pub fn router(known: Option<&str>, bounds: Bounds) -> Self {
        let known = known.map(|name| Bytes::copy_from_slice(name.as_bytes()));
        Self::new(Role::Router(known), bounds)
    }

    /// The end that connects: a DEALER, which talks to a ROUTER and calls itself `identity` (1-255 bytes,
    /// the first not zero, or none).
    pub fn dealer(identity: &[u8], bounds: Bounds) -> Self {
        Self::new(Role::Dealer(Bytes::copy_from_slice(identity)), bounds)
    }

    fn new(role: Role, bounds: Bounds) -> Self {
        Self {
            role,
            bounds,
            state: State::Greeting,
            parts: Vec::new(),
            bytes: 0,
        }
    }

    /// Appends what is sent first, without waiting for the peer.
    pub fn begin(&self, out: &mut BytesMut) {
        greeting::write(out);
    }

    /// Whether messages may be sent.
    pub fn is_ready(&self) -> bool {
        self.state == State::Traffic
    }

    /// The next event in what has been read; `None`: more must be read. What is to be sent at once is
    /// appended to `out` (READY, or ERROR before the end).
    ///
    /// # Errors
    /// The connection is to be closed once `out` is sent; every later call fails alike.
    pub fn next(
        &mut self,
        buf: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, Broken> {
        let event = self.advance(buf, out);
        if let Err(broken) = event {
            // Garbage is not answered; nor is a peer that was ready, whose stream of messages has no place
            // for an ERROR.
            let answers = matches!(self.state, State::Greeting | State::Handshake(_));
            if answers && broken.0 != "not-zmtp" && broken.0 != PEER_ERROR.0 {
                command::error(broken.0, out);
            }
            self.state = State::Broken(broken);
        }
        event
    }

    fn advance(&mut self, buf: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Event>, Broken> {
        loop {
            match self.state {
                State::Broken(broken) => return Err(broken),
                State::Greeting => {
                    let Some(pings) = greeting::take(buf)? else {
                        return Ok(None);
                    };
                    self.state = State::Handshake(pings);
                    // The client is the first to say READY; the server answers it.
                    if let Role::Dealer(identity) = &self.role {
                        command::ready(b"DEALER", identity, out);
                    }
                }
                State::Handshake(pings) => {
                    let max = limits::CONNECT_BYTES_MAX;
                    return match frame::take(buf, 0, max)? {
                        None => Ok(None),
                        Some(Frame::Command(body)) => self.shake(pings, body, out).map(Some),
                        Some(Frame::Part(..)) => Err(Broken("zmtp-not-ready")),
                    };
                }
                State::Traffic => {
                    let left = self.bounds.bytes - self.bytes;
                    match frame::take(buf, left, limits::ZMTP_COMMAND_BYTES_MAX)? {
                        None => return Ok(None),
                        Some(Frame::Command(body)) => return self.command(body).map(Some),
                        Some(Frame::Part(part, more)) => {
                            if let Some(parts) = self.part(part, more)? {
                                return Ok(Some(Event::Message(parts)));
                            }
                        }
                    }
                }
            }
        }
    }

    fn shake(&mut self, pings: bool, body: Bytes, out: &mut BytesMut) -> Result<Event, Broken> {
        let metadata = match command::read(body)? {
            Command::Ready(metadata) => metadata,
            Command::Error => return Err(PEER_ERROR),
            Command::Ping(_) | Command::Pong(_) => return Err(Broken("zmtp-not-ready")),
        };
        let identity = &metadata.identity;
        let wanted: &[u8] = match &self.role {
            Role::Router(_) => b"DEALER",
            Role::Dealer(_) => b"ROUTER",
        };
        if metadata.socket_type != wanted {
            return Err(Broken("zmtp-socket-type"));
        }
        if let Role::Router(known) = &self.role {
            if !identity.is_empty() && known.as_ref().is_some_and(|known| known != identity) {
                return Err(Broken("zmtp-identity"));
            }
            command::ready(b"ROUTER", b"", out);
        }
        self.state = State::Traffic;
        Ok(Event::Ready {
            identity: metadata.identity,
            pings,
        })
    }

    fn command(&self, body: Bytes) -> Result<Event, Broken> {
        match command::read(body)? {
            Command::Ping(context) => Ok(Event::Ping(context)),
            Command::Pong(context) => Ok(Event::Pong(context)),
            Command::Error => Err(PEER_ERROR),
            Command::Ready(_) => Err(Broken("zmtp-command")),
        }
    }

    fn part(&mut self, part: Bytes, more: bool) -> Result<Option<Vec<Bytes>>, Broken> {
        if self.parts.len() >= self.bounds.parts {
            return Err(Broken("zmtp-parts"));
        }
        self.bytes += part.len();
        self.parts.push(part);
        if more {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(std::mem::take(&mut self.parts)))
    }
}

/// The peer has given up.
const PEER_ERROR: Broken = Broken("zmtp-peer-error");
