//! MQTT: any bytes as the packets of a client, of either version. How the bytes are cut into reads must not
//! matter, and what is taken is bounded by the bytes that came.

use bytes::BytesMut;
use chordae_base::limits;
use chordae_ingest::core::mqtt::{
    framing::{self, Broken, Version},
    packet::{self, Packet},
};

/// All packets until the first that is refused.
type Read = (Vec<Packet>, Option<Broken>);

/// Any bytes; the first says which version, and how the rest is cut into reads.
pub fn packets(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let version = if how & 1 == 0 {
        Version::V4
    } else {
        Version::V5
    };
    let whole = read(version, bytes, bytes.len().max(1));
    let cut = read(version, bytes, usize::from(how >> 1).max(1));
    assert_eq!(whole, cut, "reads decide what is read");
    let packets = whole.0.len();
    assert!(
        packets <= bytes.len() / 2,
        "{packets} packets of {} bytes",
        bytes.len()
    );
}

fn read(version: Version, bytes: &[u8], at_once: usize) -> Read {
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for part in bytes.chunks(at_once) {
        buf.extend_from_slice(part);
        loop {
            match framing::split(&mut buf, limits::PACKET_BYTES_MAX) {
                Ok(None) => break,
                Err(broken) => return (packets, Some(broken)),
                Ok(Some(raw)) => match packet::decode(version, &raw) {
                    Ok(packet) => packets.push(packet),
                    Err(broken) => return (packets, Some(broken)),
                },
            }
        }
    }
    (packets, None)
}

/// Conversations as clients send them: each packet alone, then all of them, for both versions.
pub fn seeds() -> Vec<Vec<u8>> {
    let v4 = [
        (
            0x10,
            [
                b"\0\x04MQTT\x04\x26\0\x3c",
                text("bed-7").as_slice(),
                &text("a/status"),
                &text("offline"),
            ]
            .concat(),
        ),
        (
            0x82,
            [
                b"\0\x01",
                text("a/ack").as_slice(),
                b"\x01",
                &text("+/#"),
                b"\x02",
            ]
            .concat(),
        ),
        (0x30, [&text("a/b"), b"12345".as_slice()].concat()),
        (0x32, [&text("a/b"), b"\0\x07xyz".as_slice()].concat()),
        (0x3d, [&text("a/b"), b"\0\x08xyz".as_slice()].concat()),
        (0x40, b"\0\x01".to_vec()),
        (0x50, b"\0\x01".to_vec()),
        (0x62, b"\0\x01".to_vec()),
        (0x70, b"\0\x01".to_vec()),
        (0xa2, [b"\0\x02".as_slice(), &text("a/b")].concat()),
        (0xc0, Vec::new()),
        (0xe0, Vec::new()),
    ];
    let will = b"\x0a\x18\0\0\0\x05\x02\0\0\0\x09";
    let pass_on = b"\x1a\x01\x01\x02\0\0\0\x0a\x03\0\x01t\x08\0\x01r\x09\0\x01c\x26\0\x01k\0\x01v";
    let v5 = [
        (
            0x10,
            [
                b"\0\x04MQTT\x05\x06\0\x3c\x10\x11\0\0\0\x0a\x21\0\x10\x22\0\x08\x27\0\0\x10\0",
                text("bed-7").as_slice(),
                will,
                &text("a/status"),
                &text("offline"),
            ]
            .concat(),
        ),
        (
            0x82,
            [b"\0\x01\x02\x0b\x05", text("a/b").as_slice(), b"\x2d"].concat(),
        ),
        (
            0x32,
            [&text("a/b"), b"\0\x07\x03\x23\0\x01xyz".as_slice()].concat(),
        ),
        (0x30, [text("a/b").as_slice(), pass_on, b"xyz"].concat()),
        (0x40, b"\0\x01\x10\0".to_vec()),
        (0x50, b"\0\x01\x00\x04\x1f\0\x01w".to_vec()),
        (0x62, b"\0\x01\x92".to_vec()),
        (0xa2, [b"\0\x02\0".as_slice(), &text("a/b")].concat()),
        (0xe0, b"\x04\x05\x11\0\0\0\0".to_vec()),
    ];
    let seeds = |how: u8, packets: &[(u8, Vec<u8>)]| -> Vec<Vec<u8>> {
        let each: Vec<_> = packets
            .iter()
            .map(|(first, body)| packet(*first, body))
            .collect();
        let all = std::iter::once(each.concat());
        let seeds = each.iter().cloned().chain(all);
        seeds
            .map(|bytes| [&[how], bytes.as_slice()].concat())
            .collect()
    };
    [seeds(0x0c, &v4), seeds(0x0d, &v5)].concat()
}

/// A text as MQTT writes it. Short ones only.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(0);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// A packet of less than 128 bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap_or(0);
    [&[first, length], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_packets() {
        for seed in seeds() {
            let version = if seed[0] & 1 == 0 {
                Version::V4
            } else {
                Version::V5
            };
            let (packets, broken) = read(version, &seed[1..], 7);
            assert_eq!(broken, None, "{seed:02x?}");
            assert!(!packets.is_empty(), "{seed:02x?}");
        }
    }
}
