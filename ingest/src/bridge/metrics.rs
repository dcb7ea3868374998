//! What the bridge counts. Its frames are counted by ingest's own counters, with `door="bridge"`.

use chordae_base::{Failure, Outcome};
use prometheus::{IntCounter, IntGauge, Registry};

/// See the module. Cloning shares the counters.
#[derive(Debug, Clone)]
pub struct BridgeMetrics {
    /// 1 while the broker has accepted us and our subscription.
    pub connected: IntGauge,
    /// Connections that were accepted.
    pub connections: IntCounter,
    /// Of these, with a broker that had no session of ours: what it was to hold is lost (but the first time).
    pub new_sessions: IntCounter,
    /// Messages of the broker that wait for our sync.
    pub unacknowledged: IntGauge,
}

impl BridgeMetrics {
    /// Makes and registers all of them.
    ///
    /// # Errors
    /// `Internal` if one is registered already.
    pub fn register(registry: &Registry) -> Outcome<Self> {
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help).map_err(|e| fail(&e))?;
            let kept = Box::new(made.clone());
            registry.register(kept).map_err(|e| fail(&e)).map(|()| made)
        };
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help).map_err(|e| fail(&e))?;
            let kept = Box::new(made.clone());
            registry.register(kept).map_err(|e| fail(&e)).map(|()| made)
        };
        Ok(Self {
            connected: gauge(
                "chordae_bridge_connected",
                "1 while the broker has accepted us and our subscription",
            )?,
            connections: counter(
                "chordae_bridge_connections_total",
                "Connections that the broker accepted",
            )?,
            new_sessions: counter(
                "chordae_bridge_new_sessions_total",
                "Connections to a broker without a session of ours: what it held for us is lost",
            )?,
            unacknowledged: gauge(
                "chordae_bridge_unacknowledged",
                "Messages of the broker that wait for our sync",
            )?,
        })
    }
}

fn fail(err: &prometheus::Error) -> Failure {
    Failure::internal(format!("a metric of the bridge: {err}"))
}
