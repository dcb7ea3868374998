//! The growing edge of a C2SP tile log: entries in, the files that follow from them out.
//!
//! ```text
//! checkpoint                      origin, size, root, signature
//! tile/entries/x001/234[.p/W]     256 entries: each u16 length, bytes
//! tile/0/x001/234[.p/W]           their leaf hashes
//! tile/1/x004[.p/W] ...           each hash the root of a full tile one level down
//! ```
//!
//! Only the right edge is kept: the [`Frontier`], the hashes of the partial tiles, and the entries of
//! the partial bundle. The same function makes the files of a live batch, of a batch finished after a
//! crash, and those that the start compares with the disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{Failure, Outcome};
use chordae_chain::merkle::{self, Frontier, NodeHash};
use tlog_tiles::{Hash, HashReader, Tile, stored_hash_index};

/// Hashes or entries of a full tile.
pub const TILE_WIDTH: u64 = 256;
/// `TILE_WIDTH` = 2^8.
pub const TILE_HEIGHT: u8 = 8;
/// Levels of tiles that 2^64 leaves need.
pub const LEVELS: u8 = 8;

/// Hashes that a log of `size` entries has at a level of tiles.
pub fn hashes_at(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT))
        .unwrap_or(0)
}

/// A file of the log: path below the log's folder, and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileFile {
    /// Which.
    pub tile: Tile,
    /// Its content.
    pub bytes: Bytes,
}

/// Path of a tile below the log's folder, as tlog-tiles says.
pub fn path(tile: &Tile) -> String {
    // The library writes the height, and "data" for entries.
    let path = tile.path();
    let rest = path.strip_prefix("tile/8/").unwrap_or(&path);
    match rest.strip_prefix("data/") {
        Some(entries) => format!("tile/entries/{entries}"),
        None => format!("tile/{rest}"),
    }
}

/// The tile of a path, if it is one of ours: nothing else is ever opened.
pub fn parse_path(text: &str) -> Option<Tile> {
    let rest = text.strip_prefix("tile/")?;
    let (level, place) = rest.split_once('/')?;
    let level = match level {
        "entries" => "data",
        // 2^64 leaves need eight levels; the library panics beyond 63 and for a width of 0.
        "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" => level,
        _ => return None,
    };
    if place.ends_with(".p/0") {
        return None;
    }
    let tile = Tile::from_path(&format!("tile/8/{level}/{place}")).ok()?;
    (path(&tile) == text).then_some(tile)
}

/// Whether a log of `size` entries has this tile, full or partial.
pub fn covers(size: u64, tile: &Tile) -> bool {
    let hashes = size
        .checked_shr(u32::from(TILE_HEIGHT) * u32::from(tile.level()))
        .unwrap_or(0);
    let first = tile.level_index().checked_mul(TILE_WIDTH);
    first
        .and_then(|n| n.checked_add(u64::from(tile.width())))
        .is_some_and(|end| end <= hashes)
}

/// A bundle's entries.
///
/// # Errors
/// `Damaged` when lengths and bytes do not fit.
pub fn split_bundle(bundle: &Bytes) -> Outcome<Vec<Bytes>> {
    let mut entries = Vec::new();
    let mut at = 0usize;
    while at < bundle.len() {
        let cut = || Failure::damaged("an entry is cut off");
        let len = bundle
            .get(at..at + 2)
            .and_then(|b| b.try_into().ok())
            .ok_or_else(cut)?;
        let end = at + 2 + usize::from(u16::from_be_bytes(len));
        if end > bundle.len() {
            return Err(cut());
        }
        entries.push(bundle.slice(at + 2..end));
        at = end;
    }
    Ok(entries)
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    frontier: Frontier,
    /// Hashes of the partial tiles, by stored index.
    edge: BTreeMap<u64, NodeHash>,
    /// Entries of the partial bundle.
    tail: Vec<Bytes>,
}

/// Stored hashes: those of the edge and those that are new.
struct Stored<'a>(&'a BTreeMap<u64, NodeHash>);

impl HashReader for Stored<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let find = |i: &u64| self.0.get(i).map(|h| Hash(*h));
        let found: Option<Vec<Hash>> = indexes.iter().map(find).collect();
        found.ok_or(tlog_tiles::Error::IndexesNotInTree)
    }
}

impl Tree {
    /// The empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a log that is there: from its stored hashes, which must be checked against its root, and the
    /// entries of its partial bundle.
    ///
    /// # Errors
    /// `Damaged` when hashes are missing, or the entries are not theirs.
    pub fn load(size: u64, stored: &impl HashReader, tail: Vec<Bytes>) -> Outcome<Self> {
        if size == 0 && tail.is_empty() {
            // The library panics over an empty log.
            return Ok(Self::new());
        }
        let frontier = Frontier::load(size, stored)?;
        let indexes: Vec<u64> = (0..LEVELS).flat_map(|level| edge_of(size, level)).collect();
        let hashes = stored.read_hashes(&indexes);
        let hashes = hashes.map_err(|e| Failure::damaged(format!("stored log hashes: {e}")))?;
        let edge: BTreeMap<u64, NodeHash> = indexes
            .into_iter()
            .zip(hashes.into_iter().map(|h| h.0))
            .collect();
        let first = size / TILE_WIDTH * TILE_WIDTH;
        for (at, entry) in (first..).zip(&tail) {
            if edge.get(&stored_hash_index(0, at)) != Some(&merkle::leaf_hash(entry)) {
                return Err(Failure::damaged(format!("ledger entry {at} was changed")));
            }
        }
        Ok(Self {
            frontier,
            edge,
            tail,
        })
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root over them.
    pub fn root(&self) -> NodeHash {
        self.frontier.root()
    }

    /// Appends entries: the tiles and bundles that are new or wider at the new size, entries first.
    ///
    /// # Errors
    /// `BadInput` for an entry longer than its length prefix can say.
    pub fn extend(&mut self, entries: &[Bytes]) -> Outcome<Vec<TileFile>> {
        let old = self.size();
        for entry in entries {
            let size = self.size();
            let stored = self.frontier.append(merkle::leaf_hash(entry));
            let first = stored_hash_index(0, size);
            for (i, hash) in stored.into_iter().enumerate() {
                self.edge.insert(first + i as u64, hash);
            }
        }
        let mut files = self.bundles(old, entries)?;
        for tile in Tile::new_tiles(TILE_HEIGHT, old, self.size()) {
            files.push(self.file(tile)?);
        }
        self.forget();
        Ok(files)
    }

    /// The partial hash tiles of the edge, as they stand at a checkpoint of this size.
    ///
    /// # Errors
    /// `Internal` when the edge is not whole.
    pub fn partial_tiles(&self) -> Outcome<Vec<TileFile>> {
        let mut files = Vec::new();
        for level in 0..LEVELS {
            let hashes = hashes_at(self.size(), level);
            let width = u32::try_from(hashes % TILE_WIDTH).unwrap_or(0);
            if width > 0 {
                let tile = Tile::new(TILE_HEIGHT, level, hashes / TILE_WIDTH, width, false);
                files.push(self.file(tile)?);
            }
        }
        Ok(files)
    }

    fn file(&self, tile: Tile) -> Outcome<TileFile> {
        let bytes = tile
            .read_data(&Stored(&self.edge))
            .map_err(|e| Failure::internal(format!("{}: {e}", path(&tile))))?;
        Ok(TileFile {
            tile,
            bytes: bytes.into(),
        })
    }

    fn bundles(&mut self, old: u64, entries: &[Bytes]) -> Outcome<Vec<TileFile>> {
        let mut files = Vec::new();
        let mut number = old / TILE_WIDTH;
        for (i, entry) in entries.iter().enumerate() {
            self.tail.push(entry.clone());
            let full = self.tail.len() as u64 == TILE_WIDTH;
            if !full && i + 1 < entries.len() {
                continue;
            }
            let width = u32::try_from(self.tail.len()).unwrap_or(0);
            let tile = Tile::new(TILE_HEIGHT, 0, number, width, true);
            files.push(TileFile {
                tile,
                bytes: bundle(&self.tail)?.into(),
            });
            if full {
                self.tail.clear();
                number += 1;
            }
        }
        Ok(files)
    }

    /// Drops the hashes that no partial tile shows.
    fn forget(&mut self) {
        let mut keep = BTreeMap::new();
        for at in (0..LEVELS).flat_map(|level| edge_of(self.size(), level)) {
            if let Some(hash) = self.edge.get(&at) {
                keep.insert(at, *hash);
            }
        }
        self.edge = keep;
    }
}

/// Stored indexes of the hashes in a level's partial tile.
fn edge_of(size: u64, level: u8) -> impl Iterator<Item = u64> {
    let hashes = hashes_at(size, level);
    let first = hashes / TILE_WIDTH * TILE_WIDTH;
    (first..hashes).map(move |n| stored_hash_index(level * TILE_HEIGHT, n))
}

fn bundle(entries: &[Bytes]) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|e| e.len() + 2).sum());
    for entry in entries {
        let len = u16::try_from(entry.len())
            .map_err(|_| Failure::bad_input("an entry is longer than 65,535 bytes"))?;
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u64, n: u64) -> Vec<Bytes> {
        (from..from + n)
            .map(|i| Bytes::from(format!("entry {i}")))
            .collect()
    }

    #[test]
    fn batches_of_any_size_give_the_files_of_one_big_batch() {
        let total = 66_000;
        let mut whole = Tree::new();
        let all = entries(0, total);
        let one: BTreeMap<_, _> = whole
            .extend(&all)
            .unwrap()
            .into_iter()
            .map(|f| (path(&f.tile), f.bytes))
            .collect();
        let mut tree = Tree::new();
        let mut files = BTreeMap::new();
        let (mut at, mut step) = (0, 1);
        while at < total {
            step = (step * 7 + 3) % 401 + 1;
            let n = step.min(total - at);
            for file in tree.extend(&all[at as usize..(at + n) as usize]).unwrap() {
                files.insert(path(&file.tile), file.bytes);
            }
            at += n;
            assert!(tree.edge.len() < 3 * 256, "only the edge is kept");
            if at % 29 == 0 {
                let leaves: Vec<_> = all[..at as usize]
                    .iter()
                    .map(|e| merkle::leaf_hash(e))
                    .collect();
                let stored = merkle::StoredHashes::of(&leaves);
                let tail = all[at as usize / 256 * 256..at as usize].to_vec();
                tree = Tree::load(at, &stored, tail).unwrap();
            }
        }
        assert_eq!(tree.root(), whole.root());
        for (path, bytes) in &one {
            assert_eq!(files.get(path), Some(bytes), "{path}");
        }
        let leaves: Vec<_> = all.iter().map(|e| merkle::leaf_hash(e)).collect();
        assert_eq!(tree.root(), merkle::root(&leaves));
        assert!(one.contains_key("tile/2/000.p/1") && one.contains_key("tile/entries/257.p/208"));
    }

    #[test]
    fn entries_that_are_not_those_of_the_hashes_are_no_edge() {
        let mut all = entries(0, 300);
        let leaves: Vec<_> = all.iter().map(|e| merkle::leaf_hash(e)).collect();
        let stored = merkle::StoredHashes::of(&leaves);
        assert!(Tree::load(300, &stored, all[256..].to_vec()).is_ok());
        all[299] = Bytes::from_static(b"another");
        assert!(Tree::load(300, &stored, all[256..].to_vec()).is_err());
        assert!(Tree::load(301, &stored, all[256..].to_vec()).is_err());
    }

    #[test]
    fn a_path_names_one_tile_and_nothing_else() {
        let good = [
            "tile/0/000",
            "tile/0/x001/x234/067.p/8",
            "tile/entries/000.p/255",
            "tile/7/000.p/1",
        ];
        for text in good {
            assert_eq!(path(&parse_path(text).unwrap()), text);
        }
        let bad = [
            "checkpoint",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/8/000",
            "tile/99/000",
            "tile/00/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/0",
            "tile/0/../000",
            "tile/data/000",
            "tile/0/000.p/01",
            "tile/entries/x001",
            "/tile/0/000",
            "tile/0/000.p/-1",
            "tile//000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ];
        for text in bad {
            assert!(parse_path(text).is_none(), "{text}");
        }
        assert!(covers(300, &parse_path("tile/0/000").unwrap()));
        assert!(covers(300, &parse_path("tile/0/001.p/44").unwrap()));
        assert!(!covers(300, &parse_path("tile/0/001.p/45").unwrap()));
        assert!(!covers(300, &parse_path("tile/7/000.p/1").unwrap()));
    }

    #[test]
    fn a_bundle_comes_apart_again_or_is_damaged() {
        let all = entries(0, 3);
        let bytes = Bytes::from(bundle(&all).unwrap());
        assert_eq!(split_bundle(&bytes).unwrap(), all);
        for cut in [1, 2, 5] {
            assert!(split_bundle(&bytes.slice(..bytes.len() - cut)).is_err());
        }
        assert!(bundle(&[Bytes::from(vec![0; 65_536])]).is_err());
    }
}
