//! In-memory seams. The disk keeps what was synced apart from what was only written:
//!
//! ```text
//!   file      cached bytes ──sync()──▶ durable bytes      (data and length)
//!   directory cached names ──sync_dir()──▶ durable names  (created, renamed, removed)
//! ```
//!
//! Programs see the cached side. [`FakeDisk::crash`] throws it away: a file whose directory was not
//! synced is gone, a rename that was not synced is undone. [`FakeDisk::crash_torn`] lets a random part
//! of it survive instead, each 512-byte block and each name for itself, in no order; that is more than
//! most file systems do and no more than they are allowed to. Open files, and disks from [`FakeDisk::boot`],
//! fail after a crash: the process that held them is dead.

mod disk;
mod medium;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::{Clock, Entropy};

pub use disk::FakeDisk;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panicking test thread leaves plain bytes behind, nothing half-made.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that moves when told. Clones share it.
#[derive(Debug, Clone)]
pub struct FakeClock {
    wall_ns: Arc<AtomicI64>,
    mono_ns: Arc<AtomicU64>,
}

impl FakeClock {
    /// A clock that shows `wall_ns`; its monotonic side begins at 0.
    pub fn new(wall_ns: i64) -> Self {
        Self {
            wall_ns: Arc::new(AtomicI64::new(wall_ns)),
            mono_ns: Arc::default(),
        }
    }

    /// Lets time pass on both sides.
    pub fn advance(&self, ns: u64) {
        self.mono_ns.fetch_add(ns, Ordering::SeqCst);
        self.wall_ns
            .fetch_add(i64::try_from(ns).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall clock, as an operator or NTP does; the monotonic side stays.
    pub fn set_wall(&self, wall_ns: i64) {
        self.wall_ns.store(wall_ns, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn wall_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }
}

/// Bytes that follow from a seed; for tests only. Clones share the stream.
#[derive(Debug, Clone)]
pub struct FakeEntropy(Arc<Mutex<blake3::OutputReader>>);

impl FakeEntropy {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        let reader = blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof();
        Self(Arc::new(Mutex::new(reader)))
    }

    /// A number in `0..bound`, near enough to even for tests; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}

impl Entropy for FakeEntropy {
    fn fill(&self, buf: &mut [u8]) {
        lock(&self.0).fill(buf);
    }
}
