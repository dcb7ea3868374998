//! Measurements: stages, each beside a peer or a physical limit in the same run.
//!
//! ```text
//! main ─▶ setting ─▶ stages/ingest ─▶ load (our client) ══TCP══▶ server, a child process: chordae | peers/bare
//!                    │                  └─ audit: the disk holds what was acknowledged, or no figure
//!                    ├▶ stages/seal   ─▶ material: record 100, cut on the grid
//!                    ├▶ stages/window ─▶ material, sealed, linked and anchored
//!                    ├▶ stages/verify ─▶ the same by thousands, beside b3sum
//!                    └▶ paper         ─▶ a published evaluation, done again
//! ```
//!
//! The argument: a figure alone says nothing about a program, because it says more about the machine and
//! its load. So every stage runs **interleaved rounds** of ours and of a yardstick that does the least
//! that must be done, shows medians and their spread, and the ratio is the median of the ratios of
//! neighbouring rounds. And a bench must not lie: what was counted is checked (bytes on the disk, rows,
//! verdicts) outside the measured time, in every round; a check that fails is an error, not a row.

pub mod audit;
pub mod certs;
pub mod load;
pub mod machine;
pub mod material;
pub mod paper;
pub mod peers;
pub mod server;
pub mod setting;
pub mod stages;
pub mod table;
