//! Metrics of the query service, on a registry that is handed in. No label names a device, patient,
//! stream or session.

use chordae_base::{Failure, Outcome};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct QueryMetrics {
    seconds: HistogramVec,
    denied: IntCounterVec,
    verify_failures: IntCounter,
    sessions: IntGauge,
    live: IntGauge,
    held: IntGauge,
}

/// Counts an open live answer until it is dropped.
#[derive(Debug)]
pub struct LiveReader(IntGauge);

impl Drop for LiveReader {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl QueryMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// `Internal` when one of the names is taken.
    pub fn new(registry: &Registry) -> Outcome<Self> {
        let seconds = HistogramOpts::new(
            "chordae_query_seconds",
            "From a request's arrival to the last byte of its answer.",
        )
        .buckets(vec![
            0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0,
        ]);
        let denied = Opts::new(
            "chordae_query_denied_total",
            "Requests not answered, by reason.",
        );
        let metrics = Self {
            seconds: HistogramVec::new(seconds, &["format"]).map_err(taken)?,
            denied: IntCounterVec::new(denied, &["reason"]).map_err(taken)?,
            verify_failures: IntCounter::new(
                "chordae_verify_failures_total",
                "Stored chunks that did not match their link when they were to be served.",
            )
            .map_err(taken)?,
            sessions: IntGauge::new("chordae_sessions", "Session records in the directory.")
                .map_err(taken)?,
            held: IntGauge::new(
                "chordae_chunks_held_bytes",
                "Verified chunk files that are held for windows that many look at.",
            )
            .map_err(taken)?,
            live: IntGauge::new("chordae_live_readers", "Live answers that are open.")
                .map_err(taken)?,
        };
        let all: [Box<dyn Collector>; 6] = [
            Box::new(metrics.seconds.clone()),
            Box::new(metrics.denied.clone()),
            Box::new(metrics.verify_failures.clone()),
            Box::new(metrics.sessions.clone()),
            Box::new(metrics.live.clone()),
            Box::new(metrics.held.clone()),
        ];
        for collector in all {
            registry.register(collector).map_err(taken)?;
        }
        Ok(metrics)
    }

    /// An answer has been sent.
    pub fn answered(&self, format: &str, nanoseconds: u64) {
        self.seconds
            .with_label_values(&[format])
            .observe(nanoseconds as f64 / 1e9);
    }

    /// A request was not answered.
    pub fn denied(&self, reason: &str) {
        self.denied.with_label_values(&[reason]).inc();
    }

    /// A stored chunk was found damaged.
    pub fn verify_failed(&self) {
        self.verify_failures.inc();
    }

    /// How many session records there are.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Where the bytes of held chunk files are shown.
    pub(crate) fn chunks_held(&self) -> IntGauge {
        self.held.clone()
    }

    /// A live answer is open while this is held.
    pub fn live_reader(&self) -> LiveReader {
        self.live.inc();
        LiveReader(self.live.clone())
    }

    /// A session record came or went.
    pub fn session_changed(&self, by: i64) {
        self.sessions.add(by);
    }
}

fn taken(e: prometheus::Error) -> Failure {
    Failure::internal(format!("cannot register the query metrics: {e}"))
}
