//! EDF+ answers back to rows: the samples from the records, the times from the annotations.

use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::bundle::AnswerRows;

use super::{
    edf::{NONE, RUN},
    grid::{Placed, Run, times},
};

fn damaged(why: &str) -> Failure {
    Failure::damaged(format!("the answer is no whole EDF+ file: {why}"))
}

/// What the header says of the records.
struct Shape {
    leads: Vec<String>,
    samples: usize,
    notes_len: usize,
    records: usize,
}

/// Reads an EDF+ answer.
pub(super) fn read(bytes: &[u8]) -> Outcome<AnswerRows> {
    let shape = shape(bytes).ok_or_else(|| damaged("its header is not one of ours"))?;
    let leads_len = shape.leads.len() * shape.samples * 2;
    let record_len = leads_len + shape.notes_len;
    let body = bytes
        .get(256 * (shape.leads.len() + 2)..)
        .unwrap_or_default();
    if shape.records.checked_mul(record_len) != Some(body.len()) || body.is_empty() {
        return Err(damaged("its length is not that of its records"));
    }
    let records: Vec<(&[u8], &[u8])> = body
        .chunks_exact(record_len)
        .filter_map(|record| record.split_at_checked(leads_len))
        .collect();
    let mut runs: Vec<Run> = Vec::new();
    for (_, notes) in &records {
        told(notes, &mut runs).ok_or_else(|| damaged("an annotation is broken"))?;
    }
    let placed = times(&runs).ok_or_else(|| damaged("its runs are none"))?;
    let mut rows = Placed::new(shape.leads.iter().cloned(), placed);
    for (number, (leads, _)) in (0_u64..).zip(&records) {
        for k in 0..shape.samples {
            let codes = (0..shape.leads.len()).map(|lead| code(leads, lead * shape.samples + k));
            let slot = number * shape.samples as u64 + k as u64;
            rows.put(slot, codes)
                .ok_or_else(|| damaged("a sample where there is no row"))?;
        }
    }
    rows.end().ok_or_else(|| damaged("a row without samples"))
}

fn code(samples: &[u8], at: usize) -> i32 {
    let bytes = samples.get(2 * at..2 * at + 2);
    match bytes
        .and_then(|b| b.try_into().ok())
        .map(i16::from_le_bytes)
    {
        None | Some(NONE) => NO_VALUE,
        Some(code) => i32::from(code),
    }
}

fn shape(bytes: &[u8]) -> Option<Shape> {
    let text = |at: usize, len: usize| {
        let field = bytes.get(at..at + len)?;
        Some(std::str::from_utf8(field).ok()?.trim_end_matches(' '))
    };
    let number = |at: usize, len: usize| text(at, len)?.parse::<usize>().ok();
    let signals = number(252, 4)?;
    let fits = text(0, 8)? == "0"
        && text(192, 44)?.starts_with("EDF+")
        && (2..=limits::LEADS_MAX + 1).contains(&signals)
        && number(184, 8)? == 256 * (signals + 1);
    if !fits {
        return None;
    }
    let labels: Option<Vec<String>> = (0..signals)
        .map(|k| text(256 + 16 * k, 16).map(str::to_owned))
        .collect();
    let mut labels = labels?;
    if labels.pop()? != "EDF Annotations" {
        return None;
    }
    // Behind labels, transducers, units, four limits and filters.
    let samples_at = 256 + signals * (16 + 80 + 8 + 4 * 8 + 80);
    let samples = |k: usize| number(samples_at + 8 * k, 8);
    let first = samples(0).filter(|n| (1..=limits::CHUNK_ROWS_MAX).contains(n))?;
    if (0..signals - 1).any(|k| samples(k) != Some(first)) {
        return None;
    }
    Some(Shape {
        leads: labels,
        samples: first,
        notes_len: samples(signals - 1)?.checked_mul(2)?,
        records: number(236, 8)?,
    })
}

/// Unit and physical limits of each lead, as they stand in the header.
pub(super) fn scales(bytes: &[u8]) -> Outcome<Vec<(String, [String; 3])>> {
    let none = || damaged("its header is not one of ours");
    let shape = shape(bytes).ok_or_else(none)?;
    let signals = shape.leads.len() + 1;
    let field = |kind: usize, k: usize| {
        let at = 256 + signals * (16 + 80 + 8 * kind) + 8 * k;
        let text = std::str::from_utf8(bytes.get(at..at + 8)?).ok()?;
        Some(text.trim_end_matches(' ').to_owned())
    };
    let scale = |(k, name)| Some((name, [field(0, k)?, field(1, k)?, field(2, k)?]));
    let all: Option<Vec<_>> = shape.leads.into_iter().enumerate().map(scale).collect();
    all.ok_or_else(none)
}

/// The runs that a record's annotations tell.
fn told(notes: &[u8], runs: &mut Vec<Run>) -> Option<()> {
    for note in notes.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut parts = note.split(|b| *b == 0x14);
        parts.next()?;
        for text in parts {
            if let Some(run) = text.strip_prefix(RUN.as_bytes()) {
                runs.push(serde_json::from_slice(run).ok()?);
            }
        }
    }
    (runs.len() <= limits::ANSWER_RUNS_MAX + limits::ANSWER_STRETCHES_MAX).then_some(())
}
