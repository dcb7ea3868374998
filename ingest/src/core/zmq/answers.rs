//! Acknowledgements drawn together: one commit covers many frames, and neighbours among them make one
//! range. Nothing is in a range that has not got its own verdict.

use std::collections::BTreeMap;

use chordae_base::{RangeSet, StreamKey};

use super::{
    outgoing::Outgoing,
    parts::{BIRTH, Number},
};

/// What is durable and has not been said.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    births: Vec<(StreamKey, u64)>,
    frames: BTreeMap<(StreamKey, u64), RangeSet>,
}

impl Answers {
    /// This is durable.
    pub fn durable(&mut self, stream: StreamKey, (boot, seq): Number) {
        if seq == BIRTH {
            self.births.push((stream, boot));
        } else {
            self.frames.entry((stream, boot)).or_default().insert(seq);
        }
    }

    /// All that is to be said, births first.
    pub fn take(&mut self) -> Vec<Outgoing> {
        let births = std::mem::take(&mut self.births).into_iter();
        let mut said: Vec<_> = births.map(|(s, boot)| Outgoing::Born(s, boot)).collect();
        for ((stream, boot), seqs) in std::mem::take(&mut self.frames) {
            let ranges = seqs.iter();
            said.extend(ranges.map(|(a, b)| Outgoing::Ack(stream.clone(), boot, a, b)));
        }
        said
    }
}
