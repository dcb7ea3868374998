//! The ledger's files, through the disk seam.
//!
//! `ledger/` holds nothing but a stock tile log. Partial tiles exist at checkpoint sizes only and are
//! removed once the full tile stands under a durable checkpoint; a reader that still wants the partial
//! one takes the beginning of the full one, as tlog-tiles allows.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome,
    seams::{self, Disk},
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
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            made: Arc::default(),
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

    /// Puts a checkpoint in place of the old one. A crash leaves the old or the new one, until
    /// [`Self::settle_checkpoint`].
    pub(crate) fn put_checkpoint(&self, text: &str) -> Outcome<()> {
        let path = self.dir.join("checkpoint");
        let put = || {
            let (tmp, mut file) = seams::write_aside(&*self.disk, &path, text.as_bytes())?;
            file.sync()?;
            self.disk.rename(&tmp, &path)
        };
        put().map_err(|e| Failure::os("write ledger/checkpoint", &e))
    }

    /// From here on a crash leaves the checkpoint that was put last.
    pub(crate) fn settle_checkpoint(&self) -> Outcome<()> {
        let settled = self.disk.sync_dir(&self.dir);
        settled.map_err(|e| Failure::os("sync ledger/", &e))
    }

    /// A tile or bundle of exactly this width; none if neither it nor the full one is there.
    pub(crate) fn tile(&self, tile: &Tile) -> Outcome<Option<Bytes>> {
        let max = if tile.is_data() {
            BUNDLE_BYTES_MAX
        } else {
            TILE_WIDTH * HASH_BYTES
        };
        if let Some(bytes) = absent(self.read(&tree::path(tile), max))? {
            return Ok(Some(bytes));
        }
        let full = Tile::new(
            TILE_HEIGHT,
            tile.level(),
            tile.level_index(),
            256,
            tile.is_data(),
        );
        if full == *tile {
            return Ok(None);
        }
        let Some(bytes) = absent(self.read(&tree::path(&full), max))? else {
            return Ok(None);
        };
        let width = tile.width() as usize;
        if !tile.is_data() {
            return Ok(Some(
                bytes.slice(..bytes.len().min(width * HASH_BYTES as usize)),
            ));
        }
        let entries = tree::split_bundle(&bytes)?;
        let len: usize = entries
            .iter()
            .take(width)
            .map(|entry| entry.len() + 2)
            .sum();
        Ok(Some(bytes.slice(..len)))
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

    /// Writes tiles; afterwards all of them are durable. A crash meanwhile leaves any of them absent, torn or
    /// whole: whoever calls has what makes them again, and lets nobody read them before. All are renamed before
    /// the first is synced, so that a file system with a journal commits once, not twice a tile.
    pub(crate) fn put_tiles(&self, tiles: &[TileFile]) -> Outcome<()> {
        let (mut open, mut dirs) = (Vec::new(), BTreeSet::new());
        for tile in tiles {
            let path = self.dir.join(tree::path(&tile.tile));
            let mut put = || {
                let dir = path.parent().unwrap_or(&self.dir);
                self.make(dir)?;
                let (tmp, file) = seams::write_aside(&*self.disk, &path, &tile.bytes)?;
                self.disk.rename(&tmp, &path)?;
                open.push(file);
                dirs.insert(dir.to_owned());
                Ok(())
            };
            put().map_err(|e: io::Error| Failure::os(path.display(), &e))?;
        }
        let files = open.iter_mut().try_for_each(|file| file.sync());
        let synced = files.and_then(|()| dirs.iter().try_for_each(|dir| self.disk.sync_dir(dir)));
        synced.map_err(|e| Failure::os("sync the tiles of the ledger", &e))
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
        let dir = self.dir.join(format!("{}.p", tree::path(full)));
        let listed = self
            .disk
            .list(&dir)
            .map_err(|e| Failure::os(dir.display(), &e));
        for entry in absent(listed)?.unwrap_or_default() {
            let removed = self.disk.remove(&entry.path);
            absent(removed.map_err(|e| Failure::os(entry.path.display(), &e)))?;
        }
        Ok(())
    }

    /// Removes the partial tiles that a crash may have left: those of the last full tile of each level.
    pub(crate) fn sweep(&self, size: u64) -> Outcome<()> {
        for level in 0..LEVELS {
            let hashes = tree::hashes_at(size, level);
            let Some(last) = (hashes / TILE_WIDTH).checked_sub(1) else {
                break;
            };
            self.remove_partials(&Tile::new(TILE_HEIGHT, level, last, 256, false))?;
            if level == 0 {
                self.remove_partials(&Tile::new(TILE_HEIGHT, 0, last, 256, true))?;
            }
        }
        Ok(())
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
            Ok(Some(bytes)) => Ok(bytes.to_vec()),
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
