//! The Merkle tree of the log: RFC 6962 over SHA-256 (formats.md 5).
//!
//! The arithmetic of stored hashes, tiles and proofs is `tlog_tiles`'s; this module gives it plain
//! 32-byte hashes and `Outcome`s, bounds what a stranger hands in, and adds the [`Frontier`]: the
//! right edge of a tree, enough to append and to know the root without reading anything.
//!
//! Leaf hash = SHA-256(0x00 || entry), node hash = SHA-256(0x01 || left || right).

use chordae_base::{Failure, Outcome};
use tlog_tiles::{Hash, HashReader};

/// A SHA-256 hash of a leaf, a node or a root.
pub type NodeHash = [u8; 32];

/// No tree of at most 2^64 leaves has a longer inclusion path.
const PATH_MAX: usize = 64;
/// Nor a longer consistency proof.
const CONSISTENCY_MAX: usize = 65;

/// Root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: NodeHash = tlog_tiles::EMPTY_HASH.0;

/// SHA-256(0x00 || entry).
pub fn leaf_hash(entry: &[u8]) -> NodeHash {
    tlog_tiles::record_hash(entry).0
}

/// SHA-256(0x01 || left || right).
pub fn node_hash(left: NodeHash, right: NodeHash) -> NodeHash {
    tlog_tiles::node_hash(Hash(left), Hash(right)).0
}

/// Root over leaf hashes; [`EMPTY_ROOT`] for none.
pub fn root(leaves: &[NodeHash]) -> NodeHash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.append(*leaf);
    }
    frontier.root()
}

/// The right edge of a tree: the roots of its complete subtrees, largest (leftmost) first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<NodeHash>,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree whose hashes are stored (in tiles, say).
    ///
    /// # Errors
    /// `Damaged` if the reader does not have them.
    pub fn load(size: u64, stored: &impl HashReader) -> Outcome<Self> {
        if size == 0 {
            return Ok(Self::new());
        }
        let want = tlog_tiles::sub_tree_index(0, size, Vec::new());
        let peaks = stored.read_hashes(&want).map_err(unreadable)?;
        if peaks.len() != want.len() {
            return Err(Failure::damaged("stored log hashes are missing"));
        }
        Ok(Self {
            size,
            peaks: peaks.into_iter().map(|h| h.0).collect(),
        })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash. Returns the hashes that `tlog_tiles` stores for it: the leaf's, then
    /// that of every subtree which it completes, lowest first; they belong at
    /// `stored_hash_index(0, size before)` and after.
    pub fn append(&mut self, leaf: NodeHash) -> Vec<NodeHash> {
        let mut stored = vec![leaf];
        let mut hash = leaf;
        // Each trailing one bit of the old size is a complete subtree that this leaf's side joins.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(left, hash);
            stored.push(hash);
        }
        self.peaks.push(hash);
        self.size += 1;
        stored
    }

    /// The root of the tree.
    pub fn root(&self) -> NodeHash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return EMPTY_ROOT;
        };
        peaks.fold(*last, |right, left| node_hash(*left, right))
    }
}

/// The stored hashes of a log kept in memory, for small trees and tests.
#[derive(Debug, Clone, Default)]
pub struct StoredHashes {
    hashes: Vec<NodeHash>,
}

impl StoredHashes {
    /// Those of a tree over leaf hashes.
    pub fn of(leaves: &[NodeHash]) -> Self {
        let mut frontier = Frontier::new();
        Self {
            hashes: leaves
                .iter()
                .flat_map(|leaf| frontier.append(*leaf))
                .collect(),
        }
    }
}

impl HashReader for StoredHashes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let one = |i: &u64| {
            let hash = usize::try_from(*i).ok().and_then(|i| self.hashes.get(i));
            hash.map(|h| Hash(*h))
                .ok_or(tlog_tiles::Error::IndexesNotInTree)
        };
        indexes.iter().map(one).collect()
    }
}

/// The inclusion path of leaf `index` in the tree of `size` leaves, from the leaf's sibling up. The
/// reader must return exactly the hashes it is asked for.
///
/// # Errors
/// `BadInput` for an index outside the tree, `Damaged` if the reader fails.
pub fn inclusion_path(size: u64, index: u64, stored: &impl HashReader) -> Outcome<Vec<NodeHash>> {
    if index >= size {
        return Err(Failure::bad_input(format!(
            "no leaf {index} in a log of {size}"
        )));
    }
    let path = tlog_tiles::prove_record(size, index, stored).map_err(unreadable)?;
    Ok(path.into_iter().map(|h| h.0).collect())
}

/// Verifies that leaf `index` of the tree (`size`, `root`) has this hash.
///
/// # Errors
/// `Damaged` if the path does not lead from the leaf to the root.
pub fn check_inclusion(
    size: u64,
    root: NodeHash,
    index: u64,
    leaf: NodeHash,
    path: &[NodeHash],
) -> Outcome<()> {
    let not = |why: &str| Err(Failure::damaged(format!("leaf {index} of {size}: {why}")));
    if index >= size || path.len() > PATH_MAX {
        return not("no such leaf, or a path longer than any tree's");
    }
    let path = path.iter().map(|h| Hash(*h)).collect();
    match tlog_tiles::check_record(&path, size, Hash(root), index, Hash(leaf)) {
        Ok(()) => Ok(()),
        Err(_) => not("the inclusion path does not lead to the root"),
    }
}

/// The proof that the tree of `old` leaves is a prefix of the tree of `size` leaves.
///
/// # Errors
/// `BadInput` for `old > size`, `Damaged` if the reader fails.
pub fn consistency_path(size: u64, old: u64, stored: &impl HashReader) -> Outcome<Vec<NodeHash>> {
    if old > size {
        return Err(Failure::bad_input(format!(
            "a log of {old} is no prefix of one of {size}"
        )));
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let path = tlog_tiles::prove_tree(size, old, stored).map_err(unreadable)?;
    Ok(path.into_iter().map(|h| h.0).collect())
}

/// Verifies that the tree `old` (size, root) is a prefix of the tree `new`.
///
/// # Errors
/// `Damaged` if the proof does not show it: the log was rolled back or forked, or the proof is
/// wrong.
pub fn check_consistency(
    old: (u64, NodeHash),
    new: (u64, NodeHash),
    path: &[NodeHash],
) -> Outcome<()> {
    let not = || {
        Err(Failure::damaged(format!(
            "the log of {} does not begin with that of {}",
            new.0, old.0
        )))
    };
    if old.0 > new.0 || path.len() > CONSISTENCY_MAX {
        return not();
    }
    if old.0 == 0 {
        let empty = old.1 == EMPTY_ROOT && path.is_empty() && (new.0 > 0 || new.1 == EMPTY_ROOT);
        return if empty { Ok(()) } else { not() };
    }
    let path = path.iter().map(|h| Hash(*h)).collect();
    match tlog_tiles::check_tree(&path, new.0, Hash(new.1), old.0, Hash(old.1)) {
        Ok(()) => Ok(()),
        Err(_) => not(),
    }
}

fn unreadable(err: tlog_tiles::Error) -> Failure {
    Failure::damaged(format!("stored log hashes: {err}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(n: u64) -> Vec<NodeHash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// RFC 6962 2.1, word for word.
    fn model(leaves: &[NodeHash]) -> NodeHash {
        match leaves {
            [] => EMPTY_ROOT,
            [one] => *one,
            many => {
                let k = many.len().next_power_of_two() / 2;
                node_hash(model(&many[..k]), model(&many[k..]))
            }
        }
    }

    #[test]
    fn roots_and_stored_hashes_agree_with_the_rfc_and_the_library() {
        for n in 0..70 {
            let leaves = leaves(n);
            assert_eq!(root(&leaves), model(&leaves), "{n}");
            let stored = StoredHashes::of(&leaves);
            assert_eq!(
                tlog_tiles::tree_hash(n, &stored).unwrap().0,
                model(&leaves),
                "{n}"
            );
            assert_eq!(stored.hashes.len() as u64, tlog_tiles::stored_hash_count(n));
            assert_eq!(
                Frontier::load(n, &stored).unwrap().root(),
                model(&leaves),
                "{n}"
            );
        }
    }

    #[test]
    fn a_frontier_loaded_from_stored_hashes_goes_on_like_the_one_that_wrote_them() {
        let all = leaves(100);
        let stored = StoredHashes::of(&all[..37]);
        let mut loaded = Frontier::load(37, &stored).unwrap();
        for leaf in &all[37..] {
            loaded.append(*leaf);
        }
        assert_eq!((loaded.size(), loaded.root()), (100, model(&all)));
        assert!(
            Frontier::load(38, &stored).is_err(),
            "a hash that is not there"
        );
    }

    proptest! {
        #[test]
        fn inclusion_holds_for_the_leaf_and_for_nothing_else(n in 1u64..200, at in 0u64..200, other in 0u64..200) {
            let (at, other) = (at % n, other % n);
            let leaves = leaves(n);
            let root = root(&leaves);
            let path = inclusion_path(n, at, &StoredHashes::of(&leaves)).unwrap();
            let leaf = leaves[at as usize];
            check_inclusion(n, root, at, leaf, &path).unwrap();
            if other != at {
                prop_assert!(check_inclusion(n, root, other, leaf, &path).is_err());
                prop_assert!(check_inclusion(n, root, at, leaves[other as usize], &path).is_err());
            }
            for i in 0..path.len() {
                let mut bent = path.clone();
                bent[i][0] ^= 1;
                prop_assert!(check_inclusion(n, root, at, leaf, &bent).is_err());
            }
            let longer = [&path[..], &[root]].concat();
            prop_assert!(check_inclusion(n, root, at, leaf, &longer).is_err());
            prop_assert!(check_inclusion(0, root, at, leaf, &path).is_err());
            prop_assert!(check_inclusion(u64::MAX, root, at, leaf, &path).is_err());
        }

        #[test]
        fn consistency_holds_for_a_prefix_and_for_nothing_else(n in 0u64..120, old in 0u64..120) {
            let old = old.min(n);
            let leaves = leaves(n);
            let (new_root, old_root) = (root(&leaves), root(&leaves[..old as usize]));
            let path = consistency_path(n, old, &StoredHashes::of(&leaves)).unwrap();
            check_consistency((old, old_root), (n, new_root), &path).unwrap();
            let mut forked = leaves[..old as usize].to_vec();
            if let Some(last) = forked.last_mut() {
                last[0] ^= 1;
                prop_assert!(check_consistency((old, root(&forked)), (n, new_root), &path).is_err());
            }
            if n > old {
                prop_assert!(check_consistency((n, new_root), (old, old_root), &path).is_err(), "rolled back");
            }
        }
    }

    #[test]
    fn a_node_is_not_taken_for_a_leaf() {
        let leaves = leaves(2);
        let root = root(&leaves);
        check_inclusion(1, root, 0, root, &[]).unwrap();
        assert!(check_inclusion(2, root, 0, root, &[]).is_err());
        let entry = [&leaves[0][..], &leaves[1][..]].concat();
        assert_ne!(leaf_hash(&entry), root, "domains mixed");
    }
}
