//! Chunk files against their links, several at a time.
//!
//! ```text
//! links ─▶ next one ─▶ thread: read, hash (open, page digests) ─┐
//!          next one ─▶ thread: ...                              ├▶ what is wrong, in the order of links
//! ```
//!
//! The threads live as long as one call, share nothing but the counter, and each holds one file.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits};
use chordae_chain::{
    finding::Code,
    link::{self, Link},
};

use crate::{
    CheckOptions,
    chunk::{self, Wrong},
    files::{Folder, Read},
};

/// What is wrong with the file of each link.
pub(super) fn look(
    folder: &Folder<'_>,
    links: &[Link],
    options: &CheckOptions,
) -> Outcome<Vec<Option<Wrong>>> {
    let threads = options.threads.clamp(1, limits::CHECK_THREADS_MAX);
    let threads = threads.min(links.len());
    if threads <= 1 {
        return links
            .iter()
            .map(|link| one(folder, link, options))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(link) = links.get(at) else {
                return done;
            };
            done.push((at, one(folder, link, options)));
        }
    };
    let mut all = Vec::with_capacity(links.len());
    thread::scope(|scope| {
        let hands: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for hand in hands {
            let done = hand.join();
            // What it had not looked at would pass for whole: the check ends.
            all.extend(done.map_err(|_| Failure::internal("a thread of the checker died"))?);
        }
        Ok(())
    })?;
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, wrong)| wrong).collect()
}

fn one(folder: &Folder<'_>, link: &Link, options: &CheckOptions) -> Outcome<Option<Wrong>> {
    let name = link::object_name(&link.did, link.index);
    Ok(match folder.read(&name, limits::CHUNK_BYTES_MAX)? {
        Read::Bytes(bytes) => chunk::compare(Bytes::from(bytes), link, options.pages).err(),
        Read::Missing => Some((
            Code::MissingFile,
            "a link names it, the folder has none".into(),
        )),
        Read::Unfit(why) => Some((Code::FileDigest, why)),
    })
}
