//! Frames as a device sends them, made so cheaply that the client is never what is measured.
//!
//! ```text
//! payload = boot, seq, t0 (fields 1, 2, 3; written anew for each)  ++  samples, deltas, clock (encoded once)
//! ```
//!
//! A frame whose boot, seq and t0 are 0 encodes to its later fields alone, because protocol buffers omit
//! zeros; so the head can be put in front by hand, and the whole equals `Frame::encode` (tested). No two
//! frames of a run are equal and each follows the one before in time: 12 leads of synthetic ECG, `deltas`,
//! SYNCED. Those of a flat-out run are `historical`, a backlog of some weeks: faster than time itself no
//! device sends anything else, and as live frames they would soon lie in a future that is not stored.

use std::sync::Arc;

use chordae_base::{
    Failure, Outcome, Rate, limits,
    time::SECOND_NS,
    wire::{Birth, ClockKind, Frame, Lead},
};
use chordae_device_sim::ecgsyn::Ecg;

/// Leads of every frame.
const LEADS: usize = 12;
/// What one frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Samples per second.
    pub rate_hz: u32,
    /// Samples per lead.
    pub samples: usize,
    /// A backlog, or as it happens.
    pub historical: bool,
}

/// A backlog in frames of about 200 bytes.
pub const SMALL: Shape = backlog(13);
/// A backlog in frames of about 1 KB.
pub const MIDDLE: Shape = backlog(83);
/// A backlog in frames of about 4 KB.
pub const LARGE: Shape = backlog(330);
/// A monitor's stream: a second of 500 Hz.
pub const SECOND: Shape = Shape {
    rate_hz: 500,
    samples: 500,
    historical: false,
};

/// A backlog of a monitor's stream.
pub const HOUR: Shape = Shape {
    historical: true,
    ..SECOND
};

const fn backlog(samples: usize) -> Shape {
    Shape {
        rate_hz: 1000,
        samples,
        historical: true,
    }
}

/// Different signals; frame n has number n modulo this.
const SIGNALS: usize = 256;
/// How old the oldest frame may be: younger than what goes to quarantine, by a day.
const AGE_NS: i64 = limits::PAST_NS_MAX - 86_400 * SECOND_NS;

/// What all devices of a run send from.
#[derive(Debug)]
pub struct Stock {
    shape: Shape,
    leads: Vec<Lead>,
    rate: Rate,
    step_ns: i64,
    codes: Vec<Vec<i32>>,
    tails: Vec<Vec<u8>>,
}

impl Stock {
    /// Synthesises the signals of a backlog in frames of about 1 KB.
    ///
    /// # Errors
    /// None that the constants above allow.
    pub fn new() -> Outcome<Arc<Self>> {
        Self::of(MIDDLE)
    }

    /// Synthesises the signals.
    ///
    /// # Errors
    /// `BadInput` for a shape that no frame can have.
    pub fn of(shape: Shape) -> Outcome<Arc<Self>> {
        let rate = Rate::new(shape.rate_hz, 1)?;
        let mut ecg = Ecg::new(LEADS, rate, 1)?;
        let codes: Vec<Vec<i32>> = (0..SIGNALS).map(|_| ecg.take(shape.samples)).collect();
        let tails = codes
            .iter()
            .map(|codes| frame(shape, 0, 0, 0, codes.clone()).encode())
            .collect();
        let step_ns = rate.after_ns(shape.samples as u64)?;
        Ok(Arc::new(Self {
            shape,
            leads: ecg.leads(),
            rate,
            step_ns,
            codes,
            tails,
        }))
    }
}

fn frame(shape: Shape, boot: u64, seq: u64, t0_ns: i64, codes: Vec<i32>) -> Frame {
    Frame {
        boot,
        seq,
        t0_ns,
        samples: u32::try_from(shape.samples).unwrap_or(u32::MAX),
        codes,
        historical: shape.historical,
        clock: ClockKind::Synced,
    }
}

/// The frames of one device, in order. A clone begins where the original stands.
#[derive(Debug, Clone)]
pub struct Frames {
    stock: Arc<Stock>,
    boot: u64,
    seq: u64,
    t0_ns: i64,
    last_ns: i64,
    head: Vec<u8>,
}

/// A payload in two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    head: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Payload<'a> {
    /// A payload in one piece.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            head: &[],
            tail: bytes,
        }
    }

    /// Bytes of both pieces.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Never: a frame has samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the payload.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head);
        out.extend_from_slice(self.tail);
    }

    /// Whether these bytes are this payload.
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.strip_prefix(self.head) == Some(self.tail)
    }
}

impl Frames {
    /// A device's frames, of this boot (at least 1), beginning as far in the past as is stored.
    pub fn new(stock: Arc<Stock>, boot: u64, now_ns: i64) -> Self {
        let (t0_ns, last_ns) = (now_ns - AGE_NS, now_ns);
        Self {
            stock,
            boot,
            seq: 0,
            t0_ns,
            last_ns,
            head: Vec::new(),
        }
    }

    /// A device's frames as they happen: the first has just ended.
    pub fn live(stock: Arc<Stock>, boot: u64, now_ns: i64) -> Self {
        let t0_ns = now_ns - stock.step_ns;
        Self {
            t0_ns,
            last_ns: i64::MAX,
            ..Self::new(stock, boot, now_ns)
        }
    }

    /// The birth that comes before them.
    pub fn birth(&self) -> Birth {
        Birth {
            boot: self.boot,
            rate: self.stock.rate,
            leads: self.stock.leads.clone(),
            model: "chordae-benches".to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            clock: ClockKind::Synced,
        }
    }

    /// The next frame's payload.
    ///
    /// # Errors
    /// `BadInput` when it would lie in the future: the run is too long for its rate.
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends what it gives, and may fail"
    )]
    pub fn next(&mut self) -> Outcome<Payload<'_>> {
        if self.t0_ns > self.last_ns {
            return Err(Failure::bad_input(
                "frames came to lie in the future, where they are not stored: measure fewer seconds",
            ));
        }
        self.head.clear();
        let zigzag = ((self.t0_ns << 1) ^ (self.t0_ns >> 63)).cast_unsigned();
        for (field, value) in [(1, self.boot), (2, self.seq), (3, zigzag)] {
            if value != 0 {
                self.head.push(field << 3);
                put_varint(&mut self.head, value);
            }
        }
        let tail = self.stock.tails.get(self.seq as usize % SIGNALS);
        self.seq += 1;
        self.t0_ns += self.stock.step_ns;
        Ok(Payload {
            head: &self.head,
            tail: tail.map(Vec::as_slice).unwrap_or_default(),
        })
    }

    /// The codes of the frame of this number, lead after lead.
    pub fn codes(&self, seq: u64) -> &[i32] {
        let codes = self.stock.codes.get(seq as usize % SIGNALS);
        codes.map(Vec::as_slice).unwrap_or_default()
    }

    /// The next frame as a value, without going on.
    pub fn peek(&self) -> Frame {
        let codes = self.stock.codes.get(self.seq as usize % SIGNALS);
        frame(
            self.stock.shape,
            self.boot,
            self.seq,
            self.t0_ns,
            codes.cloned().unwrap_or_default(),
        )
    }
}

/// Seven bits a byte, low ones first; MQTT writes its lengths the same way.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_what_a_frame_encodes_to_and_about_a_kilobyte() {
        let now_ns = 1_750_000_000 * SECOND_NS;
        let mut frames = Frames::new(Stock::new().unwrap(), 7, now_ns);
        let birth = frames.birth();
        let (mut bytes, mut end) = (0, None);
        for seq in 0..1000 {
            let wants = frames.peek();
            let mut payload = Vec::new();
            frames.next().unwrap().put(&mut payload);
            assert_eq!(payload, wants.encode());
            assert_eq!(Frame::decode(&payload).unwrap(), wants);
            assert_eq!(
                (wants.boot, wants.seq, wants.check_against(&birth)),
                (7, seq, Ok(()))
            );
            assert!(
                end.is_none_or(|end| end == wants.t0_ns),
                "each begins where the last ended"
            );
            end = Some(wants.end_ns(birth.rate).unwrap());
            bytes += payload.len();
        }
        assert!(
            (970..1080).contains(&(bytes / 1000)),
            "{} bytes on average",
            bytes / 1000
        );
        for (shape, bytes) in [(SMALL, 180..225), (LARGE, 3900..4300), (SECOND, 5800..8000)] {
            let mut frames = Frames::live(Stock::of(shape).unwrap(), 7, now_ns);
            let sum: usize = (0..100).map(|_| frames.next().unwrap().len()).sum();
            let mean = sum / 100;
            assert!(bytes.contains(&mean), "{shape:?}: {mean} bytes");
        }
    }

    #[test]
    fn a_backlog_is_stored_as_such_and_ends_before_the_future() {
        let now_ns = 1_750_000_000 * SECOND_NS;
        let mut frames = Frames::new(Stock::new().unwrap(), 1, now_ns);
        let first = frames.peek();
        assert!(first.historical && now_ns - first.t0_ns < limits::PAST_NS_MAX);
        frames.t0_ns = now_ns;
        assert!(frames.next().is_ok());
        assert!(frames.next().is_err());
    }
}
