//! A tile log elsewhere: proofs from its tiles, whoever fetches them (C2SP tlog-tiles).
//!
//! What is fetched is believed only as far as a verified checkpoint's root goes: tiles are held against it before a
//! hash of them is used, so a server that lies can fail a proof and do no more.

use bytes::Bytes;
use chordae_base::Outcome;
use chordae_chain::{
    checkpoint::Checkpoint,
    merkle::{self, NodeHash},
};
use tlog_tiles::{Error, Hash, Tile, TileHashReader, TileReader};

use crate::core::tree::{self, TILE_HEIGHT};

/// The proof that the log of `old` leaves is the beginning of the one under a verified checkpoint. `fetch` gets a
/// path such as `tile/0/000.p/5`; it may block.
///
/// # Errors
/// `BadInput` for an `old` beyond the checkpoint; `Damaged` when the tiles do not come, or do not lead to its root.
pub fn consistency(
    new: &Checkpoint,
    old: u64,
    fetch: &dyn Fn(&str) -> Outcome<Bytes>,
) -> Outcome<Vec<NodeHash>> {
    let tiles = Tiles(fetch);
    let reader = TileHashReader::new(new.size, Hash(new.root), &tiles);
    merkle::consistency_path(new.size, old, &reader)
}

struct Tiles<'f>(&'f dyn Fn(&str) -> Outcome<Bytes>);

impl TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        TILE_HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| {
            let path = tree::path(tile);
            let bytes = (self.0)(&path);
            let bytes = bytes.map_err(|e| Error::InvalidInput(format!("{path}: {}", e.why)))?;
            Ok(bytes.to_vec())
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}
