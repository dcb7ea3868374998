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
    pub(crate) births: BTreeMap<u64, Birth>,
    /// Commands that go out as soon as `cmd` is subscribed.
    pub(crate) orders: Vec<String>,
    /// Ids and bodies of the replies.
    pub(crate) replies: Vec<(String, String)>,
    /// What was said on `status`, and whether to be retained.
    pub(crate) statuses: Vec<(String, bool)>,
    /// Topic, word and retain flag of each will.
    pub(crate) wills: Vec<(String, String, bool)>,
    /// Publishes of frames by form.
    pub(crate) forms: BTreeMap<&'static str, u64>,
    /// From now on no acknowledgement is forgotten.
    pub(crate) forgives: bool,
    /// Every connection is cut, once.
    pub(crate) cuts: bool,
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
    qos: u8,
    retain: bool,
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
    let mut held: Option<(Publish, PubAckReason)> = None;
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
        let step = {
            let mut store = store.lock().unwrap();
            next(&version, &mut store, &mut input, &mut output)
        };
        let publish = match step {
            Step::Publish(publish) => publish,
            Step::Done => continue,
            Step::Gone => return,
            Step::More => {
                if let Some((publish, reason)) = held.take() {
                    acknowledge(&version, &publish, reason, &mut output);
                }
                if socket.write_all(&output).await.is_err() {
                    return;
                }
                output.clear();
                let cut = async {
                    while !std::mem::take(&mut store.lock().unwrap().cuts) {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                };
                let read = tokio::select! {
                    read = socket.read_buf(&mut input) => read,
                    () = cut => return,
                };
                match read {
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
                None => held = Some((publish, reason)),
                Some((before, earlier)) => {
                    acknowledge(&version, &publish, reason, &mut output);
                    acknowledge(&version, &before, earlier, &mut output);
                }
            },
            Verdict::Answer(reason) => acknowledge(&version, &publish, reason, &mut output),
        }
    }
}

enum Step {
    Publish(Publish),
    Done,
    More,
    Gone,
}

fn next(version: &Version, store: &mut Store, input: &mut BytesMut, output: &mut BytesMut) -> Step {
    const MOST: usize = 1 << 20;
    match version {
        Version::Unknown => Step::More,
        Version::V5 => match v5::Packet::read(input, Some(MOST as u32)) {
            Ok(v5::Packet::Connect(_, will, _)) => {
                let will = will.unwrap();
                let word = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
                store
                    .wills
                    .push((word(&will.topic), word(&will.message), will.retain));
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
                qos: p.qos as u8,
                retain: p.retain,
                payload: p.payload,
            }),
            Ok(v5::Packet::Subscribe(s)) => {
                let codes = s
                    .filters
                    .iter()
                    .map(|f| v5::SubscribeReasonCode::Success(f.qos));
                let ack = v5::SubAck {
                    pkid: s.pkid,
                    return_codes: codes.collect(),
                    properties: None,
                };
                v5::Packet::SubAck(ack).write(output, None).unwrap();
                let topic = s.filters[0].path.clone();
                for (n, order) in store.orders.iter().enumerate() {
                    say(version, &topic, 1, n as u16 + 1, order, output);
                }
                Step::Done
            }
            Ok(v5::Packet::PubRel(rel)) => {
                let done = v5::PubComp::new(rel.pkid, None);
                v5::Packet::PubComp(done).write(output, None).unwrap();
                Step::Done
            }
            Ok(v5::Packet::PubAck(_)) => Step::Done,
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
            Ok(v4::Packet::Connect(connect)) => {
                let will = connect.last_will.unwrap();
                let word = String::from_utf8(will.message.to_vec()).unwrap();
                store.wills.push((will.topic, word, will.retain));
                let ack = v4::ConnAck::new(v4::ConnectReturnCode::Success, false);
                v4::Packet::ConnAck(ack).write(output, MOST).unwrap();
                Step::Done
            }
            Ok(v4::Packet::Publish(p)) => Step::Publish(Publish {
                topic: p.topic,
                pkid: p.pkid,
                qos: p.qos as u8,
                retain: p.retain,
                payload: p.payload,
            }),
            Ok(v4::Packet::Subscribe(s)) => {
                let codes = s
                    .filters
                    .iter()
                    .map(|f| v4::SubscribeReasonCode::Success(f.qos));
                let ack = v4::SubAck::new(s.pkid, codes.collect());
                v4::Packet::SubAck(ack).write(output, MOST).unwrap();
                let topic = s.filters[0].path.clone();
                for (n, order) in store.orders.iter().enumerate() {
                    say(version, &topic, 1, n as u16 + 1, order, output);
                }
                Step::Done
            }
            Ok(v4::Packet::PubRel(rel)) => {
                let done = v4::PubComp::new(rel.pkid);
                v4::Packet::PubComp(done).write(output, MOST).unwrap();
                Step::Done
            }
            Ok(v4::Packet::PubAck(_)) => Step::Done,
            Ok(v4::Packet::PingReq) => {
                v4::Packet::PingResp.write(output, MOST).unwrap();
                Step::Done
            }
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Step::More,
            _ => Step::Gone,
        },
    }
}

/// A publish to the device.
fn say(version: &Version, topic: &str, qos: u8, pkid: u16, text: &str, output: &mut BytesMut) {
    if let Version::V4 = version {
        let qos = rumqttc::mqttbytes::qos(qos).unwrap();
        let mut publish = v4::Publish::new(topic, qos, text);
        publish.pkid = pkid;
        v4::Packet::Publish(publish).write(output, 1 << 20).unwrap();
    } else {
        let qos = rumqttc::v5::mqttbytes::qos(qos).unwrap();
        let mut publish = v5::Publish::new(topic, qos, text.to_owned(), None);
        publish.pkid = pkid;
        v5::Packet::Publish(publish).write(output, None).unwrap();
    }
}

/// PUBACK, PUBREC, or at QoS 0 a word on the `ack` topic.
fn acknowledge(version: &Version, publish: &Publish, reason: PubAckReason, output: &mut BytesMut) {
    let pkid = publish.pkid;
    if publish.qos == 0 {
        let parts: Vec<&str> = publish.topic.split('/').collect();
        let (stream, good) = (parts[3], reason == PubAckReason::Success);
        let text = match read(&publish.topic, &publish.payload) {
            What::Frame(f) if good => format!(
                r#"{{"stream":"{stream}","boot":{},"durable":[[{},{}]],"boots":[]}}"#,
                f.boot, f.seq, f.seq
            ),
            What::Frame(f) if reason == PubAckReason::PayloadFormatInvalid => format!(
                r#"{{"stream":"{stream}","boot":{},"refused":[[{},{},"bad"]],"boots":[]}}"#,
                f.boot, f.seq, f.seq
            ),
            What::Birth(b) if good => format!(
                r#"{{"stream":"{stream}","boot":{},"boots":[{}]}}"#,
                b.boot, b.boot
            ),
            _ => return,
        };
        let topic = format!("chordae/v1/{}/ack", parts[2]);
        return say(version, &topic, 0, 0, &text, output);
    }
    match (version, publish.qos) {
        (Version::V4, 2) => v4::Packet::PubRec(v4::PubRec::new(pkid))
            .write(output, 1 << 20)
            .unwrap(),
        (Version::V4, _) => v4::Packet::PubAck(v4::PubAck::new(pkid))
            .write(output, 1 << 20)
            .unwrap(),
        (_, 2) => {
            let mut rec = v5::PubRec::new(pkid, None);
            rec.reason = match reason {
                PubAckReason::Success => v5::PubRecReason::Success,
                PubAckReason::QuotaExceeded => v5::PubRecReason::QuotaExceeded,
                _ => v5::PubRecReason::PayloadFormatInvalid,
            };
            v5::Packet::PubRec(rec).write(output, None).unwrap()
        }
        _ => {
            let ack = v5::PubAck {
                pkid,
                reason,
                properties: None,
            };
            v5::Packet::PubAck(ack).write(output, None).unwrap()
        }
    };
}

/// A publish, understood.
enum What {
    Birth(Birth),
    Frame(Frame),
    Status,
    Reply(String),
}

fn read(topic: &str, payload: &Bytes) -> What {
    let parts: Vec<&str> = topic.split('/').collect();
    match parts[3..] {
        [_, "birth"] => What::Birth(Birth::decode(payload).unwrap()),
        [_, "birth.json"] => What::Birth(Birth::from_json(payload).unwrap()),
        [_, "frame"] => What::Frame(Frame::decode(payload).unwrap()),
        [_, "frame.json"] => What::Frame(Frame::from_json(payload).unwrap()),
        ["status"] => What::Status,
        ["cmd", id] => What::Reply(id.to_owned()),
        _ => unreachable!("{topic}"),
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
    let text = || String::from_utf8(payload.to_vec()).unwrap();
    let frame = match read(topic, payload) {
        What::Birth(birth) => {
            born.push(birth.boot);
            let known = store
                .births
                .entry(birth.boot)
                .or_insert_with(|| birth.clone());
            assert_eq!(*known, birth, "a birth never changes within its boot");
            return Some(Verdict::Answer(PubAckReason::Success));
        }
        What::Status => {
            store.statuses.push((text(), publish.retain));
            return Some(Verdict::Answer(PubAckReason::Success));
        }
        What::Reply(id) => {
            store.replies.push((id, text()));
            return Some(Verdict::Answer(PubAckReason::Success));
        }
        What::Frame(frame) => frame,
    };
    let plain = Bytes::from(frame.encode());
    let form = match () {
        () if topic.ends_with(".json") => "json",
        () if *payload == plain => "deltas",
        () => "i16le",
    };
    *store.forms.entry(form).or_default() += 1;
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
    // Whatever the form, the same content.
    let entry = (topic.trim_end_matches(".json").to_owned(), plain);
    match store.frames.get(&(frame.boot, frame.seq)) {
        Some(first) if *first != entry => store.differing += 1,
        Some(_) => {}
        None => {
            store.frames.insert((frame.boot, frame.seq), entry);
        }
    }
    (store.forgives || !store.one_in(mood.forgets))
        .then_some(Verdict::Answer(PubAckReason::Success))
}
