//! WFDB: a zip with a record that wfdb-python, WFDB's own tools and LightWAVE read.
//!
//! ```text
//! one stretch        {did}.dat  {did}.hea  chordae.json
//! several            {did}_0001.dat  {did}_0001.hea  ...  {did}_0000.hea (layout)
//!                    {did}.hea (segments and `~` gaps)  chordae.json
//! ```
//!
//! Format 16, 24 or 32: the narrowest that has all codes of the window and one to spare for "no value".
//! Gaps of up to [`limits::GAP_FILL_NS`] are filled with the format's invalid sample, longer ones are `~`
//! segments. What WFDB cannot say (times to the nanosecond, exact units) is in `chordae.json`. Entries
//! are stored, not compressed, each with its size behind it, so that the zip is sent while it is made.

use std::{
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chordae_base::{Outcome, time, wire::NO_VALUE};
use chordae_chunk::ChunkRows;
use serde::{Deserialize, Serialize};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions, write::StreamWriter};

use super::{
    Heading, Writer, broken,
    grid::{Run, Slots, Stretch, Survey},
    json::LeadJson,
};

/// What `chordae.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Side {
    pub(super) v: u32,
    pub(super) did: String,
    /// Samples per second, num and den.
    pub(super) rate: (u32, u32),
    /// WFDB's number of the samples' format.
    pub(super) format: u32,
    pub(super) leads: Vec<LeadJson>,
    /// First slot and number of slots of each `.dat`.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) runs: Vec<Run>,
    /// Time of the first row.
    pub(super) first_ns: i64,
}

/// The name of `chordae.json`.
pub(super) const SIDE: &str = "chordae.json";

/// A sample's format: WFDB's number for it is its bits.
pub(super) fn sample_bytes(format: u32) -> Option<usize> {
    match format {
        16 => Some(2),
        24 => Some(3),
        32 => Some(4),
        _ => None,
    }
}

/// The narrowest format with room for these codes.
fn narrowest(codes: Option<(i32, i32)>) -> u32 {
    let fits = |bits: u32| {
        let most = (1_i64 << (bits - 1)) - 1;
        codes.is_none_or(|(low, high)| -most <= i64::from(low) && i64::from(high) <= most)
    };
    [16, 24].into_iter().find(|bits| fits(*bits)).unwrap_or(32)
}

/// "No value" in a format.
pub(super) fn invalid(format: u32) -> i32 {
    if format == 32 {
        NO_VALUE
    } else {
        -(1 << (format - 1))
    }
}

/// What the zip library has written and nobody has fetched.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn fetch(&self) -> Bytes {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Bytes::from(std::mem::take(&mut *held))
    }
}

/// See the module.
pub(super) struct Wfdb {
    zip: Option<ZipWriter<StreamWriter<Sink>>>,
    sink: Sink,
    side: Side,
    slots: Slots,
    stretches: std::vec::IntoIter<Stretch>,
    open: Option<Segment>,
    number: usize,
    samples: Vec<u8>,
}

/// The segment that is being written.
struct Segment {
    stretch: Stretch,
    /// The slot that comes next.
    next: u64,
    name: String,
    tallies: Vec<Tally>,
}

/// What a header says about the samples of a signal.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    first: Option<i32>,
    sum: i16,
}

impl Tally {
    pub(super) fn add(&mut self, sample: i32) {
        self.first.get_or_insert(sample);
        // WFDB's checksum: the sum, modulo 2^16, as a signed number.
        self.sum = self.sum.wrapping_add(sample as i16);
    }
}

impl Wfdb {
    pub(super) fn new(heading: &Heading, survey: Survey) -> Outcome<Self> {
        let stretches = survey.layout(heading.columns.len(), 0, u64::MAX)?;
        let side = Side {
            v: 1,
            did: heading.did.to_string(),
            rate: (survey.rate.num(), survey.rate.den()),
            format: narrowest(survey.codes),
            leads: heading.columns.iter().filter_map(LeadJson::of).collect(),
            segments: stretches.iter().map(|s| (s.slot, s.slots)).collect(),
            first_ns: stretches.first().map_or(0, |s| s.first_ns),
            runs: survey.runs.clone(),
        };
        let sink = Sink::default();
        Ok(Self {
            zip: Some(ZipWriter::new_stream(sink.clone())),
            sink,
            slots: survey.slots(),
            side,
            stretches: stretches.into_iter(),
            open: None,
            number: 0,
            samples: Vec::new(),
        })
    }

    fn entry(&mut self, name: &str, bytes: &[u8]) -> Outcome<()> {
        self.begin_entry(name, bytes.len() as u64)?;
        self.write(bytes)
    }

    fn begin_entry(&mut self, name: &str, size: u64) -> Outcome<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(size >= u64::from(u32::MAX));
        match &mut self.zip {
            Some(zip) => zip
                .start_file(name, options)
                .map_err(|e| broken("a zip", &e)),
            None => Err(broken("a zip", &"it has ended")),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        match &mut self.zip {
            Some(zip) => zip.write_all(bytes).map_err(|e| broken("a zip", &e)),
            None => Err(broken("a zip", &"it has ended")),
        }
    }

    /// Goes to the segment of a slot, and to that slot in it.
    fn reach(&mut self, slot: u64) -> Outcome<()> {
        let ended = |s: &Segment| slot >= s.stretch.slot + s.stretch.slots;
        if self.open.as_ref().is_none_or(ended) {
            self.close()?;
            let stretch = self.stretches.next();
            let stretch = stretch.ok_or_else(|| broken("WFDB", &"more rows than were counted"))?;
            self.number += 1;
            let name = segment_name(&self.side, self.number);
            let width = sample_bytes(self.side.format).unwrap_or(4) * self.side.leads.len();
            self.begin_entry(
                &format!("{name}.dat"),
                stretch.slots.saturating_mul(width as u64),
            )?;
            self.open = Some(Segment {
                stretch,
                next: stretch.slot,
                name,
                tallies: vec![Tally::default(); self.side.leads.len()],
            });
        }
        while self.open.as_ref().is_some_and(|s| s.next < slot) {
            let leads = self.side.leads.len();
            self.put(std::iter::repeat_n(NO_VALUE, leads));
        }
        Ok(())
    }

    /// One sample of each signal.
    fn put(&mut self, codes: impl Iterator<Item = i32>) {
        let Some(open) = &mut self.open else { return };
        let width = sample_bytes(self.side.format).unwrap_or(4);
        open.next += 1;
        for (tally, code) in open.tallies.iter_mut().zip(codes) {
            let sample = if code == NO_VALUE {
                invalid(self.side.format)
            } else {
                code
            };
            tally.add(sample);
            let bytes = sample.to_le_bytes();
            self.samples.extend(bytes.iter().take(width));
        }
    }

    fn flush(&mut self) -> Outcome<()> {
        let samples = std::mem::take(&mut self.samples);
        self.write(&samples)
    }

    /// Ends the segment that is open, and writes its header.
    fn close(&mut self) -> Outcome<()> {
        self.flush()?;
        let Some(done) = self.open.take() else {
            return Ok(());
        };
        let text = header(&self.side, &done.name, done.stretch, &done.tallies);
        self.entry(&format!("{}.hea", done.name), text.as_bytes())
    }
}

impl Writer for Wfdb {
    fn begin(&mut self) -> Outcome<Bytes> {
        Ok(self.sink.fetch())
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        for k in 0..rows.len() {
            let slot = self.slots.next();
            let slot = slot.ok_or_else(|| broken("WFDB", &"more rows than were counted"))?;
            self.reach(slot)?;
            self.put(rows.leads.iter().filter_map(|lead| lead.get(k).copied()));
        }
        self.flush()?;
        Ok(self.sink.fetch())
    }

    fn end(&mut self) -> Outcome<Bytes> {
        self.close()?;
        if self.side.segments.len() > 1 {
            let name = format!("{}.hea", segment_name(&self.side, 0));
            let text = layout(&self.side);
            self.entry(&name, text.as_bytes())?;
            let text = master(&self.side);
            self.entry(&format!("{}.hea", self.side.did), text.as_bytes())?;
        }
        let text = serde_json::to_string(&self.side).map_err(|e| broken(SIDE, &e))?;
        self.entry(SIDE, text.as_bytes())?;
        if let Some(zip) = self.zip.take() {
            zip.finish().map_err(|e| broken("a zip", &e))?;
        }
        Ok(self.sink.fetch())
    }
}

/// Name of a segment's files, without the dot.
pub(super) fn segment_name(side: &Side, number: usize) -> String {
    if side.segments.len() > 1 {
        format!("{}_{number:04}", side.did)
    } else {
        side.did.clone()
    }
}

/// Rate, samples, time and date of a record line.
fn record_line(side: &Side, samples: u64, first_ns: i64) -> String {
    let (num, den) = side.rate;
    let stamp = time::show(first_ns);
    let part = |range| stamp.get(range).unwrap_or("0");
    format!(
        "{} {} {samples} {} {}/{}/{}",
        side.leads.len(),
        f64::from(num) / f64::from(den),
        // WFDB's programs read microseconds.
        part(11..26),
        part(8..10),
        part(5..7),
        part(0..4)
    )
}

/// The header of a segment.
pub(super) fn header(side: &Side, name: &str, stretch: Stretch, tallies: &[Tally]) -> String {
    signals(
        side,
        name,
        (&format!("{name}.dat"), side.format),
        stretch,
        tallies,
    )
}

/// The header of a record's layout: wfdb-python takes `~` segments only behind one.
pub(super) fn layout(side: &Side) -> String {
    let none = Stretch {
        slot: 0,
        slots: 0,
        first_ns: side.first_ns,
        last_ns: side.first_ns,
    };
    let tallies = vec![Tally::default(); side.leads.len()];
    signals(side, &segment_name(side, 0), ("~", 0), none, &tallies)
}

fn signals(
    side: &Side,
    name: &str,
    (file, format): (&str, u32),
    stretch: Stretch,
    tallies: &[Tally],
) -> String {
    let line = record_line(side, stretch.slots, stretch.first_ns);
    let mut text = format!("{name} {line}\n");
    for (lead, tally) in side.leads.iter().zip(tallies) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_^-?%/".contains(c);
        let unit = lead.unit.chars().map(|c| if plain(c) { c } else { '_' });
        text.push_str(&format!(
            "{file} {format} {}({})/{} {} 0 {} {} 0 {}\n",
            lead.gain,
            lead.baseline,
            unit.collect::<String>(),
            lead.bits,
            tally.first.unwrap_or(0),
            tally.sum,
            lead.name
        ));
    }
    text
}

/// The header of a record of several segments.
pub(super) fn master(side: &Side) -> String {
    let (mut lines, mut count, mut at) = (format!("{} 0\n", segment_name(side, 0)), 1, 0);
    for (number, (slot, slots)) in (1..).zip(&side.segments) {
        if *slot > at {
            lines.push_str(&format!("~ {}\n", slot - at));
            count += 1;
        }
        lines.push_str(&format!("{} {slots}\n", segment_name(side, number)));
        count += 1;
        at = slot.saturating_add(*slots);
    }
    format!(
        "{}/{count} {}\n{lines}",
        side.did,
        record_line(side, at, side.first_ns)
    )
}
