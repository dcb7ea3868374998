//! Frames that wait for their birth or clock offset: durable and acknowledged, in no bucket yet.
//!
//! ```text
//! arrives ──▶ log (Parked) ──10 min──▶ quarantine/ + Settled in the log
//!                 │                          │
//!                 └── birth or offset ───────┴──▶ a further Frame record with its place
//! ```
//!
//! Only the head is held in memory; the payload is read back from where it lies.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{limits, wire::Glance};

/// Waiting frames that one boot may have in memory; beyond, the oldest in quarantine is forgotten (it
/// stays in quarantine, but its birth no longer releases it by itself).
pub const WAITING_MAX: usize = 65_536;

/// Where the payload of a frame lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In this batch.
    Here(Bytes),
    /// In the log, at this position.
    Wal(u64),
    /// In the quarantine journal, at this position.
    Quarantine(u64),
}

/// A frame that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// All but its samples.
    pub head: Glance,
    /// When it was received, by our time: what its timers run from.
    pub recv_ns: i64,
    /// What its clock is compared with; see [`super::arrival::arrived_ns`].
    pub arrived_ns: i64,
    /// Where its payload lies.
    pub body: Body,
}

impl Waiting {
    /// Whether it has been moved to quarantine.
    pub fn expired(&self) -> bool {
        matches!(self.body, Body::Quarantine(_))
    }
}

/// The waiting frames of one boot by seq.
#[derive(Debug, Clone, Default)]
pub struct Parked {
    frames: BTreeMap<u64, Waiting>,
    /// How many are still in the log.
    fresh: usize,
}

impl Parked {
    /// Takes a frame in. False if there is no room: too many wait in the log.
    pub fn put(&mut self, waiting: Waiting) -> bool {
        if self.frames.len() >= WAITING_MAX {
            let oldest = self
                .frames
                .iter()
                .find(|(_, w)| w.expired())
                .map(|(seq, _)| *seq);
            match oldest {
                Some(seq) => self.frames.remove(&seq),
                None => return false,
            };
        }
        self.fresh += usize::from(!waiting.expired());
        if let Some(old) = self.frames.insert(waiting.head.seq, waiting) {
            self.fresh -= usize::from(!old.expired());
        }
        true
    }

    /// Takes a frame out.
    pub fn take(&mut self, seq: u64) -> Option<Waiting> {
        let waiting = self.frames.remove(&seq)?;
        self.fresh -= usize::from(!waiting.expired());
        Some(waiting)
    }

    /// Takes all out, in order of arrival.
    pub fn take_all(&mut self) -> Vec<Waiting> {
        self.fresh = 0;
        let mut all: Vec<_> = std::mem::take(&mut self.frames).into_values().collect();
        all.sort_by_key(|w| (w.recv_ns, w.head.seq));
        all
    }

    /// Its payload lies there now.
    pub fn locate(&mut self, seq: u64, body: Body) {
        if let Some(waiting) = self.frames.get_mut(&seq) {
            let (was, is) = (waiting.expired(), matches!(body, Body::Quarantine(_)));
            waiting.body = body;
            match (was, is) {
                (false, true) => self.fresh -= 1,
                (true, false) => self.fresh += 1,
                _ => {}
            }
        }
    }

    /// Those in the log for longer than [`limits::PARKED_NS_MAX`].
    pub fn overdue(&self, now_ns: i64) -> Vec<u64> {
        let due =
            |w: &Waiting| !w.expired() && now_ns.saturating_sub(w.recv_ns) >= limits::PARKED_NS_MAX;
        self.frames
            .iter()
            .filter(|(_, w)| due(w))
            .map(|(seq, _)| *seq)
            .collect()
    }

    /// The newest by seq.
    pub fn newest(&self) -> Option<&Waiting> {
        self.frames.values().next_back()
    }

    /// When the first of them arrived.
    pub fn oldest_ns(&self) -> i64 {
        self.frames
            .values()
            .map(|w| w.recv_ns)
            .min()
            .unwrap_or(i64::MIN)
    }

    /// Seqs of all that wait.
    pub fn seqs(&self) -> impl Iterator<Item = u64> + '_ {
        self.frames.keys().copied()
    }

    /// The frame that waits under this seq.
    pub fn get(&self, seq: u64) -> Option<&Waiting> {
        self.frames.get(&seq)
    }

    /// Whether any is still in the log, so that timers run for this boot.
    pub fn any_in_log(&self) -> bool {
        self.fresh > 0
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
