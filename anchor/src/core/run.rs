//! A run: the sorted keys of a span of the log, as they lie in a file that never changes.
//!
//! ```text
//! head     4,096 bytes: "CHIDXR01" | first u64 | end u64 | root 32 | records u64 | block u64 | audit u64
//!                       | rotations u64 | seal 32
//! blocks   4,096 bytes each: up to 127 records (key 24, leaf index u64), zeros, seal 32
//! fences   the first key of each block, then their seal 32
//! rotations  leaf index u64 of every rotate-key event below `end` | size u64 at which its batch ended, then their seal 32
//! ```
//!
//! Big-endian; `block` and `audit` are where the newest block and the newest head of the trail below `end`
//! are, 2^64 - 1 for none (so the end of a batch that goes on at `end`). Keys ascend and each is there once, with the first entry that has it. `root` is that
//! of the log's first `end` entries, so that a run of another history is not taken for one of this.
//!
//! Seals are BLAKE3 keyed with a secret of the log's key: a run is a cache, but an entry that it does not have
//! is taken for absent without further proof, so only what this ledger wrote is believed. They are also
//! keyed with first, end and root: a block of another run, or of another place in it, does not fit.

use chordae_base::Digest;
use chordae_chain::merkle::NodeHash;

use super::index::Retired;

/// Bytes of a head, and of a block.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a key.
pub const KEY_BYTES: usize = 24;
const RECORD_BYTES: usize = KEY_BYTES + 8;
const SEAL_BYTES: usize = 32;
const ROTATION_BYTES: usize = 16;
/// Records of a full block.
pub const BLOCK_RECORDS: usize = (BLOCK_BYTES - SEAL_BYTES) / RECORD_BYTES;
const MAGIC: &[u8; 8] = b"CHIDXR01";
/// Numbers under which head, fences and rotations are sealed: no block has them.
const HEAD: u64 = u64::MAX - 1;
const ROTATIONS: u64 = u64::MAX - 2;
const FENCES: u64 = u64::MAX;
const NONE: u64 = u64::MAX;

/// What an entry is looked up by: 24 bytes of a hash, so that keys are spread evenly whatever they are made of
/// and one of a kind is never taken for one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    fn of(kind: u8, bytes: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(bytes);
        let mut key = [0; KEY_BYTES];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }

    /// Of an entry by its leaf hash.
    pub fn leaf(leaf: &NodeHash) -> Self {
        Self::of(0, leaf)
    }

    /// Of the first event that anchors a head, by its tag.
    pub fn tag(tag: &Digest) -> Self {
        Self::of(1, &tag.0)
    }

    /// Of the event that ended a session.
    pub fn revoked(sid: &[u8; 32]) -> Self {
        Self::of(2, sid)
    }
}

/// What a run covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Leaf index of the first entry whose keys are here.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
    /// Root of the log's first `end` entries.
    pub root: NodeHash,
    /// Keys.
    pub records: u64,
    /// Where the newest block below `end` is.
    pub block: Option<u64>,
    /// Where the newest head of the trail below `end` is.
    pub audit: Option<u64>,
    /// Events below `end` that retire a key.
    pub rotations: u64,
}

impl Head {
    /// Blocks.
    pub fn blocks(&self) -> u64 {
        self.records.div_ceil(BLOCK_RECORDS as u64)
    }

    /// Records of a block.
    pub fn records_of(&self, block: u64) -> usize {
        let before = block.saturating_mul(BLOCK_RECORDS as u64);
        let left = self.records.saturating_sub(before);
        usize::try_from(left).map_or(BLOCK_RECORDS, |left| left.min(BLOCK_RECORDS))
    }

    /// Where a block begins, in bytes; the fences for the one after the last.
    pub fn offset(block: u64) -> u64 {
        block.saturating_add(1).saturating_mul(BLOCK_BYTES as u64)
    }

    /// Bytes of the fences with their seal.
    pub fn fence_bytes(&self) -> u64 {
        self.blocks()
            .saturating_mul(KEY_BYTES as u64)
            .saturating_add(SEAL_BYTES as u64)
    }

    /// Bytes of the rotations with their seal.
    pub fn rotation_bytes(&self) -> u64 {
        self.rotations
            .saturating_mul(ROTATION_BYTES as u64)
            .saturating_add(SEAL_BYTES as u64)
    }

    /// What it covers: known before its records are counted.
    fn span(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.end.to_be_bytes());
        out.extend_from_slice(&self.root);
        out
    }
}

/// Seals the parts of one run.
#[derive(Clone)]
pub struct Sealer([u8; 32]);

fn seal(key: &[u8; 32], number: u64, bytes: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&number.to_be_bytes()).update(bytes);
    hasher.finalize().into()
}

impl Sealer {
    /// Of the run that covers what this head says, under the ledger's secret.
    pub fn new(secret: &[u8; 32], head: &Head) -> Self {
        Self(seal(secret, 0, &head.span()))
    }

    /// The head as it lies in the file.
    pub fn head(&self, head: &Head) -> Vec<u8> {
        let mut out = head.span();
        out.extend_from_slice(&head.records.to_be_bytes());
        out.extend_from_slice(&head.block.unwrap_or(NONE).to_be_bytes());
        out.extend_from_slice(&head.audit.unwrap_or(NONE).to_be_bytes());
        out.extend_from_slice(&head.rotations.to_be_bytes());
        let seal = seal(&self.0, HEAD, &out);
        out.extend_from_slice(&seal);
        out.resize(BLOCK_BYTES, 0);
        out
    }

    /// Reads a head back; none for anything that this ledger did not write.
    pub fn open(secret: &[u8; 32], bytes: &[u8]) -> Option<(Head, Self)> {
        let number = |at: usize| {
            let bytes = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let (first, end, root) = (number(8)?, number(16)?, bytes.get(24..56)?);
        let (records, block, audit, rotations) =
            (number(56)?, number(64)?, number(72)?, number(80)?);
        let some = |at: u64| (at != NONE).then_some(at);
        let head = Head {
            first,
            end,
            root: root.try_into().ok()?,
            records,
            block: some(block),
            audit: some(audit),
            rotations,
        };
        let sealer = Self::new(secret, &head);
        (sealer.head(&head) == bytes && first < end && records > 0).then_some((head, sealer))
    }

    /// A block as it lies in the file, of at most [`BLOCK_RECORDS`] records.
    pub fn block(&self, number: u64, records: &[(Key, u64)], out: &mut Vec<u8>) {
        let begin = out.len();
        for (key, at) in records {
            out.extend_from_slice(&key.0);
            out.extend_from_slice(&at.to_be_bytes());
        }
        out.resize(begin + BLOCK_BYTES - SEAL_BYTES, 0);
        let seal = seal(&self.0, number, out.get(begin..).unwrap_or_default());
        out.extend_from_slice(&seal);
    }

    /// The records of a block; none if it is not the one that was written there.
    pub fn open_block<'a>(
        &self,
        number: u64,
        records: usize,
        bytes: &'a [u8],
    ) -> Option<Block<'a>> {
        let (body, sealed) = bytes.split_last_chunk::<SEAL_BYTES>()?;
        let held = seal(&self.0, number, body) == *sealed;
        let records = body.get(..records.checked_mul(RECORD_BYTES)?)?;
        held.then_some(Block(records))
    }

    /// The fences as they lie in the file.
    pub fn fences(&self, fences: &[Key]) -> Vec<u8> {
        let mut out: Vec<u8> = fences.iter().flat_map(|key| key.0).collect();
        let seal = seal(&self.0, FENCES, &out);
        out.extend_from_slice(&seal);
        out
    }

    /// Reads fences back; none if they are not those that were written.
    pub fn open_fences(&self, bytes: &[u8]) -> Option<Vec<Key>> {
        let (body, sealed) = bytes.split_last_chunk::<SEAL_BYTES>()?;
        if seal(&self.0, FENCES, body) != *sealed {
            return None;
        }
        let (keys, rest) = body.as_chunks::<KEY_BYTES>();
        rest.is_empty()
            .then(|| keys.iter().copied().map(Key).collect())
    }
}

impl Sealer {
    /// The rotations as they lie in the file.
    pub fn rotations(&self, rotations: &[Retired]) -> Vec<u8> {
        let mut out = Vec::with_capacity(rotations.len() * ROTATION_BYTES + SEAL_BYTES);
        for Retired { leaf_index, until } in rotations {
            out.extend_from_slice(&leaf_index.to_be_bytes());
            out.extend_from_slice(&until.unwrap_or(NONE).to_be_bytes());
        }
        let seal = seal(&self.0, ROTATIONS, &out);
        out.extend_from_slice(&seal);
        out
    }

    /// Reads rotations back; none if they are not those that were written.
    pub fn open_rotations(&self, bytes: &[u8]) -> Option<Vec<Retired>> {
        let (body, sealed) = bytes.split_last_chunk::<SEAL_BYTES>()?;
        if seal(&self.0, ROTATIONS, body) != *sealed {
            return None;
        }
        let (pairs, rest) = body.as_chunks::<ROTATION_BYTES>();
        let read = |pair: &[u8; ROTATION_BYTES]| {
            let both = u128::from_be_bytes(*pair);
            let (at, until) = ((both >> 64) as u64, both as u64);
            Retired {
                leaf_index: at,
                until: (until != NONE).then_some(until),
            }
        };
        rest.is_empty().then(|| pairs.iter().map(read).collect())
    }
}

/// Records of a block, checked.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a>(&'a [u8]);

impl Block<'_> {
    /// All of them, in order.
    pub fn records(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        self.0.as_chunks::<RECORD_BYTES>().0.iter().map(record)
    }

    /// Where the entry under a key is.
    pub fn get(&self, key: &Key) -> Option<u64> {
        let records = self.0.as_chunks::<RECORD_BYTES>().0;
        let at = records.binary_search_by(|r| record(r).0.cmp(key)).ok()?;
        records.get(at).map(|r| record(r).1)
    }
}

fn record(bytes: &[u8; RECORD_BYTES]) -> (Key, u64) {
    let (mut key, mut at) = ([0; KEY_BYTES], [0; 8]);
    let (a, b) = bytes.split_at(KEY_BYTES);
    key.copy_from_slice(a);
    at.copy_from_slice(b);
    (Key(key), u64::from_be_bytes(at))
}

/// The block that a key would be in, by the fences.
pub fn block_of(fences: &[Key], key: &Key) -> Option<u64> {
    let after = fences.partition_point(|fence| fence <= key);
    after.checked_sub(1).map(|block| block as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn head(records: u64) -> Head {
        Head {
            first: 3,
            end: 9,
            root: [1; 32],
            records,
            block: Some(8),
            audit: None,
            rotations: 2,
        }
    }

    fn sorted(n: u8) -> Vec<(Key, u64)> {
        let mut records: Vec<_> = (0..n)
            .map(|i| (Key::leaf(&[i; 32]), u64::from(i)))
            .collect();
        records.sort_unstable();
        records
    }

    #[test]
    fn a_block_gives_back_what_was_put_in_and_notices_every_flip() {
        let (head, records) = (head(100), sorted(100));
        let sealer = Sealer::new(&SECRET, &head);
        let mut bytes = Vec::new();
        sealer.block(2, &records, &mut bytes);
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let block = sealer.open_block(2, 100, &bytes).unwrap();
        assert_eq!(block.records().collect::<Vec<_>>(), records);
        for (key, at) in &records {
            assert_eq!(block.get(key), Some(*at));
        }
        assert_eq!(block.get(&Key::tag(&Digest([1; 32]))), None);
        assert!(sealer.open_block(3, 100, &bytes).is_none(), "another place");
        let other = Sealer::new(&SECRET, &Head { end: 10, ..head });
        assert!(other.open_block(2, 100, &bytes).is_none(), "another run");
        for at in 0..BLOCK_BYTES {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(sealer.open_block(2, 100, &bad).is_none(), "byte {at}");
        }
    }

    #[test]
    fn heads_and_fences_are_this_ledgers_or_nothing() {
        let head = head(300);
        let sealer = Sealer::new(&SECRET, &head);
        let bytes = sealer.head(&head);
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let (opened, same) = Sealer::open(&SECRET, &bytes).unwrap();
        assert_eq!((opened, head.blocks()), (head, 3));
        assert_eq!([0, 1, 2, 3].map(|n| head.records_of(n)), [127, 127, 46, 0]);
        assert!(Sealer::open(&[8; 32], &bytes).is_none(), "another ledger's");
        let fences: Vec<Key> = sorted(3).into_iter().map(|(key, _)| key).collect();
        let written = sealer.fences(&fences);
        assert_eq!(written.len() as u64, head.fence_bytes());
        assert_eq!(same.open_fences(&written).unwrap(), fences);
        let retired = [(4, Some(9)), (8, None)];
        let retired = retired.map(|(leaf_index, until)| Retired { leaf_index, until });
        let rotations = sealer.rotations(&retired);
        assert_eq!(rotations.len() as u64, head.rotation_bytes());
        assert_eq!(same.open_rotations(&rotations).unwrap(), retired);
        assert!(same.open_fences(&rotations).is_none(), "another part");
        for at in 0..rotations.len() {
            let mut bad = rotations.clone();
            bad[at] ^= 1;
            assert!(same.open_rotations(&bad).is_none(), "byte {at}");
        }
        for at in 0..BLOCK_BYTES {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Sealer::open(&SECRET, &bad).is_none(), "byte {at}");
        }
        for at in 0..written.len() {
            let mut bad = written.clone();
            bad[at] ^= 1;
            assert!(same.open_fences(&bad).is_none(), "byte {at}");
        }
        assert_eq!(block_of(&fences, &fences[0]), Some(0));
        assert_eq!(block_of(&fences, &fences[2]), Some(2));
        let below = (0..=u8::MAX).map(|i| Key::leaf(&[i; 32])).min().unwrap();
        assert_eq!(
            block_of(&fences, &below),
            if below < fences[0] { None } else { Some(0) }
        );
    }
}
