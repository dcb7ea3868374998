//! The uplink: one connection after the other to the node upstream, for as long as the gateway lives.
//!
//! ```text
//! connect ─▶ TLS ─▶ greeting, READY (5 s in all) ─▶ Said::Connected ─▶ spool ──items──▶ socket
//!    ▲                                                 socket ──ack, nack──▶ Said::Answers ─▶ spool
//!    │                                                 socket ──cmd, replied, devices──▶ courier
//!    └── pause: 100 ms, doubling to 10 s, with jitter ◀── anything that goes wrong
//! ```
//!
//! Which item goes when is decided by the spool's thread; this task only carries. It reads while the spool
//! decides and writes what it is given; a node that says nothing for half a minute although it is asked
//! (PING), or takes nothing for ten seconds, is left, and everything unanswered is sent again on the next
//! connection.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use chordae_base::{
    DeviceId, Failure, Outcome, limits,
    seams::{Clock, Entropy},
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};

use super::{
    courier::Courier,
    devices::Devices,
    keepsake::Keepsake,
    link::{self, Socket, Target},
    metrics::GatewayMetrics,
    spool::Said,
};
use crate::{
    core::{
        gateway::{
            backoff::Backoff,
            wire::{self, Heard, Parts as Message},
        },
        zmtp::{self, Bounds, Event, Zmtp},
    },
    exchange::ExchangeHandle,
};

/// Bytes asked of the socket at a time.
const READ: usize = 64 * 1024;
/// Bytes written at once before the next event is looked at.
const WRITE: usize = 256 * 1024;
/// Bytes of one message of the node: the longest is its list of devices.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Commands and statuses are looked through at most this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the node is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A node that has not been heard for so long is left.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Reads the certificates as they are now; may block.
pub type Certificates = dyn Fn() -> Outcome<Arc<ClientConfig>> + Send + Sync;

/// What an uplink is made of. The node hands it over.
pub struct Parts {
    /// The gateway's name.
    pub name: DeviceId,
    /// Where the node is.
    pub target: Target,
    /// For a target with TLS: asked for every connection, so that a renewed certificate needs no restart.
    pub tls: Option<Arc<Certificates>>,
    /// The spool.
    pub spool: mpsc::Sender<Said>,
    /// Commands, replies, status.
    pub exchange: ExchangeHandle,
    /// Who is behind this gateway.
    pub devices: Arc<Devices>,
    /// What the node's log was, for it to be asked.
    pub keepsake: Arc<Keepsake>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// What a gateway counts.
    pub metrics: GatewayMetrics,
}

/// The uplink's life, until `stop` or the end of the spool. `trouble` says why there is no connection.
pub async fn run(
    parts: Parts,
    trouble: watch::Sender<Option<String>>,
    stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::default();
    let mut stopped = stop.clone();
    loop {
        let ended = tokio::select! {
            // Stopped, or whoever could stop it is gone.
            _ = stopped.wait_for(|stop| *stop) => return,
            () = parts.spool.closed() => return,
            ended = connection(&parts, &trouble, &mut backoff) => ended,
        };
        let Err(failure) = ended;
        parts.metrics.connected.set(0);
        if trouble.borrow().as_deref() != Some(failure.why.as_str()) {
            tracing::warn!(why = %failure, "uplink: not connected; devices are acknowledged from the spool");
        }
        trouble.send_replace(Some(failure.why));
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = time::sleep(backoff.failed(&*parts.entropy)) => {}
        }
    }
}

/// One connection. It ends with the reason.
async fn connection(
    parts: &Parts,
    trouble: &watch::Sender<Option<String>>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Failure> {
    let late = || Failure::busy(format!("{} does not answer", parts.target));
    let deadline = Instant::now() + limits::HANDSHAKE_TIMEOUT;
    let tls = match parts.tls.clone() {
        Some(read) => Some(apart(move || read()).await?),
        None => None,
    };
    let connecting = link::connect(&parts.target, tls.as_ref());
    let socket = time::timeout_at(deadline, connecting)
        .await
        .map_err(|_| late())??;
    let mut talk = Talk::new(socket, parts);
    time::timeout_at(deadline, talk.shake())
        .await
        .map_err(|_| late())??;
    // Before any item: a node that was set back is to see it before it takes more.
    zmtp::message(&wire::checkpoint(&parts.keepsake.text()), &mut talk.out);
    let (out, items) = mpsc::channel(limits::UPLINK_ITEMS_MAX);
    tell(&parts.spool, Said::Connected(out)).await?;
    parts.metrics.connects.inc();
    parts.metrics.connected.set(1);
    tracing::info!(to = %parts.target, "uplink: connected");
    trouble.send_replace(None);
    let began = Instant::now();
    let ended = talk.converse(items).await;
    // A node that shakes hands with everybody, and then shows us the door, is no success.
    if talk.told || began.elapsed() > limits::UPLINK_RETRY_MAX {
        backoff.worked();
    }
    tell(&parts.spool, Said::Gone).await?;
    ended
}

/// Runs what blocks on a thread that may.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal("a thread panicked")))
}

async fn tell(spool: &mpsc::Sender<Said>, said: Said) -> Outcome<()> {
    let ended = |_| Failure::io("the spool has ended; see its first error");
    spool.send(said).await.map_err(ended)
}

/// A connection in use.
struct Talk<'a> {
    socket: Box<dyn Socket>,
    zmtp: Zmtp,
    input: BytesMut,
    out: BytesMut,
    courier: Courier<'a>,
    parts: &'a Parts,
    heard: Instant,
    /// Whether the node has said anything but pleasantries.
    told: bool,
}

impl<'a> Talk<'a> {
    fn new(socket: Box<dyn Socket>, parts: &'a Parts) -> Self {
        let bounds = Bounds {
            bytes: MESSAGE_BYTES_MAX,
            ..Bounds::default()
        };
        let zmtp = Zmtp::dealer(parts.name.as_str().as_bytes(), bounds);
        let mut out = BytesMut::new();
        zmtp.begin(&mut out);
        Self {
            socket,
            zmtp,
            input: BytesMut::new(),
            out,
            courier: Courier::new(parts),
            parts,
            heard: Instant::now(),
            told: false,
        }
    }

    /// Greeting and READY.
    async fn shake(&mut self) -> Outcome<()> {
        loop {
            self.flush().await?;
            if self.zmtp.is_ready() {
                return Ok(());
            }
            self.read().await?;
            if let Some(Event::Message(_)) = self.event()? {
                return Err(self.broken("zmtp-not-ready"));
            }
        }
    }

    async fn converse(
        &mut self,
        mut items: mpsc::Receiver<Message>,
    ) -> Result<std::convert::Infallible, Failure> {
        let mut changed = self.parts.exchange.changed();
        let mut pings = time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let exchange = self.parts.exchange.clone();
        // Something may have been waiting for a connection.
        let mut news = true;
        loop {
            self.hear().await?;
            self.flush().await?;
            tokio::select! {
                read = read(&mut self.socket, &mut self.input) => {
                    read?;
                    self.heard = Instant::now();
                }
                item = items.recv() => self.take(item, &mut items)?,
                rang = changed.changed(), if !news => {
                    rang.map_err(|_| Failure::io("the exchange has ended; see its first error"))?;
                    news = true;
                }
                _ = looks.tick(), if news => {
                    news = false;
                    self.courier.deliver(&mut self.out).await?;
                }
                _ = pings.tick() => {
                    if self.heard.elapsed() > SILENCE_MAX {
                        let target = &self.parts.target;
                        return Err(Failure::busy(format!("{target} has gone silent")));
                    }
                    zmtp::ping(b"", &mut self.out);
                }
                () = exchange.ended() => {
                    return Err(Failure::io("the exchange has ended; see its first error"));
                }
            }
        }
    }

    /// Items for the node, as many as wait.
    fn take(&mut self, first: Option<Message>, items: &mut mpsc::Receiver<Message>) -> Outcome<()> {
        let mut next = first;
        if next.is_none() {
            let target = &self.parts.target;
            return Err(Failure::busy(format!("{target} owes answers for too long")));
        }
        while let Some(message) = next {
            zmtp::message(&message, &mut self.out);
            next = if self.out.len() < WRITE {
                items.try_recv().ok()
            } else {
                None
            };
        }
        Ok(())
    }

    /// Everything that has been read.
    async fn hear(&mut self) -> Outcome<()> {
        let mut answers = Vec::new();
        while let Some(event) = self.event()? {
            self.told |= matches!(event, Event::Message(_));
            match event {
                Event::Message(message) => match wire::read(&message) {
                    Heard::Answer(answer) => answers.push(answer),
                    heard => self.courier.hear(heard, &mut self.out).await?,
                },
                Event::Ping(context) => zmtp::pong(&context, &mut self.out),
                Event::Pong(_) | Event::Ready { .. } => {}
            }
            if answers.len() >= limits::UPLINK_ITEMS_MAX {
                tell(
                    &self.parts.spool,
                    Said::Answers(std::mem::take(&mut answers)),
                )
                .await?;
            }
        }
        if !answers.is_empty() {
            tell(&self.parts.spool, Said::Answers(answers)).await?;
        }
        Ok(())
    }

    fn event(&mut self) -> Outcome<Option<Event>> {
        let event = self.zmtp.next(&mut self.input, &mut self.out);
        event.map_err(|broken| self.broken(broken.0))
    }

    fn broken(&self, why: &str) -> Failure {
        Failure::busy(format!("{}: {why}", self.parts.target))
    }

    async fn read(&mut self) -> Outcome<()> {
        read(&mut self.socket, &mut self.input).await
    }

    async fn flush(&mut self) -> Outcome<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = time::timeout(limits::WRITE_STALL, async {
            self.socket.write_all(&self.out).await?;
            self.socket.flush().await
        });
        let target = &self.parts.target;
        match written.await {
            Ok(Ok(())) => {
                self.out.clear();
                Ok(())
            }
            Ok(Err(err)) => Err(Failure::busy(format!("{target}: {err}"))),
            Err(_) => Err(Failure::busy(format!("{target} takes nothing"))),
        }
    }
}

/// Reads some bytes; the end of the connection is a failure.
async fn read(socket: &mut Box<dyn Socket>, input: &mut BytesMut) -> Outcome<()> {
    if input.capacity() - input.len() < READ / 4 {
        input.reserve(READ);
    }
    match socket.read_buf(input).await {
        Ok(0) => Err(Failure::busy("the node upstream has closed the connection")),
        Ok(_) => Ok(()),
        Err(err) => Err(Failure::busy(format!("the connection is lost: {err}"))),
    }
}
