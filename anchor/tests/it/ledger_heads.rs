//! Heads anchored together are found by their tags like those that stand alone, and are nothing without their file.

use bytes::Bytes;
use chordae_anchor::Ledger;
use chordae_base::{
    Did, Digest, FailureKind, Outcome,
    seams::{Disk, fake::FakeDisk},
};
use chordae_chain::{
    event::{self, Event},
    heads::{Head, HeadSet, file_name},
    link, merkle,
};

use crate::house::{DATA, PROVIDER, anchor, open, open_small, party};

const INDEX: u64 = 7;
/// More than a block of the index holds.
const MANY: u16 = 300;

fn did(n: u16) -> Did {
    let mut bytes = [1; 16];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    Did(bytes)
}

fn head(n: u16) -> Head {
    let digest = merkle::leaf_hash(&n.to_le_bytes());
    (link::tag(&did(n), INDEX), Digest(digest))
}

fn set(ns: impl Iterator<Item = u16>) -> HeadSet {
    HeadSet::new(ns.map(head).collect()).unwrap()
}

fn signed(event: &Event) -> Bytes {
    event::sign(event, &party(PROVIDER)).unwrap().into()
}

fn add_heads(set: &HeadSet) -> Bytes {
    let (root, count) = (set.root(), set.count());
    signed(&Event::AddHeads { root, count })
}

fn submit(ledger: &Ledger, set: &HeadSet) -> Outcome<u64> {
    ledger.keep(set)?;
    ledger.submit(add_heads(set))
}

/// Every head of the set is found in this entry, with its way to the root, and nothing beside.
fn all_found(ledger: &Ledger, set: &HeadSet, at: u64) {
    for n in 0..MANY {
        let found = ledger.tagged(&did(n), INDEX).unwrap().unwrap();
        let (tag, digest) = head(n);
        assert_eq!((found.digest, found.leaf_index), (digest, at));
        assert_eq!(found.entry, add_heads(set));
        let way = found.way(&did(n)).unwrap().unwrap();
        way.check(&(tag, digest), set.root(), set.count()).unwrap();
        assert!(ledger.tagged(&did(n), INDEX + 1).unwrap().is_none());
    }
    assert!(ledger.tagged(&did(MANY), INDEX).unwrap().is_none());
    let read = ledger.heads(&set.root()).unwrap();
    assert_eq!(HeadSet::decode(&read).unwrap(), *set);
}

#[test]
fn each_head_is_found_with_its_way_in_memory_and_in_the_index() {
    let disk = FakeDisk::new();
    let ledger = open_small(disk.clone(), 1000).unwrap();
    let heads = set(0..MANY);
    let at = submit(&ledger, &heads).unwrap();
    all_found(&ledger, &heads, at);
    assert_eq!(submit(&ledger, &heads).unwrap(), at, "it counts once");
    ledger.stop();
    // Read again from the log; then as runs.
    for run_entries in [1000, 1, 1] {
        let ledger = open_small(disk.clone(), run_entries).unwrap();
        all_found(&ledger, &heads, at);
        assert_eq!(submit(&ledger, &heads).unwrap(), at, "it counts once");
        ledger.stop();
    }
    assert!(!disk.list("/data/ledger.index".as_ref()).unwrap().is_empty());
}

#[test]
fn many_keys_of_few_entries_do_not_stay_in_memory() {
    let disk = FakeDisk::new();
    let ledger = open_small(disk.clone(), 100).unwrap();
    submit(&ledger, &set(0..MANY)).unwrap();
    ledger.stop();
    assert_eq!(disk.list("/data/ledger.index".as_ref()).unwrap().len(), 1);
}

#[test]
fn another_digest_under_a_tag_is_a_fork_however_it_is_anchored() {
    let ledger = open(FakeDisk::new()).unwrap();
    submit(&ledger, &set(0..10)).unwrap();
    let (tag, digest) = head(3);
    let content = vec![2; 60];
    let alone = |digest| {
        let content = content.clone();
        ledger.submit(signed(&Event::AddData {
            digest,
            tag,
            content,
        }))
    };
    let others = |digest| {
        let heads = vec![head(20), (tag, digest), head(21)];
        submit(&ledger, &HeadSet::new(heads).unwrap())
    };
    let size = ledger.size();
    for refused in [alone(Digest([9; 32])), others(Digest([9; 32]))] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Damaged);
        assert!(refused.why.contains("fork"), "{refused}");
    }
    assert_eq!(ledger.size(), size);
    // The controls: the same digest again is none.
    alone(digest).unwrap();
    others(digest).unwrap();
    let first = ledger.tagged(&did(3), INDEX).unwrap().unwrap();
    assert_eq!(first.leaf_index, 0);
    ledger.stop();
}

#[test]
fn heads_are_nothing_without_their_file() {
    let disk = FakeDisk::new();
    let ledger = open_small(disk.clone(), 1).unwrap();
    let heads = set(0..10);
    let refused = ledger.submit(add_heads(&heads)).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused, "not kept: {refused}");
    assert_eq!(ledger.size(), 0);
    let at = submit(&ledger, &heads).unwrap();
    ledger.submit(anchor(1)).unwrap();
    ledger.stop();
    let path = format!("{DATA}/ledger.heads/{}", file_name(&heads.root()));
    let whole = disk.peek(path.as_ref()).unwrap();
    let mut bent = whole.clone();
    bent[70] ^= 1;
    let named = |failure: chordae_base::Failure| {
        assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
        assert!(failure.why.contains(&file_name(&heads.root())), "{failure}");
    };
    // A start that reads the entry reads its heads. The keys have become a run; without it all entries are read.
    let without = disk.copy();
    for run in disk.list("/data/ledger.index".as_ref()).unwrap() {
        without.remove(&run.path).unwrap();
    }
    for bad in [&bent[..], &whole[..64], &[]] {
        without.put(path.as_ref(), bad);
        named(open(without.copy()).err().unwrap());
        // Once they are in the index, whoever looks for one of them meets what was done.
        disk.put(path.as_ref(), bad);
        let ledger = open_small(disk.clone(), 1).unwrap();
        named(ledger.tagged(&did(1), INDEX).unwrap_err());
        // The entry itself is whole.
        let leaf = event::leaf_hash(&add_heads(&heads));
        assert_eq!(ledger.place(&leaf).unwrap(), Some(at));
        ledger.stop();
    }
    disk.remove(path.as_ref()).unwrap();
    let ledger = open_small(disk.clone(), 1).unwrap();
    named(ledger.tagged(&did(1), INDEX).unwrap_err());
    ledger.stop();
    disk.put(path.as_ref(), &whole);
    let ledger = open_small(disk, 1).unwrap();
    assert!(
        ledger.tagged(&did(1), INDEX).unwrap().is_some(),
        "the control"
    );
    ledger.stop();
}
