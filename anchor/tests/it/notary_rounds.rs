//! Heads find their way into the log, once each, whatever dies in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chordae_anchor::{
    Ledger, Links, Notary, NotaryParts, NotarySettings, Patients, TrailHead, core::notary::Cadence,
};
use chordae_base::{
    Did, Digest, FailureKind, Outcome,
    seams::{
        Disk, Threads,
        fake::{FakeClock, FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How},
    },
};
use chordae_chain::{
    event::{self, ContentDg, Event},
    heads::HeadSet,
    link::{self, Link},
    seal::{self, Purpose},
};

use crate::house::{DATA, NOW_NS, PATIENT, PROVIDER, all_entries, keys, open_with, party};

/// Stands for storage's catalogue: what was linked, also after a crash.
#[derive(Clone, Default)]
struct Chains(Arc<Mutex<BTreeMap<Did, Vec<Link>>>>);

impl Chains {
    fn grow(&self, did: u8) -> Link {
        let mut chains = self.0.lock().unwrap();
        let chain = chains.entry(Did([did; 16])).or_default();
        let index = chain.len() as u64;
        let did = Did([did; 16]);
        let next = Link {
            did,
            index,
            slot_start_ns: 10_000_000_000 * index as i64,
            slot_len_ns: 10_000_000_000,
            first_ns: 10_000_000_000 * index as i64,
            end_ns: 10_000_000_000 * (index as i64 + 1),
            rows: 10,
            file_root: Digest([1; 32]),
            pages_root: Digest([2; 32]),
            prev: chain
                .last()
                .map_or_else(|| link::genesis(&did), Link::digest),
        };
        chain.push(next.clone());
        next
    }
}

impl Links for Chains {
    fn heads(&self) -> Vec<Link> {
        self.0
            .lock()
            .unwrap()
            .values()
            .filter_map(|chain| chain.last().cloned())
            .collect()
    }

    fn link(&self, did: &Did, index: u64) -> Outcome<Option<Link>> {
        let chains = self.0.lock().unwrap();
        Ok(chains
            .get(did)
            .and_then(|chain| chain.get(index as usize).cloned()))
    }
}

/// Did 1 has a patient, the others have none.
struct Owners;

impl Patients for Owners {
    fn seal_key_of(&self, did: &Did) -> Option<([u8; 32], [u8; 32])> {
        let patient = party(PATIENT);
        (did.0 == [1; 16]).then(|| (patient.sign_public(), patient.seal_public().unwrap()))
    }
}

#[derive(Clone)]
struct Trail(Arc<Mutex<Option<(Digest, u64)>>>);

impl TrailHead for Trail {
    fn head(&self) -> Option<(Digest, u64)> {
        *self.0.lock().unwrap()
    }
}

struct House {
    ledger: Ledger,
    notary: Notary,
    trail: Trail,
    clock: FakeClock,
}

fn start(disk: Arc<dyn Disk>, chains: &Chains, trail: Option<u64>) -> Outcome<House> {
    start_as(disk, chains, trail, 1000)
}

/// As [`start`]; with more streams than these, their heads go together.
fn start_as(
    disk: Arc<dyn Disk>,
    chains: &Chains,
    trail: Option<u64>,
    alone_streams: usize,
) -> Outcome<House> {
    let clock = FakeClock::new(NOW_NS);
    let ledger = open_with(Arc::clone(&disk), clock.clone(), keys())?;
    let trail = Trail(Arc::new(Mutex::new(trail.map(|n| (Digest([8; 32]), n)))));
    let parts = NotaryParts {
        disk,
        ledger: ledger.clone(),
        provider: party(PROVIDER),
        patients: Arc::new(Owners),
        links: Arc::new(chains.clone()),
        trail: Arc::new(trail.clone()),
        clock: Arc::new(clock.clone()),
        // Another stream of bytes at each start, as in life: what is sealed again differs.
        entropy: Arc::new(FakeEntropy::new(ledger.size())),
        threads: Threads::of_the_machine(),
    };
    let cadence = Cadence {
        anchor_every_ns: 10,
        audit_every_ns: 1_000_000,
        alone_streams,
    };
    let settings = NotarySettings {
        data_dir: Path::new(DATA).into(),
        cadence,
    };
    let notary = Notary::start(parts, &settings, &prometheus::Registry::new())?;
    Ok(House {
        ledger,
        notary,
        trail,
        clock,
    })
}

/// The add-data events of the log by tag, each with its content.
fn anchors(ledger: &Ledger) -> BTreeMap<Digest, Vec<Vec<u8>>> {
    let mut found: BTreeMap<Digest, Vec<Vec<u8>>> = BTreeMap::new();
    for entry in all_entries(ledger) {
        if let Event::AddData { tag, content, .. } = event::decode(&entry).unwrap().event {
            found.entry(tag).or_default().push(content);
        }
    }
    found
}

#[test]
fn a_head_is_anchored_for_its_patient_or_the_provider() {
    let chains = Chains::default();
    let disk = FakeDisk::new();
    let house = start(Arc::new(disk.clone()), &chains, None).unwrap();
    let heads = [chains.grow(1), chains.grow(2)];
    house.notary.linked(&heads).unwrap();
    assert_eq!(house.notary.settle().unwrap().pending_heads, 0);
    let anchors = anchors(&house.ledger);
    for (head, reader) in heads.iter().zip([PATIENT, PROVIDER]) {
        let anchor = house.ledger.tagged(&head.did, 0).unwrap().unwrap();
        assert_eq!(anchor.digest, head.digest());
        let secret = party(reader).seal.unwrap();
        let sealed = &anchors[&link::tag(&head.did, 0)][0];
        let content = seal::open(&secret, Purpose::AddData, sealed).unwrap();
        let content = ContentDg::decode(&content).unwrap();
        assert_eq!(
            (content.did, content.index, content.end_ns),
            (head.did, 0, head.end_ns)
        );
        assert_eq!(content.patient.is_some(), reader == PATIENT);
    }
    // One event vouches for everything before it.
    let head = std::iter::repeat_with(|| chains.grow(1)).nth(4).unwrap();
    house.notary.linked(std::slice::from_ref(&head)).unwrap();
    house.notary.settle().unwrap();
    assert!(house.ledger.tagged(&head.did, 3).unwrap().is_none());
    assert_eq!(
        house
            .ledger
            .anchored(&head.did, 1, head.index)
            .unwrap()
            .unwrap()
            .index,
        5
    );
    house.notary.stop();
    assert_eq!(
        house.notary.linked(&[head]).unwrap_err().kind,
        FailureKind::Busy
    );
    house.ledger.stop();
}

#[test]
fn a_new_start_anchors_what_is_missing_and_nothing_else() {
    let chains = Chains::default();
    let disk = FakeDisk::new();
    let house = start(Arc::new(disk.clone()), &chains, None).unwrap();
    house.notary.linked(&[chains.grow(1)]).unwrap();
    house.notary.stop();
    house.ledger.stop();
    let size = house.ledger.size();
    let house = start(Arc::new(disk.clone()), &chains, None).unwrap();
    assert_eq!(house.notary.settle().unwrap().pending_heads, 0);
    assert_eq!(house.ledger.size(), size);
    house.notary.stop();
    house.ledger.stop();
    // Linked, but the process died before the notary was told.
    let head = chains.grow(1);
    let house = start(Arc::new(disk), &chains, None).unwrap();
    house.notary.settle().unwrap();
    assert_eq!(
        house.ledger.tagged(&head.did, 1).unwrap().unwrap().digest,
        head.digest()
    );
    house.notary.stop();
    house.ledger.stop();
}

#[test]
fn signed_bytes_are_submitted_again_unchanged() {
    let chains = Chains::default();
    let inner = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(inner.clone()));
    let house = start(Arc::new(faulty.clone()), &chains, None).unwrap();
    faulty.arm(Fault {
        op: None,
        path_has: "ledger.batches".into(),
        after: 0,
        for_ever: true,
        how: How::Fail(ErrorKind::Other),
    });
    let head = chains.grow(1);
    house.notary.linked(std::slice::from_ref(&head)).unwrap();
    let status = house.notary.settle().unwrap();
    assert_eq!(status.pending_heads, 1);
    assert!(status.trouble.is_some());
    house.notary.stop();
    house.ledger.stop();
    inner.crash();
    // The heads in it; the trail's own head lies there too.
    let mut outbox = Vec::new();
    let dir = Path::new(DATA).join("outbox");
    let torn = chordae_base::journal::scan_dir(&inner, &dir, 65_535, &mut |_, record| {
        if event::decode(&record)?.event.kind() == "add-data" {
            outbox.push(record);
        }
        Ok(())
    });
    assert_eq!((torn.unwrap(), outbox.len()), (None, 1));
    let house = start(Arc::new(inner), &chains, None).unwrap();
    house.notary.settle().unwrap();
    let at = house
        .ledger
        .tagged(&head.did, 0)
        .unwrap()
        .unwrap()
        .leaf_index;
    assert_eq!(house.ledger.entry(at).unwrap(), outbox[0]);
    assert_eq!(
        anchors(&house.ledger)
            .into_values()
            .map(|all| all.len())
            .sum::<usize>(),
        1
    );
    house.notary.stop();
    house.ledger.stop();
}

#[test]
fn a_stored_chain_that_is_not_the_anchored_one_does_not_start() {
    let chains = Chains::default();
    let disk = FakeDisk::new();
    let house = start(Arc::new(disk.clone()), &chains, None).unwrap();
    house.notary.linked(&[chains.grow(1)]).unwrap();
    house.notary.stop();
    house.ledger.stop();
    chains
        .0
        .lock()
        .unwrap()
        .values_mut()
        .for_each(|chain| chain[0].rows += 1);
    chains.grow(1);
    let failure = start(Arc::new(disk), &chains, None).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged);
    assert!(failure.why.contains("fork"));
}

#[test]
fn the_head_of_the_trail_is_anchored_at_the_start() {
    let chains = Chains::default();
    let house = start(Arc::new(FakeDisk::new()), &chains, Some(42)).unwrap();
    house.notary.settle().unwrap();
    let first = event::decode(&house.ledger.entry(0).unwrap()).unwrap();
    let expected = Event::AuditHead {
        digest: Digest([8; 32]),
        count: 42,
        time_ms: NOW_NS as u64 / 1_000_000,
    };
    assert_eq!(first.event, expected);
    house.notary.stop();
    house.ledger.stop();
}

/// The heads of the trail in the log: their count and time.
fn audits(ledger: &Ledger) -> Vec<(u64, u64)> {
    let audit = |entry: Bytes| match event::decode(&entry).unwrap().event {
        Event::AuditHead { count, time_ms, .. } => Some((count, time_ms)),
        _ => None,
    };
    all_entries(ledger).into_iter().filter_map(audit).collect()
}

#[test]
fn a_log_of_an_empty_trail_proves_its_freshness_by_a_head_of_no_records() {
    let house = start(Arc::new(FakeDisk::new()), &Chains::default(), None).unwrap();
    house.notary.settle().unwrap();
    let first = event::decode(&house.ledger.entry(0).unwrap()).unwrap();
    let now_ms = NOW_NS as u64 / 1_000_000;
    let expected = Event::AuditHead {
        digest: Digest([0; 32]),
        count: 0,
        time_ms: now_ms,
    };
    assert_eq!(first.event, expected);
    // Not due yet: nothing new. An interval later, though nothing has happened: another.
    house.notary.settle().unwrap();
    assert_eq!(audits(&house.ledger), vec![(0, now_ms)]);
    house.clock.advance(5_000_000);
    house.notary.settle().unwrap();
    assert_eq!(audits(&house.ledger), vec![(0, now_ms), (0, now_ms + 5)]);
    // The first record of the trail: an orderly stop names it.
    *house.trail.0.lock().unwrap() = Some((Digest([8; 32]), 1));
    house.notary.stop();
    assert_eq!(audits(&house.ledger).last(), Some(&(1, now_ms + 5)));
    house.ledger.stop();
}

#[test]
fn an_orderly_stop_anchors_the_head_of_the_trail_if_it_has_moved() {
    for (moved, expected) in [(Some(43), vec![42, 43]), (None, vec![42])] {
        let house = start(Arc::new(FakeDisk::new()), &Chains::default(), Some(42)).unwrap();
        house.notary.settle().unwrap();
        if let Some(count) = moved {
            *house.trail.0.lock().unwrap() = Some((Digest([9; 32]), count));
        }
        house.notary.stop();
        let counts: Vec<u64> = audits(&house.ledger).into_iter().map(|(n, _)| n).collect();
        assert_eq!(counts, expected);
        house.ledger.stop();
    }
}

/// The tags that `add-heads` events anchor.
fn together(ledger: &Ledger) -> Vec<Digest> {
    let heads = |entry: Bytes| match event::decode(&entry).unwrap().event {
        Event::AddHeads { root, .. } => Some(ledger.heads(&root).unwrap()),
        _ => None,
    };
    let files = all_entries(ledger).into_iter().filter_map(heads);
    let sets = files.map(|bytes| HeadSet::decode(&bytes).unwrap());
    sets.flat_map(|set| set.iter().map(|(tag, _)| *tag).collect::<Vec<_>>())
        .collect()
}

#[test]
fn of_many_streams_all_but_the_first_heads_share_an_event() {
    let chains = Chains::default();
    let disk = FakeDisk::new();
    let house = start_as(Arc::new(disk.clone()), &chains, None, 2).unwrap();
    let round = |chains: &Chains| (1..=3).map(|did| chains.grow(did)).collect::<Vec<_>>();
    let settle = |links: &[Link]| {
        house.notary.linked(links).unwrap();
        assert_eq!(house.notary.settle().unwrap().pending_heads, 0);
    };
    let first = round(&chains);
    settle(&first);
    assert_eq!(anchors(&house.ledger).len(), 3, "each by itself");
    let second = round(&chains);
    let size = house.ledger.size();
    settle(&second);
    assert_eq!(house.ledger.size(), size + 2, "one event and its block");
    for head in &second {
        let anchor = house.ledger.tagged(&head.did, 1).unwrap().unwrap();
        assert_eq!(anchor.digest, head.digest());
        assert!(anchor.way(&head.did).unwrap().is_some());
    }
    house.notary.stop();
    house.ledger.stop();
    // A new start knows what is anchored.
    let size = house.ledger.size();
    let house = start_as(Arc::new(disk), &chains, None, 2).unwrap();
    assert_eq!(house.notary.settle().unwrap().pending_heads, 0);
    assert_eq!(house.ledger.size(), size);
    house.notary.stop();
    house.ledger.stop();
}

#[test]
fn a_fork_among_heads_that_go_together_keeps_only_itself_out() {
    let chains = Chains::default();
    let house = start_as(Arc::new(FakeDisk::new()), &chains, None, 0).unwrap();
    let round = || (1..=3).map(|did| chains.grow(did)).collect::<Vec<_>>();
    house.notary.linked(&round()).unwrap();
    house.notary.settle().unwrap();
    let links = round();
    let other = Event::AddData {
        digest: Digest([9; 32]),
        tag: link::tag(&links[1].did, 1),
        content: vec![2; 60],
    };
    let other = event::sign(&other, &party(PROVIDER)).unwrap();
    house.ledger.submit(other).unwrap();
    house.notary.linked(&links).unwrap();
    let status = house.notary.settle().unwrap();
    assert_eq!(status.pending_heads, 3);
    assert!(status.trouble.unwrap().contains("fork"));
    assert_eq!(house.notary.settle().unwrap().pending_heads, 1);
    for head in [&links[0], &links[2]] {
        let anchor = house.ledger.tagged(&head.did, 1).unwrap().unwrap();
        assert_eq!(anchor.digest, head.digest());
    }
    house.notary.stop();
    house.ledger.stop();
}

/// Two rounds over two streams, until something fails.
fn script(disk: Arc<dyn Disk>, chains: &Chains, alone_streams: usize) {
    let Ok(house) = start_as(disk, chains, None, alone_streams) else {
        return;
    };
    for _ in 0..2 {
        let links = [chains.grow(1), chains.grow(2)];
        if house.notary.linked(&links).is_err() || house.notary.settle().is_err() {
            break;
        }
    }
    house.notary.stop();
    house.ledger.stop();
}

#[test]
fn death_at_any_operation_anchors_every_head_and_no_link_twice() {
    die_at_each_operation(1000);
}

#[test]
fn death_at_any_operation_anchors_every_head_that_goes_with_others() {
    die_at_each_operation(0);
}

fn die_at_each_operation(alone_streams: usize) {
    let whole = FaultyDisk::new(Arc::new(FakeDisk::new()));
    script(Arc::new(whole.clone()), &Chains::default(), alone_streams);
    assert!(whole.changes() > 40);
    for after in 0..whole.changes() {
        let (inner, chains) = (FakeDisk::new(), Chains::default());
        let faulty = FaultyDisk::new(Arc::new(inner.clone()));
        let how = How::Fail(ErrorKind::Other);
        faulty.arm(Fault {
            op: None,
            path_has: String::new(),
            after,
            for_ever: true,
            how,
        });
        script(Arc::new(faulty), &chains, alone_streams);
        inner.crash_torn(after);
        let house = start_as(Arc::new(inner), &chains, None, alone_streams).unwrap();
        house.notary.settle().unwrap();
        for head in chains.heads() {
            let anchor = house.ledger.tagged(&head.did, head.index).unwrap();
            let digest = anchor.map(|anchor| anchor.digest);
            assert_eq!(digest, Some(head.digest()), "dead at operation {after}");
        }
        let twice: BTreeSet<usize> = anchors(&house.ledger).values().map(Vec::len).collect();
        assert!(twice.iter().all(|n| *n == 1), "dead at operation {after}");
        let mut tags = together(&house.ledger);
        let all = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), all, "dead at operation {after}");
        house.notary.stop();
        house.ledger.stop();
    }
}
