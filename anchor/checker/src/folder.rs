//! A whole data folder, or a copy of one, live or not.

use std::{collections::BTreeMap, path::Path};

use chordae_base::{
    Did, Failure, Outcome,
    seams::{Disk, EntryKind},
};
use chordae_chain::{finding::Findings, fresh, trust::TrustFile};

use crate::{
    Progress, Report, StreamReport, Verdict,
    files::{Folder, name_of},
    ledger::{self, Facts},
    streams::{self, Chain},
    trail,
};

/// What lies at a path that somebody wants verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder: see [`check_folder`].
    Folder,
    /// A Parquet file: see [`crate::check_chunk`].
    Chunk,
    /// Any other file; a proof bundle, if it is JSON: see [`crate::check_answer`].
    Other,
}

/// Looks at what a path is, without reading more than four bytes.
///
/// # Errors
/// `NotFound`; `BadInput` for a pipe, a device, a link or an empty file; `Io`.
pub fn kind_of(disk: &dyn Disk, path: &Path) -> Outcome<Kind> {
    if disk.list(path).is_ok() {
        return Ok(Kind::Folder);
    }
    let file = disk.open_read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::not_found(format!("there is no {}", path.display()))
        }
        _ => Failure::bad_input(format!(
            "{} is not a file or folder to verify: {e}",
            path.display()
        )),
    })?;
    let mut head = [0; 4];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) if head == *b"PAR1" => Ok(Kind::Chunk),
        Ok(()) => Ok(Kind::Other),
        Err(_) => Err(Failure::bad_input(format!(
            "{} is (almost) empty",
            path.display()
        ))),
    }
}

/// How a folder is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Whether chunk files are opened and their page digests computed anew. Without it only file
    /// digests and links are held against each other: each byte is hashed once, none is unpacked, and
    /// what a link says of a file's pages and metadata is believed as far as the ledger vouches for it.
    pub pages: bool,
    /// Chunk files that are read and hashed at a time, 1 to [`chordae_base::limits::CHECK_THREADS_MAX`].
    pub threads: usize,
    /// The reader's time in ms since 1970, against which the newest audit-head is held; none: not told.
    pub now_ms: Option<u64>,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            pages: true,
            threads: 1,
            now_ms: None,
        }
    }
}

/// [`check_folder_with`], everything, one file at a time.
///
/// # Errors
/// As there.
pub fn check_folder(
    disk: &dyn Disk,
    path: &Path,
    trust: Option<&TrustFile>,
    progress: &mut dyn FnMut(Progress),
) -> Outcome<Report> {
    check_folder_with(disk, path, trust, &CheckOptions::default(), progress)
}

/// Checks links, chunks, ledger and trail of a data folder. Reads only; a folder in use may be checked,
/// what is written meanwhile is told as a crash's remnant would be.
///
/// # Errors
/// `BadInput` for what is no data folder or a trust file that cannot be used; `Io`. Nothing wrong
/// *in* the folder is an error.
pub fn check_folder_with(
    disk: &dyn Disk,
    path: &Path,
    trust: Option<&TrustFile>,
    options: &CheckOptions,
    progress: &mut dyn FnMut(Progress),
) -> Outcome<Report> {
    let entries = disk
        .list(path)
        .map_err(|e| Failure::os(format_args!("list {}", path.display()), &e))?;
    let parts = ["links", "chunks", "ledger", "trail"];
    let ours = |e: &&chordae_base::seams::Entry| {
        e.kind == EntryKind::Dir && parts.contains(&name_of(&e.path))
    };
    if entries.iter().find(ours).is_none() {
        return Err(Failure::bad_input(format!(
            "{} is not a data folder: it has none of links/, chunks/, ledger/, trail/",
            path.display()
        )));
    }
    let folder = Folder::new(disk, path);
    let (mut found, mut notes) = (Findings::default(), Vec::new());
    let facts = ledger::check(&folder, trust, &mut found, &mut notes, progress)?;
    let chains = streams::check(&folder, &facts, options, &mut found, &mut notes, progress)?;
    trail::check(&folder, &facts, &mut found, &mut notes, progress)?;
    if trust.is_none() {
        notes.push("no trust file: nothing here is proven".into());
    }
    let fresh_ms = options.now_ms.and_then(|now| age(&facts, now, &mut notes));
    Ok(report(&facts, chains, found, fresh_ms, notes))
}

/// The verdict on what was found.
pub(crate) fn report(
    facts: &Facts,
    chains: BTreeMap<Did, Chain>,
    found: Findings,
    fresh_ms: Option<u64>,
    notes: Vec<String>,
) -> Report {
    let streams: Vec<StreamReport> = chains
        .into_iter()
        .map(|(did, chain)| {
            let anchored_to = chain.anchored_to.filter(|_| facts.proven);
            let verdict = match (chain.damaged, anchored_to) {
                (true, _) => Verdict::Damaged,
                (false, Some(_)) if anchored_to == chain.tip() => Verdict::Ok,
                _ => Verdict::Unanchored,
            };
            StreamReport {
                did,
                chunks: chain.chunks,
                anchored_to,
                verdict,
            }
        })
        .collect();
    let findings = found.into_vec();
    let all = if facts.proven {
        Verdict::Ok
    } else {
        Verdict::Unanchored
    };
    let worst = streams.iter().map(|s| s.verdict).fold(all, Verdict::max);
    let verdict = if findings.is_empty() {
        worst
    } else {
        Verdict::Damaged
    };
    Report {
        v: 1,
        verdict,
        streams,
        findings,
        fresh_ms,
        notes,
    }
}

/// The age of the newest audit-head of a proven ledger.
fn age(facts: &Facts, now_ms: u64, notes: &mut Vec<String>) -> Option<u64> {
    let newest = facts.audits.iter().map(|audit| audit.time_ms).max();
    match newest
        .filter(|_| facts.proven)
        .map(|time| fresh::age_ms(time, now_ms))
    {
        Some(Ok(age)) => {
            notes.push(format!("newest audit-head: {} s old", age / 1000));
            Some(age)
        }
        Some(Err(e)) => {
            notes.push(e.why);
            None
        }
        None => {
            notes.push("no audit-head is proven: nothing tells how old this state is".into());
            None
        }
    }
}
