//! Real sockets, real TLS, a client that nobody here wrote.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use chordae_base::{DeviceId, seams::Disk, wire::Frame};
use chordae_ingest::{
    core::{
        admission::AdmissionLimits,
        ports::{DeviceKind, Registry},
    },
    doors::mqtt::{DoorParts, DoorSettings, MqttDoor, tls},
    fanout::{Fanout, RouterFanout},
    metrics::Metrics,
    service::Ingest,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, mqttbytes::v4, v5};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{House, Sink, birth, frame, runtime, seconds, until};

/// A certificate authority and what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn server(&self) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn client(&self, uris: &[&str]) -> (String, String) {
        self.sign(client_params(uris))
    }
}

fn client_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let uris = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()));
    params.subject_alt_names = uris.collect();
    params
}

/// A node's worth of doors.
struct Ward {
    house: House,
    ingest: Ingest,
    sink: Sink,
    parts: DoorParts,
    metrics: Metrics,
}

impl Ward {
    fn new(house: House) -> Self {
        let (ingest, sink) = house.start();
        let metrics = house.metrics();
        let parts = DoorParts::new(
            ingest.handle(),
            Arc::clone(&house.registry) as Arc<dyn Registry>,
            Arc::clone(&house.clock),
            Arc::clone(&house.fanout),
            metrics.clone(),
        )
        .recheck_every(Duration::from_millis(100));
        Self {
            house,
            ingest,
            sink,
            parts,
            metrics,
        }
    }

    async fn plain(&self) -> MqttDoor {
        let settings = DoorSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            connections_max: 100,
        };
        MqttDoor::open(settings, self.parts.clone()).await.unwrap()
    }

    async fn tls(&self, authority: &Authority) -> MqttDoor {
        let (cert, key) = authority.server();
        let ca = authority.pem();
        let config = tls::server_config(ca.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let settings = DoorSettings {
            listen,
            tls: Some(config),
            connections_max: 100,
        };
        MqttDoor::open(settings, self.parts.clone()).await.unwrap()
    }

    /// Frames in the log as it lies on the disk.
    fn logged(&self) -> Vec<Frame> {
        self.sink
            .frames()
            .iter()
            .map(|(_, f)| f.frame().unwrap())
            .collect()
    }
}

async fn connect_tls(
    door: &MqttDoor,
    ca: &Authority,
    identity: &(String, String),
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_tls_to(door.address(), ca, identity).await
}

/// A local port that leads through TLS to the door, for clients that know only plain sockets.
async fn tunnel(door: &MqttDoor, ca: &Arc<Authority>, identity: (String, String)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (address, ca) = (door.address(), Arc::clone(ca));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            if let Ok(mut far) = connect_tls_to(address, &ca, &identity).await {
                tokio::spawn(async move {
                    tokio::io::copy_bidirectional(&mut near, &mut far)
                        .await
                        .ok();
                });
            }
        }
    });
    port
}

async fn connect_tls_to(
    address: std::net::SocketAddr,
    ca: &Authority,
    (cert, key): &(String, String),
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            CertificateDer::pem_slice_iter(cert.as_bytes())
                .map(Result::unwrap)
                .collect(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

/// A rumqttc client of version 3.1.1 and the count of its acknowledged publishes.
fn client4(id: &str, port: u16) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    AsyncClient::new(options, 64)
}

/// Publishes a birth and frames; returns the frames that were acknowledged.
async fn stream4(client: AsyncClient, mut events: EventLoop, frames: Vec<Frame>) -> Vec<Frame> {
    let sent = frames.clone();
    let topic = |last: &str| format!("chordae/v1/bed-7/ecg/{last}");
    tokio::spawn(async move {
        let first = birth(sent[0].boot).encode();
        client
            .publish(topic("birth"), QoS::AtLeastOnce, false, first)
            .await
            .unwrap();
        for frame in sent {
            let payload = frame.encode();
            client
                .publish(topic("frame"), QoS::AtLeastOnce, false, payload)
                .await
                .unwrap();
        }
        // Alive until the acknowledgements are in.
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let mut acknowledged = 0;
    while acknowledged < frames.len() + 1 {
        match events.poll().await.unwrap() {
            Event::Incoming(Packet::PubAck(_)) => acknowledged += 1,
            Event::Incoming(Packet::Disconnect) => panic!("disconnected"),
            _ => {}
        }
    }
    frames
}

async fn stream5(port: u16, id: &str, frames: Vec<Frame>) -> Vec<Frame> {
    let mut options = v5::MqttOptions::new(id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = v5::AsyncClient::new(options, 64);
    let sent = frames.clone();
    let q1 = v5::mqttbytes::QoS::AtLeastOnce;
    tokio::spawn(async move {
        let topic = |last: &str| format!("chordae/v1/bed-7/ecg/{last}");
        let first = birth(sent[0].boot).to_json();
        client
            .publish(topic("birth.json"), q1, false, first)
            .await
            .unwrap();
        for frame in sent {
            client
                .publish(topic("frame.json"), q1, false, frame.to_json())
                .await
                .unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let mut acknowledged = 0;
    while acknowledged < frames.len() + 1 {
        let event = events.poll().await.unwrap();
        if let v5::Event::Incoming(v5::Incoming::PubAck(ack)) = event {
            assert_eq!(ack.reason, v5::mqttbytes::v5::PubAckReason::Success);
            acknowledged += 1;
        }
    }
    frames
}

fn frames(boot: u64, n: u64) -> Vec<Frame> {
    let now = chordae_base::seams::Clock::wall_ns(&chordae_base::seams::real::OsClock);
    (0..n)
        .map(|seq| frame(boot, seq, now - seconds(1), 1))
        .collect()
}

#[test]
fn acknowledged_means_in_the_log_for_both_versions_over_tls() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        let ward = Ward::new(house);
        let ca = Arc::new(Authority::new());
        let door = ward.tls(&ca).await;
        let port = tunnel(&door, &ca, ca.client(&["urn:chordae:device:bed-7"])).await;
        let (client, events) = client4("bed-7", port);
        let mut sent = stream4(client, events, frames(1, 300)).await;
        sent.extend(stream5(port, "bed-7", frames(2, 300)).await);
        // The power goes: what was acknowledged is on the disk.
        disk.crash();
        let again = House::new(Arc::new(disk.boot()) as Arc<dyn Disk>);
        let mut there = Vec::new();
        let recovered = again.open().unwrap();
        recovered
            .replay(&mut |_, record| {
                if let chordae_base::record::WalRecord::Frame(f) = record {
                    there.push(f.frame()?);
                }
                Ok(())
            })
            .unwrap();
        for frame in &sent {
            assert!(
                there.contains(frame),
                "acknowledged and gone: {}/{}",
                frame.boot,
                frame.seq
            );
        }
        assert_eq!(there.len(), sent.len(), "nothing twice");
        drop(ward);
    });
}

#[test]
fn only_our_certificates_get_in_and_only_as_themselves() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        house.registry.put("gone", DeviceKind::Device, false);
        let ward = Ward::new(house);
        let (ca, other) = (Authority::new(), Authority::new());
        let door = ward.tls(&ca).await;
        let old = {
            let mut params = client_params(&["urn:chordae:device:bed-7"]);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            ca.sign(params)
        };
        let (cert, key) = ca.client(&["urn:chordae:device:bed-7"]);
        let long_chain = (cert + &ca.pem().repeat(100), key);
        // (what, certificate, client id, let in)
        let cases = [
            (
                "own",
                ca.client(&["urn:chordae:device:bed-7"]),
                "bed-7",
                true,
            ),
            (
                "another id",
                ca.client(&["urn:chordae:device:bed-7"]),
                "bed-8",
                false,
            ),
            (
                "disabled",
                ca.client(&["urn:chordae:device:gone"]),
                "gone",
                false,
            ),
            (
                "unknown",
                ca.client(&["urn:chordae:device:who"]),
                "who",
                false,
            ),
            (
                "another kind",
                ca.client(&["urn:chordae:monitor:bed-7"]),
                "bed-7",
                false,
            ),
            (
                "a monitor",
                ca.client(&["urn:chordae:monitor:desk"]),
                "desk",
                true,
            ),
            ("no name", ca.client(&[]), "bed-7", false),
            (
                "two names",
                ca.client(&["urn:chordae:device:bed-7", "urn:chordae:device:bed-8"]),
                "bed-7",
                false,
            ),
            (
                "another authority",
                other.client(&["urn:chordae:device:bed-7"]),
                "bed-7",
                false,
            ),
            ("expired", old, "bed-7", false),
            ("a chain of 40 KiB", long_chain, "bed-7", false),
        ];
        for (what, identity, id, fits) in cases {
            let answer = async {
                let mut stream = connect_tls(&door, &ca, &identity).await.ok()?;
                let mut out = BytesMut::new();
                v4::Packet::Connect(v4::Connect::new(id))
                    .write(&mut out, 1000)
                    .ok()?;
                stream.write_all(&out).await.ok()?;
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).await.ok()?;
                Some(answer)
            };
            let answer = answer.await;
            assert_eq!(answer == Some([0x20, 2, 0, 0]), fits, "{what}: {answer:?}");
        }
        // Plain bytes on the TLS port.
        let mut socket = TcpStream::connect(door.address()).await.unwrap();
        socket
            .write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0")
            .await
            .unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.ok();
        assert!(!rest.starts_with(&[0x20]));
    });
}

#[test]
fn a_plain_listener_is_for_loopback_only() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let settings = DoorSettings {
                listen: listen.parse().unwrap(),
                tls: None,
                connections_max: 10,
            };
            let opened = MqttDoor::open(settings, ward.parts.clone()).await;
            let Err(why) = opened else {
                panic!("{listen} was opened without TLS")
            };
            assert_eq!(why.kind, chordae_base::FailureKind::Refused);
        }
    });
}

/// Reads until the peer closes.
async fn to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.ok();
    rest
}

async fn plain_connect(door: &MqttDoor, id: &str, level: u8, keep_alive: u8) -> TcpStream {
    let mut socket = TcpStream::connect(door.address()).await.unwrap();
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, keep_alive];
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&u16::try_from(id.len()).unwrap().to_be_bytes());
    body.extend_from_slice(id.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    socket.write_all(&packet).await.unwrap();
    let mut head = [0; 2];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 0x20);
    let mut rest = vec![0; usize::from(head[1])];
    socket.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest[1], 0, "accepted");
    socket
}

#[test]
fn silent_and_slow_sockets_are_closed_and_delay_nobody() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let ca = Authority::new();
        let (plain, tls) = (ward.plain().await, ward.tls(&ca).await);
        let mut silent = Vec::new();
        for n in 0..60 {
            let door = if n % 2 == 0 { &plain } else { &tls };
            silent.push(TcpStream::connect(door.address()).await.unwrap());
        }
        let mut slow = TcpStream::connect(plain.address()).await.unwrap();
        slow.write_all(&[0x10, 20]).await.unwrap();
        let mut huge = TcpStream::connect(plain.address()).await.unwrap();
        huge.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f])
            .await
            .unwrap();
        assert!(
            to_the_end(&mut huge).await.is_empty(),
            "refused at the header"
        );
        // They wait; others are served at once.
        plain_connect(&plain, "tool", 4, 10).await;
        let identity = ca.client(&["urn:chordae:device:bed-7"]);
        connect_tls(&tls, &ca, &identity).await.unwrap();
        for byte in [0, 4, b'M'] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.write_all(&[byte]).await.unwrap();
        }
        to_the_end(&mut slow).await;
        for socket in &mut silent {
            to_the_end(socket).await;
        }
        let gauge = ward.metrics.connections.with_label_values(&["mqtt"]);
        until("all are counted out", || gauge.get() <= 0).await;
        let timeouts = ward
            .metrics
            .refused
            .with_label_values(&["handshake-timeout"]);
        assert!(timeouts.get() >= 61, "{}", timeouts.get());
    });
}

#[test]
fn a_second_connection_takes_over_from_its_own_device_only() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let door = ward.plain().await;
        let mut other = plain_connect(&door, "other", 5, 10).await;
        let mut first = plain_connect(&door, "tool", 5, 10).await;
        let mut second = plain_connect(&door, "tool", 4, 10).await;
        assert_eq!(to_the_end(&mut first).await, [0xe0, 2, 0x8e, 0]);
        for socket in [&mut other, &mut second] {
            socket.write_all(&[0xc0, 0]).await.unwrap();
            let mut pong = [0; 2];
            socket.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, [0xd0, 0]);
        }
        // An orderly stop says good-bye.
        door.close().await;
        assert_eq!(to_the_end(&mut other).await, [0xe0, 2, 0x8b, 0]);
        assert!(to_the_end(&mut second).await.is_empty());
    });
}

#[test]
fn silence_and_disabling_end_a_connection() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let ca = Authority::new();
        let plain = ward.plain().await;
        let mut quiet = plain_connect(&plain, "tool", 5, 1).await;
        assert_eq!(to_the_end(&mut quiet).await, [0xe0, 2, 0x8d, 0]);
        let door = ward.tls(&ca).await;
        let identity = ca.client(&["urn:chordae:device:bed-7"]);
        let mut stream = connect_tls(&door, &ca, &identity).await.unwrap();
        stream
            .write_all(b"\x10\x12\0\x04MQTT\x05\x02\0\x64\0\0\x05bed-7")
            .await
            .unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(head[1])];
        stream.read_exact(&mut rest).await.unwrap();
        ward.house.registry.put("bed-7", DeviceKind::Device, false);
        let mut bye = Vec::new();
        stream.read_to_end(&mut bye).await.ok();
        assert_eq!(bye, [0xe0, 2, 0x98, 0]);
        let id: DeviceId = "bed-7".parse().unwrap();
        assert!(!ward.house.registry.device(&id).unwrap().enabled);
    });
}

#[test]
fn a_monitor_sees_frames_through_the_door_also_after_the_router_died() {
    runtime().block_on(async {
        let fanout = Arc::new(RouterFanout::start().unwrap());
        let (house, _) = House::in_memory();
        let house = House {
            fanout: Arc::clone(&fanout) as Arc<dyn Fanout>,
            ..house
        };
        let ward = Ward::new(house);
        let door = ward.plain().await;
        let port = door.address().port();
        let (monitor, mut events) = client4("desk", port);
        monitor
            .subscribe("chordae/v1/+/+/live", QoS::AtLeastOnce)
            .await
            .unwrap();
        let (seen, mut live) = tokio::sync::mpsc::channel(10_000);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(p)) = event {
                    seen.try_send(p).ok();
                }
            }
        });
        for boot in 1..4 {
            let mut seq = 0;
            while live.is_empty() {
                let made = frames(boot * 100 + seq, 20);
                let (client, events) = client4("bed-7", port);
                stream4(client, events, made).await;
                seq += 1;
                assert!(seq < 90, "the monitor sees nothing");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let frame = live.recv().await.unwrap();
            assert_eq!(frame.topic, "chordae/v1/bed-7/ecg/live");
            Frame::decode(&frame.payload).unwrap();
            fanout.crash();
            tokio::time::sleep(Duration::from_millis(300)).await;
            while live.try_recv().is_ok() {}
        }
        drop(monitor);
    });
}

#[test]
fn on_a_full_disk_version_5_is_told_and_version_3_waits() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        disk.set_capacity(8 << 20);
        let admission = AdmissionLimits {
            free_min: 2 << 20,
            wal_max: 1 << 30,
        };
        let ward = Ward::new(House { admission, ..house });
        let door = ward.plain().await;
        let (client, events) = client4("bed-7", door.address().port());
        stream4(client, events, frames(1, 3)).await;
        disk.put("/data/ballast".as_ref(), &vec![0; 7 << 20]);
        let mut doors = ward.ingest.handle().doors_open();
        doors.wait_for(|open| !open).await.unwrap();

        let mut options = v5::MqttOptions::new("five", "127.0.0.1", door.address().port());
        options.set_keep_alive(Duration::from_secs(30));
        let (five, mut events) = v5::AsyncClient::new(options, 10);
        let payload = frames(1, 4).remove(3).encode();
        let topic = "chordae/v1/bed-7/ecg/frame";
        five.publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, payload)
            .await
            .unwrap();
        loop {
            if let v5::Event::Incoming(v5::Incoming::PubAck(ack)) = events.poll().await.unwrap() {
                assert_eq!(ack.reason, v5::mqttbytes::v5::PubAckReason::QuotaExceeded);
                break;
            }
        }

        let (client, events) = client4("three", door.address().port());
        let waits = tokio::spawn(stream4(client, events, frames(7, 40)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!waits.is_finished(), "acknowledged on a full disk");
        assert!(ward.logged().iter().all(|f| f.boot != 7));
        disk.remove("/data/ballast".as_ref()).unwrap();
        let sent = waits.await.unwrap();
        until("all forty are in the log", || {
            ward.logged().iter().filter(|f| f.boot == 7).count() == 40
        })
        .await;
        let there = ward.logged();
        assert!(sent.iter().all(|f| there.contains(f)));
        assert_eq!(there.iter().filter(|f| f.boot == 7).count(), 40);
    });
}

#[test]
fn when_ingest_ends_connections_end_and_nobody_is_acknowledged() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        let boot = Arc::new(disk.boot());
        let ward = Ward::new(House {
            disk: boot as Arc<dyn Disk>,
            ..house
        });
        let door = ward.plain().await;
        let mut socket = plain_connect(&door, "tool", 4, 60).await;
        // The disk dies under the log.
        disk.crash();
        let mut publish = v4::Publish::new(
            "chordae/v1/bed-7/ecg/birth",
            QoS::AtLeastOnce,
            birth(1).encode(),
        );
        publish.pkid = 1;
        let mut out = BytesMut::new();
        publish.write(&mut out).unwrap();
        socket.write_all(&out).await.unwrap();
        assert!(
            to_the_end(&mut socket).await.is_empty(),
            "acknowledged on a dead disk"
        );
        assert!(ward.ingest.join().is_err());
    });
}
