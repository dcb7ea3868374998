//! A node's worth of ZeroMQ doors, and a DEALER on real sockets, made of our codec's other end.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use chordae_base::{
    seams::{Threads, real::OsEntropy},
    wire::Frame,
};
use chordae_ingest::{
    core::{
        ports::Registry,
        zmtp::{self, Bounds, Event, Zmtp},
    },
    doors::{
        Door, DoorSettings,
        tls::{Material, Tls},
        zmq::{self, DoorParts},
    },
    exchange::{self, Exchange},
    metrics::Metrics,
    service::Ingest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    support::{House, Sink, birth, frame},
    ward::Authority,
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct ZmqWard {
    pub(crate) house: House,
    pub(crate) ingest: Ingest,
    pub(crate) exchange: Exchange,
    pub(crate) metrics: Metrics,
    pub(crate) parts: DoorParts,
    sink: Sink,
}

impl ZmqWard {
    pub(crate) fn new(house: House) -> Self {
        let (ingest, sink) = house.start();
        let exchange = Exchange::open(exchange::Parts {
            disk: Arc::clone(&house.disk),
            clock: Arc::clone(&house.clock),
            entropy: Arc::new(OsEntropy),
            threads: Threads::of_the_machine(),
            dir: "/data/mqtt".into(),
            metrics: prometheus::Registry::new(),
        })
        .unwrap();
        let metrics = house.metrics();
        let parts = DoorParts::new(
            ingest.handle(),
            exchange.handle(),
            Arc::clone(&house.registry) as Arc<dyn Registry>,
            Arc::clone(&house.clock),
            metrics.clone(),
        )
        .recheck_every(Duration::from_millis(100));
        Self {
            house,
            ingest,
            exchange,
            metrics,
            parts,
            sink,
        }
    }

    pub(crate) async fn door(&self, tls: Option<Tls>) -> Door {
        let settings = DoorSettings::new("127.0.0.1:0".parse().unwrap(), tls);
        zmq::open(settings, self.parts.clone()).await.unwrap()
    }

    /// Frames that ingest has handed down.
    pub(crate) fn logged(&self) -> Vec<Frame> {
        let frames = self.sink.frames();
        frames.iter().map(|(_, f)| f.frame().unwrap()).collect()
    }

    /// The record of the nth frame.
    pub(crate) fn record(&self, n: usize) -> chordae_base::record::FrameRecord {
        self.sink.frames()[n].1.clone()
    }

    pub(crate) fn refused(&self, why: &str) -> u64 {
        self.metrics.refused.with_label_values(&[why]).get()
    }
}

pub(crate) fn tls(authority: &Authority) -> Tls {
    let (cert, key) = authority.server();
    Tls::fixed(&Material {
        ca: authority.pem().into_bytes(),
        cert: cert.into_bytes(),
        key: key.into_bytes(),
        crl: None,
    })
    .unwrap()
}

/// See the module.
pub(crate) struct Dealer<S> {
    pub(crate) socket: S,
    pub(crate) zmtp: Zmtp,
    input: BytesMut,
    out: BytesMut,
    /// All bytes sent, as somebody on the line would have captured them.
    pub(crate) captured: Vec<u8>,
}

impl Dealer<TcpStream> {
    pub(crate) async fn plain(door: &Door) -> Self {
        let socket = TcpStream::connect(door.address()).await.unwrap();
        Self::shake(socket, "").await.unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dealer<S> {
    /// `None`: the door does not want us.
    pub(crate) async fn shake(socket: S, calls_itself: &str) -> Option<Self> {
        let zmtp = Zmtp::dealer(calls_itself.as_bytes(), Bounds::default());
        let mut dealer = Self::over(socket, zmtp);
        dealer.zmtp.begin(&mut dealer.out);
        match dealer.event().await? {
            Event::Ready { .. } => Some(dealer),
            other => panic!("not ready: {other:?}"),
        }
    }

    /// One whose handshake is over.
    pub(crate) fn over(socket: S, zmtp: Zmtp) -> Self {
        Self {
            socket,
            zmtp,
            input: BytesMut::new(),
            out: BytesMut::new(),
            captured: Vec::new(),
        }
    }

    /// Reads the door's greeting and READY as bytes.
    pub(crate) async fn pass_over_greeting(&mut self) {
        let mut said = [0; 64 + 2 + 6 + 22 + 13];
        self.socket.read_exact(&mut said).await.unwrap();
    }

    /// What is to be sent.
    pub(crate) fn take_out(&mut self) -> BytesMut {
        self.out.split()
    }

    pub(crate) async fn flush(&mut self) {
        let out = self.out.split();
        self.captured.extend(&out);
        // The door may have closed.
        self.socket.write_all(&out).await.ok();
    }

    /// `None`: the door has closed the connection.
    async fn event(&mut self) -> Option<Event> {
        loop {
            let event = self.zmtp.next(&mut self.input, &mut self.out).ok()?;
            self.flush().await;
            if event.is_some() {
                return event;
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The next message; `None`: closed.
    pub(crate) async fn hear(&mut self) -> Option<Vec<Bytes>> {
        let heard = async {
            loop {
                match self.event().await? {
                    Event::Message(parts) => return Some(parts),
                    Event::Ping(context) => zmtp::pong(&context, &mut self.out),
                    Event::Pong(_) | Event::Ready { .. } => {}
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("nothing is heard")
    }

    pub(crate) fn put(&mut self, parts: &[&[u8]]) {
        zmtp::message(parts, &mut self.out);
    }

    pub(crate) async fn say(&mut self, parts: &[&[u8]]) {
        self.put(parts);
        self.flush().await;
    }

    pub(crate) fn put_frame(&mut self, stream: &str, frame: &Frame) {
        self.put(&[b"frame", stream.as_bytes(), &frame.encode()]);
    }

    pub(crate) async fn birth(&mut self, stream: &str, boot: u64) {
        self.say(&[b"birth", stream.as_bytes(), &birth(boot).encode()])
            .await;
        let heard = self.hear().await.unwrap();
        assert_eq!(
            Heard::of(&heard),
            Heard::ack(stream, boot, u64::MAX, u64::MAX)
        );
    }

    /// Acks of `seqs` in some order and grouping; anything else fails.
    pub(crate) async fn acks(&mut self, stream: &str, boot: u64, seqs: std::ops::Range<u64>) {
        let mut left: std::collections::BTreeSet<u64> = seqs.collect();
        while !left.is_empty() {
            match Heard::of(&self.hear().await.expect("closed")) {
                Heard::Ack(s, b, first, last) if (s.as_str(), b) == (stream, boot) => {
                    for seq in first..=last {
                        assert!(
                            left.remove(&seq),
                            "{seq} is acknowledged and not sent, or twice"
                        );
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// An answer, read by hand: what the formats say, not what our encoder does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ack(String, u64, u64, u64),
    Nack(String, Option<(u64, u64)>, String),
    Other(Vec<Bytes>),
}

impl Heard {
    pub(crate) fn ack(stream: &str, boot: u64, first: u64, last: u64) -> Self {
        Self::Ack(stream.into(), boot, first, last)
    }

    pub(crate) fn nack(stream: &str, boot: u64, seq: u64, why: &str) -> Self {
        Self::Nack(stream.into(), Some((boot, seq)), why.into())
    }

    pub(crate) fn of(parts: &[Bytes]) -> Self {
        let text = |n: usize| String::from_utf8(parts[n].to_vec()).unwrap();
        let number = |n: usize| u64::from_be_bytes(parts[n].as_ref().try_into().unwrap());
        match (parts[0].as_ref(), parts.len()) {
            (b"ack", 5) => Self::Ack(text(1), number(2), number(3), number(4)),
            (b"nack", 5) if parts[2].is_empty() => Self::Nack(text(1), None, text(4)),
            (b"nack", 5) => Self::Nack(text(1), Some((number(2), number(3))), text(4)),
            _ => Self::Other(parts.to_vec()),
        }
    }
}

/// `n` seconds of a live stream, the last of them now.
pub(crate) fn live(house: &House, boot: u64, n: u64) -> Vec<Frame> {
    let second = |k: u64| 1_000_000_000 * i64::try_from(k).unwrap();
    let start = house.now() - second(n);
    let one = |k| frame(boot, k, start + second(k), i32::try_from(k % 1000).unwrap());
    (0..n).map(one).collect()
}
