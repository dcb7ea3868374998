//! One chunk file: against a link, or by itself.

use bytes::Bytes;
use chordae_chain::{
    finding::{Code, Findings},
    link::{self, Link},
};
use chordae_chunk::{file_root, open, read_meta};

use crate::{Report, StreamReport, Verdict};

/// What is wrong with a file.
pub(crate) type Wrong = (Code, String);

/// Holds a file against the link that names it; without `pages` its digest only.
pub(crate) fn compare(bytes: Bytes, link: &Link, pages: bool) -> Result<(), Wrong> {
    let found = file_root(&bytes);
    if found != link.file_root {
        let holds = match read_meta(bytes) {
            Ok((meta, _)) if (meta.did, meta.index) != (link.did, link.index) => {
                format!("; it holds chunk {} of {}", meta.index, meta.did)
            }
            _ => String::new(),
        };
        let why = format!(
            "its digest is {found}, the link says {}{holds}",
            link.file_root
        );
        return Err((Code::FileDigest, why));
    }
    if !pages {
        return Ok(());
    }
    let chunk = open(bytes).map_err(|e| (Code::Metadata, e.why))?;
    chunk
        .meta
        .check_link(link)
        .map_err(|e| (Code::Metadata, e.why))?;
    match chunk.pages_root() {
        Ok(root) if root == link.pages_root => Ok(()),
        Ok(root) => {
            let why = format!(
                "its page digests lead to {root}, the link says {}",
                link.pages_root
            );
            Err((Code::PagesDigest, why))
        }
        Err(e) => Err((Code::PagesDigest, e.why)),
    }
}

/// Checks a chunk file against the links that are known of its stream. A chunk alone proves nothing:
/// intact, its verdict is `unanchored`, and without its link it only is consistent in itself.
pub fn check_chunk(bytes: Bytes, links: &[Link]) -> Report {
    let mut found = Findings::default();
    let mut notes = Vec::new();
    let mut streams = Vec::new();
    match open(bytes.clone()) {
        Err(e) => found.add("chunk", Code::Metadata, e),
        Ok(chunk) => {
            let (did, index) = (chunk.meta.did, chunk.meta.index);
            let name = link::object_name(&did, index);
            let mut named = links
                .iter()
                .filter(|l| l.did == did && l.index == index)
                .peekable();
            if named.peek().is_none() {
                notes.push(format!(
                    "no link to hold it against: file_root {}, pages_root {}",
                    chunk.file_root,
                    chunk.pages_root().map_or_else(|e| e.why, |d| d.to_string())
                ));
            }
            for link in named {
                if let Err((code, why)) = compare(bytes.clone(), link, true) {
                    found.add(&name, code, why);
                }
            }
            streams.push(StreamReport {
                did,
                chunks: 1,
                anchored_to: None,
                verdict: Verdict::Ok,
            });
        }
    }
    let verdict = if found.is_empty() {
        Verdict::Unanchored
    } else {
        Verdict::Damaged
    };
    streams.iter_mut().for_each(|s| s.verdict = verdict);
    Report {
        v: 1,
        verdict,
        streams,
        findings: found.into_vec(),
        fresh_ms: None,
        notes,
    }
}
