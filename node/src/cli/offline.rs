//! Commands without a server: over a data folder whose server is stopped, or about this program.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `chordae key rotate`.
#[derive(Debug, Clone, Args)]
pub struct RotateArgs {
    /// Data folder; no server runs over it.
    #[arg(long)]
    pub data: PathBuf,
    /// provider, sequencer, log or witness.
    #[arg(long)]
    pub role: String,
    /// Of a witness: its name in the policy.
    #[arg(long, requires = "vkey")]
    pub name: Option<String>,
    /// Of a witness: its new verifier key, as `chordae witness` prints it.
    #[arg(long, requires = "name")]
    pub vkey: Option<String>,
    /// Of a witness: where it takes checkpoints.
    #[arg(long, requires = "name")]
    pub url: Option<String>,
}

/// `chordae rebuild`.
#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    /// Data folder; no server runs over it.
    #[arg(long)]
    pub data: PathBuf,
    /// Trust file to hold the ledger against [default: keys/trust.json of the folder].
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Prints what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `chordae join`.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// Proof bundles, as `pull --proof` writes them.
    #[arg(required = true)]
    pub proofs: Vec<PathBuf>,
    /// The file for all of them.
    #[arg(long)]
    pub out: PathBuf,
}

/// `chordae completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// For which shell.
    pub shell: Shell,
}

/// `chordae man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Folder for the pages, one for each command; made if it is not there.
    #[arg(long)]
    pub out: PathBuf,
}
