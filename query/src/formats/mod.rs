//! Answer formats: rows in the order of the answer to bytes, piece by piece, in bounded memory.
//!
//! One file per format. Codes go out as they were stored, with their scale beside them where the format
//! has room for it; nothing is scaled, resampled or filled.

use bytes::Bytes;
use chordae_base::{Did, Failure, Outcome, Rate, limits};
use chordae_chunk::ChunkRows;

use crate::core::plan::Column;

mod arrow;
mod csv;
mod edf;
mod edf_read;
mod encoding;
mod fhir;
mod fhir_read;
mod grid;
mod json;
mod overview;
mod parquet;
mod read;
mod scales;
mod wfdb;
mod wfdb_read;

pub use encoding::{Encoder, Encoding};
pub use grid::{Survey, Surveyor};
pub use overview::Overview;
pub use read::{read, sniff};
pub use scales::check_scales;

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
    /// Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// JSON, a row a line.
    Json,
    /// FHIR R5 Observation.
    Fhir,
    /// WFDB record in a zip.
    Wfdb,
    /// EDF+.
    Edf,
}

impl Format {
    /// All of them, the default first.
    pub const ALL: [Self; 7] = [
        Self::Arrow,
        Self::Parquet,
        Self::Csv,
        Self::Json,
        Self::Fhir,
        Self::Wfdb,
        Self::Edf,
    ];

    /// Its word in `format=` and in the trail.
    pub fn word(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Fhir => "fhir",
            Self::Wfdb => "wfdb",
            Self::Edf => "edf",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::Fhir => "application/fhir+json",
            Self::Wfdb => "application/zip",
            Self::Edf => "application/edf",
        }
    }

    /// How a file of it is called at its end, after the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Arrow => "arrows",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Fhir => "fhir.json",
            Self::Wfdb => "zip",
            Self::Edf => "edf",
        }
    }

    /// Whether the rows are read once before, for what its head must say.
    pub fn surveyed(self) -> bool {
        matches!(self, Self::Fhir | Self::Wfdb | Self::Edf)
    }

    /// Whether it has room for an overview.
    pub fn overviews(self) -> bool {
        matches!(self, Self::Arrow | Self::Csv | Self::Json)
    }

    /// Whether it gains from compression on the way; the others are compressed, or files that are kept
    /// as they come.
    pub fn compressible(self) -> bool {
        matches!(self, Self::Arrow | Self::Csv | Self::Json | Self::Fhir)
    }

    /// Bytes that its writer may hold back, beyond the pieces that wait for the reader.
    pub fn held_bytes(self, columns: usize) -> u64 {
        let row = 8 + 4 * columns as u64;
        match self {
            Self::Arrow | Self::Csv | Self::Json => 0,
            // What is encoded, and what is being encoded.
            Self::Parquet => 2 * limits::PARQUET_GROUP_ROWS as u64 * row,
            // The codes, and their text twice.
            Self::Fhir => 4 * limits::FHIR_SLOTS_MAX * row + RUNS_BYTES,
            Self::Wfdb | Self::Edf => 4 * limits::GAP_FILL_CODES_MAX + RUNS_BYTES,
        }
    }

    /// By the parameter if there is one, else by the Accept header, else Arrow.
    ///
    /// # Errors
    /// `BadInput` for a format that is not served.
    pub fn choose(word: Option<&str>, accept: Option<&str>) -> Outcome<Self> {
        let unserved = || {
            let words = Self::ALL.map(Self::word).join(", ");
            Failure::bad_input(format!("this format is not served: ask for one of {words}"))
        };
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

    /// A writer for one answer; with the survey of its rows if [`Format::surveyed`].
    ///
    /// # Errors
    /// `Internal` when the library refuses the heading; `BadInput` when the format cannot say these rows.
    pub fn writer(self, heading: Heading, survey: Option<Survey>) -> Outcome<Box<dyn Writer>> {
        let survey = || survey.ok_or_else(|| Failure::internal("a format without its survey"));
        Ok(match self {
            Self::Arrow => Box::new(arrow::ArrowStream::new(&heading)?),
            Self::Parquet => Box::new(parquet::ParquetFile::new(&heading)?),
            Self::Csv => Box::new(csv::Csv::new(&heading)),
            Self::Json => Box::new(json::Json::new(heading)),
            Self::Fhir => Box::new(fhir::Fhir::new(heading, survey()?)?),
            Self::Wfdb => Box::new(wfdb::Wfdb::new(&heading, survey()?)?),
            Self::Edf => Box::new(edf::Edf::new(&heading, &survey()?)?),
        })
    }
}

/// Runs in memory, and as text.
const RUNS_BYTES: u64 = limits::ANSWER_RUNS_MAX as u64 * 200;

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
        assert_eq!(choose(None, Some("application/json")), Some(Format::Json));
        assert_eq!(choose(None, Some("text/csv;q=0")), None);
        assert_eq!(choose(None, Some("image/png")), None);
        assert_eq!(choose(Some("xml"), None), None);
    }
}
