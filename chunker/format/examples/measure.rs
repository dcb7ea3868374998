//! What a data page length costs and brings, on a real record of two leads at 360 Hz:
//! `cargo run --release -p chordae-chunk --example measure -- RECORD.dat` (WFDB format 212, 2 leads).
//! The page length and level are constants of `layout.rs`; change them there and run it again.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, Rate, Span,
    seams::{Clock, real::OsClock},
    wire::{ClockKind, Lead},
};
use chordae_chain::{
    link::genesis,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
};
use chordae_chunk::{ChunkRows, DATA_PAGE_S, ZSTD_LEVEL, open, read_span, seal};

const SLOT_NS: i64 = 300_000_000_000;
const RATE_HZ: u32 = 360;

/// Format 212: two 12-bit codes in three bytes.
fn read_212(bytes: &[u8]) -> Vec<Vec<i32>> {
    let signed = |raw: i32| if raw > 2047 { raw - 4096 } else { raw };
    let mut leads = vec![Vec::new(), Vec::new()];
    for triple in bytes.chunks_exact(3) {
        if let ([a, b, c], [first, second]) = (triple, leads.as_mut_slice()) {
            let (a, b, c) = (i32::from(*a), i32::from(*b), i32::from(*c));
            first.push(signed(a | (b & 0x0f) << 8));
            second.push(signed(c | (b & 0xf0) << 4));
        }
    }
    leads
}

fn chunk(leads: &[Vec<i32>], at: usize, start_ns: i64) -> Outcome<(ChunkMeta, ChunkRows)> {
    let rate = Rate::new(RATE_HZ, 1)?;
    let count = usize::try_from(SLOT_NS / 1_000_000_000).unwrap_or(0) * RATE_HZ as usize;
    let times = (0..count as u64).map(|k| Ok(start_ns + rate.after_ns(k)?));
    let times = times.collect::<Outcome<Vec<_>>>()?;
    let leads = leads
        .iter()
        .map(|l| l.iter().skip(at).take(count).copied().collect());
    let rows = ChunkRows {
        times,
        leads: leads.collect(),
    };
    let did = "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e".parse()?;
    let lead = |name: &str| Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 1024,
        unit: "mV".into(),
        bits: 11,
    };
    let meta = ChunkMeta {
        boot: 1,
        clock: ChunkClock {
            offset_ns: 0,
            quality: ClockKind::Synced,
        },
        did,
        end_ns: start_ns + SLOT_NS,
        first_ns: start_ns,
        index: 0,
        jitter_ns: (0, 0),
        lane: Lane::Live,
        leads: vec![lead("MLII"), lead("V5")],
        missing: Vec::new(),
        page_ns: 10_000_000_000,
        prev: genesis(&did),
        profile: Profile::Open,
        rate,
        received: (start_ns, start_ns + SLOT_NS),
        rows: u32::try_from(rows.len()).unwrap_or(0),
        seq: (0, 299),
        slot_len_ns: SLOT_NS,
        slot_start_ns: start_ns,
        v: 1,
    };
    let mut meta = meta;
    let last = rows.times.last().copied().unwrap_or(start_ns);
    meta.end_ns = (last + rate.after_ns(1)?).min(start_ns + SLOT_NS);
    Ok((meta, rows))
}

/// Best of many runs, in microseconds.
fn best_us(clock: &dyn Clock, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut best = u64::MAX;
    for _ in 0..40 {
        let from = clock.mono_ns();
        work()?;
        best = best.min(clock.mono_ns() - from);
    }
    Ok(best as f64 / 1000.0)
}

fn main() -> Outcome<()> {
    let path = std::env::args().nth(1);
    let path = path.ok_or_else(|| Failure::bad_input("usage: measure RECORD.dat"))?;
    let bytes = std::fs::read(&path).map_err(|e| Failure::os(&path, &e))?;
    let leads = read_212(&bytes);
    let clock: Arc<dyn Clock> = Arc::new(OsClock);
    let start_ns = 1_700_000_100_000_000_000;
    let (mut file_bits, mut samples, mut files) = (0_usize, 0_usize, Vec::<Bytes>::new());
    let mut seal_us = 0.0;
    for n in 0..6 {
        let (meta, rows) = chunk(&leads, n * 108_000, start_ns)?;
        seal_us = best_us(clock.as_ref(), || {
            seal(meta.clone(), [7; 32], &rows).map(drop)
        })?;
        let sealed = seal(meta, [7; 32], &rows)?;
        file_bits += sealed.bytes().len() * 8;
        samples += rows.len() * 2;
        files.push(sealed.bytes().clone());
    }
    let file = files.first().cloned().unwrap_or_default();
    let span = |from: i64| Span {
        from_ns: start_ns + from,
        until_ns: start_ns + from + 10_000_000_000,
    };
    let open_us = best_us(clock.as_ref(), || open(file.clone()).map(drop))?;
    let two_us = best_us(clock.as_ref(), || {
        read_span(file.clone(), span(143_000_000_000), &[0, 1]).map(drop)
    })?;
    println!(
        "page {DATA_PAGE_S} s, zstd {ZSTD_LEVEL}: {:.3} bits per sample, {} bytes a chunk; seal {seal_us:.0} us, \
         open {open_us:.0} us, 10 s of two leads {two_us:.0} us",
        file_bits as f64 / samples as f64,
        file.len(),
    );
    Ok(())
}
