//! Damage at rest, rows R09 to R12 of the scorecard: what is stored is broken on purpose, byte by byte and
//! edit by edit, and must be found by whoever meets it first, named, never served, never mended in silence.
//!
//! ```text
//! house  a data folder on a disk in memory, written by the product's own parts
//! R09    each bit of a chunk            ─▶ catalogue (what serves), checker
//! R10    each bit of every other file   ─▶ the start of its part, its reading, the checker
//! R11    files cut, swapped, renamed... ─▶ the checker, the starts
//! R12    bits that flip before a hash   ─▶ sealer, storage: nothing is linked, so nothing is anchored
//! ```
//!
//! **Found** means an error of kind `Damaged` (or a refusal) at the start or the reading of that part, or a
//! finding of the checker. **Harmless** means that everything the part says is what it said before; each
//! kind of harmless byte is listed by name ([`harmless`]), and anything else is a failure. Every row carries
//! its control: the same damage met by a reader that does not hash must slip through, or the row shows nothing.

pub mod chunks;
pub mod edits;
pub mod files;
pub mod harmless;
pub mod house;
pub mod keys;
pub mod memory;
pub mod parts;
pub mod score;

use chordae_base::{Failure, Outcome};

pub use score::Score;

/// How much of a row is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every bit of the small things, a sample of the large ones: seconds.
    Short,
    /// Every bit of everything: minutes.
    Long,
}

/// The rows, in the order of the scorecard.
pub const ROWS: [&str; 4] = ["R09", "R10", "R11", "R12"];

/// Runs a row.
///
/// # Errors
/// `BadInput` for a row that is not ours; else what kept the row from being run at all.
pub fn run(row: &str, form: Form, seed: u64) -> Outcome<Score> {
    match row {
        "R09" => chunks::run(form, seed),
        "R10" => files::run(form, seed),
        "R11" => edits::run(form, seed),
        "R12" => memory::run(form, seed),
        _ => Err(Failure::bad_input(format!(
            "{row} is not a row of damage at rest: R09, R10, R11, R12"
        ))),
    }
}
