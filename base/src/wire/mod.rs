//! What a device sends: births and frames (formats.md 2, `proto/chordae.proto`).
//!
//! ```text
//!  payload bytes ──length──▶ protobuf or JSON ──▶ every limit ──▶ Birth | Frame     (valid values)
//!        └───────────────────────┴───────────────────┴─────────▶ Malformed {reason, why}
//! ```
//!
//! A value that came out of `decode` or `from_json` keeps every limit of formats.md 2 that can be seen
//! without its birth; `Frame::check_against` looks at the rest. Nothing is allocated from a length that
//! the payload states: the payload is at most 256 KiB and every collection is filled from its bytes.
//! Unknown protobuf fields are skipped, as protobuf prescribes; unknown JSON keys are refused, because
//! the JSON twins are written by people and a misspelt key must not pass for a default.

mod birth;
mod frame;
mod json;
mod proto;
mod quick;

use serde::{Deserialize, Serialize};

use crate::Rate;

pub use frame::NO_VALUE;

/// What a device says about its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockKind {
    /// It does not say.
    Unknown,
    /// Disciplined to UTC: its times are used as they are.
    Synced,
    /// Undisciplined: its times get an offset.
    FreeRunning,
}

/// One lead of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// Column name: 1-16 bytes printable ASCII, no `~`, no space at an edge, not `time`.
    pub name: String,
    /// ISO/IEEE 11073-10101 code, 0 if none.
    pub mdc: u32,
    /// ADC codes per unit, finite, not 0.
    pub gain: f64,
    /// ADC code of 0 units.
    pub baseline: i32,
    /// UCUM unit: "mV"; marks have "1".
    pub unit: String,
    /// Resolution of the converter, 8-31 bits.
    pub bits: u32,
}

/// The first message of a boot on a stream, immutable within its boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Birth {
    /// Never reused by a device: a counter, or 64 random bits.
    pub boot: u64,
    /// Samples per second.
    pub rate: Rate,
    /// 1 to 32 leads, names unique ignoring case.
    pub leads: Vec<Lead>,
    /// Free text.
    pub model: String,
    /// Free text.
    pub firmware: String,
    /// The clock at boot.
    pub clock: ClockKind,
}

/// Many samples of all leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The boot it belongs to.
    pub boot: u64,
    /// 0, 1, 2, ... within the boot.
    pub seq: u64,
    /// Device clock at the first sample.
    pub t0_ns: i64,
    /// Samples per lead, 1 to 65,536.
    pub samples: u32,
    /// ADC codes, lead after lead, `samples` each; [`NO_VALUE`] where there is none.
    pub codes: Vec<i32>,
    /// Sent later than recorded.
    pub historical: bool,
    /// The clock when the frame was made.
    pub clock: ClockKind,
}

/// A frame without its codes: all that decides its fate, and [`Frame::print`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The boot it belongs to.
    pub boot: u64,
    /// 0, 1, 2, ... within the boot.
    pub seq: u64,
    /// Device clock at the first sample.
    pub t0_ns: i64,
    /// Samples per lead.
    pub samples: u32,
    /// How many leads.
    pub leads: u32,
    /// Sent later than recorded.
    pub historical: bool,
    /// The clock when the frame was made.
    pub clock: ClockKind,
    /// Whether another is the same.
    pub print: [u8; 16],
}

/// Why a payload breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {why}")]
pub struct Malformed {
    /// Which rule: a metric label, one of [`REASONS`].
    pub reason: &'static str,
    /// What was found, in one line.
    pub why: String,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal;)*) => {
        /// The labels of [`Malformed::reason`], one per rule.
        pub mod reason {
            $($(#[$doc])* pub const $name: &str = $label;)*
        }
        /// Every label of [`Malformed::reason`].
        pub const REASONS: &[&str] = &[$(reason::$name),*];
    };
}
reasons! {
    /// Over 256 KiB, or a JSON twin whose protobuf would be.
    PAYLOAD_SIZE = "payload-size";
    /// Not the protobuf message.
    PROTOBUF = "protobuf";
    /// Not the JSON twin.
    JSON = "json";
    /// A clock that version 1 does not know.
    CLOCK = "clock";
    /// Rate outside 1 to 10,000 Hz, or a zero part.
    RATE = "rate";
    /// No lead, or more than 32.
    LEAD_COUNT = "lead-count";
    /// A lead name that breaks the rule.
    LEAD_NAME = "lead-name";
    /// Two lead names equal but for case.
    LEAD_TWICE = "lead-twice";
    /// Gain 0 or not finite.
    GAIN = "gain";
    /// A unit that is empty, too long or not printable ASCII without spaces.
    UNIT = "unit";
    /// Bits outside 8 to 31.
    BITS = "bits";
    /// Model or firmware too long, or with control characters.
    TEXT = "text";
    /// Samples outside 1 to 65,536.
    SAMPLES = "samples";
    /// Neither deltas nor i16le.
    CODES_MISSING = "codes-missing";
    /// Both deltas and i16le.
    CODES_TWICE = "codes-twice";
    /// Codes that are not samples times a number of leads.
    CODES_LENGTH = "codes-length";
    /// Another number of leads than the birth says.
    FRAME_LEADS = "frame-leads";
    /// Longer than 60 s at the birth's rate.
    FRAME_SPAN = "frame-span";
    /// A sample time outside 64 bits.
    TIME_OVERFLOW = "time-overflow";
}

impl Malformed {
    fn new(reason: &'static str, why: impl Into<String>) -> Self {
        Self {
            reason,
            why: why.into(),
        }
    }
}

/// Refuses a payload that is longer than any may be, before it is parsed.
fn check_payload(bytes: &[u8]) -> Result<(), Malformed> {
    let max = crate::limits::PAYLOAD_BYTES_MAX;
    if bytes.len() <= max {
        return Ok(());
    }
    Err(Malformed::new(
        reason::PAYLOAD_SIZE,
        format!("{} bytes, at most {max}", bytes.len()),
    ))
}
