//! Time that never goes back.
//!
//! ```text
//! wall  ────────╮  (jumps back an hour)        ╭───────
//! ours  ────────┴──── half speed ──────────────╯        never less, and never stands still
//! ```
//!
//! Receive times in the log must not decrease and the windower's timers run on them, so a wall clock
//! that jumps back must neither be followed nor freeze us: until it has caught up, we run at half speed.
//! Sample times are compared with the wall clock all the same: one wild reading must not make every
//! frame of the next weeks look old.

/// Both readings of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Our time: what the log and all timers run on.
    pub ours_ns: i64,
    /// The wall clock: what sample times are compared with.
    pub wall_ns: i64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Steady {
    now_ns: i64,
    mono_ns: u64,
}

impl Steady {
    /// Begins no earlier than `floor_ns`, the newest receive time already in the log.
    pub fn new(floor_ns: i64, mono_ns: u64) -> Self {
        Self {
            now_ns: floor_ns,
            mono_ns,
        }
    }

    /// Takes a reading of both clocks and gives our time.
    pub fn read(&mut self, wall_ns: i64, mono_ns: u64) -> i64 {
        let passed = i64::try_from(mono_ns.saturating_sub(self.mono_ns)).unwrap_or(i64::MAX);
        self.mono_ns = self.mono_ns.max(mono_ns);
        self.now_ns = wall_ns.max(self.now_ns.saturating_add(passed / 2));
        self.now_ns
    }

    /// Our newest reading.
    pub fn now_ns(&self) -> i64 {
        self.now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_wall_and_slows_down_when_it_jumps_back() {
        let mut steady = Steady::new(1_000, 0);
        assert_eq!(steady.read(5_000, 10), 5_000);
        assert_eq!(steady.read(2_000, 110), 5_050, "half of what has passed");
        assert_eq!(steady.read(5_040, 110), 5_050, "no time has passed");
        assert_eq!(steady.read(6_000, 111), 6_000, "the wall has caught up");
    }
}
