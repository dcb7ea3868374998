//! The layout of a tile log on disk (C2SP tlog-tiles): names, and the tower of hashes over the leaves.

use chordae_base::{Failure, Outcome};
use chordae_chain::merkle::{self, Frontier, NodeHash};

/// Hashes or entries of a full tile.
pub(crate) const WIDTH: u64 = 256;
/// Bytes of a full tile.
pub(crate) const TILE_BYTES: u64 = WIDTH * 32;
/// Bytes of a full bundle of the longest entries.
pub(crate) const BUNDLE_BYTES: u64 = WIDTH * (2 + 65_535);

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Entries, each behind its length.
    Entries,
    /// Hashes of subtrees of height 8 times this.
    Level(u8),
}

/// `ledger/tile/{level}/{x001/x234/067}`, without the suffix of a partial tile.
pub(crate) fn name(kind: Kind, n: u64) -> String {
    let mut number = format!("{:03}", n % 1000);
    let mut rest = n / 1000;
    while rest > 0 {
        number = format!("x{:03}/{number}", rest % 1000);
        rest /= 1000;
    }
    match kind {
        Kind::Entries => format!("ledger/tile/entries/{number}"),
        Kind::Level(level) => format!("ledger/tile/{level}/{number}"),
    }
}

/// Takes a bundle apart: length (u16), entry, and so on. At most `most` entries are taken.
pub(crate) fn split(bundle: &[u8], most: usize) -> Outcome<(Vec<&[u8]>, &[u8])> {
    let cut = || Failure::damaged("an entry of the bundle is cut short");
    let (mut entries, mut rest) = (Vec::new(), bundle);
    while !rest.is_empty() && entries.len() < most {
        let (len, after) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (entry, after) = after.split_at_checked(len).ok_or_else(cut)?;
        entries.push(entry);
        rest = after;
    }
    Ok((entries, rest))
}

/// The tiles above level 0, built up from leaf hashes, and the root.
#[derive(Default)]
pub(crate) struct Tower {
    frontier: Frontier,
    /// Per level from 1: how many tiles are full, and the hashes of the open one.
    levels: Vec<(u64, Vec<NodeHash>)>,
}

/// A tile of the tower: level, number, hashes.
pub(crate) type Built = (u8, u64, Vec<NodeHash>);

impl Tower {
    /// Adds the leaves of one level-0 tile; returns the tiles that became full.
    pub(crate) fn add(&mut self, leaves: &[NodeHash]) -> Vec<Built> {
        for leaf in leaves {
            self.frontier.append(*leaf);
        }
        let mut full = Vec::new();
        if leaves.len() as u64 != WIDTH {
            return full;
        }
        let mut hash = merkle::root(leaves);
        for level in 1..=8_u8 {
            let at = usize::from(level) - 1;
            if self.levels.len() <= at {
                self.levels.push((0, Vec::new()));
            }
            let Some((number, open)) = self.levels.get_mut(at) else {
                break;
            };
            open.push(hash);
            if (open.len() as u64) < WIDTH {
                break;
            }
            hash = merkle::root(open);
            full.push((level, *number, std::mem::take(open)));
            *number += 1;
        }
        full
    }

    /// The root, and the tiles that stayed partial.
    pub(crate) fn finish(self) -> (NodeHash, Vec<Built>) {
        let open = (1..=8_u8)
            .zip(self.levels)
            .filter(|(_, (_, hashes))| !hashes.is_empty());
        let open = open.map(|(level, (number, hashes))| (level, number, hashes));
        (self.frontier.root(), open.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_c2sp() {
        assert_eq!(name(Kind::Level(0), 5), "ledger/tile/0/005");
        assert_eq!(
            name(Kind::Entries, 1_234_067),
            "ledger/tile/entries/x001/x234/067"
        );
        assert_eq!(name(Kind::Level(3), 1000), "ledger/tile/3/x001/000");
    }

    #[test]
    fn the_tower_is_the_tree() {
        let leaves: Vec<NodeHash> = (0..70_000_u32)
            .map(|i| merkle::leaf_hash(&i.to_be_bytes()))
            .collect();
        let mut tower = Tower::default();
        let mut full = Vec::new();
        for tile in leaves.chunks(256) {
            full.extend(tower.add(tile));
        }
        let (root, open) = tower.finish();
        assert_eq!(root, merkle::root(&leaves));
        assert_eq!(
            full.len(),
            1,
            "one full tile of level 1 covers 65,536 leaves"
        );
        assert_eq!(full[0].2[3], merkle::root(&leaves[768..1024]));
        let widths: Vec<_> = open.iter().map(|(l, n, h)| (*l, *n, h.len())).collect();
        assert_eq!(widths, [(1, 1, 70_000 / 256 - 256), (2, 0, 1)]);
    }

    #[test]
    fn bundles_come_apart_strictly() {
        assert_eq!(
            split(&[0, 1, 9, 0, 0, 0, 2, 7, 8], 256).unwrap().0,
            [&[9][..], &[], &[7, 8]]
        );
        assert_eq!(
            split(&[0, 1, 9, 0, 1, 8], 1).unwrap(),
            (vec![&[9][..]], &[0, 1, 8][..])
        );
        assert!(split(&[0, 2, 9], 256).is_err());
        assert!(split(&[0], 256).is_err());
    }
}
