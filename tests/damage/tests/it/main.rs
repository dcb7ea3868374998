//! Rows R09 to R12 in their short form, and files of strangers in a data folder.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod gap;
mod hostile;
mod starts;

use chordae_damage::{Form, ROWS, Score, harmless, run};

#[track_caller]
fn green(row: &str) -> Score {
    let score = run(row, Form::Short, 1).unwrap();
    println!("{}", score.line());
    assert!(score.ok, "{score:#?}");
    score
}

/// Every bit of a chunk: found, named, never served; without its digest it would have been.
#[test]
fn r09_chunks() {
    assert!(green("R09").stored > 100);
}

/// Every byte of every other file.
#[test]
fn r10_files() {
    let score = green("R10");
    // Each harmless kind is known by name.
    assert!(
        harmless::KINDS
            .iter()
            .all(|(name, why)| !name.is_empty() && !why.is_empty())
    );
    assert!(score.stored > score.harmless / 10);
}

/// Random edits by somebody without keys.
#[test]
fn r11_edits() {
    green("R11");
}

/// A bit that flips before a hash: nothing is linked, so nothing is anchored.
#[test]
fn r12_memory() {
    green("R12");
}

#[test]
fn a_row_of_others_is_refused() {
    assert!(run("R01", Form::Short, 1).is_err());
    assert_eq!(ROWS.len(), 4);
}

/// A score is green only if the control failed, nothing was missed, and names were right.
#[test]
fn a_score_is_judged() {
    let mut score = Score::new("R09", 1);
    score.found(true, String::new);
    assert!(score.clone().judged(true).ok);
    assert!(
        !score.clone().judged(false).ok,
        "a control that did not fail"
    );
    score.missed("one".into());
    assert!(!score.clone().judged(true).ok, "one was missed");
    let mut score = Score::new("R09", 1);
    (0..50).for_each(|_| score.found(true, String::new));
    score.found(false, || "who?".into());
    assert!(!score.judged(true).ok, "one of 51 without its name");
}
