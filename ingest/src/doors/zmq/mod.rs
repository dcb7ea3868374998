//! The ZeroMQ door: a ROUTER of our own (decision 0014), TLS with client certificates, or plain on loopback.
//!
//! ```text
//! listener ──▶ greeting, READY ──▶ session ──▶ ingest (telemetry), exchange (all else)
//! ```

mod claims;
mod connection;
mod house;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chordae_base::{Outcome, limits, seams::Clock};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::Instant,
};

use super::{
    gate::Gate,
    guest::Guest,
    listener::{Door, DoorSettings, Keeper, Protocol},
};
use crate::{
    core::{
        arrival::ConnId,
        ports::{Checkpoints, Registry},
    },
    doors::zmq::{claims::Claims, connection::Connection},
    exchange::ExchangeHandle,
    mailbox::IngestHandle,
    metrics::Metrics,
};

/// Connections are numbered from here, so that none has the number of another door's.
const FIRST_CONN: u64 = 1 << 63;

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

impl Protocol for DoorParts {
    const NAME: &'static str = "ZeroMQ";
    const LABEL: &'static str = "zmq";

    fn keeper(&self) -> Keeper<'_> {
        Keeper {
            gate: &self.gate,
            clock: &*self.clock,
            metrics: &self.metrics,
        }
    }

    async fn greet<S>(
        self,
        stream: S,
        guest: Guest,
        deadline: Instant,
        stopped: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let connection = Connection::new(conn, guest, self, stopped);
        connection.run(stream, deadline).await;
    }
}

/// Opens a door. Called within a tokio runtime, after [`crate::service::Recovered::run`].
///
/// # Errors
/// `Refused` for a plain listener on an address that is not loopback; `Io` when it cannot bind.
pub async fn open(settings: DoorSettings, parts: DoorParts) -> Outcome<Door> {
    Door::open(settings, parts).await
}
