//! Where samples come from: a WFDB record or the synthesis, as an endless or a finite feed.

use std::{path::PathBuf, sync::Arc};

use chordae_base::{Outcome, Rate, wire::Lead};

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

/// Samples, as many as are asked for, until there are none.
pub(crate) struct Feed {
    tap: Tap,
    left: Option<u64>,
}

enum Tap {
    Record(Arc<Record>, usize),
    Synthetic(Box<Ecg>),
}

impl Feed {
    /// At most `samples` of every lead, lead after lead; empty at the end.
    pub(crate) fn take(&mut self, samples: u64) -> Vec<i32> {
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
        };
        if let Some(left) = &mut self.left {
            *left -= taken as u64;
        }
        codes
    }
}
