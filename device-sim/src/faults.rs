//! Faults that a device can be told to have, each thrown under the fleet's seed.

use std::str::FromStr;

use chordae_base::{Failure, Outcome, time::SECOND_NS};

use crate::dice::Dice;

/// Which faults are on; durations and shares are 0 when theirs is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The connection is cut right after a frame went out, before its acknowledgement.
    pub drop: bool,
    /// A frame is sent twice.
    pub dup: bool,
    /// A frame is overtaken by the next.
    pub reorder: bool,
    /// The device says goodbye and connects again.
    pub reconnect: bool,
    /// A frame is sent long after it was due.
    pub late: bool,
    /// A frame is lost in the device: its number never comes.
    pub gap: bool,
    /// Codes at the edges of 32 and 16 bits, and runs without a value.
    pub extremes: bool,
    /// The encoding changes from one sending to the next.
    pub encodings: bool,
    /// The device starts over once per boot, under the same boot number.
    pub reuse_boot: bool,
    /// The device's clock steps by this, to either side and back, ns.
    pub clock_jump_ns: i64,
    /// A frame's t0 lies up to half of this to either side of where it belongs, ns.
    pub jitter_ns: i64,
    /// The device's clock runs fast (or slow) by so many parts per million.
    pub drift_ppm: i64,
    /// The device is away from the network for this long, in its own time, ns.
    pub pause_ns: i64,
}

/// What there is, for messages.
const NAMES: &str = "drop, dup, reorder, reconnect, late, gap, extremes, encodings, reuse-boot, \
                     clock-jump[=2s], jitter[=40ms], drift[=1%], pause[=10m]";

impl FromStr for Faults {
    type Err = Failure;
    /// Any of them, separated by commas.
    fn from_str(text: &str) -> Outcome<Self> {
        let mut faults = Self::default();
        for word in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let ns = |usual: &str| duration(value.unwrap_or(usual));
            let flag = match name {
                "drop" => &mut faults.drop,
                "dup" => &mut faults.dup,
                "reorder" => &mut faults.reorder,
                "reconnect" => &mut faults.reconnect,
                "late" => &mut faults.late,
                "gap" => &mut faults.gap,
                "extremes" => &mut faults.extremes,
                "encodings" => &mut faults.encodings,
                "reuse-boot" => &mut faults.reuse_boot,
                "clock-jump" => {
                    faults.clock_jump_ns = ns("2s")?;
                    continue;
                }
                "jitter" => {
                    faults.jitter_ns = ns("40ms")?;
                    continue;
                }
                "drift" => {
                    faults.drift_ppm = share(value.unwrap_or("1%"))?;
                    continue;
                }
                "pause" => {
                    faults.pause_ns = ns("10m")?;
                    continue;
                }
                other => {
                    let why = format!("no fault {other:?}; {NAMES}");
                    return Err(Failure::bad_input(why));
                }
            };
            if value.is_some() {
                return Err(Failure::bad_input(format!("{name} takes no value")));
            }
            *flag = true;
        }
        Ok(faults)
    }
}

/// `40ms`, `10m`: more than 0, ns.
fn duration(text: &str) -> Outcome<i64> {
    let span: Option<jiff::SignedDuration> = text.parse().ok();
    span.and_then(|span| i64::try_from(span.as_nanos()).ok())
        .filter(|ns| *ns > 0)
        .ok_or_else(|| Failure::bad_input(format!("{text:?} is no duration such as 40ms or 10m")))
}

/// `1%`, `-0.5%`, in parts per million; less than all.
fn share(text: &str) -> Outcome<i64> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|n| n.parse().ok());
    percent
        .filter(|p| p.abs() <= 50.0 && *p != 0.0)
        .map(|p| (p * 10_000.0).round() as i64)
        .ok_or_else(|| Failure::bad_input(format!("{text:?} is no share such as 1% or -0.5%")))
}

/// The throws of one device: each fault strikes one frame in so many.
///
/// What is made and how it is sent are thrown apart, so that the same seed makes the same frames
/// whatever the network does.
pub(crate) struct Misfortune {
    pub(crate) faults: Faults,
    making: Dice,
    sending: Dice,
}

/// How long a late frame is held back; a live bucket's slot may be over by then.
pub(crate) const LATE_NS: u64 = 20 * SECOND_NS.unsigned_abs();
/// A device that reuses its boot number starts over when it has made so many frames.
pub(crate) const REUSE_AFTER: usize = 32;

/// What strikes a frame when it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing.
    None,
    /// Cut the connection.
    Rude,
    /// Say goodbye first.
    Polite,
    /// Say goodbye, and stay away.
    Away,
}

impl Misfortune {
    pub(crate) fn new(faults: Faults, making: Dice, sending: Dice) -> Self {
        Self {
            faults,
            making,
            sending,
        }
    }

    /// How long a new frame is held back before it may go; `frame_ns` is the time between frames.
    pub(crate) fn holds_back(&mut self, frame_ns: u64) -> u64 {
        if self.faults.late && self.sending.one_in(16) {
            return LATE_NS;
        }
        if self.faults.reorder && self.sending.one_in(8) {
            return frame_ns + frame_ns / 2;
        }
        0
    }

    /// Where the clock stands after this frame, where it is off by `now_ns` before.
    pub(crate) fn jumps(&mut self, now_ns: i64) -> i64 {
        let step = self.faults.clock_jump_ns;
        if step == 0 || !self.making.one_in(32) {
            return now_ns;
        }
        match (now_ns, self.making.one_in(2)) {
            (0, true) => step,
            (0, false) => -step,
            _ => 0,
        }
    }

    /// How far off this frame's t0 is.
    pub(crate) fn jitters(&mut self) -> i64 {
        if self.faults.jitter_ns == 0 {
            return 0;
        }
        ((self.making.unit() - 0.5) * self.faults.jitter_ns as f64) as i64
    }

    /// Whether this frame is lost in the device.
    pub(crate) fn loses(&mut self) -> bool {
        self.faults.gap && self.making.one_in(16)
    }

    /// Writes over codes what no honest converter says.
    pub(crate) fn exaggerates(&mut self, codes: &mut [i32]) {
        const EDGES: [i32; 8] = [
            i32::MIN,
            i32::MAX,
            i32::MIN + 1,
            -1,
            32_767,
            -32_768,
            32_768,
            0,
        ];
        if !self.faults.extremes || codes.is_empty() || self.making.one_in(4) {
            return;
        }
        let from = (self.making.unit() * codes.len() as f64) as usize;
        // A run without a value, as an electrode that is off gives it, then the edges.
        let run = std::iter::repeat_n(i32::MIN, codes.len() / 8).chain(EDGES);
        codes
            .iter_mut()
            .skip(from)
            .zip(run)
            .for_each(|(code, edge)| *code = edge);
    }

    pub(crate) fn overtakes(&mut self) -> bool {
        self.faults.reorder && self.sending.one_in(8)
    }

    pub(crate) fn doubles(&mut self) -> bool {
        self.faults.dup && self.sending.one_in(8)
    }

    pub(crate) fn cuts(&mut self) -> Cut {
        if self.faults.drop && self.sending.one_in(24) {
            Cut::Rude
        } else if self.faults.reconnect && self.sending.one_in(24) {
            Cut::Polite
        } else if self.faults.pause_ns > 0 && self.sending.one_in(48) {
            Cut::Away
        } else {
            Cut::None
        }
    }

    /// The dice of the sendings' encodings.
    pub(crate) fn dice(&mut self) -> &mut Dice {
        &mut self.sending
    }
}
