//! Makes the frames of one device: samples, times, numbers, bytes. No clock and no network in here;
//! how long it has been since the start comes in.

use bytes::Bytes;
use chordae_base::{
    Outcome, Rate,
    wire::{Birth, ClockKind, Frame, Lead},
};

use crate::{
    faults::{JUMP_NS, Misfortune},
    source::Feed,
    spool::Kept,
    timetable::{DeviceClock, Pace, Timetable},
};

/// See the module.
pub(crate) struct Maker {
    pub(crate) boot: u64,
    feed: Feed,
    leads: usize,
    table: Timetable,
    clock: DeviceClock,
    kind: ClockKind,
    historical: bool,
    seq: u64,
    ended: bool,
}

/// What a maker is made from.
pub(crate) struct Recipe {
    pub(crate) boot: u64,
    pub(crate) rate: Rate,
    pub(crate) leads: Vec<Lead>,
    pub(crate) model: String,
    pub(crate) feed: Feed,
    pub(crate) kind: ClockKind,
    pub(crate) frame_ns: i64,
    pub(crate) start_ns: i64,
    pub(crate) pace: Pace,
}

impl Maker {
    /// The maker, and the encoded birth of its boot.
    pub(crate) fn new(recipe: Recipe) -> Outcome<(Self, Bytes)> {
        let Recipe {
            boot,
            rate,
            leads,
            model,
            feed,
            kind,
            frame_ns,
            start_ns,
            pace,
        } = recipe;
        let table = Timetable::new(rate, frame_ns, leads.len(), start_ns, pace)?;
        let maker = Self {
            boot,
            feed,
            leads: leads.len(),
            table,
            clock: DeviceClock::new(kind, start_ns),
            kind,
            historical: !pace.is_live(),
            seq: 0,
            ended: false,
        };
        let firmware = concat!("chordae-device-sim ", env!("CARGO_PKG_VERSION")).to_owned();
        let birth = Birth {
            boot,
            rate,
            leads,
            model,
            firmware,
            clock: kind,
        };
        Ok((maker, Bytes::from(birth.encode())))
    }

    /// When the next frame is due, ns after the start; `None` at the end.
    pub(crate) fn due_ns(&self) -> Outcome<Option<u64>> {
        if self.ended {
            Ok(None)
        } else {
            self.table.due_ns(self.seq).map(Some)
        }
    }

    /// Whether the stream has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Ends the stream.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The next frame; `None` at the end.
    pub(crate) fn make(&mut self, luck: &mut Misfortune) -> Outcome<Option<Kept>> {
        let codes = if self.ended {
            Vec::new()
        } else {
            self.feed.take(self.table.per_frame())
        };
        if codes.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        if luck.jumps() {
            let back = self.clock.jumped_ns() > 0;
            self.clock.jump(if back { -JUMP_NS } else { JUMP_NS });
        }
        let samples = u32::try_from(codes.len() / self.leads.max(1)).unwrap_or(u32::MAX);
        let frame = Frame {
            boot: self.boot,
            seq: self.seq,
            t0_ns: self.clock.says(self.table.t0_ns(self.seq)?),
            samples,
            codes,
            historical: self.historical,
            clock: self.kind,
        };
        self.seq += 1;
        Ok(Some(Kept {
            seq: frame.seq,
            t0_ns: frame.t0_ns,
            samples,
            digest: frame.codes_digest(),
            payload: Bytes::from(frame.encode()),
        }))
    }

    /// Lets the next frame fall: its samples were taken and nobody kept them.
    pub(crate) fn lose(&mut self) {
        if self.feed.take(self.table.per_frame()).is_empty() {
            self.ended = true;
        } else {
            self.seq += 1;
        }
    }
}
