//! Small chunks to break.

use chordae_base::{
    Did, Rate,
    wire::{ClockKind, Lead, NO_VALUE},
};
use chordae_chain::{
    link::genesis,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
};
use chordae_chunk::ChunkRows;

pub(crate) const SLOT: i64 = 1_700_000_040_000_000_000;
pub(crate) const SALT: [u8; 32] = [7; 32];

pub(crate) fn did() -> Did {
    "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e".parse().unwrap()
}

pub(crate) fn lead(name: &str) -> Lead {
    Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 1024,
        unit: "mV".into(),
        bits: 11,
    }
}

/// `count` rows at 360 Hz from 5 s into a 60 s slot; lead `V5` has a hole of twenty rows.
pub(crate) fn rows(count: usize) -> ChunkRows {
    let rate = Rate::new(360, 1).unwrap();
    let times = (0..count as u64).map(|k| SLOT + 5_000_000_000 + rate.after_ns(k).unwrap());
    let first = (0..count as i32).map(|k| (k * 37).rem_euclid(2048) - 1024);
    let second = (0..count as i32).map(|k| match k {
        100..120 => NO_VALUE,
        _ => (k * k).rem_euclid(4096) - 2048,
    });
    ChunkRows {
        times: times.collect(),
        leads: vec![first.collect(), second.collect()],
    }
}

/// Metadata that fits [`rows`].
pub(crate) fn meta(rows: &ChunkRows) -> ChunkMeta {
    let last = *rows.times.last().unwrap();
    ChunkMeta {
        boot: 9,
        clock: ChunkClock {
            offset_ns: 0,
            quality: ClockKind::Synced,
        },
        did: did(),
        end_ns: (last + 2_777_777).min(SLOT + 60_000_000_000),
        first_ns: rows.times[0],
        index: 0,
        jitter_ns: (0, 0),
        lane: Lane::Live,
        leads: vec![lead("MLII"), lead("V5")],
        missing: vec![(3, 4)],
        page_ns: 10_000_000_000,
        prev: genesis(&did()),
        profile: Profile::Open,
        rate: Rate::new(360, 1).unwrap(),
        received: (SLOT, SLOT + 60_000_000_000),
        rows: rows.times.len() as u32,
        seq: (0, 11),
        slot_len_ns: 60_000_000_000,
        slot_start_ns: SLOT,
        v: 1,
    }
}
