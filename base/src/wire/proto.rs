//! The messages of `proto/chordae.proto` as prost derives them; nothing outside `wire` sees them.

use super::{ClockKind, Malformed, reason};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Birth {
    #[prost(uint64, tag = "1")]
    pub(super) boot: u64,
    #[prost(uint32, tag = "2")]
    pub(super) rate_num: u32,
    #[prost(uint32, tag = "3")]
    pub(super) rate_den: u32,
    #[prost(message, repeated, tag = "4")]
    pub(super) leads: Vec<Lead>,
    #[prost(string, tag = "5")]
    pub(super) model: String,
    #[prost(string, tag = "6")]
    pub(super) firmware: String,
    #[prost(int32, tag = "7")]
    pub(super) clock: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Lead {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint32, tag = "2")]
    pub(super) mdc: u32,
    #[prost(double, tag = "3")]
    pub(super) gain: f64,
    #[prost(sint32, tag = "4")]
    pub(super) baseline: i32,
    #[prost(string, tag = "5")]
    pub(super) unit: String,
    #[prost(uint32, tag = "6")]
    pub(super) bits: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    #[prost(uint64, tag = "1")]
    pub(super) boot: u64,
    #[prost(uint64, tag = "2")]
    pub(super) seq: u64,
    #[prost(sint64, tag = "3")]
    pub(super) t0_ns: i64,
    #[prost(uint32, tag = "4")]
    pub(super) samples: u32,
    #[prost(sint32, repeated, tag = "5")]
    pub(super) deltas: Vec<i32>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) i16le: Vec<u8>,
    #[prost(bool, tag = "7")]
    pub(super) historical: bool,
    #[prost(int32, tag = "8")]
    pub(super) clock: i32,
}

/// An enum on the wire is a varint like an `int32`; other numbers than these are refused, because
/// which clock it is decides where the rows go.
pub(super) fn clock_from(number: i32) -> Result<ClockKind, Malformed> {
    match number {
        0 => Ok(ClockKind::Unknown),
        1 => Ok(ClockKind::Synced),
        2 => Ok(ClockKind::FreeRunning),
        n => Err(Malformed::new(
            reason::CLOCK,
            format!("clock {n}, known are 0, 1 and 2"),
        )),
    }
}

pub(super) fn clock_number(clock: ClockKind) -> i32 {
    match clock {
        ClockKind::Unknown => 0,
        ClockKind::Synced => 1,
        ClockKind::FreeRunning => 2,
    }
}
