//! Faults that a device can be told to have, each thrown under the fleet's seed.

use std::str::FromStr;

use chordae_base::{Failure, Outcome, time::SECOND_NS};

use crate::dice::Dice;

/// Which faults are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The connection is cut right after a frame went out, before its acknowledgement.
    pub drop: bool,
    /// A frame is sent twice.
    pub dup: bool,
    /// A frame is overtaken by the next.
    pub reorder: bool,
    /// The device's clock steps by two seconds, back and forth.
    pub clock_jump: bool,
    /// The device says goodbye and connects again.
    pub reconnect: bool,
    /// A frame is sent long after it was due.
    pub late: bool,
}

impl FromStr for Faults {
    type Err = Failure;
    /// `drop,dup,reorder,clock-jump,reconnect,late`, any of them.
    fn from_str(text: &str) -> Outcome<Self> {
        let mut faults = Self::default();
        for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            match name {
                "drop" => faults.drop = true,
                "dup" => faults.dup = true,
                "reorder" => faults.reorder = true,
                "clock-jump" => faults.clock_jump = true,
                "reconnect" => faults.reconnect = true,
                "late" => faults.late = true,
                other => {
                    return Err(Failure::bad_input(format!(
                        "no fault {other:?}; drop, dup, reorder, clock-jump, reconnect, late"
                    )));
                }
            }
        }
        Ok(faults)
    }
}

/// The throws of one device: each fault strikes one frame in so many.
pub(crate) struct Misfortune {
    faults: Faults,
    dice: Dice,
}

/// How long a late frame is held back; a live bucket's slot may be over by then.
pub(crate) const LATE_NS: u64 = 20_000_000_000;
/// How far a jumping clock steps.
pub(crate) const JUMP_NS: i64 = 2 * SECOND_NS;

/// What strikes a frame when it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing.
    None,
    /// Cut the connection.
    Rude,
    /// Say goodbye first.
    Polite,
}

impl Misfortune {
    pub(crate) fn new(faults: Faults, dice: Dice) -> Self {
        Self { faults, dice }
    }

    /// How long a new frame is held back before it may go; `frame_ns` is the time between frames.
    pub(crate) fn holds_back(&mut self, frame_ns: u64) -> u64 {
        if self.faults.late && self.dice.one_in(16) {
            return LATE_NS;
        }
        if self.faults.reorder && self.dice.one_in(8) {
            return frame_ns + frame_ns / 2;
        }
        0
    }

    pub(crate) fn jumps(&mut self) -> bool {
        self.faults.clock_jump && self.dice.one_in(32)
    }

    pub(crate) fn overtakes(&mut self) -> bool {
        self.faults.reorder && self.dice.one_in(8)
    }

    pub(crate) fn doubles(&mut self) -> bool {
        self.faults.dup && self.dice.one_in(8)
    }

    pub(crate) fn cuts(&mut self) -> Cut {
        if self.faults.drop && self.dice.one_in(24) {
            Cut::Rude
        } else if self.faults.reconnect && self.dice.one_in(24) {
            Cut::Polite
        } else {
            Cut::None
        }
    }
}
