//! Real sockets, real TLS: what is acknowledged is in the log, and who is slow delays nobody.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use chordae_base::{seams::Disk, wire::Frame};
use chordae_ingest::{
    core::admission::AdmissionLimits,
    fanout::{Fanout, RouterFanout},
};
use rumqttc::{Event, Packet, QoS, mqttbytes::v4, v5};
use tokio::io::AsyncWriteExt;

use crate::{
    support::{House, birth, runtime, until},
    ward::{Authority, Ward, client4, frames, plain_connect, stream4, stream5, to_the_end, tunnel},
};

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
