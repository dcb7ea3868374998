//! What is missing in a span, where, and why, as far as links and metadata tell.
//!
//! ```text
//! seqs    0 1 2 . . 5 6 | 0 1 2 3      boots: what is not held between two seqs was not delivered
//! time    [====]    [===]     [====]   spans: a hole without a missing seq has another cause
//! ```
//!
//! Where a frame lay in time is exact at the edge of a chunk and estimated inside one (its frames taken
//! to be equally long). A frame that is missing here may also lie in quarantine, or wait in a bucket that
//! is not sealed: no chunk tells.

use std::collections::BTreeMap;

use chordae_base::{RangeSet, Span, limits, time::SECOND_NS};
use serde::{Deserialize, Serialize};

use crate::bundle::KnownChunk;

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Frames of these seqs are in no chunk: never delivered, refused, or in quarantine.
    NotDelivered,
    /// The device started over.
    BetweenBoots,
    /// No frame is missing: the device's clock jumped ahead, or it stopped sampling.
    ClockStep,
    /// The newest rows lie in buckets that are still open.
    NotSealedYet,
    /// The stream begins later.
    BeforeTheStream,
    /// Nothing has come since.
    NothingSince,
    /// What lies before the span would tell, and is not shown.
    Unknown,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NotDelivered,
        Self::BetweenBoots,
        Self::ClockStep,
        Self::NotSealedYet,
        Self::BeforeTheStream,
        Self::NothingSince,
        Self::Unknown,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotDelivered => "frames not delivered, refused or in quarantine",
            Self::BetweenBoots => "between two boots of the device",
            Self::ClockStep => "the device's clock stepped, or it paused; no frame is missing",
            Self::NotSealedYet => "not sealed yet",
            Self::BeforeTheStream => "before the stream begins",
            Self::NothingSince => "nothing has come since",
            Self::Unknown => "not told by what was shown",
        }
    }
}

/// How well a gap's place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Both ends.
    Exact,
    /// Frames taken to be equally long.
    Estimated,
    /// Somewhere inside.
    Inside,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// Where it begins.
    pub from_ns: i64,
    /// Where it ends.
    pub until_ns: i64,
    /// How much of that is missing.
    pub lost_ns: i64,
    /// Why.
    pub cause: Cause,
    /// How well the place is known.
    pub place: Place,
    /// The boot whose frames are missing.
    pub boot: Option<u64>,
    /// The missing seqs, inclusive.
    pub seq: Option<(u64, u64)>,
}

/// All gaps, by time.
pub(super) fn gaps(chunks: &[KnownChunk], known: Span) -> Vec<Gap> {
    let mut gaps = undelivered(chunks, known);
    let mut there: Vec<Span> = chunks.iter().map(|c| c.link.span()).collect();
    there.extend(gaps.iter().map(|g| span(g.from_ns, g.until_ns)));
    for hole in holes(there, known) {
        if hole.until_ns.saturating_sub(hole.from_ns) > limits::JITTER_NS_MAX {
            gaps.push(explained(chunks, hole, known));
        }
    }
    gaps.extend(chunks.iter().filter_map(|c| paused(c, known)));
    gaps.sort_by_key(|g| (g.from_ns, g.until_ns, g.seq));
    gaps
}

pub(super) fn span(from_ns: i64, until_ns: i64) -> Span {
    Span { from_ns, until_ns }
}

/// The part of a span inside the window.
pub(super) fn clipped(s: Span, window: Span) -> Option<Span> {
    let cut = span(
        s.from_ns.max(window.from_ns),
        s.until_ns.min(window.until_ns),
    );
    (cut.from_ns < cut.until_ns).then_some(cut)
}

/// The parts of the window that no span covers.
pub(super) fn holes(mut spans: Vec<Span>, window: Span) -> Vec<Span> {
    spans.sort_by_key(|s| (s.from_ns, s.until_ns));
    let mut holes = Vec::new();
    let mut at = window.from_ns;
    for s in spans {
        if s.from_ns > at {
            holes.extend(clipped(span(at, s.from_ns), window));
        }
        at = at.max(s.until_ns);
    }
    holes.extend(clipped(span(at, window.until_ns), window));
    holes
}

fn holds(c: &KnownChunk, seq: u64) -> bool {
    let inside = (c.meta.seq.0..=c.meta.seq.1).contains(&seq);
    let at = c.meta.missing.partition_point(|(_, b)| *b < seq);
    inside && c.meta.missing.get(at).is_none_or(|(a, _)| *a > seq)
}

/// When frame `seq` of a chunk begins, its frames taken to be equally long, and whether that is exact.
fn begins(c: &KnownChunk, seq: u64) -> (i64, bool) {
    if seq == c.meta.seq.0 {
        return (c.link.first_ns, true);
    }
    let (first, last) = c.meta.seq;
    let frames = i128::from(last - first) + 1;
    let length = i128::from(c.link.end_ns) - i128::from(c.link.first_ns);
    let at = i128::from(seq.saturating_sub(first)) * length / frames;
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    (c.link.first_ns.saturating_add(at), false)
}

fn ends(c: &KnownChunk, seq: u64) -> (i64, bool) {
    if seq == c.meta.seq.1 {
        return (c.link.end_ns, true);
    }
    begins(c, seq.saturating_add(1))
}

/// Seqs between two that are there, in no chunk of the boot.
fn undelivered(chunks: &[KnownChunk], known: Span) -> Vec<Gap> {
    let mut boots: BTreeMap<u64, Vec<&KnownChunk>> = BTreeMap::new();
    for c in chunks {
        boots.entry(c.meta.boot).or_default().push(c);
    }
    let mut found = Vec::new();
    for (boot, of) in boots {
        let mut seqs = RangeSet::new();
        for c in &of {
            for (a, b) in c.meta.covered().iter() {
                seqs.insert_range(a, b);
            }
        }
        let first = seqs.iter().next().map_or(0, |(a, _)| a);
        for (a, b) in seqs.gaps(first, seqs.last().unwrap_or(first)) {
            let holding = |seq: u64| of.iter().filter(move |c| holds(c, seq));
            let before = holding(a.saturating_sub(1)).max_by_key(|c| c.link.end_ns);
            let after = holding(b.saturating_add(1)).min_by_key(|c| c.link.first_ns);
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            let (from, sure_from) = ends(before, a.saturating_sub(1));
            let (until, sure_until) = begins(after, b.saturating_add(1));
            let place = if sure_from && sure_until {
                Place::Exact
            } else {
                Place::Estimated
            };
            let whole = span(from, until.max(from));
            // Frames may be missing where no time is: the numbers alone then say so.
            let inside = clipped(whole, known).or_else(|| {
                (whole.from_ns == whole.until_ns && known.holds(from)).then_some(whole)
            });
            if let Some(part) = inside {
                found.push(Gap {
                    from_ns: part.from_ns,
                    until_ns: part.until_ns,
                    lost_ns: part.until_ns.saturating_sub(part.from_ns),
                    cause: Cause::NotDelivered,
                    place,
                    boot: Some(boot),
                    seq: Some((a, b)),
                });
            }
        }
    }
    found
}

/// A hole in which no seq is missing.
fn explained(chunks: &[KnownChunk], hole: Span, known: Span) -> Gap {
    let before = chunks
        .iter()
        .filter(|c| c.link.end_ns <= hole.from_ns)
        .max_by_key(|c| c.link.end_ns);
    let after = chunks
        .iter()
        .filter(|c| c.link.first_ns >= hole.until_ns)
        .min_by_key(|c| c.link.first_ns);
    let cause = match (before, after) {
        (None, None) => Cause::Unknown,
        (None, Some(next)) if next.link.index == 0 => Cause::BeforeTheStream,
        (None, Some(next)) if next.meta.seq.0 == 0 => Cause::BetweenBoots,
        (None, Some(_)) => Cause::Unknown,
        (Some(last), None) => {
            let open = last.link.slot_len_ns.saturating_add(SETTLING_NS);
            if known.until_ns.saturating_sub(last.link.end_ns) < open {
                Cause::NotSealedYet
            } else {
                Cause::NothingSince
            }
        }
        (Some(a), Some(b)) if a.meta.boot != b.meta.boot => Cause::BetweenBoots,
        (Some(_), Some(_)) => Cause::ClockStep,
    };
    Gap {
        from_ns: hole.from_ns,
        until_ns: hole.until_ns,
        lost_ns: hole.until_ns.saturating_sub(hole.from_ns),
        cause,
        place: Place::Exact,
        boot: None,
        seq: None,
    }
}

/// What a bucket may wait for beyond its slot: grace, the late lane, the seal itself.
const SETTLING_NS: i64 = 120 * SECOND_NS;

/// Time inside a chunk that neither rows nor missing frames account for.
fn paused(c: &KnownChunk, known: Span) -> Option<Gap> {
    let whole = clipped(c.link.span(), known).filter(|part| *part == c.link.span())?;
    let length = whole.until_ns.saturating_sub(whole.from_ns);
    let rows = c.meta.rate.after_ns(u64::from(c.link.rows)).ok()?;
    let lost = length.saturating_sub(rows);
    (c.meta.missing.is_empty() && lost > limits::JITTER_NS_MAX).then_some(Gap {
        from_ns: whole.from_ns,
        until_ns: whole.until_ns,
        lost_ns: lost,
        cause: Cause::ClockStep,
        place: Place::Inside,
        boot: Some(c.meta.boot),
        seq: None,
    })
}
