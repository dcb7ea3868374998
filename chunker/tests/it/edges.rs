//! Crashes that random lives found, told one by one: a frame that the WAL still holds while the frame
//! it leaned on is gone, and frames that replay leaves waiting.

use chordae_base::{
    Did, Failure, Outcome, StreamPlan,
    record::{Place, WalRecord},
};
use chordae_chain::meta::ChunkMeta;
use chordae_chunker::{
    Stored, Tip,
    core::{bucket::SealOrder, coverage::Coverage, windower::Windower},
    seal::build::meta,
};
use std::sync::Arc;

use crate::{
    crash::Linked,
    feed::{MS, Registry, S, T0, birth, did, frame, record},
    model::{HZ, orders},
};

/// One second from `at_ms` after T0.
fn second(seq: u64, at_ms: i64) -> WalRecord {
    let f = frame(1, seq, T0 + at_ms * MS, HZ);
    WalRecord::Frame(record(&f, T0 + at_ms * MS + 1100 * MS, 0, Place::Live))
}

fn registry() -> Registry {
    Registry::with(StreamPlan::new(did(1), 10 * S))
}

/// What a life seals from these records.
fn life(coverage: Coverage, records: &[WalRecord]) -> Vec<Arc<SealOrder>> {
    let mut windower = Windower::new(coverage);
    windower.record(1, &birth(1, HZ), &registry());
    for (n, record) in records.iter().enumerate() {
        windower.record(10 + n as u64, record, &registry());
    }
    windower.replayed();
    windower.stop();
    orders(&mut windower)
}

fn linked<'a>(orders: impl IntoIterator<Item = &'a Arc<SealOrder>>) -> Linked {
    let rate = chordae_base::Rate::new(HZ, 1).unwrap();
    let mut all = Vec::new();
    for (index, order) in orders.into_iter().enumerate() {
        let tip = Tip {
            next_index: index as u64,
            prev: chordae_base::Digest([0; 32]),
        };
        let rows = order
            .pieces
            .iter()
            .flat_map(|p| p.rows.clone().map(move |k| (p, k)));
        let times = rows.map(|(p, k)| p.times.at(k, p.fact.samples, rate).unwrap());
        all.push((Arc::new(meta(order, tip).unwrap()), times.collect()));
    }
    Linked(all)
}

/// A catalogue whose chunks cannot be read any more.
struct Unreadable(Linked);

impl Stored for Unreadable {
    fn metas(&self) -> Vec<Arc<ChunkMeta>> {
        self.0.metas()
    }

    fn times(&self, _: &Did, _: u64) -> Outcome<Vec<i64>> {
        Err(Failure::damaged("unreadable"))
    }
}

/// Frame 1 claims to begin 4 ms before the slot's end; spread against frame 0 it begins 4 ms after.
fn leaning() -> [WalRecord; 2] {
    [second(0, 9004), second(1, 9996)]
}

#[test]
fn a_whole_frame_is_known_though_the_one_it_leaned_on_is_gone() {
    let first = life(Coverage::default(), &leaning());
    let rows: Vec<usize> = first.iter().map(|o| o.rows()).collect();
    assert_eq!(rows, [125, 125], "frame 1 lies wholly in the second slot");
    let again = |stored: Box<dyn Stored>| life(Coverage::new(stored), &leaning()[1..]);
    assert_eq!(again(Box::new(linked(&first))).len(), 0, "stored twice");
    // The control: without the stored times nobody could know, and twice is better than never.
    assert_eq!(again(Box::new(Unreadable(linked(&first)))).len(), 1);
}

#[test]
fn a_first_part_that_was_never_linked_is_stored() {
    // Frame 0 never came: frame 1 has its claimed times and one row in the first slot.
    let first = life(Coverage::default(), &leaning()[1..]);
    let counts: Vec<usize> = first.iter().map(|o| o.rows()).collect();
    assert_eq!(counts, [1, 124]);
    // Only its second part was linked.
    let coverage = Coverage::new(Box::new(linked(&first[1..])));
    let again = life(coverage, &leaning()[1..]);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].rows(), again[0].key.cell), (1, first[0].key.cell));
}

#[test]
fn a_frame_that_replay_leaves_waiting_is_still_covered() {
    let records = [second(4, 0), second(5, 1000)];
    let first = life(Coverage::default(), &records);
    // Frame 4 is trimmed; frame 5 waits for it when replay ends, and the stop lets it go.
    let coverage = Coverage::new(Box::new(linked(&first)));
    assert_eq!(life(coverage, &records[1..]).len(), 0);
}
