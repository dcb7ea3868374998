//! A frame in the WAL that is none: its bucket cannot be sealed. It becomes a named gap, its frames lie in
//! quarantine, the log is let go, and nobody else waits for it; also across starts.

use std::{path::Path, sync::Arc};

use chordae::{
    assemble::{Built, House, Seams, start},
    commands::init,
    folder::Folder,
    keyring,
    observe::Readiness,
    settings::Settings,
};
use chordae_base::{
    DeviceId,
    record::{StateRecord, WalRecord},
    seams::{
        Disk, Threads,
        fake::{FakeClock, FakeEntropy},
        real::{OsClock, OsDisk, OsEntropy},
    },
    time::SECOND_NS,
};
use chordae_damage::house::{T0, birth, frame, stream};
use chordae_ingest::{
    fanout::NoFanout,
    quarantine::Quarantine,
    wal::{Wal, WalSettings},
};
use chordae_storage::registry::{Device, DeviceKind, Registry};

/// A data folder whose WAL holds ten frames of two streams, one of them broken.
fn folder(data: &Path) {
    init::make(data, None, &[], &FakeClock::new(T0), &FakeEntropy::new(1)).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let home = Folder::new(data);
    let registry = Registry::open(
        Arc::clone(&disk),
        &home.registry(),
        Arc::new(OsEntropy),
        10 * SECOND_NS,
    )
    .unwrap();
    let bed = DeviceId::new("bed-1").unwrap();
    registry
        .add_device(Device::new(bed, DeviceKind::Device))
        .unwrap();
    let mut records = vec![WalRecord::State(StateRecord {
        births: vec![birth(0).unwrap(), birth(1).unwrap()],
        ingest: Vec::new(),
    })];
    for n in [0, 1] {
        registry.open_stream(&stream(n).unwrap()).unwrap();
    }
    for seq in 30..40 {
        for n in [0, 1] {
            let mut record = frame(n, seq).unwrap();
            if (n, seq) == (0, 34) {
                record.payload = bytes::Bytes::from_static(b"once a frame");
            }
            records.push(WalRecord::Frame(record));
        }
    }
    let (wal, _) = Wal::open(disk, WalSettings::new(home.wal())).unwrap();
    let (wal, _) = wal.commit(&records).unwrap();
    wal.mark().unwrap();
}

fn whole(data: &Path) -> House {
    let seams = Seams {
        disk: Arc::new(OsDisk),
        clock: Arc::new(OsClock),
        entropy: Arc::new(OsEntropy),
        threads: Threads::of_the_machine(),
        fanout: Arc::new(NoFanout),
    };
    let home = Folder::new(data);
    let keys = keyring::open(&home).unwrap();
    let built = tokio::task::block_in_place(|| {
        start(
            &home,
            keys,
            &Settings::default(),
            &seams,
            &prometheus::Registry::new(),
            &Readiness::default(),
        )
    });
    match built.unwrap() {
        Built::Whole(house) => *house,
        Built::Reading(reading) => panic!("{}", reading.shut.why()),
    }
}

/// Seqs in quarantine, with their reasons.
fn aside(data: &Path) -> Vec<(u64, String)> {
    let dir = Folder::new(data).quarantine();
    let quarantine = Quarantine::open(Arc::new(OsDisk), dir).unwrap();
    let mut found = Vec::new();
    quarantine
        .reader()
        .scan(&mut |_, q, payload| {
            assert!(!payload.is_empty());
            found.push((q.frame.unwrap().seq, q.reason));
            Ok(())
        })
        .unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_frame_is_a_named_gap_and_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    folder(&data);
    let want: Vec<(u64, String)> = (30..40).map(|seq| (seq, "unsealable".into())).collect();
    for life in 0..3 {
        let house = whole(&data);
        for _ in 0..1000 {
            let now = house.feed.status().unwrap();
            if (now.gaps, now.sealing, now.open_buckets) == (0, 0, 0)
                && house.catalogue.chunks() == 1
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let now = house.feed.status().unwrap();
        assert_eq!((now.gaps, house.catalogue.chunks()), (0, 1), "life {life}");
        let meta = &house.catalogue.metas()[0];
        assert_eq!(meta.seq, (30, 39), "the other stream is whole");
        house.stop().unwrap();
        assert_eq!(aside(&data), want, "in quarantine, once, in life {life}");
    }
}
