//! The MQTT door: 3.1.1 and 5, TLS with client certificates, or plain on loopback.
//!
//! ```text
//! accept ──▶ gate ──▶ a task per connection: TLS, WebSocket, CONNECT (5 s in all, 16 KiB)
//!                                        └──▶ session ──▶ ingest (telemetry), exchange (all else)
//! ```
//!
//! The accept loop waits for nothing but the next socket: handshakes run in their own tasks, and a
//! process without file descriptors pauses instead of spinning. At the bound of connections new sockets
//! are closed at once; those with a session stay. Who may take up which session is the exchange's: a second
//! connection of the same identity cuts the first, another's never can.

mod connection;
mod greet;
pub mod websocket;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chordae_base::{Failure, Outcome, limits, seams::Clock};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time,
};

use crate::{
    core::{arrival::ConnId, mqtt::profile::Profile, ports::Registry},
    doors::{
        gate::{Gate, Unknown},
        tls::Tls,
    },
    exchange::ExchangeHandle,
    fanout::Fanout,
    mailbox::IngestHandle,
    metrics::Metrics,
};

/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to say good-bye at a stop.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where the door is.
#[derive(Clone)]
pub struct DoorSettings {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// None: plain, allowed on loopback addresses only.
    pub tls: Option<Tls>,
    /// Connections at a time.
    pub connections_max: usize,
}

/// What the doors of one node share; cloning shares it.
#[derive(Clone)]
pub struct DoorParts {
    ingest: IngestHandle,
    exchange: ExchangeHandle,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    fanout: Arc<dyn Fanout>,
    metrics: Metrics,
    profile: Arc<Profile>,
    origins: Arc<[String]>,
    gate: Arc<Gate>,
    next_conn: Arc<AtomicU64>,
    /// Makes the names that we give different from those of earlier lives.
    started_ns: i64,
    recheck: Duration,
}

impl DoorParts {
    /// One for all MQTT listeners of a node, so that a device has one session wherever it connects.
    pub fn new(
        ingest: IngestHandle,
        exchange: ExchangeHandle,
        registry: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
        fanout: Arc<dyn Fanout>,
        metrics: Metrics,
    ) -> Self {
        Self {
            ingest,
            exchange,
            registry,
            started_ns: clock.wall_ns(),
            clock,
            fanout,
            metrics,
            profile: Arc::default(),
            origins: Arc::new([]),
            gate: Arc::default(),
            next_conn: Arc::default(),
            recheck: limits::RECHECK_EVERY,
        }
    }

    /// How often a connected peer is looked up again.
    #[must_use]
    pub fn recheck_every(self, recheck: Duration) -> Self {
        Self { recheck, ..self }
    }

    /// What the doors are for.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        let profile = Arc::new(profile);
        Self { profile, ..self }
    }

    /// Origins of web pages that may connect beside those of this host, as browsers write them
    /// (`https://desk.example`).
    #[must_use]
    pub fn origins(self, origins: &[String]) -> Self {
        let origins = origins.into();
        Self { origins, ..self }
    }

    fn next_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }
}

/// An open door; dropping it closes it without good-byes.
pub struct MqttDoor {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    connections: Arc<Semaphore>,
    connections_max: u32,
}

impl MqttDoor {
    /// Binds and accepts. Called within a tokio runtime, after [`crate::service::Recovered::run`].
    ///
    /// # Errors
    /// `Refused` for a plain listener on an address that is not loopback; `Io` when it cannot bind.
    pub async fn open(settings: DoorSettings, parts: DoorParts) -> Outcome<Self> {
        let DoorSettings {
            listen,
            tls,
            connections_max,
        } = settings;
        if tls.is_none() && !listen.ip().is_loopback() {
            return Err(Failure::refused(format!(
                "MQTT without TLS on {listen}: only loopback addresses may be plain; give the listener \
                 a certificate"
            )));
        }
        let doing = format!("listen on {listen} for MQTT");
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|err| Failure::os(&doing, &err))?;
        let address = listener
            .local_addr()
            .map_err(|err| Failure::os(&doing, &err))?;
        let (stop, stopped) = watch::channel(false);
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let connections = Arc::new(Semaphore::new(connections_max as usize));
        let accepting = tokio::spawn(accept(
            listener,
            tls,
            parts,
            stopped,
            Arc::clone(&connections),
        ));
        Ok(Self {
            address,
            stop,
            accepting,
            connections,
            connections_max,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the door: no new connection, and the old ones are told (version 5) and cut.
    pub async fn close(self) {
        self.stop.send_replace(true);
        self.accepting.await.ok();
        let all = self.connections.acquire_many(self.connections_max);
        time::timeout(GOODBYE, all).await.ok();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    parts: DoorParts,
    mut stopped: watch::Receiver<bool>,
    connections: Arc<Semaphore>,
) {
    loop {
        let accepted = tokio::select! {
            // Either it is stopped, or whoever could stop it is gone.
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok((socket, peer)) => (socket, peer.ip()),
            Err(err) => {
                tracing::warn!(%err, "MQTT: cannot accept");
                parts.metrics.refuse("accept");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            parts.metrics.refuse("connections");
            continue;
        };
        let now_ns = parts.clock.mono_ns();
        if tls.is_some() && !parts.gate.admits_from(address, now_ns) {
            parts.metrics.refuse("connect-rate-address");
            continue;
        }
        let Some(unknown) = Unknown::place(&parts.gate, address) else {
            parts.metrics.refuse("unknown-peers");
            continue;
        };
        let (tls, parts, stopped) = (tls.clone(), parts.clone(), stopped.clone());
        tokio::spawn(async move {
            let gauge = parts.metrics.connections.with_label_values(&["mqtt"]);
            gauge.inc();
            greet::greet(socket, unknown, tls, parts, stopped).await;
            gauge.dec();
            drop(place);
        });
    }
}
