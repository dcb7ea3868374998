//! Arguments of `chordae report` and `chordae trail`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Remote;

/// `chordae report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The stream's did.
    pub did: String,
    /// First instant.
    #[arg(long)]
    pub from: String,
    /// First instant after.
    #[arg(long = "to", visible_alias = "until")]
    pub until: String,
    /// Key file of whoever makes the report: it reads with it and signs with it.
    #[arg(long)]
    pub key: PathBuf,
    /// Session id; absent when a patient reports on her own stream.
    #[arg(long)]
    pub session: Option<String>,
    /// Trust file kept from the operator.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// The page to write.
    #[arg(long)]
    pub out: PathBuf,
    /// The signed report with its evidence, which `chordae verify` checks.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}

/// How `chordae trail` shows what it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrailFormat {
    /// Columns for people.
    Table,
    /// One JSON array.
    Json,
    /// A FHIR R4 Bundle of AuditEvents (IHE BALP, PatientRead).
    Fhir,
}

/// `chordae trail`.
#[derive(Debug, Clone, Args)]
pub struct TrailArgs {
    /// The patient's key file.
    #[arg(long)]
    pub key: PathBuf,
    /// Her stream's did.
    #[arg(long)]
    pub stream: String,
    /// Only what was asked at or after this time.
    #[arg(long)]
    pub from: Option<String>,
    /// Only what was asked before this time.
    #[arg(long = "to", visible_alias = "until")]
    pub until: Option<String>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = TrailFormat::Table)]
    pub format: TrailFormat,
    /// Trust file (with --url).
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: Remote,
}
