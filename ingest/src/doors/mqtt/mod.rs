//! The MQTT door: 3.1.1 and 5, TLS with client certificates, or plain on loopback.
//!
//! ```text
//! listener ──▶ WebSocket, if its first byte says so ──▶ CONNECT ──▶ session ──▶ ingest (telemetry), exchange (all else)
//! ```
//!
//! Who may take up which session is the exchange's: a second connection of the same identity cuts the first,
//! another's never can.

mod connection;
mod greet;
pub mod websocket;

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
    core::{arrival::ConnId, mqtt::profile::Profile, ports::Registry},
    exchange::ExchangeHandle,
    fanout::Fanout,
    mailbox::IngestHandle,
    metrics::Metrics,
};

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

impl Protocol for DoorParts {
    const NAME: &'static str = "MQTT";
    const LABEL: &'static str = "mqtt";

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
        greet::greet(stream, guest, self, stopped, deadline).await;
    }
}

/// Opens a door. Called within a tokio runtime, after [`crate::service::Recovered::run`].
///
/// # Errors
/// `Refused` for a plain listener on an address that is not loopback; `Io` when it cannot bind.
pub async fn open(settings: DoorSettings, parts: DoorParts) -> Outcome<Door> {
    Door::open(settings, parts).await
}
