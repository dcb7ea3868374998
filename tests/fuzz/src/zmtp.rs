//! ZMTP: any bytes of a peer to the ROUTER, and to the DEALER of an uplink. How the bytes are cut into reads
//! must not matter, and what is sent back is bounded by what came.

use bytes::BytesMut;
use chordae_ingest::core::zmtp::{self, Bounds, Broken, Event, Zmtp};

/// Events until the first broken rule, and the bytes that were answered.
type Heard = (Vec<Event>, Option<Broken>, BytesMut);

/// Any bytes; the first says which end reads them, and how the rest is cut into reads.
pub fn peer(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let whole = hear(how & 1 == 0, bytes, bytes.len().max(1));
    let cut = hear(how & 1 == 0, bytes, usize::from(how >> 1).max(1));
    assert_eq!(whole, cut, "reads decide what is heard");
    // A greeting, a READY, an ERROR, and a PONG of at most the PING's length.
    assert!(
        whole.2.len() <= 1024 + bytes.len(),
        "{} bytes back",
        whole.2.len()
    );
}

fn hear(router: bool, bytes: &[u8], at_once: usize) -> Heard {
    let mut zmtp = match router {
        true => Zmtp::router(None, Bounds::default()),
        false => Zmtp::dealer(b"ward-3", Bounds::default()),
    };
    let (mut input, mut out, mut events) = (BytesMut::new(), BytesMut::new(), Vec::new());
    zmtp.begin(&mut out);
    for part in bytes.chunks(at_once) {
        input.extend_from_slice(part);
        loop {
            match zmtp.next(&mut input, &mut out) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(broken) => return (events, Some(broken), out),
            }
        }
    }
    (events, None, out)
}

/// Whole conversations of a DEALER, as libzmq opens them, and of a ROUTER.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut traffic = BytesMut::new();
    let dealer = Zmtp::dealer(b"bed-7", Bounds::default());
    dealer.begin(&mut traffic);
    let greeting = traffic.to_vec();
    // READY: Socket-Type DEALER, Identity empty.
    traffic
        .extend_from_slice(b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0");
    let ready = traffic.to_vec();
    zmtp::message(
        &[b"frame".as_slice(), b"bed-7/ecg", b"payload"],
        &mut traffic,
    );
    zmtp::message(&[[7_u8; 300].as_slice()], &mut traffic);
    zmtp::ping(b"ctx", &mut traffic);
    let talk = traffic.to_vec();
    let mut router = greeting.clone();
    router
        .extend_from_slice(b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0");
    let router = BytesMut::from(router.as_slice());
    [
        (0x0c, greeting),
        (0x0c, ready),
        (0x0e, talk),
        (0x0d, router.to_vec()),
    ]
    .map(|(how, bytes)| [&[how], bytes.as_slice()].concat())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_conversations() {
        for seed in seeds() {
            let (_, broken, _) = hear(seed[0] & 1 == 0, &seed[1..], 5);
            assert_eq!(broken, None, "{seed:02x?}");
        }
        let talk = &seeds()[2];
        let (events, _, _) = hear(true, &talk[1..], 5);
        assert!(
            events
                .iter()
                .any(|e| matches!(e, Event::Message(parts) if parts.len() == 3)),
            "{events:?}"
        );
    }
}
