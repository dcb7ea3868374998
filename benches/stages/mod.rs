//! The stages of a sample's path that are measured, one module each. Every one gives its report as text.

pub mod flood;
pub mod idle;
pub mod ingest;
pub mod ledger;
pub mod seal;
pub mod verify;
pub mod ward;
pub mod window;

use chordae_base::{Outcome, seams::Clock};

/// Nanoseconds that `work` takes; its result goes through `keep`, so that it is not optimised away.
fn timed<T>(clock: &dyn Clock, work: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let began = clock.mono_ns();
    let done = std::hint::black_box(work()?);
    let took = clock.mono_ns().saturating_sub(began);
    Ok((took.max(1) as f64, done))
}
