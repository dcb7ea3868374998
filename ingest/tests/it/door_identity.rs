//! Who gets in at a door, and as whom: certificates, the loopback listener, a device that comes twice
//! or is disabled.

use bytes::BytesMut;
use chordae_base::DeviceId;
use chordae_ingest::{
    core::ports::{DeviceKind, Registry},
    doors::mqtt::{DoorSettings, MqttDoor},
};
use rumqttc::mqttbytes::v4;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{House, runtime},
    ward::{Authority, Ward, client_params, connect_tls, plain_connect, to_the_end},
};

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
