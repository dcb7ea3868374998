//! How long to wait before the next try: doubled each time up to a bound, half of it by chance, so that
//! many clients of a broker that comes back do not all come at once.

use std::time::Duration;

use chordae_base::limits;

/// Why a connection ended, as far as the next try cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It worked, and then it was gone: the next try comes soon.
    Lost,
    /// It could not be made, or we ended it: each try waits longer.
    Failed,
    /// The broker does not want us, or somebody with our client id came: the longest pause at once.
    Unwanted,
}

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The pause after a connection that ended so; `chance` is any number.
    pub fn after(&mut self, ended: Ended, chance: u64) -> Duration {
        self.tries = match ended {
            Ended::Lost => 1,
            Ended::Failed => self.tries.saturating_add(1),
            Ended::Unwanted => u32::MAX,
        };
        let doubled = 1_u32 << (self.tries - 1).min(20);
        let whole = limits::BRIDGE_PAUSE_MIN
            .saturating_mul(doubled)
            .min(limits::BRIDGE_PAUSE_MAX);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(chance % nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_chance_is_half_of_them() {
        let mut backoff = Backoff::default();
        let mut before = Duration::ZERO;
        for _ in 0..40 {
            let least = backoff.clone().after(Ended::Failed, 0);
            let most = backoff.after(Ended::Failed, u64::MAX);
            assert!(least >= before && most <= limits::BRIDGE_PAUSE_MAX);
            assert!(most > least, "chance has no say");
            before = least;
        }
        assert_eq!(before, limits::BRIDGE_PAUSE_MAX / 2);
        // A connection that worked begins anew.
        assert!(backoff.after(Ended::Lost, u64::MAX) <= limits::BRIDGE_PAUSE_MIN);
        let unwanted = backoff.after(Ended::Unwanted, 0);
        assert_eq!(unwanted, limits::BRIDGE_PAUSE_MAX / 2);
    }
}
