//! What ingest counts (interfaces.md, "Metrics"). One registry is handed in; there is no global. No
//! label names a device or a stream.

use chordae_base::{Failure, Outcome};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// Upper bounds of the latency histograms, in seconds: 100 us to 10 s.
const SECONDS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Upper bounds of the clock-offset histogram, in seconds of magnitude.
const OFFSETS: &[f64] = &[
    0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0, 1e9,
];

/// See the module. Cloning shares the counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Frames by door and what became of them.
    pub frames: IntCounterVec,
    /// Samples of stored frames, all leads.
    pub samples: IntCounter,
    /// Payload bytes by door.
    pub bytes: IntCounterVec,
    /// From the door to the acknowledgement.
    pub ack_seconds: Histogram,
    /// One commit of the log: write and sync.
    pub wal_sync_seconds: Histogram,
    /// Bytes of the log.
    pub wal_bytes: IntGauge,
    /// Refusals by reason.
    pub refused: IntCounterVec,
    /// Quarantined things by reason.
    pub quarantined: IntCounterVec,
    /// Repeats that were absorbed.
    pub duplicates: IntCounter,
    /// Seqs that were skipped; some may come later.
    pub gap_frames: IntCounter,
    /// Magnitude of the offset that live frames were mapped with.
    pub clock_offset_seconds: Histogram,
    /// Open connections by door.
    pub connections: IntGaugeVec,
    /// Changed certificates or revocations, by whether they could be used.
    pub tls_reloads: IntCounterVec,
    /// Free bytes where the log lies.
    pub disk_free_bytes: IntGauge,
    /// Live frames that no monitor will see, because the fan-out was busy or away.
    pub live_dropped: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// `Internal` when the registry holds one of these names already.
    pub fn register(registry: &Registry) -> Outcome<Self> {
        let counter = |name: &str, help: &str| kept(registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            kept(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| kept(registry, IntGauge::new(name, help));
        let histogram = |name: &str, help: &str, bounds: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            kept(registry, Histogram::with_opts(opts))
        };
        Ok(Self {
            frames: counters(
                "chordae_ingest_frames_total",
                "Frames and births by what became of them",
                &["door", "outcome"],
            )?,
            samples: counter("chordae_ingest_samples_total", "Samples of stored frames")?,
            bytes: counters(
                "chordae_ingest_bytes_total",
                "Payload bytes received",
                &["door"],
            )?,
            ack_seconds: histogram(
                "chordae_ingest_ack_seconds",
                "From the door to the acknowledgement",
                SECONDS,
            )?,
            wal_sync_seconds: histogram(
                "chordae_wal_sync_seconds",
                "One commit of the log: write and sync",
                SECONDS,
            )?,
            wal_bytes: gauge("chordae_wal_bytes", "Bytes of the log")?,
            refused: counters("chordae_refused_total", "Refusals by reason", &["reason"])?,
            quarantined: counters(
                "chordae_quarantined_total",
                "Things that went to quarantine by reason",
                &["reason"],
            )?,
            duplicates: counter("chordae_duplicates_total", "Repeats that were absorbed")?,
            gap_frames: counter("chordae_gap_frames_total", "Seqs skipped by live frames")?,
            clock_offset_seconds: histogram(
                "chordae_clock_offset_seconds",
                "Magnitude of the offset of live frames without a synced clock",
                OFFSETS,
            )?,
            connections: kept(
                registry,
                IntGaugeVec::new(
                    Opts::new("chordae_connections", "Open connections by door"),
                    &["door"],
                ),
            )?,
            tls_reloads: counters(
                "chordae_tls_reloads_total",
                "Changed certificates or revocations, by whether they could be used",
                &["outcome"],
            )?,
            disk_free_bytes: gauge("chordae_disk_free_bytes", "Free bytes where the log lies")?,
            live_dropped: counter(
                "chordae_live_dropped_total",
                "Live frames not offered to monitors: the fan-out was busy or away",
            )?,
        })
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}

/// What one turn counts, added up before it touches what all threads share.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    frames: Vec<(&'static str, &'static str, u64)>,
    bytes: Vec<(&'static str, u64)>,
    samples: u64,
}

impl Counted {
    /// One arrival at a door, and what became of it.
    pub(crate) fn arrival(&mut self, door: &'static str, outcome: &'static str, bytes: usize) {
        // A handful of doors and outcomes.
        match self
            .frames
            .iter_mut()
            .find(|(d, o, _)| *d == door && *o == outcome)
        {
            Some((_, _, n)) => *n += 1,
            None => self.frames.push((door, outcome, 1)),
        }
        match self.bytes.iter_mut().find(|(d, _)| *d == door) {
            Some((_, n)) => *n += bytes as u64,
            None => self.bytes.push((door, bytes as u64)),
        }
    }

    /// Samples of a stored frame.
    pub(crate) fn samples(&mut self, samples: u32) {
        self.samples += u64::from(samples);
    }

    /// Adds them to the metrics.
    pub(crate) fn tell(&mut self, metrics: &Metrics) {
        let Self {
            frames,
            bytes,
            samples,
        } = std::mem::take(self);
        for (door, outcome, n) in frames {
            metrics.frames.with_label_values(&[door, outcome]).inc_by(n);
            if outcome == "repeat" {
                metrics.duplicates.inc_by(n);
            }
        }
        for (door, n) in bytes {
            metrics.bytes.with_label_values(&[door]).inc_by(n);
        }
        metrics.samples.inc_by(samples);
    }
}

/// Registers a metric that has been made.
pub(crate) fn kept<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> Outcome<C> {
    let fail = |err: prometheus::Error| Failure::internal(format!("a metric: {err}"));
    let made = made.map_err(fail)?;
    registry.register(Box::new(made.clone())).map_err(fail)?;
    Ok(made)
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    // Precision beyond 2^53 ns is of no use in a histogram.
    ns as f64 / 1e9
}
