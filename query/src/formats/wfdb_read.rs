//! WFDB answers back to rows: the samples from the `.dat` files, the times from `chordae.json`, and the
//! headers, which say what a sample is worth, compared with what they must be.

use std::io::{Cursor, Read as _};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::bundle::AnswerRows;
use zip::ZipArchive;

use super::{
    grid::{Placed, Stretch, times},
    json::LeadJson,
    wfdb::{SIDE, Side, Tally, header, invalid, layout, master, sample_bytes, segment_name},
};

fn damaged(why: &str) -> Failure {
    Failure::damaged(format!("the answer is no whole WFDB zip: {why}"))
}

struct Zip(ZipArchive<Cursor<Bytes>>);

impl Zip {
    /// An entry that is there once and has exactly `size` bytes, or at most [`limits::ANSWER_SIDE_BYTES_MAX`].
    fn entry(&mut self, name: &str, size: Option<u64>) -> Outcome<Vec<u8>> {
        let most = size.unwrap_or(limits::ANSWER_SIDE_BYTES_MAX);
        let entry = self
            .0
            .by_name(name)
            .map_err(|e| damaged(&format!("{name}: {e}")))?;
        let mut bytes = Vec::new();
        let read = entry.take(most.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| damaged(&format!("{name}: {e}")))?;
        let read = bytes.len() as u64;
        if read > most || size.is_some_and(|size| size != read) {
            return Err(damaged(&format!("{name} has another size")));
        }
        Ok(bytes)
    }

    fn same(&mut self, name: &str, text: &str) -> Outcome<()> {
        if self.entry(name, Some(text.len() as u64))? == text.as_bytes() {
            return Ok(());
        }
        Err(damaged(&format!("{name} is not the header of its samples")))
    }
}

/// Reads a WFDB answer.
pub(super) fn read(bytes: &Bytes) -> Outcome<AnswerRows> {
    let zip = ZipArchive::new(Cursor::new(bytes.clone())).map_err(|e| damaged(&e.to_string()))?;
    let mut zip = Zip(zip);
    let side: Side = serde_json::from_slice(&zip.entry(SIDE, None)?)
        .map_err(|e| damaged(&format!("{SIDE}: {e}")))?;
    let width = sample_bytes(side.format).ok_or_else(|| damaged("no format of ours"))?;
    let fits = side.v == 1
        && (1..=limits::LEADS_MAX).contains(&side.leads.len())
        && (1..=limits::ANSWER_STRETCHES_MAX).contains(&side.segments.len())
        && side.rate.1 > 0;
    if !fits {
        return Err(damaged("no record of version 1"));
    }
    let placed = times(&side.runs).ok_or_else(|| damaged("its runs are none"))?;
    let mut rows = Placed::new(side.leads.iter().map(|l| l.name.clone()), placed);
    if rows.time() != Some(side.first_ns) {
        return Err(damaged("its first time is not that of its first row"));
    }
    let mut at = 0;
    for (number, (slot, slots)) in (1..).zip(&side.segments) {
        let name = segment_name(&side, number);
        let frame = width * side.leads.len();
        let size = slots.checked_mul(frame as u64).filter(|_| *slot >= at);
        let size = size.ok_or_else(|| damaged("its segments are none"))?;
        let dat = zip.entry(&format!("{name}.dat"), Some(size))?;
        let first_ns = rows.time().unwrap_or(0);
        let mut tallies = vec![Tally::default(); side.leads.len()];
        for (slot, frame) in (*slot..).zip(dat.chunks_exact(frame)) {
            let samples = frame.chunks_exact(width).map(sample);
            let codes = samples.zip(&mut tallies).map(|(sample, tally)| {
                tally.add(sample);
                if sample == invalid(side.format) {
                    NO_VALUE
                } else {
                    sample
                }
            });
            rows.put(slot, codes)
                .ok_or_else(|| damaged("a sample where there is no row"))?;
        }
        let stretch = Stretch {
            slot: *slot,
            slots: *slots,
            first_ns,
            last_ns: first_ns,
        };
        zip.same(
            &format!("{name}.hea"),
            &header(&side, &name, stretch, &tallies),
        )?;
        at = slot.saturating_add(*slots);
    }
    if side.segments.len() > 1 {
        zip.same(&format!("{}.hea", segment_name(&side, 0)), &layout(&side))?;
        zip.same(&format!("{}.hea", side.did), &master(&side))?;
    }
    rows.end().ok_or_else(|| damaged("a row without samples"))
}

/// The scales that a WFDB answer names; its headers were compared with them.
pub(super) fn scales(bytes: &Bytes) -> Outcome<Vec<LeadJson>> {
    let zip = ZipArchive::new(Cursor::new(bytes.clone())).map_err(|e| damaged(&e.to_string()))?;
    let side: Side = serde_json::from_slice(&Zip(zip).entry(SIDE, None)?)
        .map_err(|e| damaged(&format!("{SIDE}: {e}")))?;
    Ok(side.leads)
}

/// Little-endian, two, three or four bytes.
fn sample(bytes: &[u8]) -> i32 {
    let last = bytes.last().copied().unwrap_or(0);
    let mut whole = [if last & 0x80 == 0 { 0 } else { 0xff }; 4];
    for (into, byte) in whole.iter_mut().zip(bytes) {
        *into = *byte;
    }
    i32::from_le_bytes(whole)
}
