//! The spool against a model: whatever the network does, a frame is owed until it is settled, and
//! comes back with the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chordae_device_sim::spool::{Item, Kept, Refusal, Spool};
use proptest::prelude::*;

fn frame(seq: u64) -> Kept {
    let payload = Bytes::from(vec![seq as u8; 1 + seq as usize % 7]);
    Kept {
        seq,
        t0_ns: seq as i64,
        samples: 1,
        digest: [seq as u8; 32],
        payload,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Keep,
    Hold(u64),
    Birth,
    HandOver(bool),
    Again(u64),
    TakeBack,
    Number,
    Ack(usize),
    Refuse(usize, bool),
    Disconnect,
    Release,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Keep),
        1 => (1_u64..20).prop_map(Step::Hold),
        1 => Just(Step::Birth),
        6 => any::<bool>().prop_map(Step::HandOver),
        1 => (0_u64..30).prop_map(Step::Again),
        1 => Just(Step::TakeBack),
        6 => Just(Step::Number),
        5 => (0_usize..8).prop_map(Step::Ack),
        1 => ((0_usize..8), any::<bool>()).prop_map(|(i, b)| Step::Refuse(i, b)),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Release),
        2 => (1_u64..10).prop_map(Step::Wait),
    ]
}

/// The world outside: packets that the client numbered, in order.
#[derive(Default)]
struct World {
    now: u64,
    next_seq: u64,
    next_pkid: u16,
    handed: Vec<Item>,
    flying: BTreeMap<u16, Item>,
    settled: BTreeSet<u64>,
}

fn play(steps: Vec<Step>) -> (Spool, World) {
    let (mut spool, mut world) = (Spool::default(), World::default());
    for step in steps {
        take(&mut spool, &mut world, step);
        let owed = world.next_seq - world.settled.len() as u64;
        assert_eq!(
            spool.frames() as u64,
            owed,
            "a frame is owed until it is settled"
        );
        assert_eq!(spool.flying(), world.handed.len() + world.flying.len());
        let bytes: usize = (0..world.next_seq)
            .filter(|s| !world.settled.contains(s))
            .map(|s| frame(s).payload.len())
            .sum();
        assert_eq!(spool.bytes(), bytes);
    }
    (spool, world)
}

fn take(spool: &mut Spool, world: &mut World, step: Step) {
    let nth = |flying: &BTreeMap<u16, Item>, i: usize| flying.keys().nth(i).copied();
    match step {
        Step::Keep | Step::Hold(_) => {
            let until = if let Step::Hold(ns) = step {
                world.now + ns
            } else {
                0
            };
            spool.keep(frame(world.next_seq), until);
            world.next_seq += 1;
        }
        Step::Birth => {
            spool.hand_birth(world.now);
            world.handed.push(Item::Birth);
        }
        Step::HandOver(skip) => {
            if let Some(kept) = spool.hand_over(world.now, skip) {
                assert_eq!(kept, frame(kept.seq), "the same bytes every time");
                assert!(
                    !world.settled.contains(&kept.seq),
                    "what is settled is never sent"
                );
                world.handed.push(Item::Frame(kept.seq));
            }
        }
        Step::Again(seq) => {
            if let Some(kept) = spool.hand_again(seq, world.now) {
                assert_eq!(kept, frame(seq));
                world.handed.push(Item::Frame(seq));
            }
        }
        Step::TakeBack => {
            // Only ever asked of a frame that was handed over last.
            if let Some(Item::Frame(_)) = world.handed.last() {
                spool.take_back();
                world.handed.pop();
            }
        }
        Step::Number => {
            world.next_pkid += 1;
            let item = spool.numbered(world.next_pkid);
            let expected = (!world.handed.is_empty()).then(|| world.handed.remove(0));
            assert_eq!(item, expected, "numbers come in the order of handing over");
            if let Some(item) = item {
                world.flying.insert(world.next_pkid, item);
            }
        }
        Step::Ack(i) => {
            let Some(pkid) = nth(&world.flying, i) else {
                assert_eq!(
                    spool.acknowledged(60_000),
                    None,
                    "an unknown id settles nothing"
                );
                return;
            };
            settle(
                world,
                pkid,
                spool.acknowledged(pkid).map(|s| (s.item, s.frame)),
            );
        }
        Step::Refuse(i, later) => {
            let Some(pkid) = nth(&world.flying, i) else {
                return;
            };
            let how = if later {
                Refusal::Until(world.now + 5)
            } else {
                Refusal::ForGood
            };
            let settled = spool.refused(pkid, how).map(|s| (s.item, s.frame));
            if later {
                assert_eq!(settled, world.flying.remove(&pkid).map(|item| (item, None)));
            } else {
                settle(world, pkid, settled);
            }
        }
        Step::Disconnect => {
            spool.disconnected();
            world.handed.clear();
            world.flying.clear();
        }
        Step::Release => spool.release(),
        Step::Wait(ns) => world.now += ns,
    }
}

fn settle(world: &mut World, pkid: u16, settled: Option<(Item, Option<Kept>)>) {
    let item = world.flying.remove(&pkid).unwrap();
    let expected = match item {
        Item::Frame(seq) if world.settled.insert(seq) => Some(frame(seq)),
        _ => None,
    };
    assert_eq!(settled, Some((item, expected)), "a frame is settled once");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_is_owed_until_it_is_settled(steps in prop::collection::vec(step(), 0..120)) {
        let (mut spool, mut world) = play(steps);
        // Then the network behaves: everything owed goes out and is settled.
        take(&mut spool, &mut world, Step::Disconnect);
        take(&mut spool, &mut world, Step::Release);
        let mut last = None;
        for _ in 0..world.next_seq {
            take(&mut spool, &mut world, Step::HandOver(false));
            if let Some(Item::Frame(seq)) = world.handed.first() {
                prop_assert!(last < Some(*seq), "after a loss in order of seq");
                last = Some(*seq);
            }
            take(&mut spool, &mut world, Step::Number);
            take(&mut spool, &mut world, Step::Ack(0));
        }
        prop_assert_eq!((spool.frames(), spool.flying(), spool.bytes()), (0, 0, 0));
        prop_assert_eq!(world.settled.len() as u64, world.next_seq);
    }
}

#[test]
fn held_frames_wait_and_an_overtaker_is_the_next() {
    let mut spool = Spool::default();
    spool.keep(frame(0), 100);
    spool.keep(frame(1), 0);
    spool.keep(frame(2), 0);
    assert_eq!(spool.hand_over(50, true).map(|f| f.seq), Some(2));
    assert_eq!(spool.hand_over(50, false).map(|f| f.seq), Some(1));
    assert_eq!(spool.hand_over(50, false), None);
    assert_eq!((spool.next_ns(), spool.oldest_ns()), (Some(100), Some(50)));
    assert_eq!(
        spool.hand_over(100, true).map(|f| f.seq),
        Some(0),
        "nothing there to overtake it"
    );
}
