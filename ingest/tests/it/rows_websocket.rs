//! Bad inputs by their number, D30: MQTT over WebSocket, frame by frame from a raw socket. Each beside the
//! form that is allowed.

use chordae_base::limits;
use chordae_ingest::doors::Door;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{House, birth, runtime, until},
    ward::{Ward, to_the_end},
    wire::{packet, text},
};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

/// Asks for an upgrade with these lines beside the usual ones; the answer's head.
async fn ask(door: &Door, lines: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(door.address()).await.unwrap();
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: bedside:8883\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read_exact(&mut byte).await.is_err() {
            break;
        }
        head.push(byte[0]);
    }
    (socket, String::from_utf8(head).unwrap())
}

async fn upgraded(door: &Door) -> TcpStream {
    let (socket, head) = ask(door, "Sec-WebSocket-Protocol: mqtt\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    socket
}

/// A frame of a client: masked, with a key of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The payload of the next frame of the server, which must be binary.
async fn heard(socket: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], BINARY);
    let mut payload = vec![0; usize::from(head[1])];
    socket.read_exact(&mut payload).await.unwrap();
    payload
}

fn connect(id: &str) -> Vec<u8> {
    packet(
        0x10,
        &[&b"\0\x04MQTT\x05\x02\0\x3c\0"[..], &text(id)].concat(),
    )
}

#[test]
fn mqtt_speaks_over_websocket_as_over_a_socket() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let door = ward.plain().await;
        let (mut socket, head) = ask(&door, "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.to_lowercase()
                .contains("sec-websocket-protocol: mqtt\r\n"),
            "{head}"
        );
        // Packets need not end where messages do.
        let connect = connect("tool");
        let (one, two) = connect.split_at(5);
        socket.write_all(&frame(BINARY, one)).await.unwrap();
        socket.write_all(&frame(PING, b"hi")).await.unwrap();
        socket.write_all(&frame(BINARY, two)).await.unwrap();
        let mut pong = [0; 4];
        socket.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x8a, 2, b'h', b'i']);
        assert_eq!(heard(&mut socket).await[..4], [0x20, 0x10, 0, 0][..]);
        let body = [
            &text("chordae/v1/bed-7/ecg/birth")[..],
            &[0, 7, 0],
            &birth(1).encode(),
        ]
        .concat();
        socket
            .write_all(&frame(BINARY, &packet(0x32, &body)))
            .await
            .unwrap();
        assert_eq!(heard(&mut socket).await, [0x40, 2, 0, 7]);
        // A goodbye of the WebSocket is the end of the connection.
        socket.write_all(&frame(0x88, &[])).await.unwrap();
        to_the_end(&mut socket).await;
        let gauge = ward.metrics.connections.with_label_values(&["mqtt"]);
        until("it is gone", || gauge.get() == 0).await;
    });
}

#[test]
fn d30_upgrades_that_are_refused() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let mut ward = Ward::new(house);
        ward.parts = ward
            .parts
            .clone()
            .origins(&["https://desk.example".to_owned()]);
        let door = ward.plain().await;
        let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
        let long = format!("{mqtt}X: {}\r\n", "x".repeat(limits::CONNECT_BYTES_MAX));
        let cases = [
            ("no subprotocol", String::new(), "400"),
            (
                "another subprotocol",
                "Sec-WebSocket-Protocol: mqttv3.1\r\n".into(),
                "400",
            ),
            (
                "a page of a stranger",
                format!("{mqtt}Origin: https://evil.example\r\n"),
                "403",
            ),
            (
                "a page without a name",
                format!("{mqtt}Origin: null\r\n"),
                "403",
            ),
            (
                "a name that begins as ours",
                format!("{mqtt}Origin: https://bedside.evil\r\n"),
                "403",
            ),
            (
                "a page of this host",
                format!("{mqtt}Origin: https://bedside\r\n"),
                "101",
            ),
            (
                "a page that is listed",
                format!("{mqtt}Origin: https://desk.example\r\n"),
                "101",
            ),
            ("no page", mqtt.into(), "101"),
        ];
        for (what, lines, status) in cases {
            let (_, head) = ask(&door, &lines).await;
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{what}: {head}"
            );
            // Nothing is compressed, whoever asks for it: there is no bomb to unpack.
            let asks = format!("{lines}Sec-WebSocket-Extensions: permessage-deflate\r\n");
            let (_, head) = ask(&door, &asks).await;
            assert!(!head.to_lowercase().contains("extensions"), "{what}");
        }
        let (_, head) = ask(&door, &long).await;
        assert!(
            !head.starts_with("HTTP/1.1 101"),
            "more than 16 KiB before identity"
        );
        let refused = ward.metrics.refused.with_label_values(&["websocket"]);
        assert!(refused.get() >= 11, "{}", refused.get());
    });
}

#[test]
fn d30_frames_that_are_none() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = Ward::new(house);
        let door = ward.plain().await;
        let huge = [
            &[BINARY, 0x80 | 127][..],
            &(1_u64 << 62).to_be_bytes(),
            &[0; 4],
        ]
        .concat();
        let above = u64::try_from(limits::PACKET_BYTES_MAX + 1).unwrap();
        let above = [&[BINARY, 0x80 | 127][..], &above.to_be_bytes(), &[0; 4]].concat();
        let long_ping = frame(PING, &[0; 126]);
        let cases = [
            ("a length of 2^62", huge),
            ("a length above what may come", above),
            ("a fragmented control frame", frame(0x09, b"hi")),
            ("a control frame of 126 bytes", long_ping),
            (
                "compressed without having been agreed",
                frame(BINARY | 0x40, &connect("tool")),
            ),
            ("an unknown opcode", frame(0x83, b"x")),
            ("not masked", [&[BINARY, 4][..], b"abcd"].concat()),
            ("text", frame(TEXT, &connect("tool"))),
            ("no MQTT", frame(BINARY, b"hello")),
        ];
        for (what, bytes) in cases {
            let mut socket = upgraded(&door).await;
            socket.write_all(&bytes).await.unwrap();
            let rest = to_the_end(&mut socket).await;
            assert!(!rest.contains(&0x20), "{what} is answered by a CONNACK");
        }
        let mut socket = upgraded(&door).await;
        socket
            .write_all(&frame(BINARY, &connect("tool")))
            .await
            .unwrap();
        assert_eq!(heard(&mut socket).await[3], 0);
    });
}
