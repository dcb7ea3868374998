//! The lean MQTT 5 device: it writes CONNECT and PUBLISH (QoS 1) by hand and counts PUBACKs.
//!
//! Anything that is not a success (a refused CONNECT, a reason code above 0, another packet) ends the
//! round with an error, so that only acknowledged frames are counted.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use chordae_base::{Failure, Outcome};

use super::{
    Heard, Speech,
    frames::{Frames, Payload, put_varint},
};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH_QOS1: u8 = 0x32;
const PUBACK: u8 = 0x40;
/// Packet id of the birth; those of frames begin after it.
const BIRTH_ID: u16 = 1;
/// Seconds after which a silent connection may be cut.
const KEEP_ALIVE_S: u16 = 300;

/// See the module.
#[derive(Debug, Clone)]
pub struct Mqtt {
    device: String,
    topic: String,
    id: u16,
}

impl Mqtt {
    /// Name of the stream that every device sends.
    pub const STREAM: &'static str = "ecg";

    /// The device of this number.
    pub fn new(number: usize) -> Self {
        let device = Self::device(number);
        let topic = format!("chordae/v1/{device}/{}/frame", Self::STREAM);
        Self {
            device,
            topic,
            id: BIRTH_ID,
        }
    }

    /// The name of the device of this number.
    pub fn device(number: usize) -> String {
        format!("bench-{number:03}")
    }

    /// CONNECT.
    pub fn connect(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, "MQTT");
        // Version 5, clean start, keep-alive, no properties.
        body.extend_from_slice(&[5, 0x02]);
        body.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
        body.push(0);
        put_text(&mut body, &self.device);
        let mut out = vec![CONNECT];
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        out
    }

    fn publish(&mut self, out: &mut Vec<u8>, topic: &str, payload: Payload<'_>) {
        // Topic, packet id, no properties.
        let length = 2 + topic.len() + 2 + 1 + payload.len();
        out.push(PUBLISH_QOS1);
        put_varint(out, length as u64);
        put_text(out, topic);
        out.extend_from_slice(&self.id.to_be_bytes());
        out.push(0);
        payload.put(out);
    }
}

/// Leaves a persistent session behind that wants everything, for a broker that keeps only what somebody
/// waits for.
///
/// # Errors
/// `Io`; `Refused` when the broker does not take it.
pub fn keeper(address: SocketAddr) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os("subscribe", &e);
    let mut socket = TcpStream::connect(address).map_err(os)?;
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(os)?;
    // Version 5, no clean start, never expires.
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 60, 5, 0x11];
    body.extend_from_slice(&[0xff; 4]);
    put_text(&mut body, "keeper");
    let mut out = vec![CONNECT];
    put_varint(&mut out, body.len() as u64);
    out.extend_from_slice(&body);
    // SUBSCRIBE to # at QoS 1, packet id 1.
    out.extend_from_slice(&[0x82, 7, 0, 1, 0, 0, 1, b'#', 1]);
    socket.write_all(&out).map_err(os)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 256]);
    loop {
        let n = socket.read(&mut buffer).map_err(os)?;
        heard.extend(buffer.iter().take(n));
        let (mut used, mut granted) = (0, None);
        while let Some((kind, body, length)) = split(heard.get(used..).unwrap_or_default())? {
            used += length;
            if kind == 0x90 {
                granted = body.last().copied();
            }
        }
        match granted {
            Some(0..=2) => break,
            None if n > 0 => {}
            _ => return Err(Failure::refused("the broker takes no subscription")),
        }
    }
    socket.write_all(&[0xe0, 0]).map_err(os)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Speech for Mqtt {
    fn hello(&mut self, frames: &Frames, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.connect());
        let birth = frames.birth().encode();
        let topic = format!("chordae/v1/{}/{}/birth", self.device, Self::STREAM);
        self.publish(out, &topic, Payload::of(&birth));
    }

    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16 {
        self.id = if self.id == u16::MAX {
            BIRTH_ID + 1
        } else {
            self.id + 1
        };
        let topic = std::mem::take(&mut self.topic);
        self.publish(out, &topic, payload);
        self.topic = topic;
        self.id
    }

    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>> {
        let Some((kind, body, used)) = split(bytes)? else {
            return Ok(None);
        };
        let heard = match (kind, body) {
            (CONNACK, [_, 0, ..]) => Heard::Nothing,
            (PUBACK, [a, b] | [a, b, 0, ..]) => match u16::from_be_bytes([*a, *b]) {
                BIRTH_ID => Heard::Ready,
                id => Heard::Acknowledged(id, id),
            },
            (kind, body) => {
                let code = body.get(1..).unwrap_or_default();
                return Err(Failure::refused(format!(
                    "{}: not acknowledged: packet {kind:#04x} {code:02x?}",
                    self.device
                )));
            }
        };
        Ok(Some((heard, used)))
    }
}

/// First byte, body and whole length of the first packet; `None` if it is not whole yet.
fn split(bytes: &[u8]) -> Outcome<Option<(u8, &[u8], usize)>> {
    let Some((kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let mut length = 0;
    for (i, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let body = rest.get(i + 1..i + 1 + length);
            return Ok(body.map(|body| (*kind, body, i + 2 + length)));
        }
    }
    match rest.len() {
        0..4 => Ok(None),
        _ => Err(Failure::bad_input("a packet whose length has no end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_an_acknowledgement() {
        let mut mqtt = Mqtt::new(3);
        let mut hear = |bytes: &[u8]| mqtt.hear(bytes);
        assert_eq!(
            hear(&[0x20, 3, 0, 0, 0]).unwrap(),
            Some((Heard::Nothing, 5))
        );
        assert_eq!(hear(&[0x40, 2, 0, 1]).unwrap(), Some((Heard::Ready, 4)));
        assert_eq!(
            hear(&[0x40, 2, 1, 2, 0x40]).unwrap(),
            Some((Heard::Acknowledged(258, 258), 4))
        );
        assert_eq!(
            hear(&[0x40, 4, 0, 9, 0, 0]).unwrap(),
            Some((Heard::Acknowledged(9, 9), 6))
        );
        for part in [&[][..], &[0x40], &[0x40, 2, 0], &[0x40, 0x80]] {
            assert_eq!(hear(part).unwrap(), None, "{part:?}");
        }
        for bad in [
            &[0x20, 3, 0, 0x87, 0][..],
            &[0x40, 3, 0, 9, 0x97],
            &[0xe0, 1, 0x8b],
            &[0x40, 1, 0],
            &[0x40, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(
                hear(bad).is_err(),
                "{bad:02x?} was taken for an acknowledgement"
            );
        }
    }
}
