//! When frames begin, are due, and what the device's clock says: all computed, nothing accumulated.
//!
//! Frame `k` of `n` samples begins exactly `floor(k n 10^9 den / num)` after the first, so a stream
//! of 360 Hz has not drifted by a nanosecond after a day. It is due when its last sample has been
//! taken; at another speed all due times shrink by that factor, and at none it is due at once.

use chordae_base::{Failure, Outcome, Rate, limits, time::SECOND_NS, wire::ClockKind};

/// How fast frames are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As they are recorded (1), or faster or slower by this factor, then `historical`.
    Speed(f64),
    /// As fast as acknowledgements allow; `historical`.
    Max,
}

impl Pace {
    /// Whether frames are sent as they are recorded.
    pub fn is_live(self) -> bool {
        self == Self::Speed(1.0)
    }
}

/// The times of one stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timetable {
    rate: Rate,
    per_frame: u64,
    start_ns: i64,
    pace: Pace,
}

impl Timetable {
    /// Frames of `frame_ns` whose first sample lies at `start_ns`.
    ///
    /// # Errors
    /// `BadInput` when such a frame breaks a limit of formats.md 2 for this many leads.
    pub fn new(
        rate: Rate,
        frame_ns: i64,
        leads: usize,
        start_ns: i64,
        pace: Pace,
    ) -> Outcome<Self> {
        let refuse = |why: String| Err(Failure::bad_input(format!("frame length: {why}")));
        if !(1..=limits::FRAME_SPAN_NS_MAX).contains(&frame_ns) {
            return refuse("more than 0 and at most 60 s fit".into());
        }
        let per_frame = samples_in(frame_ns, rate).max(1);
        if per_frame > u64::from(limits::FRAME_SAMPLES_MAX) {
            return refuse(format!(
                "{per_frame} samples; {} fit",
                limits::FRAME_SAMPLES_MAX
            ));
        }
        // A difference takes at most five bytes; the rest of a frame less than 64.
        let worst = per_frame
            .saturating_mul(leads as u64)
            .saturating_mul(5)
            .saturating_add(64);
        if worst > limits::PAYLOAD_BYTES_MAX as u64 {
            let most = (limits::PAYLOAD_BYTES_MAX as u64 - 64) / 5 / leads.max(1) as u64;
            return refuse(format!(
                "{per_frame} samples of {leads} leads may exceed {} bytes; {most} fit",
                limits::PAYLOAD_BYTES_MAX
            ));
        }
        Ok(Self {
            rate,
            per_frame,
            start_ns,
            pace,
        })
    }

    /// Samples per lead of a whole frame.
    pub fn per_frame(&self) -> u64 {
        self.per_frame
    }

    /// True time of the first sample of frame `seq`.
    ///
    /// # Errors
    /// `BadInput` on overflow of 64 bits.
    pub fn t0_ns(&self, seq: u64) -> Outcome<i64> {
        let overflow = || Failure::bad_input("the stream outgrows 64-bit time");
        let first = seq.checked_mul(self.per_frame).ok_or_else(overflow)?;
        self.start_ns
            .checked_add(self.rate.after_ns(first)?)
            .ok_or_else(overflow)
    }

    /// How long after the start frame `seq` is due on our clock.
    ///
    /// # Errors
    /// `BadInput` on overflow of 64 bits.
    pub fn due_ns(&self, seq: u64) -> Outcome<u64> {
        let taken_ns = self
            .t0_ns(seq.saturating_add(1))?
            .saturating_sub(self.start_ns);
        Ok(match self.pace {
            Pace::Max => 0,
            Pace::Speed(1.0) => taken_ns.unsigned_abs(),
            // Pacing only: the times in the frames never pass through a float.
            Pace::Speed(by) => (taken_ns as f64 / by) as u64,
        })
    }
}

/// Samples that a span holds, rounded down.
pub(crate) fn samples_in(ns: i64, rate: Rate) -> u64 {
    let per_s = u128::from(rate.den()) * SECOND_NS.unsigned_abs() as u128;
    let samples = u128::from(ns.unsigned_abs()) * u128::from(rate.num()) / per_s;
    u64::try_from(samples).unwrap_or(u64::MAX)
}

/// What a device's clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceClock {
    kind: ClockKind,
    start_ns: i64,
    /// Set wrong by this.
    skew_ns: i64,
    /// Fast by so many parts per million.
    drift_ppm: i64,
    jumped_ns: i64,
}

impl DeviceClock {
    /// A clock of this kind, of a device that booted at `start_ns`.
    pub fn new(kind: ClockKind, start_ns: i64) -> Self {
        Self {
            kind,
            start_ns,
            skew_ns: 0,
            drift_ppm: 0,
            jumped_ns: 0,
        }
    }

    /// The same clock, set wrong, and fast by so many parts per million.
    pub fn wrong(self, skew_ns: i64, drift_ppm: i64) -> Self {
        Self {
            skew_ns,
            drift_ppm,
            ..self
        }
    }

    /// What it is.
    pub fn kind(&self) -> ClockKind {
        self.kind
    }

    /// Steps it.
    pub fn jump(&mut self, by_ns: i64) {
        self.jumped_ns = self.jumped_ns.saturating_add(by_ns);
    }

    /// How far it has been stepped in all.
    pub fn jumped_ns(&self) -> i64 {
        self.jumped_ns
    }

    /// Sets it right at this true time; from then on it is disciplined, but no better a crystal.
    pub fn sync(&mut self, true_ns: i64) {
        *self = Self::new(ClockKind::Synced, true_ns).wrong(0, self.drift_ppm);
    }

    /// What it says at a true time: SYNCED tells it, FREE_RUNNING is an hour behind with a crystal
    /// 50 ppm fast, UNKNOWN counts from its boot; each wrong as it was told to be.
    pub fn says(&self, true_ns: i64) -> i64 {
        let since = true_ns.saturating_sub(self.start_ns);
        let shown = match self.kind {
            ClockKind::Synced => true_ns,
            ClockKind::FreeRunning => true_ns
                .saturating_sub(3600 * SECOND_NS)
                .saturating_add(since / 20_000),
            ClockKind::Unknown => since,
        };
        let drifted = i128::from(since) * i128::from(self.drift_ppm) / 1_000_000;
        shown
            .saturating_add(self.skew_ns)
            .saturating_add(i64::try_from(drifted).unwrap_or(0))
            .saturating_add(self.jumped_ns)
    }
}
