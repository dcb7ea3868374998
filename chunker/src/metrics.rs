//! What the chunker counts. No label names a device, stream or patient.

use std::time::Duration;

use chordae_base::{Failure, Outcome};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use crate::core::deadlines::SealReason;

/// The chunker's metrics; clones count together.
#[derive(Clone)]
pub struct Metrics {
    sealed: IntCounterVec,
    chunk_bytes: Histogram,
    seal_seconds: Histogram,
    oldest_open: Gauge,
    gaps: IntCounter,
    stranded: IntCounter,
}

fn unusable(err: prometheus::Error) -> Failure {
    Failure::internal(format!("metrics of the chunker: {err}"))
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// `Internal` when a name is taken.
    pub fn new(registry: &Registry) -> Outcome<Self> {
        let sealed = Opts::new(
            "chordae_chunks_sealed_total",
            "Chunks linked, by why they were cut.",
        );
        let bytes = HistogramOpts::new("chordae_chunk_bytes", "Bytes of a linked chunk file.")
            .buckets(prometheus::exponential_buckets(1024.0, 4.0, 10).map_err(unusable)?);
        let seconds = HistogramOpts::new("chordae_seal_seconds", "From an order to its link.")
            .buckets(prometheus::exponential_buckets(0.001, 2.5, 12).map_err(unusable)?);
        let metrics = Self {
            sealed: IntCounterVec::new(sealed, &["reason"]).map_err(unusable)?,
            chunk_bytes: Histogram::with_opts(bytes).map_err(unusable)?,
            seal_seconds: Histogram::with_opts(seconds).map_err(unusable)?,
            oldest_open: Gauge::new(
                "chordae_oldest_open_bucket_seconds",
                "Age of the oldest open bucket.",
            )
            .map_err(unusable)?,
            gaps: IntCounter::new(
                "chordae_seal_gaps_total",
                "Buckets that failed to seal twice: their frames go to quarantine, or, where the store is at \
                 fault, stay in the WAL until the next start.",
            )
            .map_err(unusable)?,
            stranded: IntCounter::new(
                "chordae_stranded_frames_total",
                "Frames in the WAL that no rule could place.",
            )
            .map_err(unusable)?,
        };
        registry
            .register(Box::new(metrics.sealed.clone()))
            .map_err(unusable)?;
        registry
            .register(Box::new(metrics.chunk_bytes.clone()))
            .map_err(unusable)?;
        registry
            .register(Box::new(metrics.seal_seconds.clone()))
            .map_err(unusable)?;
        registry
            .register(Box::new(metrics.oldest_open.clone()))
            .map_err(unusable)?;
        registry
            .register(Box::new(metrics.gaps.clone()))
            .map_err(unusable)?;
        registry
            .register(Box::new(metrics.stranded.clone()))
            .map_err(unusable)?;
        Ok(metrics)
    }

    /// A chunk was linked, `took` after its group was begun.
    pub(crate) fn linked(&self, reason: SealReason, bytes: usize, took: Duration) {
        self.sealed.with_label_values(&[reason.as_str()]).inc();
        self.chunk_bytes.observe(bytes as f64);
        self.seal_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn oldest_open(&self, age_ns: Option<i64>) {
        let age = u64::try_from(age_ns.unwrap_or(0)).unwrap_or(0);
        self.oldest_open
            .set(Duration::from_nanos(age).as_secs_f64());
    }

    pub(crate) fn gap(&self) {
        self.gaps.inc();
    }

    pub(crate) fn stranded(&self) {
        self.stranded.inc();
    }
}
