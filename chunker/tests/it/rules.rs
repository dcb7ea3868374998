//! The written rules of formats.md 3, one by one, at their edges.

use chordae_base::{
    Span, StreamPlan,
    limits::CHUNK_ROWS_MAX,
    plan::{SlotRule, Tenure},
    record::{FrameRecord, Place, WalRecord},
};
use chordae_chain::meta::Lane;
use chordae_chunker::core::{
    bucket::SealOrder,
    coverage::Coverage,
    deadlines::{SealReason, grace_ns, stagger_ns},
    windower::Windower,
};
use std::sync::Arc;

use crate::{
    feed::{MS, Registry, S, T0, birth, did, frame, key, record, settled},
    model::orders,
};

/// A windower with one boot of 125 Hz on slots of 10 s, and its next position.
struct Bench {
    windower: Windower,
    registry: Registry,
    position: u64,
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::with(StreamPlan::new(did(1), 10 * S));
        let mut windower = Windower::new(Coverage::default());
        windower.replayed();
        windower.record(1, &birth(1, 125), &registry);
        Self {
            windower,
            registry,
            position: 1,
        }
    }

    /// A frame of one second, received `recv_ms` after T0.
    fn arrives(&mut self, seq: u64, t0_ms: i64, recv_ms: i64, place: Place) -> u64 {
        let f = frame(1, seq, T0 + t0_ms * MS, 125);
        self.takes(record(&f, T0 + recv_ms * MS, 0, place))
    }

    fn takes(&mut self, f: FrameRecord) -> u64 {
        self.position += 10;
        self.windower
            .record(self.position, &WalRecord::Frame(f), &self.registry);
        self.position
    }

    fn settles(&mut self, seq: u64, recv_ns: i64) {
        self.position += 10;
        let record = settled(1, seq, recv_ns);
        self.windower.record(self.position, &record, &self.registry);
    }

    fn sealed_by(&mut self, at_ms: i64) -> Vec<Arc<SealOrder>> {
        self.windower.tick(T0 + at_ms * MS);
        orders(&mut self.windower)
    }

    /// How far the seals of its did are staggered.
    fn stagger_ms(&self) -> i64 {
        stagger_ns(&did(1), 10 * S) / MS + 1
    }
}

fn seqs(order: &SealOrder) -> Vec<u64> {
    order.pieces.iter().map(|p| p.fact.seq).collect()
}

#[test]
fn a_live_frame_waits_two_seconds_for_a_missing_one() {
    let mut bench = Bench::new();
    bench.arrives(0, 0, 1100, Place::Live);
    bench.arrives(2, 2000, 3100, Place::Live);
    bench.windower.tick(T0 + 5099 * MS);
    assert_eq!(bench.windower.waiting().0, 1);
    // 1 comes in time: nobody was late, and no end was unknown.
    bench.arrives(1, 1000, 5099, Place::Live);
    assert_eq!(bench.windower.waiting().0, 0);
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    assert_eq!((all.len(), seqs(&all[0])), (1, vec![0, 1, 2]));
}

#[test]
fn what_comes_after_its_turn_is_late() {
    let mut bench = Bench::new();
    bench.arrives(0, 0, 1100, Place::Live);
    bench.arrives(2, 2000, 3100, Place::Live);
    bench.windower.tick(T0 + 5100 * MS);
    assert_eq!(bench.windower.waiting().0, 0, "its wait is over");
    bench.arrives(1, 1000, 5101, Place::Live);
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    let lanes: Vec<_> = all.iter().map(|o| (o.key.lane, seqs(o))).collect();
    assert_eq!(lanes, [(Lane::Live, vec![0, 2]), (Lane::Late, vec![1])]);
}

#[test]
fn a_live_bucket_is_sealed_when_its_slot_is_over_and_quiet_for_the_grace() {
    let mut bench = Bench::new();
    bench.arrives(0, 8000, 9100, Place::Live);
    let due = 9100 + 5000;
    assert!(bench.sealed_by(due - 1).is_empty());
    let sealed = bench.sealed_by(due + bench.stagger_ms());
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0].reason, SealReason::SlotOver);
    // Another live frame of that slot is late now.
    bench.arrives(1, 9000, 16_000, Place::Live);
    bench.windower.stop();
    assert_eq!(orders(&mut bench.windower)[0].key.lane, Lane::Late);
}

#[test]
fn a_bucket_that_never_rests_is_sealed_by_age() {
    let mut bench = Bench::new();
    let mut sealed = Vec::new();
    // Frames of 10 ms of sample time, one each second: the slot is over, but never quiet.
    for seq in 0..40u64 {
        let at = i64::try_from(seq).unwrap();
        let f = frame(1, seq, T0 + at * 16 * MS, 2);
        bench.takes(record(&f, T0 + at * S, 0, Place::Live));
        sealed.extend(orders(&mut bench.windower));
    }
    assert_eq!(sealed[0].reason, SealReason::Age);
    let opened_for = i64::try_from(seqs(&sealed[0]).len()).unwrap() * S;
    let (least, most) = (15 * S, 15 * S + bench.stagger_ms() * MS + S);
    assert!((least..=most).contains(&opened_for), "{opened_for}");
}

#[test]
fn the_grace_is_twice_the_longest_frame() {
    assert_eq!(grace_ns(S), 5 * S);
    assert_eq!(grace_ns(30 * S), 60 * S);
    assert_eq!(grace_ns(i64::MAX), i64::MAX);
}

#[test]
fn seals_are_staggered_by_a_tenth_of_the_slot_at_most_two_seconds() {
    let draws: Vec<i64> = (0..=255u8).map(|n| stagger_ns(&did(n), 10 * S)).collect();
    assert!(draws.iter().all(|d| (0..S).contains(d)));
    assert!(draws.iter().any(|d| *d > S / 2) && draws.iter().any(|d| *d < S / 2));
    assert!((0..=255u8).all(|n| stagger_ns(&did(n), 3600 * S) < 2 * S));
}

#[test]
fn a_late_bucket_is_sealed_when_idle_or_old() {
    let mut bench = Bench::new();
    bench.arrives(0, 0, 400_000, Place::Late);
    assert!(bench.sealed_by(409_999).is_empty());
    let idle = bench.sealed_by(410_000);
    assert_eq!((idle.len(), idle[0].reason), (1, SealReason::Idle));
    for n in 0..9i64 {
        let seq = u64::try_from(n).unwrap() + 1;
        bench.arrives(seq, 1000 + n * 1000, 420_000 + n * 9_000, Place::Late);
    }
    let old = orders(&mut bench.windower);
    assert_eq!((old.len(), old[0].reason), (1, SealReason::Age));
    assert_eq!(seqs(&old[0]), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn the_ninth_late_slot_seals_the_one_used_least_recently() {
    let mut bench = Bench::new();
    for slot in 0..8u64 {
        let t0 = i64::try_from(slot).unwrap() * 10_000;
        bench.arrives(slot, t0, 400_000 + t0 / 100, Place::Late);
    }
    // Slot 0 is used again, so slot 1 goes.
    bench.arrives(8, 5000, 401_000, Place::Late);
    assert!(orders(&mut bench.windower).is_empty());
    bench.arrives(9, 90_000, 401_100, Place::Late);
    // 9 follows 8 in seq, so neither waited.
    let sealed = orders(&mut bench.windower);
    assert_eq!((sealed.len(), seqs(&sealed[0])), (1, vec![1]));
    assert_eq!(sealed[0].reason, SealReason::LateSlots);
}

#[test]
fn a_late_bucket_orders_by_seq() {
    let mut bench = Bench::new();
    for (seq, at) in [(3u64, 0), (1, 100), (2, 200), (0, 300)] {
        let t0 = i64::try_from(seq).unwrap() * 1000;
        bench.arrives(seq, t0, 400_000 + at, Place::Late);
    }
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    assert_eq!((all.len(), seqs(&all[0])), (1, vec![0, 1, 2, 3]));
}

#[test]
fn a_chunk_is_cut_between_frames_at_the_greatest_number_of_rows() {
    let registry = Registry::with(StreamPlan::new(did(1), 3600 * S));
    let mut windower = Windower::new(Coverage::default());
    windower.record(1, &birth(1, 10_000), &registry);
    let samples = 60_000u32;
    for seq in 0..20u64 {
        let t0 = T0 + i64::try_from(seq).unwrap() * 6 * S;
        let f = record(&frame(1, seq, t0, samples), t0 + 6100 * MS, 0, Place::Live);
        windower.record(10 + seq, &WalRecord::Frame(f), &registry);
    }
    let sealed = orders(&mut windower);
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0].reason, SealReason::Rows);
    let rows = sealed[0].rows();
    assert!((CHUNK_ROWS_MAX..CHUNK_ROWS_MAX + samples as usize).contains(&rows));
    assert_eq!(rows % samples as usize, 0, "cut inside a frame");
}

#[test]
fn slots_are_half_open() {
    // Sample 0 of the second frame lies exactly on the slot's end.
    let mut bench = Bench::new();
    bench.arrives(0, 9000, 10_100, Place::Live);
    bench.arrives(1, 10_000, 11_100, Place::Live);
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    let spans: Vec<_> = all
        .iter()
        .map(|o| (o.key.cell.slot_start_ns - T0, seqs(o), o.end_ns() - T0))
        .collect();
    assert_eq!(spans, [(0, vec![0], 10 * S), (10 * S, vec![1], 11 * S)]);
}

#[test]
fn a_parked_frame_holds_the_wal_until_it_is_settled_or_recorded_again() {
    let mut bench = Bench::new();
    let parked = bench.arrives(0, 0, 1100, Place::Parked);
    let other = bench.arrives(1, 1000, 1200, Place::Parked);
    assert_eq!(bench.windower.floor(), parked);
    let again = bench.arrives(0, 0, 2000, Place::Live);
    assert_eq!(bench.windower.floor(), other);
    bench.position += 10;
    let record = settled(1, 1, T0 + 2100 * MS);
    bench
        .windower
        .record(bench.position, &record, &bench.registry);
    assert_eq!(bench.windower.floor(), again);
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    assert_eq!(
        (all.len(), seqs(&all[0])),
        (1, vec![0]),
        "stored once, the parked copy never"
    );
}

#[test]
fn a_frame_that_waits_holds_the_wal() {
    let mut bench = Bench::new();
    let held = bench.arrives(5, 0, 1100, Place::Live);
    bench.arrives(4, 0, 1200, Place::Parked);
    assert_eq!(bench.windower.floor(), held);
    assert!(bench.windower.needs(held));
}

#[test]
fn an_order_that_failed_keeps_its_frames_and_lets_others_go_on() {
    let mut bench = Bench::new();
    let first = bench.arrives(0, 0, 1100, Place::Live);
    bench.arrives(1, 10_000, 11_100, Place::Live);
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    bench.windower.failed(all[0].id);
    bench.windower.linked(&[all[1].id]);
    bench.windower.tick(T0 + 1000 * S);
    assert_eq!((bench.windower.gaps(), bench.windower.sealing()), (1, 0));
    assert_eq!(bench.windower.floor(), first);
}

#[test]
fn a_gap_keeps_its_frames_until_each_is_settled() {
    let mut bench = Bench::new();
    let first = bench.arrives(0, 0, 1100, Place::Live);
    bench.arrives(1, 1000, 2100, Place::Live);
    bench.windower.stop();
    let all = orders(&mut bench.windower);
    let gap = bench
        .windower
        .unsealable(all[0].id, "broken".into())
        .unwrap();
    assert_eq!(gap.frames.len(), 2);
    assert!(
        bench
            .windower
            .unsealable(all[0].id, "again".into())
            .is_none()
    );
    bench.windower.tick(T0 + 1000 * S);
    assert_eq!(bench.windower.floor(), first);
    for (seq, left) in [(1, 1), (0, 0), (0, 0)] {
        bench.settles(seq, T0 + 1000 * S);
        assert_eq!(bench.windower.gaps(), left);
    }
    assert!(bench.windower.floor() > gap.frames[1].1);
}

#[test]
fn a_frame_without_birth_or_did_is_stranded_and_kept() {
    use chordae_chunker::core::windower::Effect;
    let mut bench = Bench::new();
    let f = record(&frame(7, 0, T0, 125), T0 + S, 0, Place::Live);
    let position = bench.takes(f);
    let effects = bench.windower.take_effects();
    assert!(
        matches!(&effects[..], [Effect::Stranded { .. }]),
        "{effects:?}"
    );
    assert_eq!(bench.windower.floor(), position);
}

/// Found by the model under a seed: with eight late slots open, dividing the first bucket opened a ninth,
/// which sealed another under the old plan, rows after the replan's time and all.
#[test]
fn a_replan_with_every_late_slot_open_leaves_no_row_in_the_old_did() {
    let mut bench = Bench::new();
    for n in 0..8_u64 {
        let t0_ms = i64::try_from(n).unwrap() * 10_000;
        bench.arrives(n, t0_ms, 100_000, Place::Late);
    }
    bench.windower.tick(T0 + 103 * S);
    let from_ns = T0 + 500 * MS;
    let mut plan = StreamPlan::new(did(1), 10 * S);
    plan.tenures.push(Tenure {
        from_ns,
        did: did(9),
    });
    bench.windower.may_replan(&key(), &plan, from_ns).unwrap();
    bench.windower.replan(&key(), plan, from_ns);
    let mut all = orders(&mut bench.windower);
    bench.windower.stop();
    all.extend(orders(&mut bench.windower));
    let rows: usize = all.iter().map(|o| o.rows()).sum();
    assert_eq!(rows, 8 * 125);
    for order in all {
        let after = order.pieces[0].first_ns >= from_ns;
        assert_eq!(order.key.cell.did == did(9), after, "{:?}", order.key);
    }
}

#[test]
fn a_replan_is_refused_below_sealed_rows_and_off_the_grid() {
    let mut bench = Bench::new();
    bench.arrives(0, 0, 1100, Place::Live);
    bench.windower.stop();
    let order = orders(&mut bench.windower).remove(0);
    let old = StreamPlan::new(did(1), 10 * S);
    let from = |from_ns: i64| {
        let mut plan = old.clone();
        plan.tenures.push(Tenure {
            from_ns,
            did: did(2),
        });
        plan
    };
    let may = |w: &Windower, at: i64| w.may_replan(&key(), &from(at), at);
    // Sealing already counts; the last row's sample ends at T0 + 1 s.
    let refused = may(&bench.windower, T0 + S - 1).unwrap_err();
    assert!(refused.why.contains(&(T0 + S).to_string()), "{refused}");
    assert!(may(&bench.windower, T0 + S).is_ok());
    bench.windower.linked(&[order.id]);
    assert!(
        may(&bench.windower, T0 + S - 1).is_err(),
        "linked rows count too"
    );
    // A plan may not change what lies before its time.
    assert!(
        bench
            .windower
            .may_replan(&key(), &from(T0 + 5 * S), T0 + 6 * S)
            .is_err()
    );
    let mut slots = old;
    slots.slots.push(SlotRule {
        from_ns: T0 + 20 * S,
        len_ns: 60 * S,
    });
    assert!(
        bench
            .windower
            .may_replan(&key(), &slots, T0 + 20 * S)
            .is_err(),
        "not on the grid"
    );
    slots.slots[1].from_ns = T0 + 60 * S;
    assert!(
        bench
            .windower
            .may_replan(&key(), &slots, T0 + 60 * S)
            .is_ok()
    );
}

#[test]
fn coverage_forbids_a_replan_after_a_restart() {
    let mut bench = Bench::new();
    bench.arrives(0, 0, 1100, Place::Live);
    bench.windower.stop();
    let order = orders(&mut bench.windower).remove(0);
    let tip = chordae_chunker::Tip {
        next_index: 0,
        prev: chordae_base::Digest([0; 32]),
    };
    let meta = chordae_chunker::seal::build::meta(&order, tip).unwrap();
    let linked = crate::crash::Linked(vec![(Arc::new(meta), Vec::new())]);
    let windower = Windower::new(Coverage::new(Box::new(linked)));
    let plan = StreamPlan::new(did(1), 20 * S);
    assert!(windower.may_replan(&key(), &plan, T0).is_err());
    assert!(windower.may_replan(&key(), &plan, T0 + S).is_ok());
}

#[test]
fn jitter_is_recorded_between_neighbours_only() {
    let mut bench = Bench::new();
    for (seq, t0_ms) in [(0u64, 0i64), (1, 990), (2, 2000), (4, 4000)] {
        bench.arrives(seq, t0_ms, t0_ms + 1100, Place::Live);
    }
    bench.windower.stop();
    let order = orders(&mut bench.windower).remove(0);
    let tip = chordae_chunker::Tip {
        next_index: 3,
        prev: chordae_base::Digest([9; 32]),
    };
    let meta = chordae_chunker::seal::build::meta(&order, tip).unwrap();
    assert_eq!(meta.jitter_ns, (-10 * MS, 10 * MS));
    assert_eq!(
        (meta.seq, meta.missing.clone(), meta.index),
        ((0, 4), vec![(3, 3)], 3)
    );
    assert_eq!(meta.received, (T0 + 1100 * MS, T0 + 5100 * MS));
    let span = Span {
        from_ns: meta.first_ns,
        until_ns: meta.end_ns,
    };
    assert_eq!(
        span,
        Span {
            from_ns: T0,
            until_ns: T0 + 5000 * MS
        }
    );
}
