//! Rows on the grid of their rate, for formats that know samples at a rate and no times.
//!
//! ```text
//! rows       | | | | |       | | | |  |  |  |                   a time each, ns
//! slots      0 1 2 3 4 . . . 8 9 ...                            where a sampled format puts them
//! runs       [0, 5 rows, t0, num/den, phase] [8, 4 rows, ...]   the times, exactly
//! ```
//!
//! Two rows are neighbours when they are between a half and one and a half sample periods apart; closer
//! ones have no place on a grid and are refused; further ones leave slots empty. Row k of a run has the
//! time `first_ns + floor((k * num + phase) / den)`, `num / den` nanoseconds a sample: whatever a device
//! and the spreading of its frames made of the times, the runs give them back to the nanosecond. All this
//! is known before the first byte is sent, from a first reading of the rows.

use chordae_base::{Failure, Outcome, Rate, limits, wire::NO_VALUE};
use chordae_chain::bundle::AnswerRows;
use chordae_chunk::ChunkRows;
use serde::{Deserialize, Serialize};

/// Consecutive slots with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(u64, u64, i64, u64, u64, u64)",
    into = "(u64, u64, i64, u64, u64, u64)"
)]
pub(super) struct Run {
    pub(super) slot: u64,
    pub(super) rows: u64,
    pub(super) first_ns: i64,
    num: u64,
    den: u64,
    phase: u64,
}

impl From<(u64, u64, i64, u64, u64, u64)> for Run {
    fn from((slot, rows, first_ns, num, den, phase): (u64, u64, i64, u64, u64, u64)) -> Self {
        Self {
            slot,
            rows,
            first_ns,
            num,
            den,
            phase,
        }
    }
}

impl From<Run> for (u64, u64, i64, u64, u64, u64) {
    fn from(run: Run) -> Self {
        (
            run.slot,
            run.rows,
            run.first_ns,
            run.num,
            run.den,
            run.phase,
        )
    }
}

impl Run {
    /// The slot after its last.
    pub(super) fn end(&self) -> u64 {
        self.slot.saturating_add(self.rows)
    }

    /// Time of its row `k`; `None` on overflow, or when the run is no run at all.
    pub(super) fn time(&self, k: u64) -> Option<i64> {
        let steps = u128::from(k) * u128::from(self.num) + u128::from(self.phase);
        let ns = steps.checked_div(u128::from(self.den))?;
        self.first_ns.checked_add(i64::try_from(ns).ok()?)
    }

    /// Its part in `[from, until)`, with slots counted from `from`.
    pub(super) fn within(&self, from: u64, until: u64) -> Option<Self> {
        let (start, end) = (self.slot.max(from), self.end().min(until));
        let rows = end.checked_sub(start).filter(|rows| *rows > 0)?;
        let skipped = u128::from(start - self.slot) * u128::from(self.num) + u128::from(self.phase);
        let phase = skipped.checked_rem(u128::from(self.den))?;
        Some(Self {
            slot: start - from,
            rows,
            first_ns: self.time(start - self.slot)?,
            phase: u64::try_from(phase).ok()?,
            ..*self
        })
    }
}

/// The run that is being read: two ways to explain its times, of which one must hold.
struct Fit {
    slot: u64,
    rows: u64,
    first_ns: i64,
    /// The rate of the birth: phases that fit, `[least, beyond)`.
    nominal: Option<(i128, i128)>,
    /// Another slope from the first row on: `[least, beyond)`, as fractions.
    slope: Option<((i128, i128), (i128, i128))>,
}

impl Fit {
    fn new(slot: u64, first_ns: i64, rate: Rate) -> Self {
        Self {
            slot,
            rows: 1,
            first_ns,
            nominal: Some((0, i128::from(rate.num()))),
            slope: Some(((0, 1), (i128::from(i64::MAX), 1))),
        }
    }

    /// Takes the next row, if some explanation still holds.
    fn push(&mut self, time: i64, rate: Rate) -> bool {
        let (k, after) = (
            i128::from(self.rows),
            i128::from(time) - i128::from(self.first_ns),
        );
        let (n, d) = (period(rate), i128::from(rate.num()));
        let nominal = self.nominal.and_then(|(least, beyond)| {
            let least = least.max(after * d - k * n);
            let beyond = beyond.min((after + 1) * d - k * n);
            Some((least, beyond)).filter(|_| least < beyond)
        });
        let slope = self.slope.and_then(|(least, beyond)| {
            let less = |a: (i128, i128), b: (i128, i128)| a.0 * b.1 < b.0 * a.1;
            let (at, next) = ((after, k), (after + 1, k));
            let least = if less(least, at) { at } else { least };
            let beyond = if less(next, beyond) { next } else { beyond };
            Some((least, beyond)).filter(|_| less(least, beyond))
        });
        let holds = nominal.is_some() || slope.is_some();
        if holds {
            (self.nominal, self.slope) = (nominal, slope);
            self.rows += 1;
        }
        holds
    }

    fn run(&self, rate: Rate) -> Outcome<Run> {
        let (num, den, phase) = match (self.nominal, self.slope) {
            (Some((phase, _)), _) => (period(rate), i128::from(rate.num()), phase),
            (None, Some(((num, den), _))) => (num, den, 0),
            (None, None) => return Err(Failure::internal("a run that nothing explains")),
        };
        let part = |n: i128| u64::try_from(n).map_err(|_| Failure::internal("a run out of range"));
        Ok(Run {
            slot: self.slot,
            rows: self.rows,
            first_ns: self.first_ns,
            num: part(num)?,
            den: part(den)?,
            phase: part(phase)?,
        })
    }
}

/// A second of `rate.num()` samples, in `1 / rate.num()` nanoseconds: the period's numerator.
fn period(rate: Rate) -> i128 {
    1_000_000_000 * i128::from(rate.den())
}

/// What a first reading of the rows found.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    pub(super) rate: Rate,
    pub(super) runs: Vec<Run>,
    /// Least and greatest code of all leads, "no value" apart.
    pub(super) codes: Option<(i32, i32)>,
}

/// Makes a [`Survey`] from the rows, in the order of the answer.
pub struct Surveyor {
    rate: Rate,
    runs: Vec<Run>,
    fit: Option<Fit>,
    last: Option<(i64, u64)>,
    start_ns: i64,
    codes: Option<(i32, i32)>,
}

impl Surveyor {
    /// For a window with these rates.
    ///
    /// # Errors
    /// `BadInput` unless it is one.
    pub fn new(rates: &[Rate]) -> Outcome<Self> {
        let why = match rates {
            [rate] => {
                return Ok(Self {
                    rate: *rate,
                    runs: Vec::new(),
                    fit: None,
                    last: None,
                    start_ns: 0,
                    codes: None,
                });
            }
            [] => {
                "there is nothing in this window, which this format cannot say: ask for arrow, \
                   parquet, csv or json"
            }
            _ => {
                "the sampling rate changes in this window, and this format has one: ask for the parts, \
                  or for arrow, parquet, csv or json"
            }
        };
        Err(Failure::bad_input(why))
    }

    /// The next rows.
    ///
    /// # Errors
    /// `BadInput` when they have no place on a grid.
    pub fn rows(&mut self, rows: &ChunkRows) -> Outcome<()> {
        for time in &rows.times {
            self.row(*time)?;
        }
        for code in rows.leads.iter().flatten().filter(|c| **c != NO_VALUE) {
            let (low, high) = self.codes.unwrap_or((*code, *code));
            self.codes = Some((low.min(*code), high.max(*code)));
        }
        Ok(())
    }

    fn row(&mut self, time: i64) -> Outcome<()> {
        let Some((last_ns, last_slot)) = self.last else {
            (self.start_ns, self.last) = (time, Some((time, 0)));
            self.fit = Some(Fit::new(0, time, self.rate));
            return Ok(());
        };
        let slot = self.slot(last_ns, last_slot, time)?;
        self.last = Some((time, slot));
        let goes_on = slot == last_slot + 1;
        let rate = self.rate;
        if !self
            .fit
            .as_mut()
            .is_some_and(|fit| goes_on && fit.push(time, rate))
        {
            self.close()?;
            self.fit = Some(Fit::new(slot, time, rate));
        }
        Ok(())
    }

    fn slot(&self, last_ns: i64, last_slot: u64, time: i64) -> Outcome<u64> {
        let (num, unit) = (i128::from(self.rate.num()), period(self.rate));
        let step = (i128::from(time) - i128::from(last_ns)) * num;
        if 2 * step < unit {
            return Err(Failure::bad_input(
                "two rows of this window are less than half a sample apart, which this format cannot \
                 say: ask for arrow, parquet, csv or json",
            ));
        }
        if 2 * step < 3 * unit {
            return Ok(last_slot + 1);
        }
        // Placed by the clock, so that a drift does not add up over the gaps; never without a gap.
        let since = (i128::from(time) - i128::from(self.start_ns)) * num;
        let placed = (2 * since + unit).div_euclid(2 * unit);
        let placed = u64::try_from(placed).unwrap_or(0);
        Ok(placed.max(last_slot + 2))
    }

    fn close(&mut self) -> Outcome<()> {
        if let Some(fit) = self.fit.take() {
            self.runs.push(fit.run(self.rate)?);
        }
        if self.runs.len() > limits::ANSWER_RUNS_MAX {
            return Err(Failure::bad_input(
                "the times of this window are too irregular for this format: ask for a shorter window, \
                 or for arrow, parquet, csv or json",
            ));
        }
        Ok(())
    }

    /// After the last row.
    ///
    /// # Errors
    /// `BadInput` when there was none, or too much irregularity.
    pub fn end(mut self) -> Outcome<Survey> {
        self.close()?;
        if self.runs.is_empty() {
            Self::new(&[])?;
        }
        Ok(Survey {
            rate: self.rate,
            runs: self.runs,
            codes: self.codes,
        })
    }
}

/// A stretch of slots that is written in one piece, with its first row first and its last row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) slot: u64,
    pub(super) slots: u64,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
}

impl Survey {
    /// The stretches that a format writes: short gaps are filled, unless that were too much; gaps of at
    /// most `least` slots always are. No stretch has more than `most` slots.
    ///
    /// # Errors
    /// `BadInput` for too many gaps.
    pub(super) fn layout(&self, columns: usize, least: u64, most: u64) -> Outcome<Vec<Stretch>> {
        let fill =
            i128::from(limits::GAP_FILL_NS) * i128::from(self.rate.num()) / period(self.rate);
        let fill = u64::try_from(fill).unwrap_or(u64::MAX);
        let rows: u64 = self.runs.iter().map(|run| run.rows).sum();
        for fill in [fill.max(least), least] {
            let stretches = self.stretches(fill, most);
            let slots: u64 = stretches.iter().map(|s| s.slots).sum();
            let filled = slots.saturating_sub(rows).saturating_mul(columns as u64);
            let whole = most == u64::MAX;
            if filled <= limits::GAP_FILL_CODES_MAX
                && (!whole || stretches.len() <= limits::ANSWER_STRETCHES_MAX)
            {
                return Ok(stretches);
            }
        }
        Err(Failure::bad_input(
            "this window has too many gaps for this format: ask for a shorter window, or for arrow, \
             parquet, csv or json",
        ))
    }

    /// The stretches between gaps of more than `fill` empty slots, each of at most `most` slots.
    pub(super) fn stretches(&self, fill: u64, most: u64) -> Vec<Stretch> {
        let mut all: Vec<Stretch> = Vec::new();
        for run in &self.runs {
            let mut from = run.slot;
            while from < run.end() {
                let grows = all.last_mut().filter(|last| {
                    let end = last.slot + last.slots;
                    from - end <= fill && from - last.slot < most
                });
                let start = grows.as_ref().map_or(from, |last| last.slot);
                let until = run.end().min(start.saturating_add(most.max(1)));
                let time = |slot: u64| run.time(slot - run.slot).unwrap_or(run.first_ns);
                match grows {
                    Some(last) => {
                        last.slots = until - start;
                        last.last_ns = time(until - 1);
                    }
                    None => all.push(Stretch {
                        slot: from,
                        slots: until - from,
                        first_ns: time(from),
                        last_ns: time(until - 1),
                    }),
                }
                from = until;
            }
        }
        all
    }

    /// The runs of a stretch, or the parts of them, with slots counted from its first.
    pub(super) fn runs_in(&self, stretch: Stretch) -> impl Iterator<Item = Run> + '_ {
        let (from, until) = (stretch.slot, stretch.slot.saturating_add(stretch.slots));
        let first = self.runs.partition_point(|run| run.end() <= from);
        let runs = self
            .runs
            .iter()
            .skip(first)
            .take_while(move |run| run.slot < until);
        runs.filter_map(move |run| run.within(from, until))
    }

    /// The slot of each row.
    pub(super) fn slots(&self) -> Slots {
        Slots {
            runs: self.runs.clone().into_iter(),
            at: 0..0,
        }
    }
}

/// See [`Survey::slots`].
pub(super) struct Slots {
    runs: std::vec::IntoIter<Run>,
    at: std::ops::Range<u64>,
}

impl Iterator for Slots {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.at.is_empty() {
            let run = self.runs.next()?;
            self.at = run.slot..run.end();
        }
        self.at.next()
    }
}

/// Slots and times of the runs that a reader was handed; `None` for what no survey makes.
pub(super) fn times(runs: &[Run]) -> Option<Vec<(u64, i64)>> {
    let (mut all, mut next): (Vec<(u64, i64)>, u64) = (Vec::new(), 0);
    for run in runs {
        let room = limits::ANSWER_ROWS_MAX.saturating_sub(all.len() as u64);
        if run.slot < next || run.rows > room {
            return None;
        }
        next = run.end();
        for k in 0..run.rows {
            all.push((run.slot + k, run.time(k)?));
        }
    }
    Some(all)
}

/// Samples of an answer that is read, put to the times of its rows.
pub(super) struct Placed {
    rows: AnswerRows,
    due: std::iter::Peekable<std::vec::IntoIter<(u64, i64)>>,
}

impl Placed {
    pub(super) fn new(leads: impl Iterator<Item = String>, times: Vec<(u64, i64)>) -> Self {
        let leads: Vec<String> = leads.collect();
        Self {
            rows: AnswerRows {
                codes: vec![Vec::new(); leads.len()],
                leads,
                times: Vec::with_capacity(times.len()),
            },
            due: times.into_iter().peekable(),
        }
    }

    /// Time of the row that comes next.
    pub(super) fn time(&mut self) -> Option<i64> {
        self.due.peek().map(|(_, time)| *time)
    }

    /// The samples of a slot, as many as leads. `None` when a slot without a row has samples, or a row
    /// was left out.
    pub(super) fn put(&mut self, slot: u64, codes: impl Iterator<Item = i32>) -> Option<()> {
        match self.due.peek().copied() {
            Some((due, _)) if due < slot => None,
            Some((due, time)) if due == slot => {
                self.due.next();
                self.rows.times.push(time);
                for (column, code) in self.rows.codes.iter_mut().zip(codes) {
                    column.push(code);
                }
                Some(())
            }
            _ => codes.into_iter().all(|code| code == NO_VALUE).then_some(()),
        }
    }

    /// The rows; `None` when one is missing.
    pub(super) fn end(mut self) -> Option<AnswerRows> {
        let whole = self.due.next().is_none();
        let even = self
            .rows
            .codes
            .iter()
            .all(|c| c.len() == self.rows.times.len());
        Some(self.rows).filter(|_| whole && even)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn survey(rate: Rate, times: &[i64]) -> Outcome<Survey> {
        let mut surveyor = Surveyor::new(&[rate])?;
        for piece in times.chunks(7) {
            let rows = ChunkRows {
                times: piece.to_vec(),
                leads: Vec::new(),
            };
            surveyor.rows(&rows)?;
        }
        surveyor.end()
    }

    fn back(survey: &Survey) -> Vec<i64> {
        let all = times(&survey.runs).unwrap();
        let slots: Vec<u64> = all.iter().map(|(slot, _)| *slot).collect();
        assert_eq!(slots, survey.slots().collect::<Vec<_>>());
        all.iter().map(|(_, time)| *time).collect()
    }

    proptest! {
        /// Frames as devices send them: claimed or spread, with holes between and jitter of any size.
        #[test]
        fn times_come_back_to_the_nanosecond(
            num in 1u32..2000, den in 1u32..8,
            frames in prop::collection::vec((1u64..300, 0i64..40_000, 0u64..3, any::<bool>()), 1..9),
            from in 0usize..250, split in 1u64..500,
        ) {
            prop_assume!(num >= den);
            let rate = Rate::new(num, den).unwrap();
            let (mut times, mut t0) = (Vec::new(), 1_700_000_000_123_456_789);
            for (samples, late, hole, spread) in frames {
                let span = rate.after_ns(samples).unwrap();
                for k in 0..samples {
                    let after = match spread {
                        true => (i128::from(k) * i128::from(span + late) / i128::from(samples)) as i64,
                        false => rate.after_ns(k).unwrap(),
                    };
                    times.push(t0 + after);
                }
                t0 += span + late + rate.after_ns(hole).unwrap();
            }
            let times = &times[from.min(times.len() - 1)..];
            let survey = survey(rate, times).unwrap();
            prop_assert_eq!(&back(&survey), times);
            // Cut into stretches, the parts say the same.
            let parts = survey.stretches(1, split);
            prop_assert!(parts.iter().all(|p| p.slots <= split));
            let cut = parts.iter().flat_map(|p| {
                let runs = survey.runs.iter().filter_map(|r| r.within(p.slot, p.slot + p.slots));
                let all = super::times(&runs.collect::<Vec<_>>()).unwrap();
                assert_eq!((all[0].1, all[all.len() - 1].1), (p.first_ns, p.last_ns));
                all
            });
            prop_assert_eq!(cut.map(|c| c.1).collect::<Vec<_>>(), times);
        }

        #[test]
        fn whatever_the_times(steps in prop::collection::vec(1_400_000i64..60_000_000, 0..80)) {
            let rate = Rate::new(360, 1).unwrap();
            let mut times = vec![-5];
            for step in steps {
                times.push(times[times.len() - 1] + step);
            }
            prop_assert_eq!(back(&survey(rate, &times).unwrap()), times);
        }
    }

    #[test]
    fn a_steady_rate_is_one_run_from_any_sample_on() {
        let rate = Rate::new(360, 1).unwrap();
        for from in [0, 1, 7, 359] {
            let times: Vec<i64> = (from..100_000).map(|k| rate.after_ns(k).unwrap()).collect();
            assert_eq!(survey(rate, &times).unwrap().runs.len(), 1);
        }
    }

    #[test]
    fn what_has_no_grid_is_refused() {
        let rate = Rate::new(100, 1).unwrap();
        assert!(Surveyor::new(&[]).is_err());
        assert!(Surveyor::new(&[rate, Rate::new(50, 1).unwrap()]).is_err());
        assert!(survey(rate, &[]).is_err());
        assert!(survey(rate, &[0, 0]).is_err());
        assert!(survey(rate, &[0, 4_999_999]).is_err());
        let gap = survey(rate, &[0, 5_000_000, 20_000_000, 50_000_000]).unwrap();
        let slots: Vec<u64> = gap.slots().collect();
        assert_eq!(slots, [0, 1, 3, 5]);
        assert_eq!(gap.stretches(1, 100).len(), 1);
        assert_eq!(gap.stretches(0, 100).len(), 3);
    }
}
