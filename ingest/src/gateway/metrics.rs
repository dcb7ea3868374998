//! What a gateway counts beside what its door counts (`crate::metrics`).

use chordae_base::{Failure, Outcome};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// See the module. Cloning shares the counters.
#[derive(Debug, Clone)]
pub struct GatewayMetrics {
    /// Births and frames that the node has not answered for good.
    pub spool_frames: IntGauge,
    /// Bytes of the spool's journal.
    pub spool_bytes: IntGauge,
    /// Births and frames sent and not answered.
    pub in_flight: IntGauge,
    /// 1 while the uplink is up.
    pub connected: IntGauge,
    /// Times that it came up.
    pub connects: IntCounter,
    /// Births and frames sent, also again.
    pub sent: IntCounter,
    /// Answers by outcome.
    pub answers: IntCounterVec,
}

impl GatewayMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// `Internal` when the registry holds one of these names already.
    pub fn register(registry: &Registry) -> Outcome<Self> {
        let gauge = |name: &str, help: &str| kept(registry, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| kept(registry, IntCounter::new(name, help));
        let answers = Opts::new(
            "chordae_uplink_answers_total",
            "What the node upstream answered",
        );
        Ok(Self {
            spool_frames: gauge(
                "chordae_spool_frames",
                "Births and frames that are not upstream yet",
            )?,
            spool_bytes: gauge("chordae_spool_bytes", "Bytes of the spool")?,
            in_flight: gauge(
                "chordae_uplink_in_flight",
                "Births and frames sent and not answered",
            )?,
            connected: gauge("chordae_uplink_connected", "1 while the uplink is up")?,
            connects: counter(
                "chordae_uplink_connects_total",
                "Times that the uplink came up",
            )?,
            sent: counter(
                "chordae_uplink_sent_total",
                "Births and frames sent upstream, also again",
            )?,
            answers: kept(registry, IntCounterVec::new(answers, &["outcome"]))?,
        })
    }
}

fn kept<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> Outcome<C> {
    let fail = |err: prometheus::Error| Failure::internal(format!("a metric: {err}"));
    let made = made.map_err(fail)?;
    registry.register(Box::new(made.clone())).map_err(fail)?;
    Ok(made)
}
