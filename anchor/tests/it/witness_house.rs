//! A log with two histories, and a witness of it, for the tests below.

use std::{path::Path, sync::Arc};

use chordae_anchor::{Witness, core::witness::Request, witness::Settings};
use chordae_base::{
    Outcome,
    seams::{
        Disk,
        fake::{FakeClock, FakeDisk},
    },
};
use chordae_chain::{
    checkpoint::{Checkpoint, TrustedLog},
    keys::SecretKeys,
    merkle::{self, NodeHash, StoredHashes},
};

use crate::house::{NOW_NS, ORIGIN, party};

pub(crate) const DIR: &str = "/witness";
pub(crate) const NAME: &str = "w.example/w1";
pub(crate) const LOG: u8 = 5;
pub(crate) const WITNESS: u8 = 11;

/// A history of the log.
pub(crate) struct Branch(Vec<NodeHash>);

impl Branch {
    /// `len` leaves; from `fork` on they are those of history `n`.
    pub(crate) fn new(n: u8, fork: u64, len: u64) -> Self {
        let leaf =
            |i: u64| merkle::leaf_hash(&[if i < fork { 0 } else { n }, i as u8, (i >> 8) as u8]);
        Self((0..len).map(leaf).collect())
    }

    pub(crate) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.into(),
            size,
            root: merkle::root(&self.0[..size as usize]),
        }
    }

    /// Signed by the log of this key.
    pub(crate) fn note(&self, size: u64, log: u8) -> String {
        self.checkpoint(size).sign(&party(log).sign).unwrap()
    }

    pub(crate) fn proof(&self, old: u64, size: u64) -> Vec<NodeHash> {
        let stored = StoredHashes::of(&self.0);
        merkle::consistency_path(size, old, &stored).unwrap_or_default()
    }

    /// What an honest log asks that believes the witness to remember `old`.
    pub(crate) fn ask(&self, old: u64, size: u64) -> String {
        Request::compose(old, &self.proof(old, size), &self.note(size, LOG))
    }
}

pub(crate) fn log(seed: u8) -> TrustedLog {
    TrustedLog::new(ORIGIN, &party(seed).sign_public()).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        dir: DIR.into(),
        name: NAME.into(),
        logs: vec![log(LOG)],
    }
}

pub(crate) fn key() -> SecretKeys {
    party(WITNESS)
}

pub(crate) fn open(disk: impl Disk + 'static) -> Outcome<Witness> {
    let clock = Arc::new(FakeClock::new(NOW_NS));
    Witness::open(Arc::new(disk), clock, settings(), key())
}

pub(crate) fn init(disk: &dyn Disk) -> Outcome<()> {
    Witness::init(disk, Path::new(DIR), ORIGIN)
}

/// What is kept as evidence: names and texts.
pub(crate) fn evidence(disk: &FakeDisk) -> Vec<(String, String)> {
    let dir = format!("{DIR}/evidence");
    let entries = disk.list(Path::new(&dir)).unwrap_or_default();
    let kept = entries.iter().filter_map(|e| {
        let name = e.path.file_name()?.to_str()?.to_owned();
        let text = String::from_utf8(disk.peek(&e.path)?).ok()?;
        name.ends_with(".notes").then_some((name, text))
    });
    kept.collect()
}
