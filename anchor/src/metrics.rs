//! What operators see of the ledger and the notary; no label names a stream, patient or session.

use chordae_base::{Failure, Outcome};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::ledger::View;

fn registered<T: prometheus::core::Collector + Clone + 'static>(
    made: prometheus::Result<T>,
    registry: &Registry,
) -> Outcome<T> {
    let failed = |e: prometheus::Error| Failure::internal(format!("metric: {e}"));
    let metric = made.map_err(failed)?;
    registry
        .register(Box::new(metric.clone()))
        .map_err(failed)?;
    Ok(metric)
}

/// Of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerMetrics {
    /// Entries under the newest checkpoint.
    pub entries: IntGauge,
    /// Time of the newest block.
    pub checkpoint_timestamp: Gauge,
    /// From the first event of a batch to its checkpoint.
    pub batch_seconds: Histogram,
    /// Entries that no checkpoint covers that counts for readers.
    pub uncounted: IntGauge,
    /// Entries that were not let in, by what the submitter must do.
    pub refused: IntCounterVec,
}

impl LedgerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// `Internal` when a name is taken.
    pub fn new(registry: &Registry) -> Outcome<Self> {
        let buckets = vec![
            0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
        ];
        Ok(Self {
            entries: registered(
                IntGauge::new(
                    "chordae_ledger_entries",
                    "Entries under the newest checkpoint",
                ),
                registry,
            )?,
            checkpoint_timestamp: registered(
                Gauge::new(
                    "chordae_checkpoint_timestamp_seconds",
                    "Time of the newest block of the ledger, in seconds since 1970",
                ),
                registry,
            )?,
            batch_seconds: registered(
                Histogram::with_opts(
                    HistogramOpts::new(
                        "chordae_ledger_batch_seconds",
                        "From closing a batch to its durable checkpoint",
                    )
                    .buckets(buckets),
                ),
                registry,
            )?,
            uncounted: registered(
                IntGauge::new(
                    "chordae_ledger_uncosigned_entries",
                    "Entries that wait for their witnesses",
                ),
                registry,
            )?,
            refused: registered(
                IntCounterVec::new(
                    Opts::new(
                        "chordae_ledger_refused_total",
                        "Entries that the ledger refused",
                    ),
                    &["reason"],
                ),
                registry,
            )?,
        })
    }
}

impl LedgerMetrics {
    pub(crate) fn show_uncounted(&self, view: &View) {
        let waiting = i64::try_from(view.uncounted()).unwrap_or(i64::MAX);
        self.uncounted.set(waiting);
    }
}

/// Of the notary.
#[derive(Debug, Clone)]
pub struct NotaryMetrics {
    /// Age of the oldest link that no checkpoint covers.
    pub lag_seconds: Gauge,
    /// Dids whose head is not anchored.
    pub pending_heads: IntGauge,
    /// Heads anchored since the start.
    pub anchored: IntCounter,
    /// Submissions that the ledger did not take.
    pub failures: IntCounter,
}

impl NotaryMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// `Internal` when a name is taken.
    pub fn new(registry: &Registry) -> Outcome<Self> {
        Ok(Self {
            lag_seconds: registered(
                Gauge::new(
                    "chordae_anchor_lag_seconds",
                    "Age of the oldest link not anchored",
                ),
                registry,
            )?,
            pending_heads: registered(
                IntGauge::new(
                    "chordae_anchor_pending_heads",
                    "Streams whose head is not anchored",
                ),
                registry,
            )?,
            anchored: registered(
                IntCounter::new("chordae_anchor_heads_total", "Heads anchored"),
                registry,
            )?,
            failures: registered(
                IntCounter::new(
                    "chordae_anchor_failures_total",
                    "Submissions that the ledger did not take",
                ),
                registry,
            )?,
        })
    }
}
