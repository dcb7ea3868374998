//! `chordae pull`: what is fetched, as which file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Remote;

/// Formats that `pull` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Arrow IPC stream.
    Arrow,
    /// Parquet.
    Parquet,
    /// One line per row.
    Csv,
    /// One object, a row a line.
    Json,
    /// FHIR R5 Observation, or a Bundle of them.
    Fhir,
    /// WFDB record in a zip.
    Wfdb,
    /// EDF+.
    Edf,
    /// A strip: a page that draws the window and checks itself; needs --trust.
    Html,
}

/// `chordae pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// The requester's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// Session id; absent when a patient reads her own stream.
    #[arg(long)]
    pub session: Option<String>,
    /// The stream's did.
    #[arg(long)]
    pub stream: String,
    /// First instant.
    #[arg(long)]
    pub from: String,
    /// First instant after.
    #[arg(long)]
    pub until: String,
    /// Leads; all if absent.
    #[arg(long, value_delimiter = ',')]
    pub leads: Option<Vec<String>>,
    /// Does not widen the window to whole pages; the rows of cut pages cannot be proven.
    #[arg(long)]
    pub no_snap: bool,
    /// Format of the file.
    #[arg(long, value_enum, default_value_t = FormatArg::Arrow)]
    pub format: FormatArg,
    /// Trust file kept from the operator.
    #[arg(long, required_if_eq("format", "html"))]
    pub trust: Option<PathBuf>,
    /// File to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Keeps the proof bundle.
    #[arg(long)]
    pub proof: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}
