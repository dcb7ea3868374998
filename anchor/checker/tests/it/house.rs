//! A small data folder, made from the formats alone (no code of the product that writes one).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Outcome, Rate, journal,
    seams::{Disk, EntryKind, fake::FakeDisk},
    wire::{ClockKind, Lead},
};
use chordae_chain::{
    cbor,
    checkpoint::TrustedLog,
    event::{self, Event},
    finding::Code,
    keys::{Role, SecretKeys},
    link::{self, Link},
    merkle,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
    trust::{self, TrustFile},
};
use chordae_checker::{
    Report, check_folder,
    tamper::{How, LogKeys, tamper, write_log},
};
use chordae_chunk::{ChunkRows, SealedChunk, seal};
use ciborium::Value;
use sha2::{Digest as _, Sha256};

pub(crate) const ORIGIN: &str = "chordae.local/test";
pub(crate) const S: i64 = 1_000_000_000;
pub(crate) const T: i64 = 1_700_000_000 * S;

pub(crate) fn did(n: u8) -> Did {
    Did([n; 16])
}

pub(crate) fn keys(seed: u8) -> SecretKeys {
    SecretKeys::from_secrets(&[seed; 32], None).unwrap()
}

pub(crate) fn log_keys() -> LogKeys {
    LogKeys {
        log: keys(5),
        sequencer: keys(2),
    }
}

/// A chunk of 10 s at 8 Hz, two leads.
pub(crate) fn chunk(did: Did, index: u64, prev: Digest) -> SealedChunk {
    let slot = T + i64::try_from(index).unwrap() * 10 * S;
    let rows = ChunkRows {
        times: (0..80).map(|k| slot + k * S / 8).collect(),
        leads: vec![
            (0..80).map(|k| k * 7 % 50).collect(),
            (0..80).map(|k| k * k % 90 - i32::from(did.0[0])).collect(),
        ],
    };
    let lead = |name: &str| Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 0,
        unit: "mV".into(),
        bits: 12,
    };
    let meta = ChunkMeta {
        boot: 1,
        clock: ChunkClock {
            offset_ns: 0,
            quality: ClockKind::Synced,
        },
        did,
        end_ns: slot + 10 * S,
        first_ns: slot,
        index,
        jitter_ns: (0, 0),
        lane: Lane::Live,
        leads: vec![lead("I"), lead("II")],
        missing: Vec::new(),
        page_ns: 10 * S,
        prev,
        profile: Profile::Open,
        rate: Rate::new(8, 1).unwrap(),
        received: (slot, slot + 10 * S),
        rows: 80,
        seq: (index * 10, index * 10 + 9),
        slot_len_ns: 10 * S,
        slot_start_ns: slot,
        v: 1,
    };
    seal(meta, [index as u8; 32], &rows).unwrap()
}

/// `count` chunks of a did, chained.
pub(crate) fn chain(did: Did, count: u64) -> Vec<SealedChunk> {
    let mut chunks: Vec<SealedChunk> = Vec::new();
    for index in 0..count {
        let prev = chunks
            .last()
            .map_or(link::genesis(&did), |c| c.link().digest());
        chunks.push(chunk(did, index, prev));
    }
    chunks
}

pub(crate) fn add_data(link: &Link) -> Vec<u8> {
    add_data_by(link, 1)
}

/// As [`add_data`], signed by another key than the provider's.
pub(crate) fn add_data_by(link: &Link, signer: u8) -> Vec<u8> {
    let event = Event::AddData {
        digest: link.digest(),
        tag: link::tag(&link.did, link.index),
        content: vec![9; 60],
    };
    event::sign(&event, &keys(signer)).unwrap()
}

fn create_session() -> Vec<u8> {
    let event = Event::CreateSession {
        sections: [4; 32],
        content: vec![5; 80],
        nonce: [6; 16],
    };
    event::sign(&event, &keys(3)).unwrap()
}

/// Records that look like those of the trail as far as they chain.
pub(crate) fn trail(count: u64) -> Vec<Bytes> {
    let mut prev = [0; 32];
    (0..count)
        .map(|n| {
            let fields = [
                ("n", Value::from(n)),
                ("jti", Value::from(format!("request {n}"))),
                ("prev", Value::Bytes(prev.to_vec())),
            ];
            let fields = fields
                .into_iter()
                .map(|(k, v)| (Value::from(k), v))
                .collect();
            let record = cbor::encode(&Value::Map(fields)).unwrap();
            prev = Sha256::digest(&record).into();
            Bytes::from(record)
        })
        .collect()
}

fn audit_head(records: &[Bytes]) -> Vec<u8> {
    let digest = Digest(Sha256::digest(records.last().unwrap()).into());
    let count = records.len() as u64;
    event::sign(
        &Event::AuditHead {
            digest,
            count,
            time_ms: 7,
        },
        &keys(1),
    )
    .unwrap()
}

/// A data folder on a disk in memory.
pub(crate) struct House {
    pub(crate) disk: FakeDisk,
    pub(crate) trust: TrustFile,
    pub(crate) root: PathBuf,
    pub(crate) links: Vec<Link>,
    pub(crate) batches: Vec<Vec<Vec<u8>>>,
    pub(crate) entries: Vec<Vec<u8>>,
}

impl House {
    /// Streams 1 (five chunks) and 2 (three), in three blocks, all anchored.
    pub(crate) fn new() -> Self {
        let log = TrustedLog::new(ORIGIN, &keys(5).sign_public()).unwrap();
        let trust = TrustFile {
            origin: ORIGIN.into(),
            policy: trust::policy_text(&log),
            providers: vec![keys(1).public("provider", Role::Provider)],
            sequencers: vec![keys(2).public("sequencer", Role::Sequencer)],
            retired: Vec::new(),
            ca: None,
        };
        let mut house = Self {
            disk: FakeDisk::new(),
            trust,
            root: PathBuf::from("/data"),
            links: Vec::new(),
            batches: Vec::new(),
            entries: Vec::new(),
        };
        let (a, b) = (chain(did(1), 5), chain(did(2), 3));
        // In the order of linking: the streams take turns.
        for at in 0..5 {
            for chunk in [a.get(at), b.get(at)].into_iter().flatten() {
                let name = link::object_name(&chunk.link().did, chunk.link().index);
                house.put(&name, chunk.bytes());
                house.links.push(chunk.link().clone());
            }
        }
        house.write_links();
        let records = trail(4);
        house.journal("trail", &records);
        let patient = keys(3).public("patient", Role::Patient);
        house.put(
            &format!("registry/keys/{}.json", patient.key_id()),
            patient.to_json().as_bytes(),
        );
        house.batches = vec![
            vec![add_data(a[1].link()), add_data(b[2].link())],
            vec![create_session(), audit_head(&records[..3])],
            vec![add_data(a[4].link()), audit_head(&records)],
        ];
        house.write_ledger();
        house
    }

    pub(crate) fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        self.disk.put(&self.root.join(name), bytes);
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        self.disk
            .peek(&self.root.join(name))
            .unwrap_or_else(|| panic!("no {name}"))
    }

    pub(crate) fn remove(&self, name: &str) {
        self.disk.remove(&self.root.join(name)).unwrap();
    }

    /// Writes a journal anew.
    pub(crate) fn journal(&self, dir: &str, records: &[Bytes]) {
        let dir = self.root.join(dir);
        for entry in self.disk.list(&dir).unwrap_or_default() {
            self.disk.remove(&entry.path).unwrap();
        }
        let settings = journal::Settings {
            dir,
            segment_bytes: 1 << 20,
            room_bytes: 0,
            record_bytes_max: 1 << 20,
        };
        let journal = journal::Journal::open(self.arc(), settings)
            .unwrap()
            .journal;
        journal.commit(records).unwrap().0.mark().unwrap();
    }

    /// Where the link of a chunk stands among [`Self::links`].
    pub(crate) fn at(&self, did_n: u8, index: u64) -> usize {
        let link = |l: &Link| (l.did, l.index) == (did(did_n), index);
        self.links.iter().position(link).unwrap()
    }

    pub(crate) fn write_links(&self) {
        let records: Vec<Bytes> = self
            .links
            .iter()
            .map(|l| Bytes::copy_from_slice(&l.encode()))
            .collect();
        self.journal("links", &records);
    }

    pub(crate) fn write_ledger(&mut self) {
        self.entries = write_log(
            &self.arc(),
            &self.root,
            ORIGIN,
            &log_keys(),
            &self.batches,
            1000,
        )
        .unwrap();
    }

    /// Puts entries into the log as bundle and level-0 tile of their number (at most 256), nothing else.
    pub(crate) fn put_log(&self, entries: &[Vec<u8>]) {
        let mut bundle = Vec::new();
        for entry in entries {
            bundle.extend((entry.len() as u16).to_be_bytes());
            bundle.extend(entry);
        }
        let leaves: Vec<_> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
        let size = entries.len();
        self.put(&format!("ledger/tile/entries/000.p/{size}"), &bundle);
        self.put(
            &format!("ledger/tile/0/000.p/{size}"),
            leaves.as_flattened(),
        );
    }

    /// Removes the tiles of the log, which [`House::write_ledger`] or [`House::put_log`] then write anew.
    pub(crate) fn forget_log(&self) {
        for tile in ["0/000", "entries/000"] {
            self.remove(&format!("ledger/tile/{tile}.p/{}", self.entries.len()));
        }
    }

    /// The names of all files.
    pub(crate) fn files(&self) -> Vec<String> {
        let (mut files, mut todo) = (Vec::new(), vec![self.root.clone()]);
        while let Some(dir) = todo.pop() {
            for entry in self.disk.list(&dir).unwrap() {
                match entry.kind {
                    EntryKind::Dir => todo.push(entry.path),
                    _ => {
                        let name = entry.path.strip_prefix(&self.root).unwrap();
                        files.push(name.to_str().unwrap().to_owned());
                    }
                }
            }
        }
        files
    }

    pub(crate) fn check(&self) -> Report {
        self.check_with(Some(&self.trust))
    }

    pub(crate) fn check_with(&self, trust: Option<&TrustFile>) -> Report {
        check_folder(&self.disk, &self.root, trust, &mut |_| {}).unwrap()
    }

    pub(crate) fn tamper(&self, how: How) -> Outcome<String> {
        tamper(&self.arc(), &self.root, how)
    }
}

/// Objects and codes of a report.
pub(crate) fn found(report: &Report) -> BTreeSet<(String, Code)> {
    report
        .findings
        .iter()
        .map(|f| (f.object.clone(), f.code))
        .collect()
}

/// Exactly these findings and no other.
#[track_caller]
pub(crate) fn only(report: &Report, want: &[(&str, Code)]) {
    let want: BTreeSet<(String, Code)> = want.iter().map(|(o, c)| ((*o).to_owned(), *c)).collect();
    assert_eq!(found(report), want, "{:#?}", report.findings);
}

pub(crate) fn object(did_n: u8, index: u64) -> String {
    link::object_name(&did(did_n), index)
}

pub(crate) fn path(name: &str) -> &Path {
    Path::new(name)
}
