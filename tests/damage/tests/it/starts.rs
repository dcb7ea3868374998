//! Starts that must not take anything new: a log that cannot be written, a folder that was set back. And the
//! starts beside them that must be as always, or refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae::{
    assemble::{Built, House, Seams, Shut, start},
    commands::init,
    folder::Folder,
    keyring,
    observe::Readiness,
    settings::Settings,
};
use chordae_base::{
    Did, Failure, FailureKind, Outcome,
    seams::{
        Disk, Threads,
        fake::{FakeClock, FakeEntropy},
        faulty::{Fault, FaultyDisk, How, Op},
        real::{OsClock, OsDisk, OsEntropy},
    },
};
use chordae_chain::{
    event::{self, Event},
    link,
};
use chordae_damage::house::T0;
use chordae_ingest::fanout::NoFanout;
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    settings: Settings,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        init::make(&data, None, &[], &FakeClock::new(T0), &FakeEntropy::new(1)).unwrap();
        let mut settings = Settings::default();
        settings.ledger.witness = dir.path().join("witness").display().to_string();
        Self { dir, settings }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn witness(&self) -> PathBuf {
        self.dir.path().join("witness")
    }

    fn start_on(&self, disk: Arc<dyn Disk>) -> Outcome<Built> {
        let seams = Seams {
            disk,
            clock: Arc::new(OsClock),
            entropy: Arc::new(OsEntropy),
            threads: Threads::of_the_machine(),
            fanout: Arc::new(NoFanout),
        };
        let home = Folder::new(self.data());
        let ready = Readiness::default();
        let metrics = prometheus::Registry::new();
        let keys = keyring::open(&home)?;
        tokio::task::block_in_place(|| start(&home, keys, &self.settings, &seams, &metrics, &ready))
    }

    fn start(&self) -> Outcome<Built> {
        self.start_on(Arc::new(OsDisk))
    }

    /// Anchors something, as a day does.
    fn anchor(&self, house: &House, n: u64) {
        let keys = keyring::open(&Folder::new(self.data())).unwrap();
        let event = Event::AddData {
            digest: link::tag(&Did([9; 16]), n),
            tag: link::tag(&Did([8; 16]), n),
            content: vec![1; 60],
        };
        let entry = event::sign(&event, &keys.provider).unwrap();
        house.ledger.submit(entry).unwrap();
    }

    /// A whole life that anchors one event.
    async fn day(&self, n: u64) {
        let house = whole(self.start());
        self.anchor(&house, n);
        house.stop().unwrap();
    }
}

#[track_caller]
fn whole(built: Outcome<Built>) -> House {
    match built.unwrap() {
        Built::Whole(house) => *house,
        Built::Reading(reading) => panic!("only reading: {}", reading.shut.why()),
    }
}

#[track_caller]
fn reading(built: Outcome<Built>) -> Box<chordae::assemble::Reading> {
    match built.unwrap() {
        Built::Whole(_) => panic!("a whole house over what must only be read"),
        Built::Reading(reading) => reading,
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Sets the folder back to a copy of it.
fn set_back(place: &Place, copied: &Path) {
    fs::remove_dir_all(place.data()).unwrap();
    copy(copied, &place.data());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_shuts_the_doors_and_leaves_the_readers() {
    let place = Place::new();
    place.day(0).await;
    let wal = place.data().join("wal");
    for (op, kind) in [
        (Op::Create, std::io::ErrorKind::ReadOnlyFilesystem),
        (Op::Write, std::io::ErrorKind::StorageFull),
        (Op::Sync, std::io::ErrorKind::Other),
    ] {
        let disk = FaultyDisk::new(Arc::new(OsDisk));
        disk.arm(Fault {
            path_has: wal.display().to_string(),
            for_ever: true,
            ..Fault::next(op, How::Fail(kind))
        });
        let reading = reading(place.start_on(Arc::new(disk)));
        assert!(matches!(reading.shut, Shut::Log(_)), "{:?}", reading.shut);
        assert!(reading.shut.why().contains("write-ahead log"));
        assert!(reading.ledger.size() >= 2, "what is stored is there");
        assert!(reading.accept("it is no rollback").is_err());
        reading.ledger.stop();
    }
    whole(place.start()).stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_refuses_the_start() {
    let place = Place::new();
    place.day(0).await;
    let path = place.data().join("wal/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let failure = place.start().err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_yesterday_is_only_read_until_it_is_accepted() {
    let place = Place::new();
    place.day(0).await;
    let yesterday = place.dir.path().join("yesterday");
    copy(&place.data(), &yesterday);
    place.day(1).await;
    let seen = fs::read(place.witness()).unwrap();

    set_back(&place, &yesterday);
    for _ in 0..2 {
        let reading = reading(place.start());
        assert!(matches!(reading.shut, Shut::SetBack(_)));
        let why = reading.shut.why();
        assert!(
            why.contains("set back") && why.contains("rollback accept"),
            "{why}"
        );
        assert_eq!(fs::read(place.witness()).unwrap(), seen, "the memory stays");
        reading.ledger.stop();
    }
    let reading = reading(place.start());
    let before = reading.ledger.size();
    tokio::task::block_in_place(|| {
        assert!(reading.accept("").is_err(), "without a reason");
        reading.accept("backup of yesterday").unwrap();
    });
    assert_eq!(
        reading.ledger.size(),
        before,
        "nothing is signed by a house that only reads"
    );
    reading.ledger.stop();
    drop(reading);
    let kept: Vec<_> = fs::read_dir(place.dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().contains("witness.until-"))
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        fs::read(&kept[0]).unwrap(),
        seen,
        "what was seen is not forgotten"
    );

    // From here on it is the folder again, and another day can be told from this one.
    place.day(2).await;
    set_back(&place, &yesterday);
    assert!(matches!(place.start().unwrap(), Built::Reading(_)));
}

/// The control: without the memory the same folder goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_witness_a_folder_of_yesterday_goes_on() {
    let mut place = Place::new();
    place.settings.ledger.witness = String::new();
    place.day(0).await;
    let yesterday = place.dir.path().join("yesterday");
    copy(&place.data(), &yesterday);
    place.day(1).await;
    set_back(&place, &yesterday);
    whole(place.start()).stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_history_that_is_another_one_is_no_continuation() {
    let place = Place::new();
    let empty = place.dir.path().join("empty");
    copy(&place.data(), &empty);
    place.day(0).await;
    let seen = fs::read(place.witness()).unwrap();
    // The same keys, another past, and more of it.
    set_back(&place, &empty);
    fs::remove_file(place.witness()).unwrap();
    for n in 10..14 {
        place.day(n).await;
    }
    fs::write(place.witness(), seen).unwrap();
    let reading = reading(place.start());
    assert!(
        reading.shut.why().contains("another history"),
        "{}",
        reading.shut.why()
    );
    reading.ledger.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_behind_the_ledger_is_a_crash_and_no_rollback() {
    let place = Place::new();
    place.day(0).await;
    let seen = fs::read(place.witness()).unwrap();
    place.day(1).await;
    fs::write(place.witness(), seen).unwrap();
    whole(place.start()).stop().unwrap();
    // And one that was lost is made anew.
    fs::remove_file(place.witness()).unwrap();
    whole(place.start()).stop().unwrap();
    assert!(place.witness().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_of_strangers_or_inside_the_folder_is_refused() {
    let mut place = Place::new();
    place.day(0).await;
    let mut text = fs::read(place.witness()).unwrap();
    let last = text.len() - 6;
    text[last] ^= 1;
    fs::write(place.witness(), text).unwrap();
    let failure = place.start().err().unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    for inside in [
        place.data().join("witness").display().to_string(),
        "witness".into(),
    ] {
        place.settings.ledger.witness = inside;
        let failure: Failure = place.start().err().unwrap();
        assert_eq!(failure.kind, FailureKind::BadInput, "{failure}");
        assert!(failure.why.contains("outside"), "{failure}");
    }
}

/// A key that readers were not told of signs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn keys_mixed_up_refuse_the_start() {
    for name in ["provider.pem", "sequencer.pem", "log.pem"] {
        let (place, other) = (Place::new(), tempfile::tempdir().unwrap());
        let strange = other.path().join("data");
        init::make(
            &strange,
            None,
            &[],
            &FakeClock::new(T0),
            &FakeEntropy::new(2),
        )
        .unwrap();
        fs::copy(
            strange.join("keys").join(name),
            place.data().join("keys").join(name),
        )
        .unwrap();
        let failure = place.start().err().unwrap();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.why.contains(name), "{failure}");
    }
}
