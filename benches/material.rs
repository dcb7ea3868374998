//! What is sealed and read: record 100 of the MIT-BIH Arrhythmia Database (two leads, 360 Hz, 30 minutes),
//! cut into the slots of 300 s that it fills. Without the record: synthetic ECG of the same shape, and the
//! report says so.

use std::path::{Path, PathBuf};

use chordae_base::{
    Did, Digest, Failure, Outcome, Rate, limits,
    time::{SECOND_NS, slot_start},
    wire::{ClockKind, Lead, NO_VALUE},
};
use chordae_chain::{
    link,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
};
use chordae_chunk::{ChunkRows, SealedChunk, seal};
use chordae_device_sim::{ecgsyn::Ecg, wfdb};

/// Start of the first slot.
const START_NS: i64 = 1_699_999_800 * SECOND_NS;
/// The stream.
pub const DID: Did = Did([
    0x0b, 0x5f, 0x6c, 0x1e, 0x8a, 0x37, 0x4a, 0x52, 0x9d, 14, 15, 1, 2, 3, 4, 5,
]);
/// Shape of the synthetic stand-in.
const LEADS: usize = 2;
const RATE_HZ: u32 = 360;
const SAMPLES: usize = 650_000;

/// Rows by slot, and what they are.
pub struct Material {
    /// Where it comes from, for the report.
    pub name: String,
    leads: Vec<Lead>,
    rate: Rate,
    /// The rows of each full slot.
    pub slots: Vec<ChunkRows>,
}

impl Material {
    /// Reads the record (`None`: record 100, where the project expects it) or makes a stand-in.
    ///
    /// # Errors
    /// Those of a record that was named and cannot be read, or fills no slot.
    pub fn load(record: Option<&Path>) -> Outcome<Self> {
        let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/ecg/100.hea");
        let path = record.map_or(usual, PathBuf::from);
        if record.is_none() && !path.exists() {
            return Self::synthetic();
        }
        let found = wfdb::read(&path)?;
        Self::cut(
            format!("WFDB record {}", found.name),
            found.leads,
            found.rate,
            &found.codes,
        )
    }

    /// The stand-in.
    ///
    /// # Errors
    /// None that the constants above allow.
    pub fn synthetic() -> Outcome<Self> {
        let rate = Rate::new(RATE_HZ, 1)?;
        let mut ecg = Ecg::new(LEADS, rate, 1)?;
        let (leads, codes) = (ecg.leads(), ecg.take(SAMPLES));
        let codes: Vec<Vec<i32>> = codes.chunks(SAMPLES).map(<[i32]>::to_vec).collect();
        let name = "SYNTHETIC ECG (record 100 was not found; the figures are not comparable)";
        Self::cut(name.to_owned(), leads, rate, &codes)
    }

    fn cut(name: String, leads: Vec<Lead>, rate: Rate, codes: &[Vec<i32>]) -> Outcome<Self> {
        let mut slots: Vec<ChunkRows> = Vec::new();
        let mut slot = None;
        for k in 0..codes.first().map_or(0, Vec::len) {
            let time = START_NS + rate.after_ns(k as u64)?;
            let of = slot_start(time, limits::SLOT_NS_DEFAULT);
            if slot != Some(of) {
                slot = Some(of);
                slots.push(ChunkRows {
                    times: Vec::new(),
                    leads: vec![Vec::new(); codes.len()],
                });
            }
            let Some(rows) = slots.last_mut() else {
                continue;
            };
            rows.times.push(time);
            for (to, from) in rows.leads.iter_mut().zip(codes) {
                to.extend(from.get(k));
            }
        }
        // The rest of the record would be a chunk of another size.
        slots.pop();
        if slots.is_empty() {
            return Err(Failure::bad_input(format!(
                "{name} does not fill a slot of 300 s"
            )));
        }
        Ok(Self {
            name,
            leads,
            rate,
            slots,
        })
    }

    /// Samples of all slots and leads.
    pub fn samples(&self) -> usize {
        self.slots
            .iter()
            .map(|rows| rows.len() * rows.leads.len())
            .sum()
    }

    /// A slot as little-endian 16-bit codes, lead after lead: the fewest plain bytes that hold it.
    ///
    /// # Errors
    /// `BadInput` for codes that do not fit.
    pub fn i16le(rows: &ChunkRows) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::with_capacity(rows.len() * rows.leads.len() * 2);
        for code in rows.leads.iter().flatten() {
            // The converters of WFDB mark an invalid sample so, too.
            let code = if *code == NO_VALUE {
                i16::MIN.into()
            } else {
                *code
            };
            let code = i16::try_from(code)
                .map_err(|_| Failure::bad_input("the record does not fit 16 bits"))?;
            bytes.extend_from_slice(&code.to_le_bytes());
        }
        Ok(bytes)
    }

    /// The metadata of a slot's chunk, as the windower would write it of frames of one second.
    ///
    /// # Errors
    /// None for the rows of this material.
    pub fn meta(&self, index: usize, prev: Digest) -> Outcome<ChunkMeta> {
        let rows = self
            .slots
            .get(index)
            .ok_or_else(|| Failure::internal("no such slot"))?;
        self.meta_of(index as u64, limits::SLOT_NS_DEFAULT, rows, prev)
    }

    /// The chunk with an index of a stream that plays the record over and over, in slots of another
    /// length (a multiple of ten seconds, of which a minute is one): what is sealed as it.
    ///
    /// # Errors
    /// None for a record of a whole number of samples a second.
    pub fn piece(&self, index: u64, slot_ns: i64, prev: Digest) -> Outcome<(ChunkMeta, ChunkRows)> {
        let all: usize = self.slots.iter().map(ChunkRows::len).sum();
        let each = self.slots.first().map_or(1, ChunkRows::len).max(1);
        let rate = u64::from(self.rate.num()) / u64::from(self.rate.den());
        let count = (slot_ns / SECOND_NS).unsigned_abs() * rate;
        let columns = self.slots.first().map_or(0, |slot| slot.leads.len());
        let mut rows = ChunkRows {
            times: Vec::new(),
            leads: vec![Vec::new(); columns],
        };
        for k in index * count..(index + 1) * count {
            rows.times.push(START_NS + self.rate.after_ns(k)?);
            let at = usize::try_from(k).unwrap_or(0) % all.max(1);
            let slot = self.slots.get(at / each);
            for (lead, to) in rows.leads.iter_mut().enumerate() {
                to.extend(slot.and_then(|s| s.leads.get(lead)?.get(at % each)));
            }
        }
        Ok((self.meta_of(index, slot_ns, &rows, prev)?, rows))
    }

    fn meta_of(
        &self,
        index: u64,
        slot_len_ns: i64,
        rows: &ChunkRows,
        prev: Digest,
    ) -> Outcome<ChunkMeta> {
        let (first_ns, last_ns) = match (rows.times.first(), rows.times.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return Err(Failure::internal("an empty slot")),
        };
        let slot_start_ns = slot_start(first_ns, slot_len_ns);
        let slot_end_ns = slot_start_ns + slot_len_ns;
        let second = |t: i64| ((t - START_NS) / SECOND_NS).unsigned_abs();
        Ok(ChunkMeta {
            boot: 1,
            clock: ChunkClock {
                offset_ns: 0,
                quality: ClockKind::Synced,
            },
            did: DID,
            end_ns: slot_end_ns.min(last_ns + self.rate.after_ns(1)?),
            first_ns,
            index,
            jitter_ns: (0, 0),
            lane: Lane::Live,
            leads: self.leads.clone(),
            missing: Vec::new(),
            page_ns: limits::PAGE_NS,
            prev,
            profile: Profile::Open,
            rate: self.rate,
            received: (first_ns, slot_end_ns),
            rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            seq: (second(first_ns), second(last_ns)),
            slot_len_ns,
            slot_start_ns,
            v: 1,
        })
    }

    /// Every slot sealed, each linked to the one before.
    ///
    /// # Errors
    /// Those of sealing.
    pub fn chain(&self) -> Outcome<Vec<SealedChunk>> {
        let mut prev = link::genesis(&DID);
        let mut chunks = Vec::new();
        for (index, rows) in self.slots.iter().enumerate() {
            let chunk = seal(self.meta(index, prev)?, salt(index), rows)?;
            prev = chunk.link().digest();
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

/// The salt of a chunk; a bench has no secrets.
pub fn salt(index: usize) -> [u8; 32] {
    [index as u8 + 1; 32]
}
