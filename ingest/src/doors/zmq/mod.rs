//! The ZeroMQ door: a ROUTER of our own (decision 0014), TLS with client certificates, or plain on loopback.
//!
//! ```text
//! accept ──▶ gate ──▶ a task per connection: TLS, greeting, READY (5 s in all, 16 KiB) ──▶ session ──▶ ingest
//!                                                                                            └──▶ exchange
//! ```
//!
//! The accept loop waits for nothing but the next socket. At the bound of connections new sockets are
//! closed at once; those that are known stay.

mod claims;
mod connection;
mod house;

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
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{
    core::{
        arrival::ConnId,
        identify::Peer,
        ports::{Checkpoints, Registry},
    },
    doors::{
        capped::Capped,
        gate::{Gate, Unknown},
        tls::{self, Tls},
        zmq::{
            claims::Claims,
            connection::{Connection, Proof},
        },
    },
    exchange::ExchangeHandle,
    mailbox::IngestHandle,
    metrics::Metrics,
};

/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to end at a stop.
const GOODBYE: Duration = Duration::from_secs(2);
/// Connections are numbered from here, so that none has the number of another door's.
const FIRST_CONN: u64 = 1 << 63;
/// The label of this door.
const DOOR: &str = "zmq";

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

/// What the ZeroMQ doors of one node share; cloning shares it.
#[derive(Clone)]
pub struct DoorParts {
    ingest: IngestHandle,
    exchange: ExchangeHandle,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    claims: Arc<Claims>,
    next_conn: Arc<AtomicU64>,
    gate: Arc<Gate>,
    recheck: Duration,
    checkpoints: Option<Arc<dyn Checkpoints>>,
}

impl DoorParts {
    /// One for all ZeroMQ listeners of a node, so that a name is here once wherever it connects.
    pub fn new(
        ingest: IngestHandle,
        exchange: ExchangeHandle,
        registry: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            ingest,
            exchange,
            registry,
            clock,
            metrics,
            claims: Arc::default(),
            gate: Arc::default(),
            next_conn: Arc::new(AtomicU64::new(FIRST_CONN)),
            recheck: limits::RECHECK_EVERY,
            checkpoints: None,
        }
    }

    /// Gateways are given the newest checkpoint of this log, and say what they were given before.
    #[must_use]
    pub fn remembering(self, checkpoints: Arc<dyn Checkpoints>) -> Self {
        Self {
            checkpoints: Some(checkpoints),
            ..self
        }
    }

    /// How often a connected peer is looked up again.
    #[must_use]
    pub fn recheck_every(self, recheck: Duration) -> Self {
        Self { recheck, ..self }
    }
}

/// An open door; dropping it closes it.
pub struct ZmqDoor {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    connections: Arc<Semaphore>,
    connections_max: u32,
}

impl ZmqDoor {
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
                "ZeroMQ without TLS on {listen}: only loopback addresses may be plain; give the listener \
                 a certificate"
            )));
        }
        let doing = format!("listen on {listen} for ZeroMQ");
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|err| Failure::os(&doing, &err))?;
        let address = listener
            .local_addr()
            .map_err(|err| Failure::os(&doing, &err))?;
        let (stop, stopped) = watch::channel(false);
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let connections = Arc::new(Semaphore::new(connections_max as usize));
        let places = Arc::clone(&connections);
        let accepting = tokio::spawn(accept(listener, tls, parts, stopped, places));
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

    /// Closes the door: no new connection, and the old ones are cut. What they have not been told they send
    /// again.
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
                tracing::warn!(%err, "ZeroMQ: cannot accept");
                parts.metrics.refuse("accept");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            parts.metrics.refuse("connections");
            continue;
        };
        if tls.is_some() && !parts.gate.admits_from(address, parts.clock.mono_ns()) {
            parts.metrics.refuse("connect-rate-address");
            continue;
        }
        let Some(unknown) = Unknown::place(&parts.gate, address) else {
            parts.metrics.refuse("unknown-peers");
            continue;
        };
        let (tls, parts, stopped) = (tls.clone(), parts.clone(), stopped.clone());
        tokio::spawn(async move {
            let gauge = parts.metrics.connections.with_label_values(&[DOOR]);
            gauge.inc();
            greet(socket, unknown, tls, parts, stopped).await;
            gauge.dec();
            drop(place);
        });
    }
}

/// TLS, then the session; both within one deadline, counted from the accept.
async fn greet(
    socket: TcpStream,
    unknown: Unknown,
    tls: Option<Tls>,
    parts: DoorParts,
    stopped: watch::Receiver<bool>,
) {
    let deadline = Instant::now() + limits::HANDSHAKE_TIMEOUT;
    // Acknowledgements are small and many: they must not wait for each other.
    socket.set_nodelay(true).ok();
    let conn = ConnId(parts.next_conn.fetch_add(1, Ordering::Relaxed));
    let Some(tls) = tls else {
        let connection = Connection::new(conn, Peer::Plain, unknown, None, parts, stopped);
        return connection.run(socket, deadline).await;
    };
    let capped = Capped::new(socket, limits::CONNECT_BYTES_MAX);
    let mut stream = match time::timeout_at(deadline, tls.acceptor().accept(capped)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => {
            tracing::debug!(%err, "ZeroMQ: TLS handshake failed");
            return parts.metrics.refuse("tls");
        }
        Err(_) => return parts.metrics.refuse("handshake-timeout"),
    };
    stream.get_mut().0.lift();
    match tls::identity(stream.get_ref().1) {
        Ok(identity) => {
            let peer = identity.peer.clone();
            let proof = Some(Proof { identity, tls });
            let connection = Connection::new(conn, peer, unknown, proof, parts, stopped);
            connection.run(stream, deadline).await;
        }
        Err(failure) => {
            tracing::warn!(%failure, "ZeroMQ: a certificate without an identity of ours");
            parts.metrics.refuse("certificate");
        }
    }
}
