//! The checker: verifies a data folder, a chunk or an answer with its proof bundle, trusting no other
//! part. Offline, read-only, in bounded memory.
//!
//! ```text
//! trust file ─▶ checkpoint ─▶ entries, tiles, blocks ─▶ add-data events: (tag, digest)
//!                                   │                          ║ must agree
//!                                   ├▶ audit heads ─▶ trail/    ║
//!                                   │                          ▼
//!                            chunks/ files ◀─ digests ─ links/: one chain per did (or the files' own)
//! ```
//!
//! It uses `base` (the journal's reader, the disk seam), `chordae-chain` and `chordae-chunk`: the words
//! and the formats, none of the code that writes a folder. Nothing is believed because of where it
//! lies; what the folder says about itself (a checkpoint, a key) counts only as far as the trust file
//! that the reader brought says so. Without one no verdict is better than `unanchored`.
//!
//! Everything wrong is a finding that names its object, and checking goes on; an `Err` means that the
//! check itself could not be done (no such folder, a disk that fails).
//!
//! Memory: about 80 bytes per `add-data` event of the ledger and per session in force, a few words per
//! stream and per thousand chunks (168 bytes a chunk of one stream at a time where there are no links),
//! a chunk file per thread, and at most [`chordae_chain::finding::FINDINGS_MAX`] findings.
//! Links in the file system are never followed, pipes and devices never opened.

mod answer;
mod chains;
mod chunk;
mod files;
mod folder;
mod fresh;
mod ledger;
mod report;
mod streams;
pub mod tamper;
mod tiles;
mod trail;

pub use answer::{AnswerReport, check_answer, check_answer_rows, read_csv};
pub use chains::{Chains, ReadChain, read_chains};
pub use chunk::check_chunk;
pub use folder::{CheckOptions, Kind, check_folder, check_folder_with, kind_of};
pub use fresh::{check_fresh, is_receipt};
pub use report::{Progress, Report, StreamReport, Verdict};
