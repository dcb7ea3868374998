//! ZMTP byte by byte, rows Z01-Z07 of the bad inputs as far as the codec decides them; both ends of ours
//! against each other. pyzmq (libzmq) is the foreign end, in tests/python/test_zmq.py.

use bytes::{BufMut, Bytes, BytesMut};
use chordae_base::limits;
use chordae_ingest::core::zmtp::{self, Bounds, Broken, Event, Zmtp};

/// One end that reads what it is given.
struct End {
    zmtp: Zmtp,
    read: BytesMut,
    said: BytesMut,
}

impl End {
    fn router(known: Option<&str>) -> Self {
        Self::new(Zmtp::router(known, Bounds::default()))
    }

    fn new(zmtp: Zmtp) -> Self {
        let mut said = BytesMut::new();
        zmtp.begin(&mut said);
        let read = BytesMut::new();
        Self { zmtp, read, said }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Broken> {
        self.read.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.zmtp.next(&mut self.read, &mut self.said)? {
            events.push(event);
        }
        Ok(events)
    }

    /// What it said after its greeting.
    fn after_greeting(&self) -> &[u8] {
        &self.said[64..]
    }
}

/// What a libzmq DEALER says first.
fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes
}

fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    bytes.put_u32(u32::try_from(value.len()).unwrap());
    bytes.extend(value);
    bytes
}

fn command(body: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(body.len()) {
        Ok(short) => vec![4, short],
        Err(_) => {
            let mut long = vec![6];
            long.put_u64(body.len() as u64);
            long
        }
    };
    bytes.extend(body);
    bytes
}

fn ready(properties: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    properties.iter().for_each(|p| body.extend(p));
    command(&body)
}

fn dealer() -> Vec<u8> {
    ready(&[
        property("Socket-Type", b"DEALER"),
        property("Identity", b""),
    ])
}

fn up() -> End {
    let mut end = End::router(None);
    end.bytes(&greeting()).unwrap();
    let identity = Bytes::new();
    assert_eq!(
        end.bytes(&dealer()),
        Ok(vec![Event::Ready {
            identity,
            pings: false
        }])
    );
    end
}

fn error(why: &str) -> Vec<u8> {
    let mut body = b"\x05ERROR".to_vec();
    body.push(u8::try_from(why.len()).unwrap());
    body.extend(why.as_bytes());
    command(&body)
}

#[test]
fn both_ends_of_ours_understand_each_other_however_the_bytes_are_cut() {
    for step in [1, 7, 64, 100_000] {
        let mut router = End::router(Some("ward-3"));
        let mut dealer = End::new(Zmtp::dealer(b"ward-3", Bounds::default()));
        let (mut got, mut sent) = (Vec::new(), false);
        let long = vec![7; 70_000];
        let parts: [&[u8]; 3] = [b"frame", b"", &long];
        for _ in 0..3 {
            for piece in dealer.said.split().chunks(step) {
                got.extend(router.bytes(piece).unwrap());
            }
            for piece in router.said.split().chunks(step) {
                got.extend(dealer.bytes(piece).unwrap());
            }
            if dealer.zmtp.is_ready() && !sent {
                zmtp::message(&parts, &mut dealer.said);
                zmtp::ping(b"who", &mut dealer.said);
                sent = true;
            }
        }
        let parts = parts.map(Bytes::copy_from_slice).to_vec();
        let (named, empty) = (Bytes::from_static(b"ward-3"), Bytes::new());
        assert_eq!(
            got,
            [
                Event::Ready {
                    identity: named,
                    pings: true
                },
                Event::Ready {
                    identity: empty,
                    pings: true
                },
                Event::Message(parts),
                Event::Ping(Bytes::from_static(b"who")),
            ]
        );
    }
}

#[test]
fn z01_what_is_not_zmtp_is_closed_at_its_first_foreign_byte_and_not_answered() {
    let tls_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n",
        &tls_hello,
        &[0],
        &[0x10],
        b"\xffGARBAGE?",
    ];
    for bytes in cases {
        let mut end = End::router(None);
        let first = End::router(None).bytes(&bytes[..1]);
        assert_eq!(first.is_err(), bytes[0] != 0xff);
        let mut bytes = bytes.to_vec();
        bytes.resize(10, 0);
        assert_eq!(end.bytes(&bytes), Err(Broken("not-zmtp")));
        assert!(end.after_greeting().is_empty());
        assert_eq!(end.bytes(&greeting()), Err(Broken("not-zmtp")), "for good");
    }
    // A greeting that does not come to an end is the door's business: its deadline.
    assert_eq!(End::router(None).bytes(&greeting()[..63]), Ok(vec![]));
}

/// NULL is the only mechanism here: who asks for another (CURVE, PLAIN) or another version is told and
/// closed, and never served with less than it asked for.
#[test]
fn z02_other_versions_and_mechanisms_get_an_error_and_no_downgrade() {
    let with = |at: usize, bytes: &[u8]| {
        let mut greeting = greeting();
        greeting[at..at + bytes.len()].copy_from_slice(bytes);
        greeting
    };
    for major in [0, 1, 2, 4, 255] {
        let mut end = End::router(None);
        assert_eq!(end.bytes(&with(10, &[major])), Err(Broken("zmtp-version")));
        assert_eq!(end.after_greeting(), error("zmtp-version"));
    }
    let mechanisms: [&[u8]; 6] = [b"CURVE", b"PLAIN", b"NULLX", b"null", b"NUL\0", b"GSSAPI"];
    for mechanism in mechanisms {
        for end in [
            End::router(None),
            End::new(Zmtp::dealer(b"x", Bounds::default())),
        ] {
            let mut end = end;
            assert_eq!(
                end.bytes(&with(12, mechanism)),
                Err(Broken("zmtp-mechanism"))
            );
            assert_eq!(end.after_greeting(), error("zmtp-mechanism"));
        }
    }
    // As server: NULL knows none.
    assert_eq!(
        End::router(None).bytes(&with(32, &[1])),
        Err(Broken("zmtp-mechanism"))
    );
    // Both minor versions, and padding and filler that mean nothing.
    for good in [
        with(11, &[0]),
        with(11, &[1]),
        with(1, &[9; 8]),
        with(40, b"later"),
    ] {
        let mut end = End::router(None);
        assert_eq!(end.bytes(&good), Ok(vec![]));
        assert_eq!(end.bytes(&dealer()).unwrap().len(), 1);
    }
}

/// CURVE's own commands, in whatever state they are replayed or altered: there is no CURVE here, so HELLO,
/// INITIATE and MESSAGE are commands that nobody knows, and a connection that sends one is dropped.
#[test]
fn z03_commands_of_curve_are_dropped_in_every_state() {
    for name in ["HELLO", "WELCOME", "INITIATE", "MESSAGE", "VOUCH"] {
        let mut body = vec![u8::try_from(name.len()).unwrap()];
        body.extend(name.as_bytes());
        body.resize(200, 0);
        let mut end = End::router(None);
        end.bytes(&greeting()).unwrap();
        assert_eq!(end.bytes(&command(&body)), Err(Broken("zmtp-command")));
        assert_eq!(up().bytes(&command(&body)), Err(Broken("zmtp-command")));
    }
}

#[test]
fn z04_lengths_and_flags_are_judged_at_the_header() {
    let long = |flags: u8, length: u64| {
        let mut bytes = vec![flags];
        bytes.put_u64(length);
        bytes
    };
    let max = limits::ZMTP_MESSAGE_BYTES_MAX as u64;
    for length in [max + 1, 1 << 32, 1 << 62, 1 << 63, u64::MAX] {
        for flags in [2, 3, 6] {
            let mut end = up();
            assert_eq!(end.bytes(&long(flags, length)), Err(Broken("zmtp-length")));
            assert!(end.read.capacity() < 4096, "nothing was made ready for it");
        }
        let mut new = End::router(None);
        new.bytes(&greeting()).unwrap();
        assert_eq!(new.bytes(&long(6, length)), Err(Broken("zmtp-length")));
    }
    // The largest that is allowed, in one part and in two, and one byte more.
    assert_eq!(up().bytes(&long(2, max)), Ok(vec![]));
    let mut end = up();
    end.bytes(&[1, 1, b'x']).unwrap();
    assert_eq!(end.bytes(&long(2, max)), Err(Broken("zmtp-length")));
    for flags in [8, 16, 32, 64, 128, 0xff, 5, 7] {
        assert_eq!(up().bytes(&[flags]), Err(Broken("zmtp-flags")), "{flags}");
    }
    // A command of 513 bytes, in the long form that it would need.
    assert_eq!(up().bytes(&long(6, 513)), Err(Broken("zmtp-length")));
    assert!(
        up().bytes(&long(2, 0)).is_ok(),
        "a long form of a short length is one"
    );
}

#[test]
fn z05_sixteen_parts_and_no_more() {
    let max = limits::ZMTP_PARTS_MAX;
    let mut end = up();
    let mut bytes = [1, 0].repeat(max - 1);
    bytes.extend([0, 0]);
    let events = end.bytes(&bytes).unwrap();
    assert_eq!(events, [Event::Message(vec![Bytes::new(); max])]);
    // Ten thousand in one read, and for ever: closed at the seventeenth.
    assert_eq!(end.bytes(&[1, 0].repeat(10_000)), Err(Broken("zmtp-parts")));
    assert!(end.bytes(&[0, 0]).is_err());
}

#[test]
fn z06_only_a_dealer_that_claims_no_foreign_name() {
    let said = |known: Option<&str>, properties: &[Vec<u8>]| {
        let mut end = End::router(known);
        end.bytes(&greeting()).unwrap();
        let events = end.bytes(&ready(properties));
        (events, end.after_greeting().to_vec())
    };
    for socket_type in ["SUB", "PUSH", "REQ", "ROUTER", "dealer", ""] {
        let answer = said(None, &[property("Socket-Type", socket_type.as_bytes())]);
        let why = "zmtp-socket-type";
        assert_eq!(answer, (Err(Broken(why)), error(why)), "{socket_type}");
    }
    assert!(said(None, &[]).0.is_err(), "no socket type");
    let typed = property("socket-TYPE", b"DEALER");
    let claims = |name: &[u8]| [typed.clone(), property("Identity", name)];
    let refused = (Err(Broken("zmtp-identity")), error("zmtp-identity"));
    for name in [&[b'x'; 256][..], b"\0bed-7", b"bed-8", b"bed-7 "] {
        assert_eq!(said(Some("bed-7"), &claims(name)), refused);
    }
    assert!(said(Some("bed-7"), &claims(b"bed-7")).0.is_ok());
    assert!(said(Some("bed-7"), &claims(b"")).0.is_ok());
    assert!(said(None, &claims(b"whoever")).0.is_ok());
    assert_eq!(said(None, &claims(&[b'x'; 256])), refused);
}

#[test]
fn z07_ready_is_bounded_and_foreign_commands_end_the_connection() {
    let typed = property("Socket-Type", b"DEALER");
    let handshake = |bytes: &[u8]| {
        let mut end = End::router(None);
        end.bytes(&greeting()).unwrap();
        end.bytes(bytes)
    };
    let many: Vec<_> = (0..33).map(|n| property(&format!("X-{n}"), b"")).collect();
    let bombs = [
        (
            ready(&[typed.clone(), property("X-Bomb", &[0; 1 << 20])]),
            "zmtp-length",
        ),
        (ready(&many), "zmtp-metadata"),
        (ready(&[typed.clone(), typed.clone()]), "zmtp-metadata"),
        (ready(&[typed.clone(), property("", b"")]), "zmtp-metadata"),
        (
            ready(&[typed.clone(), property("a b", b"")]),
            "zmtp-metadata",
        ),
        (
            ready(&[b"\x0bSocket-Type\xff\xff\xff\xffDEALER".to_vec()]),
            "zmtp-metadata",
        ),
        (ready(&[b"\xffSocket-Type".to_vec()]), "zmtp-metadata"),
        (command(b""), "zmtp-command"),
        (command(b"\x09REA"), "zmtp-command"),
        (command(b"\x05STEAL"), "zmtp-command"),
        (command(b"\x04PING\0\0"), "zmtp-not-ready"),
        (vec![0, 1, b'x'], "zmtp-length"),
        (vec![0, 0], "zmtp-not-ready"),
        (error("go away"), "zmtp-peer-error"),
    ];
    for (bytes, why) in bombs {
        assert_eq!(handshake(&bytes), Err(Broken(why)));
    }
    // READY cut at every byte is believed only where a whole property ends: Identity may be absent.
    let whole = dealer();
    for end in 2..whole.len() {
        let believed = handshake(&command(&whole[2..end])).is_ok();
        assert_eq!(believed, end == 30, "{end}");
    }
    let mut end = up();
    let context = [9; limits::ZMTP_CONTEXT_BYTES_MAX];
    let ping = |context: &[u8]| command(&[b"\x04PING\0\x0a", context].concat());
    let heard = end.bytes(&ping(&context)).unwrap();
    assert_eq!(heard, [Event::Ping(Bytes::copy_from_slice(&context))]);
    assert_eq!(end.bytes(&ping(&[9; 17])), Err(Broken("zmtp-ping")));
    for body in [
        &b"\x04PING\0"[..],
        b"\x05READY",
        b"\x09SUBSCRIBEx",
        b"\x05STEAL",
    ] {
        assert_eq!(up().bytes(&command(body)), Err(Broken("zmtp-command")));
    }
}
