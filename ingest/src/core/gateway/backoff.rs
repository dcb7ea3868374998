//! How long to wait before the next attempt to connect: doubling, bounded, and never the same for two
//! gateways that lost the same node at the same moment.

use std::time::Duration;

use chordae_base::{limits, seams::Entropy};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure: between half of and all of 100 ms, 200 ms, ... 10 s.
    pub fn failed(&mut self, entropy: &dyn Entropy) -> Duration {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let whole = limits::UPLINK_RETRY_MIN
            .saturating_mul(1 << doublings)
            .min(limits::UPLINK_RETRY_MAX);
        let mut dice = [0; 2];
        entropy.fill(&mut dice);
        let half = whole / 2;
        half + half.mul_f64(f64::from(u16::from_le_bytes(dice)) / f64::from(u16::MAX))
    }

    /// It works again.
    pub fn worked(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chordae_base::seams::fake::FakeEntropy;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew_after_a_success() {
        let entropy = FakeEntropy::new(1);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.failed(&entropy)).collect();
        for (n, pause) in pauses.iter().enumerate() {
            let whole = limits::UPLINK_RETRY_MIN
                .saturating_mul(1 << n.min(16))
                .min(limits::UPLINK_RETRY_MAX);
            assert!((whole / 2..=whole).contains(pause), "pause {n}: {pause:?}");
        }
        assert!(
            pauses.iter().skip(20).any(|p| Some(p) != pauses.last()),
            "no jitter"
        );
        backoff.worked();
        assert!(backoff.failed(&entropy) <= limits::UPLINK_RETRY_MIN);
    }
}
