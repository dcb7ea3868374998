//! WFDB records: a header (`.hea`) beside signal files, as PhysioNet publishes them.
//!
//! ```text
//! 100.hea ──crate wfdb──▶ signal lines ──grouped by file──▶ bytes after the offset
//!                                                             │ crate wfdb: format 16, 212
//!                    one Vec of codes per lead ◀──de-interleaved── codes, checksum verified
//! ```
//!
//! The crate `wfdb` parses the headers and decodes the formats; the walk over the files is ours,
//! because its record reader verifies no checksums and its header reader takes a gain of 0
//! ("uncalibrated") for a block size or a description. Refused, each by name: formats other than 16 and 212,
//! several samples per frame, skewed signals, records made of segments, gain 0. The converter's
//! code for an invalid sample (-32768, -2048) becomes [`NO_VALUE`].

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Component, Path},
};

use ::wfdb::{
    Header, SignalFormat, SignalInfo,
    header::Specifications,
    signal::{Format16Decoder, Format212Decoder, FormatDecoder, INVALID_SAMPLE},
};
use chordae_base::{
    Failure, Outcome, Rate, limits,
    wire::{Lead, NO_VALUE},
};

use crate::leads;

/// A record in memory: its leads, and as many codes for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The record's name, from its header.
    pub name: String,
    /// Samples per second of every lead.
    pub rate: Rate,
    /// What each lead is, in the order of the header.
    pub leads: Vec<Lead>,
    /// One column of codes per lead, all of one length; [`NO_VALUE`] where the record has none.
    pub codes: Vec<Vec<i32>>,
}

impl Record {
    /// Samples per lead.
    pub fn samples(&self) -> usize {
        self.codes.first().map_or(0, Vec::len)
    }

    /// Keeps the first `n` leads.
    ///
    /// # Errors
    /// `BadInput` when the record has fewer.
    pub fn keep_leads(mut self, n: usize) -> Outcome<Self> {
        if n == 0 || n > self.leads.len() {
            let has = self.leads.len();
            return Err(Failure::bad_input(format!(
                "record {} has {has} leads",
                self.name
            )));
        }
        self.leads.truncate(n);
        self.codes.truncate(n);
        Ok(self)
    }
}

/// Reads the record whose header is at `path` (`.hea`, which may be left out).
///
/// # Errors
/// `NotFound` for a missing file, `BadInput` for what this reader does not take (see the module),
/// `Damaged` when a signal file is too short or contradicts its checksum.
pub fn read(path: &Path) -> Outcome<Record> {
    let path = if path.extension().is_some_and(|e| e == "hea") {
        path.to_path_buf()
    } else {
        let mut name = path.as_os_str().to_owned();
        name.push(".hea");
        name.into()
    };
    let shown = path.display().to_string();
    read_at(&path).map_err(|f| f.during(shown))
}

fn read_at(path: &Path) -> Outcome<Record> {
    let text = read_file(path)?;
    let header = Header::from_reader(&mut text.as_slice())
        .map_err(|e| Failure::bad_input(format!("not a WFDB header: {e}")))?;
    let name = header.metadata.name().to_owned();
    let Specifications::SingleSegment { signals } = header.specifications else {
        return Err(Failure::bad_input(
            "a record made of segments is not supported; name one of its segments",
        ));
    };
    if signals.is_empty() || signals.len() > limits::LEADS_MAX {
        let n = signals.len();
        return Err(Failure::bad_input(format!(
            "{n} signals; 1 to {} fit",
            limits::LEADS_MAX
        )));
    }
    signals.iter().try_for_each(check_signal)?;
    let rate = rate_of(header.metadata.sampling_frequency())?;
    let dir = path.parent().unwrap_or_else(|| Path::new(""));
    let samples = header.metadata.num_samples().filter(|n| *n > 0);
    let codes = read_signals(dir, &signals, samples)?;
    Ok(Record {
        name,
        rate,
        leads: leads_of(&signals),
        codes,
    })
}

/// What this reader does not take, named.
fn check_signal(signal: &SignalInfo) -> Outcome<()> {
    let refuse = |why: String| {
        let what = signal.description().unwrap_or(&signal.file_name);
        Err(Failure::bad_input(format!("signal {what}: {why}")))
    };
    if !matches!(
        signal.format,
        SignalFormat::Format16 | SignalFormat::Format212
    ) {
        return refuse(format!(
            "{:?} is not supported (16 and 212 are)",
            signal.format
        ));
    }
    if signal.samples_per_frame() != 1 {
        let n = signal.samples_per_frame();
        return refuse(format!(
            "{n} samples per frame are not supported (leads of one rate are)"
        ));
    }
    if signal.skew() != 0 {
        return refuse(format!(
            "a skew of {} samples is not supported",
            signal.skew()
        ));
    }
    // "0 12 0 ..." leaves the crate with a block size in place of the gain, "0(5)/mV" with a text.
    let misread = signal.block_size.is_some() || signal.description.is_some();
    if (signal.adc_gain.is_none() && misread) || !signal.adc_gain().is_finite() {
        return refuse("gain 0 (uncalibrated), negative or unreadable is not supported".into());
    }
    // A file beside the header, never anywhere else.
    let mut parts = Path::new(&signal.file_name).components();
    let plain = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    if !plain || signal.file_name == "-" {
        return refuse(format!(
            "{:?} is not the name of a file beside it",
            signal.file_name
        ));
    }
    Ok(())
}

/// The codes of all signals, in the order of the header.
fn read_signals(
    dir: &Path,
    signals: &[SignalInfo],
    samples: Option<u64>,
) -> Outcome<Vec<Vec<i32>>> {
    let mut files: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, signal) in signals.iter().enumerate() {
        files.entry(signal.file_name()).or_default().push(i);
    }
    let mut columns = vec![Vec::new(); signals.len()];
    for (file, group) in files {
        let within: Vec<&SignalInfo> = group.iter().filter_map(|i| signals.get(*i)).collect();
        let found = read_group(&dir.join(file), &within, samples)
            .map_err(|f| f.during(format!("signal file {file}")))?;
        for (i, column) in group.into_iter().zip(found) {
            if let Some(place) = columns.get_mut(i) {
                *place = column;
            }
        }
    }
    let length = columns.first().map_or(0, Vec::len);
    if length == 0 || columns.iter().any(|c| c.len() != length) {
        return Err(Failure::damaged(
            "the signal files hold different numbers of samples",
        ));
    }
    Ok(columns)
}

/// The columns of one signal file, whose samples lie interleaved.
fn read_group(path: &Path, group: &[&SignalInfo], samples: Option<u64>) -> Outcome<Vec<Vec<i32>>> {
    let Some(first) = group.first() else {
        return Ok(Vec::new());
    };
    if group
        .iter()
        .any(|s| s.format != first.format || s.byte_offset() != first.byte_offset())
    {
        return Err(Failure::bad_input("its signals differ in format or offset"));
    }
    let file = read_file(path)?;
    let bytes = usize::try_from(first.byte_offset())
        .ok()
        .and_then(|offset| file.get(offset..))
        .ok_or_else(|| Failure::damaged("shorter than its byte offset"))?;
    let held = match first.format {
        SignalFormat::Format212 => bytes.len() * 2 / 3,
        _ => bytes.len() / 2,
    };
    let rows = match samples.map(usize::try_from) {
        Some(Ok(n)) if n <= held / group.len() => n,
        Some(_) => {
            let has = held / group.len();
            let says = samples.unwrap_or(0);
            return Err(Failure::damaged(format!(
                "{has} samples per lead, its header says {says}"
            )));
        }
        None => held / group.len(),
    };
    let codes = decode(first.format, bytes, rows * group.len())?;
    (0..group.len())
        .zip(group)
        .map(|(i, signal)| {
            let column: Vec<i32> = codes.iter().skip(i).step_by(group.len()).copied().collect();
            check_sum(signal, &column)?;
            Ok(column)
        })
        .collect()
}

fn decode(format: SignalFormat, mut bytes: &[u8], count: usize) -> Outcome<Vec<i32>> {
    // The crate's mark for an invalid sample is the same code as ours.
    const { assert!(INVALID_SAMPLE == NO_VALUE) };
    let codes = match format {
        SignalFormat::Format212 => Format212Decoder::new().decode(&mut bytes, count),
        _ => Format16Decoder::new().decode(&mut bytes, count),
    };
    match codes {
        Ok(codes) if codes.len() == count => Ok(codes),
        Ok(codes) => Err(Failure::damaged(format!(
            "{} of {count} samples",
            codes.len()
        ))),
        Err(e) => Err(Failure::damaged(format!("cannot be decoded: {e}"))),
    }
}

/// The header's checksum: the sum of the stored codes, modulo 2^16.
fn check_sum(signal: &SignalInfo, column: &[i32]) -> Outcome<()> {
    let Some(says) = signal.checksum() else {
        return Ok(());
    };
    let invalid = if signal.format == SignalFormat::Format212 {
        -2048
    } else {
        -32768
    };
    let stored = |code: &i32| if *code == NO_VALUE { invalid } else { *code };
    let sum = column.iter().map(stored).fold(0_i32, i32::wrapping_add);
    if sum & 0xffff == says & 0xffff {
        return Ok(());
    }
    let what = signal.description().unwrap_or("?");
    Err(Failure::damaged(format!(
        "lead {what}: checksum {} where the header says {}",
        sum & 0xffff,
        says & 0xffff
    )))
}

fn leads_of(signals: &[SignalInfo]) -> Vec<Lead> {
    let mut names = leads::Names::default();
    let lead = |(i, signal): (usize, &SignalInfo)| {
        let name = names.take(signal.description().unwrap_or(""), i);
        let bits = match (signal.adc_resolution(), signal.format) {
            (0, SignalFormat::Format16) => 16,
            (0, _) => 12,
            (bits, _) => u32::from(bits),
        };
        Lead {
            mdc: leads::mdc(&name),
            name,
            gain: signal.adc_gain(),
            baseline: signal.baseline(),
            unit: leads::ucum(signal.units()),
            bits: bits.clamp(8, 31),
        }
    };
    signals.iter().enumerate().map(lead).collect()
}

/// The fraction that a decimal rate stands for: `360` is 360/1, `62.5` is 125/2.
fn rate_of(hz: f64) -> Outcome<Rate> {
    let refuse = || Failure::bad_input(format!("rate {hz} Hz is not between 1 and 10000"));
    if !(1.0..=f64::from(limits::RATE_HZ_MAX)).contains(&hz) {
        return Err(refuse());
    }
    for den in [1_u32, 10, 100, 1000, 10_000, 100_000] {
        let scaled = hz * f64::from(den);
        if (scaled - scaled.round()).abs() < 1e-6 {
            // At most 10^4 * 10^5, so the cast keeps every digit.
            let num = scaled.round() as u32;
            let by = gcd(num, den);
            return Rate::new(num / by, den / by);
        }
    }
    Err(refuse())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    let os = |e: std::io::Error| Failure::os(format!("reading {}", path.display()), &e);
    let file = fs::File::open(path).map_err(os)?;
    let mut bytes = Vec::new();
    file.take(limits::SIM_RECORD_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(os)?;
    if bytes.len() as u64 > limits::SIM_RECORD_BYTES_MAX {
        return Err(Failure::bad_input(format!(
            "{} is longer than {} bytes",
            path.display(),
            limits::SIM_RECORD_BYTES_MAX
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_rate_becomes_its_fraction() {
        let parts = |hz| rate_of(hz).map(|r| (r.num(), r.den()));
        assert_eq!(parts(360.0), Ok((360, 1)));
        assert_eq!(parts(62.5), Ok((125, 2)));
        assert_eq!(parts(249.995), Ok((49_999, 200)));
        for bad in [0.5, -1.0, f64::NAN, 20_000.0] {
            assert!(parts(bad).is_err(), "{bad}");
        }
        assert!(
            parts(333.333_333_3).is_err(),
            "no short fraction, so no exact rate"
        );
    }
}
