//! Bad inputs by their number, D01 to D33, where it takes a socket: who is silent, who floods, which
//! certificates are none. Each beside the form that is allowed.

use bytes::BytesMut;
use chordae_base::limits;
use chordae_ingest::{
    core::{mqtt::profile::Profile, ports::DeviceKind},
    doors::{Door, DoorSettings, mqtt},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, NameConstraints, SanType,
};
use rumqttc::mqttbytes::v4;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{House, runtime, until},
    ward::{
        Authority, Ward, bye, client_params, connect_tls, crl, frames, plain_connect, stream5,
        to_the_end,
    },
    wire::{packet, text},
};

/// Whether a certificate and a client id are let in.
async fn gets_in(door: &Door, ca: &Authority, identity: &(String, String), id: &str) -> bool {
    let answer = async {
        let mut stream = connect_tls(door, ca, identity).await.ok()?;
        let mut out = BytesMut::new();
        v4::Packet::Connect(v4::Connect::new(id))
            .write(&mut out, 1000)
            .ok()?;
        stream.write_all(&out).await.ok()?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    };
    answer.await == Some([0x20, 2, 0, 0])
}

#[test]
fn d01_d02_d03_silent_and_slow_sockets_are_closed_and_delay_nobody() {
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
        let mut slow_upgrade = TcpStream::connect(plain.address()).await.unwrap();
        slow_upgrade.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
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
        // A byte now and then does not begin the five seconds anew.
        for byte in [0, 4, b'M'] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.write_all(&[byte]).await.unwrap();
            slow_upgrade.write_all(b"A: b\r\n").await.unwrap();
        }
        to_the_end(&mut slow).await;
        to_the_end(&mut slow_upgrade).await;
        for socket in &mut silent {
            to_the_end(socket).await;
        }
        let gauge = ward.metrics.connections.with_label_values(&["mqtt"]);
        until("all are counted out", || gauge.get() <= 0).await;
        let timeouts = ward
            .metrics
            .refused
            .with_label_values(&["handshake-timeout"]);
        assert!(timeouts.get() >= 62, "{}", timeouts.get());
    });
}

#[test]
fn d10_a_second_connection_takes_over_from_its_own_device_only() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let door = ward.plain().await;
        let mut other = plain_connect(&door, "other", 5, 10).await;
        let mut first = plain_connect(&door, "tool", 5, 10).await;
        let mut second = plain_connect(&door, "tool", 4, 10).await;
        assert_eq!(bye(&to_the_end(&mut first).await), Some(0x8e));
        for socket in [&mut other, &mut second] {
            socket.write_all(&[0xc0, 0]).await.unwrap();
            let mut pong = [0; 2];
            socket.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, [0xd0, 0]);
        }
        // An orderly stop says good-bye.
        door.close().await;
        assert_eq!(bye(&to_the_end(&mut other).await), Some(0x8b));
        assert!(to_the_end(&mut second).await.is_empty());
    });
}

#[test]
fn d26_silence_ends_a_connection() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let plain = ward.plain().await;
        let mut quiet = plain_connect(&plain, "tool", 5, 1).await;
        assert_eq!(bye(&to_the_end(&mut quiet).await), Some(0x8d));
    });
}

/// A close with bytes unread is a reset, and a reset takes the DISCONNECT from the peer.
#[test]
fn why_it_was_closed_reaches_a_peer_that_goes_on_writing() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let plain = ward.plain().await;
        let mut busy = plain_connect(&plain, "tool", 5, 60).await;
        // A packet of a client's that only servers send, then pings.
        busy.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
        for _ in 0..50 {
            busy.write_all(&[0xc0, 0].repeat(1000)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(bye(&to_the_end(&mut busy).await), Some(0x82));
    });
}

#[test]
fn d27_a_storm_of_connects_of_one_identity() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let door = ward.plain().await;
        let mut standing = plain_connect(&door, "steady", 5, 60).await;
        let connect = packet(
            0x10,
            &[&b"\0\x04MQTT\x05\x02\0\x3c\0"[..], &text("storm")].concat(),
        );
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..300 {
            let mut socket = TcpStream::connect(door.address()).await.unwrap();
            socket.write_all(&connect).await.unwrap();
            let mut answer = [0; 4];
            socket.read_exact(&mut answer).await.unwrap();
            match answer[3] {
                0 => taken += 1,
                0x9f => refused += 1,
                other => panic!("{other:x}"),
            }
        }
        assert!(taken >= limits::CONNECTS_PER_ID_BURST, "{taken} of 300");
        assert!(refused > 0, "{refused} of 300");
        // Others come and stay.
        plain_connect(&door, "fresh", 4, 10).await;
        standing.write_all(&[0xc0, 0]).await.unwrap();
        let mut pong = [0; 2];
        standing.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0xd0, 0]);
    });
}

#[test]
fn d28_at_the_bound_new_sockets_are_refused_and_old_connections_stay() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let settings = DoorSettings {
            connections_max: 8,
            ..DoorSettings::new("127.0.0.1:0".parse().unwrap(), None)
        };
        let door = mqtt::open(settings, ward.parts.clone()).await.unwrap();
        let mut old = plain_connect(&door, "tool", 4, 60).await;
        let mut idle = Vec::new();
        for _ in 0..30 {
            idle.push(TcpStream::connect(door.address()).await.unwrap());
        }
        let mut late = TcpStream::connect(door.address()).await.unwrap();
        assert!(to_the_end(&mut late).await.is_empty(), "refused at once");
        old.write_all(&[0xc0, 0]).await.unwrap();
        let mut pong = [0; 2];
        old.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0xd0, 0]);
        let refused = ward.metrics.refused.with_label_values(&["connections"]);
        assert!(refused.get() >= 24, "{}", refused.get());
        // The idle ones go, and there is room again.
        for socket in &mut idle {
            to_the_end(socket).await;
        }
        until("there is room", || {
            ward.metrics.connections.with_label_values(&["mqtt"]).get() == 1
        })
        .await;
        plain_connect(&door, "fresh", 4, 10).await;
    });
}

#[test]
fn d29_a_subscriber_that_never_reads() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house).open();
        let door = ward.plain().await;
        // It asks for everything and takes nothing.
        let mut deaf = plain_connect(&door, "deaf", 5, 60).await;
        let all = [&[0, 1, 0][..], &text("flood/#"), &[0]].concat();
        deaf.write_all(&packet(0x82, &all)).await.unwrap();
        let mut suback = [0; 6];
        deaf.read_exact(&mut suback).await.unwrap();
        assert_eq!(suback[5], 0);
        let mut loud = plain_connect(&door, "loud", 5, 60).await;
        let body = [&text("flood/x")[..], &[0], &vec![7; 200_000]].concat();
        let message = packet(0x30, &body);
        for _ in 0..100 {
            loud.write_all(&message).await.unwrap();
        }
        // Ingest does not feel it.
        let port = door.address().port();
        let sent = stream5(port, "bed-7", frames(1, 50)).await;
        let there = ward.logged();
        assert!(sent.iter().all(|f| there.contains(f)));
        // It is cut, and counted, and what waited for it goes with it.
        until("the deaf one is cut", || {
            let cut = |why| ward.metrics.refused.with_label_values(&[why]).get();
            cut("stalled") > 0
        })
        .await;
        loud.write_all(&[0xc0, 0]).await.unwrap();
        let mut pong = [0; 2];
        loud.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0xd0, 0], "the loud one is none the worse");
    });
}

/// Certificates that no handshake takes.
#[test]
fn d31_certificates_that_are_none() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let (ca, other) = (Authority::new(), Authority::new());
        let uri = "urn:chordae:device:bed-7";
        let with = |change: &dyn Fn(&mut CertificateParams)| {
            let mut params = client_params(&[uri]);
            change(&mut params);
            ca.sign(params)
        };
        let revoked = with(&|p| p.serial_number = Some(vec![1, 2, 3].into()));
        let list = crl(&ca, &[&[1, 2, 3]], 2099);
        let door = ward.tls_with(&ca, Some(list)).await;
        let (cert, key) = ca.client(&[uri]);
        let long_chain = (cert + &ca.pem().repeat(100), key);
        let deep = {
            let below = |issuer: &CertifiedIssuer<'static, KeyPair>, name: String| {
                let mut params = CertificateParams::new(vec![]).unwrap();
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                let mut names = rcgen::DistinguishedName::new();
                names.push(rcgen::DnType::CommonName, name);
                params.distinguished_name = names;
                let key = KeyPair::generate().unwrap();
                CertifiedIssuer::signed_by(params, key, issuer).unwrap()
            };
            let first = Authority::new();
            let mut chain = String::new();
            let mut issuer = first.into_issuer();
            for n in 0..10 {
                issuer = below(&issuer, format!("ca {n}"));
                chain = issuer.pem() + &chain;
            }
            let key = KeyPair::generate().unwrap();
            let leaf = client_params(&[uri]).signed_by(&key, &issuer).unwrap();
            (leaf.pem() + &chain, key.serialize_pem())
        };
        let constrained = {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let only = GeneralSubtree::DnsName("elsewhere.example".into());
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![only],
                excluded_subtrees: vec![],
            });
            let key = KeyPair::generate().unwrap();
            let middle = CertifiedIssuer::signed_by(params, key, ca.issuer()).unwrap();
            let mut params = client_params(&[uri]);
            let name = SanType::DnsName("here.example".try_into().unwrap());
            params.subject_alt_names.push(name);
            let key = KeyPair::generate().unwrap();
            let leaf = params.signed_by(&key, &middle).unwrap();
            (leaf.pem() + &middle.pem(), key.serialize_pem())
        };
        let cases = [
            (
                "expired",
                with(&|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)),
            ),
            (
                "not yet valid",
                with(&|p| p.not_before = rcgen::date_time_ymd(2090, 1, 1)),
            ),
            (
                "for servers only",
                with(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            ),
            ("another authority", other.client(&[uri])),
            ("revoked", revoked),
            ("a chain of 40 KiB", long_chain),
            ("ten deep", deep),
            ("names that its issuer may not give", constrained),
        ];
        for (what, identity) in &cases {
            assert!(!gets_in(&door, &ca, identity, "bed-7").await, "{what}");
        }
        let refused = ward.metrics.refused.with_label_values(&["tls"]);
        assert!(
            refused.get() >= cases.len() as u64,
            "each in its handshake, and counted"
        );
        assert!(gets_in(&door, &ca, &ca.client(&[uri]), "bed-7").await);
        // Plain bytes on the TLS port.
        let mut socket = TcpStream::connect(door.address()).await.unwrap();
        socket
            .write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0")
            .await
            .unwrap();
        assert!(!to_the_end(&mut socket).await.starts_with(&[0x20]));
    });
}

#[test]
fn d31_a_revocation_list_whose_time_is_over_lets_nobody_in() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let ca = Authority::new();
        let identity = ca.client(&["urn:chordae:device:bed-7"]);
        for (until, fits) in [(2021, false), (2099, true)] {
            let door = ward.tls_with(&ca, Some(crl(&ca, &[], until))).await;
            assert_eq!(
                gets_in(&door, &ca, &identity, "bed-7").await,
                fits,
                "{until}"
            );
        }
    });
}

#[test]
fn d32_disabled_or_expired_while_connected() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let ca = Authority::new();
        let door = ward.tls(&ca).await;
        let connect = packet(
            0x10,
            &[&b"\0\x04MQTT\x05\x02\0\x64\0"[..], &text("bed-7")].concat(),
        );
        let enter = async |identity: &(String, String)| {
            let mut stream = connect_tls(&door, &ca, identity).await.unwrap();
            stream.write_all(&connect).await.unwrap();
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.unwrap();
            let mut rest = vec![0; usize::from(head[1])];
            stream.read_exact(&mut rest).await.unwrap();
            assert_eq!(rest[1], 0);
            stream
        };
        let the_end = async |mut stream: tokio_rustls::client::TlsStream<TcpStream>| {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            bye(&rest)
        };
        // Its certificate ends in a moment.
        let mut params = client_params(&["urn:chordae:device:bed-7"]);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + ward.house.in_seconds(3);
        let stream = enter(&ca.sign(params)).await;
        assert_eq!(the_end(stream).await, Some(0x98), "expired");
        // Its certificate is revoked in the registry; another one of the same device is not.
        let with_serial = |serial: Vec<u8>| {
            let mut params = client_params(&["urn:chordae:device:bed-7"]);
            params.serial_number = Some(serial.into());
            ca.sign(params)
        };
        let stream = enter(&with_serial(vec![9, 9])).await;
        ward.house.registry.revoke("bed-7", "0909");
        assert_eq!(the_end(stream).await, Some(0x98), "revoked");
        let stream = enter(&with_serial(vec![7, 7])).await;
        // The device is disabled.
        tokio::time::sleep(Duration::from_millis(300)).await;
        ward.house.registry.put("bed-7", DeviceKind::Device, false);
        assert_eq!(the_end(stream).await, Some(0x98), "disabled");
        for why in ["expired", "revoked", "disabled"] {
            assert_eq!(
                ward.metrics.refused.with_label_values(&[why]).get(),
                1,
                "{why}"
            );
        }
    });
}

#[test]
fn d33_exactly_one_identity() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        house.registry.put("gone", DeviceKind::Device, false);
        let ward = Ward::new(house);
        let ca = Authority::new();
        let door = ward.tls(&ca).await;
        let common_name = {
            let mut params = client_params(&[]);
            let mut names = rcgen::DistinguishedName::new();
            names.push(rcgen::DnType::CommonName, "bed-7");
            params.distinguished_name = names;
            ca.sign(params)
        };
        // (what, certificate, client id, let in)
        let cases = [
            (
                "own",
                ca.client(&["urn:chordae:device:bed-7"]),
                "bed-7",
                true,
            ),
            (
                "a monitor",
                ca.client(&["urn:chordae:monitor:desk"]),
                "desk",
                true,
            ),
            ("no name", ca.client(&[]), "bed-7", false),
            ("a common name only", common_name, "bed-7", false),
            (
                "two names",
                ca.client(&["urn:chordae:device:bed-7", "urn:chordae:device:bed-8"]),
                "bed-7",
                false,
            ),
            (
                "NUL in the name",
                ca.client(&["urn:chordae:device:bed-7\0"]),
                "bed-7",
                false,
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
        ];
        for (what, identity, id, fits) in &cases {
            assert_eq!(gets_in(&door, &ca, identity, id).await, *fits, "{what}");
        }
    });
}

#[test]
fn a_plain_listener_is_for_loopback_only() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let settings = DoorSettings::new(listen.parse().unwrap(), None);
            let opened = mqtt::open(settings, ward.parts.clone()).await;
            let Err(why) = opened else {
                panic!("{listen} was opened without TLS")
            };
            assert_eq!(why.kind, chordae_base::FailureKind::Refused);
        }
    });
}

/// The profile is the ward's: nothing of the open one leaks into the closed one.
#[test]
fn any_topic_only_where_any_may_be() {
    runtime().block_on(async {
        for (open, code) in [(false, 0x90), (true, 0x10)] {
            let (house, _) = House::in_memory();
            let mut ward = Ward::new(house);
            if open {
                ward.parts = ward.parts.clone().profile(Profile::Open { refuse: vec![] });
            }
            let door = ward.plain().await;
            let mut socket = plain_connect(&door, "tool", 5, 60).await;
            let body = [&text("any/topic")[..], &[0, 1, 0]].concat();
            socket.write_all(&packet(0x32, &body)).await.unwrap();
            let mut answer = [0; 5];
            socket.read_exact(&mut answer).await.unwrap();
            assert_eq!((answer[0], answer[4]), (0x40, code));
        }
    });
}
