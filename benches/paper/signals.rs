//! The chunks of the published evaluation: files of 1,950,000 bytes as the MIT-BIH Arrhythmia Database has them
//! (format 212, two leads, 360 Hz, half an hour).
//!
//! Chunk `i` is record 100 told from its `i`-th instant on and round to its beginning, so that thousands differ and
//! none is stored. Without the record a synthetic ECG of the same shape stands in, and the report says so.

use std::{collections::BTreeSet, fs, path::Path};

use chordae_base::{Digest, Failure, Outcome, Rate};
use chordae_device_sim::ecgsyn::Ecg;
use sha2::{Digest as _, Sha256};

/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 1_950_000;
/// Bytes of one instant of two leads in format 212.
const INSTANT: usize = 3;
const SYNTHETIC: &str = "SYNTHETIC ECG (record 100 was not found)";

/// The bytes of which chunks are made.
pub struct Signals {
    /// Where they come from, for the report.
    pub name: String,
    record: Vec<u8>,
}

/// Which chunks reach the reader with a changed bit.
pub type Bad = BTreeSet<u64>;

/// Digests of a stream's chunks as each scheme makes them, in order.
#[derive(Default)]
pub struct Digests {
    /// SHA-256 of each chunk: one digest per record.
    pub records: Vec<[u8; 32]>,
    /// SHA-256 of each chunk and the digest before it: the published chain (MedChain, Def. 1).
    pub chain: Vec<[u8; 32]>,
    /// BLAKE3 of each chunk: `file_root` of formats.md 4.
    pub files: Vec<Digest>,
}

impl Signals {
    /// Record 100, where the project expects it, or a stand-in; of each chunk only the first `bytes`.
    ///
    /// # Errors
    /// `Io` for a record that is there and cannot be read, `BadInput` for one of another length.
    pub fn load(bytes: usize) -> Outcome<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/ecg/100.dat");
        let (name, mut record) = match path.exists() {
            true => {
                let read = fs::read(&path).map_err(|e| Failure::os("read record 100", &e))?;
                ("MIT-BIH record 100".to_owned(), read)
            }
            false => (SYNTHETIC.to_owned(), synthetic()?),
        };
        if record.len() != CHUNK_BYTES {
            return Err(Failure::bad_input("record 100 has another length"));
        }
        record.truncate(bytes - bytes % INSTANT);
        Ok(Self { name, record })
    }

    /// Writes a chunk into `to`, with one bit changed if it is `bad`.
    fn chunk(&self, index: u64, bad: bool, to: &mut Vec<u8>) {
        let instants = (self.record.len() / INSTANT).max(1) as u64;
        let from = usize::try_from(index % instants).unwrap_or(0) * INSTANT;
        let (end, begin) = self.record.split_at(from);
        to.clear();
        to.extend_from_slice(begin);
        to.extend_from_slice(end);
        if let (true, Some(byte)) = (bad, to.get_mut(from)) {
            *byte ^= 1;
        }
    }

    /// Goes through the chunks of a stream as they reach the reader.
    fn each(&self, chunks: u64, bad: &Bad, mut see: impl FnMut(&[u8])) {
        let mut bytes = Vec::with_capacity(self.record.len());
        for index in 0..chunks {
            self.chunk(index, bad.contains(&index), &mut bytes);
            see(&bytes);
        }
    }

    /// A digest per record.
    pub fn records(&self, chunks: u64, bad: &Bad) -> Vec<[u8; 32]> {
        let mut all = Vec::new();
        self.each(chunks, bad, |bytes| all.push(Sha256::digest(bytes).into()));
        all
    }

    /// The published chain: `H(Chunk(i) || Digest(i-1))`, the first without a digest before it.
    pub fn chain(&self, chunks: u64, bad: &Bad) -> Vec<[u8; 32]> {
        let mut all: Vec<[u8; 32]> = Vec::new();
        self.each(chunks, bad, |bytes| {
            let before = all.last().map_or(&[][..], |digest| &digest[..]);
            let hash = Sha256::new().chain_update(bytes).chain_update(before);
            all.push(hash.finalize().into());
        });
        all
    }

    /// Digests of the files.
    pub fn files(&self, chunks: u64, bad: &Bad) -> Vec<Digest> {
        let mut all = Vec::new();
        self.each(chunks, bad, |bytes| {
            all.push(Digest(*blake3::hash(bytes).as_bytes()));
        });
        all
    }

    /// What each scheme knows of the untouched chunks.
    pub fn digests(&self, chunks: u64) -> Digests {
        let none = Bad::new();
        Digests {
            records: self.records(chunks, &none),
            chain: self.chain(chunks, &none),
            files: self.files(chunks, &none),
        }
    }
}

/// Which of so many chunks are changed, one in `one_in` (0: none) by an even draw; the same in every run, and the same
/// ones as a stream grows.
pub fn draw(chunks: u64, one_in: u64) -> Bad {
    let mixed = |index: u64| {
        let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (one_in << 40);
        for _ in 0..2 {
            x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        }
        x ^ x >> 31
    };
    let hit = |index: &u64| one_in > 0 && mixed(*index).is_multiple_of(one_in);
    (0..chunks).filter(hit).collect()
}

fn synthetic() -> Outcome<Vec<u8>> {
    let instants = CHUNK_BYTES / INSTANT;
    let codes = Ecg::new(2, Rate::new(360, 1)?, 1)?.take(instants);
    let (first, second) = codes.split_at(instants);
    let mut record = Vec::with_capacity(CHUNK_BYTES);
    for (a, b) in first.iter().zip(second) {
        // Format 212: twelve bits of each, the low bytes outside, the high halves between them.
        let [a, b] = [a & 0xfff, b & 0xfff];
        let high = a >> 8 | (b >> 8) << 4;
        record.extend([a, high, b].map(|byte| (byte & 0xff) as u8));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_differ_and_a_bad_one_differs_in_one_bit() {
        let signals = Signals::load(3000).unwrap();
        let (none, second) = (Bad::new(), Bad::from([1]));
        let (good, bad) = (signals.files(3, &none), signals.files(3, &second));
        assert_eq!((good[0], good[2]), (bad[0], bad[2]));
        assert_ne!(good[1], bad[1]);
        assert!(good[0] != good[1] && good[1] != good[2]);
        let (good, bad) = (signals.chain(3, &none), signals.chain(3, &second));
        assert_eq!(good[0], bad[0]);
        assert!(
            good[1] != bad[1] && good[2] != bad[2],
            "all after it differ"
        );
        assert_eq!(good[0], signals.records(1, &none)[0]);
    }

    #[test]
    fn as_many_are_drawn_as_were_asked_for() {
        assert!(draw(8640, 0).is_empty());
        let hundredth = draw(100_000, 100).len();
        assert!((800..1200).contains(&hundredth), "{hundredth}");
        let (short, long) = (draw(1000, 100), draw(2000, 100));
        assert!(short.iter().eq(long.range(..1000)));
    }
}
