//! EDF+: what sleep laboratories and most ECG viewers open.
//!
//! ```text
//! header | record 0: lead, lead, ..., annotations | record 1: ... | ...
//! ```
//!
//! One stretch is EDF+C; gaps longer than [`limits::GAP_FILL_NS`] make EDF+D, in which each record has
//! its own onset. Shorter gaps, and what is left of a stretch's last record, hold the digital minimum -32768 in all leads and are annotated `BAD_ACQ_SKIP` (which MNE leaves out by itself). Times
//! to the nanosecond are annotations too: `chordae [sample,rows,first_ns,num,den,phase]`. EDF has 16
//! bits: a window with other codes is refused. Physical limits have eight characters in EDF, which is
//! exact for usual gains and a rounding in the sixth digit for others.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, Rate, limits, time,
    time::SECOND_NS,
    wire::{Lead, NO_VALUE},
};
use chordae_chunk::ChunkRows;

use super::{
    Heading, Writer, broken,
    grid::{Slots, Stretch, Survey},
};
use crate::core::plan::Column;

/// Digital minimum, which says "no value".
pub(super) const NONE: i16 = i16::MIN;
/// Bytes of a field of the header that is an integer or a physical limit.
const FIELD: usize = 8;
/// What an annotation that holds a run begins with.
pub(super) const RUN: &str = "chordae ";

/// See the module.
pub(super) struct Edf {
    header: Vec<u8>,
    /// Onset of each stretch's first record, and its place.
    stretches: Vec<(Stretch, u64)>,
    slots: Slots,
    record: Record,
    /// Samples of a lead in a record, and its nanoseconds.
    samples: u64,
    span_ns: i64,
    /// Bytes of the annotations of each record.
    notes_len: usize,
    notes: BTreeMap<u64, Vec<u8>>,
    zero_ns: i64,
    records: u64,
}

/// The record that is being filled.
struct Record {
    number: u64,
    leads: Vec<Vec<i16>>,
}

impl Edf {
    pub(super) fn new(heading: &Heading, survey: &Survey) -> Outcome<Self> {
        let (low, high) = survey.codes.unwrap_or((0, 0));
        if low <= i32::from(NONE) || high > i32::from(i16::MAX) {
            return Err(Failure::bad_input(
                "EDF has 16 bits, and this window has wider codes: ask for wfdb, parquet or arrow",
            ));
        }
        let (samples, span_ns) = record_of(survey.rate, heading.columns.len())?;
        // A record is never cut short by the next, so a gap shorter than one is filled.
        let stretches = survey.layout(heading.columns.len(), samples, u64::MAX)?;
        let mut placed = Vec::new();
        let mut records = 0;
        for stretch in stretches {
            placed.push((stretch, records));
            records += stretch.slots.div_ceil(samples);
        }
        let first_ns = placed.first().map_or(0, |(s, _)| s.first_ns);
        let mut edf = Self {
            header: Vec::new(),
            record: Record {
                number: 0,
                leads: vec![
                    vec![NONE; usize::try_from(samples).unwrap_or(0)];
                    heading.columns.len()
                ],
            },
            slots: survey.slots(),
            samples,
            span_ns,
            notes_len: 0,
            notes: BTreeMap::new(),
            zero_ns: first_ns - first_ns.rem_euclid(SECOND_NS),
            stretches: placed,
            records,
        };
        edf.note(survey);
        edf.header = edf.head(heading)?;
        Ok(edf)
    }

    /// Gathers the annotations, and how long those of a record are.
    fn note(&mut self, survey: &Survey) {
        let period_ns = |slots: u64| survey.rate.after_ns(slots).unwrap_or(i64::MAX);
        for (stretch, first) in &self.stretches {
            let mut end: Option<(u64, i64)> = None;
            let mut add = |slot: u64, text: String| {
                let notes = self.notes.entry(first + slot / self.samples).or_default();
                notes.extend_from_slice(text.as_bytes());
            };
            let zero_ns = self.zero_ns;
            let skip = |from_ns: i64, span_ns: i64| {
                let span = onset(span_ns);
                let span = span.trim_start_matches('+');
                format!(
                    "{}\x15{span}\x14BAD_ACQ_SKIP\x14\0",
                    onset(from_ns - zero_ns)
                )
            };
            for run in survey.runs_in(*stretch) {
                if let Some((slot, from_ns)) = end.filter(|(slot, _)| *slot < run.slot) {
                    add(slot, skip(from_ns, run.first_ns - from_ns));
                }
                let last_ns = run.time(run.rows - 1).unwrap_or(run.first_ns);
                end = Some((run.end(), last_ns.saturating_add(period_ns(1))));
                let mut told = run;
                told.slot += first * self.samples;
                let text = serde_json::to_string(&told).unwrap_or_default();
                add(
                    run.slot,
                    format!("{}\x14{RUN}{text}\x14\0", onset(run.first_ns - zero_ns)),
                );
            }
            let rest = (self.samples - stretch.slots % self.samples) % self.samples;
            if let Some((slot, from_ns)) = end.filter(|_| rest > 0) {
                add(slot, skip(from_ns, period_ns(rest)));
            }
        }
        let longest = self.notes.values().map(Vec::len).max().unwrap_or(0);
        // The onset of the last record is the longest; two bytes are a sample.
        let onset = onset(self.onset_ns(self.records.saturating_sub(1))).len() + 10 + 3;
        self.notes_len = (longest + onset).next_multiple_of(2);
    }

    /// When a record begins, after the header's second.
    fn onset_ns(&self, record: u64) -> i64 {
        let after = self
            .stretches
            .partition_point(|(_, first)| *first <= record);
        let (stretch, first) = match self.stretches.get(after.saturating_sub(1)) {
            Some(found) => found,
            None => return 0,
        };
        let since = i64::try_from(record - first)
            .unwrap_or(0)
            .saturating_mul(self.span_ns);
        stretch.first_ns.saturating_add(since) - self.zero_ns
    }

    fn head(&self, heading: &Heading) -> Outcome<Vec<u8>> {
        let refused = || {
            Failure::bad_input(
                "EDF cannot say the scale, rate or length of this window in its eight characters: ask for \
                 wfdb, parquet or arrow",
            )
        };
        if self.notes_len > limits::EDF_NOTES_BYTES_MAX {
            return Err(Failure::bad_input(
                "the times of this window are too irregular for EDF: ask for wfdb, parquet or arrow",
            ));
        }
        let signals = heading.columns.len() + 1;
        let stamp = time::show(self.zero_ns);
        let part = |range| stamp.get(range).unwrap_or("0");
        let month = part(5..7)
            .parse::<usize>()
            .ok()
            .and_then(|m| MONTHS.get(m.wrapping_sub(1)));
        let date = format!("{}-{}-{}", part(8..10), month.unwrap_or(&"X"), part(0..4));
        let kind = if self.stretches.len() > 1 {
            "EDF+D"
        } else {
            "EDF+C"
        };
        let span = decimal(self.span_ns as f64 / 1e9).ok_or_else(refused)?;
        let records = Some(self.records.to_string()).filter(|r| r.len() <= FIELD);
        let mut text = String::new();
        let mut field = |width: usize, value: &str| {
            let value: String = plain(value).take(width).collect();
            text.push_str(&format!("{value:width$}"));
        };
        field(8, "0");
        field(80, "X X X X");
        field(80, &format!("Startdate {date} X X {}", heading.did));
        field(8, &format!("{}.{}.{}", part(8..10), part(5..7), part(2..4)));
        field(8, &part(11..19).replace(':', "."));
        field(8, &(256 * (signals + 1)).to_string());
        field(44, kind);
        field(8, &records.ok_or_else(refused)?);
        field(8, &span);
        field(4, &signals.to_string());
        let mut signal = |width: usize, of: &dyn Fn(&Column) -> Option<String>, notes: &str| {
            for column in &heading.columns {
                field(width, &of(column).ok_or_else(refused)?);
            }
            field(width, notes);
            Ok::<(), Failure>(())
        };
        let scale = |c: &Column, k: usize| scale(c.lead.as_ref()?)?.into_iter().nth(k);
        signal(16, &|c| Some(c.name.clone()), "EDF Annotations")?;
        signal(80, &|_| Some(String::new()), "")?;
        signal(8, &|c| scale(c, 0), "")?;
        signal(8, &|c| scale(c, 1), "-1")?;
        signal(8, &|c| scale(c, 2), "1")?;
        signal(8, &|_| Some(i16::MIN.to_string()), "-32768")?;
        signal(8, &|_| Some(i16::MAX.to_string()), "32767")?;
        signal(80, &|_| Some(String::new()), "")?;
        signal(
            8,
            &|_| Some(self.samples.to_string()),
            &(self.notes_len / 2).to_string(),
        )?;
        signal(32, &|_| Some(String::new()), "")?;
        Ok(text.into_bytes())
    }

    /// Writes records up to this one.
    fn reach(&mut self, record: u64, out: &mut Vec<u8>) {
        while self.record.number < record {
            for lead in &mut self.record.leads {
                for sample in lead.iter_mut() {
                    out.extend(sample.to_le_bytes());
                    *sample = NONE;
                }
            }
            let number = self.record.number;
            let mut notes = format!("{}\x14\x14\0", onset(self.onset_ns(number))).into_bytes();
            notes.extend(self.notes.remove(&number).unwrap_or_default());
            notes.resize(self.notes_len, 0);
            out.extend(notes);
            self.record.number += 1;
        }
    }

    /// Record of a slot, and place in it.
    fn place(&self, slot: u64) -> Option<(u64, usize)> {
        let after = self.stretches.partition_point(|(s, _)| s.slot <= slot);
        let (stretch, first) = self.stretches.get(after.checked_sub(1)?)?;
        let since = slot.checked_sub(stretch.slot)?;
        let place = usize::try_from(since % self.samples).ok()?;
        Some((first + since / self.samples, place))
    }
}

impl Writer for Edf {
    fn begin(&mut self) -> Outcome<Bytes> {
        Ok(Bytes::from(std::mem::take(&mut self.header)))
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        let mut out = Vec::new();
        for k in 0..rows.len() {
            let place = self.slots.next().and_then(|slot| self.place(slot));
            let place = place.ok_or_else(|| broken("EDF", &"more rows than were counted"));
            let (record, at) = place?;
            self.reach(record, &mut out);
            for (into, lead) in self.record.leads.iter_mut().zip(&rows.leads) {
                let code = lead.get(k).copied().filter(|c| *c != NO_VALUE);
                let code = code.map_or(Some(NONE), |c| i16::try_from(c).ok());
                if let (Some(into), Some(code)) = (into.get_mut(at), code) {
                    *into = code;
                }
            }
        }
        Ok(Bytes::from(out))
    }

    fn end(&mut self) -> Outcome<Bytes> {
        let mut out = Vec::new();
        self.reach(self.records, &mut out);
        Ok(Bytes::from(out))
    }
}

/// Unit, physical minimum and maximum of a lead, as the header has them; `None` if it cannot.
pub(super) fn scale(lead: &Lead) -> Option<[String; 3]> {
    let physical = |code: i16| decimal((f64::from(code) - f64::from(lead.baseline)) / lead.gain);
    let unit = plain(&lead.unit).take(FIELD).collect::<String>();
    Some([
        unit.trim_end().to_owned(),
        physical(i16::MIN)?,
        physical(i16::MAX)?,
    ])
}

/// Printable ASCII, which is all that an EDF header may hold.
fn plain(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '_'
        }
    })
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];

/// Samples of a record and its nanoseconds: a second, or what comes nearest and has whole samples.
fn record_of(rate: Rate, columns: usize) -> Outcome<(u64, i64)> {
    let (num, den) = (u64::from(rate.num()), u64::from(rate.den()));
    let second = SECOND_NS as u64;
    let spans = [1, 2, 4, 5, 10, 20, 25, 40, 50, 100].map(|parts| second / parts);
    let whole = std::iter::once(second * den).filter(|_| den > 1 && den <= 1000);
    let fits = |span: &u64| {
        let samples = num * span / (den * second);
        (num * span).is_multiple_of(den * second)
            && samples * 2 * (columns as u64 + 1) <= limits::EDF_RECORD_BYTES_MAX
    };
    let span = spans.into_iter().chain(whole).find(fits).ok_or_else(|| {
        Failure::bad_input("EDF has no records for this rate: ask for wfdb, parquet or arrow")
    })?;
    let samples = num * span / (den * second);
    let span = i64::try_from(span).map_err(|_| Failure::internal("a record's span"))?;
    Ok((samples, span))
}

/// Seconds after the start, with a sign: all nine digits that there are, none that are zero at the end.
fn onset(ns: i64) -> String {
    let (sign, ns) = if ns < 0 {
        ('-', ns.unsigned_abs())
    } else {
        ('+', ns.unsigned_abs())
    };
    let second = SECOND_NS.unsigned_abs();
    let text = format!("{sign}{}.{:09}", ns / second, ns % second);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number in eight characters, as near as it gets; `None` for one that is too large.
fn decimal(value: f64) -> Option<String> {
    let plain = format!("{value}");
    if plain.len() <= FIELD {
        return Some(plain);
    }
    (0..FIELD)
        .rev()
        .find_map(|digits| Some(format!("{value:.digits$}")).filter(|text| text.len() <= FIELD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_characters_and_whole_records() {
        let texts = [
            (-168.96, "-168.96"),
            (16.3835, "16.3835"),
            (-98.402_402, "-98.4024"),
        ];
        for (value, text) in texts {
            assert_eq!(decimal(value).as_deref(), Some(text));
        }
        assert_eq!(decimal(-123_456_789.0), None);
        assert_eq!(
            (onset(0), onset(1_000_000_001)),
            ("+0".into(), "+1.000000001".into())
        );
        let of = |num, den, columns| record_of(Rate::new(num, den).unwrap(), columns).ok();
        assert_eq!(of(360, 1, 2), Some((360, SECOND_NS)));
        assert_eq!(of(1000, 3, 2), Some((1000, 3 * SECOND_NS)));
        assert_eq!(of(125, 2, 1), Some((125, 2 * SECOND_NS)));
        assert_eq!(of(10_000, 1, 32), Some((500, SECOND_NS / 20)));
        assert_eq!(of(1_000_003, 1001, 1), None);
    }
}
