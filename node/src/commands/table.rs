//! Lists for people: aligned columns with a head, or `--json` for programs.

use chordae_base::{Failure, Outcome, time};
use serde::Serialize;

use super::say;

/// What stands where nothing is known.
pub(super) const NOTHING: &str = "-";

/// Prints a list as JSON, or as a table.
///
/// # Errors
/// `Internal` when it cannot be written as JSON.
pub(super) fn show<T: Serialize>(
    json: bool,
    lines: &[T],
    head: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> Outcome<()> {
    if json {
        let text = serde_json::to_string_pretty(lines)
            .map_err(|e| Failure::internal(format!("write JSON: {e}")))?;
        say(text);
        return Ok(());
    }
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(lines.iter().map(cells))
        .collect();
    aligned(&rows).iter().for_each(say);
    Ok(())
}

/// Lines whose columns begin under each other.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A time to the second.
pub(super) fn moment(ns: Option<i64>) -> String {
    let whole = |ns: i64| match time::show(ns).split_once('.') {
        Some((second, _)) => format!("{second}Z"),
        None => time::show(ns),
    };
    ns.map_or_else(|| NOTHING.to_owned(), whole)
}

/// Names after each other.
pub(super) fn names(of: impl IntoIterator<Item = impl ToString>, none: &str) -> String {
    let names: Vec<String> = of.into_iter().map(|n| n.to_string()).collect();
    if names.is_empty() {
        return none.to_owned();
    }
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_begin_under_each_other() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row(["ID", "STATE"]), row(["bed-12", "on"]), row(["é", "-"])];
        assert_eq!(aligned(&rows), ["ID      STATE", "bed-12  on", "é       -"]);
    }

    #[test]
    fn moments_are_to_the_second() {
        assert_eq!(moment(None), "-");
        assert_eq!(moment(Some(1_500_000_000)), "1970-01-01T00:00:01Z");
    }
}
