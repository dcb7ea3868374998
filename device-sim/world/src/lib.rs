//! The world: the whole house under one seed, through the `assemble` of the product.
//!
//! ```text
//!            dice (seed)
//!   ┌──────────┼──────────────┬───────────────────────────┐
//! fleet      baton          clock                       disk of a life
//! devices    one thread     moves when all wait         FakeDisk: loses, tears, reorders what was not synced
//!   │        at a time        │                           + faults, + death at the n-th change
//!   └─ IngestHandle ──▶ assemble::build(..) ◀── Seams { disk, clock, entropy, threads, fanout }
//!      router (signed requests) ──▶ │
//!                                   ▼ after every death, and at the end
//!                        oracle: acknowledged ⊆ stored ⊆ sent; the checker; windows = rows on the disk
//! ```
//!
//! Nothing of the house is replaced but its seams and its sockets: doors are the handle that the real doors
//! use, readers go through the router that the real server serves. The same seed gives the same trace, on
//! every machine: if not, something does not go through the seams, and a test says so.
//!
//! Start with a failing seed: `chordae-world --seed N --trace`. Read `run.rs` first.

mod baton;
mod dice;
mod disk;
mod drive;
mod fleet;
mod fortune;
mod oracle;
mod run;
mod stored;
mod trace;
mod wards;
mod window;

pub use oracle::{Counts, Wrong};
pub use run::{Options, Report, run};
