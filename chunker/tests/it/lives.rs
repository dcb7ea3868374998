//! Whole lives on a disk that dies: WAL, chunker and storage together, cut at every single disk
//! operation, restarted, and looked at in the end: every sample exactly once.
//!
//! The test plays ingest: it commits records to a WAL, resends what was not acknowledged, trims when
//! told. The negative control starts the chunker without coverage and must store samples twice.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chordae_base::{
    Did, Outcome, StreamPlan,
    journal::{Journal, Settings},
    record::{FrameRecord, Place, StateRecord, WalRecord},
    seams::{
        Disk, Threads,
        fake::{FakeClock, FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How},
    },
};
use chordae_chain::{link::Link, meta::ChunkMeta};
use chordae_chunk::SealedChunk;
use chordae_chunker::core::ports::Nothing;
use chordae_chunker::{
    ChunkSink, Chunker, Covered, Gap, Handle, Input, Parts, Plans, Progress, RecoveredWal, Stored,
    Tip,
};
use chordae_storage::{Catalogue, Committer};

use crate::feed::{MS, Registry, S, T0, birth, did, frame, key, record};

const HZ: u32 = 50;
const DATA: &str = "/data";

pub(crate) struct Sink(pub(crate) Committer);

impl ChunkSink for Sink {
    fn tip(&self, did: &Did) -> Tip {
        let tip = self.0.tip(did);
        Tip {
            next_index: tip.next_index,
            prev: tip.prev,
        }
    }

    fn commit(&mut self, chunks: Vec<SealedChunk>) -> Outcome<Vec<Link>> {
        self.0.commit(&chunks)
    }
}

struct Whole(Arc<Catalogue>);

impl Stored for Whole {
    fn metas(&self) -> Vec<Arc<ChunkMeta>> {
        self.0.metas()
    }

    fn times(&self, did: &Did, index: u64) -> Outcome<Vec<i64>> {
        Ok(self.0.open_chunk(did, index)?.rows().times.clone())
    }
}

/// What was covered, the newest trim, the gaps.
pub(crate) type Heard = (Vec<Covered>, u64, Vec<Gap>);

#[derive(Clone, Default)]
pub(crate) struct News(pub(crate) Arc<Mutex<Heard>>);

impl Progress for News {
    fn covered(&mut self, news: Vec<Covered>) {
        self.0.lock().unwrap().0.extend(news);
    }

    fn gap(&mut self, gap: Gap) {
        self.0.lock().unwrap().2.push(gap);
    }

    fn trim(&mut self, floor: u64) {
        self.0.lock().unwrap().1 = floor;
    }
}

struct SharedPlans(Arc<Registry>);

impl Plans for SharedPlans {
    fn plan(&self, stream: &chordae_base::StreamKey) -> Option<StreamPlan> {
        self.0.plan(stream)
    }
}

/// 2.5 s frames with jitter on slots of 10 s, one dropped, one late: 70 s in all.
fn frames() -> Vec<FrameRecord> {
    let mut out = Vec::new();
    for seq in 0..28u64 {
        let wobble = if seq % 3 == 1 { -20 * MS } else { 0 };
        let t0 = T0 + 1250 * MS + i64::try_from(seq).unwrap() * 2500 * MS + wobble;
        let place = if seq == 9 { Place::Late } else { Place::Live };
        out.push(record(&frame(1, seq, t0, 125), t0 + 2600 * MS, 0, place));
    }
    out
}

fn wal_settings() -> Settings {
    let dir = Path::new(DATA).join("wal");
    Settings {
        dir,
        segment_bytes: 3000,
        room_bytes: 0,
        record_bytes_max: 1 << 20,
    }
}

fn encoded(record: &WalRecord) -> Bytes {
    Bytes::from(record.encode())
}

/// One life. Ends early when the disk dies; `Err` says that it did.
fn life(disk: Arc<dyn Disk>, covers: bool) -> Outcome<()> {
    let wal = Journal::open(Arc::clone(&disk), wal_settings())?.journal;
    let (committer, catalogue) =
        Committer::open(disk, Path::new(DATA), &mut |_, _| (), Box::new(|_| ()))?;
    let mut known = known(&wal, &catalogue)?;
    let news = News::default();
    let stored: Box<dyn Stored> = if covers {
        Box::new(Whole(Arc::clone(&catalogue)))
    } else {
        Box::new(Nothing)
    };
    let parts = Parts {
        source: Box::new(wal.reader()),
        sink: Box::new(Sink(committer)),
        progress: Box::new(news.clone()),
        plans: Box::new(SharedPlans(Arc::new(Registry::with(StreamPlan::new(
            did(1),
            10 * S,
        ))))),
        entropy: Arc::new(FakeEntropy::new(7)),
        clock: Arc::new(FakeClock::new(T0)),
        threads: Threads::of_the_machine(),
        stored,
        recovered: Box::new(RecoveredWal {
            reader: wal.reader(),
            until: wal.durable(),
        }),
    };
    let handle = Chunker::start(parts, &prometheus::Registry::new())?;
    let done = feed(wal, &handle, &mut known, &news);
    let Handle { input, join } = handle;
    if done.is_ok() {
        let (reply, stopped) = Threads::of_the_machine().mailbox(1);
        if input.send(Input::Stop { reply }).is_ok() {
            stopped.recv().ok();
        }
    }
    // A dead disk: what is still open fails to seal and stays in the WAL.
    drop(input);
    join.join().unwrap().and(done)
}

/// What ingest knows after a start: frames in the WAL or in a chunk are not recorded again.
fn known(wal: &Journal, catalogue: &Catalogue) -> Outcome<BTreeMap<u64, ()>> {
    let mut known = BTreeMap::new();
    for meta in catalogue.metas() {
        for (a, b) in meta.covered().iter() {
            known.extend((a..=b).map(|seq| (seq, ())));
        }
    }
    wal.reader().scan(0, &mut |_, bytes| {
        if let WalRecord::Frame(f) = WalRecord::decode(bytes)? {
            known.insert(f.seq, ());
        }
        Ok(())
    })?;
    Ok(known)
}

fn feed(wal: Journal, handle: &Handle, known: &mut BTreeMap<u64, ()>, news: &News) -> Outcome<()> {
    let WalRecord::Birth(born) = birth(1, HZ) else {
        unreachable!()
    };
    let state = WalRecord::State(StateRecord {
        births: vec![born],
        ingest: Vec::new(),
    });
    let (mut wal, _) = wal.roll(&[encoded(&state)])?;
    let gone = |_| chordae_base::Failure::internal("the chunker is gone");
    let position = wal.start();
    let send = |position: u64, record: WalRecord| {
        handle
            .input
            .send(Input::Record { position, record })
            .map_err(gone)
    };
    send(position.max(wal.durable() - 1), state.clone())?;
    for group in frames().chunks(3) {
        let new: Vec<_> = group
            .iter()
            .filter(|f| !known.contains_key(&f.seq))
            .cloned()
            .collect();
        if new.is_empty() {
            continue;
        }
        let records: Vec<WalRecord> = new.into_iter().map(WalRecord::Frame).collect();
        let bytes: Vec<Bytes> = records.iter().map(encoded).collect();
        if wal.wants_roll() {
            wal = wal.roll(&[encoded(&state)])?.0;
        }
        let (journal, durable) = wal.commit(&bytes)?;
        wal = journal;
        for (position, record) in durable.positions().iter().zip(records) {
            send(*position, record)?;
        }
        settle(handle)?;
        let floor = news.0.lock().unwrap().1;
        wal = wal.trim(floor)?;
    }
    Ok(())
}

/// Waits until nothing is being sealed, so that a run has the same disk operations every time.
fn settle(handle: &Handle) -> Outcome<()> {
    let gone = || chordae_base::Failure::internal("the chunker is gone");
    loop {
        let (reply, status) = Threads::of_the_machine().mailbox(1);
        handle
            .input
            .send(Input::Status { reply })
            .map_err(|_| gone())?;
        if status.recv().map_err(|_| gone())?.sealing == 0 {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

/// How often each sample is stored.
fn stored(disk: &FakeDisk) -> BTreeMap<(i32, i32), usize> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (_, catalogue) =
        Committer::open(disk, Path::new(DATA), &mut |_, _| (), Box::new(|_| ())).unwrap();
    assert_eq!(catalogue.damaged(), []);
    let mut counts = BTreeMap::new();
    for did in catalogue.dids() {
        for link in catalogue.links(&did, 0..u64::MAX) {
            let chunk = catalogue.open_chunk(&did, link.index).unwrap();
            let leads = &chunk.rows().leads;
            for (who, sample) in leads[0].iter().zip(&leads[1]) {
                *counts.entry((*who, *sample)).or_default() += 1;
            }
        }
    }
    counts
}

fn want() -> BTreeMap<(i32, i32), usize> {
    let frames = frames();
    let samples = frames.iter().flat_map(|f| {
        let who = i32::try_from(f.boot * 10_000 + f.seq).unwrap();
        (0..i32::try_from(f.samples).unwrap()).map(move |k| ((who, k), 1))
    });
    samples.collect()
}

/// Dies at the n-th disk operation, restarts, ends well. How many operations the first life had.
fn dies_at(n: u64, torn: bool, covers: bool) -> (FakeDisk, u64) {
    let fake = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(fake.clone()));
    let how = How::Fail(io::ErrorKind::Other);
    let path_has = String::new();
    faulty.arm(Fault {
        op: None,
        path_has,
        after: n,
        for_ever: true,
        how,
    });
    let first = life(Arc::new(faulty.clone()), covers);
    let changes = faulty.changes();
    assert!(
        first.is_err() || faulty.struck() == 0 || n + 12 > changes,
        "a dead disk goes unseen"
    );
    if torn {
        fake.crash_torn(n);
    } else {
        fake.crash();
    }
    life(Arc::new(fake.clone()), covers).unwrap();
    (fake, changes)
}

#[test]
fn every_sample_survives_a_crash_at_every_disk_operation() {
    let (fake, all) = dies_at(u64::MAX, false, true);
    assert_eq!(stored(&fake), want(), "a life without a crash");
    assert!(all > 100, "only {all} operations: the run is too short");
    for n in 0..all {
        let (fake, _) = dies_at(n, n % 2 == 1, true);
        assert_eq!(stored(&fake), want(), "crash at operation {n} of {all}");
    }
}

#[test]
fn without_coverage_a_crash_stores_samples_twice() {
    let (_, all) = dies_at(u64::MAX, false, true);
    let twice = |n: &u64| {
        stored(&dies_at(*n, false, false).0)
            .values()
            .any(|count| *count > 1)
    };
    let seen = (all / 2..all).step_by(5).filter(twice).count();
    assert!(
        seen > 0,
        "no crash stored anything twice: the test sees nothing"
    );
}

#[test]
fn the_key_of_the_feed_is_the_key_of_the_plan() {
    assert_eq!(frames()[0].stream, key());
}
