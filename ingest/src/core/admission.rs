//! When the doors stop taking data: while there is still room to seal and trim, so that a full disk
//! heals itself.
//!
//! ```text
//! open ──(free < min, or the log ≥ its bound)──▶ shut ──(free ≥ min + 1/8, and log < 7/8)──▶ open
//! ```
//!
//! The gap between the two is the hysteresis. What is acknowledged stays; repeats are still absorbed,
//! because that takes no room. `free_min` must exceed what one batch and one seal can write, so that no
//! write of the log meets a full disk: a log that met one is not used again by this process.

use chordae_base::limits;

/// Bounds; a setting may change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Doors shut below this many free bytes.
    pub free_min: u64,
    /// Doors shut when the log has this many bytes.
    pub wal_max: u64,
}

impl AdmissionLimits {
    /// `free_min` is the larger of 2 GiB and three quarters of the log's bound.
    pub fn for_wal(wal_max: u64) -> Self {
        Self {
            free_min: limits::DISK_FREE_MIN.max(wal_max / 4 * 3),
            wal_max,
        }
    }
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self::for_wal(limits::WAL_BYTES_MAX)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Admission {
    limits: AdmissionLimits,
    open: bool,
}

impl Admission {
    /// Open until a reading says otherwise.
    pub fn new(limits: AdmissionLimits) -> Self {
        Self { limits, open: true }
    }

    /// Takes a reading; says whether new data are taken. An unreadable disk (`None`) changes nothing:
    /// if it is really gone, the next commit says so.
    pub fn read(&mut self, free: Option<u64>, wal_bytes: u64) -> bool {
        let AdmissionLimits { free_min, wal_max } = self.limits;
        let free = free.unwrap_or(if self.open { u64::MAX } else { 0 });
        self.open = if self.open {
            free >= free_min && wal_bytes < wal_max
        } else {
            free >= free_min.saturating_add(free_min / 8) && wal_bytes < wal_max - wal_max / 8
        };
        self.open
    }

    /// Whether new data are taken.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuts_at_the_bound_and_opens_only_well_above_it() {
        let mut gate = Admission::new(AdmissionLimits {
            free_min: 800,
            wal_max: 80,
        });
        let readings = [
            (Some(800), 0, true),
            (Some(799), 0, false),
            (Some(899), 0, false),
            (None, 0, false),
            (Some(900), 0, true),
            (None, 0, true),
            (Some(900), 80, false),
            (Some(900), 70, false),
            (Some(900), 69, true),
        ];
        for (n, (free, wal, open)) in readings.into_iter().enumerate() {
            assert_eq!(gate.read(free, wal), open, "reading {n}");
        }
    }

    #[test]
    fn the_floor_grows_with_the_log() {
        assert_eq!(AdmissionLimits::for_wal(0).free_min, limits::DISK_FREE_MIN);
        assert_eq!(AdmissionLimits::for_wal(8 << 30).free_min, 6 << 30);
    }
}
