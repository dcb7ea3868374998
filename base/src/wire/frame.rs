//! Frames: reading, writing, and every rule about them.

use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::{Birth, ClockKind, Frame, Glance, Malformed, check_payload, proto, quick, reason};
use crate::{Outcome, Rate, limits};

/// The code that means "no value".
pub const NO_VALUE: i32 = i32::MIN;

impl Frame {
    /// Reads the protobuf message and checks every rule that needs no birth.
    ///
    /// # Errors
    /// [`Malformed`] naming the first broken rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut frame = Self::blank();
        frame.read(bytes)?;
        Ok(frame)
    }

    /// As [`Self::decode`], into the memory of a frame read before, of which nothing else stays.
    ///
    /// # Errors
    /// As [`Self::decode`]; what the frame then holds is of no use.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        check_payload(bytes)?;
        let usual = match quick::head(bytes) {
            Some((msg, quick::Codes::Deltas(field))) => {
                quick::sums(field, per_lead(msg.samples), &mut self.codes).map(|()| msg)
            }
            Some((msg, quick::Codes::I16le(field))) => {
                check_samples(msg.samples)?;
                words(field, &mut self.codes)?;
                Some(msg)
            }
            None => None,
        };
        let msg = match usual {
            Some(msg) => {
                check_samples(msg.samples)?;
                msg
            }
            None => read_any(bytes, &mut self.codes)?,
        };
        check_shape(per_lead(msg.samples), self.codes.len())?;
        self.clock = proto::clock_from(msg.clock)?;
        self.boot = msg.boot;
        self.seq = msg.seq;
        self.t0_ns = msg.t0_ns;
        self.samples = msg.samples;
        self.historical = msg.historical;
        Ok(())
    }

    /// No frame yet: memory for [`Self::read`].
    pub fn blank() -> Self {
        Self {
            boot: 0,
            seq: 0,
            t0_ns: 0,
            samples: 0,
            codes: Vec::new(),
            historical: false,
            clock: ClockKind::Unknown,
        }
    }

    fn message(&self) -> proto::Frame {
        proto::Frame {
            boot: self.boot,
            seq: self.seq,
            t0_ns: self.t0_ns,
            samples: self.samples,
            deltas: Vec::new(),
            i16le: Vec::new(),
            historical: self.historical,
            clock: proto::clock_number(self.clock),
        }
    }

    pub(super) fn with_deltas(&self) -> proto::Frame {
        let mut deltas = Vec::with_capacity(self.codes.len());
        for lead in self.codes.chunks(per_lead(self.samples)) {
            let mut before = 0i32;
            for code in lead {
                deltas.push(code.wrapping_sub(before));
                before = *code;
            }
        }
        proto::Frame {
            deltas,
            ..self.message()
        }
    }

    /// The protobuf message with `deltas`, which can say everything.
    pub fn encode(&self) -> Vec<u8> {
        self.with_deltas().encode_to_vec()
    }

    /// The protobuf message with `i16le`; `None` if a code does not fit 16 bits or is "no value".
    pub fn encode_i16le(&self) -> Option<Vec<u8>> {
        let mut i16le = Vec::with_capacity(self.codes.len() * 2);
        for code in &self.codes {
            i16le.extend_from_slice(&i16::try_from(*code).ok()?.to_le_bytes());
        }
        Some(
            proto::Frame {
                i16le,
                ..self.message()
            }
            .encode_to_vec(),
        )
    }

    /// How many leads it carries.
    pub fn leads(&self) -> usize {
        self.codes.len() / per_lead(self.samples)
    }

    /// Codes of lead `i`; empty if there is no such lead.
    pub fn lead(&self, i: usize) -> &[i32] {
        self.codes
            .chunks(per_lead(self.samples))
            .nth(i)
            .unwrap_or(&[])
    }

    /// "The same frame?": XXH3 (128 bits, big-endian) over t0 (i64) and samples (u32), little-endian, and the
    /// differences as protobuf packs them; neither encoding nor flags matter (docs/decisions/0020).
    pub fn print(&self) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(12 + self.codes.len() * 2);
        put_head(self.t0_ns, self.samples, &mut bytes);
        for lead in self.codes.chunks(per_lead(self.samples)) {
            let mut before = 0i32;
            for code in lead {
                quick::put(code.wrapping_sub(before), &mut bytes);
                before = *code;
            }
        }
        xxh3_128(&bytes).to_be_bytes()
    }

    /// BLAKE3 of the codes as little-endian i32, lead after lead: what a device notes of a frame.
    pub fn codes_digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.feed_codes(&mut hasher);
        *hasher.finalize().as_bytes()
    }

    fn feed_codes(&self, hasher: &mut blake3::Hasher) {
        let mut block = Vec::with_capacity(4096);
        for codes in self.codes.chunks(1024) {
            block.clear();
            put_codes(codes, &mut block);
            hasher.update(&block);
        }
    }

    /// `floor(samples * 10^9 * den / num)`: from the first sample to the claimed end.
    ///
    /// # Errors
    /// `BadInput` on overflow of 64 bits.
    pub fn span_ns(&self, rate: Rate) -> Outcome<i64> {
        rate.after_ns(u64::from(self.samples))
    }

    /// The claimed end: `t0_ns` plus the span.
    ///
    /// # Errors
    /// `BadInput` on overflow of 64 bits.
    pub fn end_ns(&self, rate: Rate) -> Outcome<i64> {
        let end = self.t0_ns.checked_add(self.span_ns(rate)?);
        end.ok_or_else(|| crate::Failure::bad_input("the end of the frame overflows 64 bits"))
    }

    /// Checks what only the birth of its boot can tell: number of leads, span, times within 64 bits.
    /// That the boots agree is the caller's business, who found the birth by it.
    ///
    /// # Errors
    /// [`Malformed`] with `frame-leads`, `frame-span` or `time-overflow`.
    pub fn check_against(&self, birth: &Birth) -> Result<(), Malformed> {
        let (has, wants) = (self.leads(), birth.leads.len());
        if has != wants {
            let why = format!("{has} leads, the birth has {wants}");
            return Err(Malformed::new(reason::FRAME_LEADS, why));
        }
        let overflow = |err: crate::Failure| Malformed::new(reason::TIME_OVERFLOW, err.why);
        let span = self.span_ns(birth.rate).map_err(overflow)?;
        if span > limits::FRAME_SPAN_NS_MAX {
            let why = format!("spans {span} ns, at most 60 s");
            return Err(Malformed::new(reason::FRAME_SPAN, why));
        }
        self.end_ns(birth.rate).map_err(overflow)?;
        Ok(())
    }
}

/// Codes per lead as a chunk length; never 0, so that splitting is always defined.
fn per_lead(samples: u32) -> usize {
    usize::try_from(samples).unwrap_or(usize::MAX).max(1)
}

pub(super) fn check_samples(samples: u32) -> Result<usize, Malformed> {
    if (1..=limits::FRAME_SAMPLES_MAX).contains(&samples) {
        return Ok(per_lead(samples));
    }
    let why = format!(
        "{samples} samples, must be 1 to {}",
        limits::FRAME_SAMPLES_MAX
    );
    Err(Malformed::new(reason::SAMPLES, why))
}

pub(super) fn check_shape(samples: usize, codes: usize) -> Result<(), Malformed> {
    if !codes.is_multiple_of(samples) {
        let why = format!("{codes} codes are not a multiple of {samples} samples");
        return Err(Malformed::new(reason::CODES_LENGTH, why));
    }
    if !(1..=limits::LEADS_MAX).contains(&(codes / samples)) {
        let why = format!(
            "{} leads, must be 1 to {}",
            codes / samples,
            limits::LEADS_MAX
        );
        return Err(Malformed::new(reason::LEAD_COUNT, why));
    }
    Ok(())
}

impl Glance {
    /// Reads a frame as [`Frame::decode`] does, with every rule that it checks, without making its codes.
    /// `scratch` is memory that is used again.
    ///
    /// # Errors
    /// Those of [`Frame::decode`].
    pub fn read(bytes: &[u8], scratch: &mut Vec<u8>) -> Result<Self, Malformed> {
        check_payload(bytes)?;
        if let Some((msg, quick::Codes::Deltas(field))) = quick::head(bytes)
            && let Some(codes) = quick::count(field)
        {
            let samples = check_samples(msg.samples)?;
            check_shape(samples, codes)?;
            let clock = proto::clock_from(msg.clock)?;
            scratch.clear();
            put_head(msg.t0_ns, msg.samples, scratch);
            scratch.extend_from_slice(field);
            return Ok(Self {
                boot: msg.boot,
                seq: msg.seq,
                t0_ns: msg.t0_ns,
                samples: msg.samples,
                leads: u32::try_from(codes / samples).unwrap_or(u32::MAX),
                historical: msg.historical,
                clock,
                print: xxh3_128(scratch).to_be_bytes(),
            });
        }
        Frame::decode(bytes).map(|frame| Self::from(&frame))
    }
}

impl From<&Frame> for Glance {
    fn from(frame: &Frame) -> Self {
        Self {
            boot: frame.boot,
            seq: frame.seq,
            t0_ns: frame.t0_ns,
            samples: frame.samples,
            leads: u32::try_from(frame.leads()).unwrap_or(u32::MAX),
            historical: frame.historical,
            clock: frame.clock,
            print: frame.print(),
        }
    }
}

/// What a print begins with.
fn put_head(t0_ns: i64, samples: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&t0_ns.to_le_bytes());
    out.extend_from_slice(&samples.to_le_bytes());
}

/// A frame that is not written the usual way: prost reads it, or says why not.
fn read_any(bytes: &[u8], codes: &mut Vec<i32>) -> Result<proto::Frame, Malformed> {
    let mut msg = proto::Frame::decode(bytes)
        .map_err(|err| Malformed::new(reason::PROTOBUF, err.to_string()))?;
    let samples = check_samples(msg.samples)?;
    match (msg.deltas.is_empty(), msg.i16le.is_empty()) {
        (true, true) => return Err(Malformed::new(reason::CODES_MISSING, "no codes")),
        (false, false) => {
            return Err(Malformed::new(reason::CODES_TWICE, "both deltas and i16le"));
        }
        (false, true) => *codes = sums(std::mem::take(&mut msg.deltas), samples),
        (true, false) => words(&msg.i16le, codes)?,
    }
    Ok(msg)
}

/// Undoes the differences, lead by lead, modulo 2^32.
pub(super) fn sums(mut deltas: Vec<i32>, samples: usize) -> Vec<i32> {
    for lead in deltas.chunks_mut(samples) {
        let mut code = 0i32;
        for delta in lead {
            code = code.wrapping_add(*delta);
            *delta = code;
        }
    }
    deltas
}

fn words(bytes: &[u8], codes: &mut Vec<i32>) -> Result<(), Malformed> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Malformed::new(
            reason::CODES_LENGTH,
            "an odd number of i16le bytes",
        ));
    }
    codes.clear();
    codes.extend(pairs.iter().map(|p| i32::from(i16::from_le_bytes(*p))));
    Ok(())
}

/// Appends codes as little-endian i32, in one piece.
fn put_codes(codes: &[i32], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + codes.len() * 4, 0);
    let (places, _) = out.get_mut(from..).unwrap_or_default().as_chunks_mut::<4>();
    for (place, code) in places.iter_mut().zip(codes) {
        *place = code.to_le_bytes();
    }
}
