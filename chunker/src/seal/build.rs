//! An order becomes a chunk: payloads are read, decoded, put in rows; the metadata says what they are.

use chordae_base::{
    Failure, Outcome, RangeSet, limits, record::WalRecord, seams::Entropy, wire::Frame,
};
use chordae_chain::meta::{ChunkClock, ChunkMeta, Profile};
use chordae_chunk::{ChunkRows, SealedChunk};

use super::cache::PayloadCache;
use crate::core::{
    bucket::{Piece, SealOrder},
    ports::{FrameSource, Tip},
};

/// Where frames come from.
pub struct Frames<'a> {
    /// Asked first.
    pub cache: &'a PayloadCache,
    /// The WAL.
    pub source: &'a dyn FrameSource,
}

/// Builds and seals the chunk of an order as the next of its did, with a fresh salt.
///
/// # Errors
/// Those of the WAL; `Damaged` when a frame is not the one the order names; `BadInput` when the rows
/// break a rule of the format. All are faults of this chunk.
pub fn build(
    order: &SealOrder,
    tip: Tip,
    frames: &Frames<'_>,
    entropy: &dyn Entropy,
) -> Outcome<SealedChunk> {
    let rows = rows(order, frames)?;
    let meta = meta(order, tip)?;
    let mut salt = [0; 32];
    entropy.fill(&mut salt);
    chordae_chunk::seal(meta, salt, &rows)
}

fn rows(order: &SealOrder, frames: &Frames<'_>) -> Outcome<ChunkRows> {
    let (count, leads) = (order.rows(), order.shape.leads.len());
    if count > limits::CHUNK_ROWS_HARD {
        return Err(Failure::internal(format!(
            "a chunk of {count} rows was ordered"
        )));
    }
    let column = || Vec::with_capacity(count);
    let mut rows = ChunkRows {
        times: Vec::with_capacity(count),
        leads: Vec::new(),
    };
    rows.leads.resize_with(leads, column);
    for piece in &order.pieces {
        let frame = frame(order, piece, frames).map_err(|e| {
            e.during(format_args!(
                "frame {} at {}",
                piece.fact.seq, piece.fact.position
            ))
        })?;
        for k in piece.rows.clone() {
            rows.times
                .push(piece.times.at(k, piece.fact.samples, order.shape.rate)?);
        }
        let range = index(piece.rows.start)..index(piece.rows.end);
        for (i, column) in rows.leads.iter_mut().enumerate() {
            let codes = frame.lead(i).get(range.clone()).ok_or_else(|| {
                Failure::damaged(format!("lead {i} does not have the samples of its record"))
            })?;
            column.extend_from_slice(codes);
        }
    }
    Ok(rows)
}

fn index(k: u32) -> usize {
    usize::try_from(k).unwrap_or(usize::MAX)
}

/// The frame of a piece. What the cache or the log gives is a claim: it must be the frame that the
/// windower placed.
fn frame(order: &SealOrder, piece: &Piece, frames: &Frames<'_>) -> Outcome<Frame> {
    let payload = match frames.cache.get(piece.fact.position) {
        Some(payload) => payload,
        None => {
            let bytes = frames.source.payload(piece.fact.position)?;
            let WalRecord::Frame(record) = WalRecord::decode(bytes)? else {
                return Err(Failure::damaged(
                    "the log holds another kind of record there",
                ));
            };
            if record.stream != order.stream {
                return Err(Failure::damaged(format!(
                    "the log holds a frame of {}",
                    record.stream
                )));
            }
            record.payload
        }
    };
    let frame = Frame::decode(&payload).map_err(|e| Failure::damaged(e.why))?;
    let told = (order.key.boot, piece.fact.seq, piece.fact.samples);
    if told != (frame.boot, frame.seq, frame.samples) || frame.leads() != order.shape.leads.len() {
        return Err(Failure::damaged(
            "the payload is another frame than its record",
        ));
    }
    Ok(frame)
}

/// The metadata of the chunk of an order, as the next of its did.
///
/// # Errors
/// `Internal` for an order without rows or with too many.
pub fn meta(order: &SealOrder, tip: Tip) -> Outcome<ChunkMeta> {
    let empty = || Failure::internal("an empty chunk was ordered");
    let (first, last) = (order.pieces.first(), order.pieces.last());
    let (first, last) = (first.ok_or_else(empty)?, last.ok_or_else(empty)?);
    let recv = order.pieces.iter().map(|p| p.fact.recv_ns);
    let (min, max) = (
        recv.clone().min().ok_or_else(empty)?,
        recv.max().ok_or_else(empty)?,
    );
    let mut seqs = RangeSet::new();
    order
        .pieces
        .iter()
        .for_each(|p| seqs.insert_range(p.fact.seq, p.fact.seq));
    let (cell, mapping) = (order.key.cell, order.key.mapping);
    let too_many = |_| Failure::internal("more rows than a chunk may have");
    Ok(ChunkMeta {
        boot: order.key.boot,
        clock: ChunkClock {
            offset_ns: mapping.offset_ns,
            quality: mapping.quality(),
        },
        did: cell.did,
        end_ns: order.end_ns(),
        first_ns: first.first_ns,
        index: tip.next_index,
        jitter_ns: jitter(&order.pieces),
        lane: order.key.lane,
        leads: order.shape.leads.clone(),
        missing: seqs.gaps(first.fact.seq, last.fact.seq),
        page_ns: limits::PAGE_NS,
        prev: tip.prev,
        profile: Profile::Open,
        rate: order.shape.rate,
        received: (min, max),
        rows: u32::try_from(order.rows()).map_err(too_many)?,
        seq: (first.fact.seq, last.fact.seq),
        slot_len_ns: cell.slot_len_ns,
        slot_start_ns: cell.slot_start_ns,
        v: 1,
    })
}

/// Smallest and largest difference between a frame's t0 and the end of the frame with the previous
/// seq, over the neighbours in this chunk; (0, 0) if there are none. Across a missing seq the
/// difference would say how much is missing, and `missing` says that already.
fn jitter(pieces: &[Piece]) -> (i64, i64) {
    let pairs = pieces.iter().zip(pieces.iter().skip(1));
    let pairs = pairs.filter(|(a, b)| a.fact.seq.checked_add(1) == Some(b.fact.seq));
    let gaps = pairs.map(|(a, b)| b.fact.t0_ns.saturating_sub(a.fact.end_ns));
    let (min, max) = gaps.fold((i64::MAX, i64::MIN), |(lo, hi), g| (lo.min(g), hi.max(g)));
    if min > max { (0, 0) } else { (min, max) }
}
