//! A tiny MQTT 5 (and 3.1.1) server on loopback that stores what it acknowledges in memory, and has
//! bad days: it forgets acknowledgements, answers out of order, asks to try later, hangs up.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use chordae_base::wire::{Birth, Frame};
use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::v5::{self, PubAckReason},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// How bad the day is: each happens once in so many publishes, 0 never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mood {
    /// Stored, the acknowledgement never sent.
    pub(crate) forgets: u64,
    /// The connection is dropped before the publish is looked at.
    pub(crate) drops: u64,
    /// Refused with 0x97.
    pub(crate) defers: u64,
    /// Refused with 0x99 for good.
    pub(crate) refuses: u64,
    /// Acknowledgements go out in pairs, the later first.
    pub(crate) swaps: bool,
    /// Acknowledged but not stored: what must never be.
    pub(crate) lies: u64,
}

/// What the server holds.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Topic and payload of each frame, by (boot, seq); the first counts.
    pub(crate) frames: BTreeMap<(u64, u64), (String, Bytes)>,
    /// Publishes of frames, repeats included.
    pub(crate) publishes: u64,
    /// Repeats whose bytes differed from the first.
    pub(crate) differing: u64,
    /// Frames that came before a birth of their boot on the same connection.
    pub(crate) orphans: u64,
    /// Connections.
    pub(crate) connections: u64,
    /// Greatest number of publishes unanswered at one time.
    pub(crate) births: BTreeMap<u64, Birth>,
    throws: u64,
}

impl Store {
    /// The list that the acknowledged frames must agree with.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.frames
            .iter()
            .map(|(_, (topic, payload))| line(topic, payload))
            .collect()
    }

    /// A cheap generator: the sequence does not matter, only that it is mixed.
    fn one_in(&mut self, n: u64) -> bool {
        self.throws = self
            .throws
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        n != 0 && (self.throws >> 33).is_multiple_of(n)
    }
}

fn line(topic: &str, payload: &Bytes) -> String {
    let parts: Vec<&str> = topic.split('/').collect();
    let frame = Frame::decode(payload).unwrap();
    format!(
        "{} {} {} {} {} {} {}",
        parts[2],
        parts[3],
        frame.boot,
        frame.seq,
        frame.t0_ns,
        frame.samples,
        hex::encode(frame.codes_digest())
    )
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Mutex<Store>>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(mood: Mood, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Arc::new(Mutex::new(Store {
            throws: 1,
            ..Store::default()
        }));
        let shared = Arc::clone(&store);
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_one(socket, Arc::clone(&shared), mood, tls.clone()));
            }
        });
        Self {
            address,
            store,
            accepting,
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.store.lock().unwrap().lines()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve_one(
    socket: TcpStream,
    store: Arc<Mutex<Store>>,
    mood: Mood,
    tls: Option<Arc<ServerConfig>>,
) {
    match tls {
        None => talk(socket, store, mood).await,
        Some(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(socket).await {
                talk(stream, store, mood).await;
            }
        }
    }
}

/// A publish, whatever the version.
struct Publish {
    topic: String,
    pkid: u16,
    payload: Bytes,
}

enum Version {
    Unknown,
    V4,
    V5,
}

/// One connection, until either side has had enough.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    store: Arc<Mutex<Store>>,
    mood: Mood,
) {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut version = Version::Unknown;
    let mut born = Vec::new();
    let mut held: Option<(u16, PubAckReason)> = None;
    store.lock().unwrap().connections += 1;
    loop {
        if let Version::Unknown = version {
            // Fixed header of less than 128 bytes, "MQTT", then the version.
            version = match input.get(8) {
                None => Version::Unknown,
                Some(5) => Version::V5,
                Some(_) => Version::V4,
            };
        }
        let publish = match next(&version, &mut input, &mut output) {
            Step::Publish(publish) => publish,
            Step::Done => continue,
            Step::Gone => return,
            Step::More => {
                if let Some((pkid, reason)) = held.take() {
                    acknowledge(&version, pkid, reason, &mut output);
                }
                if socket.write_all(&output).await.is_err() {
                    return;
                }
                output.clear();
                match socket.read_buf(&mut input).await {
                    Ok(n) if n > 0 => continue,
                    _ => return,
                }
            }
        };
        let Some(reason) = judge(&publish, &mut store.lock().unwrap(), &mood, &mut born) else {
            continue;
        };
        match reason {
            Verdict::HangUp => return,
            Verdict::Answer(reason) if mood.swaps => match held.take() {
                None => held = Some((publish.pkid, reason)),
                Some((pkid, earlier)) => {
                    acknowledge(&version, publish.pkid, reason, &mut output);
                    acknowledge(&version, pkid, earlier, &mut output);
                }
            },
            Verdict::Answer(reason) => {
                acknowledge(&version, publish.pkid, reason, &mut output);
            }
        }
    }
}

enum Step {
    Publish(Publish),
    Done,
    More,
    Gone,
}

fn next(version: &Version, input: &mut BytesMut, output: &mut BytesMut) -> Step {
    const MOST: usize = 1 << 20;
    match version {
        Version::Unknown => Step::More,
        Version::V5 => match v5::Packet::read(input, Some(MOST as u32)) {
            Ok(v5::Packet::Connect(..)) => {
                let ack = v5::ConnAck {
                    session_present: false,
                    code: v5::ConnectReturnCode::Success,
                    properties: None,
                };
                v5::Packet::ConnAck(ack).write(output, None).unwrap();
                Step::Done
            }
            Ok(v5::Packet::Publish(p)) => Step::Publish(Publish {
                topic: String::from_utf8(p.topic.to_vec()).unwrap(),
                pkid: p.pkid,
                payload: p.payload,
            }),
            Ok(v5::Packet::PingReq(_)) => {
                v5::Packet::PingResp(v5::PingResp)
                    .write(output, None)
                    .unwrap();
                Step::Done
            }
            Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => Step::More,
            _ => Step::Gone,
        },
        Version::V4 => match v4::Packet::read(input, MOST) {
            Ok(v4::Packet::Connect(_)) => {
                let ack = v4::ConnAck::new(v4::ConnectReturnCode::Success, false);
                v4::Packet::ConnAck(ack).write(output, MOST).unwrap();
                Step::Done
            }
            Ok(v4::Packet::Publish(p)) => Step::Publish(Publish {
                topic: p.topic,
                pkid: p.pkid,
                payload: p.payload,
            }),
            Ok(v4::Packet::PingReq) => {
                v4::Packet::PingResp.write(output, MOST).unwrap();
                Step::Done
            }
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Step::More,
            _ => Step::Gone,
        },
    }
}

fn acknowledge(version: &Version, pkid: u16, reason: PubAckReason, output: &mut BytesMut) {
    if let Version::V4 = version {
        v4::Packet::PubAck(v4::PubAck::new(pkid))
            .write(output, 1 << 20)
            .unwrap();
    } else {
        let ack = v5::PubAck {
            pkid,
            reason,
            properties: None,
        };
        v5::Packet::PubAck(ack).write(output, None).unwrap();
    }
}

enum Verdict {
    Answer(PubAckReason),
    HangUp,
}

/// Stores a publish and says what to answer; `None`: nothing.
fn judge(
    publish: &Publish,
    store: &mut Store,
    mood: &Mood,
    born: &mut Vec<u64>,
) -> Option<Verdict> {
    let Publish { topic, payload, .. } = publish;
    if store.one_in(mood.drops) {
        return Some(Verdict::HangUp);
    }
    if topic.ends_with("/birth") {
        let birth = Birth::decode(payload).unwrap();
        born.push(birth.boot);
        let known = store
            .births
            .entry(birth.boot)
            .or_insert_with(|| birth.clone());
        assert_eq!(*known, birth, "a birth never changes within its boot");
        return Some(Verdict::Answer(PubAckReason::Success));
    }
    assert!(topic.ends_with("/frame"), "{topic}");
    let frame = Frame::decode(payload).unwrap();
    store.publishes += 1;
    if !born.contains(&frame.boot) {
        store.orphans += 1;
    }
    if store.one_in(mood.defers) {
        return Some(Verdict::Answer(PubAckReason::QuotaExceeded));
    }
    if store.one_in(mood.refuses) {
        return Some(Verdict::Answer(PubAckReason::PayloadFormatInvalid));
    }
    if store.one_in(mood.lies) {
        return Some(Verdict::Answer(PubAckReason::Success));
    }
    let entry = (topic.clone(), payload.clone());
    match store.frames.get(&(frame.boot, frame.seq)) {
        Some(first) if *first != entry => store.differing += 1,
        Some(_) => {}
        None => {
            store.frames.insert((frame.boot, frame.seq), entry);
        }
    }
    (!store.one_in(mood.forgets)).then_some(Verdict::Answer(PubAckReason::Success))
}
