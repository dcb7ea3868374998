//! One connection: bytes to packets, packets to the session, the session's acts to the world.
//!
//! ```text
//!           ┌──────────────┐ Offer ─▶ ingest ─▶ Notice ──┐
//! socket ──▶│ session      │ Exchange ─▶ exchange ───────┤─▶ session ─▶ bytes, one write a round
//!           └──────────────┘ Watch ─▶ fan-out ─▶ live ───┘
//! ```
//!
//! Everything is bounded: the read buffer by the packet length (judged at its header), what is open by the
//! session (beyond, nothing is read), notices and answers by what is open, writes by a deadline. Payloads
//! are decoded here, not in the ingest thread. Nobody waits for a connection: ingest and exchange put into
//! channels that have room for every answer.

use std::{collections::VecDeque, pin::pin, time::Duration};

use bytes::BytesMut;
use chordae_base::{FailureKind, StreamKey, limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};

use super::DoorParts;
use crate::{
    core::{
        arrival::{ConnId, Content, Notice},
        decode::{self, Scratch},
        exchange::request::{Request, ToClient},
        identify,
        mqtt::session::{ASKED_MAX, Act, Cut, Effects, Input, OPEN_MAX, Replied, Session},
        ports::LiveFrame,
    },
    doors::{guest::Guest, linger::linger, listener::Protocol},
    fanout::Feed,
    mailbox::Arrival,
};

/// Bytes asked of the socket at a time by a peer that has much to say; of the others a quarter.
const READ: usize = 16 * 1024;
/// Bytes written at once before the next event is looked at.
const WRITE: usize = 64 * 1024;
/// How often a session is told that time passes.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Connection {
    conn: ConnId,
    session: Session,
    guest: Guest,
    parts: DoorParts,
    reply: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    heard: Option<mpsc::Receiver<ToClient>>,
    replied: mpsc::Sender<(u64, Replied)>,
    replies: mpsc::Receiver<(u64, Replied)>,
    held: VecDeque<(u64, StreamKey, Content)>,
    /// Read, decoded, and not offered yet.
    arrivals: Vec<Arrival>,
    feed: Option<Feed>,
    fx: Effects,
    offered: bool,
    rechecked: Instant,
}

impl Connection {
    pub(super) fn new(conn: ConnId, guest: Guest, parts: DoorParts) -> Self {
        let (reply, notices) = mpsc::channel(limits::CONNECTION_QUEUE);
        let (replied, replies) = mpsc::channel(OPEN_MAX + ASKED_MAX);
        let profile = std::sync::Arc::clone(&parts.profile);
        let spare_name = format!("auto-{:x}-{}", parts.started_ns, conn.0);
        Self {
            conn,
            session: Session::new(guest.peer.clone(), profile, spare_name),
            guest,
            parts,
            reply,
            notices,
            heard: None,
            replied,
            replies,
            held: VecDeque::new(),
            arrivals: Vec::new(),
            feed: None,
            fx: Effects::default(),
            offered: false,
            rechecked: Instant::now(),
        }
    }

    /// The connection's life, with what was read of it already. `deadline` is that of its CONNECT.
    pub(super) async fn run<S>(
        mut self,
        mut stream: S,
        buf: BytesMut,
        deadline: Instant,
        stopped: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.converse(&mut stream, buf, deadline, stopped).await;
        if let Some(farewell) = self.session.take_farewell() {
            // If the exchange has ended, it finds the session without a connection when it starts.
            self.parts
                .exchange
                .request(self.conn, 0, farewell)
                .await
                .ok();
        }
        if self.offered {
            self.parts.ingest.gone(self.conn).await;
        }
        self.guest.is_known();
        linger(&mut stream).await;
    }

    async fn converse<S>(
        &mut self,
        stream: &mut S,
        mut buf: BytesMut,
        deadline: Instant,
        mut stopped: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut doors = self.parts.ingest.doors_open();
        let (ingest, exchange) = (self.parts.ingest.clone(), self.parts.exchange.clone());
        let mut ended = pin!(async {
            tokio::select! {
                () = ingest.ended() => {}
                () = exchange.ended() => {}
                // Either it is stopped, or whoever could stop it is gone.
                _ = stopped.changed() => {}
            }
        });
        let mut much = false;
        loop {
            let more = self.read_packets(&mut buf).await;
            if !self.flush(stream).await || self.session.is_closed() {
                return;
            }
            if more {
                continue;
            }
            if self.session.is_up() {
                self.guest.is_known();
            }
            make_room(&mut buf, much);
            tokio::select! {
                read = stream.read_buf(&mut buf), if self.session.may_read() => {
                    match read {
                        Ok(n @ 1..) => much = n >= READ / 4,
                        _ => return,
                    }
                }
                // We hold a sender of it ourselves, so it does not end.
                Some(notice) = self.notices.recv() => self.hear(notice).await,
                heard = next_heard(&mut self.heard) => self.hear_exchange(heard).await,
                Some((token, replied)) = self.replies.recv() => {
                    self.hear_of(Input::Replied(token, replied)).await;
                }
                Some(live) = next_live(&mut self.feed) => self.hear_of(Input::Live(live)).await,
                _ = ticks.tick() => self.tick().await,
                () = time::sleep_until(deadline), if !self.session.is_up() => {
                    return self.parts.metrics.refuse("handshake-timeout");
                }
                _ = doors.changed(), if !self.held.is_empty() => {}
                () = &mut ended => self.hear_of(Input::Cut(Cut::Stopping)).await,
            }
            if !self.held.is_empty() && *doors.borrow() {
                self.offer_held().await;
            }
        }
    }

    /// True if there may be more in the buffer, once what is to be sent is sent.
    async fn read_packets(&mut self, buf: &mut BytesMut) -> bool {
        let mut scratch = Scratch::default();
        let now_ns = self.parts.clock.mono_ns();
        let mut more = false;
        while self.session.may_read() {
            more = self.fx.out.len() >= WRITE;
            if more {
                break;
            }
            match self.session.split(buf) {
                Ok(Some(raw)) => self.take(Input::Packet(raw), now_ns, &mut scratch).await,
                Ok(None) => break,
                Err(broken) => self.take(Input::Broken(broken), now_ns, &mut scratch).await,
            }
        }
        self.offer_all().await;
        more
    }

    async fn hear(&mut self, notice: Notice) {
        let (mut next, mut scratch) = (Some(notice), Scratch::default());
        let now_ns = self.parts.clock.mono_ns();
        while let Some(notice) = next {
            match notice {
                Notice::Fates(fates) => {
                    for (token, verdict) in fates {
                        let fate = Input::Fate(token, verdict);
                        self.take(fate, now_ns, &mut scratch).await;
                    }
                }
                Notice::Standing(standing) => {
                    let standing = Input::Standing(standing);
                    self.take(standing, now_ns, &mut scratch).await;
                }
                Notice::News(stream, boot) => {
                    let news = Input::News(stream, boot);
                    self.take(news, now_ns, &mut scratch).await;
                }
            }
            next = match self.fx.out.len() < WRITE {
                true => self.notices.try_recv().ok(),
                false => None,
            };
        }
    }

    async fn hear_exchange(&mut self, heard: Option<ToClient>) {
        let mut next = heard;
        if next.is_none() {
            self.heard = None;
        }
        while let Some(heard) = next {
            self.hear_of(Input::Exchange(heard)).await;
            next = match (&mut self.heard, self.fx.out.len() < WRITE) {
                (Some(more), true) => more.try_recv().ok(),
                _ => None,
            };
        }
    }

    async fn tick(&mut self) {
        self.hear_of(Input::Tick).await;
        if self.rechecked.elapsed() < self.parts.recheck {
            return;
        }
        self.rechecked = Instant::now();
        let Some((kind, id)) = self.session.identity() else {
            return;
        };
        let entry = identify::entry(self.parts.registry.as_ref(), kind, id);
        let wall_ns = self.parts.clock.wall_ns();
        if let Some(why) = self.guest.lapsed(entry.as_ref(), wall_ns) {
            self.parts.metrics.refuse(why);
            self.hear_of(Input::Cut(Cut::Disabled)).await;
        }
    }

    /// Anything but a packet: it brings nothing to decode.
    async fn hear_of(&mut self, input: Input) {
        let now_ns = self.parts.clock.mono_ns();
        self.take(input, now_ns, &mut Scratch::default()).await;
    }

    async fn take(&mut self, input: Input, now_ns: u64, scratch: &mut Scratch) {
        let registry = self.parts.registry.as_ref();
        self.session.take(input, now_ns, registry, &mut self.fx);
        // Taken out and put back: what they cause comes with the next input.
        let mut acts = std::mem::take(&mut self.fx.acts);
        for act in acts.drain(..) {
            self.perform(act, now_ns, scratch).await;
        }
        if self.fx.acts.is_empty() {
            self.fx.acts = acts;
        }
    }

    async fn perform(&mut self, act: Act, now_ns: u64, scratch: &mut Scratch) {
        match act {
            Act::Offer {
                token,
                stream,
                shape,
                payload,
            } => {
                let content = decode::decode_in(scratch, shape, payload);
                if let (Some(boot), _) = content.number() {
                    self.session.decoded(token, boot);
                }
                self.gather(token, stream, content, now_ns);
            }
            Act::Hold(token, stream, content) => self.held.push_back((token, stream, content)),
            Act::Ask(stream, boot) => {
                let reply = self.reply.clone();
                // If ingest has ended, the connection hears of it in its loop.
                self.parts.ingest.standing(stream, boot, reply).await.ok();
            }
            Act::Exchange(token, request) => self.request(token, request).await,
            Act::Reply {
                token,
                device,
                id,
                payload,
            } => {
                // In a task of its own: it waits for a commit, and others need not wait with it. There are
                // as many as publishes may be open.
                let (exchange, told) = (self.parts.exchange.clone(), self.replied.clone());
                tokio::spawn(async move {
                    let replied = match exchange.replied(&device, &id, payload).await {
                        Ok(true) => Replied::Kept,
                        Ok(false) => Replied::Unknown,
                        Err(failure) if failure.kind == FailureKind::BadInput => Replied::Refused,
                        Err(_) => Replied::Gone,
                    };
                    // The connection may be gone: what is kept is kept.
                    told.send((token, replied)).await.ok();
                });
            }
            Act::Watch(devices) if devices.is_empty() => self.feed = None,
            Act::Watch(devices) => self.feed = Some(self.parts.fanout.subscribe(devices)),
            Act::Refuse(why) => self.parts.metrics.refuse(why),
            // The loop sees it once all is written.
            Act::Close => {}
        }
    }

    /// If the exchange has ended, the connection hears of it in its loop.
    async fn request(&mut self, token: u64, request: Request) {
        if let Request::Attach(hello) = &request {
            let now_ns = self.parts.clock.mono_ns();
            if !self.parts.gate.admits(&hello.key, now_ns) {
                let registry = self.parts.registry.as_ref();
                // It closes: there is nothing to perform but the refusal.
                self.session
                    .take(Input::TooOften, now_ns, registry, &mut self.fx);
                return self.parts.metrics.refuse("connect-rate");
            }
            let (out, heard) = mpsc::channel(limits::CONNECTION_QUEUE);
            self.heard = Some(heard);
            self.parts.exchange.connect(self.conn, out).await.ok();
        }
        self.parts
            .exchange
            .request(self.conn, token, request)
            .await
            .ok();
    }

    fn gather(&mut self, token: u64, stream: StreamKey, content: Content, now_ns: u64) {
        self.arrivals.push(Arrival {
            stream,
            content,
            at_mono_ns: now_ns,
            relayed_ns: None,
            door: DoorParts::LABEL,
            conn: self.conn,
            can_be_told: self.session.can_be_told(),
            token,
            reply: self.reply.clone(),
        });
    }

    /// What was read at once goes to ingest at once, and comes back so.
    async fn offer_all(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        self.offered = true;
        let arrivals = std::mem::take(&mut self.arrivals);
        // If ingest has ended, the connection hears of it in its loop.
        self.parts.ingest.offer_all(arrivals).await.ok();
    }

    async fn offer_held(&mut self) {
        let now_ns = self.parts.clock.mono_ns();
        while let Some((token, stream, content)) = self.held.pop_front() {
            self.session.resumed();
            self.gather(token, stream, content, now_ns);
        }
        self.offer_all().await;
    }

    /// False when the peer is gone or does not read.
    async fn flush<S>(&mut self, stream: &mut S) -> bool
    where
        S: AsyncWrite + Unpin,
    {
        if self.fx.out.is_empty() {
            return true;
        }
        let written = time::timeout(limits::WRITE_STALL, async {
            stream.write_all(&self.fx.out).await?;
            stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => {
                self.fx.out.clear();
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

/// An idle connection holds little: most of ten thousand are idle.
fn make_room(buf: &mut BytesMut, much: bool) {
    let wanted = if much { READ } else { READ / 4 };
    if buf.is_empty() && !much && buf.capacity() > READ / 4 {
        *buf = BytesMut::new();
    }
    if buf.capacity() - buf.len() < wanted / 4 {
        buf.reserve(wanted);
    }
}

/// Never, if there is no feed.
async fn next_live(feed: &mut Option<Feed>) -> Option<LiveFrame> {
    match feed {
        Some(feed) => feed.frames.recv().await,
        None => std::future::pending().await,
    }
}

/// Never, if the exchange does not know of us.
async fn next_heard(heard: &mut Option<mpsc::Receiver<ToClient>>) -> Option<ToClient> {
    match heard {
        Some(heard) => heard.recv().await,
        None => std::future::pending().await,
    }
}
