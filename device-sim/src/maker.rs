//! Makes the frames of one device: samples, times, numbers, bytes. No clock and no network in here;
//! how long it has been since the start comes in.
//!
//! A [`Workshop`] makes makers: a maker is one boot, and a device that changes its rate or its leads
//! goes on with the next. Within a boot the *turn* counts frames of the timetable and the *seq* those
//! that were numbered: they part when a device is stopped for a while, or starts over.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{
    Outcome, Rate,
    wire::{Birth, ClockKind, Frame},
};

use crate::{
    dice::Dice,
    faults::{Misfortune, REUSE_AFTER},
    source::{Coded, Feed, Loop, Piece, Stock},
    spool::Kept,
    timetable::{DeviceClock, Pace, Timetable},
};

/// What the makers of one device are made from.
pub(crate) struct Workshop {
    pub(crate) stock: Stock,
    /// Frames that the fleet shares, and where this device begins.
    pub(crate) looped: Option<(Arc<Loop>, usize)>,
    pub(crate) seed: u64,
    pub(crate) boots: Dice,
    pub(crate) kind: ClockKind,
    pub(crate) skew_ns: i64,
    pub(crate) drift_ppm: i64,
    pub(crate) frame_ns: i64,
    pub(crate) pace: Pace,
    pub(crate) first_seq: u64,
}

impl Workshop {
    /// The maker of a boot (drawn unless given) whose first sample lies at `start_ns`, and its encoded
    /// birth.
    pub(crate) fn maker(
        &mut self,
        boot: Option<u64>,
        start_ns: i64,
        samples: Option<u64>,
    ) -> Outcome<(Maker, Bytes)> {
        let boot = boot.unwrap_or_else(|| self.boots.bits());
        let (feed, leads) = match &self.looped {
            Some((looped, turn)) => Loop::feed(looped, *turn, samples),
            None => self.stock.feed(self.seed, samples)?,
        };
        let rate = self.stock.rate();
        let table = Timetable::new(rate, self.frame_ns, leads.len(), start_ns, self.pace)?;
        let maker = Maker {
            boot,
            feed,
            leads: leads.len(),
            rate,
            table,
            clock: DeviceClock::new(self.kind, start_ns).wrong(self.skew_ns, self.drift_ppm),
            historical: !self.pace.is_live(),
            turn: 0,
            seq: self.first_seq,
            first_seq: self.first_seq,
            ended: false,
            first: Vec::new(),
        };
        let birth = Birth {
            boot,
            rate,
            leads,
            model: self.stock.model(),
            firmware: concat!("chordae-device-sim ", env!("CARGO_PKG_VERSION")).to_owned(),
            clock: self.kind,
        };
        Ok((maker, Bytes::from(birth.encode())))
    }

    /// The next boot, which goes on where `before` stands, at another rate or with other leads.
    pub(crate) fn change(
        &mut self,
        before: &Maker,
        rate: Option<Rate>,
        leads: Option<usize>,
    ) -> Outcome<(Maker, Bytes)> {
        let stock = self.stock.changed(rate, leads)?;
        let left = match before.feed.left() {
            Some(left) => Some(before.rate.after_ns(left)?),
            None => None,
        };
        let samples = left.map(|ns| crate::timetable::samples_in(ns, stock.rate()));
        let old = std::mem::replace(&mut self.stock, stock);
        let looped = self.looped.take();
        // The same heart goes on, but not the same noise.
        self.seed = self.seed.wrapping_add(1);
        let made = before
            .next_ns()
            .and_then(|start_ns| self.maker(None, start_ns, samples));
        if made.is_err() {
            (self.stock, self.looped) = (old, looped);
        }
        made
    }

    /// What the device says it is.
    pub(crate) fn identity(&self, maker: &Maker) -> String {
        format!(
            "{}, {} leads at {}/{} Hz, boot {}",
            self.stock.model(),
            maker.leads,
            maker.rate.num(),
            maker.rate.den(),
            maker.boot
        )
    }
}

/// See the module.
pub(crate) struct Maker {
    pub(crate) boot: u64,
    feed: Feed,
    leads: usize,
    rate: Rate,
    table: Timetable,
    clock: DeviceClock,
    historical: bool,
    turn: u64,
    seq: u64,
    first_seq: u64,
    ended: bool,
    /// The first frames of a boot whose number will be used again; empty afterwards.
    first: Vec<Kept>,
}

impl Maker {
    /// When the next frame is due, ns after the start; `None` at the end.
    pub(crate) fn due_ns(&self) -> Outcome<Option<u64>> {
        if self.ended {
            Ok(None)
        } else {
            self.table.due_ns(self.turn).map(Some)
        }
    }

    /// How long after the start the last frame was due.
    pub(crate) fn elapsed_ns(&self) -> Outcome<u64> {
        self.turn
            .checked_sub(1)
            .map_or(Ok(0), |turn| self.table.due_ns(turn))
    }

    /// True time of the next frame's first sample.
    pub(crate) fn next_ns(&self) -> Outcome<i64> {
        self.table.t0_ns(self.turn)
    }

    /// Whether the stream has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Ends the stream.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Sets the clock right.
    pub(crate) fn sync(&mut self) -> Outcome<()> {
        self.clock.sync(self.next_ns()?);
        Ok(())
    }

    /// Whether it is about to start over under the same boot number: the device waits until nothing
    /// is owed, so that what is refused then is told apart from what is acknowledged.
    pub(crate) fn starts_over(&self) -> bool {
        self.first.len() >= REUSE_AFTER
    }

    /// Starts over: numbers from the beginning, and the first frames out of its memory once more.
    pub(crate) fn start_over(&mut self) -> Vec<Kept> {
        self.seq = self.first_seq;
        let mut first = std::mem::take(&mut self.first);
        first.iter_mut().for_each(|f| f.again = true);
        first
    }

    /// The next frame; `None` at the end.
    pub(crate) fn make(&mut self, luck: &mut Misfortune) -> Outcome<Option<Kept>> {
        let piece = match self.ended {
            true => None,
            false => self.feed.take(self.table.per_frame()),
        };
        let Some(piece) = piece else {
            self.ended = true;
            return Ok(None);
        };
        let stands = luck.jumps(self.clock.jumped_ns());
        self.clock.jump(stands - self.clock.jumped_ns());
        let true_ns = self.table.t0_ns(self.turn)?;
        let t0_ns = self.clock.says(true_ns).saturating_add(luck.jitters());
        let kept = self.encode(piece, t0_ns, luck);
        self.turn += 1;
        // Past the greatest number comes 0 again: what a careless counter does.
        self.seq = self.seq.wrapping_add(1);
        let reuses =
            luck.faults.reuse_boot && kept.seq.wrapping_sub(self.first_seq) + 1 == self.turn;
        if reuses && self.first.len() < REUSE_AFTER {
            self.first.push(kept.clone());
        }
        Ok(Some(kept))
    }

    fn encode(&self, piece: Piece, t0_ns: i64, luck: &mut Misfortune) -> Kept {
        let mut frame = Frame {
            boot: self.boot,
            seq: self.seq,
            t0_ns,
            samples: 0,
            codes: Vec::new(),
            historical: self.historical,
            clock: self.clock.kind(),
        };
        let (samples, digest, payload) = match piece {
            Piece::Coded(Coded {
                samples,
                digest,
                tail,
            }) => (samples, digest, [frame.encode().as_slice(), &tail].concat()),
            Piece::Codes(mut codes) => {
                luck.exaggerates(&mut codes);
                frame.samples = u32::try_from(codes.len() / self.leads.max(1)).unwrap_or(u32::MAX);
                frame.codes = codes;
                (frame.samples, frame.codes_digest(), frame.encode())
            }
        };
        Kept {
            boot: self.boot,
            seq: self.seq,
            t0_ns,
            samples,
            digest,
            payload: payload.into(),
            again: false,
        }
    }

    /// Lets the next frame fall: its samples were taken and nobody kept them.
    pub(crate) fn lose(&mut self) {
        if self.pass() {
            self.seq = self.seq.wrapping_add(1);
        }
    }

    /// Lets the time of a frame pass without one; false at the end.
    pub(crate) fn pass(&mut self) -> bool {
        if self.feed.take(self.table.per_frame()).is_none() {
            self.ended = true;
            return false;
        }
        self.turn += 1;
        true
    }
}
