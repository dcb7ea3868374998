//! One connection: bytes to packets, packets to the session, the session's acts to the world.
//!
//! Everything is bounded: the read buffer by the packet length (judged at its header), open offers by the
//! session (beyond, nothing is read), notices by the open offers, writes by a deadline. Payloads are
//! decoded here, not in the ingest thread.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use chordae_base::{StreamKey, limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};

use super::{DoorParts, sessions::Cutter};
use crate::{
    core::{
        arrival::{ConnId, Content, Notice},
        decode,
        identify::{self, Peer},
        mqtt::{
            outgoing,
            session::{Act, Cut, Input, Session},
        },
        ports::LiveFrame,
    },
    fanout::Feed,
    mailbox::Arrival,
};

/// Bytes asked of the socket at a time.
const READ: usize = 16 * 1024;
/// Bytes written at once before the next event is looked at.
const WRITE: usize = 64 * 1024;
/// How often a session is told that time passes.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Connection {
    conn: ConnId,
    session: Session,
    expires_ns: Option<i64>,
    parts: DoorParts,
    stopped: watch::Receiver<bool>,
    cutter: Cutter,
    cut: watch::Receiver<Option<Cut>>,
    reply: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    held: VecDeque<(u64, StreamKey, Content)>,
    feed: Option<Feed>,
    key: Option<String>,
    out: BytesMut,
    offered: bool,
    rechecked: Instant,
}

impl Connection {
    pub(super) fn new(
        conn: ConnId,
        peer: Peer,
        expires_ns: Option<i64>,
        parts: DoorParts,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (cutter, cut) = watch::channel(None);
        let (reply, notices) = mpsc::channel(limits::CONNECTION_QUEUE);
        Self {
            conn,
            session: Session::new(peer),
            expires_ns,
            parts,
            stopped,
            cutter,
            cut,
            reply,
            notices,
            held: VecDeque::new(),
            feed: None,
            key: None,
            out: BytesMut::new(),
            offered: false,
            rechecked: Instant::now(),
        }
    }

    /// The connection's life. `deadline` is that of its CONNECT.
    pub(super) async fn run<S>(mut self, mut stream: S, deadline: Instant)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.converse(&mut stream, deadline).await;
        if let Some(key) = &self.key {
            self.parts.sessions.release(key, self.conn);
        }
        if self.offered {
            self.parts.ingest.gone(self.conn).await;
        }
        // The peer may be gone, or not listening.
        time::timeout(Duration::from_secs(1), stream.shutdown())
            .await
            .ok();
    }

    async fn converse<S>(&mut self, stream: &mut S, deadline: Instant)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut buf = BytesMut::new();
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut doors = self.parts.ingest.doors_open();
        let ingest = self.parts.ingest.clone();
        loop {
            let more = self.read_packets(&mut buf).await;
            if !self.flush(stream).await || self.session.is_closed() {
                return;
            }
            if more {
                continue;
            }
            if buf.capacity() - buf.len() < READ / 4 {
                buf.reserve(READ);
            }
            tokio::select! {
                read = stream.read_buf(&mut buf), if self.session.may_read() => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                }
                // We hold a sender of it ourselves, so it does not end.
                Some(notice) = self.notices.recv() => self.hear(notice).await,
                Some(live) = next_live(&mut self.feed) => self.take(Input::Live(live)).await,
                _ = ticks.tick() => self.tick().await,
                () = time::sleep_until(deadline), if !self.session.is_up() => {
                    return self.parts.metrics.refuse("handshake-timeout");
                }
                _ = doors.changed(), if !self.held.is_empty() => {}
                _ = self.cut.changed() => {
                    let cut = *self.cut.borrow_and_update();
                    self.take(Input::Cut(cut.unwrap_or(Cut::Stopping))).await;
                }
                _ = self.stopped.changed() => self.take(Input::Cut(Cut::Stopping)).await,
                () = ingest.ended() => self.take(Input::Cut(Cut::Stopping)).await,
            }
            if *doors.borrow() {
                self.offer_held().await;
            }
        }
    }

    /// True if there may be more in the buffer, once what is to be sent is sent.
    async fn read_packets(&mut self, buf: &mut BytesMut) -> bool {
        while self.session.may_read() {
            if self.out.len() >= WRITE {
                return true;
            }
            match self.session.split(buf) {
                Ok(Some(raw)) => self.take(Input::Packet(raw)).await,
                Ok(None) => break,
                Err(broken) => self.take(Input::Broken(broken)).await,
            }
        }
        false
    }

    async fn hear(&mut self, notice: Notice) {
        let mut next = Some(notice);
        while let Some(notice) = next {
            let input = match notice {
                Notice::Fate { token, verdict } => Input::Fate(token, verdict),
                Notice::Standing(standing) => Input::Standing(standing),
            };
            self.take(input).await;
            next = if self.out.len() < WRITE {
                self.notices.try_recv().ok()
            } else {
                None
            };
        }
    }

    async fn tick(&mut self) {
        self.take(Input::Tick).await;
        if self.rechecked.elapsed() < self.parts.recheck {
            return;
        }
        self.rechecked = Instant::now();
        let expired = self
            .expires_ns
            .is_some_and(|at| self.parts.clock.wall_ns() >= at);
        let known = self.session.identity().is_none_or(|(kind, id)| {
            identify::entry(self.parts.registry.as_ref(), kind, id).is_some()
        });
        if expired || !known {
            self.parts
                .metrics
                .refuse(if expired { "expired" } else { "disabled" });
            self.take(Input::Cut(Cut::Disabled)).await;
        }
    }

    async fn take(&mut self, input: Input) {
        let now_ns = self.parts.clock.mono_ns();
        let acts = self
            .session
            .take(input, now_ns, self.parts.registry.as_ref());
        for act in acts {
            self.perform(act).await;
        }
    }

    async fn perform(&mut self, act: Act) {
        match act {
            Act::Send(packet) => {
                let (version, max) = (self.session.version(), self.session.packet_max());
                outgoing::write(version, &packet, max, &mut self.out);
            }
            Act::Offer {
                token,
                stream,
                shape,
                payload,
            } => {
                let content = decode::decode(shape, payload);
                if let (Some(boot), _) = content.number() {
                    self.session.decoded(token, boot);
                }
                self.offer(token, stream, content).await;
            }
            Act::Hold(token, stream, content) => self.held.push_back((token, stream, content)),
            Act::Ask(stream, boot) => {
                let reply = self.reply.clone();
                // If ingest has ended, the connection hears of it in its loop.
                self.parts.ingest.standing(stream, boot, reply).await.ok();
            }
            Act::Claim(key) => {
                self.parts
                    .sessions
                    .claim(key.clone(), self.conn, self.cutter.clone());
                self.key = Some(key);
            }
            Act::Watch(devices) if devices.is_empty() => self.feed = None,
            Act::Watch(devices) => self.feed = Some(self.parts.fanout.subscribe(devices)),
            Act::Refuse(why) => self.parts.metrics.refuse(why),
            // The loop sees it once all is written.
            Act::Close => {}
        }
    }

    async fn offer(&mut self, token: u64, stream: StreamKey, content: Content) {
        self.offered = true;
        let arrival = Arrival {
            stream,
            content,
            at_mono_ns: self.parts.clock.mono_ns(),
            relayed_ns: None,
            door: "mqtt",
            conn: self.conn,
            can_be_told: self.session.can_be_told(),
            token,
            reply: self.reply.clone(),
        };
        // If ingest has ended, the connection hears of it in its loop.
        self.parts.ingest.offer(arrival).await.ok();
    }

    async fn offer_held(&mut self) {
        while let Some((token, stream, content)) = self.held.pop_front() {
            self.session.resumed();
            self.offer(token, stream, content).await;
        }
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

/// Never, if there is no feed.
async fn next_live(feed: &mut Option<Feed>) -> Option<LiveFrame> {
    match feed {
        Some(feed) => feed.frames.recv().await,
        None => std::future::pending().await,
    }
}
