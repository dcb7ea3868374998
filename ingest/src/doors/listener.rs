//! What a door listens on, before its protocol is spoken.
//!
//! ```text
//! accept ─▶ places in all ─▶ gate ─▶ a task per socket: TLS, identity ─▶ the protocol's greeting
//! ```
//!
//! The accept loop waits for nothing but the next socket: handshakes run in their own tasks, and a
//! process without file descriptors pauses instead of spinning. At the bound of connections new sockets
//! are closed at once; those that stand stay. From the accept to the end of the greeting there is one
//! deadline, and few bytes ([`limits::HANDSHAKE_TIMEOUT`], [`limits::CONNECT_BYTES_MAX`]).

use std::{net::SocketAddr, sync::Arc};

use chordae_base::{Failure, Outcome, limits, seams::Clock};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{self, Instant},
};

use super::{
    capped::Capped,
    gate::{Gate, Unknown},
    guest::Guest,
    tls::{self, Tls},
};
use crate::metrics::Metrics;

/// Where a door is.
#[derive(Clone)]
pub struct DoorSettings {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// None: plain, allowed on loopback addresses only.
    pub tls: Option<Tls>,
    /// Connections at a time.
    pub connections_max: usize,
}

impl DoorSettings {
    /// With as many connections as a node takes.
    pub fn new(listen: SocketAddr, tls: Option<Tls>) -> Self {
        Self {
            listen,
            tls,
            connections_max: limits::CONNECTIONS_MAX,
        }
    }
}

/// A protocol behind listeners. Cloning shares what its doors share.
pub(super) trait Protocol: Clone + Send + Sync + 'static {
    /// For people.
    const NAME: &'static str;
    /// In metrics, and in what is stored about a frame's way.
    const LABEL: &'static str;

    fn keeper(&self) -> Keeper<'_>;

    /// The whole life of a connection, from its first byte. Counts what it refuses.
    fn greet<S>(
        self,
        stream: S,
        guest: Guest,
        deadline: Instant,
        stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send;
}

/// Who lets in, by what clock, and counts.
pub(super) struct Keeper<'a> {
    pub(super) gate: &'a Arc<Gate>,
    pub(super) clock: &'a dyn Clock,
    pub(super) metrics: &'a Metrics,
}

/// An open door; dropping it closes it without good-byes.
pub struct Door {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    connections: Arc<Semaphore>,
    connections_max: u32,
}

impl Door {
    /// Binds and accepts. Called within a tokio runtime.
    ///
    /// # Errors
    /// `Refused` for a plain listener on an address that is not loopback; `Io` when it cannot bind.
    pub(super) async fn open<P: Protocol>(settings: DoorSettings, protocol: P) -> Outcome<Self> {
        let DoorSettings {
            listen,
            tls,
            connections_max,
        } = settings;
        if tls.is_none() && !listen.ip().is_loopback() {
            return Err(Failure::refused(format!(
                "{} without TLS on {listen}: only loopback addresses may be plain; give the listener a certificate",
                P::NAME
            )));
        }
        let os =
            |err: std::io::Error| Failure::os(format!("listen on {listen} for {}", P::NAME), &err);
        let listener = TcpListener::bind(listen).await.map_err(os)?;
        let address = listener.local_addr().map_err(os)?;
        let (stop, stopped) = watch::channel(false);
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let connections = Arc::new(Semaphore::new(connections_max as usize));
        let places = Arc::clone(&connections);
        let accepting = tokio::spawn(accept(listener, tls, protocol, stopped, places));
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

    /// Closes the door: no new connection, and the old ones are told, where the protocol can, and cut. What
    /// they have not been told they send again.
    pub async fn close(self) {
        self.stop.send_replace(true);
        self.accepting.await.ok();
        let all = self.connections.acquire_many(self.connections_max);
        time::timeout(limits::DOOR_GOODBYE, all).await.ok();
    }
}

async fn accept<P: Protocol>(
    listener: TcpListener,
    tls: Option<Tls>,
    protocol: P,
    mut stopped: watch::Receiver<bool>,
    connections: Arc<Semaphore>,
) {
    let Keeper {
        gate,
        clock,
        metrics,
    } = protocol.keeper();
    loop {
        let accepted = tokio::select! {
            // Either it is stopped, or whoever could stop it is gone.
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok((socket, peer)) => (socket, peer.ip()),
            Err(err) => {
                tracing::warn!(%err, "{}: cannot accept", P::NAME);
                metrics.refuse("accept");
                time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            metrics.refuse("connections");
            continue;
        };
        if tls.is_some() && !gate.admits_from(address, clock.mono_ns()) {
            metrics.refuse("connect-rate-address");
            continue;
        }
        let Some(unknown) = Unknown::place(gate, address) else {
            metrics.refuse("unknown-peers");
            continue;
        };
        let (tls, protocol, stopped) = (tls.clone(), protocol.clone(), stopped.clone());
        tokio::spawn(async move {
            let connections = &protocol.keeper().metrics.connections;
            let gauge = connections.with_label_values(&[P::LABEL]);
            gauge.inc();
            meet(socket, unknown, tls, protocol, stopped).await;
            gauge.dec();
            drop(place);
        });
    }
}

/// TLS where there is any, then the protocol.
async fn meet<P: Protocol>(
    socket: TcpStream,
    unknown: Unknown,
    tls: Option<Tls>,
    protocol: P,
    stopped: watch::Receiver<bool>,
) {
    let deadline = Instant::now() + limits::HANDSHAKE_TIMEOUT;
    // Acknowledgements are small and many: they must not wait for each other.
    socket.set_nodelay(true).ok();
    let Some(tls) = tls else {
        // The protocol bounds what it reads before it knows more.
        let guest = Guest::plain(unknown);
        return protocol.greet(socket, guest, deadline, stopped).await;
    };
    let capped = Capped::new(socket, limits::CONNECT_BYTES_MAX);
    let mut stream = match time::timeout_at(deadline, tls.acceptor().accept(capped)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => {
            tracing::debug!(%err, "{}: TLS handshake failed", P::NAME);
            return protocol.keeper().metrics.refuse("tls");
        }
        Err(_) => return protocol.keeper().metrics.refuse("handshake-timeout"),
    };
    stream.get_mut().0.lift();
    let proven = stream.get_ref().1;
    match tls::identity(proven) {
        Ok(identity) => {
            let named = proven.alpn_protocol().map(<[u8]>::to_vec);
            let guest = Guest::certified(identity, tls, named, unknown);
            protocol.greet(stream, guest, deadline, stopped).await;
        }
        Err(failure) => {
            tracing::warn!(%failure, "{}: a certificate without an identity of ours", P::NAME);
            protocol.keeper().metrics.refuse("certificate");
        }
    }
}
