//! Frames of a bucket that cannot be sealed: they go to quarantine before the log lets them go, once.

use std::sync::Arc;

use chordae_base::{record::WalRecord, seams::fake::FakeDisk};
use chordae_ingest::core::{
    arrival::{Content, Verdict},
    ports::GapNews,
    quarantined::Quarantined,
};
use chordae_ingest::quarantine::Quarantine;

use crate::support::{House, Sender, Sink, birth, content, frame, key, runtime, until};

/// What lies in quarantine, as it would be after a power loss.
fn aside(disk: &FakeDisk) -> Vec<(Quarantined, usize)> {
    let disk = Arc::new(disk.copy());
    disk.crash();
    let quarantine = Quarantine::open(disk, "/data/quarantine".into()).unwrap();
    let mut found = Vec::new();
    quarantine
        .reader()
        .scan(&mut |_, record, payload| {
            found.push((record, payload.len()));
            Ok(())
        })
        .unwrap();
    found
}

fn settled(sink: &Sink) -> Vec<u64> {
    let records = sink.0.lock().unwrap();
    let seqs = records.iter().filter_map(|(_, r)| match r {
        WalRecord::Settled(s) => Some(s.seq),
        _ => None,
    });
    seqs.collect()
}

#[test]
fn a_gap_is_quarantined_then_settled_and_once() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let (stream, now) = (key("bed-7/ecg"), house.now());
        sender.ask(&stream, Content::Birth(birth(1))).await;
        for seq in 0..5 {
            sender.ask(&stream, content(&frame(1, seq, now, 1))).await;
        }
        until("all are handed on", || sink.frames().len() == 5).await;
        let frames: Vec<(u64, u64)> = sink
            .frames()
            .iter()
            .filter(|(_, f)| f.seq >= 2)
            .map(|(position, f)| (f.seq, *position))
            .collect();
        let gap = GapNews {
            stream: stream.clone(),
            boot: 1,
            frames,
        };
        ingest.handle().gap(gap.clone());
        until("the gap is settled", || settled(&sink) == [2, 3, 4]).await;
        let found = aside(&disk);
        assert_eq!(found.len(), 3);
        for ((record, payload), seq) in found.iter().zip(2..) {
            assert_eq!(
                (record.reason.as_str(), record.settles),
                ("unsealable", true)
            );
            let note = record.frame.as_ref().unwrap();
            assert_eq!((note.seq, note.boot), (seq, 1));
            assert!(*payload > 0, "as it was sent");
        }
        // A repeat is absorbed, another content is still a conflict.
        let told = sender.ask(&stream, content(&frame(1, 3, now, 1))).await;
        assert_eq!(told, Verdict::Durable);
        // The chunker says it again after a restart: settled again, not kept twice.
        ingest.handle().stop().await.unwrap();
        ingest.join().unwrap();
        let (ingest, sink) = house.start();
        ingest.handle().gap(gap);
        until("it is settled again", || settled(&sink) == [2, 3, 4]).await;
        assert_eq!(aside(&disk).len(), 3);
        let mut sender = Sender::new(ingest.handle(), 2);
        let told = sender.ask(&stream, content(&frame(1, 4, now, 1))).await;
        assert_eq!(told, Verdict::Durable);
        assert_eq!(sink.frames().len(), 0, "absorbed");
        ingest.handle().stop().await.unwrap();
        ingest.join().unwrap();
    });
}

/// What the log cannot read back any more leaves at least its name.
#[test]
fn a_frame_that_cannot_be_read_leaves_its_name() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let (stream, now) = (key("bed-7/ecg"), house.now());
        sender.ask(&stream, Content::Birth(birth(1))).await;
        sender.ask(&stream, content(&frame(1, 0, now, 1))).await;
        until("it is handed on", || sink.frames().len() == 1).await;
        let gap = GapNews {
            stream: stream.clone(),
            boot: 1,
            // No record begins there.
            frames: vec![(0, sink.frames()[0].0 + 3)],
        };
        ingest.handle().gap(gap);
        until("the gap is settled", || settled(&sink) == [0]).await;
        let found = aside(&disk);
        assert_eq!((found.len(), found[0].1), (1, 0));
        let note = found[0].0.frame.as_ref().unwrap();
        assert_eq!((note.boot, note.seq), (1, 0));
        // The device's repeat is known by its print, which was not forgotten.
        let told = sender.ask(&stream, content(&frame(1, 0, now, 1))).await;
        assert_eq!(told, Verdict::Durable);
        ingest.handle().stop().await.unwrap();
        ingest.join().unwrap();
    });
}
