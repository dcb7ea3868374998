//! The order of the live lane (formats.md 3): by seq, waiting at most two seconds for a missing one.
//!
//! ```text
//!            ┌ ready: seq 0, the frame before is known, or 2 s are over
//!  arrive ──▶│ held ──ready and no lower live frame held──▶ Live, next = seq + 1
//!            └      ──ready but seq < next─────────────────▶ Late (it came later than its turn)
//! ```
//!
//! A frame is let go only when it is *ready*, whatever its lane: the end of the frame with the
//! previous seq decides its times (see `times`), and that frame may still come. When the wait of a
//! frame is over, everything below it that is ready goes with it and what is not ready has lost its
//! turn. Invariant: live frames leave in strictly ascending order of seq.

use std::collections::BTreeMap;

use chordae_base::limits::{REORDER_WAIT_NS, SPREAD_MEMORY_NS};
use chordae_chain::meta::Lane;

use super::times::{Fact, Tail};

/// A frame let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The frame.
    pub fact: Fact,
    /// Its lane.
    pub lane: Lane,
    /// The frame with the previous seq, if it is known. It is not kept any longer here.
    pub before: Option<Tail>,
}

/// The frames of one boot that wait, and the ends that later ones may need.
#[derive(Debug, Default)]
pub struct Turn {
    /// One more than the last seq of the live lane; none before the first.
    next: Option<u64>,
    live: BTreeMap<u64, Fact>,
    late: BTreeMap<u64, Fact>,
    tails: BTreeMap<u64, Tail>,
}

impl Turn {
    /// Takes a frame in and lets go what is ready. `None` if the same seq is held or was just seen:
    /// ingest never records a frame twice, and if it did, the first stays.
    pub fn arrive(&mut self, fact: Fact, lane: Lane, now_ns: i64) -> Option<Vec<Released>> {
        let seq = fact.seq;
        if self.holds(seq) || self.tails.contains_key(&seq) {
            return None;
        }
        let tail = Tail {
            position: fact.position,
            recv_ns: fact.recv_ns,
            end_ns: fact.end_ns,
        };
        self.tails.insert(seq, tail);
        match lane {
            Lane::Live => self.live.insert(seq, fact),
            Lane::Late => self.late.insert(seq, fact),
        };
        let mut out = Vec::new();
        self.settle(seq, now_ns, &mut out);
        Some(out)
    }

    /// The wait of `seq` is over (or must be: too many frames are held).
    pub fn expire(&mut self, seq: u64, now_ns: i64) -> Vec<Released> {
        let mut out = Vec::new();
        if let Some(fact) = self.late.remove(&seq) {
            self.let_go(fact, Lane::Late, &mut out);
        } else if seq < self.first_turn() {
            if let Some(fact) = self.live.remove(&seq) {
                self.let_go(fact, Lane::Late, &mut out);
            }
        } else if self.live.contains_key(&seq) {
            let below: Vec<u64> = self
                .live
                .range(self.first_turn()..=seq)
                .map(|(s, _)| *s)
                .collect();
            for s in below {
                let ready = s == seq || self.live.get(&s).is_some_and(|f| self.ready(f, now_ns));
                if let Some(fact) = self.live.get(&s).copied().filter(|_| ready) {
                    self.live.remove(&s);
                    self.next = Some(s.saturating_add(1));
                    self.let_go(fact, Lane::Live, &mut out);
                }
            }
        }
        self.settle(seq, now_ns, &mut out);
        out
    }

    /// Lets everything go, in order: an orderly stop.
    pub fn flush(&mut self) -> Vec<Released> {
        let mut out = Vec::new();
        let first = self.first_turn();
        for (seq, fact) in std::mem::take(&mut self.live) {
            let lane = if seq < first { Lane::Late } else { Lane::Live };
            if lane == Lane::Live {
                self.next = Some(seq.saturating_add(1));
            }
            self.let_go(fact, lane, &mut out);
        }
        for (_, fact) in std::mem::take(&mut self.late) {
            self.let_go(fact, Lane::Late, &mut out);
        }
        out
    }

    /// Forgets ends that no successor can use any more; gives them back.
    pub fn forget(&mut self, now_ns: i64) -> Vec<Tail> {
        // A frame received just within the memory may wait for its turn; its `before` must be here.
        let old = now_ns.saturating_sub(SPREAD_MEMORY_NS + 2 * REORDER_WAIT_NS);
        let gone: Vec<u64> = self
            .tails
            .iter()
            .filter(|(_, t)| t.recv_ns <= old)
            .map(|(s, _)| *s)
            .collect();
        gone.iter().filter_map(|s| self.tails.remove(s)).collect()
    }

    /// When [`Self::forget`] has something to do; none if nothing is kept.
    pub fn forget_at(&self) -> Option<i64> {
        let oldest = self.tails.values().map(|t| t.recv_ns).min()?;
        Some(oldest.saturating_add(SPREAD_MEMORY_NS + 2 * REORDER_WAIT_NS))
    }

    /// Whether `seq` waits here.
    pub fn holds(&self, seq: u64) -> bool {
        self.live.contains_key(&seq) || self.late.contains_key(&seq)
    }

    /// How many frames wait.
    pub fn held(&self) -> usize {
        self.live.len() + self.late.len()
    }

    /// The lowest seq that waits.
    pub fn lowest(&self) -> Option<u64> {
        self.live
            .keys()
            .next()
            .into_iter()
            .chain(self.late.keys().next())
            .min()
            .copied()
    }

    /// Whether nothing is waiting or remembered.
    pub fn idle(&self) -> bool {
        self.held() == 0 && self.tails.is_empty()
    }

    fn first_turn(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    /// See the module. `next == seq` means the frame before it has left the live lane: it was
    /// received, and if its end counted it would be known here.
    fn ready(&self, fact: &Fact, now_ns: i64) -> bool {
        fact.seq == 0
            || self.next == Some(fact.seq)
            || self.tails.contains_key(&(fact.seq - 1))
            || fact.recv_ns.saturating_add(REORDER_WAIT_NS) <= now_ns
    }

    /// After `seq` changed, only it, its successor and the head of the live lane can have become free.
    fn settle(&mut self, seq: u64, now_ns: i64, out: &mut Vec<Released>) {
        for s in [Some(seq), seq.checked_add(1)].into_iter().flatten() {
            if self.late.get(&s).is_some_and(|f| self.ready(f, now_ns))
                && let Some(fact) = self.late.remove(&s)
            {
                self.let_go(fact, Lane::Late, out);
            }
            let passed = s < self.first_turn();
            if passed
                && self.live.get(&s).is_some_and(|f| self.ready(f, now_ns))
                && let Some(fact) = self.live.remove(&s)
            {
                self.let_go(fact, Lane::Late, out);
            }
        }
        while let Some(fact) = self.live.range(self.first_turn()..).next().map(|(_, f)| *f) {
            if !self.ready(&fact, now_ns) {
                break;
            }
            self.live.remove(&fact.seq);
            self.next = Some(fact.seq.saturating_add(1));
            self.let_go(fact, Lane::Live, out);
        }
    }

    fn let_go(&mut self, fact: Fact, lane: Lane, out: &mut Vec<Released>) {
        let before = fact.seq.checked_sub(1).and_then(|s| self.tails.remove(&s));
        out.push(Released { fact, lane, before });
    }
}
