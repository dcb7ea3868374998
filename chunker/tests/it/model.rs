//! The windower against a plain model: whatever arrives in whatever order, every sample of every frame
//! ends in exactly one chunk, of the right did and slot, with times that increase within the chunk.

use std::{collections::BTreeMap, sync::Arc};

use chordae_base::{
    Did, Rate, StreamPlan,
    plan::{SlotRule, Tenure},
    record::{Place, WalRecord},
};
use chordae_chain::meta::Lane;
use chordae_chunker::core::{
    bucket::SealOrder,
    coverage::Coverage,
    windower::{Effect, Windower},
};
use proptest::prelude::*;

use crate::feed::{MS, Registry, S, T0, birth, did, frame, key, record};

/// One frame as a device sends it, and what happens to it on the way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    boot: u64,
    samples: u32,
    /// Difference of its t0 to the end of the frame before.
    jitter_ns: i64,
    /// How much later than its end it arrives.
    delay_ns: i64,
    late: bool,
    lost: bool,
    offset_ns: i64,
}

pub(crate) fn sent() -> impl Strategy<Value = Sent> {
    let jitter = prop_oneof![
        5 => Just(0),
        3 => -60 * MS..60 * MS,
        1 => -5 * S..5 * S,
        1 => Just(-30 * S),
    ];
    let delay = prop_oneof![5 => Just(100 * MS), 2 => 0..4 * S, 1 => 0..200 * S];
    let offset = prop_oneof![8 => Just(0), 1 => Just(7 * S), 1 => Just(-3)];
    (
        1u64..3,
        1u32..900,
        jitter,
        delay,
        any::<bool>(),
        0u8..12,
        offset,
    )
        .prop_map(
            |(boot, samples, jitter_ns, delay_ns, late, luck, offset_ns)| Sent {
                boot,
                samples,
                jitter_ns,
                delay_ns,
                late: late && luck < 4,
                lost: luck == 11,
                offset_ns,
            },
        )
}

/// A stream whose every frame overlaps the one before a little, so that every frame is spread; some come
/// in another order, some after a long silence.
pub(crate) fn overlapping() -> impl Strategy<Value = Sent> {
    let delay = prop_oneof![6 => Just(100 * MS), 3 => 0..5 * S, 1 => 100 * S..140 * S];
    (100u32..500, -49 * MS..0, delay, 0u8..20).prop_map(|(samples, jitter_ns, delay_ns, luck)| {
        let (late, lost) = (luck == 18, luck == 19);
        Sent {
            boot: 1,
            samples,
            jitter_ns,
            delay_ns,
            late,
            lost,
            offset_ns: 0,
        }
    })
}

pub(crate) const HZ: u32 = 125;

/// The records in order of arrival, and how many samples they hold.
pub(crate) fn arrivals(sent: &[Sent]) -> Vec<WalRecord> {
    let mut next: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    let mut frames = Vec::new();
    for s in sent {
        let (seq, end) = next.get(&s.boot).copied().unwrap_or((0, T0));
        let t0 = end + s.jitter_ns;
        let span = i64::from(s.samples) * S / i64::from(HZ);
        next.insert(s.boot, (seq + 1, t0 + span));
        if !s.lost {
            let place = if s.late { Place::Late } else { Place::Live };
            let mapped_end = t0 + span + s.offset_ns;
            frames.push((
                mapped_end + s.delay_ns,
                s,
                frame(s.boot, seq, t0, s.samples),
                place,
            ));
        }
    }
    frames.sort_by_key(|(at, ..)| *at);
    let mut now = T0;
    let mut out = vec![birth(1, HZ), birth(2, HZ)];
    for (at, s, frame, place) in frames {
        now = now.max(at);
        out.push(WalRecord::Frame(record(&frame, now, s.offset_ns, place)));
    }
    out
}

pub(crate) fn plan() -> StreamPlan {
    let mut plan = StreamPlan::new(did(1), 10 * S);
    plan.tenures.push(Tenure {
        from_ns: T0 + 13 * S + 1,
        did: did(2),
    });
    plan.slots.push(SlotRule {
        from_ns: T0 + 30 * S,
        len_ns: 30 * S,
    });
    plan
}

pub(crate) fn orders(windower: &mut Windower) -> Vec<Arc<SealOrder>> {
    let effects = windower.take_effects().into_iter();
    effects
        .map(|e| match e {
            Effect::Seal(order) => order,
            Effect::Stranded { why, .. } => panic!("stranded: {why}"),
        })
        .collect()
}

/// (boot, seq, sample) -> (did, time), each at most once; asserts what holds within a chunk.
type Stored = BTreeMap<(u64, u64, u32), (Did, i64)>;

fn store(stored: &mut Stored, order: &SealOrder, plan: &StreamPlan) {
    let cell = order.key.cell;
    let mut last = i64::MIN;
    let mut last_seq = None;
    for piece in &order.pieces {
        assert!(last_seq < Some(piece.fact.seq), "seqs ascend in a chunk");
        last_seq = Some(piece.fact.seq);
        assert_eq!(piece.fact.mapping, order.key.mapping);
        for k in piece.rows.clone() {
            let t = piece
                .times
                .at(k, piece.fact.samples, Rate::new(HZ, 1).unwrap())
                .unwrap();
            assert!(t > last, "times increase strictly");
            assert!(
                cell.slot_start_ns <= t && t < cell.end_ns(),
                "a row outside its slot"
            );
            assert_eq!(plan.did_at(t), cell.did, "a row of another did");
            assert_eq!(plan.slot_len_at(t), cell.slot_len_ns);
            last = t;
            let twice = stored.insert((order.key.boot, piece.fact.seq, k), (cell.did, t));
            assert!(
                twice.is_none(),
                "sample {k} of {} stored twice",
                piece.fact.seq
            );
        }
    }
    assert_eq!(order.pieces.last().unwrap().last_ns, last);
}

pub(crate) fn all_samples(records: &[WalRecord]) -> usize {
    let samples = records.iter().map(|r| match r {
        WalRecord::Frame(f) => f.samples as usize,
        _ => 0,
    });
    samples.sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_sample_ends_in_exactly_one_chunk(
        sent in prop::collection::vec(sent(), 1..60),
        every_ms in 50i64..3000,
    ) {
        let records = arrivals(&sent);
        let registry = Registry::with(plan());
        let mut windower = Windower::new(Coverage::default());
        windower.replayed();
        let mut stored = Stored::new();
        let mut now = T0;
        for (n, record) in records.iter().enumerate() {
            if let WalRecord::Frame(f) = record {
                while now + every_ms * MS <= f.recv_ns {
                    now += every_ms * MS;
                    windower.tick(now);
                }
            }
            windower.record(n as u64, record, &registry);
            for order in orders(&mut windower) {
                store(&mut stored, &order, &plan());
                windower.linked(&[order.id]);
            }
        }
        windower.stop();
        let rest = orders(&mut windower);
        for order in &rest {
            store(&mut stored, order, &plan());
        }
        let ids: Vec<u64> = rest.iter().map(|o| o.id).collect();
        windower.linked(&ids);
        prop_assert_eq!(stored.len(), all_samples(&records));
        prop_assert_eq!((windower.sealing(), windower.waiting()), (0, (0, 0)));
        // Nothing but the ends of the last two minutes is needed any more.
        windower.tick(now + 1000 * S);
        prop_assert_eq!(windower.floor(), records.len() as u64 - 1);
    }

    /// A coarse clock and a fine one cut alike: replay has no ticks.
    #[test]
    fn ticks_change_nothing(sent in prop::collection::vec(sent(), 1..60), every_ms in 50i64..3000) {
        let records = arrivals(&sent);
        let registry = Registry::with(plan());
        let run = |ticks: bool| {
            let mut windower = Windower::new(Coverage::default());
            let mut all = Vec::new();
            let mut now = T0;
            for (n, record) in records.iter().enumerate() {
                if let WalRecord::Frame(f) = record {
                    while ticks && now + every_ms * MS <= f.recv_ns {
                        now += every_ms * MS;
                        windower.tick(now);
                    }
                }
                windower.record(n as u64, record, &registry);
            }
            windower.tick(now.max(T0) + 1000 * S);
            for order in orders(&mut windower) {
                all.push((order.key, order.pieces.clone(), order.reason));
            }
            all
        };
        prop_assert_eq!(run(true), run(false));
    }

    /// A replan in the middle: rows from its time on are in the new did, all others in the old one.
    #[test]
    fn a_replan_moves_open_rows(
        sent in prop::collection::vec(sent(), 10..60), at in 0usize..60, from_s in 0i64..100,
    ) {
        let records = arrivals(&sent);
        let old = StreamPlan::new(did(1), 10 * S);
        let from_ns = T0 + from_s * S + 7;
        let mut new = old.clone();
        new.tenures.push(Tenure { from_ns, did: did(9) });
        let registry = Registry::with(old.clone());
        let mut windower = Windower::new(Coverage::default());
        windower.replayed();
        let (mut stored, mut changed) = (Stored::new(), false);
        for (n, record) in records.iter().enumerate() {
            if n == at && windower.may_replan(&key(), &new, from_ns).is_ok() {
                windower.replan(&key(), new.clone(), from_ns);
                changed = true;
            }
            windower.record(n as u64, record, &registry);
            for order in orders(&mut windower) {
                // Before the replan nothing at or after its time may have been sealed.
                store(&mut stored, &order, if changed { &new } else { &old });
                windower.linked(&[order.id]);
            }
        }
        windower.stop();
        for order in orders(&mut windower) {
            store(&mut stored, &order, if changed { &new } else { &old });
            windower.linked(&[order.id]);
        }
        prop_assert_eq!(stored.len(), all_samples(&records));
        for (did_of, t) in stored.values().filter(|_| changed) {
            prop_assert_eq!(*did_of == did(9), *t >= from_ns);
        }
        windower.tick(i64::MAX);
        prop_assert_eq!(windower.floor(), records.len() as u64 - 1);
    }
}

#[test]
fn the_model_meets_both_lanes_and_all_cuts() {
    // The negative control of the tests above: their input does reach the corners they are for.
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut seen = std::collections::BTreeSet::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        let tree = prop::collection::vec(sent(), 40..60)
            .new_tree(&mut runner)
            .unwrap();
        let mut windower = Windower::new(Coverage::default());
        let registry = Registry::with(plan());
        for (n, record) in arrivals(&tree.current()).iter().enumerate() {
            windower.record(n as u64, record, &registry);
        }
        windower.stop();
        for order in orders(&mut windower) {
            seen.insert(order.reason.as_str());
            seen.insert(if order.key.lane == Lane::Late {
                "late"
            } else {
                "live"
            });
            let spread = |p: &chordae_chunker::core::bucket::Piece| p.leans_on.is_some();
            if order.pieces.iter().any(spread) {
                seen.insert("spread");
            }
            if order.pieces.iter().any(|p| p.rows.start > 0) {
                seen.insert("split");
            }
        }
    }
    let want = [
        "age",
        "clock-step",
        "idle",
        "late",
        "live",
        "mapping",
        "slot-over",
        "split",
        "spread",
    ];
    for corner in want {
        assert!(seen.contains(corner), "{corner} never happened: {seen:?}");
    }
}
