//! The chunker: cuts streams into chunks, seals them, replays the log.
//!
//! ```text
//!  WAL records ─▶ windower (core: decides) ─▶ seal orders ─▶ sealer (rows, Parquet, commit) ─▶ links
//!                    ▲                                                                      │
//!                    └────────────────────── linked, failed ◀───────────────────────────────┘
//! ```
//!
//! A frame that ingest acknowledged lies in the WAL. It may leave the WAL only when every row of it is
//! in a linked chunk; everything here serves that sentence:
//!
//! - [`core`] holds the rules of formats.md 2 and 3 as values: which row falls where, when a bucket is
//!   sealed, what the WAL must still keep.
//! - [`seal`] turns an order into a chunk and hands it to storage (steps c and d of the order of truth).
//! - [`replay`] feeds what the WAL held at the start through the very same core.
//! - [`service`] is the thread around it; [`core::ports`] are its neighbours.

pub mod core;
pub mod metrics;
pub mod replay;
pub mod seal;
pub mod service;

pub use core::ports::{ChunkSink, Covered, FrameSource, Gap, Plans, Progress, Stored, Tip};
pub use replay::{Recovered, RecoveredWal};
pub use service::{Chunker, Handle, Input, Parts, Status, Stopped};
