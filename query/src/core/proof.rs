//! The proof of an answer (formats.md 6): what must be shown so that its rows lead to the ledger, and
//! nothing beyond it.
//!
//! ```text
//! per chunk of the window:  all leaves · for each provable page  salts of the shown columns
//!                                                                digests of the hidden ones
//! links:  first touched ── ... ── last touched ── ... ── anchored
//! ```
//!
//! A salt is disclosed only for a page that lies wholly inside the answer's span, and only for its
//! times and the leads that were answered: with the salt, codes could be guessed from the digest, so a
//! salt beyond the grant would be a leak. Everything is made from one plan, the same that made the
//! answer.

use chordae_base::{Failure, Outcome, limits};
use chordae_chain::{
    bundle::{BundleChunk, BundlePage, provable_pages},
    link::Link,
    meta::ChunkMeta,
};
use chordae_chunk::ChunkFile;

use super::plan::{Column, Plan};

/// How many columns of pages a proof of this plan shows or hides.
///
/// # Errors
/// `BadInput` when that is more than one bundle holds.
pub fn columns(plan: &Plan) -> Outcome<u64> {
    let mut count: u64 = 0;
    for chunk in &plan.chunks {
        let pages = chunk.link.slot_len_ns / limits::PAGE_NS;
        let pages = u64::try_from(pages).unwrap_or(0);
        let columns = chunk.meta.leads.len() as u64 + 1;
        count = count.saturating_add(pages.saturating_mul(columns));
    }
    if count > limits::PROOF_COLUMNS_MAX {
        return Err(Failure::bad_input(
            "the window is too long for one proof: ask for parts",
        ));
    }
    Ok(count)
}

/// What a bundle shows of one chunk of the plan.
///
/// # Errors
/// `Damaged` when the chunk is not the one that its link names.
pub fn show(chunk: &ChunkFile, link: &Link, plan: &Plan) -> Outcome<BundleChunk> {
    let digests = chunk.digests(link)?;
    let leads = places(&plan.columns, chunk.meta());
    let pages =
        provable_pages(link, plan.rows).map(|p| BundlePage::show(chunk.salt(), p, digests, &leads));
    Ok(BundleChunk {
        index: link.index,
        meta: chunk.meta_json().to_owned(),
        pages: pages.collect::<Outcome<_>>()?,
        leaves: digests.leaves.clone(),
    })
}

/// Places of the answered leads in the chunk's metadata.
fn places(columns: &[Column], meta: &ChunkMeta) -> Vec<usize> {
    let leads = &meta.leads;
    columns
        .iter()
        .filter_map(|c| leads.iter().position(|l| l.name == c.name))
        .collect()
}

/// Adds a run of rows to the list of runs, joining it to the one before if it is of the same chunk.
pub fn add_run(runs: &mut Vec<(u64, u64)>, index: u64, count: u64) {
    match runs.last_mut() {
        Some((last, rows)) if *last == index => *rows = rows.saturating_add(count),
        _ => runs.push((index, count)),
    }
}
