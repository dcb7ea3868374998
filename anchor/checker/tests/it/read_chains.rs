//! Chains read for who makes `links/` anew: what is handed over, and what is not.

use chordae_chain::{finding::Code, link::Link};
use chordae_checker::{Chains, ReadChain, Verdict, read_chains};

use crate::house::{House, chunk, did, object, only};

fn read(house: &House) -> (Chains, Vec<ReadChain>) {
    let mut taken = Vec::new();
    let chains = read_chains(
        &house.disk,
        &house.root,
        &house.trust,
        &mut |_| {},
        &mut |chain| {
            taken.push(chain.clone());
            Ok(())
        },
    );
    (chains.unwrap(), taken)
}

fn links_of(house: &House, n: u8) -> Vec<Link> {
    let all = house.links.iter().filter(|link| link.did == did(n));
    all.cloned().collect()
}

#[test]
fn whole_streams_are_handed_over_as_they_were_linked() {
    let house = House::new();
    let (chains, taken) = read(&house);
    only(&chains.report, &[]);
    assert!(chains.proven && chains.report.verdict == Verdict::Ok);
    assert_eq!(chains.sessions.len(), 1);
    let want = [(1, 4), (2, 2)].map(|(n, last)| ReadChain {
        did: did(n),
        links: links_of(&house, n),
        proven_to: Some(last),
    });
    assert_eq!(taken, want);
}

#[test]
fn what_no_anchor_covers_is_handed_over_and_told() {
    let house = House::new();
    let last = links_of(&house, 2).pop().unwrap();
    let more = chunk(did(2), 3, last.digest());
    house.put(&object(2, 3), more.bytes());
    let (chains, taken) = read(&house);
    only(&chains.report, &[]);
    assert_eq!((taken[1].links.len(), taken[1].proven_to), (4, Some(2)));
}

#[test]
fn a_stream_with_a_chunk_that_is_not_its_own_is_not_handed_over() {
    let (one, other) = (object(1, 2), object(1, 3));
    let changes: [&dyn Fn(&House); 3] = [
        &|house| {
            let mut bent = house.get(&one);
            let middle = bent.len() / 2;
            bent[middle] ^= 1;
            house.put(&one, &bent);
        },
        &|house| house.put(&one, &house.get(&other)),
        &|house| house.remove(&one),
    ];
    for change in changes {
        let house = House::new();
        change(&house);
        let (chains, taken) = read(&house);
        assert!(
            chains.report.findings.iter().any(|f| f.object == one),
            "{:?}",
            chains.report.findings
        );
        assert_eq!(taken.len(), 1, "the other stream alone");
        assert_eq!(taken[0].did, did(2));
    }
}

#[test]
fn a_stream_whose_newest_chunk_is_gone_is_found_after_all() {
    let house = House::new();
    house.remove(&object(1, 4));
    let (chains, _) = read(&house);
    only(&chains.report, &[(&object(1, 4), Code::TruncatedTail)]);
}

#[test]
fn without_a_ledger_nothing_is_proven() {
    let house = House::new();
    house.remove("ledger/checkpoint");
    let (chains, _) = read(&house);
    assert!(!chains.proven && !chains.report.findings.is_empty());
}
