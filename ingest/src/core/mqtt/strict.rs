//! What the codec lets through and the standard does not: reserved flags, packet id 0, doubled, foreign
//! and overlapping properties, trailing bytes, NUL in texts. Checked on the raw bytes, before decoding.

use super::framing::{Broken, Raw, Version};

/// Packet types, as the first half byte says them.
pub mod kind {
    /// CONNECT
    pub const CONNECT: u8 = 1;
    /// PUBLISH
    pub const PUBLISH: u8 = 3;
    /// PUBACK
    pub const PUBACK: u8 = 4;
    /// PUBREC
    pub const PUBREC: u8 = 5;
    /// PUBREL
    pub const PUBREL: u8 = 6;
    /// PUBCOMP
    pub const PUBCOMP: u8 = 7;
    /// SUBSCRIBE
    pub const SUBSCRIBE: u8 = 8;
    /// UNSUBSCRIBE
    pub const UNSUBSCRIBE: u8 = 10;
    /// PINGREQ
    pub const PINGREQ: u8 = 12;
    /// DISCONNECT
    pub const DISCONNECT: u8 = 14;
}

/// Properties of a will stand apart from those of its CONNECT.
const WILL: u8 = 16;

/// What the first fields of a CONNECT say, before the rest can be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A version we speak.
    Ours(Version),
    /// Another level or name; refuse in this version's words.
    Other(Version),
}

/// Reads protocol name and level.
///
/// # Errors
/// `0x81` when they are not there.
pub fn level(raw: &Raw) -> Result<Level, Broken> {
    let mut walk = Walk(raw.body());
    let name = walk.binary()?;
    Ok(match (name, walk.u8()?) {
        (b"MQTT", 4) => Level::Ours(Version::V4),
        (b"MQTT", 5) => Level::Ours(Version::V5),
        (b"MQTT", level) if level > 5 => Level::Other(Version::V5),
        _ => Level::Other(Version::V4),
    })
}

/// Checks a packet of a client from end to end.
///
/// # Errors
/// `0x81` or `0x82`, and a label.
pub fn check(version: Version, raw: &Raw) -> Result<(), Broken> {
    flags(raw)?;
    let mut walk = Walk(raw.body());
    match raw.kind {
        kind::CONNECT => connect(version, &mut walk)?,
        kind::PUBLISH => return publish(version, raw.flags, walk),
        kind::SUBSCRIBE => subscribe(version, &mut walk)?,
        kind::UNSUBSCRIBE => {
            walk.packet_id()?;
            walk.properties(version, kind::UNSUBSCRIBE)?;
            loop {
                walk.text()?;
                if walk.0.is_empty() {
                    break;
                }
            }
        }
        kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP => {
            walk.packet_id()?;
            walk.reason_and_properties(version, raw.kind)?;
        }
        kind::DISCONNECT => walk.reason_and_properties(version, kind::DISCONNECT)?,
        kind::PINGREQ => {}
        _ => return Err(Broken::protocol("packet-type")),
    }
    if walk.0.is_empty() {
        Ok(())
    } else {
        Err(Broken::malformed("trailing-bytes"))
    }
}

fn flags(raw: &Raw) -> Result<(), Broken> {
    let fits = match raw.kind {
        kind::PUBLISH => {
            let (qos, dup) = (raw.flags >> 1 & 3, raw.flags & 8 != 0);
            qos < 3 && !(qos == 0 && dup)
        }
        kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::PUBREL => raw.flags == 2,
        _ => raw.flags == 0,
    };
    if fits {
        Ok(())
    } else {
        Err(Broken::malformed("packet-flags"))
    }
}

fn connect(version: Version, walk: &mut Walk<'_>) -> Result<(), Broken> {
    walk.binary()?;
    walk.u8()?;
    let flags = walk.u8()?;
    walk.u16()?;
    let [will, password, user] = [4, 0x40, 0x80].map(|bit| flags & bit != 0);
    let lone_password = version == Version::V4 && password && !user;
    let will_bits = flags & 0x38;
    if flags & 1 != 0 || lone_password || (!will && will_bits != 0) || will_bits & 0x18 == 0x18 {
        return Err(Broken::malformed("connect-flags"));
    }
    walk.properties(version, kind::CONNECT)?;
    walk.text()?;
    if will {
        walk.properties(version, WILL)?;
        walk.text()?;
        walk.binary()?;
    }
    if user {
        walk.text()?;
    }
    if password {
        walk.binary()?;
    }
    Ok(())
}

fn publish(version: Version, flags: u8, mut walk: Walk<'_>) -> Result<(), Broken> {
    let topic = walk.text()?;
    if topic.contains(['+', '#']) {
        return Err(Broken {
            code: 0x90,
            why: "topic-wildcard",
        });
    }
    if flags >> 1 & 3 > 0 {
        walk.packet_id()?;
    }
    walk.properties(version, kind::PUBLISH)
}

fn subscribe(version: Version, walk: &mut Walk<'_>) -> Result<(), Broken> {
    walk.packet_id()?;
    walk.properties(version, kind::SUBSCRIBE)?;
    loop {
        walk.text()?;
        let options = walk.u8()?;
        let reserved = match version {
            Version::V4 => 0xfc,
            Version::V5 => 0xc0,
        };
        let handling = options >> 4 & 3;
        if options & reserved != 0 || options & 3 == 3 || handling == 3 {
            return Err(Broken::malformed("subscribe-options"));
        }
        if walk.0.is_empty() {
            return Ok(());
        }
    }
}

/// How a property's value is written.
enum Value {
    Flag,
    Two,
    TwoNotZero,
    Four,
    FourNotZero,
    Number,
    Text,
    Binary,
    Pair,
}

/// The value of property `id` where a client may send it in `packet`.
fn property(packet: u8, id: u8) -> Option<Value> {
    const ACKS: [u8; 5] = [
        kind::PUBACK,
        kind::PUBREC,
        kind::PUBREL,
        kind::PUBCOMP,
        kind::DISCONNECT,
    ];
    let message = packet == WILL || packet == kind::PUBLISH;
    match (id, packet) {
        (38, _) => Some(Value::Pair),
        (17, kind::CONNECT | kind::DISCONNECT) => Some(Value::Four),
        (33, kind::CONNECT) => Some(Value::TwoNotZero),
        (34, kind::CONNECT) => Some(Value::Two),
        (39, kind::CONNECT) => Some(Value::FourNotZero),
        (23 | 25, kind::CONNECT) => Some(Value::Flag),
        (21, kind::CONNECT) => Some(Value::Text),
        (22, kind::CONNECT) => Some(Value::Binary),
        (24, WILL) => Some(Value::Four),
        (1, _) if message => Some(Value::Flag),
        (2, _) if message => Some(Value::Four),
        (3 | 8, _) if message => Some(Value::Text),
        (9, _) if message => Some(Value::Binary),
        (35, kind::PUBLISH) => Some(Value::Two),
        (11, kind::SUBSCRIBE) => Some(Value::Number),
        (31, p) if ACKS.contains(&p) => Some(Value::Text),
        _ => None,
    }
}

/// What is left of a body.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Broken> {
        let taken = self.0.split_at_checked(n);
        let (head, rest) = taken.ok_or(Broken::malformed("packet-short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.take(1)?.iter().fold(0, |_, b| *b))
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        Ok(self.take(2)?.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        Ok(self.take(4)?.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    fn number(&mut self) -> Result<usize, Broken> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken::malformed("packet-number"))
    }

    fn binary(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str, Broken> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Broken::malformed("utf-8"))?;
        if text.contains('\0') {
            Err(Broken::malformed("nul"))
        } else {
            Ok(text)
        }
    }

    fn packet_id(&mut self) -> Result<(), Broken> {
        if self.u16()? == 0 {
            Err(Broken::malformed("packet-id-zero"))
        } else {
            Ok(())
        }
    }

    /// Reason and properties may be left out from the end; version 3.1.1 has neither.
    fn reason_and_properties(&mut self, version: Version, packet: u8) -> Result<(), Broken> {
        if version == Version::V5 && !self.0.is_empty() {
            self.u8()?;
            if !self.0.is_empty() {
                self.properties(version, packet)?;
            }
        }
        Ok(())
    }

    fn properties(&mut self, version: Version, packet: u8) -> Result<(), Broken> {
        if version == Version::V4 {
            return Ok(());
        }
        let length = self.number()?;
        let mut inside = Walk(self.take(length)?);
        let mut seen = 0_u64;
        while !inside.0.is_empty() {
            let id = inside.u8()?;
            let value = property(packet, id).ok_or(Broken::protocol("property-unknown"))?;
            let bit = 1_u64 << (id & 63);
            if seen & bit != 0 && id != 38 {
                return Err(Broken::protocol("property-twice"));
            }
            seen |= bit;
            inside.value(&value)?;
        }
        Ok(())
    }

    fn value(&mut self, value: &Value) -> Result<(), Broken> {
        let fits = match value {
            Value::Flag => self.u8()? < 2,
            Value::Two => {
                self.u16()?;
                true
            }
            Value::TwoNotZero => self.u16()? != 0,
            Value::Four => {
                self.u32()?;
                true
            }
            Value::FourNotZero => self.u32()? != 0,
            Value::Number => self.number()? != 0,
            Value::Text => {
                self.text()?;
                true
            }
            Value::Binary => {
                self.binary()?;
                true
            }
            Value::Pair => {
                self.text()?;
                self.text()?;
                true
            }
        };
        if fits {
            Ok(())
        } else {
            Err(Broken::protocol("property-value"))
        }
    }
}
