//! Rows T01, T02 and T04 of the list of bad inputs, as the windower meets them.

use chordae_base::{
    Rate, StreamPlan,
    record::{Place, WalRecord},
};
use chordae_chunker::core::{
    bucket::SealOrder, coverage::Coverage, deadlines::SealReason, windower::Windower,
};
use std::{collections::BTreeMap, sync::Arc};

use crate::{
    feed::{MS, Registry, S, T0, birth, did, frame, record},
    model::{HZ, orders},
};

struct Bench {
    windower: Windower,
    registry: Registry,
    position: u64,
    sealed: Vec<Arc<SealOrder>>,
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::with(StreamPlan::new(did(1), 10 * S));
        let mut windower = Windower::new(Coverage::default());
        windower.replayed();
        windower.record(1, &birth(1, HZ), &registry);
        Self {
            windower,
            registry,
            position: 1,
            sealed: Vec::new(),
        }
    }

    /// A second of samples from `t0_ns` on, received at `recv_ns`.
    fn arrives(&mut self, seq: u64, t0_ns: i64, recv_ns: i64) {
        self.position += 10;
        let f = record(&frame(1, seq, t0_ns, HZ), recv_ns, 0, Place::Live);
        self.windower
            .record(self.position, &WalRecord::Frame(f), &self.registry);
        self.sealed.extend(orders(&mut self.windower));
    }

    fn end(mut self) -> Vec<Arc<SealOrder>> {
        self.windower.stop();
        self.sealed.extend(orders(&mut self.windower));
        self.sealed
    }
}

/// Every row: (seq, sample) -> (slot, time), each once.
fn rows(all: &[Arc<SealOrder>]) -> BTreeMap<(u64, u32), (i64, i64)> {
    let rate = Rate::new(HZ, 1).unwrap();
    let mut found = BTreeMap::new();
    for order in all {
        let mut last = i64::MIN;
        for piece in &order.pieces {
            for k in piece.rows.clone() {
                let t = piece.times.at(k, piece.fact.samples, rate).unwrap();
                assert!(t > last, "strictly increasing in a chunk");
                last = t;
                let at = (order.key.cell.slot_start_ns, t);
                assert_eq!(found.insert((piece.fact.seq, k), at), None, "in one chunk");
            }
        }
    }
    found
}

/// T01: a leap second that a device repeats is a step of its clock: cut there, both seconds kept as claimed.
#[test]
fn t01_a_leap_second_cuts_the_chunk_and_keeps_both_seconds() {
    let mut bench = Bench::new();
    for (seq, at) in [(0, 0), (1, 1), (2, 1), (3, 2)] {
        bench.arrives(
            seq,
            T0 + at * S,
            T0 + i64::try_from(seq).unwrap() * S + 1100 * MS,
        );
    }
    let all = bench.end();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].reason, SealReason::ClockStep);
    let rows = rows(&all);
    assert_eq!(rows.len(), 4 * HZ as usize, "nothing is dropped");
    for k in [0, HZ - 1] {
        assert_eq!(rows[&(1, k)].1, rows[&(2, k)].1, "both as claimed");
    }
}

/// T02: the server's clock is set an hour back, a day ahead, or stands: our time never goes back, so chunks
/// still close, in the order of seq, and no row has another time than the device's.
#[test]
fn t02_chunks_close_whatever_the_servers_clock_does() {
    for jump in [-3600, 86_400, 0] {
        let mut bench = Bench::new();
        let mut now_ns = T0;
        for seq in 0..40_u64 {
            let wall = T0 + i64::try_from(seq).unwrap() * S + 1100 * MS;
            let wall = if seq < 15 { wall } else { wall + jump * S };
            // What `ingest::core::steady` makes of it: never back, at least half the time that has passed.
            now_ns = wall.max(now_ns + S / 2);
            bench.arrives(seq, T0 + i64::try_from(seq).unwrap() * S, now_ns);
        }
        let before_stop = bench.sealed.len();
        assert!(before_stop >= 1, "jump {jump}: a chunk was closed in life");
        let all = bench.end();
        let rows = rows(&all);
        assert_eq!(rows.len(), 40 * HZ as usize, "jump {jump}");
        for ((seq, _), (slot, t)) in &rows {
            let begun = T0 + i64::try_from(*seq).unwrap() * S;
            assert!((begun..begun + S).contains(t), "jump {jump}");
            assert_eq!(*slot, t - t.rem_euclid(10 * S));
        }
        let firsts: Vec<u64> = all.iter().map(|o| o.pieces[0].fact.seq).collect();
        assert!(firsts.is_sorted(), "jump {jump}: {firsts:?}");
    }
}

/// T04: the sample that lies exactly on the boundary is the first of the next slot, and in one chunk.
#[test]
fn t04_a_sample_on_the_boundary_begins_the_next_slot() {
    // A whole number of samples, so that the boundary falls on one.
    let half = i64::from(HZ / 2) * (S / i64::from(HZ));
    let mut bench = Bench::new();
    for seq in 0..20_u64 {
        let t0 = T0 + half + i64::try_from(seq).unwrap() * S;
        bench.arrives(seq, t0, t0 + 1100 * MS);
    }
    let all = bench.end();
    let rows = rows(&all);
    assert_eq!(rows.len(), 20 * HZ as usize);
    let mut on_the_edge = 0;
    for (slot, t) in rows.values() {
        assert!((*slot..slot + 10 * S).contains(t));
        on_the_edge += usize::from(t == slot && *slot > T0);
    }
    assert_eq!(
        on_the_edge, 2,
        "the boundaries at 10 and 20 s were met exactly"
    );
}

/// A device that says nothing for a year and goes on in its boot: the year is a hole in time and no frame of it
/// is made up; what it missed to send shows as missing seqs; nothing of the year before is held for it.
#[test]
fn a_year_of_silence_is_a_hole_and_the_boot_goes_on() {
    let year = 365 * 86_400 * S;
    let mut bench = Bench::new();
    bench.arrives(0, T0, T0 + 1100 * MS);
    bench.arrives(1, T0 + S, T0 + 2100 * MS);
    bench.windower.tick(T0 + year);
    assert_eq!(bench.windower.open_buckets().0, 0, "sealed long ago");
    // Seqs 2 to 6 were lost with the year.
    for (seq, at) in [(7, 0), (8, 1)] {
        bench.arrives(seq, T0 + year + at * S, T0 + year + at * S + 1100 * MS);
    }
    let all = bench.end();
    let rows = rows(&all);
    assert_eq!(rows.len(), 4 * HZ as usize);
    let slots: std::collections::BTreeSet<i64> = rows.values().map(|(slot, _)| *slot).collect();
    let slot = |t: i64| t - t.rem_euclid(10 * S);
    assert_eq!(
        slots.into_iter().collect::<Vec<_>>(),
        [slot(T0), slot(T0 + year)]
    );
    let seqs: Vec<u64> = all
        .iter()
        .flat_map(|o| &o.pieces)
        .map(|p| p.fact.seq)
        .collect();
    assert_eq!(
        seqs,
        [0, 1, 7, 8],
        "a reader sees that 2 to 6 are in no chunk"
    );
}
