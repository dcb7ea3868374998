//! The uplink on real sockets, against a node that is a few lines of ROUTER: what is cut is said again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use chordae_base::{
    DeviceId, limits,
    seams::{
        Disk,
        fake::{FakeDisk, FakeEntropy},
        real::OsClock,
    },
    wire::Frame,
};
use chordae_ingest::{
    core::{
        arrival::{Content, Verdict},
        exchange::message::Message,
        gateway::{gate::SpoolBounds, record::BIRTH_NUMBER},
        ports::Registry,
        zmtp::{self, Bounds, Event, Zmtp},
    },
    exchange::{self, Exchange},
    gateway::{
        devices::Devices,
        keepsake::Keepsake,
        link,
        metrics::GatewayMetrics,
        spool::{self, Said, Spool},
        uplink,
    },
    metrics::Metrics,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

use crate::{
    support::{Sender, birth, content, frame, key, runtime, seconds, until},
    ward::Authority,
};

/// A gateway's parts over a disk in memory.
struct House {
    spool: Spool,
    exchange: Exchange,
    devices: Arc<Devices>,
    disk: Arc<dyn Disk>,
    metrics: GatewayMetrics,
    stop: watch::Sender<bool>,
    trouble: watch::Receiver<Option<String>>,
}

impl House {
    fn start(url: &str, tls: Option<Arc<uplink::Certificates>>) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(FakeDisk::new());
        let registry = prometheus::Registry::new();
        let metrics = GatewayMetrics::register(&registry).unwrap();
        let spool = Spool::open(spool::Parts {
            disk: Arc::clone(&disk),
            clock: Arc::new(OsClock),
            dir: "/gateway".into(),
            bounds: SpoolBounds {
                bytes_max: 64 << 20,
                items_max: 1_000_000,
                free_min: 0,
            },
            metrics: Metrics::register(&registry).unwrap(),
            gateway: metrics.clone(),
        })
        .unwrap();
        let exchange = Exchange::open(exchange::Parts {
            disk: Arc::clone(&disk),
            clock: Arc::new(OsClock),
            entropy: Arc::new(FakeEntropy::new(1)),
            threads: chordae_base::seams::Threads::of_the_machine(),
            dir: "/gateway/mqtt".into(),
            metrics: registry,
        })
        .unwrap();
        let list = "/gateway/devices.json".into();
        let devices = Arc::new(Devices::open(Arc::clone(&disk), list).unwrap());
        let (stop, stopped) = watch::channel(false);
        let (troubled, trouble) = watch::channel(None);
        let parts = uplink::Parts {
            name: "ward-1".parse().unwrap(),
            target: url.parse().unwrap(),
            tls,
            spool: spool.uplink(),
            exchange: exchange.handle(),
            devices: Arc::clone(&devices),
            keepsake: Arc::new(keepsake(&disk)),
            clock: Arc::new(OsClock),
            entropy: Arc::new(FakeEntropy::new(2)),
            metrics: metrics.clone(),
        };
        tokio::spawn(uplink::run(parts, troubled, stopped));
        Self {
            spool,
            exchange,
            devices,
            disk,
            metrics,
            stop,
            trouble,
        }
    }
}

fn keepsake(disk: &Arc<dyn Disk>) -> Keepsake {
    Keepsake::open(Arc::clone(disk), "/gateway/checkpoint".into()).unwrap()
}

/// The node's end of one connection.
struct Peer<S> {
    socket: S,
    zmtp: Zmtp,
    input: BytesMut,
    identity: Bytes,
    /// What it said that it was given to keep.
    kept: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn greet(socket: S) -> Self {
        let zmtp = Zmtp::router(None, Bounds::default());
        let mut peer = Self {
            socket,
            zmtp,
            input: BytesMut::new(),
            identity: Bytes::new(),
            kept: Bytes::new(),
        };
        let mut out = BytesMut::new();
        peer.zmtp.begin(&mut out);
        loop {
            let event = peer.zmtp.next(&mut peer.input, &mut out).unwrap();
            peer.socket.write_all(&out.split()).await.unwrap();
            if let Some(Event::Ready { identity, .. }) = event {
                peer.identity = identity;
                let first = peer.hear().await;
                assert_eq!(&first[0][..], b"checkpoint", "before anything else");
                peer.kept = first[1].clone();
                return peer;
            }
            if event.is_none() {
                assert!(peer.socket.read_buf(&mut peer.input).await.unwrap() > 0);
            }
        }
    }

    async fn say(&mut self, parts: &[&[u8]]) {
        let mut out = BytesMut::new();
        zmtp::message(parts, &mut out);
        self.socket.write_all(&out).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// The next message; PINGs are answered.
    async fn hear(&mut self) -> Vec<Bytes> {
        loop {
            let mut out = BytesMut::new();
            match self.zmtp.next(&mut self.input, &mut out).unwrap() {
                Some(Event::Message(parts)) => return parts,
                Some(Event::Ping(context)) => {
                    zmtp::pong(&context, &mut out);
                    self.socket.write_all(&out).await.unwrap();
                }
                Some(_) => {}
                None => {
                    let read = self.socket.read_buf(&mut self.input);
                    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
                    assert!(read.expect("silence").unwrap() > 0, "the gateway has gone");
                }
            }
        }
    }

    async fn ack(&mut self, message: &[Bytes]) {
        let (boot, number) = number_of(message);
        let number = number.to_be_bytes();
        self.say(&[b"ack", &message[1], &boot.to_be_bytes(), &number, &number])
            .await;
    }
}

fn number_of(message: &[Bytes]) -> (u64, u64) {
    match &message[0][..] {
        b"birth" => (7, BIRTH_NUMBER),
        b"frame" => {
            let frame = Frame::decode(&message[2]).unwrap();
            (frame.boot, frame.seq)
        }
        _ => panic!("{message:?}"),
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("zmq://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn what_a_cut_connection_left_unanswered_is_sent_again() {
    runtime().block_on(async {
        let (listener, url) = listener().await;
        let house = House::start(&url, None);
        let mut sender = Sender::new(house.spool.handle(), 1);
        let stream = key("bed-7/ecg");
        assert_eq!(
            sender.ask(&stream, Content::Birth(birth(7))).await,
            Verdict::Durable
        );
        for seq in 0..100 {
            let made = content(&frame(7, seq, seconds(1), 1));
            assert_eq!(sender.ask(&stream, made).await, Verdict::Durable);
        }
        let mut times: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        let mut answered = 0;
        for connection in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            let mut node = Peer::greet(socket).await;
            assert_eq!(&node.identity[..], b"ward-1");
            let first = node.hear().await;
            assert_eq!(
                &first[0][..],
                b"birth",
                "connection {connection}: the birth goes first"
            );
            node.ack(&first).await;
            // It takes a few more, answers them in part, and drops the rest.
            for n in 0..30 {
                let message = node.hear().await;
                *times.entry(number_of(&message)).or_default() += 1;
                if n < 20 {
                    node.ack(&message).await;
                    answered += 1;
                }
                if answered == 100 {
                    break;
                }
            }
            if answered == 100 {
                until("the spool is empty", || {
                    house.metrics.spool_frames.get() == 0
                })
                .await;
                break;
            }
            // What was answered must have been heard before the cut.
            let left = 100 - answered;
            until("the answers arrive", || {
                house.metrics.spool_frames.get() == left
            })
            .await;
        }
        assert_eq!(times.len(), 100);
        assert!(
            times.values().any(|n| *n > 1),
            "nothing was sent again: the test asks nothing"
        );
        house.stop.send_replace(true);
    });
}

#[test]
fn commands_replies_status_and_the_list_of_devices_survive_cuts() {
    runtime().block_on(async {
        let (listener, url) = listener().await;
        let house = House::start(&url, None);
        let bed: DeviceId = "bed-7".parse().unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut node = Peer::greet(socket).await;
        let list = br#"[{"id":"bed-7","streams":["ecg"],"enabled":true,"revoked":["0a"]}]"#;
        node.say(&[b"devices", list]).await;
        until("the device is known", || {
            house.devices.device(&bed).is_some()
        })
        .await;
        let command = br#"{"id":"c1","do":"identify"}"#;
        node.say(&[b"cmd", b"bed-7", command]).await;
        assert_eq!(node.hear().await, [&b"cmd-ack"[..], b"bed-7", b"c1"]);
        let lines = house.exchange.handle().commands(None).await.unwrap();
        assert_eq!((lines.len(), lines[0].id.as_str()), (1, "c1"));
        // The same again changes nothing and is answered again.
        node.say(&[b"cmd", b"bed-7", command]).await;
        assert_eq!(node.hear().await, [&b"cmd-ack"[..], b"bed-7", b"c1"]);
        drop(node);

        let exchange = house.exchange.handle();
        let status = Message {
            topic: "chordae/v1/bed-7/status".into(),
            payload: "online".into(),
            qos: 1,
            retain: true,
            ..Message::default()
        };
        exchange.publish(status).await.unwrap();
        assert!(
            exchange
                .replied(&bed, "c1", r#"{"ok":true}"#.into())
                .await
                .unwrap()
        );
        for _ in 0..2 {
            // Said on every connection until it is settled.
            let (socket, _) = listener.accept().await.unwrap();
            let mut node = Peer::greet(socket).await;
            assert_eq!(
                node.hear().await,
                [&b"reply"[..], b"bed-7", b"c1", br#"{"ok":true}"#]
            );
            assert_eq!(node.hear().await, [&b"status"[..], b"bed-7", b"online"]);
        }
        let (socket, _) = listener.accept().await.unwrap();
        let mut node = Peer::greet(socket).await;
        node.hear().await;
        node.say(&[b"replied", b"bed-7", b"c1"]).await;
        for _ in 0..2_000 {
            if exchange.commands(None).await.unwrap().is_empty() {
                house.stop.send_replace(true);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a reply that was taken upstream is never forgotten");
    });
}

#[test]
fn with_tls_both_ends_show_certificates_and_a_strange_node_gets_nothing() {
    runtime().block_on(async {
        let (listener, _) = listener().await;
        let port = listener.local_addr().unwrap().port();
        let (ours, strange) = (Authority::new(), Authority::new());
        let (cert, key) = ours.client(&["urn:chordae:gateway:ward-1"]);
        let ca = ours.pem();
        let certificates: Arc<uplink::Certificates> =
            Arc::new(move || link::client_config(ca.as_bytes(), cert.as_bytes(), key.as_bytes()));
        let house = House::start(&format!("zmq+tls://localhost:{port}"), Some(certificates));
        let mut trouble = house.trouble.clone();
        let (socket, _) = listener.accept().await.unwrap();
        assert!(
            strange.acceptor().accept(socket).await.is_err(),
            "a strange node was believed"
        );
        trouble
            .wait_for(|t| t.as_ref().is_some_and(|t| t.contains("TLS")))
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let socket = ours.acceptor().accept(socket).await.unwrap();
        assert!(
            socket
                .get_ref()
                .1
                .peer_certificates()
                .is_some_and(|c| !c.is_empty())
        );
        let node = Peer::greet(socket).await;
        trouble.wait_for(Option::is_none).await.unwrap();
        drop(node);
        house.stop.send_replace(true);
    });
}

#[test]
fn a_node_that_is_not_there_is_tried_again_and_again() {
    runtime().block_on(async {
        let (listener, url) = listener().await;
        let at = listener.local_addr().unwrap();
        drop(listener);
        let house = House::start(&url, None);
        let mut trouble = house.trouble.clone();
        trouble.wait_for(Option::is_some).await.unwrap();
        let listener = TcpListener::bind(at).await.unwrap();
        for _ in 0..3 {
            // Garbage ends a connection, and nothing else.
            let (mut socket, _) = listener.accept().await.unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
        let (socket, _) = listener.accept().await.unwrap();
        let node = Peer::greet(socket).await;
        until("it is up", || house.metrics.connected.get() == 1).await;
        drop(node);
        until("it is down", || house.metrics.connected.get() == 0).await;
        // The spool is told, and takes what the next connection brings.
        assert!(house.spool.uplink().send(Said::Gone).await.is_ok());
        assert!(house.metrics.in_flight.get() <= i64::try_from(limits::UPLINK_ITEMS_MAX).unwrap());
        house.stop.send_replace(true);
    });
}

#[test]
fn a_node_that_shakes_hands_and_leaves_is_not_stormed() {
    runtime().block_on(async {
        let (listener, url) = listener().await;
        let house = House::start(&url, None);
        let mut connections = 0;
        let serve = async {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                drop(Peer::greet(socket).await);
                connections += 1;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), serve)
            .await
            .ok();
        // With pauses of 50 ms, 100 ms, 200 ms, ... at least; without growth there would be dozens.
        assert!((1..=7).contains(&connections), "{connections} connections");
        house.stop.send_replace(true);
    });
}

#[test]
fn the_newest_checkpoint_is_kept_and_said_first_on_every_connection() {
    runtime().block_on(async {
        let (listener, url) = listener().await;
        let house = House::start(&url, None);
        let mut sender = Sender::new(house.spool.handle(), 1);
        // An item waits; the checkpoint goes before it all the same (see `greet`).
        let made = content(&frame(7, 0, seconds(1), 1));
        sender.ask(&key("bed-7/ecg"), made).await;
        let mut given = Bytes::new();
        for n in 0..3 {
            let (socket, _) = listener.accept().await.unwrap();
            let mut node = Peer::greet(socket).await;
            assert_eq!(node.kept, given, "connection {n}");
            for text in ["an older one", "the newest"] {
                given = format!("{text} of {n}").into();
                node.say(&[b"checkpoint", &given]).await;
            }
            let text = || keepsake(&house.disk).text();
            until("it is kept", || text().as_bytes() == given).await;
        }
        // One that is too long is none.
        let (socket, _) = listener.accept().await.unwrap();
        let mut node = Peer::greet(socket).await;
        let long = vec![b'x'; limits::CHECKPOINT_BYTES_MAX + 1];
        node.say(&[b"checkpoint", &long]).await;
        drop(node);
        let (socket, _) = listener.accept().await.unwrap();
        assert_eq!(Peer::greet(socket).await.kept, given);
        house.stop.send_replace(true);
    });
}
