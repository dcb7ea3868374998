//! Making chunks: the codes of a row say which frame and sample it is.

use std::{path::Path, sync::Arc};

use chordae_base::{
    Did, Digest, Outcome, Rate,
    limits::PAGE_NS,
    seams::Disk,
    time::SECOND_NS,
    wire::{ClockKind, Lead},
};
use chordae_chain::{
    link::Link,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
};
use chordae_chunk::{ChunkRows, SealedChunk, seal};
use chordae_storage::{Catalogue, Committer, Tip};

pub(crate) const S: i64 = SECOND_NS;
pub(crate) const MS: i64 = 1_000_000;
pub(crate) const T0: i64 = 1_700_006_400 * S;
pub(crate) const DATA: &str = "/data";
/// Samples per second of everything here, and so per frame: a frame is a second.
pub(crate) const HZ: u32 = 100;

pub(crate) fn did(n: u8) -> Did {
    Did([n; 16])
}

fn lead(name: &str) -> Lead {
    Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 0,
        unit: "mV".into(),
        bits: 16,
    }
}

/// Rows of whole-second frames `seqs` in the slot of 10 s that begins `slot` slots after T0; frame n
/// begins n seconds after T0.
pub(crate) fn rows(slot: i64, seqs: &[u64]) -> ChunkRows {
    let from = T0 + slot * 10 * S;
    let mut rows = ChunkRows {
        times: Vec::new(),
        leads: vec![Vec::new(), Vec::new()],
    };
    for seq in seqs {
        for k in 0..i64::from(HZ) {
            let t = T0 + i64::try_from(*seq).unwrap() * S + k * 10 * MS;
            if (from..from + 10 * S).contains(&t) {
                rows.times.push(t);
                rows.leads[0].push(i32::try_from(*seq).unwrap());
                rows.leads[1].push(i32::try_from(k).unwrap());
            }
        }
    }
    rows
}

pub(crate) fn chunk(did: Did, tip: Tip, slot: i64, seqs: &[u64], salt: u8) -> SealedChunk {
    let rows = rows(slot, seqs);
    let (first, last) = (rows.times[0], *rows.times.last().unwrap());
    let all = seqs[0]..=*seqs.last().unwrap();
    let missing = all
        .clone()
        .filter(|s| !seqs.contains(s))
        .map(|s| (s, s))
        .collect();
    let slot_start_ns = T0 + slot * 10 * S;
    let meta = ChunkMeta {
        boot: 5,
        clock: ChunkClock {
            offset_ns: 0,
            quality: ClockKind::Synced,
        },
        did,
        end_ns: (last + 10 * MS).min(slot_start_ns + 10 * S),
        first_ns: first,
        index: tip.next_index,
        jitter_ns: (0, 0),
        lane: Lane::Live,
        leads: vec![lead("I"), lead("II")],
        missing,
        page_ns: PAGE_NS,
        prev: tip.prev,
        profile: Profile::Open,
        rate: Rate::new(HZ, 1).unwrap(),
        received: (last, last),
        rows: u32::try_from(rows.len()).unwrap(),
        seq: (*all.start(), *all.end()),
        slot_len_ns: 10 * S,
        slot_start_ns,
        v: 1,
    };
    seal(meta, [salt; 32], &rows).unwrap()
}

/// Ten whole frames in a slot.
pub(crate) fn plain(did: Did, tip: Tip, slot: i64, salt: u8) -> SealedChunk {
    let first = u64::try_from(slot).unwrap() * 10;
    let seqs: Vec<u64> = (first..first + 10).collect();
    chunk(did, tip, slot, &seqs, salt)
}

pub(crate) fn open(disk: Arc<dyn Disk>) -> Outcome<(Committer, Arc<Catalogue>)> {
    Committer::open(disk, Path::new(DATA), &mut |_, _| (), Box::new(|_| ()))
}

/// Commits one plain chunk per slot to a did.
pub(crate) fn fill(committer: &mut Committer, did: Did, slots: i64) -> Vec<Link> {
    let mut links = Vec::new();
    for slot in 0..slots {
        let chunk = plain(did, committer.tip(&did), slot, 1);
        links.extend(committer.commit(&[chunk]).unwrap());
    }
    links
}

pub(crate) fn no_digest() -> Digest {
    Digest([0; 32])
}
