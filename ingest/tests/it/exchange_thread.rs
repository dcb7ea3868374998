//! The thread and its journal: what is told is durable, a failed sync ends it, nobody waits for a peer
//! that does not read, segments come and go.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use chordae_base::{
    DeviceId, FailureKind,
    seams::{
        Disk, Threads,
        fake::{FakeClock, FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_ingest::{
    core::{
        arrival::ConnId,
        exchange::{
            command::CommandState,
            message::{Message, Wish},
            request::{Answer, Denied, Hello, Request, ToClient},
        },
    },
    exchange::{Exchange, ExchangeHandle, Parts},
};
use prometheus::Registry;
use tokio::{sync::mpsc, time::timeout};

use crate::exchange_stage::{SECOND, hello, message, retained, text, will};

const PATIENCE: Duration = Duration::from_secs(30);
const NOW: i64 = 1_000 * SECOND;

struct House {
    exchange: Exchange,
    handle: ExchangeHandle,
    clock: FakeClock,
    registry: Registry,
    conns: u64,
}

fn open(disk: Arc<dyn Disk>, segment_bytes: u64) -> House {
    let (clock, registry) = (FakeClock::new(NOW), Registry::new());
    let parts = Parts {
        disk,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(FakeEntropy::new(7)),
        threads: Threads::of_the_machine(),
        dir: "/data/mqtt".into(),
        metrics: registry.clone(),
    };
    let exchange = Exchange::open_with(parts, segment_bytes).unwrap();
    House {
        handle: exchange.handle(),
        exchange,
        clock,
        registry,
        conns: 0,
    }
}

struct Peer {
    conn: ConnId,
    handle: ExchangeHandle,
    hears: mpsc::Receiver<ToClient>,
}

impl House {
    async fn attach(&mut self, hello: Hello, channel: usize) -> Peer {
        self.conns += 1;
        let conn = ConnId(self.conns);
        let (out, hears) = mpsc::channel(channel);
        self.handle.connect(conn, out).await.unwrap();
        let handle = self.handle.clone();
        let mut peer = Peer {
            conn,
            handle,
            hears,
        };
        let attached = peer.ask(Request::Attach(hello)).await;
        assert!(matches!(attached, Some(Answer::Attached { .. })));
        peer
    }

    async fn regular(&mut self, name: &str) -> Peer {
        self.attach(hello(name, false, u32::MAX), 64).await
    }

    fn dropped(&self, reason: &str) -> u64 {
        let all = self.registry.gather();
        let family = all
            .iter()
            .find(|f| f.name() == "chordae_exchange_dropped_total");
        let metrics = family.map_or(&[][..], |f| f.get_metric());
        let mine = metrics
            .iter()
            .find(|m| m.get_label().iter().any(|l| l.value() == reason));
        mine.map_or(0, |m| m.get_counter().get_value() as u64)
    }

    fn end(self) -> chordae_base::Outcome<()> {
        drop(self.handle);
        self.exchange.join()
    }
}

impl Peer {
    async fn send(&self, request: Request) {
        self.handle.request(self.conn, 5, request).await.unwrap();
    }

    /// The answer; deliveries before it are forgotten.
    async fn ask(&mut self, request: Request) -> Option<Answer> {
        self.send(request).await;
        loop {
            let what = timeout(PATIENCE, self.hears.recv()).await.unwrap()?;
            if let ToClient::Answer(5, answer) = what {
                return Some(answer);
            }
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: u8) {
        let wish = Wish::plain(filter, qos);
        let answer = self.ask(Request::Subscribe(vec![wish])).await;
        assert_eq!(answer, Some(Answer::Subscribed(vec![Ok(qos)])));
    }

    async fn publish(&mut self, message: Message) -> Option<Answer> {
        self.ask(Request::Publish { message, id: None }).await
    }

    /// The next delivery, acknowledged.
    async fn next(&mut self) -> String {
        loop {
            match timeout(PATIENCE, self.hears.recv()).await.unwrap().unwrap() {
                ToClient::Deliver(delivery) => {
                    if delivery.id > 0 {
                        self.send(Request::Acked(delivery.id)).await;
                    }
                    return text(&delivery);
                }
                ToClient::Answer(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn device() -> DeviceId {
    "d1".parse().unwrap()
}

#[tokio::test]
async fn what_is_told_survives_a_power_loss() {
    let disk = FakeDisk::new();
    let mut house = open(Arc::new(disk.boot()), 1 << 20);
    let mut a = house.regular("a").await;
    a.subscribe("t", 1).await;
    drop(a);
    let mut b = house.regular("b").await;
    for n in 0..5 {
        let answer = b.publish(message("t", &n.to_string(), 1)).await;
        assert_eq!(answer, Some(Answer::Published { matched: true }));
    }
    house
        .handle
        .publish(retained("r", "kept", 1))
        .await
        .unwrap();
    let body = r#"{"do":"identify"}"#.to_owned();
    let id = house
        .handle
        .issue(device(), None, body, NOW + 60 * SECOND)
        .await
        .unwrap();
    drop(b);
    disk.crash();
    assert!(house.end().is_err());
    let mut house = open(Arc::new(disk.boot()), 1 << 20);
    let mut a = house.regular("a").await;
    for n in 0..5 {
        assert_eq!(a.next().await, n.to_string());
    }
    let kept = house.handle.retained("r").await.unwrap();
    assert_eq!(kept, Some(Bytes::from_static(b"kept")));
    let lines = house.handle.commands(Some(device())).await.unwrap();
    assert_eq!((lines.len(), lines[0].id.as_str()), (1, id.as_str()));
}

#[tokio::test]
async fn a_failed_sync_answers_nobody_and_ends_the_thread() {
    let disk = Arc::new(FaultyDisk::new(Arc::new(FakeDisk::new().boot())));
    let mut house = open(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20);
    let mut a = house.regular("a").await;
    a.subscribe("t", 1).await;
    disk.arm(Fault::next(Op::Sync, How::Fail(io::ErrorKind::Other)));
    let answer = a.publish(message("t", "x", 1)).await;
    assert_eq!(answer, None, "its channel is closed, without a word");
    timeout(PATIENCE, house.handle.ended()).await.unwrap();
    let late = house.handle.request(a.conn, 1, Request::Acked(1)).await;
    assert_eq!(late.unwrap_err().kind, FailureKind::Io);
    drop(a);
    assert_eq!(house.end().unwrap_err().kind, FailureKind::Io);
}

#[tokio::test]
async fn a_full_disk_refuses_what_must_be_kept_and_heals() {
    let disk = FakeDisk::new();
    let mut house = open(Arc::new(disk.boot()), 1 << 20);
    let mut a = house.regular("a").await;
    a.subscribe("t", 1).await;
    let full = Some(Answer::Refused(Denied::Quota));
    let ok = Some(Answer::Published { matched: true });
    disk.set_capacity(100 << 20);
    house.clock.advance(1_000_000_000);
    assert_eq!(a.publish(message("t", "x", 1)).await, full);
    assert_eq!(a.publish(retained("t", "x", 0)).await, full);
    assert_eq!(a.publish(message("t", "now", 0)).await, ok);
    let body = r#"{"do":"start"}"#.to_owned();
    let expires = NOW + 60 * SECOND;
    let issued = house.handle.issue(device(), None, body, expires).await;
    assert_eq!(issued.unwrap_err().kind, FailureKind::Busy);
    let wish = Wish::plain("other", 1);
    let refused = a.ask(Request::Subscribe(vec![wish])).await;
    assert_eq!(refused, Some(Answer::Subscribed(vec![Err(Denied::Quota)])));
    disk.set_capacity(u64::MAX);
    house.clock.advance(1_000_000_000);
    assert_eq!(a.publish(message("t", "kept", 1)).await, ok);
    assert_eq!(a.next().await, "kept");
}

#[tokio::test]
async fn d29_a_peer_that_does_not_read_stops_nobody_and_loses_only_qos_0() {
    let mut house = open(Arc::new(FakeDisk::new().boot()), 1 << 20);
    let mut deaf = house.attach(hello("deaf", false, 60), 8).await;
    deaf.subscribe("t", 1).await;
    let mut b = house.regular("b").await;
    for n in 0..40 {
        for qos in 0..2 {
            let answer = b.publish(message("t", &format!("{n} {qos}"), qos)).await;
            assert_eq!(answer, Some(Answer::Published { matched: true }));
        }
    }
    assert!(house.dropped("channel-full") >= 36, "QoS 0 is now or never");
    let mut got = Vec::new();
    while got.last().is_none_or(|t: &String| t != "39 1") {
        got.push(deaf.next().await);
    }
    got.retain(|t| t.ends_with(" 1"));
    let wanted: Vec<_> = (0..40).map(|n| format!("{n} 1")).collect();
    assert_eq!(got, wanted, "QoS 1 waited for the room, in order");
}

#[tokio::test]
async fn a_peer_that_asks_and_never_listens_is_let_go() {
    let mut house = open(Arc::new(FakeDisk::new().boot()), 1 << 20);
    let deaf = house.attach(hello("deaf", true, 0), 4).await;
    let mut b = house.regular("b").await;
    for _ in 0..50 {
        let message = message("t", "x", 1);
        deaf.send(Request::Publish { message, id: None }).await;
    }
    let answer = b.publish(message("t", "x", 1)).await;
    assert_eq!(answer, Some(Answer::Published { matched: false }));
    house.handle.retained("none").await.unwrap();
    let mut heard = 0;
    let mut deaf = deaf;
    while timeout(PATIENCE, deaf.hears.recv())
        .await
        .unwrap()
        .is_some()
    {
        heard += 1;
    }
    assert_eq!(heard, 4, "as many as its channel holds, then the end");
}

#[tokio::test]
async fn a_connection_that_vanishes_is_noticed_and_its_will_published() {
    let mut house = open(Arc::new(FakeDisk::new().boot()), 1 << 20);
    let mut watcher = house.regular("watcher").await;
    watcher.subscribe("w", 1).await;
    let a = house
        .attach(
            Hello {
                will: Some(will("w", "gone", 0)),
                ..hello("a", true, 0)
            },
            8,
        )
        .await;
    drop(a);
    house.clock.advance(2_000_000_000);
    assert_eq!(watcher.next().await, "gone");
}

#[tokio::test]
async fn what_nobody_waits_for_is_kept_soon_and_at_an_orderly_stop() {
    let disk = FakeDisk::new();
    let mut house = open(Arc::new(disk.boot()), 1 << 20);
    let mut a = house.regular("a").await;
    a.publish(retained("first", "x", 0)).await;
    let size = || disk_bytes(&disk);
    let before = size();
    house.clock.advance(1_000_000_000);
    timeout(PATIENCE, async {
        while size() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    a.publish(retained("second", "x", 0)).await;
    drop(a);
    house.handle.stop().await.unwrap();
    disk.crash();
    house.end().unwrap();
    let house = open(Arc::new(disk.boot()), 1 << 20);
    for topic in ["first", "second"] {
        assert!(
            house.handle.retained(topic).await.unwrap().is_some(),
            "{topic}"
        );
    }
}

/// Bytes of the log, without the zeros of its room.
fn disk_bytes(disk: &FakeDisk) -> usize {
    let files = disk.list(Path::new("/data/mqtt")).unwrap();
    let written = |path| {
        let bytes = disk.peek(path).unwrap_or_default();
        bytes
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last + 1)
    };
    files.iter().map(|f| written(&f.path)).sum()
}

#[tokio::test]
async fn segments_begin_with_all_that_is_kept_and_older_ones_go() {
    let disk = FakeDisk::new();
    let mut house = open(Arc::new(disk.boot()), 10_000);
    let mut a = house.regular("a").await;
    a.subscribe("t", 2).await;
    drop(a);
    let mut b = house.regular("b").await;
    let long = "x".repeat(300);
    for n in 0..500 {
        let topic = format!("r/{}", n % 5);
        b.publish(retained(&topic, &format!("{n} {long}"), 1)).await;
        if n % 100 == 0 {
            b.publish(message("t", &n.to_string(), 2)).await;
        }
    }
    assert!(disk_bytes(&disk) < 40_000, "{}", disk_bytes(&disk));
    let files = disk.list(Path::new("/data/mqtt")).unwrap();
    assert_eq!(files.len(), 1, "the older ones are gone");
    disk.crash();
    let mut house = open(Arc::new(disk.boot()), 10_000);
    let mut a = house.regular("a").await;
    for n in [0, 100, 200, 300, 400] {
        assert_eq!(a.next().await, n.to_string());
    }
    let newest = house.handle.retained("r/4").await.unwrap().unwrap();
    assert!(newest.starts_with(b"499 "));
}

#[tokio::test]
async fn the_house_issues_commands_and_hears_of_changes() {
    let mut house = open(Arc::new(FakeDisk::new().boot()), 1 << 20);
    let handle = house.handle.clone();
    let mut changed = handle.changed();
    let mut a = house.attach(hello("d1", true, 0), 64).await;
    a.subscribe("chordae/v1/d1/cmd", 1).await;
    let body = || r#"{"do":"start"}"#.to_owned();
    let id = handle
        .issue(device(), None, body(), NOW + 60 * SECOND)
        .await
        .unwrap();
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert_eq!(a.next().await, format!(r#"{{"do":"start","id":"{id}"}}"#));
    assert!(
        handle
            .replied(&device(), &id, Bytes::from_static(b"{}"))
            .await
            .unwrap()
    );
    assert!(changed.has_changed().unwrap());
    let lines = handle.commands(None).await.unwrap();
    assert_eq!(lines[0].state, CommandState::Replied);
    handle.settle(&id).await.unwrap();
    assert!(handle.commands(None).await.unwrap().is_empty());
    changed.mark_unchanged();
    handle
        .publish(retained("chordae/v1/d1/s/birth", "x", 1))
        .await
        .unwrap();
    assert!(!changed.has_changed().unwrap(), "no status");
    handle
        .publish(retained("chordae/v1/d1/status", "online", 1))
        .await
        .unwrap();
    assert!(changed.has_changed().unwrap());
    let bad = handle.publish(message("a/+", "x", 1)).await;
    assert_eq!(bad.unwrap_err().kind, FailureKind::BadInput);
    let unknown = handle.delivered(&device(), "none").await.unwrap();
    assert!(!unknown);
    let long = Bytes::from(vec![b'x'; 70_000]);
    let long = handle.replied(&device(), "none", long).await;
    assert_eq!(long.unwrap_err().kind, FailureKind::BadInput);
}
