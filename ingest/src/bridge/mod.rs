//! The bridge to a broker that is there already: births and frames that devices publish to it come here.
//!
//! ```text
//! device ─▶ broker (persistent session of ours) ─▶ bridge ─▶ ingest: ONE commit ─▶ PUBACK to the broker
//! ```
//!
//! The broker is told that a message has arrived only after our sync, or after it was refused for good; so
//! whatever of broker, bridge and node dies, the broker sends again what is not in our log. What it means to
//! be the only client of a session, see [`crate::core::bridge`]; one task does it all, and reconnects for
//! ever. A crash here is a connection that ends.

mod link;
pub mod metrics;
pub mod upstream;

use std::sync::Arc;

use chordae_base::{
    limits,
    seams::{Clock, Entropy},
};
use rustls::ClientConfig;
use tokio::{sync::watch, task::JoinHandle, time};

use self::{link::Link, metrics::BridgeMetrics, upstream::Address};
use crate::{
    core::{
        bridge::{backoff::Backoff, packet::Wanted},
        ports::Registry,
    },
    mailbox::IngestHandle,
    metrics::Metrics,
};

/// What the bridge is made of. Cloning shares it.
#[derive(Clone)]
pub struct Parts {
    /// Where offers go.
    pub ingest: IngestHandle,
    /// Which devices are known here.
    pub registry: Arc<dyn Registry>,
    /// Monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Ingest's counters.
    pub metrics: Metrics,
    /// Its own.
    pub own: BridgeMetrics,
}

/// Which broker, and as whom.
#[derive(Clone)]
pub struct BridgeSettings {
    /// Where it is.
    pub address: Address,
    /// Its TLS; `None` where the address says plain.
    pub tls: Option<Arc<ClientConfig>>,
    /// Session and subscription.
    pub wanted: Wanted,
}

/// A running bridge; dropping it ends it without good-byes.
pub struct Bridge {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Bridge {
    /// Starts; within a tokio runtime, after [`crate::service::Recovered::run`].
    pub fn start(settings: BridgeSettings, parts: Parts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(settings, parts, stopped));
        Self { stop, task }
    }

    /// Reads nothing more, acknowledges what becomes durable within two seconds, and says good-bye; the
    /// broker keeps the session and all else.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // It may have ended with ingest.
        self.task.await.ok();
    }
}

async fn run(settings: BridgeSettings, parts: Parts, mut stopped: watch::Receiver<bool>) {
    let ingest = parts.ingest.clone();
    let mut backoff = Backoff::default();
    let mut link = Link::new(settings, parts.clone(), stopped.clone());
    loop {
        let (ended, why) = link.live().await;
        parts.own.connected.set(0);
        parts.own.unacknowledged.set(0);
        if *stopped.borrow() {
            return;
        }
        let pause = backoff.after(ended, chance(parts.entropy.as_ref()));
        tracing::warn!(
            why,
            ?pause,
            "bridge: not connected; the broker holds what comes"
        );
        tokio::select! {
            () = time::sleep(pause) => {}
            _ = stopped.changed() => return,
            () = ingest.ended() => return,
        }
    }
}

fn chance(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Notices of one connection wait in a channel of [`limits::CONNECTION_QUEUE`]: more than it keeps open.
const _: () = assert!((limits::BRIDGE_WINDOW as usize) < limits::CONNECTION_QUEUE);
