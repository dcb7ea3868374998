//! Storage: the commit of a sealed chunk, the catalogue, the stream registry, the directory.
//!
//! ```text
//!  sealed chunk ─▶ store (file, synced) ─▶ links (one sync for many) ─▶ catalogue ─▶ readers
//!                      step c                    step d: history
//! ```
//!
//! `chunks/` and `links/` are the truth; the catalogue is folded from them at every start and keeps
//! nothing of its own. [`commit`] is the one place that writes them, in that order; [`rebuild`] makes
//! links anew that were lost.

pub mod catalogue;
pub mod commit;
pub mod directory;
mod history;
pub mod links;
pub mod rebuild;
pub mod registry;
pub mod store;
mod sweep;

pub use catalogue::{Catalogue, ChunkState, Entry, Tip};
pub use commit::Committer;
