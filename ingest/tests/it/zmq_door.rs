//! The ZeroMQ door on real sockets: what is acknowledged is in the log, whoever is slow, rude or silent
//! delays nobody. Rows Z01, Z02 and Z05-Z09; pyzmq in tests/python/test_zmq.py.

use std::{sync::Arc, time::Duration};

use chordae_base::{
    limits,
    record::WalRecord,
    seams::Disk,
    wire::{ClockKind, Frame},
};
use chordae_ingest::{
    core::{admission::AdmissionLimits, exchange::command::CommandState, ports::DeviceKind},
    doors::{DoorSettings, zmq},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    support::{House, frame, runtime, until},
    ward::{Authority, connect_tls_to},
    zmq_session::{behind, id},
    zmq_ward::{Dealer, Heard, ZmqWard, live, tls},
};

const ECG: &str = "bed-7/ecg";

#[test]
fn acknowledged_means_in_the_log_plain_and_over_tls() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        let ward = ZmqWard::new(house);
        let ca = Authority::new();
        let (plain, tls) = (ward.door(None).await, ward.door(Some(tls(&ca))).await);
        let mut sent = Vec::new();
        let mut dealer = Dealer::plain(&plain).await;
        dealer.birth(ECG, 1).await;
        for frame in live(&ward.house, 1, 300) {
            dealer.put_frame(ECG, &frame);
            sent.push(frame);
        }
        dealer.flush().await;
        dealer.acks(ECG, 1, 0..300).await;
        let certificate = ca.client(&["urn:chordae:device:bed-7"]);
        let socket = connect_tls_to(tls.address(), &ca, &certificate)
            .await
            .unwrap();
        let mut dealer = Dealer::shake(socket, "bed-7").await.unwrap();
        dealer.birth(ECG, 2).await;
        for frame in live(&ward.house, 2, 300) {
            dealer.put_frame(ECG, &frame);
            sent.push(frame);
        }
        dealer.flush().await;
        dealer.acks(ECG, 2, 0..300).await;
        // The power goes: what was acknowledged is on the disk.
        disk.crash();
        let again = House::new(Arc::new(disk.boot()) as Arc<dyn Disk>);
        let mut there = Vec::new();
        let recovered = again.open().unwrap();
        recovered
            .replay(&mut |_, record| {
                if let WalRecord::Frame(f) = record {
                    there.push(f.frame()?);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(there.len(), sent.len(), "nothing twice");
        assert!(sent.iter().all(|frame| there.contains(frame)));
    });
}

/// Reads until the door closes; what it said.
async fn to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end as well.
    let read = timeout(Duration::from_secs(30), socket.read_to_end(&mut said));
    read.await.expect("it is not closed").ok();
    said
}

#[test]
fn z01_z02_garbage_silence_and_foreign_versions_are_closed_and_delay_nobody() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let mut silent = TcpStream::connect(door.address()).await.unwrap();
        let mut slow = TcpStream::connect(door.address()).await.unwrap();
        slow.write_all(&[0xff, 0, 0]).await.unwrap();
        let mut curve = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
        curve.extend(b"CURVE");
        curve.resize(64, 0);
        let old = [&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1][..], &[5; 53]].concat();
        let tls_hello = [&[0x16u8, 3, 1, 2, 0, 1, 0, 1, 0xfc][..], &[7; 500]].concat();
        let cases: [(&[u8], &str); 4] = [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""),
            (&tls_hello, ""),
            (&curve, "zmtp-mechanism"),
            (&old, "zmtp-version"),
        ];
        for (bytes, error) in cases {
            let mut socket = TcpStream::connect(door.address()).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            let said = to_the_end(&mut socket).await;
            let rest = said.get(64..).unwrap_or_default();
            if error.is_empty() {
                assert!(rest.is_empty(), "garbage is not answered");
            } else {
                // A reset may overtake what was said; what arrives is an ERROR and nothing else.
                assert!(
                    rest.is_empty() || rest.ends_with(error.as_bytes()),
                    "{error}"
                );
                assert!(ward.refused(error) > 0);
            }
        }
        // They wait; others are served at once.
        Dealer::plain(&door).await.birth(ECG, 1).await;
        for byte in [0, 0, 0] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(to_the_end(&mut slow).await.len(), 64);
        assert_eq!(to_the_end(&mut silent).await.len(), 64);
        assert_eq!(ward.refused("handshake-timeout"), 2);
        let connections = ward.metrics.connections.with_label_values(&["zmq"]);
        until("all are gone", || connections.get() == 0).await;
    });
}

#[test]
fn z05_z07_a_peer_that_breaks_the_protocol_later_is_closed_and_what_it_sent_stays() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let floods: [(&[u8], &str); 3] = [
            (&[1, 0], "zmtp-parts"),
            (&[8, 0], "zmtp-flags"),
            (&[2, 0x80, 0, 0, 0, 0, 0, 0, 0], "zmtp-length"),
        ];
        for (boot, (flood, why)) in (1..).zip(floods) {
            let mut dealer = Dealer::plain(&door).await;
            dealer.birth(ECG, boot).await;
            dealer.put_frame(ECG, &live(&ward.house, boot, 1)[0]);
            dealer.flush().await;
            dealer.acks(ECG, boot, 0..1).await;
            dealer.socket.write_all(&flood.repeat(1000)).await.ok();
            assert!(dealer.hear().await.is_none());
            assert_eq!(ward.refused(why), 1);
        }
        until("handed down", || ward.logged().len() == 3).await;
        // A flood of PINGs costs its sender its PONGs, and nobody else anything.
        let mut dealer = Dealer::plain(&door).await;
        let ping = b"\x04\x17\x04PING\0\x0a0123456789abcdef";
        dealer.socket.write_all(&ping.repeat(5000)).await.unwrap();
        Dealer::plain(&door).await.birth(ECG, 9).await;
        dealer.birth("bed-8/ecg", 9).await;
        assert!(ward.refused("pings") > 4000);
    });
}

#[test]
fn z06_the_certificate_decides_and_only_itself_can_take_over() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        house.registry.put("gone", DeviceKind::Device, false);
        let ward = ZmqWard::new(house);
        let (ca, other) = (Authority::new(), Authority::new());
        let door = ward.door(Some(tls(&ca))).await;
        let enter = async |ca_of: &Authority, uri: &str, calls_itself: &str| {
            let certificate = ca_of.client(&[uri]);
            let socket = connect_tls_to(door.address(), &ca, &certificate)
                .await
                .ok()?;
            let mut dealer = Dealer::shake(socket, calls_itself).await?;
            dealer.say(&[b"frame", b"who/ecg", b""]).await;
            dealer.hear().await.map(|_| dealer)
        };
        let bed8 = "urn:chordae:device:bed-8";
        let mut eight = enter(&ca, bed8, "").await.unwrap();
        for (uri, calls_itself) in [
            ("urn:chordae:device:bed-7", "bed-8"),
            ("urn:chordae:device:bed-7", &*"x".repeat(255)),
            ("urn:chordae:device:gone", ""),
            ("urn:chordae:device:who", ""),
            ("urn:chordae:gateway:bed-7", ""),
            ("urn:chordae:monitor:desk", ""),
            ("urn:chordae:patient:bed-7", ""),
        ] {
            assert!(
                enter(&ca, uri, calls_itself).await.is_none(),
                "{uri} {calls_itself}"
            );
        }
        assert!(enter(&other, bed8, "").await.is_none(), "another authority");
        eight.birth("bed-8/ecg", 1).await;
        // Itself: the older connection is cut.
        let mut again = enter(&ca, bed8, "bed-8").await.unwrap();
        assert!(eight.hear().await.is_none());
        again.birth("bed-8/ecg", 2).await;
        // Disabled while connected: refused at once, cut at the next look.
        ward.house.registry.put("bed-8", DeviceKind::Device, false);
        let payload = live(&ward.house, 2, 1)[0].encode();
        again.say(&[b"frame", b"bed-8/ecg", &payload]).await;
        if let Some(heard) = again.hear().await {
            assert_eq!(
                Heard::of(&heard),
                Heard::nack("bed-8/ecg", 2, 0, "not-authorised")
            );
            assert!(again.hear().await.is_none());
        }
        assert!(ward.logged().is_empty());
        // Plain listeners are for loopback only.
        let listen = "0.0.0.0:0".parse().unwrap();
        let settings = DoorSettings::new(listen, None);
        assert!(zmq::open(settings, ward.parts.clone()).await.is_err());
    });
}

/// A peer that sends and never reads: its window closes, it is cut, what it was acknowledged for is there,
/// and another peer is served all the while.
#[test]
fn z08_a_peer_that_does_not_read_its_acks_is_cut() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(door.address()).await.unwrap();
        let mut deaf = Dealer::shake(socket, "").await.unwrap();
        let mut ended = false;
        let now = ward.house.now();
        deaf.birth("bed-8/ecg", 1).await;
        let tiny = |seq| Frame {
            samples: 1,
            codes: vec![0, 0],
            ..frame(1, seq, now, 0)
        };
        'send: for n in 0..400 {
            for k in 0..1000u64 {
                // Every other seq, so that no two are drawn together.
                deaf.put_frame("bed-8/ecg", &tiny((n * 1000 + k) * 2));
            }
            let mut out = deaf.take_out();
            while !out.is_empty() {
                let sent = timeout(Duration::from_secs(60), deaf.socket.write(&out)).await;
                match sent.expect("it is neither read nor cut") {
                    Ok(n @ 1..) => drop(out.split_to(n)),
                    _ => {
                        ended = true;
                        break 'send;
                    }
                }
            }
        }
        assert!(ended, "never cut");
        assert_eq!(ward.refused("stalled"), 1);
        let mut good = Dealer::plain(&door).await;
        good.birth(ECG, 1).await;
        let frames = live(&ward.house, 1, 50);
        frames.iter().for_each(|f| good.put_frame(ECG, f));
        good.flush().await;
        good.acks(ECG, 1, 0..50).await;
    });
}

/// Faster than it is taken: everything is acknowledged, nothing is lost, the window is TCP's.
#[test]
fn z09_a_flood_is_slowed_down_and_acknowledged_to_the_last() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let mut dealer = Dealer::plain(&door).await;
        dealer.birth(ECG, 1).await;
        let frames = live(&ward.house, 1, 3000);
        frames.iter().for_each(|f| dealer.put_frame(ECG, f));
        let out = dealer.take_out();
        let (mut read, mut write) = tokio::io::split(dealer.socket);
        let sending = tokio::spawn(async move { write.write_all(&out).await });
        let mut half = Dealer::over(tokio::io::join(&mut read, tokio::io::sink()), dealer.zmtp);
        half.acks(ECG, 1, 0..3000).await;
        sending.await.unwrap().unwrap();
        until("all are handed down", || ward.logged().len() == 3000).await;
    });
}

#[test]
fn a_full_disk_is_told_and_heals() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        disk.set_capacity(8 << 20);
        let admission = AdmissionLimits {
            free_min: 2 << 20,
            wal_max: 1 << 30,
        };
        let ward = ZmqWard::new(House { admission, ..house });
        let door = ward.door(None).await;
        let mut dealer = Dealer::plain(&door).await;
        dealer.birth(ECG, 1).await;
        let frames = live(&ward.house, 1, 10);
        disk.put("/data/ballast".as_ref(), &vec![0; 7 << 20]);
        let mut doors = ward.ingest.handle().doors_open();
        doors.wait_for(|open| !open).await.unwrap();
        for frame in &frames[..2] {
            dealer.put_frame(ECG, frame);
            dealer.flush().await;
            let heard = Heard::of(&dealer.hear().await.unwrap());
            assert_eq!(heard, Heard::nack(ECG, 1, frame.seq, "full"));
        }
        assert!(ward.logged().is_empty());
        disk.remove("/data/ballast".as_ref()).unwrap();
        doors.wait_for(|open| *open).await.unwrap();
        frames.iter().for_each(|f| dealer.put_frame(ECG, f));
        dealer.flush().await;
        dealer.acks(ECG, 1, 0..10).await;
    });
}

#[test]
fn a_gateway_relays_frames_commands_replies_and_status() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        house.registry.put("ward-3", DeviceKind::Gateway, true);
        house.registry.put_entry("bed-7", behind("ward-3"));
        let ward = ZmqWard::new(house);
        let ca = Authority::new();
        let door = ward.door(Some(tls(&ca))).await;
        let exchange = ward.exchange.handle();
        let lapses_ns = ward.house.now() + 3_600_000_000_000;
        let issue = async |do_: &str| {
            let body = format!("{{\"do\":\"{do_}\"}}");
            exchange
                .issue(id("bed-7"), None, body, lapses_ns)
                .await
                .unwrap()
        };
        let command = issue("identify").await;
        let certificate = ca.client(&["urn:chordae:gateway:ward-3"]);
        let enter = async || {
            let socket = connect_tls_to(door.address(), &ca, &certificate)
                .await
                .unwrap();
            Dealer::shake(socket, "ward-3").await.unwrap()
        };
        let mut gateway = enter().await;
        let heard = gateway.hear().await.unwrap();
        assert_eq!(heard[0].as_ref(), b"devices");
        let listed: serde_json::Value = serde_json::from_slice(&heard[1]).unwrap();
        assert_eq!(listed[0]["id"], "bed-7");
        for _ in 0..2 {
            // Until it is taken it comes on every connection.
            let heard = gateway.hear().await.unwrap();
            assert_eq!(
                (heard[0].as_ref(), heard[1].as_ref()),
                (&b"cmd"[..], &b"bed-7"[..])
            );
            let json: serde_json::Value = serde_json::from_slice(&heard[2]).unwrap();
            assert_eq!(
                (&json["do"], &json["id"]),
                (&"identify".into(), &command.clone().into())
            );
            assert_eq!(heard[3].as_ref(), lapses_ns.to_be_bytes());
            gateway = enter().await;
            gateway.hear().await.unwrap();
        }
        gateway
            .say(&[b"cmd-ack", b"bed-7", command.as_bytes()])
            .await;
        gateway.say(&[b"status", b"bed-7", b"online"]).await;
        let reply = b"{\"ok\":true}";
        gateway
            .say(&[b"reply", b"bed-7", command.as_bytes(), reply])
            .await;
        let heard = loop {
            let heard = gateway.hear().await.unwrap();
            if heard[0].as_ref() != b"cmd" {
                break heard;
            }
        };
        let id_bytes = command.as_bytes();
        assert_eq!(
            heard,
            [&b"replied"[..], b"bed-7", id_bytes].map(bytes::Bytes::copy_from_slice)
        );
        let known = exchange.commands(None).await.unwrap();
        assert_eq!(known[0].state, CommandState::Replied);
        assert_eq!(known[0].reply.as_deref(), Some(&reply[..]));
        // The gateway goes; its devices need not have gone.
        let relayed = ward.house.now() - 7_200_000_000_000;
        gateway.birth(ECG, 1).await;
        let late = Frame {
            clock: ClockKind::Unknown,
            ..frame(1, 0, 0, 1)
        };
        gateway
            .say(&[
                b"frame",
                ECG.as_bytes(),
                &late.encode(),
                &relayed.to_be_bytes(),
            ])
            .await;
        gateway.acks(ECG, 1, 0..1).await;
        until("handed down", || ward.logged().len() == 1).await;
        let offset = ward.record(0).offset_ns;
        assert_eq!(
            offset,
            relayed - 1_000_000_000,
            "mapped by the gateway's receive time"
        );
        drop(gateway);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = exchange.retained("chordae/v1/bed-7/status").await.unwrap();
        assert_eq!(status.as_deref(), Some(&b"online"[..]));
    });
}

#[test]
fn a_device_that_goes_without_a_word_is_offline() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let exchange = ward.exchange.handle();
        let status = async || exchange.retained("chordae/v1/bed-7/status").await.unwrap();
        let mut changed = exchange.changed();
        let mut first = Dealer::plain(&door).await;
        first.say(&[b"status", b"bed-7", b"online"]).await;
        changed.changed().await.unwrap();
        assert_eq!(status().await.as_deref(), Some(&b"online"[..]));
        // It comes again before the old connection is seen to be gone.
        let mut second = Dealer::plain(&door).await;
        second.say(&[b"status", b"bed-7", b"online"]).await;
        second.birth(ECG, 1).await;
        drop(first);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(status().await.as_deref(), Some(&b"online"[..]));
        drop(second);
        while status().await.as_deref() != Some(&b"offline"[..]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn when_ingest_ends_connections_end_and_nobody_is_acknowledged() {
    runtime().block_on(async {
        let (house, disk) = House::in_memory();
        let boot = Arc::new(disk.boot());
        let ward = ZmqWard::new(House {
            disk: boot as Arc<dyn Disk>,
            ..house
        });
        let door = ward.door(None).await;
        let mut dealer = Dealer::plain(&door).await;
        disk.crash();
        dealer
            .say(&[b"birth", ECG.as_bytes(), &crate::support::birth(1).encode()])
            .await;
        assert!(dealer.hear().await.is_none(), "acknowledged on a dead disk");
        assert!(ward.ingest.join().is_err());
    });
}

#[test]
fn at_the_bound_of_connections_those_that_are_there_stay() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let settings = DoorSettings {
            connections_max: 10,
            ..DoorSettings::new("127.0.0.1:0".parse().unwrap(), None)
        };
        let door = zmq::open(settings, ward.parts.clone()).await.unwrap();
        let mut good = Dealer::plain(&door).await;
        let mut others = Vec::new();
        for _ in 0..15 {
            others.push(TcpStream::connect(door.address()).await.unwrap());
        }
        until("they are turned away", || ward.refused("connections") == 6).await;
        good.birth(ECG, 1).await;
        drop(others);
        door.close().await;
        assert!(good.hear().await.is_none());
    });
}

/// A certificate that connects in a storm takes from itself: the connection that stands is not touched by
/// those beyond the rate, and another certificate comes in as ever.
#[test]
fn a_storm_of_one_certificate_is_its_own() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let ca = Authority::new();
        let door = ward.door(Some(tls(&ca))).await;
        let certificate = |n: u8| ca.client(&[&format!("urn:chordae:device:bed-{n}")]);
        let (seven, eight) = (certificate(7), certificate(8));
        let mut last = None;
        for _ in 0..2 * limits::CONNECTS_PER_ID_BURST {
            let socket = connect_tls_to(door.address(), &ca, &seven).await.unwrap();
            if let Some(mut dealer) = Dealer::shake(socket, "").await {
                dealer.say(&[b"what"]).await;
                if dealer.hear().await.is_some() {
                    last = Some(dealer);
                }
            }
        }
        assert!(ward.refused("connect-rate") > 0);
        last.unwrap().birth(ECG, 1).await;
        let socket = connect_tls_to(door.address(), &ca, &eight).await.unwrap();
        Dealer::shake(socket, "")
            .await
            .unwrap()
            .birth("bed-8/ecg", 1)
            .await;
    });
}
