//! Answer formats: rows in the order of the answer to bytes, piece by piece, in bounded memory.
//!
//! One file per format. Codes go out as they were stored, with their scale beside them where the format
//! has room for it; nothing is scaled, resampled or filled.

use bytes::Bytes;
use chordae_base::{Did, Failure, Outcome, Rate};
use chordae_chunk::ChunkRows;

use crate::core::plan::Column;

mod arrow;
mod csv;
mod read;

pub use read::read_arrow;

/// What a format is told before the first row.
#[derive(Debug, Clone)]
pub struct Heading {
    /// The stream.
    pub did: Did,
    /// The sampling rates met.
    pub rates: Vec<Rate>,
    /// The leads, in order.
    pub columns: Vec<Column>,
}

/// Turns rows into bytes. Calls: `begin`, any number of `rows`, `end`.
pub trait Writer: Send {
    /// What goes before the rows.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    fn begin(&mut self) -> Outcome<Bytes>;

    /// The next rows: as many leads as the heading has columns, `NO_VALUE` for none.
    ///
    /// # Errors
    /// `Internal` when the library cannot write them.
    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes>;

    /// What goes after the rows; without it an answer is incomplete, and readers can tell.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    fn end(&mut self) -> Outcome<Bytes>;
}

/// The formats of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Arrow IPC stream.
    Arrow,
    /// Comma-separated values.
    Csv,
}

impl Format {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Arrow, Self::Csv];

    /// Its word in `format=` and in the trail.
    pub fn word(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::Csv => "csv",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Csv => "text/csv",
        }
    }

    /// By the parameter if there is one, else by the Accept header, else Arrow.
    ///
    /// # Errors
    /// `BadInput` for a format that is not served.
    pub fn choose(word: Option<&str>, accept: Option<&str>) -> Outcome<Self> {
        let unserved = || Failure::bad_input("this format is not served: ask for arrow or csv");
        if let Some(word) = word {
            return Self::ALL
                .into_iter()
                .find(|f| f.word() == word)
                .ok_or_else(unserved);
        }
        let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else {
            return Ok(Self::Arrow);
        };
        let mut best: Option<(u32, Self)> = None;
        for range in accept.split(',') {
            let (range, quality) = range.split_once(';').unwrap_or((range, ""));
            let weight = weight(quality);
            let format = match range.trim().to_ascii_lowercase().as_str() {
                "*/*" | "application/*" => Some(Self::Arrow),
                "text/*" => Some(Self::Csv),
                range => Self::ALL.into_iter().find(|f| f.media_type() == range),
            };
            if let Some(format) = format.filter(|_| weight > best.map_or(0, |b| b.0)) {
                best = Some((weight, format));
            }
        }
        best.map(|b| b.1).ok_or_else(unserved)
    }

    /// A writer for one answer.
    ///
    /// # Errors
    /// `Internal` when the library refuses the heading.
    pub fn writer(self, heading: Heading) -> Outcome<Box<dyn Writer>> {
        Ok(match self {
            Self::Arrow => Box::new(arrow::ArrowStream::new(&heading)?),
            Self::Csv => Box::new(csv::Csv::new(&heading)),
        })
    }
}

/// `q=` of a media range, in thousandths; 1000 when it says nothing.
fn weight(parameters: &str) -> u32 {
    let q = parameters
        .split(';')
        .find_map(|p| p.trim().strip_prefix("q="));
    let q = q
        .and_then(|q| q.parse::<f32>().ok())
        .map(|q| (q.clamp(0.0, 1.0) * 1000.0) as u32);
    q.unwrap_or(1000)
}

fn broken(what: &str, e: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot write {what}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_then_accept_then_arrow() {
        let choose = |word, accept| Format::choose(word, accept).ok();
        assert_eq!(choose(None, None), Some(Format::Arrow));
        assert_eq!(
            choose(Some("csv"), Some("application/*")),
            Some(Format::Csv)
        );
        assert_eq!(choose(None, Some("text/csv")), Some(Format::Csv));
        assert_eq!(
            choose(None, Some("text/csv;q=0.2, */*;q=0.5")),
            Some(Format::Arrow)
        );
        assert_eq!(
            choose(None, Some("image/png, TEXT/CSV; q=0.1")),
            Some(Format::Csv)
        );
        assert_eq!(choose(None, Some("text/csv;q=0")), None);
        assert_eq!(choose(None, Some("image/png")), None);
        assert_eq!(choose(Some("edf"), None), None);
    }
}
