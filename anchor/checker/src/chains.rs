//! The chains of a folder from its chunk files and its ledger, for who makes `links/` anew.
//!
//! Nothing is written, and `links/` is not looked at: it is what was lost. A stream is handed over as a
//! whole or not at all: a link cannot be made for a chunk that is not what the ledger or its successor
//! names, nor for any chunk after it.

use std::path::Path;

use chordae_base::{Did, Failure, KeyId, Outcome, seams::Disk};
use chordae_chain::{finding::Findings, link::Link, trust::TrustFile};

use crate::{Progress, Report, files::Folder, folder, ledger, streams};

/// A stream in which nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadChain {
    /// The stream.
    pub did: Did,
    /// The links that its files ask for: indexes 0, 1, 2, ..., each with the digest of the one before.
    pub links: Vec<Link>,
    /// Index of the newest one that the ledger vouches for; those after it stand on their files alone.
    pub proven_to: Option<u64>,
}

/// What was read.
pub struct Chains {
    /// Findings and streams, as those of a check; the trail is not looked at.
    pub report: Report,
    /// Whether there is a ledger, signed by the trusted log, with everything under its checkpoint in order.
    pub proven: bool,
    /// Sessions that were granted and not revoked, by SID, each with its patient.
    pub sessions: Vec<([u8; 32], KeyId)>,
}

/// Reads the chains of a data folder; `take` gets each stream in which nothing was found, by ascending
/// did, before the whole is judged. Streams of the ledger that have no files are findings of the report.
///
/// # Errors
/// `NotFound` for no such folder, `BadInput` for a trust file that cannot be used, `Io`, and whatever
/// `take` returns. Nothing wrong *in* the folder is an error.
pub fn read_chains(
    disk: &dyn Disk,
    path: &Path,
    trust: &TrustFile,
    progress: &mut dyn FnMut(Progress),
    take: &mut dyn FnMut(&ReadChain) -> Outcome<()>,
) -> Outcome<Chains> {
    disk.list(path)
        .map_err(|e| Failure::os(format_args!("list {}", path.display()), &e))?;
    let folder = Folder::new(disk, path);
    let (mut found, mut notes) = (Findings::default(), Vec::new());
    let facts = ledger::check(&folder, Some(trust), &mut found, &mut notes, progress)?;
    let chains = streams::from_files(&folder, &facts, &mut found, &mut notes, progress, take)?;
    let report = folder::report(&facts, chains, found, None, notes);
    let sessions = facts.sessions.into_iter().collect();
    Ok(Chains {
        report,
        proven: facts.proven,
        sessions,
    })
}
