//! Copies of what a data folder keeps for ever, also of one that a server is writing to.

use std::{io::ErrorKind, path::Path};

use chordae_base::{Failure, Outcome};

/// What claims comes before what it claims: the ledger names keys and links, links name chunks. All of it only grows, so that
/// in a copy in this order nothing is claimed that is not there.
const PARTS: [&str; 6] = [
    "ledger",
    "ledger.heads",
    "registry",
    "trail",
    "links",
    "chunks",
];

/// Copies what the checker looks at. No secret key is among it.
pub(super) fn copy_parts(from: &Path, to: &Path) -> Outcome<()> {
    for part in PARTS {
        copy_folder(&from.join(part), &to.join(part))?;
    }
    Ok(())
}

/// Copies a folder; one that is not there is none of the copy either.
pub(super) fn copy_folder(from: &Path, to: &Path) -> Outcome<()> {
    let os = |e| Failure::os(format!("copy {}", from.display()), &e);
    let entries = match std::fs::read_dir(from) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(os)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(os)?;
        names.push((entry.file_name(), entry.file_type().map_err(os)?));
    }
    // Files before folders: the checkpoint before the tiles that it covers.
    names.sort_by_key(|(name, kind)| (kind.is_dir(), name.clone()));
    std::fs::create_dir_all(to).map_err(os)?;
    for (name, kind) in names {
        let (path, target) = (from.join(&name), to.join(&name));
        if kind.is_dir() {
            copy_folder(&path, &target)?;
        } else if kind.is_file() {
            match std::fs::copy(&path, &target) {
                // A tile that grew into another while we looked.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                copied => drop(copied.map_err(os)?),
            }
        }
    }
    Ok(())
}
