//! One connection: bytes to messages, messages to the session, the session's acts to the world.
//!
//! Everything is bounded: the read buffer by the message (each length is judged at its header), open offers
//! by the session's credit (beyond, nothing is read), notices by the open offers, writes by a deadline.
//! Payloads are decoded here, not in the ingest thread.

use std::time::Duration;

use bytes::BytesMut;
use chordae_base::{DeviceId, Failure, Outcome, limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};

use super::{DoorParts, claims::Cutter, house::House};
use crate::{
    core::{
        arrival::{ConnId, Notice},
        identify::{self, Peer},
        zmq::session::{Act, Input, Session, Wants},
        zmtp::{Bounds, Event, Zmtp},
    },
    doors::{guest::Guest, linger::linger, listener::Protocol},
    mailbox::Arrival,
};

/// Bytes asked of the socket at a time: of a peer that fills them more and more, of a silent one none.
const READ_LEAST: usize = 4 * 1024;
/// See [`READ_LEAST`].
const READ_MOST: usize = 64 * 1024;
/// Bytes written at once before the next event is looked at.
const WRITE: usize = 64 * 1024;
/// How often a session is told that time passes, and how often commands are looked up at most.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Connection {
    conn: ConnId,
    zmtp: Zmtp,
    session: Session,
    guest: Guest,
    parts: DoorParts,
    house: House,
    stopped: watch::Receiver<bool>,
    cutter: Cutter,
    cut: watch::Receiver<bool>,
    reply: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    claimed: Option<String>,
    out: BytesMut,
    offered: bool,
    /// Something about commands may be new.
    news: bool,
    rechecked: Instant,
}

impl Connection {
    pub(super) fn new(
        conn: ConnId,
        guest: Guest,
        parts: DoorParts,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (cutter, cut) = watch::channel(false);
        let (reply, notices) = mpsc::channel(limits::CONNECTION_QUEUE);
        let known = match &guest.peer {
            Peer::Plain => None,
            Peer::Certified(_, id) => Some(id.as_str()),
        };
        let zmtp = Zmtp::router(known, Bounds::default());
        let mut out = BytesMut::new();
        zmtp.begin(&mut out);
        let house = House {
            exchange: parts.exchange.clone(),
            metrics: parts.metrics.clone(),
        };
        Self {
            conn,
            zmtp,
            session: Session::new(guest.peer.clone()),
            guest,
            parts,
            house,
            stopped,
            cutter,
            cut,
            reply,
            notices,
            claimed: None,
            out,
            offered: false,
            news: true,
            rechecked: Instant::now(),
        }
    }

    /// The connection's life. `deadline` is that of its READY.
    pub(super) async fn run<S>(mut self, mut stream: S, deadline: Instant)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Err(failure) = self.converse(&mut stream, deadline).await {
            tracing::debug!(%failure, "ZeroMQ: a connection ends");
        }
        let left = self
            .parts
            .claims
            .release(self.claimed.as_deref(), self.conn);
        if self.session.is_direct() {
            for device in left {
                // If the exchange is lost, the node is about to end and says so itself.
                self.house.status(&device, false).await.ok();
            }
        }
        if self.offered {
            self.parts.ingest.gone(self.conn).await;
        }
        self.guest.is_known();
        linger(&mut stream).await;
    }

    /// Until the session is closed, or something else ends it.
    async fn converse<S>(&mut self, stream: &mut S, deadline: Instant) -> Outcome<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut input, mut want, mut idle) = (BytesMut::new(), READ_LEAST, false);
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut doors = self.parts.ingest.doors_open();
        let mut changed = self.parts.exchange.changed();
        let (ingest, exchange) = (self.parts.ingest.clone(), self.parts.exchange.clone());
        loop {
            let more = self.read_messages(&mut input).await?;
            if !self.flush(stream).await || self.session.is_closed() {
                return Ok(());
            }
            if self.session.is_up() {
                self.guest.is_known();
            }
            if more {
                continue;
            }
            if input.capacity() - input.len() < want / 4 {
                input.reserve(want);
            }
            let now_ns = self.parts.clock.mono_ns();
            tokio::select! {
                read = stream.read_buf(&mut input), if self.session.may_read(now_ns) => {
                    match read {
                        Ok(n @ 1..) if n >= want => want = READ_MOST.min(want * 2),
                        Ok(1..) => {}
                        Ok(0) | Err(_) => return Ok(()),
                    }
                    idle = false;
                }
                // We hold a sender of it ourselves, so it does not end.
                Some(notice) = self.notices.recv() => self.hear(notice).await?,
                _ = ticks.tick() => {
                    self.tick().await?;
                    if idle && input.is_empty() {
                        (input, want) = (BytesMut::new(), READ_LEAST);
                    }
                    idle = true;
                }
                _ = changed.changed(), if !self.news => self.news = true,
                () = time::sleep_until(deadline), if !self.session.is_up() => {
                    self.parts.metrics.refuse("handshake-timeout");
                    return Ok(());
                }
                _ = doors.changed(), if self.session.is_paused(now_ns) => {
                    if *doors.borrow_and_update() {
                        self.take(Input::Room).await?;
                    }
                }
                // Taken over, stopped, or nobody can be acknowledged any more: what was not told comes again.
                _ = self.cut.changed() => return Ok(()),
                _ = self.stopped.changed() => return Ok(()),
                () = ingest.ended() => return Ok(()),
                () = exchange.ended() => return Ok(()),
            }
        }
    }

    /// True if there may be more in the buffer, once what is to be sent is sent.
    async fn read_messages(&mut self, input: &mut BytesMut) -> Outcome<bool> {
        while self.session.may_read(self.parts.clock.mono_ns()) {
            if self.out.len() >= WRITE {
                return Ok(true);
            }
            let event = match self.zmtp.next(input, &mut self.out) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(broken) => {
                    self.take(Input::Broken(broken)).await?;
                    break;
                }
            };
            let input = match event {
                Event::Ready { identity, pings } => Input::Ready(identity, pings),
                Event::Message(parts) => Input::Message(parts),
                Event::Ping(context) => Input::Ping(context),
                Event::Pong(_) => Input::Pong,
            };
            self.take(input).await?;
        }
        Ok(false)
    }

    /// All fates that wait; then the acknowledgements, drawn together.
    async fn hear(&mut self, notice: Notice) -> Outcome<()> {
        let mut next = Some(notice);
        while let Some(notice) = next {
            // Nobody here asks for a standing.
            if let Notice::Fates(fates) = notice {
                for (token, verdict) in fates {
                    self.take(Input::Fate(token, verdict)).await?;
                }
            }
            next = self.notices.try_recv().ok();
        }
        for answer in self.session.answers() {
            answer.write(&mut self.out);
        }
        Ok(())
    }

    async fn tick(&mut self) -> Outcome<()> {
        self.take(Input::Tick).await?;
        if let Some(log) = &self.parts.checkpoints {
            let newest = log.newest();
            if self.session.keeps_another(&newest) {
                self.take(Input::Checkpoint(newest)).await?;
            }
        }
        let wants = self.session.wants();
        if self.news && wants != Wants::Nothing {
            self.news = false;
            let commands = self.house.commands(wants).await?;
            self.take(Input::Commands(commands)).await?;
        }
        if self.rechecked.elapsed() >= self.parts.recheck {
            self.rechecked = Instant::now();
            if let Some(why) = self.lapsed() {
                self.take(Input::Cut(why)).await?;
            }
        }
        Ok(())
    }

    /// Why the peer may not be here any more.
    fn lapsed(&self) -> Option<&'static str> {
        let Peer::Certified(kind, id) = &self.guest.peer else {
            return None;
        };
        let entry = identify::entry(self.parts.registry.as_ref(), *kind, id);
        let wall_ns = self.parts.clock.wall_ns();
        self.guest.lapsed(entry.as_ref(), wall_ns)
    }

    async fn take(&mut self, input: Input) -> Outcome<()> {
        let now_ns = self.parts.clock.mono_ns();
        let registry = self.parts.registry.as_ref();
        // An act may bring the session another input, which brings no further one.
        let acts = self.session.take(input, now_ns, registry);
        for act in acts {
            if let Some(input) = self.perform(act).await? {
                let registry = self.parts.registry.as_ref();
                for act in self.session.take(input, now_ns, registry) {
                    self.perform(act).await?;
                }
            }
        }
        Ok(())
    }

    async fn perform(&mut self, act: Act) -> Outcome<Option<Input>> {
        match act {
            Act::Send(said) => said.write(&mut self.out),
            Act::Offer {
                token,
                stream,
                content,
                relayed_ns,
            } => {
                self.offered = true;
                let arrival = Arrival {
                    stream,
                    content,
                    at_mono_ns: self.parts.clock.mono_ns(),
                    relayed_ns,
                    door: DoorParts::LABEL,
                    conn: self.conn,
                    can_be_told: true,
                    token,
                    reply: self.reply.clone(),
                };
                self.parts.ingest.offer(arrival).await?;
            }
            Act::Status(device, online) => {
                self.parts.claims.status(&device, online, self.conn);
                self.house.status(&device, online).await?;
            }
            Act::Reply(device, id, json) => {
                let kept = self.house.reply(&device, &id, json).await?;
                return Ok(kept.then_some(Input::Replied(device, id)));
            }
            Act::Delivered(device, id) => self.house.delivered(&device, &id).await?,
            Act::Claim(name) => {
                let now_ns = self.parts.clock.mono_ns();
                if !self.parts.gate.admits(&name, now_ns) {
                    // The connection that stands is not touched.
                    return Ok(Some(Input::Cut("connect-rate")));
                }
                let cutter = self.cutter.clone();
                self.parts.claims.claim(name.clone(), self.conn, cutter);
                self.claimed = Some(name);
            }
            Act::Remembered(gateway, text) => {
                return self.remembered(gateway, text).await.map(Some);
            }
            Act::Look => self.news = true,
            Act::Refuse(why) => self.parts.metrics.refuse(why),
            // The loop sees it once all is written.
            Act::Close => {}
        }
        Ok(None)
    }

    /// Nothing else is taken from the gateway while its memory is held against the log.
    async fn remembered(&mut self, gateway: DeviceId, text: String) -> Outcome<Input> {
        let Some(log) = self.parts.checkpoints.clone() else {
            return Ok(Input::Pong);
        };
        let looked = tokio::task::spawn_blocking(move || {
            if !text.is_empty() {
                log.remembered(&gateway, &text)?;
            }
            Ok(log.newest())
        });
        let looked = looked
            .await
            .unwrap_or_else(|_| Err(Failure::internal("looking at a checkpoint panicked")));
        Ok(match looked {
            Ok(newest) => Input::Checkpoint(newest),
            Err(failure) => {
                tracing::error!(%failure, "ZeroMQ: what a gateway remembers");
                Input::Cut("checkpoint")
            }
        })
    }

    /// False when the peer is gone or does not read.
    async fn flush<S>(&mut self, stream: &mut S) -> bool
    where
        S: AsyncWrite + Unpin,
    {
        if self.out.is_empty() {
            return true;
        }
        let written = time::timeout(limits::WRITE_STALL, async {
            stream.write_all(&self.out).await?;
            stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => {
                self.out.clear();
                true
            }
            Ok(Err(_)) => false,
            Err(_) => {
                self.parts.metrics.refuse("stalled");
                false
            }
        }
    }
}
