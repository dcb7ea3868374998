//! One connection after the other: bytes to the machine, its acts to the world.

use std::{collections::BTreeMap, time::Duration};

use bytes::BytesMut;
use chordae_base::{StreamKey, limits, wire::reason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};

use super::{BridgeSettings, Parts, upstream};
use crate::{
    core::{
        arrival::{ConnId, Content, Notice},
        bridge::{
            backoff::Ended,
            reading::Reading,
            subscriber::{Act, Input, Subscriber},
        },
        decode,
    },
    mailbox::Arrival,
};

/// Bytes asked of the socket at a time.
const READ: usize = 64 * 1024;
/// Bytes written at once before the next event is looked at.
const WRITE: usize = 64 * 1024;
/// How often the machine is told that time passes.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Link {
    settings: BridgeSettings,
    parts: Parts,
    stopped: watch::Receiver<bool>,
    /// Greater than every token used before: a verdict for an old connection means nothing to a new one.
    next_token: u64,
    /// Counts down from the greatest: the doors count their connections up from 0.
    next_conn: u64,
    complaints: Complaints,
}

/// What one connection has.
struct Session<'a> {
    link: &'a mut Link,
    machine: Subscriber,
    conn: ConnId,
    reply: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    held: BTreeMap<u64, (StreamKey, Content)>,
    out: BytesMut,
    offered: bool,
    ended: Option<(Ended, String)>,
}

impl Link {
    pub(super) fn new(
        settings: BridgeSettings,
        parts: Parts,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            settings,
            parts,
            stopped,
            next_token: 0,
            next_conn: u64::MAX,
            complaints: Complaints::default(),
        }
    }

    /// Connects and lives until it ends; how, and why.
    pub(super) async fn live(&mut self) -> (Ended, String) {
        let settings = self.settings.clone();
        let reached = time::timeout(
            limits::BRIDGE_CONNECT,
            upstream::reach(&settings.address, settings.tls.as_ref()),
        );
        let mut stopped = self.stopped.clone();
        let line = tokio::select! {
            reached = reached => match reached {
                Ok(Ok(line)) => line,
                Ok(Err(failure)) => return (Ended::Failed, failure.why),
                Err(_) => return (Ended::Failed, "the broker does not answer".into()),
            },
            _ = stopped.changed() => return (Ended::Lost, "the house stops".into()),
        };
        let now_ns = self.parts.clock.mono_ns();
        let opened = Subscriber::open(settings.wanted, self.next_token, now_ns);
        let Some((machine, connect)) = opened else {
            return (Ended::Failed, "the settings fit no CONNECT".into());
        };
        let (reply, notices) = mpsc::channel(limits::CONNECTION_QUEUE);
        let conn = ConnId(self.next_conn);
        self.next_conn -= 1;
        let session = Session {
            link: self,
            machine,
            conn,
            reply,
            notices,
            held: BTreeMap::new(),
            out: BytesMut::from(connect.as_ref()),
            offered: false,
            ended: None,
        };
        session.live(line).await
    }
}

impl Session<'_> {
    async fn live(mut self, mut line: Box<dyn upstream::Line>) -> (Ended, String) {
        self.converse(&mut line).await;
        self.link.next_token = self.machine.next_token();
        if self.offered {
            self.link.parts.ingest.gone(self.conn).await;
        }
        // The broker may be gone, or not listening.
        time::timeout(Duration::from_secs(1), line.shutdown())
            .await
            .ok();
        let lost = || {
            (
                self.machine.ended(),
                "the broker closed the connection".into(),
            )
        };
        self.ended.unwrap_or_else(lost)
    }

    async fn converse(&mut self, line: &mut Box<dyn upstream::Line>) {
        let mut buf = BytesMut::new();
        let mut reading = Reading::default();
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ingest = self.link.parts.ingest.clone();
        let mut doors = ingest.doors_open();
        let mut stopped = self.link.stopped.clone();
        let mut goodbye: Option<Instant> = None;
        loop {
            let stopping = goodbye.is_some();
            let more = !stopping && self.read_packets(&mut reading, &mut buf).await;
            if !self.flush(line).await || self.machine.is_closed() {
                return;
            }
            if more {
                continue;
            }
            if goodbye.is_some_and(|at| self.machine.is_idle() || at <= Instant::now()) {
                self.take(Input::Stop).await;
                continue;
            }
            if buf.capacity() - buf.len() < READ / 4 {
                buf.reserve(READ);
            }
            tokio::select! {
                read = line.read_buf(&mut buf), if !stopping && self.machine.may_read() => {
                    match read {
                        Ok(1..) => {}
                        Ok(0) => return,
                        Err(err) => {
                            let why = format!("the connection is lost: {err}");
                            self.ended = Some((self.machine.ended(), why));
                            return;
                        }
                    }
                }
                // We hold a sender of it ourselves, so it does not end.
                Some(notice) = self.notices.recv() => self.hear(notice).await,
                _ = ticks.tick() => {
                    self.take(Input::Tick).await;
                    self.link.complaints.say(Instant::now());
                }
                _ = doors.changed(), if !self.held.is_empty() => {}
                _ = stopped.changed(), if !stopping => {
                    goodbye = Some(Instant::now() + limits::BRIDGE_GOODBYE);
                }
                () = time::sleep_until(goodbye.unwrap_or_else(Instant::now)), if stopping => {}
                () = ingest.ended() => return,
            }
            if *doors.borrow() {
                self.offer_held().await;
            }
        }
    }

    /// True if there may be more in the buffer, once what is to be sent is sent.
    async fn read_packets(&mut self, reading: &mut Reading, buf: &mut BytesMut) -> bool {
        while self.machine.may_read() {
            if self.out.len() >= WRITE {
                return true;
            }
            match reading.split(buf) {
                Ok(Some(part)) => self.take(Input::Packet(part)).await,
                Ok(None) => break,
                Err(broken) => self.take(Input::Broken(broken)).await,
            }
        }
        false
    }

    async fn hear(&mut self, notice: Notice) {
        let mut next = Some(notice);
        while let Some(notice) = next {
            if let Notice::Fates(fates) = notice {
                for (token, verdict) in fates {
                    self.take(Input::Fate(token, verdict)).await;
                }
            }
            next = self.notices.try_recv().ok();
        }
    }

    async fn take(&mut self, input: Input) {
        let parts = self.link.parts.clone();
        let acts = self
            .machine
            .take(input, parts.clock.mono_ns(), parts.registry.as_ref());
        for act in acts {
            self.perform(act).await;
        }
        let waiting = i64::try_from(self.machine.unacknowledged()).unwrap_or(i64::MAX);
        parts.own.unacknowledged.set(waiting);
    }

    async fn perform(&mut self, act: Act) {
        let own = &self.link.parts.own;
        match act {
            Act::Send(bytes) => self.out.extend_from_slice(&bytes),
            Act::Offer {
                token,
                stream,
                shape,
                payload,
                cut,
            } => {
                let content = if cut {
                    let kept = payload.slice(..payload.len().min(limits::PAYLOAD_BYTES_MAX));
                    let why = "the beginning of a payload that is too long".into();
                    Content::Malformed(reason::PAYLOAD_SIZE, why, kept)
                } else {
                    decode::decode(shape, payload)
                };
                if let Content::Malformed(label, why, _) = &content {
                    self.link.complaints.note(label, format!("{stream}: {why}"));
                }
                self.offer(token, stream, content).await;
            }
            Act::Hold(token, stream, content) => {
                self.held.insert(token, (stream, content));
            }
            Act::Refuse(label, why) => {
                self.link.parts.metrics.refuse(label);
                self.link.complaints.note(label, why);
            }
            Act::Say(why) => self.link.complaints.note("refused", why),
            Act::Connected { present, expiry_s } => {
                own.connections.inc();
                if !present {
                    own.new_sessions.inc();
                    tracing::warn!(
                        "bridge: the broker has no session of ours. Unless this is the first time, it has \
                         forgotten what it held for us; devices that keep their frames must send them again"
                    );
                }
                if let Some(seconds) = expiry_s {
                    tracing::warn!(seconds, "bridge: the broker keeps our session only so long");
                }
            }
            Act::Subscribed(refused) => {
                own.connected.set(1);
                for filter in refused {
                    self.link.parts.metrics.refuse("bridge-filter");
                    tracing::error!(filter, "bridge: the broker refuses this filter");
                }
                tracing::info!("bridge: connected");
            }
            Act::Close(ended, why) => self.ended = Some((ended, why)),
        }
    }

    async fn offer(&mut self, token: u64, stream: StreamKey, content: Content) {
        self.offered = true;
        let parts = &self.link.parts;
        let arrival = Arrival {
            stream,
            content,
            at_mono_ns: parts.clock.mono_ns(),
            relayed_ns: None,
            door: "bridge",
            conn: self.conn,
            // A broker has no ear for refusals: they are quarantined.
            can_be_told: false,
            token,
            reply: self.reply.clone(),
        };
        // If ingest has ended, the loop hears of it.
        parts.ingest.offer(arrival).await.ok();
    }

    async fn offer_held(&mut self) {
        for (token, (stream, content)) in std::mem::take(&mut self.held) {
            self.offer(token, stream, content).await;
        }
    }

    /// False when the broker is gone or does not read.
    async fn flush(&mut self, line: &mut Box<dyn upstream::Line>) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let written = time::timeout(limits::WRITE_STALL, async {
            line.write_all(&self.out).await?;
            line.flush().await
        });
        let well = matches!(written.await, Ok(Ok(())));
        self.out.clear();
        well
    }
}

/// What is acknowledged and goes nowhere, or to quarantine: said in the log, once a minute per reason.
#[derive(Debug, Default)]
struct Complaints {
    waiting: BTreeMap<&'static str, (u64, String)>,
    said: Option<Instant>,
}

impl Complaints {
    fn note(&mut self, label: &'static str, why: String) {
        let (count, newest) = self.waiting.entry(label).or_default();
        *count += 1;
        *newest = why;
    }

    fn say(&mut self, now: Instant) {
        let early = self
            .said
            .is_some_and(|at| now.duration_since(at) < limits::BRIDGE_SAY_EVERY);
        if early || self.waiting.is_empty() {
            return;
        }
        self.said = Some(now);
        for (reason, (count, why)) in std::mem::take(&mut self.waiting) {
            tracing::warn!(
                reason,
                count,
                why,
                "bridge: not stored, and acknowledged to the broker"
            );
        }
    }
}
