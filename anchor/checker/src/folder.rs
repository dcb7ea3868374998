//! A whole data folder, or a copy of one, live or not.

use std::path::Path;

use chordae_base::{
    Failure, Outcome,
    seams::{Disk, EntryKind},
};
use chordae_chain::{finding::Findings, trust::TrustFile};

use crate::{
    Progress, Report, StreamReport, Verdict,
    files::{Folder, name_of},
    ledger, streams, trail,
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

/// Checks links, chunks, ledger and trail of a data folder. Reads only; a folder in use may be checked,
/// what is written meanwhile is told as a crash's remnant would be.
///
/// # Errors
/// `BadInput` for what is no data folder or a trust file that cannot be used; `Io`. Nothing wrong
/// *in* the folder is an error.
pub fn check_folder(
    disk: &dyn Disk,
    path: &Path,
    trust: Option<&TrustFile>,
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
    let chains = streams::check(&folder, &facts, &mut found, &mut notes, progress)?;
    trail::check(&folder, &facts, &mut found, &mut notes, progress)?;
    if trust.is_none() {
        notes.push("no trust file: nothing here is proven".into());
    }
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
    Ok(Report {
        v: 1,
        verdict,
        streams,
        findings,
        notes,
    })
}
