//! Whole streams against a counted ledger, beside a model that looks at every chunk.

use std::collections::BTreeMap;

use chordae_base::{Did, Digest, Outcome, RangeSet};
use chordae_chain::{
    link::{Link, genesis},
    stream::{Anchored, ChunkClaim, LedgerReads, StreamVerdict, verify_stream},
};
use proptest::prelude::*;

const DID: Did = Did([7; 16]);

/// A ledger that anchors some heads and counts its questions.
#[derive(Default)]
struct Ledger {
    heads: BTreeMap<u64, Digest>,
    questions: u64,
}

impl Ledger {
    fn of(truth: &[Link], anchored: impl Fn(u64) -> bool) -> Self {
        let heads = truth.iter().filter(|link| anchored(link.index));
        Self {
            heads: heads.map(|link| (link.index, link.digest())).collect(),
            questions: 0,
        }
    }
}

impl LedgerReads for Ledger {
    fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>> {
        self.questions += 1;
        Ok(self.heads.range(..=upto).next_back().map(|(i, d)| (*i, *d)))
    }
}

/// A link that continues a chain; `seed` stands for the content of its chunk.
fn next(before: Option<&Link>, seed: u64) -> Link {
    let index = before.map_or(0, |link| link.index + 1);
    let mut content = [1; 32];
    content[..8].copy_from_slice(&seed.to_be_bytes());
    let slot = index as i64 * 10_000_000_000;
    Link {
        did: DID,
        index,
        slot_start_ns: slot,
        slot_len_ns: 10_000_000_000,
        first_ns: slot,
        end_ns: slot + 10_000_000_000,
        rows: 100,
        file_root: Digest(content),
        pages_root: Digest([2; 32]),
        prev: before.map_or_else(|| genesis(&DID), Link::digest),
    }
}

fn chain(len: u64) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for index in 0..len {
        links.push(next(links.last(), index));
    }
    links
}

fn claims(links: &[Link]) -> Vec<ChunkClaim> {
    let claim = |link: &Link| ChunkClaim {
        index: link.index,
        link: Some(link.clone()),
    };
    links.iter().map(claim).collect()
}

/// From place `from` on, `len` chunks that hang from what is claimed there and say something else.
fn forge(claims: &mut Vec<ChunkClaim>, from: u64, len: u64) {
    let mut before = claims
        .iter()
        .find(|c| from.checked_sub(1) == Some(c.index))
        .and_then(|c| c.link.clone());
    for index in from..from + len {
        let mut link = next(before.as_ref(), 1_000_000 + index);
        link.index = index;
        let claim = ChunkClaim {
            index,
            link: Some(link.clone()),
        };
        match claims.iter_mut().find(|c| c.index == index) {
            Some(place) => *place = claim,
            None => claims.push(claim),
        }
        before = Some(link);
    }
}

/// Changes what the chunk at a place says, if there is one.
fn change(claims: &mut [ChunkClaim], at: u64, how: impl Fn(&mut Link)) {
    let links = claims.iter_mut().filter(|c| c.index == at);
    links.filter_map(|c| c.link.as_mut()).for_each(how);
}

fn check(claims: &[ChunkClaim], ledger: &mut Ledger) -> StreamVerdict {
    let verdict = verify_stream(DID, claims, ledger).unwrap();
    assert_eq!(
        verdict.lookups, ledger.questions,
        "every question is counted"
    );
    verdict
}

fn set(indexes: impl IntoIterator<Item = u64>) -> RangeSet {
    let mut set = RangeSet::new();
    indexes.into_iter().for_each(|i| set.insert_range(i, i));
    set
}

fn log2(n: u64) -> u64 {
    u64::from(n.next_power_of_two().trailing_zeros())
}

#[test]
fn a_clean_stream_costs_one_lookup_however_long() {
    for len in [1, 10, 50, 360, 1000, 8640] {
        let truth = chain(len);
        for every in [1, 7] {
            let mut ledger = Ledger::of(&truth, |i| (len - 1 - i) % every == 0);
            let verdict = check(&claims(&truth), &mut ledger);
            assert!(verdict.is_proven(), "{len}: {verdict:?}");
            assert_eq!((verdict.lookups, verdict.anchored_to), (1, Some(len - 1)));
        }
    }
}

#[test]
fn a_forged_end_is_found_by_halving() {
    for len in [1, 10, 50, 360, 1000, 8640] {
        let truth = chain(len);
        let mut most = 0;
        for from in [0, 1, len / 3, len / 2, len - 1] {
            let from = from.min(len - 1);
            let mut forged = claims(&truth);
            forge(&mut forged, from, len - from);
            let verdict = check(&forged, &mut Ledger::of(&truth, |_| true));
            assert_eq!(verdict.bad, set(from..len), "{len} from {from}");
            assert_eq!(verdict.proven, set(0..from));
            assert_eq!(verdict.first_bad(), Some(from));
            assert!(
                verdict.lookups <= 1 + log2(len),
                "{len} from {from}: {}",
                verdict.lookups
            );
            most = most.max(verdict.lookups);
        }
        // Halving is really needed: no reader could do with the newest digest alone.
        assert!(len == 1 || most > 1);
    }
}

#[test]
fn chunks_altered_by_themselves_cost_one_lookup_each() {
    let truth = chain(8640);
    let bad = [1, 3, 700, 5000, 8638];
    let mut altered = claims(&truth);
    for at in bad {
        change(&mut altered, at, |link| link.file_root = Digest([9; 32]));
    }
    let verdict = check(&altered, &mut Ledger::of(&truth, |_| true));
    assert_eq!(verdict.bad, set(bad));
    assert_eq!(verdict.proven, set((0..8640).filter(|i| !bad.contains(i))));
    assert_eq!(verdict.lookups, 1 + bad.len() as u64);
    // The newest one has no successor that disowns it.
    let mut altered = claims(&truth);
    change(&mut altered, 8639, |link| link.rows = 99);
    let verdict = check(&altered, &mut Ledger::of(&truth, |_| true));
    assert_eq!(verdict.bad, set([8639]));
    assert_eq!(verdict.lookups, 1 + log2(8640));
}

#[test]
fn what_is_not_here_is_missing_and_what_is_not_anchored_unproven() {
    let truth = chain(50);
    let held = claims(&truth[..40]);
    // The end is gone: the ledger's newest head names what should be here.
    let verdict = check(&held, &mut Ledger::of(&truth, |_| true));
    assert_eq!(verdict.missing, set(40..50));
    assert_eq!((&verdict.proven, verdict.lookups), (&set(0..40), 2));
    assert!(!verdict.is_intact());
    // The end is not anchored yet: nothing is wrong, and nothing proves it.
    let verdict = check(&held, &mut Ledger::of(&truth, |i| i == 29));
    assert!(verdict.is_intact() && !verdict.is_proven());
    assert_eq!(
        (verdict.proven, verdict.unproven),
        (set(0..30), set(30..40))
    );
    // Nothing is anchored at all, and the files contradict each other all the same.
    let mut altered = held.clone();
    change(&mut altered, 20, |link| link.rows = 99);
    let verdict = check(&altered, &mut Ledger::default());
    assert!(!verdict.is_intact());
    assert_eq!((verdict.broken, verdict.unproven), (set([21]), set(0..40)));
    assert!(
        check(&held, &mut Ledger::default()).is_intact(),
        "the control"
    );
    // No chunks, and a ledger that knows of some.
    let verdict = check(&[], &mut Ledger::of(&truth, |i| i == 3));
    assert_eq!((verdict.missing, verdict.lookups), (set(0..4), 1));
    assert_eq!(check(&[], &mut Ledger::default()), {
        StreamVerdict {
            lookups: 1,
            ..StreamVerdict::default()
        }
    });
}

#[test]
fn between_two_anchored_heads_the_first_bad_one_is_narrowed_down() {
    let truth = chain(100);
    let anchored = |i: u64| i % 10 == 9;
    // Hanging together to the end of the stream: the head of the ten is the first that must be bad.
    let mut forged = claims(&truth);
    forge(&mut forged, 34, 66);
    let verdict = check(&forged, &mut Ledger::of(&truth, anchored));
    assert_eq!(
        (&verdict.proven, &verdict.unproven),
        (&set(0..30), &set(30..39))
    );
    assert_eq!(verdict.bad, set(39..100));
    // Altered alone, it is named by its successor, and what lies before it is unproven down to a head.
    let mut altered = claims(&truth);
    change(&mut altered, 34, |link| link.pages_root = Digest([9; 32]));
    let verdict = check(&altered, &mut Ledger::of(&truth, anchored));
    assert_eq!((verdict.bad, verdict.unproven), (set([34]), set(30..34)));
}

#[test]
fn a_chain_that_begins_or_belongs_elsewhere_is_bad_without_asking() {
    let truth = chain(3);
    for twist in [
        |link: &mut Link| link.did = Did([8; 16]),
        |link: &mut Link| link.index += 1,
        |link: &mut Link| {
            link.prev = if link.index == 0 {
                Digest([0; 32])
            } else {
                link.prev
            }
        },
    ] {
        let mut twisted = claims(&truth);
        change(&mut twisted, 0, twist);
        let verdict = check(&twisted, &mut Ledger::default());
        assert_eq!(verdict.bad, set([0]), "{verdict:?}");
    }
    // A ledger that answers beyond the question is not believed.
    struct Beyond;
    impl LedgerReads for Beyond {
        fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>> {
            Ok(Some((upto.saturating_add(1), Digest([3; 32]))))
        }
    }
    let verdict = verify_stream(DID, &claims(&truth), &mut Beyond).unwrap();
    assert!(verdict.proven.is_empty() && verdict.bad.is_empty());
}

/// One way to tamper with a stream.
#[derive(Debug, Clone, Copy)]
enum Tamper {
    File(u64),
    Meta(u64),
    Prev(u64),
    Swap(u64, u64),
    Drop(u64),
    Over(u64, u64),
    Twice(u64),
    Forge(u64, u64),
    Rubbish(u64),
}

fn apply(claims: &mut Vec<ChunkClaim>, tamper: Tamper, salt: u8) {
    let link_at = |claims: &[ChunkClaim], at: u64| {
        let claim = claims.iter().find(|c| c.index == at);
        claim.and_then(|c| c.link.clone())
    };
    let put = |claims: &mut Vec<ChunkClaim>, at: u64, link: Option<Link>| {
        if let Some(claim) = claims.iter_mut().find(|c| c.index == at) {
            claim.link = link;
        }
    };
    match tamper {
        Tamper::File(at) => change(claims, at, |link| link.file_root = Digest([salt; 32])),
        Tamper::Meta(at) => change(claims, at, |link| link.rows = 200 + u32::from(salt)),
        Tamper::Prev(at) => change(claims, at, |link| link.prev = Digest([salt; 32])),
        Tamper::Swap(a, b) => {
            let (first, second) = (link_at(claims, a), link_at(claims, b));
            put(claims, a, second);
            put(claims, b, first);
        }
        Tamper::Drop(at) => claims.retain(|c| c.index != at),
        Tamper::Over(a, b) => {
            let link = link_at(claims, a);
            put(claims, b, link);
        }
        Tamper::Twice(at) => {
            let again = claims.iter().find(|c| c.index == at).cloned();
            claims.extend(again);
        }
        Tamper::Forge(from, len) => forge(claims, from, len),
        Tamper::Rubbish(at) => put(claims, at, None),
    }
}

fn tampers(len: u64) -> impl Strategy<Value = Vec<Tamper>> {
    let at = 0..len;
    let one = prop_oneof![
        at.clone().prop_map(Tamper::File),
        at.clone().prop_map(Tamper::Meta),
        at.clone().prop_map(Tamper::Prev),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tamper::Swap(a, b)),
        at.clone().prop_map(Tamper::Drop),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tamper::Over(a, b)),
        at.clone().prop_map(Tamper::Twice),
        (at.clone(), 1..12u64).prop_map(|(from, more)| Tamper::Forge(from, more)),
        at.clone()
            .prop_map(move |from| Tamper::Forge(from, len - from)),
        at.prop_map(Tamper::Rubbish),
    ];
    prop::collection::vec(one, 0..6)
}

fn case() -> impl Strategy<Value = (u64, Vec<Tamper>, Vec<bool>, bool)> {
    (1..90u64).prop_flat_map(|len| {
        let mask = prop::collection::vec(any::<bool>(), len as usize);
        (Just(len), tampers(len), mask, any::<bool>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    /// Held against a model that compares each chunk with the true one.
    #[test]
    fn agrees_with_a_look_at_every_chunk((len, tampers, mask, dense) in case()) {
        let truth = chain(len);
        let mut held = claims(&truth);
        for (salt, tamper) in (1u8..).zip(&tampers) {
            apply(&mut held, *tamper, salt);
        }
        let anchored = |i: u64| dense || mask.get(i as usize) == Some(&true);
        let mut ledger = Ledger::of(&truth, anchored);
        let newest = ledger.heads.keys().next_back().copied();
        let verdict = check(&held, &mut ledger);

        let (mut good, mut wrong, mut twice) = (RangeSet::new(), RangeSet::new(), RangeSet::new());
        for claim in &held {
            if good.holds(claim.index) || wrong.holds(claim.index) {
                twice.insert(claim.index);
            } else if claim.link.as_ref() == truth.get(claim.index as usize) && claim.link.is_some() {
                good.insert(claim.index);
            } else {
                wrong.insert(claim.index);
            }
        }
        let top = held.iter().map(|c| c.index).max().max(newest);
        let nothing = (0..).take_while(|i| top.is_some_and(|top| *i <= top));
        let nothing = set(nothing.filter(|i| !good.holds(*i) && !wrong.holds(*i)));
        prop_assert_eq!(&verdict.missing, &nothing);
        prop_assert_eq!(&verdict.twice, &twice);
        prop_assert_eq!(verdict.anchored_to, newest);
        for claim in &held {
            let i = claim.index;
            let told = [&verdict.proven, &verdict.bad, &verdict.unproven].map(|set| set.holds(i));
            prop_assert_eq!(told.iter().filter(|told| **told).count(), 1, "{} is told once", i);
            // Nothing wrong is ever proven, nothing right ever bad.
            prop_assert!(!told[0] || good.holds(i), "{} is proven", i);
            prop_assert!(!told[1] || wrong.holds(i), "{} is bad", i);
            // An anchored head is judged.
            prop_assert!(!(told[2] && i < len && anchored(i)), "{} is anchored", i);
        }
        if dense && (wrong.iter().any(|(a, _)| a < len) || !twice.is_empty() || !nothing.is_empty()) {
            prop_assert!(!verdict.is_intact());
        }
        if dense && wrong.is_empty() && twice.is_empty() && nothing.is_empty() {
            prop_assert!(verdict.is_proven());
        }
        if tampers.is_empty() {
            prop_assert_eq!(verdict.lookups, 1);
            prop_assert!(verdict.is_intact());
        }
        let runs = 1 + held.len() as u64 - held.windows(2).filter(|pair| {
            let [a, b] = pair else { return false };
            let follows = |a: &Link, b: &Link| b.follows(Some(a)).is_ok();
            a.link.as_ref().zip(b.link.as_ref()).is_some_and(|(a, b)| follows(a, b))
        }).count() as u64;
        prop_assert!(verdict.lookups <= 1 + runs * (1 + log2(len + 12)));
    }
}
