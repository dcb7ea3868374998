//! Which frames of a boot are durable, and whether another is the same (formats.md 2, "Same frame?").
//!
//! ```text
//! durable  ███████████████████████▌   every seq that was ever acknowledged
//! kept          ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▌   those still in the log: their print decides
//! ```
//!
//! A durable seq that is no longer kept has left the log; then the chunks decide, unless it went to
//! quarantine (`settled`), where no chunk knows it. Then nobody decides: a further frame of that seq may be
//! the same or another, and is put beside the first. Absorbed, another would be acknowledged and nowhere.

use std::collections::BTreeMap;

use chordae_base::RangeSet;

/// Digest prefix of (t0_ns, samples, codes).
pub type Print = [u8; 16];

/// Position of a record that no commit has covered yet: nothing trims it.
const UNWRITTEN: u64 = u64::MAX;

/// What is known of a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is new.
    New,
    /// The same frame is durable (or becomes so with this batch).
    Same,
    /// Another frame is.
    Other,
    /// One is, and has left the log: ask the chunks.
    Past,
    /// One lies in quarantine, and nobody knows whether it is the same.
    Aside,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    /// None after a restart where only the fact, not the frame, was found.
    print: Option<Print>,
    position: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    durable: RangeSet,
    settled: RangeSet,
    kept: BTreeMap<u64, Kept>,
}

impl Seen {
    /// What is known of `seq`.
    pub fn known(&self, seq: u64, print: &Print) -> Known {
        match self.kept.get(&seq) {
            Some(Kept { print: Some(p), .. }) if p == print => Known::Same,
            Some(Kept { print: Some(_), .. }) => Known::Other,
            Some(Kept { print: None, .. }) => Known::Same,
            None if self.settled.holds(seq) => Known::Aside,
            None if self.durable.holds(seq) => Known::Past,
            None => Known::New,
        }
    }

    /// A frame goes into the log with this batch.
    pub fn keep(&mut self, seq: u64, print: Option<Print>) {
        self.durable.insert(seq);
        let kept = self.kept.entry(seq).or_insert(Kept {
            print,
            position: UNWRITTEN,
        });
        kept.print = print.or(kept.print);
        kept.position = UNWRITTEN;
    }

    /// A frame lies in quarantine and needs no chunk.
    pub fn settle(&mut self, seq: u64, print: Option<Print>) {
        self.keep(seq, print);
        self.settled.insert(seq);
    }

    /// Whether `seq` lies in quarantine for good.
    pub fn is_settled(&self, seq: u64) -> bool {
        self.settled.holds(seq)
    }

    /// The print of `seq`, as long as it is kept.
    pub fn print(&self, seq: u64) -> Option<Print> {
        self.kept.get(&seq)?.print
    }

    /// The newest record of `seq` lies at `position`.
    pub fn locate(&mut self, seq: u64, position: u64) {
        if let Some(kept) = self.kept.get_mut(&seq) {
            kept.position = position;
        }
    }

    /// The log begins at `start` now.
    pub fn trim(&mut self, start: u64) {
        self.kept.retain(|_, k| k.position >= start);
    }

    /// Chunks hold these.
    pub fn cover(&mut self, seqs: &RangeSet) {
        for (first, last) in seqs.iter() {
            self.durable.insert_range(first, last);
        }
    }

    /// Every seq that was acknowledged.
    pub fn durable(&self) -> &RangeSet {
        &self.durable
    }

    /// How many prints are held.
    pub fn kept_len(&self) -> usize {
        self.kept.len()
    }
}
