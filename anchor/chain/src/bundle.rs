//! Proof bundles: an answer's proof, without the data around it (formats.md 6).
//!
//! ```text
//!  rows of the answer ──▶ columns of whole pages ──▶ leaves ──▶ pages_root ─ link
//!                         (hidden ones by digest)               metadata ──┘   │ prev, prev, ...
//!                                                                              ▼
//!                                      trusted log ◀─ checkpoint ◀─ entry ─ anchored link
//! ```
//!
//! This module holds the bundle and its text; [`verify()`] judges it against the answer. Whoever makes
//! one lists **every chunk whose link's span meets the window** (`link.span().meets(&window)`) and
//! shows **every page of [`provable_pages`]**; a verifier takes less for something left out.

use std::{collections::BTreeMap, ops::Range};

use chordae_base::{Did, Digest, Failure, Outcome, Span, limits};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    heads::HeadPath,
    link::Link,
    pages::{self, PageDigests},
};

pub mod joined;
mod verify;

pub use verify::{AnswerRows, Asked, BundleVerdict, KnownChunk, Verdict, verify, verify_metadata};

/// The proof of the rows in a window. Plain data: nothing in it is believed before [`verify()`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofBundle {
    /// Version, 1.
    pub v: u32,
    /// The data stream.
    pub did: Did,
    /// Start of the window, nanoseconds.
    pub from_ns: i64,
    /// End of the window (half-open), nanoseconds.
    pub until_ns: i64,
    /// Every link from the first chunk touched by the window to the earliest anchored one at or
    /// after the last; without an anchor to the last touched one.
    pub links: Vec<LinkHex>,
    /// The touched chunks, by ascending index.
    pub chunks: Vec<BundleChunk>,
    /// `[index, count]`: which chunk each run of rows of the answer comes from, in answer order.
    pub rows: Vec<(u64, u64)>,
    /// `None` when not anchored yet.
    pub anchor: Option<BundleAnchor>,
}

/// A link, hex in the JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkHex(pub Link);

/// What the bundle shows of a touched chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleChunk {
    /// Its index.
    pub index: u64,
    /// Its metadata JSON as stored.
    pub meta: String,
    /// All leaves of its slot.
    pub leaves: Vec<Digest>,
    /// The pages wholly inside the window, by ascending number.
    pub pages: Vec<BundlePage>,
}

/// A page: for each column either the salt (shown in the answer) or its digest (hidden).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundlePage {
    /// Number of the page in its slot.
    pub p: u32,
    /// Salts by column; column 0, the times, always.
    pub salts: BTreeMap<u32, Salt>,
    /// Digests of the other columns.
    pub hidden: BTreeMap<u32, Digest>,
}

/// A column's salt, hex in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

/// The ledger's word for the last link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleAnchor {
    /// The `add-data` or `add-heads` entry, base64 in the JSON.
    #[serde(with = "base64_bytes")]
    pub entry: Vec<u8>,
    /// Its receipt, tlog-proof text.
    pub proof: String,
    /// The way from the link to the root of an `add-heads` entry; not there for an `add-data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadPath>,
}

impl ProofBundle {
    /// The JSON text.
    ///
    /// # Errors
    /// `Internal` if it cannot be written.
    pub fn to_json(&self) -> Outcome<String> {
        serde_json::to_string(self).map_err(|e| Failure::internal(format!("proof bundle: {e}")))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// `BadInput` for what is not a bundle of version 1 (unknown keys are refused), or one with more
    /// links than any proof has.
    pub fn parse(text: &str) -> Outcome<Self> {
        let bundle: Self = serde_json::from_str(text)
            .map_err(|e| Failure::bad_input(format!("not a proof bundle: {e}")))?;
        bundle.checked()
    }

    fn checked(self) -> Outcome<Self> {
        if self.v != 1 {
            return Err(Failure::bad_input(format!(
                "proof bundle of version {}; this program reads version 1",
                self.v
            )));
        }
        if self.links.len() > limits::LINKS_MAX || self.chunks.len() > self.links.len() {
            return Err(Failure::bad_input(
                "proof bundle: more than 100000 links, or more chunks than links",
            ));
        }
        Ok(self)
    }

    /// The window.
    pub fn window(&self) -> Span {
        Span {
            from_ns: self.from_ns,
            until_ns: self.until_ns,
        }
    }
}

impl BundlePage {
    /// A page of a chunk: times and the named leads (by place in the metadata) shown, all other
    /// columns hidden.
    ///
    /// # Errors
    /// `BadInput` for a page that the chunk does not have.
    pub fn show(salt: &[u8; 32], p: u32, digests: &PageDigests, leads: &[usize]) -> Outcome<Self> {
        let cols = usize::try_from(p).ok().and_then(|p| digests.cols.get(p));
        let cols = cols.ok_or_else(|| Failure::bad_input(format!("the chunk has no page {p}")))?;
        let mut page = Self {
            p,
            salts: BTreeMap::new(),
            hidden: BTreeMap::new(),
        };
        for (c, (place, col)) in (0u32..).zip(cols.iter().enumerate()) {
            if place == 0 || leads.contains(&(place - 1)) {
                page.salts.insert(c, Salt(pages::page_salt(salt, p, c)));
            } else {
                page.hidden.insert(c, *col);
            }
        }
        Ok(page)
    }
}

/// The pages of a chunk that a proof for this window must show: those wholly inside the window that
/// meet the chunk's rows. (Other pages of the slot have no rows, or are cut by the window.)
pub fn provable_pages(link: &Link, window: Span) -> Range<u32> {
    let page = i128::from(limits::PAGE_NS);
    let start = i128::from(link.slot_start_ns);
    let number = |t: i128| u32::try_from(t.clamp(0, i128::from(u32::MAX))).unwrap_or(u32::MAX);
    let whole_from = (i128::from(window.from_ns) - start + page - 1).div_euclid(page);
    let whole_until = (i128::from(window.until_ns) - start).div_euclid(page);
    let rows_from = (i128::from(link.first_ns) - start).div_euclid(page);
    let rows_until = (i128::from(link.end_ns) - start + page - 1).div_euclid(page);
    let first = number(whole_from.max(rows_from));
    first..number(whole_until.min(rows_until)).max(first)
}

/// The span of page `p` of a slot, cut at the ends of time.
pub fn page_span(slot_start_ns: i64, p: u32) -> Span {
    let from_ns = slot_start_ns.saturating_add(i64::from(p).saturating_mul(limits::PAGE_NS));
    Span {
        from_ns,
        until_ns: from_ns.saturating_add(limits::PAGE_NS),
    }
}

impl Serialize for LinkHex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0.encode()))
    }
}

impl<'de> Deserialize<'de> for LinkHex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes: [u8; Link::BYTES] = lower_hex(from)?;
        Link::decode(&bytes).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        lower_hex(from).map(Self)
    }
}

fn lower_hex<'de, const N: usize, D: Deserializer<'de>>(from: D) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(from)?;
    let mut bytes = [0; N];
    match hex::decode_to_slice(&text, &mut bytes) {
        Ok(()) if hex::encode(bytes) == text => Ok(bytes),
        _ => Err(D::Error::custom(format!(
            "expected {} lower-case hex digits",
            2 * N
        ))),
    }
}

mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn pages_to_show_are_whole_in_the_window_and_have_rows() {
        let mut link = Link {
            did: Did([1; 16]),
            index: 0,
            slot_start_ns: 60 * S,
            slot_len_ns: 60 * S,
            first_ns: 60 * S,
            end_ns: 120 * S,
            rows: 1,
            file_root: Digest([0; 32]),
            pages_root: Digest([0; 32]),
            prev: Digest([0; 32]),
        };
        let shown = |link: &Link, from_ns, until_ns| {
            provable_pages(link, Span { from_ns, until_ns }).collect::<Vec<_>>()
        };
        assert_eq!(shown(&link, 0, 200 * S), [0, 1, 2, 3, 4, 5]);
        assert_eq!(shown(&link, 70 * S, 90 * S), [1, 2]);
        assert_eq!(shown(&link, 70 * S + 1, 90 * S), [2]);
        assert_eq!(shown(&link, 70 * S, 90 * S - 1), [1]);
        assert_eq!(shown(&link, 71 * S, 79 * S), [0; 0]);
        assert_eq!(shown(&link, i64::MIN, i64::MAX), [0, 1, 2, 3, 4, 5]);
        (link.first_ns, link.end_ns) = (79 * S, 80 * S);
        assert_eq!(shown(&link, 0, 200 * S), [1]);
        link.end_ns = 80 * S + 1;
        assert_eq!(shown(&link, 0, 200 * S), [1, 2]);
        assert_eq!(shown(&link, 0, 10 * S), [0; 0], "before the chunk");
        assert_eq!(shown(&link, 500 * S, 600 * S), [0; 0], "after it");
    }
}
