//! What the fleet has done so far, counted by its devices and read by whoever shows it.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use chordae_base::{Failure, Outcome, StreamKey};
use hdrhistogram::Histogram;

/// Counters of a running fleet.
pub(crate) struct Tally {
    pub(crate) made: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) samples: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) deferred: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) finished: AtomicU64,
    /// From handing over to acknowledgement, microseconds.
    waits: Mutex<Histogram<u64>>,
    trouble: Mutex<Option<String>>,
}

/// A moment of a fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Devices in all.
    pub devices: u64,
    /// Devices connected now.
    pub connected: u64,
    /// Devices whose stream has ended and that have nothing left to send.
    pub finished: u64,
    /// Frames made.
    pub made: u64,
    /// Publishes of frames, repeats included.
    pub sent: u64,
    /// Frames acknowledged, each once.
    pub acked: u64,
    /// Lines of the acknowledged list that are fsynced.
    pub listed: u64,
    /// Samples (per lead) in the acknowledged frames.
    pub samples: u64,
    /// Frames refused for good.
    pub refused: u64,
    /// Refusals that asked to try later (0x97).
    pub deferred: u64,
    /// Frames that a full spool had no room for: they were never sent.
    pub lost: u64,
    /// Connections made.
    pub connections: u64,
    /// Median wait for an acknowledgement, ns.
    pub ack_p50_ns: u64,
    /// 99th percentile of it.
    pub ack_p99_ns: u64,
    /// The longest.
    pub ack_max_ns: u64,
}

/// Longest wait that the histogram tells apart, microseconds (an hour).
const WAIT_US_MAX: u64 = 3_600_000_000;

impl Tally {
    pub(crate) fn new() -> Outcome<Self> {
        let waits = Histogram::new_with_bounds(1, WAIT_US_MAX, 3)
            .map_err(|e| Failure::internal(format!("histogram: {e}")))?;
        let zero = AtomicU64::default;
        Ok(Self {
            made: zero(),
            sent: zero(),
            acked: zero(),
            samples: zero(),
            refused: zero(),
            deferred: zero(),
            lost: zero(),
            connections: zero(),
            connected: zero(),
            finished: zero(),
            waits: Mutex::new(waits),
            trouble: Mutex::new(None),
        })
    }

    pub(crate) fn waited(&self, ns: u64) {
        let mut waits = self
            .waits
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        waits.saturating_record((ns / 1000).max(1));
    }

    pub(crate) fn trouble(&self, key: &StreamKey, why: &str) {
        let mut trouble = self
            .trouble
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *trouble = Some(format!("{key}: {why}"));
    }

    pub(crate) fn last_trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    pub(crate) fn stats(&self, devices: u64, listed: u64) -> Stats {
        let (p50, p99, max) = {
            let waits = self
                .waits
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            (
                waits.value_at_quantile(0.5),
                waits.value_at_quantile(0.99),
                waits.max(),
            )
        };
        Stats {
            devices,
            connected: self.connected.load(Relaxed),
            finished: self.finished.load(Relaxed),
            made: self.made.load(Relaxed),
            sent: self.sent.load(Relaxed),
            acked: self.acked.load(Relaxed),
            listed,
            samples: self.samples.load(Relaxed),
            refused: self.refused.load(Relaxed),
            deferred: self.deferred.load(Relaxed),
            lost: self.lost.load(Relaxed),
            connections: self.connections.load(Relaxed),
            ack_p50_ns: p50 * 1000,
            ack_p99_ns: p99 * 1000,
            ack_max_ns: max * 1000,
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

/// Takes from a counter.
pub(crate) fn sub(counter: &AtomicU64, n: u64) {
    counter.fetch_sub(n, Relaxed);
}
