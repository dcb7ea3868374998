//! Times: signed nanoseconds since 1970-01-01T00:00:00Z, spans half-open, overflow refused.

use serde::{Deserialize, Serialize};

use crate::{Failure, Outcome, limits};

/// One second in nanoseconds.
pub const SECOND_NS: i64 = 1_000_000_000;

/// A half-open span `[from_ns, until_ns)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First instant inside.
    pub from_ns: i64,
    /// First instant after.
    pub until_ns: i64,
}

impl Span {
    /// Whether `t_ns` lies inside.
    pub fn holds(&self, t_ns: i64) -> bool {
        self.from_ns <= t_ns && t_ns < self.until_ns
    }

    /// Whether the spans share an instant.
    pub fn meets(&self, other: &Self) -> bool {
        self.from_ns < other.until_ns && other.from_ns < self.until_ns
    }
}

/// A sampling rate of `num / den` samples per second, 1 to 10,000 Hz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct Rate {
    num: u32,
    den: u32,
}

impl Rate {
    /// Checks a rate.
    ///
    /// # Errors
    /// `BadInput` for a zero part or a rate outside 1 to 10,000 Hz.
    pub fn new(num: u32, den: u32) -> Outcome<Self> {
        let fits = den > 0
            && num >= den
            && u64::from(num) <= u64::from(den) * u64::from(limits::RATE_HZ_MAX);
        if fits {
            return Ok(Self { num, den });
        }
        Err(Failure::bad_input(format!(
            "rate {num}/{den} is not between 1 and 10000 Hz"
        )))
    }

    /// Numerator, samples.
    pub fn num(&self) -> u32 {
        self.num
    }

    /// Denominator, seconds.
    pub fn den(&self) -> u32 {
        self.den
    }

    /// `floor(k * 10^9 * den / num)`: nanoseconds from the first sample to sample `k`.
    ///
    /// # Errors
    /// `BadInput` on overflow of 64 bits.
    pub fn after_ns(&self, k: u64) -> Outcome<i64> {
        let ns = u128::from(k) * 1_000_000_000 * u128::from(self.den) / u128::from(self.num);
        i64::try_from(ns).map_err(|_| Failure::bad_input("sample time overflows 64 bits"))
    }
}

impl TryFrom<(u32, u32)> for Rate {
    type Error = Failure;
    fn try_from((num, den): (u32, u32)) -> Outcome<Self> {
        Self::new(num, den)
    }
}

impl From<Rate> for (u32, u32) {
    fn from(r: Rate) -> Self {
        (r.num, r.den)
    }
}

/// `start + floor(k * (end - start) / samples)`: sample `k` of a frame spread evenly over a span.
pub fn spread_ns(start_ns: i64, end_ns: i64, k: u64, samples: u64) -> i64 {
    let width = i128::from(end_ns) - i128::from(start_ns);
    let at = i128::from(start_ns) + (i128::from(k) * width).div_euclid(i128::from(samples.max(1)));
    // Between start and end for every k <= samples, so it always fits.
    i64::try_from(at).unwrap_or(end_ns)
}

/// Start of the cell of length `len_ns` that holds `t_ns`; cells start at multiples of the length.
pub fn slot_start(t_ns: i64, len_ns: i64) -> i64 {
    t_ns - t_ns.rem_euclid(len_ns)
}

/// Reads RFC 3339 with up to nine digits, or integer nanoseconds.
///
/// # Errors
/// `BadInput` for anything else, and for times outside 64 bits.
pub fn parse(text: &str) -> Outcome<i64> {
    if let Ok(ns) = text.parse::<i64>() {
        return Ok(ns);
    }
    let bad = || {
        Failure::bad_input(format!(
            "{text:?} is neither RFC 3339 nor integer nanoseconds"
        ))
    };
    let stamp: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    i64::try_from(stamp.as_nanosecond()).map_err(|_| bad())
}

/// RFC 3339 in UTC with nine digits.
pub fn show(t_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(t_ns)) {
        Ok(stamp) => format!("{stamp:.9}"),
        Err(_) => format!("{t_ns} ns"),
    }
}
