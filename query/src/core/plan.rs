//! Which chunks answer a window, in which columns, and what it will cost.
//!
//! ```text
//! window           [from ─────────────────────────── until)
//! chunks      [ 3 ──────────)[ 4 ────────────)[ 5 ─────────── ...)     live lane
//!                      [ 6 ─)                                          late lane, same slot
//!             peak:    3 and 6 are in memory at one time
//! ```
//!
//! Everything is decided from links and metadata; no chunk is opened. Codes mean nothing without their
//! gain, so a window in which a lead's scale changes is refused with the instant of the change, and the
//! reader asks for the two parts.

use std::collections::BTreeMap;

use chordae_base::{Failure, Outcome, RangeSet, Rate, Span, limits, time, wire::Lead};

use chordae_chunk::DATA_PAGE_S;

use super::{access::Leads, ports::Touched};

/// How a window is answered. Chunks are in order of (first row in the window at the earliest, index).
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rows with a time in this span are sent.
    pub rows: Span,
    /// The chunks that may hold some.
    pub chunks: Vec<Touched>,
    /// The columns, in the order of the answer.
    pub columns: Vec<Column>,
    /// The sampling rates met, in order of first use.
    pub rates: Vec<Rate>,
    /// At most so many rows.
    pub rows_most: u64,
    /// At most so many bytes of decoded chunks in memory at one time.
    pub peak_bytes: u64,
}

/// One lead of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its scale, `None` when no chunk of the window has it.
    pub lead: Option<Lead>,
}

/// Makes a plan from the chunks that touch the rows' span; those after `upto` do not count.
///
/// # Errors
/// `BadInput` when the window must be asked for differently.
pub fn plan(touched: Vec<Touched>, rows: Span, leads: &Leads, upto: Option<u64>) -> Outcome<Plan> {
    let used = |t: &Touched| {
        t.link.rows > 0 && t.link.span().meets(&rows) && upto.is_none_or(|u| t.link.index <= u)
    };
    let mut chunks: Vec<Touched> = touched.into_iter().filter(used).collect();
    // By the first row that can be in the answer: what lies before the window does not count.
    chunks.sort_by_key(|t| (t.link.first_ns.max(rows.from_ns), t.link.index));
    let columns = columns(&chunks, leads)?;
    let mut rates = Vec::new();
    for chunk in &chunks {
        if !rates.contains(&chunk.meta.rate) {
            rates.push(chunk.meta.rate);
        }
    }
    let rows_most = chunks.iter().map(|t| u64::from(t.link.rows)).sum();
    if rows_most > limits::ANSWER_ROWS_MAX {
        return Err(Failure::bad_input(
            "the window holds too many rows: ask for shorter ones",
        ));
    }
    let peak_bytes = peak(&chunks, columns.len());
    if peak_bytes > limits::ANSWERS_MEMORY_BYTES {
        let why = "too many chunks overlap in the window: ask for fewer leads";
        return Err(Failure::bad_input(why));
    }
    Ok(Plan {
        rows,
        chunks,
        columns,
        rates,
        rows_most,
        peak_bytes,
    })
}

impl Plan {
    /// The part of the window from the first chunk's beginning to the last one's end.
    pub fn span(&self) -> Span {
        let starts = self.chunks.iter().map(|t| t.link.first_ns);
        let ends = self.chunks.iter().map(|t| t.link.end_ns);
        let from_ns = starts
            .min()
            .map_or(self.rows.from_ns, |ns| ns.max(self.rows.from_ns));
        let until_ns = ends
            .max()
            .map_or(self.rows.until_ns, |ns| ns.min(self.rows.until_ns));
        Span { from_ns, until_ns }
    }

    /// About how many rows the answer has, by the rates.
    pub fn rows_about(&self) -> u64 {
        let about = |t: &Touched| {
            let from_ns = t.link.first_ns.max(self.rows.from_ns);
            let ns = t
                .link
                .end_ns
                .min(self.rows.until_ns)
                .saturating_sub(from_ns);
            let (num, den) = (i128::from(t.meta.rate.num()), i128::from(t.meta.rate.den()));
            let rows = i128::from(ns) * num / (den.max(1) * i128::from(time::SECOND_NS)) + 1;
            u64::try_from(rows).unwrap_or(0).min(t.link.rows.into())
        };
        self.chunks.iter().map(about).fold(0, u64::saturating_add)
    }

    /// What [`super::merge::Merge`] orders the chunks by.
    pub fn keys(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.chunks
            .iter()
            .map(|t| (t.link.first_ns.max(self.rows.from_ns), t.link.index))
    }
}

fn columns(chunks: &[Touched], leads: &Leads) -> Outcome<Vec<Column>> {
    let mut found: Vec<(&Lead, i64)> = Vec::new();
    for chunk in chunks {
        for lead in &chunk.meta.leads {
            match found.iter().find(|(f, _)| f.name == lead.name) {
                None => found.push((lead, chunk.link.first_ns)),
                Some((first, _)) if wanted(leads, &lead.name) && !same_scale(first, lead) => {
                    return Err(Failure::bad_input(format!(
                        "the scale of a lead changes at {} ({}): ask for the parts before and after",
                        chunk.link.first_ns,
                        time::show(chunk.link.first_ns)
                    )));
                }
                Some(_) => {}
            }
        }
    }
    let column = |name: &String, lead: Option<&Lead>| Column {
        name: name.clone(),
        lead: lead.cloned(),
    };
    let columns: Vec<Column> = match leads {
        Leads::All => found
            .iter()
            .map(|(lead, _)| column(&lead.name, Some(lead)))
            .collect(),
        Leads::Named(names) => {
            let of = |n: &String| {
                found
                    .iter()
                    .find(|(f, _)| f.name == *n)
                    .map(|(lead, _)| *lead)
            };
            names.iter().map(|n| column(n, of(n))).collect()
        }
    };
    if !chunks.is_empty() && columns.iter().any(|c| c.lead.is_none()) {
        return Err(Failure::bad_input("a lead asked for is not in this window"));
    }
    if columns.len() > limits::LEADS_MAX {
        return Err(Failure::bad_input(
            "the window holds too many leads: name those you want",
        ));
    }
    Ok(columns)
}

fn wanted(leads: &Leads, name: &str) -> bool {
    match leads {
        Leads::All => true,
        Leads::Named(names) => names.iter().any(|n| n == name),
    }
}

/// Whether codes of both mean the same.
fn same_scale(a: &Lead, b: &Lead) -> bool {
    a.gain.to_bits() == b.gain.to_bits() && a.baseline == b.baseline && a.unit == b.unit
}

/// Greatest sum of decoded chunks over time: a chunk is opened at its first row, dropped at its end.
fn peak(chunks: &[Touched], columns: usize) -> u64 {
    let mut steps: BTreeMap<(i64, bool), i128> = BTreeMap::new();
    for chunk in chunks {
        let bytes = i128::from(open_bytes(chunk, columns));
        // At one instant the chunk that ends is dropped before the next is opened.
        *steps.entry((chunk.link.end_ns, false)).or_default() -= bytes;
        *steps.entry((chunk.link.first_ns, true)).or_default() += bytes;
    }
    let (mut now, mut most) = (0_i128, 0_i128);
    for step in steps.values() {
        now += step;
        most = most.max(now);
    }
    u64::try_from(most).unwrap_or(u64::MAX)
}

/// Bytes that a chunk takes while its rows are sent: its file, at 16 bits a sample; its times, twice; the codes of
/// one data page, twice.
fn open_bytes(chunk: &Touched, columns: usize) -> u64 {
    let (rows, leads) = (u64::from(chunk.link.rows), chunk.meta.leads.len() as u64);
    let rate = chunk.meta.rate;
    let page = u64::from(rate.num()).saturating_mul(DATA_PAGE_S) / u64::from(rate.den()).max(1);
    let page = page.saturating_add(1).min(rows);
    let file = rows.saturating_mul(16 + 2 * leads);
    file.saturating_add(page.saturating_mul(8 * columns.max(1) as u64))
}

/// How much of a window is there: what a reader looks at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Nanoseconds of the window that lie inside some chunk's `[first_ns, end_ns)`.
    pub covered_ns: i64,
    /// Nanoseconds of the window.
    pub window_ns: i64,
    /// Chunks used.
    pub chunks: usize,
    /// Frames that the chunks name as missing and no chunk of the window holds.
    pub missing_frames: u64,
}

impl Coverage {
    /// Of a plan, over the window it answers.
    pub fn of(plan: &Plan, window: Span) -> Self {
        let mut covered_ns: i64 = 0;
        let mut reached = window.from_ns;
        for chunk in &plan.chunks {
            let from = chunk.link.first_ns.max(reached);
            let until = chunk.link.end_ns.min(window.until_ns);
            covered_ns = covered_ns.saturating_add(until.saturating_sub(from).max(0));
            reached = reached.max(until);
        }
        let window_ns = window.until_ns.saturating_sub(window.from_ns);
        let missing_frames = missing(plan);
        Self {
            covered_ns,
            window_ns,
            chunks: plan.chunks.len(),
            missing_frames,
        }
    }
}

/// The parts of a window that no chunk of it reaches over. A frame that is missing inside a chunk is
/// counted by [`Coverage::missing_frames`], and seen in the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gaps {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub spans: Vec<Span>,
}

impl Gaps {
    /// Of a plan, over the window it answers.
    pub fn of(plan: &Plan, window: Span) -> Self {
        let (mut count, mut spans) = (0, Vec::new());
        let mut gap = |from_ns: i64, until_ns: i64| {
            if from_ns < until_ns {
                count += 1;
                if spans.len() < limits::GAPS_LISTED_MAX {
                    spans.push(Span { from_ns, until_ns });
                }
            }
        };
        let mut reached = window.from_ns;
        for chunk in &plan.chunks {
            gap(reached, chunk.link.first_ns.min(window.until_ns));
            reached = reached.max(chunk.link.end_ns);
        }
        gap(reached, window.until_ns);
        Self { count, spans }
    }
}

impl std::fmt::Display for Gaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spans = self
            .spans
            .iter()
            .map(|s| format!("{}/{}", s.from_ns, s.until_ns));
        let spans: Vec<String> = spans.collect();
        let more = self.count - self.spans.len();
        write!(
            f,
            "count={}, spans=\"{}\", more={more}",
            self.count,
            spans.join(" ")
        )
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            covered_ns,
            window_ns,
            chunks,
            missing_frames,
        } = self;
        write!(f, "covered-ns={covered_ns}, window-ns={window_ns}, ")?;
        write!(f, "chunks={chunks}, missing-frames={missing_frames}")
    }
}

fn missing(plan: &Plan) -> u64 {
    let mut boots: BTreeMap<u64, (RangeSet, RangeSet)> = BTreeMap::new();
    for chunk in &plan.chunks {
        let (held, named) = boots.entry(chunk.meta.boot).or_default();
        for (a, b) in chunk.meta.covered().iter() {
            held.insert_range(a, b);
        }
        for (a, b) in &chunk.meta.missing {
            named.insert_range(*a, *b);
        }
    }
    let mut count: u64 = 0;
    for (held, named) in boots.values() {
        let gaps = named.iter().flat_map(|(a, b)| held.gaps(a, b));
        for (a, b) in gaps {
            count = count.saturating_add((b - a).saturating_add(1));
        }
    }
    count
}
