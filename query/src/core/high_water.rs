//! A clock that never goes back (formats.md 8): what has expired once stays expired.
//!
//! ```text
//! wall   ──╮  ╭──────╮              ╭───
//!          ╰──╯      │  set back    │
//! high   ────────────┴──────────────╯      newest wall time ever seen
//! ```
//!
//! After a restart it begins at the newest time in the trail, so that a clock set back while the
//! process was down revives nothing either. A clock that once ran ahead keeps refusing until the true
//! time has caught up: refusing is the safe side.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighWater {
    newest_ns: i64,
}

/// The two times that decisions are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What the wall clock says; no row later than this is sent.
    pub wall_ns: i64,
    /// The newest time ever seen, never less than `wall_ns`; expiry is judged by this.
    pub high_ns: i64,
}

impl HighWater {
    /// Begins at a time known to have passed.
    pub fn new(newest_ns: i64) -> Self {
        Self { newest_ns }
    }

    /// Takes a reading of the wall clock.
    pub fn observe(&mut self, wall_ns: i64) -> Now {
        self.newest_ns = self.newest_ns.max(wall_ns);
        Now {
            wall_ns,
            high_ns: self.newest_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_revives_nothing() {
        let mut high = HighWater::new(50);
        assert_eq!(
            high.observe(10),
            Now {
                wall_ns: 10,
                high_ns: 50
            }
        );
        assert_eq!(
            high.observe(100),
            Now {
                wall_ns: 100,
                high_ns: 100
            }
        );
        assert_eq!(
            high.observe(99),
            Now {
                wall_ns: 99,
                high_ns: 100
            }
        );
    }
}
