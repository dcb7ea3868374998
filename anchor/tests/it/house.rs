//! Keys, parties and events for the tests below, and a ledger on any disk.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use chordae_anchor::{
    Ledger, LedgerKeys, Parties,
    core::tree,
    ledger::{Cadence, Settings},
};
use chordae_base::{
    Digest, KeyId, Outcome,
    seams::{
        Disk, Threads,
        fake::FakeClock,
        faulty::{Fault, How},
    },
};
use chordae_chain::{
    checkpoint::{self, Checkpoint},
    event::{self, Event},
    keys::{Role, SecretKeys},
    merkle,
};
use tlog_tiles::Tile;

pub(crate) const ORIGIN: &str = "chordae.local/test";
pub(crate) const DATA: &str = "/data";
pub(crate) const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// The keys whose secrets are one byte 32 times.
pub(crate) fn party(seed: u8) -> SecretKeys {
    SecretKeys::from_secrets(&[seed; 32], Some(&[seed; 32])).unwrap()
}

pub(crate) const PROVIDER: u8 = 1;
pub(crate) const SEQUENCER: u8 = 2;
pub(crate) const PATIENT: u8 = 3;
pub(crate) const OTHER_PATIENT: u8 = 6;
/// Another provider; comes after the first, where keys change.
pub(crate) const NEXT_PROVIDER: u8 = 7;

pub(crate) struct Known;

impl Parties for Known {
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])> {
        let known = [
            (PROVIDER, Role::Provider),
            (NEXT_PROVIDER, Role::Provider),
            (SEQUENCER, Role::Sequencer),
            (PATIENT, Role::Patient),
            (OTHER_PATIENT, Role::Patient),
        ];
        let found = known.iter().find(|(seed, _)| party(*seed).key_id() == *kid);
        found.map(|(seed, role)| (*role, party(*seed).sign_public()))
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        data_dir: Path::new(DATA).into(),
        origin: ORIGIN.into(),
        policy: None,
        cadence: Cadence::default(),
    }
}

pub(crate) fn keys() -> LedgerKeys {
    LedgerKeys {
        log: party(5),
        sequencer: party(SEQUENCER),
    }
}

pub(crate) fn open_with(
    disk: Arc<dyn Disk>,
    clock: FakeClock,
    keys: LedgerKeys,
) -> Outcome<Ledger> {
    open_as(disk, settings(), clock, keys)
}

/// As [`open_with`], elsewhere or under a policy.
pub(crate) fn open_as(
    disk: Arc<dyn Disk>,
    settings: Settings,
    clock: FakeClock,
    keys: LedgerKeys,
) -> Outcome<Ledger> {
    let registry = prometheus::Registry::new();
    Ledger::open(
        disk,
        settings,
        keys,
        Arc::new(Known),
        Arc::new(clock),
        &Threads::of_the_machine(),
        &registry,
    )
}

pub(crate) fn open(disk: impl Disk + 'static) -> Outcome<Ledger> {
    open_with(Arc::new(disk), FakeClock::new(NOW_NS), keys())
}

/// A ledger whose keys go to the disk after so many entries.
pub(crate) fn open_small(disk: impl Disk + 'static, run_entries: u64) -> Outcome<Ledger> {
    let cadence = Cadence {
        run_entries,
        ..Cadence::default()
    };
    open_at(disk, cadence)
}

/// A ledger that does things so often.
pub(crate) fn open_at(disk: impl Disk + 'static, cadence: Cadence) -> Outcome<Ledger> {
    let settings = Settings {
        cadence,
        ..settings()
    };
    open_as(Arc::new(disk), settings, FakeClock::new(NOW_NS), keys())
}

/// From some operation on, nothing works any more.
pub(crate) fn dies_at(after: u64, how: How) -> Fault {
    Fault {
        op: None,
        path_has: String::new(),
        after,
        for_ever: true,
        how,
    }
}

/// The n-th anchor event of the provider.
pub(crate) fn anchor(n: u64) -> Bytes {
    anchor_by(n, PROVIDER)
}

/// The n-th anchor event, by this provider.
pub(crate) fn anchor_by(n: u64, provider: u8) -> Bytes {
    anchor_of(n, provider, 60)
}

/// The same, with so many bytes of content.
pub(crate) fn anchor_of(n: u64, provider: u8, content: usize) -> Bytes {
    let mut tag = [0; 32];
    tag[..8].copy_from_slice(&n.to_be_bytes());
    let event = Event::AddData {
        digest: Digest([1; 32]),
        tag: Digest(tag),
        content: vec![2; content],
    };
    event::sign(&event, &party(provider)).unwrap().into()
}

pub(crate) fn grant(seed: u8, nonce: u8) -> Bytes {
    let event = Event::CreateSession {
        sections: [4; 32],
        content: vec![5; 20],
        nonce: [nonce; 16],
    };
    event::sign(&event, &party(seed)).unwrap().into()
}

pub(crate) fn revocation(seed: u8, sid: [u8; 32]) -> Bytes {
    let event = Event::RevokeSession {
        sid,
        nonce: [7; 16],
    };
    event::sign(&event, &party(seed)).unwrap().into()
}

pub(crate) fn checkpoint_of(ledger: &Ledger) -> Checkpoint {
    checkpoint::open(&ledger.checkpoint(), ledger.trusted_log()).unwrap()
}

pub(crate) fn all_entries(ledger: &Ledger) -> Vec<Bytes> {
    let (size, mut entries) = (ledger.size(), Vec::new());
    while (entries.len() as u64) < size {
        let width = (size - entries.len() as u64).min(256) as u32;
        let tile = Tile::new(8, 0, entries.len() as u64 / 256, width, true);
        let bundle = ledger.file(&tree::path(&tile)).unwrap();
        entries.extend(tree::split_bundle(&bundle).unwrap());
    }
    entries
}

pub(crate) fn leaves(entries: &[Bytes]) -> Vec<[u8; 32]> {
    entries
        .iter()
        .map(|entry| merkle::leaf_hash(entry))
        .collect()
}
