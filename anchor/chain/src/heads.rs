//! Heads anchored together (formats.md 5): the newest links of many streams under one root.
//!
//! ```text
//! leaf   SHA-256(0x00 || tag || digest)            ascending by tag, each tag once
//! root   RFC 6962 over the leaves                  in the add-heads event, with their count
//! file   tag (32) | digest (32) | tag | digest ... heads/{root}: its name is the root over it
//! ```
//!
//! With one event for each head a log grows with its streams; with one for all of them it grows with time. A
//! reader of one stream gets the path from its head to the root, and learns nothing of the others but hashes.

use std::sync::OnceLock;

use chordae_base::{Digest, Failure, Outcome, limits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::merkle::{self, NodeHash, StoredHashes};

/// Bytes of a head in the file.
const HEAD_BYTES: usize = 64;
/// Bytes of the longest file.
pub const FILE_BYTES_MAX: usize = HEAD_BYTES * limits::HEADS_TOGETHER_MAX;

/// Where the file of a root lies below `ledger.heads/`: `{first two digits}/{all 64}`.
pub fn file_name(root: &NodeHash) -> String {
    let name = hex::encode(root);
    format!("{}/{name}", name.get(..2).unwrap_or_default())
}

/// A stream's head as the ledger knows it: tag ([`crate::link::tag`]) and digest of a link.
pub type Head = (Digest, Digest);

/// Heads that one event anchors, ascending by tag.
#[derive(Debug, Clone)]
pub struct HeadSet {
    heads: Vec<Head>,
    /// Made by the first proof.
    tree: OnceLock<StoredHashes>,
}

impl PartialEq for HeadSet {
    fn eq(&self, other: &Self) -> bool {
        self.heads == other.heads
    }
}

impl Eq for HeadSet {}

impl HeadSet {
    /// Of heads in any order.
    ///
    /// # Errors
    /// `BadInput` for none, more than 4,096, or two under one tag.
    pub fn new(mut heads: Vec<Head>) -> Outcome<Self> {
        heads.sort_unstable();
        Self::ascending(heads)
    }

    fn ascending(heads: Vec<Head>) -> Outcome<Self> {
        let max = limits::HEADS_TOGETHER_MAX;
        if !(1..=max).contains(&heads.len()) {
            let found = heads.len();
            return Err(Failure::bad_input(format!(
                "one event anchors 1-{max} heads, not {found}"
            )));
        }
        if heads.is_sorted_by(|(a, _), (b, _)| a < b) {
            let tree = OnceLock::new();
            return Ok(Self { heads, tree });
        }
        Err(Failure::bad_input(
            "heads do not ascend by tag, each tag once",
        ))
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let parts = self
            .heads
            .iter()
            .flat_map(|(tag, digest)| [tag.0, digest.0]);
        parts.flatten().collect()
    }

    /// Reads a file back, strictly.
    ///
    /// # Errors
    /// `BadInput` for what is not one.
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        let (parts, rest) = bytes.as_chunks::<32>();
        let (heads, odd) = parts.as_chunks::<2>();
        if !rest.is_empty() || !odd.is_empty() {
            return Err(Failure::bad_input("heads are 64 bytes each"));
        }
        let heads = heads
            .iter()
            .map(|[tag, digest]| (Digest(*tag), Digest(*digest)));
        Self::ascending(heads.collect())
    }

    /// Heads.
    pub fn count(&self) -> u32 {
        u32::try_from(self.heads.len()).unwrap_or(u32::MAX)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Head> {
        self.heads.iter()
    }

    fn leaves(&self) -> Vec<NodeHash> {
        self.heads
            .iter()
            .map(|(tag, digest)| leaf(tag, digest))
            .collect()
    }

    /// The root over them.
    pub fn root(&self) -> NodeHash {
        merkle::root(&self.leaves())
    }

    fn place(&self, tag: &Digest) -> Option<usize> {
        self.heads.binary_search_by_key(tag, |(tag, _)| *tag).ok()
    }

    /// The digest under a tag.
    pub fn digest(&self, tag: &Digest) -> Option<Digest> {
        let (_, digest) = self.heads.get(self.place(tag)?)?;
        Some(*digest)
    }

    /// The way from the head under a tag to the root; none if it is not here.
    ///
    /// # Errors
    /// `Internal` if the tree cannot be read; it is in memory.
    pub fn prove(&self, tag: &Digest) -> Outcome<Option<HeadPath>> {
        let Some(place) = self.place(tag) else {
            return Ok(None);
        };
        let at = place as u64;
        let tree = self.tree.get_or_init(|| StoredHashes::of(&self.leaves()));
        let path = merkle::inclusion_path(self.heads.len() as u64, at, tree)?;
        Ok(Some(HeadPath { at, path }))
    }
}

/// The way from a head to the root of the heads that were anchored with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadPath {
    /// Its place among them.
    pub at: u64,
    /// Inclusion path, the head's sibling first; hex in the JSON.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub path: Vec<NodeHash>,
}

impl HeadPath {
    /// Whether this way leads from a head to the root that an `add-heads` event names.
    ///
    /// # Errors
    /// `Damaged` if not.
    pub fn check(&self, (tag, digest): &Head, root: NodeHash, count: u32) -> Outcome<()> {
        let leaf = leaf(tag, digest);
        merkle::check_inclusion(u64::from(count), root, self.at, leaf, &self.path)
    }
}

fn leaf(tag: &Digest, digest: &Digest) -> NodeHash {
    merkle::leaf_hash(&[tag.0, digest.0].concat())
}

fn write_path<S: Serializer>(path: &[NodeHash], to: S) -> Result<S::Ok, S::Error> {
    let digests: Vec<Digest> = path.iter().map(|hash| Digest(*hash)).collect();
    digests.serialize(to)
}

fn read_path<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<NodeHash>, D::Error> {
    let digests = Vec::<Digest>::deserialize(from)?;
    Ok(digests.into_iter().map(|digest| digest.0).collect())
}

#[cfg(test)]
mod tests {
    use chordae_base::FailureKind;

    use super::*;

    fn head(n: u16) -> Head {
        // Tags in an order of their own.
        let tag = merkle::leaf_hash(&n.to_be_bytes());
        (Digest(tag), Digest([u8::try_from(n % 251).unwrap(); 32]))
    }

    #[test]
    fn every_head_leads_to_the_root_and_no_other_does() {
        for n in [1, 2, 3, 7, 8, 100] {
            let set = HeadSet::new((0..n).map(head).collect()).unwrap();
            let (root, count) = (set.root(), set.count());
            for (tag, digest) in set.iter() {
                let way = set.prove(tag).unwrap().unwrap();
                way.check(&(*tag, *digest), root, count).unwrap();
                assert_eq!(set.digest(tag), Some(*digest));
                let other = (*tag, Digest([255; 32]));
                assert!(way.check(&other, root, count).is_err(), "another digest");
                let other = (head(n).0, *digest);
                assert!(way.check(&other, root, count).is_err(), "another stream");
                let moved = HeadPath {
                    at: way.at + 1,
                    ..way
                };
                assert!(moved.check(&(*tag, *digest), root, count).is_err());
            }
            assert_eq!(set.prove(&head(n).0).unwrap(), None);
        }
    }

    #[test]
    fn a_file_has_one_form() {
        let set = HeadSet::new((0..5).map(head).collect()).unwrap();
        let bytes = set.encode();
        assert_eq!(HeadSet::decode(&bytes).unwrap(), set);
        let mut swapped = bytes.clone();
        swapped[..128].rotate_left(64);
        for bad in [&[][..], &bytes[..63], &bytes[..96], &swapped] {
            assert_eq!(
                HeadSet::decode(bad).unwrap_err().kind,
                FailureKind::BadInput
            );
        }
        assert!(HeadSet::new(vec![head(1), head(1)]).is_err(), "twice");
        let many = (0..u16::try_from(limits::HEADS_TOGETHER_MAX).unwrap() + 1).map(head);
        assert!(HeadSet::new(many.collect()).is_err());
    }
}
