//! The figures of a report, computed from links and metadata alone.
//!
//! Invariant: a pure function of the chunks and the span; whoever has the evidence gets the same figures.
//! Where metadata do not locate the rows (a chunk with missing frames that the span cuts) a figure is a
//! pair of bounds, never a guess.

use std::collections::{BTreeMap, BTreeSet};

use chordae_base::{Span, limits, wire::ClockKind};
use serde::{Deserialize, Serialize};

use super::gaps::{Cause, Gap, clipped, gaps, holes};
use crate::{bundle::KnownChunk, meta::Lane};

/// What is there and what is not. Times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Length of the span, without what could not be there yet.
    pub known_ns: i64,
    /// Time with rows: at least, at most.
    pub present_ns: (i64, i64),
    /// The same as parts per million of `known_ns`.
    pub present_ppm: (u32, u32),
    /// Chunks, rows, frames, boots.
    pub counts: Counts,
    /// What is missing, by time; at most [`limits::REPORT_GAPS_MAX`].
    pub gaps: Vec<Gap>,
    /// Gaps beyond those.
    pub gaps_more: u64,
    /// Time missing, by cause, all gaps counted.
    pub lost_ns: BTreeMap<Cause, i64>,
    /// What devices said of their clocks and what was made of it, by boot and time.
    pub clocks: Vec<Clock>,
    /// Offsets that were added to claimed times: smallest and largest.
    pub offset_ns: Option<(i64, i64)>,
    /// A live row is received after it is sampled, so the times used are behind ours by at most this (a
    /// negative number: ahead by at least so much).
    pub behind_at_most_ns: Option<i64>,
    /// Smallest and largest difference between a frame's t0 and the end of the frame before it.
    pub jitter_ns: Option<(i64, i64)>,
    /// Every lead with its scale, as often as it changes.
    pub leads: Vec<LeadFigure>,
    /// Samples per second, as fractions.
    pub rates: Vec<(u32, u32)>,
    /// The picture: what is there, in order of time.
    pub band: Vec<Band>,
}

/// How many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Chunks that touch the span.
    pub chunks: u64,
    /// Those of the late lane.
    pub late_chunks: u64,
    /// Rows in them, also those beyond the span's edges.
    pub rows: u64,
    /// Rows that came late.
    pub late_rows: u64,
    /// Seqs that are there, by boot and summed.
    pub frames: u64,
    /// Seqs that are missing between others.
    pub missing_frames: u64,
    /// Boots of the device.
    pub boots: u64,
    /// First and last index.
    pub indexes: Option<(u64, u64)>,
}

/// One clock mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Boot of the device.
    pub boot: u64,
    /// What it said of its clock.
    pub quality: ClockKind,
    /// Added to its times.
    pub offset_ns: i64,
    /// First row under it.
    pub from_ns: i64,
    /// End of the last.
    pub until_ns: i64,
    /// Rows under it.
    pub rows: u64,
}

/// A lead as its birth described it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeadFigure {
    /// Its name.
    pub name: String,
    /// ISO/IEEE 11073-10101 code, 0 if none.
    pub mdc: u32,
    /// ADC codes per unit, in decimal.
    pub gain: String,
    /// ADC code of 0 units.
    pub baseline: i32,
    /// UCUM unit.
    pub unit: String,
    /// Resolution of the converter.
    pub bits: u32,
}

/// What a piece of the picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Rows, in order.
    Present,
    /// Rows that came late.
    Late,
    /// Rows with missing frames among them.
    Holed,
}

/// A piece of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Where it begins.
    pub from_ns: i64,
    /// Where it ends.
    pub until_ns: i64,
    /// What it shows.
    pub kind: Kind,
}

/// Computes the figures of `known`: the span without what could not be there yet. `chunks` by index.
pub fn figures(chunks: &[KnownChunk], known: Span) -> Figures {
    let known_ns = known.until_ns.saturating_sub(known.from_ns).max(0);
    let present_ns = present(chunks, known);
    let ppm = |ns: i64| {
        let whole = i128::from(known_ns.max(1));
        u32::try_from(i128::from(ns) * 1_000_000 / whole).unwrap_or(1_000_000)
    };
    let mut gaps = gaps(chunks, known);
    let mut lost_ns: BTreeMap<Cause, i64> = BTreeMap::new();
    let mut missing_frames = 0u64;
    for gap in &gaps {
        let lost = lost_ns.entry(gap.cause).or_default();
        *lost = lost.saturating_add(gap.lost_ns);
        let seqs = gap.seq.map_or(0, |(a, b)| (b - a).saturating_add(1));
        missing_frames = missing_frames.saturating_add(seqs);
    }
    let more = gaps.len().saturating_sub(limits::REPORT_GAPS_MAX);
    gaps.truncate(limits::REPORT_GAPS_MAX);
    let live = || chunks.iter().filter(|c| c.meta.lane == Lane::Live);
    let unsynced = || {
        let all = chunks.iter().map(|c| c.meta.clock);
        all.filter(|c| c.quality != ClockKind::Synced)
            .map(|c| c.offset_ns)
    };
    Figures {
        known_ns,
        present_ns,
        present_ppm: (ppm(present_ns.0), ppm(present_ns.1)),
        counts: counts(chunks, missing_frames),
        gaps,
        gaps_more: more as u64,
        lost_ns,
        clocks: clocks(chunks),
        offset_ns: unsynced().min().zip(unsynced().max()),
        behind_at_most_ns: live()
            .map(|c| c.meta.received.1.saturating_sub(c.link.end_ns))
            .min(),
        jitter_ns: (chunks.iter().map(|c| c.meta.jitter_ns.0).min())
            .zip(chunks.iter().map(|c| c.meta.jitter_ns.1).max()),
        leads: leads(chunks),
        rates: rates(chunks),
        band: band(chunks, known),
    }
}

fn counts(chunks: &[KnownChunk], missing_frames: u64) -> Counts {
    let late = || chunks.iter().filter(|c| c.meta.lane == Lane::Late);
    let mut boots: BTreeMap<u64, chordae_base::RangeSet> = BTreeMap::new();
    for c in chunks {
        let seqs = boots.entry(c.meta.boot).or_default();
        for (a, b) in c.meta.covered().iter() {
            seqs.insert_range(a, b);
        }
    }
    let frames = boots
        .values()
        .flat_map(|seqs| seqs.iter())
        .map(|(a, b)| (b - a).saturating_add(1));
    Counts {
        chunks: chunks.len() as u64,
        late_chunks: late().count() as u64,
        rows: chunks.iter().map(|c| u64::from(c.link.rows)).sum(),
        late_rows: late().map(|c| u64::from(c.link.rows)).sum(),
        frames: frames.fold(0, u64::saturating_add),
        missing_frames,
        boots: boots.len() as u64,
        indexes: (chunks.first().map(|c| c.link.index)).zip(chunks.last().map(|c| c.link.index)),
    }
}

/// Bounds of the time with rows. Under one clock mapping of one boot rows do not repeat in time; two
/// mappings can overlap, so what they may share is taken off the lower bound.
fn present(chunks: &[KnownChunk], known: Span) -> (i64, i64) {
    let mut mappings: BTreeMap<(u64, ClockKind, i64), Vec<Span>> = BTreeMap::new();
    let (mut least, mut most) = (0i64, 0i64);
    for c in chunks {
        let Some(part) = clipped(c.link.span(), known) else {
            continue;
        };
        let whole = c.link.end_ns.saturating_sub(c.link.first_ns);
        let inside = part.until_ns.saturating_sub(part.from_ns);
        let rows = c.meta.rate.after_ns(u64::from(c.link.rows));
        let mut rows = rows.unwrap_or(whole).min(whole);
        // What jitter stretches is not missing.
        if c.meta.missing.is_empty() && whole.saturating_sub(rows) <= limits::JITTER_NS_MAX {
            rows = whole;
        }
        least = least.saturating_add(rows.saturating_sub(whole.saturating_sub(inside)).max(0));
        most = most.saturating_add(rows.min(inside));
        let clock = c.meta.clock;
        let key = (c.meta.boot, clock.quality, clock.offset_ns);
        mappings.entry(key).or_default().push(part);
    }
    let length = |spans: Vec<Span>| {
        let holes = holes(spans, known);
        let empty: i64 = (holes.iter().map(|h| h.until_ns.saturating_sub(h.from_ns))).sum();
        (known.until_ns.saturating_sub(known.from_ns)).saturating_sub(empty)
    };
    let all: Vec<Span> = mappings.values().flatten().copied().collect();
    let union = length(all);
    let each: i64 = mappings
        .into_values()
        .map(length)
        .fold(0, i64::saturating_add);
    let shared = each.saturating_sub(union);
    let most = most.min(union);
    (least.saturating_sub(shared).clamp(0, most.max(0)), most)
}

fn clocks(chunks: &[KnownChunk]) -> Vec<Clock> {
    let mut found: Vec<Clock> = Vec::new();
    let mut by_time: Vec<&KnownChunk> = chunks.iter().collect();
    by_time.sort_by_key(|c| (c.link.first_ns, c.link.index));
    for c in by_time {
        let same = found.iter_mut().rev().find(|f| {
            f.boot == c.meta.boot
                && f.quality == c.meta.clock.quality
                && f.offset_ns == c.meta.clock.offset_ns
        });
        match same {
            Some(clock) => {
                clock.until_ns = clock.until_ns.max(c.link.end_ns);
                clock.rows = clock.rows.saturating_add(u64::from(c.link.rows));
            }
            None => found.push(Clock {
                boot: c.meta.boot,
                quality: c.meta.clock.quality,
                offset_ns: c.meta.clock.offset_ns,
                from_ns: c.link.first_ns,
                until_ns: c.link.end_ns,
                rows: u64::from(c.link.rows),
            }),
        }
    }
    found
}

fn leads(chunks: &[KnownChunk]) -> Vec<LeadFigure> {
    let mut found: Vec<LeadFigure> = Vec::new();
    for lead in chunks.iter().flat_map(|c| &c.meta.leads) {
        let figure = LeadFigure {
            name: lead.name.clone(),
            mdc: lead.mdc,
            gain: lead.gain.to_string(),
            baseline: lead.baseline,
            unit: lead.unit.clone(),
            bits: lead.bits,
        };
        if !found.contains(&figure) {
            found.push(figure);
        }
    }
    found
}

fn rates(chunks: &[KnownChunk]) -> Vec<(u32, u32)> {
    let all: BTreeSet<(u32, u32)> = chunks.iter().map(|c| c.meta.rate.into()).collect();
    all.into_iter().collect()
}

/// Pieces in order of time; those shorter than the picture can show join their neighbour.
fn band(chunks: &[KnownChunk], known: Span) -> Vec<Band> {
    let known_ns = known.until_ns.saturating_sub(known.from_ns);
    let finest = (known_ns / limits::REPORT_BAND_MAX).max(limits::JITTER_NS_MAX);
    let mut by_time: Vec<&KnownChunk> = chunks.iter().collect();
    by_time.sort_by_key(|c| (c.link.first_ns, c.link.index));
    let mut pieces: Vec<Band> = Vec::new();
    for c in by_time {
        let Some(part) = clipped(c.link.span(), known) else {
            continue;
        };
        let kind = match (c.meta.lane, c.meta.missing.is_empty()) {
            (Lane::Late, _) => Kind::Late,
            (Lane::Live, true) => Kind::Present,
            (Lane::Live, false) => Kind::Holed,
        };
        let short = part.until_ns.saturating_sub(part.from_ns) < finest;
        match pieces.last_mut() {
            Some(last)
                if part.from_ns.saturating_sub(last.until_ns) <= finest
                    && (short || last.kind == kind) =>
            {
                last.until_ns = last.until_ns.max(part.until_ns);
            }
            _ => pieces.push(Band {
                from_ns: part.from_ns,
                until_ns: part.until_ns,
                kind,
            }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{super::gaps::span, *};

    #[test]
    fn holes_are_what_no_span_covers() {
        let all = vec![span(5, 7), span(0, 2), span(1, 3), span(9, 20)];
        assert_eq!(holes(all, span(0, 10)), [span(3, 5), span(7, 9)]);
        assert_eq!(holes(Vec::new(), span(0, 10)), [span(0, 10)]);
        assert_eq!(holes(vec![span(-5, 50)], span(0, 10)), []);
    }
}
