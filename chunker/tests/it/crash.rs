//! Crashes as the core sees them: state is lost, some orders were linked (heard of or not), the WAL was
//! trimmed somewhere at or below the floor. Whatever the luck, replay must store every sample exactly
//! once, with the times that it would have had.
//!
//! The negative control forgets coverage and must store samples twice.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chordae_base::{
    Did, Digest, Outcome, Rate,
    record::{StateRecord, WalRecord},
};
use chordae_chain::meta::ChunkMeta;
use chordae_chunker::{
    Stored, Tip,
    core::{bucket::SealOrder, coverage::Coverage, windower::Windower},
    seal::build::meta,
};
use proptest::prelude::*;

use crate::{
    feed::{MS, Registry, S, T0},
    model::{HZ, all_samples, arrivals, orders, overlapping, plan, sent},
};

/// What lies on the disk.
#[derive(Default)]
struct History {
    /// Metadata and times of every linked chunk.
    linked: Vec<(Arc<ChunkMeta>, Vec<i64>)>,
    /// Every stored copy of (boot, seq, sample).
    stored: BTreeMap<(u64, u64, u32), Vec<(Did, i64)>>,
}

impl History {
    fn link(&mut self, order: &SealOrder) {
        let next_index = self.linked.len() as u64;
        let tip = Tip {
            next_index,
            prev: Digest([0; 32]),
        };
        let mut times = Vec::new();
        for piece in &order.pieces {
            for k in piece.rows.clone() {
                let t = piece
                    .times
                    .at(k, piece.fact.samples, Rate::new(HZ, 1).unwrap())
                    .unwrap();
                let copies = self
                    .stored
                    .entry((order.key.boot, piece.fact.seq, k))
                    .or_default();
                copies.push((order.key.cell.did, t));
                times.push(t);
            }
        }
        self.linked
            .push((Arc::new(meta(order, tip).unwrap()), times));
    }
}

/// What a start finds; the index is the place in the list.
pub(crate) struct Linked(pub(crate) Vec<(Arc<ChunkMeta>, Vec<i64>)>);

impl Stored for Linked {
    fn metas(&self) -> Vec<Arc<ChunkMeta>> {
        self.0.iter().map(|(meta, _)| Arc::clone(meta)).collect()
    }

    fn times(&self, _: &Did, index: u64) -> Outcome<Vec<i64>> {
        Ok(self.0[index as usize].1.clone())
    }
}

/// One run of the process, and how it ends.
#[derive(Debug, Clone)]
struct Life {
    /// Records that arrive in it.
    records: usize,
    /// Links lag this many records behind their orders.
    lag: usize,
    /// How many orders that wait are linked at the crash without anybody hearing of it.
    unheard: usize,
    /// How many records below the floor survive trimming.
    untrimmed: usize,
    every_ms: i64,
}

fn life() -> impl Strategy<Value = Life> {
    (0usize..30, 0usize..12, 0usize..4, 0usize..20, 50i64..3000).prop_map(
        |(records, lag, unheard, untrimmed, every_ms)| Life {
            records,
            lag,
            unheard,
            untrimmed,
            every_ms,
        },
    )
}

/// Links follow at once and the WAL is trimmed to the byte: as little as possible is left to replay.
fn tight() -> impl Strategy<Value = Life> {
    (0usize..15, 0usize..2, 0usize..2).prop_map(|(records, lag, unheard)| Life {
        records,
        lag,
        unheard,
        untrimmed: 0,
        every_ms: 100,
    })
}

struct Run {
    windower: Windower,
    waiting: VecDeque<(usize, Arc<SealOrder>)>,
    now: i64,
}

impl Run {
    /// A start: coverage is folded, what is left of the WAL is replayed.
    fn start(history: &History, wal: &[WalRecord], kept: usize, seen: usize, covers: bool) -> Self {
        let coverage = if covers {
            Coverage::new(Box::new(Linked(history.linked.clone())))
        } else {
            Coverage::default()
        };
        let mut run = Self {
            windower: Windower::new(coverage),
            waiting: VecDeque::new(),
            now: T0,
        };
        // Every segment begins with the births that trimmed ones held.
        let births = wal.iter().filter_map(|r| match r {
            WalRecord::Birth(b) => Some(b.clone()),
            _ => None,
        });
        let state = StateRecord {
            births: births.collect(),
            ingest: Vec::new(),
        };
        let registry = Registry::with(plan());
        run.windower
            .record(position(kept) - 1, &WalRecord::State(state), &registry);
        for (n, record) in wal.iter().enumerate().take(seen).skip(kept) {
            run.windower.record(position(n), record, &registry);
        }
        run.windower.replayed();
        run.take(seen);
        run
    }

    fn take(&mut self, at: usize) {
        self.waiting
            .extend(orders(&mut self.windower).into_iter().map(|o| (at, o)));
    }

    /// Links what has waited long enough, oldest first.
    fn link(&mut self, history: &mut History, at: usize, lag: usize) {
        let due = |(since, _): &(usize, Arc<SealOrder>)| *since + lag <= at;
        while self.waiting.front().is_some_and(due) {
            let (_, order) = self.waiting.pop_front().unwrap();
            history.link(&order);
            self.windower.linked(&[order.id]);
        }
    }
}

fn position(n: usize) -> u64 {
    10 * (n as u64 + 1)
}

/// Plays lives one after the other over a WAL, then an orderly end.
fn play(wal: &[WalRecord], lives: &[Life], covers: bool) -> History {
    let mut history = History::default();
    let (mut kept, mut seen) = (0, 0);
    let registry = Registry::with(plan());
    let rest = Life {
        records: wal.len(),
        lag: 3,
        unheard: 0,
        untrimmed: 0,
        every_ms: 100,
    };
    for (n, life) in lives.iter().chain([&rest]).enumerate() {
        let mut run = Run::start(&history, wal, kept, seen, covers);
        for _ in 0..life.records {
            let Some(record) = wal.get(seen) else { break };
            if let WalRecord::Frame(f) = record {
                run.now = run.now.max(T0);
                while run.now + life.every_ms * MS <= f.recv_ns {
                    run.now += life.every_ms * MS;
                    run.windower.tick(run.now);
                }
            }
            run.windower.record(position(seen), record, &registry);
            seen += 1;
            run.take(seen);
            run.link(&mut history, seen, life.lag);
        }
        if n < lives.len() {
            // The crash. Linked, but nobody heard: the floor does not know.
            let floor = usize::try_from(run.windower.floor() / 10)
                .unwrap()
                .saturating_sub(1);
            for (_, order) in run.waiting.iter().take(life.unheard) {
                history.link(order);
            }
            kept = kept.max(floor.min(seen).saturating_sub(life.untrimmed));
        } else {
            run.windower.stop();
            run.take(seen);
            run.link(&mut history, usize::MAX, 0);
            assert_eq!(run.windower.sealing(), 0);
        }
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_sample_is_stored_exactly_once_whatever_is_lost(
        sent in prop::collection::vec(sent(), 1..60),
        lives in prop::collection::vec(life(), 1..5),
    ) {
        exactly_once(&arrivals(&sent), &lives)?;
    }

    #[test]
    fn frames_that_lean_on_each_other_are_stored_exactly_once(
        sent in prop::collection::vec(overlapping(), 20..60),
        lives in prop::collection::vec(tight(), 2..8),
    ) {
        exactly_once(&arrivals(&sent), &lives)?;
    }
}

fn exactly_once(wal: &[WalRecord], lives: &[Life]) -> Result<(), TestCaseError> {
    let history = play(wal, lives, true);
    let mut before: Option<((u64, u64), i64)> = None;
    for ((boot, seq, k), copies) in &history.stored {
        prop_assert_eq!(copies.len(), 1, "sample {} of {} of boot {}", k, seq, boot);
        // Parts of a frame that were sealed in different lives still follow each other.
        let t = copies[0].1;
        if let Some((frame, last)) = before {
            prop_assert!(
                frame != (*boot, *seq) || last < t,
                "times of a frame go back"
            );
        }
        before = Some(((*boot, *seq), t));
    }
    prop_assert_eq!(history.stored.len(), all_samples(wal));
    Ok(())
}

#[test]
fn without_coverage_samples_are_stored_twice() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut twice = 0;
    for _ in 0..30 {
        let sent = prop::collection::vec(sent(), 30..60)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let life = Life {
            records: 25,
            lag: 0,
            unheard: 1,
            untrimmed: 20,
            every_ms: 100,
        };
        let history = play(&arrivals(&sent), &[life.clone(), life], false);
        twice += usize::from(history.stored.values().any(|copies| copies.len() > 1));
    }
    assert!(
        twice > 10,
        "only {twice} of 30 runs stored a sample twice: the test sees nothing"
    );
}

#[test]
fn the_end_of_a_frame_is_kept_while_a_half_stored_frame_leans_on_it() {
    // Frame 1 is spread against frame 0 and lies in two slots. Slot A is linked; frame 0 is covered, but
    // the WAL must keep it, or replay would give frame 1 its claimed times and lose a row.
    use crate::feed::{birth, frame, record};
    use chordae_base::record::Place;
    let at = |seq: u64, t0: i64| {
        let f = frame(1, seq, t0, 125);
        let recv = t0 + S + 100 * MS;
        WalRecord::Frame(record(&f, recv, 0, Place::Live))
    };
    let registry = Registry::with(chordae_base::StreamPlan::new(crate::feed::did(1), 10 * S));
    let mut windower = Windower::new(Coverage::default());
    windower.record(10, &birth(1, HZ), &registry);
    windower.record(20, &at(0, T0 + 8500 * MS), &registry);
    windower.record(30, &at(1, T0 + 9460 * MS), &registry);
    // 200 s: longer than any end is remembered for its own sake.
    windower.tick(T0 + 17 * S);
    let first = orders(&mut windower);
    assert_eq!(first.len(), 1, "slot A only");
    assert_eq!(
        windower.linked(&[first[0].id])[0]
            .whole
            .iter()
            .collect::<Vec<_>>(),
        [(0, 0)]
    );
    assert_eq!(
        windower.floor(),
        20,
        "frame 0 is whole, but frame 1 leans on it"
    );
    windower.tick(T0 + 300 * S);
    let second = orders(&mut windower);
    assert_eq!(second.len(), 1);
    assert_eq!(windower.floor(), 20);
    let news = windower.linked(&[second[0].id]);
    assert_eq!(news[0].whole.iter().collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(windower.floor(), 30, "nothing is needed");
}
