//! Frames: reading, writing, and every rule about them.

use prost::Message;

use super::{Birth, Frame, Malformed, check_payload, proto, reason};
use crate::{Outcome, Rate, limits};

/// The code that means "no value".
pub const NO_VALUE: i32 = i32::MIN;

impl Frame {
    /// Reads the protobuf message and checks every rule that needs no birth.
    ///
    /// # Errors
    /// [`Malformed`] naming the first broken rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        check_payload(bytes)?;
        let msg = proto::Frame::decode(bytes)
            .map_err(|err| Malformed::new(reason::PROTOBUF, err.to_string()))?;
        let samples = check_samples(msg.samples)?;
        let codes = match (msg.deltas.is_empty(), msg.i16le.is_empty()) {
            (true, true) => return Err(Malformed::new(reason::CODES_MISSING, "no codes")),
            (false, false) => {
                return Err(Malformed::new(reason::CODES_TWICE, "both deltas and i16le"));
            }
            (false, true) => sums(msg.deltas, samples),
            (true, false) => words(&msg.i16le)?,
        };
        check_shape(samples, codes.len())?;
        let clock = proto::clock_from(msg.clock)?;
        Ok(Self {
            boot: msg.boot,
            seq: msg.seq,
            t0_ns: msg.t0_ns,
            samples: msg.samples,
            codes,
            historical: msg.historical,
            clock,
        })
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

    /// "The same frame?": the first 16 bytes of BLAKE3 over t0 (i64), samples (u32) and codes (i32), all
    /// little-endian; neither encoding nor flags matter.
    pub fn print(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.t0_ns.to_le_bytes());
        hasher.update(&self.samples.to_le_bytes());
        self.feed_codes(&mut hasher);
        let mut print = [0; 16];
        hasher.finalize_xof().fill(&mut print);
        print
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
            block.extend(codes.iter().flat_map(|c| c.to_le_bytes()));
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

/// Undoes the differences, lead by lead, modulo 2^32.
fn sums(mut deltas: Vec<i32>, samples: usize) -> Vec<i32> {
    for lead in deltas.chunks_mut(samples) {
        let mut code = 0i32;
        for delta in lead {
            code = code.wrapping_add(*delta);
            *delta = code;
        }
    }
    deltas
}

fn words(bytes: &[u8]) -> Result<Vec<i32>, Malformed> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Malformed::new(
            reason::CODES_LENGTH,
            "an odd number of i16le bytes",
        ));
    }
    Ok(pairs
        .iter()
        .map(|p| i32::from(i16::from_le_bytes(*p)))
        .collect())
}
