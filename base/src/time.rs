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

/// Start of the cell of length `len_ns` (at least 1) that holds `t_ns`; cells start at multiples of the
/// length, also before 1970. The cell that the end of 64 bits cuts starts there.
pub fn slot_start(t_ns: i64, len_ns: i64) -> i64 {
    t_ns.saturating_sub(t_ns.rem_euclid(len_ns.max(1)))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_stay_between_1_and_10000_hz() {
        for (num, den) in [
            (1, 1),
            (250, 1),
            (10_000, 1),
            (1_000_000, 4003),
            (u32::MAX, u32::MAX),
        ] {
            assert!(Rate::new(num, den).is_ok(), "{num}/{den}");
        }
        for (num, den) in [
            (0, 1),
            (1, 0),
            (0, 0),
            (1, 2),
            (10_001, 1),
            (20_001, 2),
            (u32::MAX, 1),
        ] {
            assert!(Rate::new(num, den).is_err(), "{num}/{den}");
        }
        assert!(
            serde_json::from_str::<Rate>("[0,0]").is_err(),
            "serde goes through the check"
        );
    }

    #[test]
    fn sample_times_are_floored_and_never_wrap() {
        let rate = Rate::new(360, 1).unwrap();
        assert_eq!(rate.after_ns(0).unwrap(), 0);
        assert_eq!(rate.after_ns(1).unwrap(), 2_777_777);
        assert_eq!(
            rate.after_ns(2).unwrap(),
            5_555_555,
            "5,555,555.5 goes down"
        );
        assert_eq!(rate.after_ns(360).unwrap(), SECOND_NS);
        let slow = Rate::new(1, 1).unwrap();
        let last = i64::MAX.unsigned_abs() / SECOND_NS.unsigned_abs();
        assert_eq!(slow.after_ns(last).unwrap(), 9_223_372_036 * SECOND_NS);
        assert!(slow.after_ns(last + 1).is_err());
        assert!(slow.after_ns(u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn a_spread_frame_starts_and_ends_where_it_should(
            start in any::<i64>(), width in 0i64..120 * SECOND_NS, samples in 1u64..70_000, k in 0u64..70_000,
        ) {
            let end = start.saturating_add(width);
            let k = k.min(samples);
            let at = spread_ns(start, end, k, samples);
            prop_assert!((start..=end).contains(&at));
            prop_assert_eq!(spread_ns(start, end, 0, samples), start);
            prop_assert_eq!(spread_ns(start, end, samples, samples), end);
            prop_assert!(k == 0 || spread_ns(start, end, k - 1, samples) <= at, "never back in time");
        }

        #[test]
        fn a_time_lies_in_its_slot(t in -(1i64 << 62)..1i64 << 62, len in 1i64..4000 * SECOND_NS) {
            let start = slot_start(t, len);
            prop_assert_eq!(start % len, 0);
            prop_assert!(start <= t && t - start < len);
        }

        #[test]
        fn shown_times_read_back(t in any::<i64>()) {
            prop_assert_eq!(parse(&show(t)).unwrap(), t);
            prop_assert_eq!(parse(&t.to_string()).unwrap(), t);
        }
    }

    #[test]
    fn slots_floor_towards_minus_infinity_and_the_ends_hold() {
        assert_eq!(slot_start(-1, 10), -10);
        assert_eq!(slot_start(-10, 10), -10);
        assert_eq!(slot_start(9, 10), 0);
        assert_eq!(slot_start(i64::MIN, 10), i64::MIN);
        assert_eq!(slot_start(i64::MAX, 10), i64::MAX - 7);
    }

    #[test]
    fn rfc_3339_reads_up_to_nine_digits() {
        assert_eq!(
            parse("1970-01-01T00:00:01.000000001Z").unwrap(),
            1_000_000_001
        );
        assert_eq!(parse("1969-12-31T23:59:59.999999999Z").unwrap(), -1);
        assert_eq!(parse("1970-01-01T01:00:00.5+01:00").unwrap(), 500_000_000);
        assert_eq!(parse("-5").unwrap(), -5);
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999999Z");
        let bad = [
            "",
            "now",
            "1e9",
            "1.5",
            "9223372036854775808",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:01.0000000001Z",
            "2300-01-01T00:00:00Z",
            "1600-01-01T00:00:00Z",
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    /// T01: the texts of a leap second and of the hour that summer time repeats.
    #[test]
    fn t01_leap_seconds_and_the_repeated_hour_name_one_instant_or_none() {
        let second = |text: &str| parse(text).unwrap() / 1_000_000_000;
        // POSIX time has no 23:59:60: it is read as the second before, never as one that comes after.
        let before = second("2016-12-31T23:59:59Z");
        assert_eq!(second("2016-12-31T23:59:60Z"), before);
        assert_eq!(second("2017-01-01T00:00:00Z"), before + 1);
        assert!(parse("2016-12-31T23:59:61Z").is_err());
        // Half past two comes twice: with its offset it is one of them, without it is none.
        let (summer, winter) = ("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00");
        assert_eq!(second(winter) - second(summer), 3600);
        for text in [
            "2026-10-25T02:30:00",
            "2026-10-25T02:30:00 CET",
            "2026-10-25 02:30:00 Europe/Berlin",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn spans_are_half_open() {
        let span = Span {
            from_ns: 0,
            until_ns: 10,
        };
        assert!(span.holds(0) && span.holds(9) && !span.holds(10) && !span.holds(-1));
        assert!(span.meets(&Span {
            from_ns: 9,
            until_ns: 20
        }));
        assert!(
            !span.meets(&Span {
                from_ns: 10,
                until_ns: 20
            }),
            "adjoining spans share no instant"
        );
    }
}
