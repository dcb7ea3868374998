//! The link journal: one log of 168-byte links for all streams (formats.md 4).
//!
//! A chunk is history from the moment its link is synced here. The journal is folded at every start:
//! per did the indexes are 0, 1, 2, ... and every `prev` is the digest of the link before. Anything else
//! (a repeated index, a fork, a hole) is damage: the start is refused, naming the place.
//!
//! After a failed write or sync nobody knows what of that commit is on the disk, so the journal is gone
//! until the next start reads it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Did, Failure, FailureKind, Outcome,
    journal::{Journal, Settings},
    seams::Disk,
};
use chordae_chain::link::Link;

use crate::store::list;

/// See the module.
pub struct LinkJournal {
    /// None after a failure.
    journal: Option<Journal>,
}

impl LinkJournal {
    /// Opens `links/` in a data folder and folds it: all links, in the order of linking.
    ///
    /// # Errors
    /// `Damaged` with the place, for links that do not follow each other or bytes that are none; `Io`.
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Outcome<(Self, Vec<Link>)> {
        Self::open_in(disk, Self::dir(data_dir))
    }

    /// Where the links of a data folder lie.
    pub(crate) fn dir(data_dir: &Path) -> PathBuf {
        data_dir.join("links")
    }

    /// Whether anything lies there. The folder alone is nothing: that is what a crash of the very first
    /// start leaves.
    pub(crate) fn is_there(disk: &dyn Disk, data_dir: &Path) -> Outcome<bool> {
        Ok(!list(disk, &Self::dir(data_dir))?.is_empty())
    }

    pub(crate) fn open_in(disk: Arc<dyn Disk>, dir: PathBuf) -> Outcome<(Self, Vec<Link>)> {
        let settings = Settings::small(dir, Link::BYTES);
        let opened = Journal::open(disk, settings).map_err(|e| e.during("links"))?;
        if let Some(torn) = opened.torn {
            // Never acknowledged as linked; their chunks are orphans now.
            tracing::warn!(
                at = torn.at,
                bytes = torn.bytes,
                "cut the torn tail of the link journal"
            );
        }
        let mut links: Vec<Link> = Vec::new();
        let mut heads: BTreeMap<Did, usize> = BTreeMap::new();
        opened.journal.reader().scan(0, &mut |position, bytes| {
            let link = checked(&bytes, &links, &heads)
                .map_err(|e| damaged(e).during(format_args!("links, position {position}")))?;
            heads.insert(link.did, links.len());
            links.push(link);
            Ok(())
        })?;
        Ok((
            Self {
                journal: Some(opened.journal),
            },
            links,
        ))
    }

    /// Appends links: one write, one sync; then the durable mark, so that from the moment anybody hears
    /// of these links their damage is told from a torn tail (the WAL is trimmed on their word).
    ///
    /// # Errors
    /// `Io`: the journal is gone, and the links may or may not be on the disk.
    pub fn append(&mut self, links: &[Link]) -> Outcome<()> {
        if links.is_empty() {
            return Ok(());
        }
        let records: Vec<Bytes> = links
            .iter()
            .map(|l| Bytes::copy_from_slice(&l.encode()))
            .collect();
        let journal = self.journal.take().ok_or_else(|| {
            Failure::io("the link journal failed earlier; restart to find out what it holds")
        })?;
        let done = if journal.wants_roll() {
            journal.roll(&records)
        } else {
            journal.commit(&records)
        };
        // Crash between: the links are whole, or a torn tail that nobody heard of.
        let marked = done.and_then(|(journal, _durable)| journal.mark());
        self.journal = Some(marked.map_err(gone)?);
        Ok(())
    }
}

fn checked(bytes: &[u8], links: &[Link], heads: &BTreeMap<Did, usize>) -> Outcome<Link> {
    let link = Link::decode(bytes)?;
    link.follows(heads.get(&link.did).and_then(|n| links.get(*n)))?;
    Ok(link)
}

fn damaged(mut failure: Failure) -> Failure {
    failure.kind = FailureKind::Damaged;
    failure
}

/// Whatever the journal says, the handle is gone: the caller must end.
fn gone(mut failure: Failure) -> Failure {
    failure.kind = FailureKind::Io;
    failure.during("links")
}
