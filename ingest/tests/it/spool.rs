//! The running spool on disks that crash, fill up and lie: what was acknowledged reaches the node.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chordae_base::{
    Outcome, StreamKey,
    journal::scan_dir,
    limits,
    seams::{
        Disk,
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How, Op},
        real::OsClock,
    },
    wire::{Birth, Frame},
};
use chordae_ingest::{
    core::{
        arrival::{Content, Verdict},
        gateway::{book::Answer, gate::SpoolBounds, record::BIRTH_NUMBER, wire::Parts as Message},
        quarantined::Quarantined,
    },
    gateway::{
        metrics::GatewayMetrics,
        spool::{Parts, Said, Spool},
    },
    metrics::Metrics,
};
use tokio::sync::mpsc;

use crate::support::{Sender, birth, content, frame, key, payload_of, runtime, seconds, until};

const BOUNDS: SpoolBounds = SpoolBounds {
    bytes_max: 1 << 20,
    items_max: 1_000_000,
    free_min: 0,
};

fn open(disk: Arc<dyn Disk>, bounds: SpoolBounds) -> Outcome<(Spool, GatewayMetrics)> {
    let registry = prometheus::Registry::new();
    let gateway = GatewayMetrics::register(&registry).unwrap();
    let spool = Spool::open(Parts {
        disk,
        clock: Arc::new(OsClock),
        dir: "/gateway".into(),
        bounds,
        metrics: Metrics::register(&registry).unwrap(),
        gateway: gateway.clone(),
    })?;
    Ok((spool, gateway))
}

/// What the node has, by (stream, boot, number).
#[derive(Default)]
struct Node {
    kept: BTreeMap<(StreamKey, u64, u64), Bytes>,
    received: Vec<i64>,
}

/// What a message is about.
fn number_of(message: &Message) -> (StreamKey, u64, u64) {
    let stream: StreamKey = std::str::from_utf8(&message[1]).unwrap().parse().unwrap();
    match &message[0][..] {
        b"birth" => (
            stream,
            Birth::decode(&message[2]).unwrap().boot,
            BIRTH_NUMBER,
        ),
        _ => {
            let frame = Frame::decode(&message[2]).unwrap();
            (stream, frame.boot, frame.seq)
        }
    }
}

impl Node {
    /// Takes one message and acknowledges it.
    fn take(&mut self, message: &Message) -> Answer {
        let (stream, boot, number) = number_of(message);
        self.received
            .push(i64::from_be_bytes(message[3][..].try_into().unwrap()));
        self.kept
            .insert((stream.clone(), boot, number), message[2].clone());
        Answer::Ack {
            stream,
            boot,
            first: number,
            last: number,
        }
    }

    /// Serves a connection until everything is upstream, or the spool has ended.
    async fn serve(&mut self, (spool, metrics): &(Spool, GatewayMetrics)) {
        let (out, mut items) = mpsc::channel(limits::UPLINK_ITEMS_MAX);
        if spool.uplink().send(Said::Connected(out)).await.is_err() {
            return;
        }
        while metrics.spool_frames.get() > 0 {
            let item = tokio::time::timeout(Duration::from_millis(20), items.recv()).await;
            let answer = match item {
                Ok(Some(message)) => self.take(&message),
                Ok(None) => return,
                Err(_) => continue,
            };
            if spool
                .uplink()
                .send(Said::Answers(vec![answer]))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// Streams while a node takes, until the disk is cut off at its n-th change; what was acknowledged, and
/// whether the disk was ever reached.
async fn live(disk: Arc<FaultyDisk>, node: &mut Node) -> Vec<Bytes> {
    let mut acknowledged = Vec::new();
    let bounds = SpoolBounds {
        bytes_max: 64 << 10,
        ..BOUNDS
    };
    let Ok((spool, _)) = open(disk, bounds) else {
        return acknowledged;
    };
    let handle = spool.handle();
    let mut sender = Sender::new(handle.clone(), 1);
    let stream = key("bed-7/ecg");
    let (out, mut items) = mpsc::channel(limits::UPLINK_ITEMS_MAX);
    let mut out = Some(out);
    let mut offers = vec![Content::Birth(birth(1))];
    offers.extend((0..60).map(|seq| content(&frame(1, seq, seconds(1), 1))));
    for (n, offer) in offers.into_iter().enumerate() {
        // The node is away at first, then there.
        if let Some(out) = out.take_if(|_| n == 20) {
            spool.uplink().send(Said::Connected(out)).await.ok();
        }
        while let Ok(message) = items.try_recv() {
            let answer = node.take(&message);
            spool.uplink().send(Said::Answers(vec![answer])).await.ok();
        }
        if sender.try_offer(&stream, offer.clone()).await.is_err() {
            break;
        }
        match sender.fate_or_end(&handle).await {
            Some((_, Verdict::Durable)) if n > 0 => acknowledged.push(payload_of(&offer)),
            Some((_, Verdict::Durable)) => {}
            Some((_, Verdict::Full(_))) => tokio::task::yield_now().await,
            Some((_, other)) => panic!("{other:?}"),
            None => break,
        }
    }
    drop(sender);
    handle.stop().await.ok();
    drop(handle);
    spool.join().ok();
    acknowledged
}

/// Cuts the disk off at every change of a life, in several ways; how many acknowledged frames never reach
/// the node, and of how many.
fn cut_everywhere(lie: Option<Op>) -> (usize, usize) {
    let (mut lost, mut told) = (0, 0);
    let runtime = runtime();
    for after in 0.. {
        let disk = FakeDisk::new();
        let faulty = Arc::new(FaultyDisk::new(Arc::new(disk.boot())));
        if let Some(op) = lie {
            faulty.arm(Fault {
                for_ever: true,
                ..Fault::next(op, How::Lie)
            });
        }
        let cut = Fault {
            op: None,
            after,
            for_ever: true,
            ..Fault::next(Op::Write, How::Fail(std::io::ErrorKind::Other))
        };
        faulty.arm(cut);
        let mut node = Node::default();
        let acknowledged = runtime.block_on(live(Arc::clone(&faulty), &mut node));
        if after % 2 == 0 {
            disk.crash()
        } else {
            disk.crash_torn(after)
        }
        match open(Arc::new(disk.boot()), BOUNDS) {
            Ok(opened) => runtime.block_on(node.serve(&opened)),
            Err(failure) => assert!(lie.is_some(), "cut at {after}: {failure}"),
        }
        told += acknowledged.len();
        lost += acknowledged
            .iter()
            .filter(|f| !node.kept.values().any(|k| k == *f))
            .count();
        if lie.is_none() && faulty.struck() == 0 {
            break;
        }
        if lie.is_some() && (lost > 0 || after > 40) {
            break;
        }
    }
    (lost, told)
}

#[test]
fn acknowledged_frames_reach_the_node_wherever_the_power_goes() {
    let (lost, told) = cut_everywhere(None);
    assert!(told > 100, "the test asks nothing: {told}");
    if cfg!(feature = "control-ack-before-append") {
        assert!(
            lost > 0,
            "the negative control loses nothing: this test sees nothing"
        );
    } else {
        assert_eq!(lost, 0, "acknowledged frames are gone, of {told}");
    }
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_seen_by_this_test() {
    let (lost, told) = cut_everywhere(Some(Op::Sync));
    assert!(
        lost > 0,
        "of {told} frames none is lost on a disk that never syncs"
    );
}

#[test]
fn a_full_spool_refuses_absorbs_repeats_and_heals_when_the_node_takes() {
    runtime().block_on(async {
        let bounds = SpoolBounds {
            bytes_max: 64 << 10,
            ..BOUNDS
        };
        let disk = Arc::new(FakeDisk::new());
        let opened = open(Arc::<FakeDisk>::clone(&disk), bounds).unwrap();
        let (spool, metrics) = &opened;
        let handle = spool.handle();
        let mut sender = Sender::new(handle.clone(), 1);
        let stream = key("bed-7/ecg");
        let mut taken = Vec::new();
        let refused = loop {
            let made = content(&frame(
                1,
                u64::try_from(taken.len()).unwrap(),
                seconds(1),
                1,
            ));
            match sender.ask(&stream, made.clone()).await {
                Verdict::Durable => taken.push(made),
                Verdict::Full(content) => break content,
                other => panic!("{other:?}"),
            }
            assert!(taken.len() < 10_000, "it is bounded by nothing");
        };
        assert!(taken.len() > 10);
        assert!(
            !*handle.doors_open().borrow(),
            "a sender that must wait would try without end"
        );
        assert!(
            metrics.spool_bytes.get() <= (64 << 10) + 4096,
            "{}",
            metrics.spool_bytes.get()
        );
        assert_eq!(
            sender.ask(&stream, taken[0].clone()).await,
            Verdict::Durable,
            "a repeat needs no room"
        );
        handle.stop().await.unwrap();
        drop((handle, sender));
        opened.0.join().unwrap();

        let opened = open(disk, bounds).unwrap();
        let (spool, metrics) = &opened;
        let handle = spool.handle();
        assert!(
            !*handle.doors_open().borrow(),
            "a restart makes no room: no moment in which it seems to"
        );
        let mut sender = Sender::new(handle.clone(), 1);
        let mut node = Node::default();
        node.serve(&opened).await;
        until("the doors are open again", || *handle.doors_open().borrow()).await;
        assert_eq!(sender.ask(&stream, refused).await, Verdict::Durable);
        node.serve(&opened).await;
        assert_eq!(node.kept.len(), taken.len() + 1);
        assert!(node.received.is_sorted(), "receive times go back");
        until("the spool is empty", || metrics.spool_frames.get() == 0).await;
        handle.stop().await.unwrap();
        drop((handle, sender));
        opened.0.join().unwrap();
    });
}

#[test]
fn what_the_node_refuses_is_told_and_lies_in_its_quarantine_or_in_ours() {
    runtime().block_on(async {
        let disk = FakeDisk::new();
        let (spool, metrics) = open(Arc::new(disk.boot()), BOUNDS).unwrap();
        let mut sender = Sender::new(spool.handle(), 1);
        let stream = key("bed-7/ecg");
        for salt in [1, 2] {
            let made = content(&frame(1, 5, seconds(1), salt));
            assert_eq!(
                sender.ask(&stream, made).await,
                Verdict::Durable,
                "the node judges"
            );
        }
        let (out, mut items) = mpsc::channel(limits::UPLINK_ITEMS_MAX);
        spool.uplink().send(Said::Connected(out)).await.unwrap();
        let first = items.recv().await.unwrap();
        assert!(items.try_recv().is_err(), "one number flies twice");
        let ack = Answer::Ack {
            stream: stream.clone(),
            boot: 1,
            first: 5,
            last: 5,
        };
        spool.uplink().send(Said::Answers(vec![ack])).await.unwrap();
        let second = items.recv().await.unwrap();
        assert_ne!(first[2], second[2]);
        let nack = Answer::Nack {
            stream: stream.clone(),
            boot: 1,
            number: 5,
            reason: "conflict".into(),
        };
        spool
            .uplink()
            .send(Said::Answers(vec![nack]))
            .await
            .unwrap();
        let standing = loop {
            let standing = sender.standing(&stream, 1).await;
            if !standing.refused.is_empty() {
                break standing;
            }
        };
        assert_eq!(standing.durable, vec![(5, 5)]);
        assert_eq!(standing.refused, vec![(5, 5, "conflict")]);
        assert!(sender.heard().is_none());
        assert_eq!(sender.news, vec![(stream.clone(), 1)], "without a question");
        // What the node does not keep is kept here.
        let third = content(&frame(1, 6, seconds(1), 1));
        sender.ask(&stream, third.clone()).await;
        let third = payload_of(&third);
        assert_eq!(items.recv().await.unwrap()[2], third);
        let nack = Answer::Nack {
            stream: stream.clone(),
            boot: 1,
            number: 6,
            reason: "frame-leads".into(),
        };
        spool
            .uplink()
            .send(Said::Answers(vec![nack]))
            .await
            .unwrap();
        while sender.standing(&stream, 1).await.refused.len() < 2 {}
        until("nothing waits", || metrics.spool_frames.get() == 0).await;
        disk.crash();
        let mut kept = Vec::new();
        let dir = std::path::Path::new("/gateway/quarantine");
        scan_dir(&disk, dir, limits::RECORD_BYTES_MAX, &mut |_, bytes| {
            kept.push(Quarantined::decode(&bytes)?);
            Ok(())
        })
        .unwrap();
        let kept: Vec<_> = kept.iter().map(|(q, p)| (q.reason.as_str(), p)).collect();
        assert_eq!(kept, [("frame-leads", &third)], "the node has the conflict");
    });
}

#[test]
fn malformed_payloads_are_refused_or_kept_apart_and_not_sent() {
    runtime().block_on(async {
        let opened = open(Arc::new(FakeDisk::new()), BOUNDS).unwrap();
        let mut sender = Sender::new(opened.0.handle(), 1);
        let bad = || Content::Malformed("protobuf", "why".into(), Bytes::from_static(b"bad"));
        let stream = key("bed-7/ecg");
        assert!(matches!(
            sender.ask(&stream, bad()).await,
            Verdict::Refused(_)
        ));
        sender.can_be_told = false;
        assert_eq!(sender.ask(&stream, bad()).await, Verdict::Durable);
        let mut node = Node::default();
        node.serve(&opened).await;
        assert!(node.kept.is_empty());
    });
}

#[test]
fn a_restart_remembers_what_the_ack_topic_shows() {
    runtime().block_on(async {
        let disk = FakeDisk::new();
        let stream = key("bed-7/ecg");
        let opened = open(Arc::new(disk.boot()), BOUNDS).unwrap();
        let mut sender = Sender::new(opened.0.handle(), 1);
        assert_eq!(
            sender.ask(&stream, Content::Birth(birth(3))).await,
            Verdict::Durable
        );
        for seq in [0, 1, 2, 5] {
            let made = content(&frame(3, seq, seconds(1), 1));
            assert_eq!(sender.ask(&stream, made).await, Verdict::Durable);
        }
        let mut node = Node::default();
        node.serve(&opened).await;
        assert_eq!(node.kept.len(), 5);
        disk.crash();
        drop((sender, opened));
        let opened = open(Arc::new(disk.boot()), BOUNDS).unwrap();
        let mut sender = Sender::new(opened.0.handle(), 1);
        let standing = sender.standing(&stream, 3).await;
        assert_eq!(
            (standing.durable, standing.boots),
            (vec![(0, 2), (5, 5)], vec![3])
        );
    });
}
