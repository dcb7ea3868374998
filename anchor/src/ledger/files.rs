//! The ledger's files, through the disk seam.
//!
//! `ledger/` holds nothing but a stock tile log, whole at every moment: its checkpoint is put there when every
//! tile under it is durable (decision 53). Partial tiles exist at checkpoint sizes only and are removed once the
//! full tile stands under a durable checkpoint; a reader that still wants the partial one takes the beginning of
//! the full one, as tlog-tiles allows. Until then the growing edge is read from memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, limits,
    seams::{self, Disk, DiskFile, Entry},
};
use chordae_chain::{
    checkpoint::Checkpoint,
    merkle::{self, NodeHash},
};
use tlog_tiles::{
    Error, Hash, HashReader as _, Tile, TileHashReader, TileReader, stored_hash_index,
};

use crate::core::tree::{self, LEVELS, TILE_HEIGHT, TILE_WIDTH, TileFile};

/// Bytes of a full bundle of the longest entries.
const BUNDLE_BYTES_MAX: u64 = TILE_WIDTH * (2 + u16::MAX as u64);
/// Folders remembered as durable.
const FOLDERS_KNOWN_MAX: usize = 1024;
/// Bytes of a hash.
const HASH_BYTES: u64 = 32;
/// Bytes of a checkpoint.
const CHECKPOINT_BYTES_MAX: u64 = 64 * 1024;

/// The folder of a tile log.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Folders that are known to be durable: making one again costs a sync.
    made: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// The partial tiles that are not on the disk yet, by the path of the full one: at most one of each level, and a
    /// bundle. Readers take them from here.
    edge: Arc<RwLock<BTreeMap<String, TileFile>>>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            made: Arc::default(),
            edge: Arc::default(),
        }
    }

    fn read(&self, name: &str, max: u64) -> Outcome<Bytes> {
        let path = self.dir.join(name);
        let read = self.disk.read(&path, max);
        read.map(Bytes::from)
            .map_err(|e| Failure::os(format_args!("ledger/{name}"), &e))
    }

    pub(crate) fn checkpoint(&self) -> Outcome<Option<String>> {
        let Some(bytes) = absent(self.read("checkpoint", CHECKPOINT_BYTES_MAX))? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes.into());
        text.map(Some)
            .map_err(|_| Failure::damaged("ledger/checkpoint is not text"))
    }

    /// Writes a checkpoint, durable; a crash leaves the old one or this. Every tile under it is durable before.
    pub(crate) fn write_checkpoint(&self, text: &str) -> Outcome<()> {
        let path = self.dir.join("checkpoint");
        seams::write_atomic(&*self.disk, &path, text.as_bytes())
            .map_err(|e| Failure::os("write ledger/checkpoint", &e))
    }

    /// A tile or bundle of exactly this width, if need be the beginning of a wider one; none if there is neither.
    pub(crate) fn tile(&self, tile: &Tile) -> Outcome<Option<Bytes>> {
        let max = if tile.is_data() {
            BUNDLE_BYTES_MAX
        } else {
            TILE_WIDTH * HASH_BYTES
        };
        // First what is in memory: whatever leaves it is on the disk before.
        if let Some(bytes) = self.in_memory(tile) {
            return beginning(tile, &bytes).map(Some);
        }
        if let Some(bytes) = absent(self.read(&tree::path(tile), max))? {
            return Ok(Some(bytes));
        }
        for wider in self.wider(tile)? {
            // A partial one may go in this moment: the full one is there before.
            if let Some(bytes) = absent(self.read(&tree::path(&wider), max))? {
                return beginning(tile, &bytes).map(Some);
            }
        }
        Ok(None)
    }

    fn in_memory(&self, tile: &Tile) -> Option<Bytes> {
        let edge = self.edge.read().unwrap_or_else(PoisonError::into_inner);
        let kept = edge.get(&tree::path(&of_width(tile, FULL)))?;
        (kept.tile.width() >= tile.width()).then(|| kept.bytes.clone())
    }

    /// Where the beginning is this tile: the next wider one that a settling has left, and the full one.
    fn wider(&self, tile: &Tile) -> Outcome<Vec<Tile>> {
        let full = of_width(tile, FULL);
        if full == *tile {
            return Ok(Vec::new());
        }
        let partials = self.partials(&full)?;
        let names = partials.iter().filter_map(|entry| entry.path.file_name());
        let widths = names.filter_map(|name| name.to_str()?.parse().ok());
        let wider = widths.filter(|width| *width > tile.width()).min();
        let wider = wider.map(|width| of_width(tile, width));
        Ok(wider.into_iter().chain([full]).collect())
    }

    /// What lies on the disk beside a full tile: its partial ones, named by their width.
    fn partials(&self, full: &Tile) -> Outcome<Vec<Entry>> {
        let dir = self.dir.join(format!("{}.p", tree::path(full)));
        let listed = self.disk.list(&dir);
        let listed = absent(listed.map_err(|e| Failure::os(dir.display(), &e)))?;
        Ok(listed.unwrap_or_default())
    }

    /// The entries `number * 256 ..` of a log of `size`, as many as the bundle has.
    pub(crate) fn bundle(&self, number: u64, size: u64) -> Outcome<Vec<Bytes>> {
        let first = number.saturating_mul(TILE_WIDTH);
        let count = size.saturating_sub(first).min(TILE_WIDTH);
        let width = u32::try_from(count).unwrap_or(0).max(1);
        let tile = Tile::new(TILE_HEIGHT, 0, number, width, true);
        let name = tree::path(&tile);
        let bytes = self.tile(&tile)?;
        let bytes = bytes.ok_or_else(|| Failure::damaged(format!("ledger/{name} is missing")))?;
        let entries = tree::split_bundle(&bytes).map_err(|e| e.during(format!("ledger/{name}")))?;
        if entries.len() as u64 != count {
            let found = entries.len();
            return Err(Failure::damaged(format!(
                "ledger/{name}: {found} entries, not {count}"
            )));
        }
        Ok(entries)
    }

    /// An entry of the log of this size and root, checked against them.
    ///
    /// # Errors
    /// `Damaged` when the stored bytes are not those of the log.
    pub(crate) fn entry(
        &self,
        at: u64,
        (size, root): (u64, NodeHash),
    ) -> Outcome<(NodeHash, Bytes)> {
        let entries = self.bundle(at / TILE_WIDTH, size)?;
        let entry = usize::try_from(at % TILE_WIDTH)
            .ok()
            .and_then(|i| entries.get(i));
        let entry = entry.ok_or_else(|| Failure::damaged("the bundle is too short"))?;
        let leaf = merkle::leaf_hash(entry);
        let stored = TileHashReader::new(size, Hash(root), self)
            .read_hashes(&[stored_hash_index(0, at)])
            .map_err(|e| Failure::damaged(format!("stored log hashes: {e}")))?;
        if stored != [Hash(leaf)] {
            return Err(Failure::damaged(format!("ledger entry {at} was changed")));
        }
        Ok((leaf, entry.clone()))
    }

    /// Whether the log of this size and root begins with what an earlier checkpoint covers.
    pub(crate) fn begins_with(
        &self,
        (size, root): (u64, NodeHash),
        earlier: &Checkpoint,
    ) -> Outcome<bool> {
        if earlier.size > size {
            return Ok(false);
        }
        let reader = TileHashReader::new(size, Hash(root), self);
        let path = merkle::consistency_path(size, earlier.size, &reader)?;
        let old = (earlier.size, earlier.root);
        Ok(merkle::check_consistency(old, (size, root), &path).is_ok())
    }

    /// Takes tiles: full ones are written, whole under their names for whoever reads them, and not synced; partial ones
    /// stay in memory. A crash before [`Self::sync`] leaves any of them absent or torn: no checkpoint on the disk covers
    /// them, and whoever calls has what makes them again.
    pub(crate) fn put_tiles(&self, tiles: Vec<TileFile>, unsettled: &mut Unsettled) -> Outcome<()> {
        for file in tiles {
            let full = of_width(&file.tile, FULL);
            let path = tree::path(&full);
            let is_full = file.tile == full;
            if is_full {
                self.put(&file, unsettled)?;
                unsettled.full.push(full);
            }
            let mut edge = self.edge.write().unwrap_or_else(PoisonError::into_inner);
            if is_full {
                edge.remove(&path);
            } else {
                edge.insert(path, file);
            }
        }
        Ok(())
    }

    fn put(&self, TileFile { tile, bytes }: &TileFile, unsettled: &mut Unsettled) -> Outcome<()> {
        let path = self.dir.join(tree::path(tile));
        let mut put = || {
            let dir = path.parent().unwrap_or(&self.dir);
            self.make(dir)?;
            let (tmp, file) = seams::write_aside(&*self.disk, &path, bytes)?;
            self.disk.rename(&tmp, &path)?;
            unsettled.files.push(file);
            unsettled.dirs.insert(dir.to_owned());
            Ok(())
        };
        put().map_err(|e: io::Error| Failure::os(path.display(), &e))
    }

    /// Writes the edge that is in memory; from here on a crash leaves every tile that was put.
    pub(crate) fn sync(&self, unsettled: &mut Unsettled) -> Outcome<()> {
        let edge = self
            .edge
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for file in edge.values() {
            self.put(file, unsettled)?;
        }
        let os = |e: io::Error| Failure::os("sync ledger/", &e);
        for mut file in std::mem::take(&mut unsettled.files) {
            file.sync().map_err(os)?;
        }
        for dir in &std::mem::take(&mut unsettled.dirs) {
            self.disk.sync_dir(dir).map_err(os)?;
        }
        // Only the caller changes it, and readers find on the disk what is gone from here.
        self.edge
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(())
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(dir) {
            return Ok(());
        }
        self.disk.create_dir_all(dir)?;
        // Old folders are not written to again; forgetting one costs one sync.
        if made.len() >= FOLDERS_KNOWN_MAX {
            made.clear();
        }
        made.insert(dir.to_owned());
        Ok(())
    }

    /// Removes the partial tiles of a full one. Not synced: what a crash brings back is harmless and
    /// removed at the next start.
    pub(crate) fn remove_partials(&self, full: &Tile) -> Outcome<()> {
        self.remove_narrower(&of_width(full, FULL))
    }

    /// Removes what lies beside a tile and is narrower, or left half-made.
    fn remove_narrower(&self, tile: &Tile) -> Outcome<()> {
        for entry in self.partials(&of_width(tile, FULL))? {
            if entry.path == self.dir.join(tree::path(tile)) {
                continue;
            }
            let removed = self.disk.remove(&entry.path);
            absent(removed.map_err(|e| Failure::os(entry.path.display(), &e)))?;
        }
        Ok(())
    }

    /// Removes the partial tiles that a crash may have left, torn ones among them: all but the newest of each level.
    pub(crate) fn sweep(&self, size: u64) -> Outcome<()> {
        for level in 0..LEVELS {
            let hashes = tree::hashes_at(size, level);
            let (last, width) = (hashes / TILE_WIDTH, hashes % TILE_WIDTH);
            for entries in [false, true].into_iter().take(1 + usize::from(level == 0)) {
                let tile = |at, width| Tile::new(TILE_HEIGHT, level, at, width, entries);
                if let Some(last) = last.checked_sub(1) {
                    self.remove_partials(&tile(last, FULL))?;
                }
                let width = u32::try_from(width).unwrap_or(0);
                if width > 0 {
                    self.remove_narrower(&tile(last, width))?;
                }
            }
        }
        Ok(())
    }
}

/// Width of a full tile.
const FULL: u32 = 256;

/// The same tile, of another width.
fn of_width(tile: &Tile, width: u32) -> Tile {
    Tile::new(
        TILE_HEIGHT,
        tile.level(),
        tile.level_index(),
        width,
        tile.is_data(),
    )
}

/// The beginning of a tile or bundle, as wide as this one.
fn beginning(tile: &Tile, bytes: &Bytes) -> Outcome<Bytes> {
    let width = tile.width() as usize;
    let len = if tile.is_data() {
        let entries = tree::split_bundle(bytes)?;
        let lengths = entries.iter().take(width).map(|entry| entry.len() + 2);
        lengths.sum()
    } else {
        width * HASH_BYTES as usize
    };
    Ok(bytes.slice(..bytes.len().min(len)))
}

/// What was written since the last settling.
#[derive(Default)]
pub(crate) struct Unsettled {
    files: Vec<Box<dyn DiskFile>>,
    dirs: BTreeSet<PathBuf>,
    full: Vec<Tile>,
}

impl Unsettled {
    /// Whether so many files are open for it that it is time to settle.
    pub(crate) fn is_much(&self) -> bool {
        self.files.len() >= limits::LEDGER_TILES_BEHIND_MAX
    }

    /// The tiles that became full since this was asked last.
    pub(crate) fn take_full(&mut self) -> Vec<Tile> {
        std::mem::take(&mut self.full)
    }
}

fn absent<T>(outcome: Outcome<T>) -> Outcome<Option<T>> {
    match outcome {
        Err(e) if e.kind == chordae_base::FailureKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// The library authenticates what is read here against the checkpoint's root.
impl TileReader for Files {
    fn height(&self) -> u8 {
        TILE_HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| match self.tile(tile) {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(Error::InvalidInput(format!(
                "ledger/{} is missing",
                tree::path(tile)
            ))),
            Err(e) => Err(Error::InvalidInput(e.why)),
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}
