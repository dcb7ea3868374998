//! Where samples come from: a WFDB record or the synthesis, as an endless or a finite feed.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, Rate,
    wire::{ClockKind, Frame, Lead},
};

use crate::{
    ecgsyn::Ecg,
    wfdb::{self, Record},
};

/// What the devices of a fleet send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A WFDB record (its header); of its leads the first so many, or all.
    Record {
        /// The header file.
        path: PathBuf,
        /// Leads kept.
        leads: Option<usize>,
    },
    /// Synthetic ECG.
    Synthetic {
        /// 1, 2, 3 or 12.
        leads: usize,
        /// Samples per second.
        rate: Rate,
    },
}

/// A source made ready once for all devices.
#[derive(Debug, Clone)]
pub(crate) enum Stock {
    Record(Arc<Record>),
    Synthetic { leads: usize, rate: Rate },
}

impl Stock {
    pub(crate) fn open(source: &Source) -> Outcome<Self> {
        Ok(match source {
            Source::Record { path, leads } => {
                let record = wfdb::read(path)?;
                Self::Record(Arc::new(match leads {
                    Some(n) => record.keep_leads(*n)?,
                    None => record,
                }))
            }
            Source::Synthetic { leads, rate } => Self::Synthetic {
                leads: *leads,
                rate: *rate,
            },
        })
    }

    pub(crate) fn rate(&self) -> Rate {
        match self {
            Self::Record(record) => record.rate,
            Self::Synthetic { rate, .. } => *rate,
        }
    }

    /// What it calls itself in a birth.
    pub(crate) fn model(&self) -> String {
        match self {
            Self::Record(record) => format!("device-sim wfdb {}", record.name),
            Self::Synthetic { .. } => "device-sim ecgsyn".to_owned(),
        }
    }

    /// Samples per lead; `None` if there is no end.
    pub(crate) fn samples(&self) -> Option<u64> {
        match self {
            Self::Record(record) => Some(record.samples() as u64),
            Self::Synthetic { .. } => None,
        }
    }

    /// The same source at another rate, with another number of leads.
    pub(crate) fn changed(&self, rate: Option<Rate>, leads: Option<usize>) -> Outcome<Self> {
        match self {
            Self::Record(_) if rate.is_some() => Err(Failure::bad_input(
                "a record has the rate that it was recorded at",
            )),
            Self::Record(record) => {
                let all = record.leads.len();
                let kept = Record::clone(record).keep_leads(leads.unwrap_or(all))?;
                Ok(Self::Record(Arc::new(kept)))
            }
            Self::Synthetic { leads: n, rate: r } => {
                let (leads, rate) = (leads.unwrap_or(*n), rate.unwrap_or(*r));
                Ecg::new(leads, rate, 0)?;
                Ok(Self::Synthetic { leads, rate })
            }
        }
    }

    /// The feed of one device and what its leads are.
    pub(crate) fn feed(&self, seed: u64, most: Option<u64>) -> Outcome<(Feed, Vec<Lead>)> {
        let (tap, leads) = match self {
            Self::Record(record) => (Tap::Record(Arc::clone(record), 0), record.leads.clone()),
            Self::Synthetic { leads, rate } => {
                let ecg = Ecg::new(*leads, *rate, seed)?;
                let leads = ecg.leads();
                (Tap::Synthetic(Box::new(ecg)), leads)
            }
        };
        Ok((Feed { tap, left: most }, leads))
    }
}

/// Frames made once for a whole fleet: everything of a frame but its head.
pub(crate) struct Loop {
    turns: Vec<Coded>,
    leads: Vec<Lead>,
}

/// The samples of a frame, as they come to a maker.
pub(crate) enum Piece {
    /// Codes, lead after lead.
    Codes(Vec<i32>),
    /// Encoded already.
    Coded(Coded),
}

/// The end of an encoded frame: its samples, and their digest.
#[derive(Clone)]
pub(crate) struct Coded {
    pub(crate) samples: u32,
    pub(crate) digest: [u8; 32],
    pub(crate) tail: Bytes,
}

impl Loop {
    /// So many frames of `per_frame` samples, to be sent over and over.
    pub(crate) fn record(stock: &Stock, seed: u64, per_frame: u64, frames: usize) -> Outcome<Self> {
        let (mut feed, leads) = stock.feed(seed, None)?;
        let mut turns = Vec::with_capacity(frames);
        for _ in 0..frames {
            let codes = feed.codes(per_frame);
            if codes.is_empty() {
                break;
            }
            let samples = u32::try_from(codes.len() / leads.len().max(1)).unwrap_or(u32::MAX);
            // A message whose head is all zero encodes to its samples alone; protocol buffers merge
            // what is appended, so a head in front of it makes a frame.
            let frame = Frame {
                boot: 0,
                seq: 0,
                t0_ns: 0,
                samples,
                codes,
                historical: false,
                clock: ClockKind::Unknown,
            };
            turns.push(Coded {
                samples,
                digest: frame.codes_digest(),
                tail: frame.encode().into(),
            });
        }
        Ok(Self { turns, leads })
    }

    /// A feed that begins at the given turn, so that devices do not send the same at the same time.
    pub(crate) fn feed(this: &Arc<Self>, turn: usize, most: Option<u64>) -> (Feed, Vec<Lead>) {
        let tap = Tap::Loop(Arc::clone(this), turn);
        (Feed { tap, left: most }, this.leads.clone())
    }
}

/// Samples, as many as are asked for, until there are none.
pub(crate) struct Feed {
    tap: Tap,
    left: Option<u64>,
}

enum Tap {
    Record(Arc<Record>, usize),
    Synthetic(Box<Ecg>),
    Loop(Arc<Loop>, usize),
}

impl Feed {
    /// Samples (per lead) still to come, where there is an end.
    pub(crate) fn left(&self) -> Option<u64> {
        let in_record = match &self.tap {
            Tap::Record(record, at) => Some(record.samples().saturating_sub(*at) as u64),
            _ => None,
        };
        match (self.left, in_record) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// At most `samples` of every lead; `None` at the end. A loop gives its own number of samples.
    pub(crate) fn take(&mut self, samples: u64) -> Option<Piece> {
        let Tap::Loop(looped, turn) = &mut self.tap else {
            let codes = self.codes(samples);
            return (!codes.is_empty()).then_some(Piece::Codes(codes));
        };
        let coded = looped.turns.get(*turn % looped.turns.len().max(1))?.clone();
        *turn += 1;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(u64::from(coded.samples))?;
        }
        Some(Piece::Coded(coded))
    }

    fn codes(&mut self, samples: u64) -> Vec<i32> {
        let allowed = self.left.map_or(samples, |left| left.min(samples));
        let n = usize::try_from(allowed).unwrap_or(usize::MAX);
        let (codes, taken) = match &mut self.tap {
            Tap::Record(record, at) => {
                let until = at.saturating_add(n).min(record.samples());
                let cut = |column: &Vec<i32>| column.get(*at..until).unwrap_or(&[]).to_vec();
                let codes = record.codes.iter().flat_map(cut).collect();
                let taken = until - *at;
                *at = until;
                (codes, taken)
            }
            Tap::Synthetic(ecg) => (ecg.take(n), n),
            Tap::Loop(..) => (Vec::new(), 0),
        };
        if let Some(left) = &mut self.left {
            *left -= taken as u64;
        }
        codes
    }
}
