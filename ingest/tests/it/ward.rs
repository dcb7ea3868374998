//! A node's worth of doors, the authority of their certificates, and clients that nobody here wrote.

use std::{sync::Arc, time::Duration};

use chordae_base::{
    seams::{Threads, real::OsEntropy},
    wire::Frame,
};
use chordae_ingest::{
    core::{mqtt::profile::Profile, ports::Registry},
    doors::{
        Door, DoorSettings,
        mqtt::{self, DoorParts},
        tls::{Material, Tls},
    },
    exchange::{self, Exchange},
    metrics::Metrics,
    service::Ingest,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, RevokedCertParams, SanType,
};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, v5};
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

use crate::support::{House, Sink, birth, frame, seconds};

/// A certificate authority and what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(crate) fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.issuer
    }

    pub(crate) fn into_issuer(self) -> CertifiedIssuer<'static, KeyPair> {
        self.issuer
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    pub(crate) fn server(&self) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// What a server of this authority accepts with.
    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        let (cert, key) = self.server();
        let material = Material {
            ca: self.pem().into(),
            cert: cert.into(),
            key: key.into(),
            crl: None,
        };
        Tls::fixed(&material).unwrap().acceptor()
    }

    pub(crate) fn client(&self, uris: &[&str]) -> (String, String) {
        self.sign(client_params(uris))
    }
}

pub(crate) fn client_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let uris = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()));
    params.subject_alt_names = uris.collect();
    params
}

/// A revocation list that holds until a year begins.
pub(crate) fn crl(authority: &Authority, serials: &[&[u8]], until: i32) -> String {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: serial.to_vec().into(),
        revocation_time: rcgen::date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(until, 1, 1),
        crl_number: vec![1].into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let signed = list.signed_by(authority.issuer()).unwrap();
    signed.pem().unwrap()
}

/// The reason of a DISCONNECT that is all there is.
pub(crate) fn bye(bytes: &[u8]) -> Option<u8> {
    let whole = bytes.first() == Some(&0xe0) && bytes.len() == 2 + usize::from(bytes[1]);
    whole.then(|| bytes[2])
}

/// A node's worth of doors.
pub(crate) struct Ward {
    pub(crate) house: House,
    pub(crate) ingest: Ingest,
    _exchange: Exchange,
    sink: Sink,
    pub(crate) parts: DoorParts,
    pub(crate) metrics: Metrics,
}

impl Ward {
    pub(crate) fn new(house: House) -> Self {
        let (ingest, sink) = house.start();
        let metrics = house.metrics();
        let exchange = Exchange::open(exchange::Parts {
            disk: Arc::clone(&house.disk),
            clock: Arc::clone(&house.clock),
            entropy: Arc::new(OsEntropy),
            threads: Threads::of_the_machine(),
            dir: "/data/mqtt".into(),
            metrics: prometheus::Registry::new(),
        })
        .unwrap();
        let parts = DoorParts::new(
            ingest.handle(),
            exchange.handle(),
            Arc::clone(&house.registry) as Arc<dyn Registry>,
            Arc::clone(&house.clock),
            Arc::clone(&house.fanout),
            metrics.clone(),
        )
        .recheck_every(Duration::from_millis(100));
        Self {
            house,
            ingest,
            _exchange: exchange,
            sink,
            parts,
            metrics,
        }
    }

    pub(crate) async fn plain(&self) -> Door {
        let settings = DoorSettings::new("127.0.0.1:0".parse().unwrap(), None);
        mqtt::open(settings, self.parts.clone()).await.unwrap()
    }

    /// The same ward, where any topic may be used.
    pub(crate) fn open(mut self) -> Self {
        self.parts = self.parts.profile(Profile::Open { refuse: vec![] });
        self
    }

    pub(crate) async fn tls(&self, authority: &Authority) -> Door {
        self.tls_with(authority, None).await
    }

    pub(crate) async fn tls_with(&self, authority: &Authority, crl: Option<String>) -> Door {
        let (cert, key) = authority.server();
        let ca = authority.pem();
        let material = Material {
            ca: ca.into_bytes(),
            cert: cert.into_bytes(),
            key: key.into_bytes(),
            crl: crl.map(String::into_bytes),
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        let settings = DoorSettings::new(listen, Some(Tls::fixed(&material).unwrap()));
        mqtt::open(settings, self.parts.clone()).await.unwrap()
    }

    /// Frames in the log as it lies on the disk.
    pub(crate) fn logged(&self) -> Vec<Frame> {
        self.sink
            .frames()
            .iter()
            .map(|(_, f)| f.frame().unwrap())
            .collect()
    }
}

pub(crate) async fn connect_tls(
    door: &Door,
    ca: &Authority,
    identity: &(String, String),
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_tls_to(door.address(), ca, identity).await
}

/// A local port that leads through TLS to the door, for clients that know only plain sockets.
pub(crate) async fn tunnel(door: &Door, ca: &Arc<Authority>, identity: (String, String)) -> u16 {
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

pub(crate) async fn connect_tls_to(
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
pub(crate) fn client4(id: &str, port: u16) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30));
    AsyncClient::new(options, 64)
}

/// Publishes a birth and frames; returns the frames that were acknowledged.
pub(crate) async fn stream4(
    client: AsyncClient,
    mut events: EventLoop,
    frames: Vec<Frame>,
) -> Vec<Frame> {
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

pub(crate) async fn stream5(port: u16, id: &str, frames: Vec<Frame>) -> Vec<Frame> {
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

pub(crate) fn frames(boot: u64, n: u64) -> Vec<Frame> {
    let now = chordae_base::seams::Clock::wall_ns(&chordae_base::seams::real::OsClock);
    (0..n)
        .map(|seq| frame(boot, seq, now - seconds(1), 1))
        .collect()
}

/// Reads until the peer closes.
pub(crate) async fn to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.ok();
    rest
}

pub(crate) async fn plain_connect(door: &Door, id: &str, level: u8, keep_alive: u8) -> TcpStream {
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
