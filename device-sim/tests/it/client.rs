//! Devices against a server with bad days: everything is acknowledged in the end, and the list of
//! acknowledged frames says exactly what the server holds.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, sync::Arc};

use chordae_base::{
    DeviceId, Rate,
    seams::real::{OsClock, OsEntropy},
    time::SECOND_NS,
    wire::{ClockKind, Frame},
};
use chordae_device_sim::{
    Config, Credentials, Endpoint, Faults, Fleet, Mqtt, Pace, Protocol, Report, Source, wfdb,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
};

use crate::{
    server::{Mood, Server},
    shared,
};

pub(crate) fn config(address: SocketAddr, devices: usize) -> Config {
    let endpoint = Endpoint {
        protocol: Protocol::Mqtt,
        host: address.ip().to_string(),
        port: address.port(),
        tls: false,
    };
    let ids = (0..devices)
        .map(|n| DeviceId::new(format!("dev-{n}")).unwrap())
        .collect();
    Config {
        source: Source::Synthetic {
            leads: 2,
            rate: Rate::new(100, 1).unwrap(),
        },
        frame_ns: SECOND_NS / 10,
        pace: Pace::Max,
        length_ns: Some(30 * SECOND_NS),
        ack_wait_ns: 200_000_000,
        seed: Some(1),
        ..Config::new(endpoint, ids).unwrap()
    }
}

pub(crate) async fn run(config: Config) -> Report {
    let mut fleet = Fleet::start(config, Arc::new(OsClock), &OsEntropy).unwrap();
    fleet.finished().await;
    assert!(fleet.is_finished());
    fleet.stop().await.unwrap()
}

pub(crate) fn listed(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What was acknowledged but is not stored as it was.
pub(crate) fn missing(lines: &[String], server: &Server) -> usize {
    let stored: BTreeSet<String> = server.lines().into_iter().collect();
    lines.iter().filter(|line| !stored.contains(*line)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_acknowledged_whatever_the_server_does() {
    let mood = Mood {
        forgets: 40,
        drops: 60,
        defers: 50,
        swaps: true,
        ..Mood::default()
    };
    let server = Server::start(mood, None).await;
    let dir = tempfile::tempdir().unwrap();
    let acked = dir.path().join("acked");
    let faults = "drop,dup,reorder,clock-jump,reconnect".parse().unwrap();
    let report = run(Config {
        acked: Some(acked.clone()),
        burst: 60,
        faults,
        ..config(server.address, 3)
    })
    .await;

    assert_eq!(report.failure(), None);
    assert_eq!(
        (report.owed(), report.stats.refused, report.stats.lost),
        (0, 0, 0)
    );
    assert_eq!(
        (report.stats.made, report.stats.acked, report.stats.listed),
        (900, 900, 900)
    );
    assert_eq!((report.stats.finished, report.stats.connected), (3, 0));
    assert_eq!(report.stats.samples, 3 * 3000);
    for device in &report.devices {
        let acked = &device.acked[&device.boots[0]];
        assert_eq!(acked.iter().collect::<Vec<_>>(), [(0, 299)]);
        assert!(device.connections > 1, "the faults did strike");
    }
    let lines = listed(&acked);
    let once: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(
        (lines.len(), once.len()),
        (900, 900),
        "each frame is listed once"
    );
    assert_eq!(missing(&lines, &server), 0);
    let store = server.store.lock().unwrap();
    assert_eq!(store.frames.len(), 900);
    assert!(store.publishes > 900, "there were repeats");
    assert_eq!(store.differing, 0, "a repeat is the same frame");
    assert_eq!(store.orphans, 0, "the birth goes first on every connection");
    assert!(report.stats.deferred > 0 && report.stats.ack_p99_ns >= report.stats.ack_p50_ns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_acknowledges_without_storing_is_found_out() {
    let server = Server::start(
        Mood {
            lies: 30,
            ..Mood::default()
        },
        None,
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let acked = dir.path().join("acked");
    let report = run(Config {
        acked: Some(acked.clone()),
        ..config(server.address, 1)
    })
    .await;
    assert_eq!(report.stats.acked, 300);
    assert!(missing(&listed(&acked), &server) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_reported_and_not_sent_again() {
    let server = Server::start(
        Mood {
            refuses: 20,
            ..Mood::default()
        },
        None,
    )
    .await;
    let report = run(config(server.address, 1)).await;
    let device = &report.devices[0];
    let refused = device.refused["0x99"];
    assert!(refused > 0);
    assert_eq!(report.stats.refused, refused);
    assert_eq!(report.stats.acked + refused, 300);
    assert_eq!(server.store.lock().unwrap().publishes, 300);
    assert!(report.trouble().unwrap().contains("0x99"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_3_does_the_same() {
    let mood = Mood {
        forgets: 40,
        drops: 60,
        ..Mood::default()
    };
    let server = Server::start(mood, None).await;
    let dir = tempfile::tempdir().unwrap();
    let acked = dir.path().join("acked");
    let config = Config {
        mqtt: Mqtt::V3,
        acked: Some(acked.clone()),
        ..config(server.address, 2)
    };
    let report = run(config).await;
    assert_eq!((report.stats.acked, report.owed()), (600, 0));
    assert_eq!(
        (listed(&acked).len(), missing(&listed(&acked), &server)),
        (600, 0)
    );
    assert_eq!(server.store.lock().unwrap().differing, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_arrives_whole_as_history_that_ends_now() {
    let Some(path) = shared("00001_lr.hea") else {
        return;
    };
    let server = Server::start(Mood::default(), None).await;
    let before = chordae_base::seams::Clock::wall_ns(&OsClock);
    let config = Config {
        source: Source::Record {
            path: path.clone(),
            leads: None,
        },
        frame_ns: 300_000_000,
        pace: Pace::Speed(50.0),
        length_ns: None,
        ..config(server.address, 1)
    };
    let report = run(config).await;
    assert_eq!((report.stats.acked, report.stats.samples), (34, 1000));
    let record = wfdb::read(&path).unwrap();
    let store = server.store.lock().unwrap();
    let (boot, birth) = store.births.first_key_value().unwrap();
    assert_eq!((&birth.leads, birth.rate), (&record.leads, record.rate));
    let mut columns = vec![Vec::new(); 12];
    let mut first = None;
    for seq in 0..34 {
        let frame = Frame::decode(&store.frames[&(*boot, seq)].1).unwrap();
        assert!(frame.historical && frame.clock == ClockKind::Synced);
        let first = *first.get_or_insert(frame.t0_ns);
        assert_eq!(frame.t0_ns, first + seq as i64 * 300_000_000);
        assert_eq!(frame.samples, if seq == 33 { 10 } else { 30 });
        for (i, column) in columns.iter_mut().enumerate() {
            column.extend_from_slice(frame.lead(i));
        }
    }
    assert_eq!(columns, record.codes);
    // Ten seconds of history, so its last sample lies just before the start.
    assert!(first.unwrap() >= before - 10 * SECOND_NS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_begins_now_and_ends_when_it_is_stopped() {
    let server = Server::start(Mood::default(), None).await;
    let live = Config {
        pace: Pace::Speed(1.0),
        length_ns: None,
        frame_ns: 50_000_000,
        ..config(server.address, 2)
    };
    let fleet = Fleet::start(live, Arc::new(OsClock), &OsEntropy).unwrap();
    while fleet.snapshot().acked < 10 {
        assert!(!fleet.is_finished());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let report = fleet.stop().await.unwrap();
    assert_eq!((report.stats.acked, report.owed()), (report.stats.made, 0));
    let store = server.store.lock().unwrap();
    assert!(
        store
            .frames
            .values()
            .all(|(_, p)| !Frame::decode(p).unwrap().historical)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_leaves_everything_owed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let report = run(Config {
        length_ns: Some(SECOND_NS),
        patience_ns: 300_000_000,
        ..config(address, 1)
    })
    .await;
    assert_eq!(
        (report.stats.acked, report.owed(), report.stats.finished),
        (0, 10, 0)
    );
    assert!(
        report.trouble().unwrap().contains("refused"),
        "{:?}",
        report.trouble()
    );
    assert_eq!((report.stats.connections, report.stats.connected), (0, 0));
}

/// An authority, a server certificate for 127.0.0.1, and certificates of devices in a folder.
fn certificates(dir: &Path, devices: &[&str]) -> Arc<ServerConfig> {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let issuer = authority("ours");
    fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
    fs::write(dir.join("stranger.pem"), authority("stranger").pem()).unwrap();
    let signed = |names: Vec<String>| {
        let key = KeyPair::generate().unwrap();
        (
            CertificateParams::new(names)
                .unwrap()
                .signed_by(&key, &issuer)
                .unwrap(),
            key,
        )
    };
    for device in devices {
        let (cert, key) = signed(vec![(*device).to_owned()]);
        fs::write(dir.join(format!("{device}.crt")), cert.pem()).unwrap();
        fs::write(dir.join(format!("{device}.key")), key.serialize_pem()).unwrap();
    }
    let (cert, key) = signed(vec!["127.0.0.1".to_owned()]);
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

fn over_tls(config: Config, dir: &Path, ca: &str) -> Config {
    let endpoint = Endpoint {
        tls: true,
        ..config.endpoint.clone()
    };
    let files = Credentials {
        ca: dir.join(ca),
        cert: dir.into(),
        key: dir.into(),
    };
    Config {
        endpoint,
        credentials: Some(files),
        ..config
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_certificate_for_each_device() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificates(dir.path(), &["dev-0", "dev-1"]);
    let mood = Mood {
        drops: 100,
        ..Mood::default()
    };
    let server = Server::start(mood, Some(tls)).await;
    for mqtt in [Mqtt::V5, Mqtt::V3] {
        let config = over_tls(config(server.address, 2), dir.path(), "ca.pem");
        let report = run(Config { mqtt, ..config }).await;
        assert_eq!((report.stats.acked, report.owed()), (600, 0), "{mqtt:?}");
    }
    // A third device has no certificate: said before anything starts.
    let config = over_tls(config(server.address, 3), dir.path(), "ca.pem");
    let failure = Fleet::start(config, Arc::new(OsClock), &OsEntropy)
        .map(drop)
        .unwrap_err();
    assert!(failure.why.contains("dev-2.crt"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mood::default(), Some(certificates(dir.path(), &["dev-0"]))).await;
    let config = over_tls(config(server.address, 1), dir.path(), "stranger.pem");
    let report = run(Config {
        patience_ns: 300_000_000,
        ..config
    })
    .await;
    assert_eq!(report.stats.acked, 0);
    assert!(
        report.trouble().unwrap().contains("certificate"),
        "{:?}",
        report.trouble()
    );
    assert_eq!(server.store.lock().unwrap().publishes, 0);
}

#[test]
fn an_impossible_fleet_is_refused_before_it_starts() {
    let good = config("127.0.0.1:1".parse().unwrap(), 2);
    assert!(good.check().is_ok());
    let twice = vec![good.devices[0].clone(), good.devices[0].clone()];
    for bad in [
        Config {
            devices: Vec::new(),
            ..good.clone()
        },
        Config {
            devices: twice,
            ..good.clone()
        },
        Config {
            burst: 0,
            ..good.clone()
        },
        Config {
            burst: 10_000,
            ..good.clone()
        },
        Config {
            pace: Pace::Speed(0.0),
            ..good.clone()
        },
        Config {
            pace: Pace::Speed(f64::NAN),
            ..good.clone()
        },
        Config {
            length_ns: Some(0),
            ..good.clone()
        },
        Config {
            endpoint: Endpoint {
                tls: true,
                ..good.endpoint.clone()
            },
            ..good.clone()
        },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    assert!("drop,drip".parse::<Faults>().is_err());
    let none = Faults::default();
    assert_eq!("".parse::<Faults>(), Ok(none));
    assert_eq!(
        "late, dup".parse::<Faults>(),
        Ok(Faults {
            late: true,
            dup: true,
            ..none
        })
    );
}
