//! The spool against a model: whatever the network does, a frame is owed until it is settled, and
//! comes back with the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chordae_device_sim::spool::{Item, Kept, Refusal, Settled, Spool};
use proptest::prelude::*;

const BOOT: u64 = 7;

fn frame(seq: u64) -> Kept {
    Kept {
        boot: BOOT,
        seq,
        t0_ns: seq as i64,
        samples: 1,
        digest: [seq as u8; 32],
        payload: Bytes::from(vec![seq as u8; 1 + seq as usize % 7]),
        again: false,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Keep,
    Hold(u64),
    /// A new connection, on which acknowledgements name frames, or packets.
    Connect(bool),
    Birth,
    HandOver(bool),
    Again(u64),
    TakeBack,
    Number,
    Ack(usize),
    Refuse(usize, bool),
    Durable(u64, u64),
    Nack(u64, bool),
    Known,
    Release,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Keep),
        1 => (1_u64..20).prop_map(Step::Hold),
        1 => any::<bool>().prop_map(Step::Connect),
        3 => Just(Step::Birth),
        6 => any::<bool>().prop_map(Step::HandOver),
        1 => (0_u64..30).prop_map(Step::Again),
        1 => Just(Step::TakeBack),
        6 => Just(Step::Number),
        5 => (0_usize..8).prop_map(Step::Ack),
        1 => ((0_usize..8), any::<bool>()).prop_map(|(i, b)| Step::Refuse(i, b)),
        3 => (0_u64..30, 0_u64..4).prop_map(|(a, n)| Step::Durable(a, a + n)),
        1 => (0_u64..30, any::<bool>()).prop_map(|(seq, b)| Step::Nack(seq, b)),
        1 => Just(Step::Known),
        1 => Just(Step::Release),
        2 => (1_u64..10).prop_map(Step::Wait),
    ]
}

/// The world outside: what was handed over, and packets that the client numbered, in order.
#[derive(Default)]
struct World {
    now: u64,
    next_seq: u64,
    next_pkid: u16,
    names: bool,
    /// When the birth may go, if it is wanted.
    birth: Option<u64>,
    handed: Vec<Item>,
    flying: BTreeMap<u16, Item>,
    settled: BTreeSet<u64>,
}

fn play(steps: Vec<Step>) -> (Spool, World) {
    let (mut spool, mut world) = (Spool::default(), World::default());
    spool.born(BOOT, Bytes::from_static(b"birth"));
    world.birth = Some(0);
    for step in steps {
        take(&mut spool, &mut world, step);
        let owed = world.next_seq - world.settled.len() as u64;
        assert_eq!(
            spool.frames() as u64,
            owed,
            "a frame is owed until it is settled"
        );
        assert_eq!(spool.flying(), world.handed.len() + world.flying.len());
        let size = |seq: &u64| frame(*seq).payload.len();
        let owed = (0..world.next_seq).filter(|s| !world.settled.contains(s));
        assert_eq!(spool.bytes(), owed.map(|s| size(&s)).sum::<usize>());
        let up: BTreeSet<u64> = world
            .handed
            .iter()
            .chain(world.flying.values())
            .filter_map(|item| match item {
                Item::Frame(seq) if !world.settled.contains(seq) => Some(*seq),
                _ => None,
            })
            .collect();
        assert!(spool.flying_bytes() <= up.iter().map(size).sum());
    }
    (spool, world)
}

fn take(spool: &mut Spool, world: &mut World, step: Step) {
    let nth = |flying: &BTreeMap<u16, Item>, i: usize| flying.keys().nth(i).copied();
    match step {
        Step::Keep | Step::Hold(_) => {
            let until = match step {
                Step::Hold(ns) => world.now + ns,
                _ => 0,
            };
            spool.keep(frame(world.next_seq), until);
            world.next_seq += 1;
        }
        Step::Connect(names) => {
            spool.disconnected();
            spool.connected(names);
            world.names = names;
            world.birth = Some(0);
            world.handed.clear();
            world.flying.clear();
        }
        Step::Birth => {
            let due = world.birth.is_some_and(|at| at <= world.now);
            let handed = spool.hand_birth(world.now);
            assert_eq!(handed.map(|(boot, _)| boot), due.then_some(BOOT));
            if due {
                world.birth = None;
                world.handed.push(Item::Birth(BOOT));
            }
        }
        Step::HandOver(skip) => {
            if let Some((place, kept)) = spool.hand_over(world.now, skip) {
                assert_eq!(world.birth, None, "the birth goes first");
                assert_eq!(kept, frame(kept.seq), "the same bytes every time");
                assert!(
                    !world.settled.contains(&kept.seq),
                    "what is settled is never sent"
                );
                assert_eq!(place, kept.seq, "here places and seqs are the same");
                world.handed.push(Item::Frame(place));
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
        Step::Number if world.names => {}
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
                let nothing = spool.acknowledged(60_000);
                return assert_eq!(nothing, None, "an unknown id settles nothing");
            };
            let item = world.flying.remove(&pkid).unwrap();
            settle(world, item, spool.acknowledged(pkid).unwrap());
        }
        Step::Refuse(i, later) => {
            let Some(pkid) = nth(&world.flying, i) else {
                return;
            };
            let item = world.flying.remove(&pkid).unwrap();
            let settled = spool.refused(pkid, how(world, later)).unwrap();
            turn_down(world, item, settled, later);
        }
        Step::Durable(first, last) => {
            for (item, settled) in named(world, first, last, |_| spool.durable(BOOT, first, last)) {
                settle(world, item, settled);
            }
        }
        Step::Nack(seq, later) => {
            let how = how(world, later);
            let refuse = |_: &mut World| spool.refused_by_name(BOOT, seq, seq, how);
            for (item, settled) in named(world, seq, seq, refuse) {
                turn_down(world, item, settled, later);
            }
        }
        Step::Known => {
            let here = world.handed.iter().position(|i| *i == Item::Birth(BOOT));
            let here = here.filter(|_| world.names);
            let settled = spool.known(BOOT);
            assert_eq!(settled.is_some(), here.is_some());
            here.map(|at| world.handed.swap_remove(at));
        }
        Step::Release => spool.release(),
        Step::Wait(ns) => world.now += ns,
    }
}

fn how(world: &World, later: bool) -> Refusal {
    if later {
        Refusal::Until(world.now + 5)
    } else {
        Refusal::ForGood
    }
}

/// What an answer by name settles must be what was handed over of these, or of what is settled already.
fn named(
    world: &mut World,
    first: u64,
    last: u64,
    answer: impl FnOnce(&mut World) -> Vec<Settled>,
) -> Vec<(Item, Settled)> {
    let answered = answer(world);
    if !world.names {
        assert_eq!(answered, []);
        return Vec::new();
    }
    let settled = world.settled.clone();
    let hit = |item: &Item| match item {
        Item::Frame(seq) => (first..=last).contains(seq) || settled.contains(seq),
        _ => false,
    };
    let (hits, rest): (Vec<Item>, Vec<Item>) = world.handed.iter().partition(|i| hit(i));
    world.handed = rest;
    let mut items: Vec<Item> = answered.iter().map(|s| s.item).collect();
    items.sort();
    let mut hits_sorted = hits;
    hits_sorted.sort();
    assert_eq!(items, hits_sorted);
    answered.into_iter().map(|s| (s.item, s)).collect()
}

fn settle(world: &mut World, item: Item, settled: Settled) {
    let expected = match item {
        Item::Frame(seq) if world.settled.insert(seq) => Some(frame(seq)),
        _ => None,
    };
    let what = (settled.item, settled.frame);
    assert_eq!(what, (item, expected), "a frame is settled once");
}

fn turn_down(world: &mut World, item: Item, settled: Settled, later: bool) {
    if !later {
        return settle(world, item, settled);
    }
    assert_eq!((settled.item, settled.frame), (item, None));
    if item == Item::Birth(BOOT) {
        world.birth = Some(world.now + 5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_is_owed_until_it_is_settled(steps in prop::collection::vec(step(), 0..120)) {
        let (mut spool, mut world) = play(steps);
        // Then the network behaves: everything owed goes out and is settled.
        take(&mut spool, &mut world, Step::Connect(false));
        take(&mut spool, &mut world, Step::Release);
        take(&mut spool, &mut world, Step::Birth);
        take(&mut spool, &mut world, Step::Number);
        take(&mut spool, &mut world, Step::Ack(0));
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
    let mut over = |now, skip| spool.hand_over(now, skip).map(|(_, f)| f.seq);
    assert_eq!(over(50, true), Some(2));
    assert_eq!(over(50, false), Some(1));
    assert_eq!(over(50, false), None);
    assert_eq!((spool.next_ns(), spool.oldest_ns()), (Some(100), Some(50)));
    let last = spool.hand_over(100, true).map(|(_, f)| f.seq);
    assert_eq!(last, Some(0), "nothing there to overtake it");
}

#[test]
fn the_births_of_all_that_is_owed_go_out_again_and_no_other() {
    let mut spool = Spool::default();
    let births = |spool: &mut Spool| {
        let mut sent = Vec::new();
        while let Some((boot, _)) = spool.hand_birth(0) {
            sent.push(boot);
        }
        sent
    };
    spool.born(3, Bytes::from_static(b"old"));
    spool.keep(
        Kept {
            boot: 3,
            ..frame(0)
        },
        0,
    );
    spool.born(9, Bytes::from_static(b"new"));
    spool.connected(true);
    assert_eq!(spool.hand_over(0, false), None, "births first");
    assert_eq!(births(&mut spool), [3, 9]);
    assert!(spool.hand_over(0, false).is_some());
    // The same seq of another boot settles nothing.
    assert_eq!(spool.durable(9, 0, 5), []);
    assert_eq!(spool.durable(3, 0, 5).len(), 1);
    spool.disconnected();
    spool.connected(false);
    assert_eq!(births(&mut spool), [9]);
}
