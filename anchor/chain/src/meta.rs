//! Chunk metadata: the JSON in a chunk's footer under the key `chordae` (formats.md 3).
//!
//! One chunk has one text: keys sorted and unique, no spaces, integers plain, strings escaped only
//! where JSON demands it. Reading is strict: what [`ChunkMeta::to_json`] would not write is refused.
//! One freedom is left: `gain` may be any number that parses to the double, because other writers
//! print doubles differently. The text is hashed as stored and never re-serialised, so whoever
//! holds a [`ChunkMeta`] for a digest also holds the text it came from.

use chordae_base::{
    Did, Digest, Failure, Outcome, RangeSet, Rate, Span, limits,
    wire::{ClockKind, Lead},
};
use serde::Deserialize;

use crate::link::{self, Link};

mod json;

/// The clock mapping of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkClock {
    /// Added to the claimed times, nanoseconds; 0 when synced.
    pub offset_ns: i64,
    /// What the device said about its clock.
    pub quality: ClockKind,
}

/// The lane a chunk was cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Frames in order of seq as they arrived.
    Live,
    /// What came later, or falls into a slot whose live bucket was sealed by time.
    Late,
}

impl Lane {
    /// As in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Late => "late",
        }
    }
}

/// How the samples are encoded in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Plain codes that any Parquet tool reads.
    Open,
}

impl Profile {
    /// As in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
        }
    }
}

/// What a chunk says about itself. Times in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkMeta {
    /// Boot of the device.
    pub boot: u64,
    /// Clock mapping.
    pub clock: ChunkClock,
    /// The data stream.
    pub did: Did,
    /// min(last row's time + one sample, slot end).
    pub end_ns: i64,
    /// Time of the first row.
    pub first_ns: i64,
    /// Index in the chain of the did.
    pub index: u64,
    /// Smallest and largest difference between a frame's t0 and the end of the frame before it.
    pub jitter_ns: (i64, i64),
    /// Live or late.
    pub lane: Lane,
    /// The leads, in column order.
    #[serde(deserialize_with = "json::leads")]
    pub leads: Vec<Lead>,
    /// Inclusive ranges inside `seq` with no row in this chunk: ascending, apart from each other,
    /// strictly inside (the ends of `seq` have rows).
    pub missing: Vec<(u64, u64)>,
    /// Length of a page, always [`limits::PAGE_NS`].
    pub page_ns: i64,
    /// Digest of the link before, or the genesis of the did.
    pub prev: Digest,
    /// Encoding of the samples.
    pub profile: Profile,
    /// Samples per second.
    pub rate: Rate,
    /// First and last receive time.
    pub received: (i64, i64),
    /// Rows, at least one.
    pub rows: u32,
    /// First and last seq with a row in this chunk.
    pub seq: (u64, u64),
    /// Length of the slot.
    pub slot_len_ns: i64,
    /// Start of the slot.
    pub slot_start_ns: i64,
    /// Version of the format, 1.
    pub v: u32,
}

impl ChunkMeta {
    /// The one text of this metadata. (A gain that is not finite cannot be written; such metadata
    /// does not pass [`Self::check`] and its text is refused.)
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// Reads a text strictly.
    ///
    /// # Errors
    /// `BadInput` for a text that [`Self::to_json`] would not write (but for the spelling of
    /// `gain`), or whose values break [`Self::check`].
    pub fn parse(text: &str) -> Outcome<Self> {
        let meta = json::read(text).map_err(|e| e.during("chunk metadata"))?;
        meta.check()?;
        Ok(meta)
    }

    /// The rules that hold between the fields.
    ///
    /// # Errors
    /// `BadInput` naming the rule that is broken.
    pub fn check(&self) -> Outcome<()> {
        let span = Span {
            from_ns: self.first_ns,
            until_ns: self.end_ns,
        };
        link::check_frame((self.slot_start_ns, self.slot_len_ns), span, self.rows)
            .map_err(|e| e.during("chunk metadata"))?;
        check_leads(&self.leads)?;
        let synced_offset = self.clock.quality == ClockKind::Synced && self.clock.offset_ns != 0;
        let broken = if self.v != 1 {
            "version is not 1"
        } else if self.page_ns != limits::PAGE_NS {
            "page_ns is not 10^10"
        } else if synced_offset {
            "a synced clock has an offset"
        } else if self.jitter_ns.0 > self.jitter_ns.1 {
            "jitter_ns is not [min,max]"
        } else if self.received.0 > self.received.1 {
            "received is not [min,max]"
        } else if self.seq.0 > self.seq.1 {
            "seq is not [first,last]"
        } else if !missing_fits(self.seq, &self.missing) {
            "missing is not made of ascending separate ranges strictly inside seq"
        } else {
            return Ok(());
        };
        Err(Failure::bad_input(format!("chunk metadata: {broken}")))
    }

    /// The seqs with rows in this chunk: `seq` without `missing`.
    pub fn covered(&self) -> RangeSet {
        let mut covered = RangeSet::new();
        let mut next = Some(self.seq.0);
        for (a, b) in &self.missing {
            if let (Some(from), Some(to)) = (next, a.checked_sub(1)) {
                covered.insert_range(from, to);
            }
            next = b.checked_add(1);
        }
        if let Some(from) = next {
            covered.insert_range(from, self.seq.1);
        }
        covered
    }

    /// Whether link and metadata speak of the same chunk.
    ///
    /// # Errors
    /// `Damaged` naming the field in which they differ.
    pub fn check_link(&self, link: &Link) -> Outcome<()> {
        let differs = if self.did != link.did {
            "did"
        } else if self.index != link.index {
            "index"
        } else if self.slot_start_ns != link.slot_start_ns {
            "slot_start_ns"
        } else if self.slot_len_ns != link.slot_len_ns {
            "slot_len_ns"
        } else if self.first_ns != link.first_ns {
            "first_ns"
        } else if self.end_ns != link.end_ns {
            "end_ns"
        } else if self.rows != link.rows {
            "rows"
        } else if self.prev != link.prev {
            "prev"
        } else {
            return Ok(());
        };
        Err(Failure::damaged(format!(
            "metadata and link {} of {} differ in {differs}",
            link.index, link.did
        )))
    }

    /// Whether these are the row times of this chunk, as far as the metadata says: their number, the
    /// first and the end. (Order and slot are [`crate::pages::page_digests`]'s.)
    ///
    /// # Errors
    /// `Damaged` naming what differs.
    pub fn check_times(&self, times: &[i64]) -> Outcome<()> {
        let rows = u32::try_from(times.len()).ok();
        let slot_end = self.slot_start_ns.saturating_add(self.slot_len_ns);
        let sample = self.rate.after_ns(1)?;
        let end = times.last().map(|t| t.saturating_add(sample).min(slot_end));
        let differs = if rows != Some(self.rows) {
            "rows"
        } else if times.first() != Some(&self.first_ns) {
            "first_ns"
        } else if end != Some(self.end_ns) {
            "end_ns"
        } else {
            return Ok(());
        };
        Err(Failure::damaged(format!(
            "rows and metadata differ in {differs}"
        )))
    }
}

fn missing_fits(seq: (u64, u64), missing: &[(u64, u64)]) -> bool {
    // The last seq with a row so far; each range begins after it and leaves one seq behind it.
    let mut last = seq.0;
    missing.iter().all(|(a, b)| {
        let fits = *a > last && a <= b && *b < seq.1;
        last = b.saturating_add(1);
        fits
    })
}

/// The rules of formats.md 2 for leads; chunk files are read from disks that anybody may write.
fn check_leads(leads: &[Lead]) -> Outcome<()> {
    let bad = |why: String| Err(Failure::bad_input(format!("chunk metadata: {why}")));
    if !(1..=limits::LEADS_MAX).contains(&leads.len()) {
        return bad(format!(
            "{} leads, not 1 to {}",
            leads.len(),
            limits::LEADS_MAX
        ));
    }
    for (i, lead) in leads.iter().enumerate() {
        let name = lead.name.as_str();
        let printable = name
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && b != b'~');
        let fits = (1..=limits::LEAD_NAME_BYTES_MAX).contains(&name.len())
            && printable
            && name.trim_matches(' ') == name
            && !name.eq_ignore_ascii_case("time");
        if !fits {
            return bad(format!("{name:?} is not a lead name"));
        }
        if leads
            .iter()
            .take(i)
            .any(|other| other.name.eq_ignore_ascii_case(name))
        {
            return bad(format!("lead {name:?} occurs twice"));
        }
        if !lead.gain.is_finite() || lead.gain == 0.0 {
            return bad(format!("lead {name:?} has no usable gain"));
        }
        if !(8..=31).contains(&lead.bits) || lead.unit.len() > limits::TEXT_BYTES_MAX {
            return bad(format!("lead {name:?} has bits or a unit out of range"));
        }
    }
    Ok(())
}
