//! Files that no link names.
//!
//! A crash between a chunk file (step c) and its link (step d) leaves at most one per did: at the next
//! index, whole or torn. What is no chunk that could follow the head is removed here. What could be is
//! kept until the chunker seals that index again: then `commit` adopts it if it says the same, else
//! removes it. A file *beyond* the next index cannot come from a crash; somebody took links away, and
//! these files may be the only copy: that is damage, and nothing is touched.

use chordae_base::{
    Did, Failure, Outcome,
    seams::{Entry, EntryKind},
};
use chordae_chain::link::parse_object_name;

use crate::{
    catalogue::{Catalogue, Tip},
    store::{ChunkStore, list},
};

/// Looks at every folder of the store; removes what is torn.
///
/// # Errors
/// `Damaged` for a file beyond the next index; `Io`.
pub(crate) fn sweep(store: &ChunkStore, catalogue: &Catalogue) -> Outcome<()> {
    for dir in list(store.disk(), &store.root())?
        .iter()
        .filter(|e| e.kind == EntryKind::Dir)
    {
        let name = dir
            .path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned());
        let Some(did) = name.and_then(|n| n.parse::<Did>().ok()) else {
            continue;
        };
        let tip = catalogue.tip(&did);
        for thousand in list(store.disk(), &dir.path)? {
            // Folders below that of the next index hold only linked files.
            if thousand.kind != EntryKind::Dir || before(&thousand, tip.next_index / 1000) {
                continue;
            }
            for file in list(store.disk(), &thousand.path)? {
                one(store, &did, tip, &file)?;
            }
        }
    }
    Ok(())
}

fn before(folder: &Entry, thousand: u64) -> bool {
    let name = folder
        .path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned());
    name.and_then(|n| n.parse::<u64>().ok())
        .is_none_or(|n| n < thousand)
}

fn one(store: &ChunkStore, did: &Did, tip: Tip, file: &Entry) -> Outcome<()> {
    // Foreign names are the checker's findings, not ours to remove.
    let ours = file
        .path
        .components()
        .rev()
        .take(4)
        .map(|c| c.as_os_str().to_string_lossy());
    let name: Vec<_> = ours.collect();
    let name = name.into_iter().rev().collect::<Vec<_>>().join("/");
    let Some((_, index)) = parse_object_name(&name).filter(|(d, _)| d == did) else {
        return Ok(());
    };
    if index > tip.next_index {
        return Err(Failure::damaged(format!(
            "{} exists but the links of its stream end at {}: links were lost; bring them back, or move links/ away \
             and make them anew: chordae rebuild",
            file.path.display(),
            tip.next_index
        )));
    }
    if index == tip.next_index && file.kind == EntryKind::File {
        let whole = store.read(did, index).and_then(chordae_chunk::open);
        let fits = whole.is_ok_and(|chunk| {
            chunk.meta.did == *did && chunk.meta.index == index && chunk.meta.prev == tip.prev
        });
        if !fits {
            tracing::warn!(file = %file.path.display(), "removing an unfinished chunk file");
            return store.remove(did, index).map_err(|e| Failure::io(e.why));
        }
        tracing::info!(file = %file.path.display(), "a chunk file waits for its link");
    }
    Ok(())
}
