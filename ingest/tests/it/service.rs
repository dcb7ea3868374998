//! The running service on disks that crash, fail and fill up: what was acknowledged is there.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chordae_base::{
    DeviceId, Outcome, RangeSet,
    record::{Place, WalRecord},
    seams::{
        Disk, DiskFile,
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
    },
    wire::Frame,
};
use chordae_ingest::core::{
    admission::AdmissionLimits,
    arrival::{Content, Verdict},
    ports::{CoveredNews, Downstream},
};

use crate::support::{
    House, Sender, birth, content, frame, key, payload_of, runtime, seconds, until,
};

/// All frames that the log holds after a restart on what survived.
fn survivors(disk: &FakeDisk) -> Vec<Frame> {
    let house = House::new(Arc::new(disk.clone()));
    let recovered = house.open().expect("the log is whole");
    let mut frames = Vec::new();
    let mut visit = |_, record| -> Outcome<()> {
        if let WalRecord::Frame(f) = record {
            frames.push(f.frame()?);
        }
        Ok(())
    };
    recovered.replay(&mut visit).unwrap();
    frames
}

/// A disk that loses power at its n-th sync, before anything of it is durable.
struct Doomed {
    disk: FakeDisk,
    life: FakeDisk,
    syncs_left: Arc<AtomicUsize>,
    seed: u64,
}

struct DoomedFile {
    file: Box<dyn DiskFile>,
    disk: FakeDisk,
    syncs_left: Arc<AtomicUsize>,
    seed: u64,
}

impl Doomed {
    fn wrap(&self, file: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
        let (disk, syncs_left) = (self.disk.clone(), Arc::clone(&self.syncs_left));
        Ok(Box::new(DoomedFile {
            file: file?,
            disk,
            syncs_left,
            seed: self.seed,
        }))
    }
}

impl Disk for Doomed {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.wrap(self.life.create_new(path))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.wrap(self.life.open(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.life.open_read(path)
    }
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        self.life.read(path, max)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.life.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.life.remove(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.life.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.life.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<chordae_base::seams::Entry>> {
        self.life.list(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.life.free_bytes(path)
    }
}

impl DiskFile for DoomedFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.syncs_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.disk.crash_torn(self.seed);
        }
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// Streams frames until the power goes at some sync; gives all that was acknowledged.
async fn stream_until_crash(disk: &FakeDisk, seed: u64) -> Vec<Frame> {
    let doomed = Doomed {
        disk: disk.clone(),
        life: disk.boot(),
        syncs_left: Arc::new(AtomicUsize::new(10 + usize::try_from(seed % 13).unwrap())),
        seed,
    };
    let house = House {
        segment_bytes: 4096,
        ..House::new(Arc::new(doomed))
    };
    let (ingest, _sink) = house.start();
    let handle = ingest.handle();
    let mut sender = Sender::new(handle.clone(), 1);
    let stream = key("bed-7/ecg");
    let mut sent = vec![None];
    sender.offer(&stream, Content::Birth(birth(1))).await;
    let mut acknowledged = Vec::new();
    for seq in 0..10_000 {
        let made = frame(1, seq, house.now() - seconds(1), 1);
        if sender.try_offer(&stream, content(&made)).await.is_err() {
            break;
        }
        sent.push(Some(made));
        // Some wait for their fate, so that batches have all sizes.
        while sent.len() - acknowledged.len() > 1 + usize::try_from(seed % 5).unwrap() {
            let Some((token, verdict)) = sender.fate_or_end(&handle).await else {
                break;
            };
            assert_eq!(verdict, Verdict::Durable);
            acknowledged.push(sent[usize::try_from(token).unwrap()].clone());
        }
    }
    while let Some((token, verdict)) = sender.heard() {
        assert_eq!(verdict, Verdict::Durable);
        acknowledged.push(sent[usize::try_from(token).unwrap()].clone());
    }
    assert!(ingest.join().is_err(), "it outlived its disk");
    acknowledged.into_iter().flatten().collect()
}

#[test]
fn acknowledged_frames_survive_a_power_loss_at_any_sync() {
    runtime().block_on(async {
        let (mut lost, mut told) = (0, 0);
        for seed in 0..60 {
            let disk = FakeDisk::new();
            let acknowledged = stream_until_crash(&disk, seed).await;
            let there = survivors(&disk);
            lost += acknowledged.iter().filter(|f| !there.contains(f)).count();
            told += acknowledged.len();
            let twice = there
                .iter()
                .filter(|f| there.iter().filter(|g| g == f).count() > 1);
            assert_eq!(twice.count(), 0, "stored twice");
        }
        assert!(told > 100, "the test asks nothing: {told}");
        if cfg!(feature = "control-ack-before-append") {
            assert!(
                lost > 0,
                "the negative control loses nothing: this test sees nothing"
            );
        } else {
            assert_eq!(lost, 0, "acknowledged frames are gone, of {told}");
        }
    });
}

#[test]
fn nothing_is_told_before_the_commit_and_nothing_after_a_failed_one() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let faulty = Arc::new(FaultyDisk::new(Arc::clone(&house.disk)));
        let house = House {
            disk: Arc::clone(&faulty) as Arc<dyn Disk>,
            ..house
        };
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let stream = key("bed-7/ecg");
        sender.ask(&stream, Content::Birth(birth(1))).await;
        let first = frame(1, 0, house.now(), 1);
        assert_eq!(sender.ask(&stream, content(&first)).await, Verdict::Durable);
        // Answered in a later turn: the commit before is done, also in the negative control.
        sender.standing(&stream, 1).await;
        faulty.arm(Fault::next(Op::Sync, How::Fail(std::io::ErrorKind::Other)));
        sender
            .offer(&stream, content(&frame(1, 1, house.now(), 1)))
            .await;
        let told = sender.fate().await;
        if cfg!(feature = "control-ack-before-append") {
            assert!(told.is_some(), "the negative control must tell too early");
        } else {
            assert_eq!(told, None, "told although the sync failed");
        }
        // It ends with the reason; nobody is acknowledged again.
        ingest.handle().ended().await;
        assert!(ingest.handle().stop().await.is_err());
        let why = ingest.join().unwrap_err();
        assert!(why.why.contains("wal"), "{why}");
        assert_eq!(
            sink.frames().len(),
            1,
            "what is not durable does not go downstream"
        );
    });
}

#[test]
fn a_restart_finds_everything_and_absorbs_repeats() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let house = House {
            segment_bytes: 4096,
            ..house
        };
        let stream = key("bed-7/ecg");
        let now = house.now();
        for life in 0..4_u64 {
            let (ingest, sink) = house.start();
            let mut sender = Sender::new(ingest.handle(), life);
            assert_eq!(
                sender.ask(&stream, Content::Birth(birth(1))).await,
                Verdict::Durable
            );
            let waiting = content(&frame(2, life, now, 1));
            assert_eq!(sender.ask(&stream, waiting).await, Verdict::Durable);
            for seq in 0..=(life + 1) * 5 {
                let told = sender.ask(&stream, content(&frame(1, seq, now, 1))).await;
                assert_eq!(told, Verdict::Durable);
            }
            let standing = sender.standing(&stream, 1).await;
            assert_eq!(standing.durable, [(0, (life + 1) * 5)]);
            let fresh = sink.frames().iter().filter(|(_, f)| f.boot == 1).count();
            let want = if life == 0 { 6 } else { 5 };
            assert_eq!(fresh, want, "repeats are not stored again");
            ingest.handle().stop().await.unwrap();
            ingest.join().unwrap();
        }
        // The birth comes at last, in another life: all that waited is released, once.
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 9);
        sender.ask(&stream, Content::Birth(birth(2))).await;
        // Told first, handed down then.
        until("the released ones go downstream", || {
            sink.frames().len() >= 4
        })
        .await;
        let released: Vec<_> = sink
            .frames()
            .into_iter()
            .map(|(_, f)| (f.seq, f.place))
            .collect();
        assert_eq!(released.len(), 4, "{released:?}");
        assert!(released.iter().all(|(_, place)| *place != Place::Parked));
        assert!(house.registry.opened.lock().unwrap().contains(&stream));
        // Replay and life agree on positions and payloads.
        let source = house.open().unwrap().frame_source();
        let mut seen = 0;
        source
            .replay(&mut |position, record| {
                if let WalRecord::Frame(f) = record {
                    assert_eq!(source.payload(position)?, f.payload);
                    seen += 1;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, 21 + 4 + 4);
    });
}

#[test]
fn every_segment_begins_with_the_state_and_trimming_forgets_nothing() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let house = House {
            segment_bytes: 4096,
            ..house
        };
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let (stream, now) = (key("bed-7/ecg"), house.now());
        sender.ask(&stream, Content::Birth(birth(1))).await;
        for seq in 0..60 {
            sender.ask(&stream, content(&frame(1, seq, now, 1))).await;
        }
        let states = |sink: &crate::support::Sink| {
            let records = sink.0.lock().unwrap();
            records
                .iter()
                .filter(|(_, r)| matches!(r, WalRecord::State(_)))
                .count()
        };
        assert!(states(&sink) > 3, "many segments");
        let list = |house: &House| house.disk.list("/data/wal".as_ref()).unwrap().len();
        let before = list(&house);
        let floor = sink.frames()[50].0;
        let mut seqs = RangeSet::new();
        seqs.insert_range(0, 49);
        let news = CoveredNews {
            stream: stream.clone(),
            boot: 1,
            seqs: seqs.clone(),
            slot_start_ns: 0,
        };
        ingest.handle().covered(vec![news]);
        ingest.handle().trim(floor);
        until("the log is trimmed", || list(&house) < before).await;
        *house.chunks.rows.lock().unwrap() = Some(true);
        house
            .chunks
            .covered
            .lock()
            .unwrap()
            .entry(stream.clone())
            .or_default()
            .insert(1, seqs);
        for seq in 0..60 {
            let told = sender.ask(&stream, content(&frame(1, seq, now, 1))).await;
            assert_eq!(told, Verdict::Durable);
        }
        assert_eq!(sink.frames().len(), 60, "the rows know what the log forgot");
        ingest.handle().stop().await.unwrap();
        ingest.join().unwrap();
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let mut other = birth(1);
        other.firmware = "x".into();
        assert!(matches!(
            sender.ask(&stream, Content::Birth(other)).await,
            Verdict::Refused(_)
        ));
        let mut sender = Sender::new(ingest.handle(), 2);
        for seq in 0..60 {
            let told = sender.ask(&stream, content(&frame(1, seq, now, 1))).await;
            assert_eq!(told, Verdict::Durable);
        }
        assert_eq!(sink.frames().len(), 0);
        *house.chunks.rows.lock().unwrap() = Some(false);
        let told = sender.ask(&stream, content(&frame(1, 3, now, 2))).await;
        assert!(
            matches!(told, Verdict::Refused(_)),
            "a conflict with the rows: {told:?}"
        );
    });
}

#[test]
fn a_full_disk_refuses_and_heals_and_loses_nothing() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        disk.set_capacity(1 << 20);
        let admission = AdmissionLimits {
            free_min: 256 << 10,
            wal_max: 1 << 30,
        };
        let house = House { admission, ..house };
        let (ingest, _sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let (stream, now) = (key("bed-7/ecg"), house.now());
        sender.ask(&stream, Content::Birth(birth(1))).await;
        let first = content(&frame(1, 0, now, 1));
        assert_eq!(sender.ask(&stream, first.clone()).await, Verdict::Durable);
        disk.put("/data/ballast".as_ref(), &vec![0; 800 << 10]);
        let mut doors = ingest.handle().doors_open();
        doors.wait_for(|open| !open).await.unwrap();
        let second = content(&frame(1, 1, now, 1));
        assert_eq!(
            sender.ask(&stream, second.clone()).await,
            Verdict::Full(second.clone())
        );
        assert_eq!(
            sender.ask(&stream, first).await,
            Verdict::Durable,
            "repeats take no room"
        );
        disk.remove("/data/ballast".as_ref()).unwrap();
        doors.wait_for(|open| *open).await.unwrap();
        assert_eq!(sender.ask(&stream, second.clone()).await, Verdict::Durable);
        ingest.handle().stop().await.unwrap();
        ingest.join().unwrap();
        let there = survivors(&disk);
        assert_eq!(there.len(), 2);
        assert!(
            there
                .iter()
                .any(|f| *f == Frame::decode(&payload_of(&second)).unwrap())
        );
    });
}

#[test]
fn a_full_log_shuts_the_doors_until_it_is_trimmed() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let admission = AdmissionLimits {
            free_min: 0,
            wal_max: 16 << 10,
        };
        let house = House {
            admission,
            segment_bytes: 2048,
            ..house
        };
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let (stream, now) = (key("bed-7/ecg"), house.now());
        sender.ask(&stream, Content::Birth(birth(1))).await;
        let doors = ingest.handle().doors_open();
        let mut seq = 0;
        loop {
            match sender.ask(&stream, content(&frame(1, seq, now, 1))).await {
                Verdict::Durable => seq += 1,
                Verdict::Full(_) => break,
                other => panic!("{other:?}"),
            }
            assert!(seq < 1000, "the bound does not bind");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(!*doors.borrow());
        ingest.handle().trim(sink.frames().last().unwrap().0);
        let mut doors = ingest.handle().doors_open();
        doors.wait_for(|open| *open).await.unwrap();
        assert_eq!(
            sender.ask(&stream, content(&frame(1, seq, now, 1))).await,
            Verdict::Durable
        );
    });
}

#[test]
fn a_registry_that_fails_leaves_the_birth_unacknowledged() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let (ingest, _) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let stream = key("bed-7/ecg");
        *house.registry.fails.lock().unwrap() = true;
        assert_eq!(
            sender.ask(&stream, Content::Birth(birth(1))).await,
            Verdict::Unsure
        );
        *house.registry.fails.lock().unwrap() = false;
        assert_eq!(
            sender.ask(&stream, Content::Birth(birth(1))).await,
            Verdict::Durable
        );
        let device: DeviceId = "bed-7".parse().unwrap();
        assert_eq!(stream.device, device);
    });
}

/// Blocks until it is let go.
#[derive(Clone, Default)]
struct Gate {
    shut: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
}

impl Downstream for Gate {
    fn record(&mut self, _: u64, _: WalRecord) -> Outcome<()> {
        while self.shut.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.passed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn tick(&mut self, _: i64) -> Outcome<()> {
        Ok(())
    }
}

#[test]
fn a_blocked_chunker_blocks_the_senders_and_its_news_still_goes_through() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let gate = Gate::default();
        let ingest = house.open().unwrap().run(Box::new(gate.clone())).unwrap();
        let handle = ingest.handle();
        let mut sender = Sender::new(handle.clone(), 1);
        let (stream, now) = (key("bed-7/ecg"), house.now());
        sender.ask(&stream, Content::Birth(birth(1))).await;
        // State and birth.
        until("the birth is through", || {
            gate.passed.load(Ordering::SeqCst) == 2
        })
        .await;
        gate.shut.store(true, Ordering::SeqCst);
        let first = sender.ask(&stream, content(&frame(1, 0, now, 1))).await;
        assert_eq!(
            first,
            Verdict::Durable,
            "durable is durable; the chunker may be slow"
        );
        // The thread hangs downstream now: the next is not told, and news does not block.
        sender.offer(&stream, content(&frame(1, 1, now, 1))).await;
        handle.trim(0);
        handle.covered(vec![]);
        let told = tokio::time::timeout(Duration::from_millis(200), sender.fate()).await;
        assert!(told.is_err(), "{told:?}");
        gate.shut.store(false, Ordering::SeqCst);
        assert_eq!(sender.fate().await.unwrap().1, Verdict::Durable);
        handle.stop().await.unwrap();
        ingest.join().unwrap();
        assert_eq!(gate.passed.load(Ordering::SeqCst), 4);
    });
}
