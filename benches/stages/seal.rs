//! Rows to a chunk: `chordae_chunk::seal` beside zstd alone, and beside copying and hashing.
//!
//! Sealing encodes, compresses, hashes, reads the file back, decodes it and verifies it. zstd alone, at the
//! same level on the same codes as 16-bit integers, is what anybody would do to make them small; copying
//! and hashing the same bytes once is what nobody who wants a digest can go below.

use std::hint::black_box;

use chordae_base::{Failure, Outcome, seams::Clock};
use chordae_chain::{link, meta::ChunkMeta};
use chordae_chunk::{ZSTD_LEVEL, seal};

use super::timed;
use crate::{
    material::{DID, Material, salt},
    table::{Rounds, Table, fine, grouped, part},
};

/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 15;

/// Measures and reports.
///
/// # Errors
/// When something does not come out as it went in.
pub fn run(material: &Material, rounds: usize, clock: &dyn Clock) -> Outcome<String> {
    let raw = material
        .slots
        .iter()
        .map(Material::i16le)
        .collect::<Outcome<Vec<_>>>()?;
    let samples = material.samples() as f64;
    let (sealed_bytes, zstd_bytes) = (sealed_bytes(material)?, zstd_bytes(&raw)?);
    let (mut sealing, mut zstd, mut copying) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..rounds {
        let metas = metas(material)?;
        sealing
            .0
            .push(samples / timed(clock, || seal_all(material, metas))?.0);
        zstd.0
            .push(samples / timed(clock, || compress_all(&raw))?.0);
        copying
            .0
            .push(samples / timed(clock, || Ok(copy_and_hash(&raw)))?.0);
    }
    let mut table = Table::new(&[
        "",
        "MB/s as int16",
        "(min-max)",
        "MB/s as int32",
        "bits/sample",
        "x zstd",
        "x copy + hash",
    ]);
    for (name, rate, bytes) in [
        ("copy + BLAKE3 of int16", &copying, (2.0 * samples) as usize),
        ("zstd of int16", &zstd, zstd_bytes),
        ("seal (with read-back and verify)", &sealing, sealed_bytes),
    ] {
        // Samples per nanosecond, times bytes of a sample: GB/s.
        let mb = |bytes_each: f64| move |rate: f64| grouped(rate * bytes_each * 1e3);
        table.row([
            name.to_owned(),
            mb(2.0)(rate.median()),
            rate.spread(mb(2.0)),
            mb(4.0)(rate.median()),
            fine(bytes as f64 * 8.0 / samples),
            part(rate.over(&zstd).median()),
            part(rate.over(&copying).median()),
        ]);
    }
    Ok(format!(
        "seal: {}, {} chunks of 300 s, {} samples, zstd level {ZSTD_LEVEL}; {rounds} interleaved rounds, \
         medians, one thread\n{table}",
        material.name,
        material.slots.len(),
        grouped(samples),
    ))
}

/// Metadata for sealing each slot on its own; who comes before does not change the work.
fn metas(material: &Material) -> Outcome<Vec<ChunkMeta>> {
    let genesis = link::genesis(&DID);
    (0..material.slots.len())
        .map(|i| material.meta(i, genesis))
        .collect()
}

fn seal_all(material: &Material, metas: Vec<ChunkMeta>) -> Outcome<usize> {
    let mut bytes = 0;
    for (i, (meta, rows)) in metas.into_iter().zip(&material.slots).enumerate() {
        bytes += seal(meta, salt(i), rows)?.bytes().len();
    }
    Ok(bytes)
}

/// Bytes of all chunks; their rows are those that were sealed.
fn sealed_bytes(material: &Material) -> Outcome<usize> {
    let chunks = material.chain()?;
    for (chunk, rows) in chunks.iter().zip(&material.slots) {
        if chunk.rows()? != *rows {
            return Err(Failure::damaged("a chunk has other rows than were sealed"));
        }
    }
    Ok(chunks.iter().map(|chunk| chunk.bytes().len()).sum())
}

fn failed(err: &std::io::Error) -> Failure {
    Failure::os("zstd", err)
}

fn compress_all(raw: &[Vec<u8>]) -> Outcome<Vec<Vec<u8>>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(|e| failed(&e))?;
    raw.iter()
        .map(|bytes| compressor.compress(bytes).map_err(|e| failed(&e)))
        .collect()
}

/// Bytes of all slots compressed; they come out as they went in.
fn zstd_bytes(raw: &[Vec<u8>]) -> Outcome<usize> {
    let small = compress_all(raw)?;
    for (small, raw) in small.iter().zip(raw) {
        if zstd::bulk::decompress(small, raw.len()).map_err(|e| failed(&e))? != *raw {
            return Err(Failure::damaged("zstd gives other bytes back"));
        }
    }
    Ok(small.iter().map(Vec::len).sum())
}

fn copy_and_hash(raw: &[Vec<u8>]) -> Vec<blake3::Hash> {
    raw.iter()
        .map(|bytes| blake3::hash(black_box(&bytes.clone())))
        .collect()
}
