//! An answer with its proof bundle: the rows are read back from the answer itself.
//!
//! CSV answers are plain: `time_ns,<lead>,...`, integer nanoseconds, integer codes, an empty cell for
//! no value, lines that end in LF, names quoted as RFC 4180 says, and an apostrophe before a name that a
//! spreadsheet would take for a formula.

use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::{
    bundle::{self, AnswerRows, Asked, ProofBundle},
    finding::{Code, Finding},
    trust::TrustFile,
};

use crate::{Report, StreamReport, Verdict};

/// The judgement on an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerReport {
    /// `Ok` iff every row is proven and the answer was complete when it was made.
    pub report: Report,
    /// Rows in pages that the window cuts.
    pub unproven_rows: u64,
    /// Chunks of the window that were linked after the answer's newest.
    pub newer: Vec<u64>,
}

/// Checks an answer that was read: by [`read_csv`], or by whoever knows its format. One that could not be
/// read is damaged.
pub fn check_answer(
    bundle: &ProofBundle,
    rows: Outcome<AnswerRows>,
    trust: Option<&TrustFile>,
) -> AnswerReport {
    match rows {
        Ok(rows) => {
            let asked = Asked {
                leads: Some(rows.leads.clone()),
                ..Asked::default()
            };
            check_answer_rows(bundle, &rows, &asked, trust)
        }
        Err(e) => {
            let finding = Finding {
                object: "answer".into(),
                code: Code::PagesDigest,
                detail: e.why,
            };
            let stream = StreamReport {
                did: bundle.did,
                chunks: bundle.chunks.len() as u64,
                anchored_to: None,
                verdict: Verdict::Damaged,
            };
            let report = Report {
                verdict: Verdict::Damaged,
                streams: vec![stream],
                findings: vec![finding],
                ..Report::of_nothing()
            };
            AnswerReport {
                report,
                unproven_rows: 0,
                newer: Vec::new(),
            }
        }
    }
}

/// Checks the rows of an answer, however they were read.
pub fn check_answer_rows(
    bundle: &ProofBundle,
    rows: &AnswerRows,
    asked: &Asked,
    trust: Option<&TrustFile>,
) -> AnswerReport {
    let judged = bundle::verify(bundle, rows, asked, trust);
    let mut notes = Vec::new();
    if judged.unproven_rows > 0 {
        notes.push(format!(
            "{} rows lie in pages that the window cuts",
            judged.unproven_rows
        ));
    }
    if !judged.newer.is_empty() {
        notes.push(format!(
            "linked since: chunks {:?}; ask again for them",
            judged.newer
        ));
    }
    if let Some(lacks) = &judged.lacks {
        notes.push(format!(
            "the ledger's checkpoint is not cosigned as the trust file demands: it lacks {lacks}"
        ));
    }
    let verdict = match judged.verdict {
        bundle::Verdict::Damaged => Verdict::Damaged,
        bundle::Verdict::Anchored if notes.is_empty() => Verdict::Ok,
        _ => Verdict::Unanchored,
    };
    let stream = StreamReport {
        did: bundle.did,
        chunks: bundle.chunks.len() as u64,
        anchored_to: judged.anchored_to,
        verdict,
    };
    let findings = judged.findings;
    let report = Report {
        verdict,
        streams: vec![stream],
        findings,
        notes,
        ..Report::of_nothing()
    };
    AnswerReport {
        report,
        unproven_rows: judged.unproven_rows,
        newer: judged.newer,
    }
}

/// Reads a CSV answer back.
///
/// # Errors
/// `BadInput` naming the line that is not as the module says.
pub fn read_csv(csv: &[u8]) -> Outcome<AnswerRows> {
    let bad = |line: usize, why: &str| Failure::bad_input(format!("CSV line {line}: {why}"));
    let text = std::str::from_utf8(csv).map_err(|_| bad(1, "not text"))?;
    let text = text
        .strip_suffix('\n')
        .ok_or_else(|| bad(1, "does not end in a line feed: cut?"))?;
    let mut lines = text.split('\n');
    let mut names = header(lines.next().unwrap_or_default()).ok_or_else(|| bad(1, "bad header"))?;
    if names.is_empty() || names.remove(0) != "time_ns" || names.len() > limits::LEADS_MAX {
        return Err(bad(1, "the header must be time_ns and at most 32 leads"));
    }
    let leads: Vec<String> = names.iter().map(|n| unquoted(n).to_owned()).collect();
    let mut rows = AnswerRows {
        codes: vec![Vec::new(); leads.len()],
        leads,
        times: Vec::new(),
    };
    for (number, line) in (2..).zip(lines) {
        if rows.times.len() as u64 >= limits::ANSWER_ROWS_MAX {
            return Err(bad(number, "more rows than an answer has"));
        }
        let mut cells = line.split(',');
        let time = cells.next().and_then(integer::<i64>);
        rows.times.push(time.ok_or_else(|| bad(number, "no time"))?);
        for column in &mut rows.codes {
            let code = match cells.next() {
                Some("") => Some(NO_VALUE),
                Some(cell) => integer::<i32>(cell).filter(|code| *code != NO_VALUE),
                None => None,
            };
            column.push(code.ok_or_else(|| bad(number, "a cell is missing or no code"))?);
        }
        if cells.next().is_some() {
            return Err(bad(number, "more cells than the header names"));
        }
    }
    Ok(rows)
}

/// An integer in its one spelling.
fn integer<T: std::str::FromStr + ToString>(cell: &str) -> Option<T> {
    cell.parse::<T>().ok().filter(|n| n.to_string() == cell)
}

/// A name without the apostrophe that keeps spreadsheets from running it.
fn unquoted(name: &str) -> &str {
    match name.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@']) => rest,
        _ => name,
    }
}

/// The cells of a header line, RFC 4180.
fn header(line: &str) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (cell, after) = rest.split_at_checked(end)?;
                (cell.to_owned(), after)
            }
            Some(mut quoted) => {
                let mut cell = String::new();
                loop {
                    let (part, after) = quoted.split_once('"')?;
                    cell.push_str(part);
                    match after.strip_prefix('"') {
                        Some(more) => {
                            cell.push('"');
                            quoted = more;
                        }
                        None => break (cell, after),
                    }
                }
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(cells),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_back() {
        let csv = "time_ns,I,'=cmd(),\"a,\"\"b\"\"\",'-x\n-1,5,0,2147483647,\n17,,-7,1,2\n";
        let rows = read_csv(csv.as_bytes()).unwrap();
        assert_eq!(rows.leads, ["I", "=cmd()", "a,\"b\"", "-x"]);
        assert_eq!(rows.times, [-1, 17]);
        assert_eq!(
            rows.codes,
            [[5, NO_VALUE], [0, -7], [i32::MAX, 1], [NO_VALUE, 2]]
        );
        assert_eq!(read_csv(b"time_ns\n").unwrap(), AnswerRows::default());
    }

    #[test]
    fn anything_else_is_refused() {
        for csv in [
            "",
            "\n",
            "time_ns,I",
            "time,I\n",
            "time_ns,I\n1\n",
            "time_ns,I\n1,2,3\n",
            "time_ns,I\n+1,2\n",
            "time_ns,I\n1,02\n",
            "time_ns,I\n1,-2147483648\n",
            "time_ns,I\r\n1,2\r\n",
            "time_ns,\"I\n",
            "time_ns,\"I\"x\n",
            "time_ns,I\n\n",
            "time_ns,I\n1,2147483648\n",
        ] {
            assert!(read_csv(csv.as_bytes()).is_err(), "{csv:?}");
        }
    }
}
