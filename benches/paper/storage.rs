//! What is stored, on the ledger for ever and in the directory for as long as it is wanted (the paper's Figure 10).
//!
//! | arm | on the ledger | in the directory |
//! |---|---|---|
//! | all on the ledger | data: digest and description; session: its whole sections; its end | nothing |
//! | published | data: digest; session: digest, dids, parties | inventory, session until it ends |
//! | ours | data: digest; session: digest, what was granted (sealed to the patient); its end | the same |
//!
//! The same events, signatures and sealed texts in all, so that what differs is what a scheme puts where. Each datum
//! is a record of its own, with its entry in an inventory and in a session. Bytes on the ledger: those of its entries,
//! with the two of their length and the 32 of their leaf hash in a tile; `block` leaves are left out, since how many
//! there are depends on how fast events come. Bytes in the directory: those of the files that the product's keeps.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use chordae_base::{
    Did, Digest, Failure, Outcome,
    seams::real::{OsDisk, OsEntropy},
};
use chordae_chain::{
    event::{self, Event},
    inventory::{self, Entry},
    link,
    seal::{self, Purpose},
    session::{self, Grant, Made, SectionPlain},
};
use chordae_storage::directory::Directory;
use tokio::runtime::Handle;

use super::house::House;

/// Sizes of both figures.
pub const SIZES: [u64; 4] = [10, 20, 40, 80];
/// Sessions of Figure 10a, and records of 10b.
pub const FIXED: u64 = 10;
/// Bytes beside an entry: its length in the bundle, its hash in the tile.
const BESIDE: u64 = 2 + 32;

/// A scheme's way to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// As the paper draws its predecessors.
    AllOnLedger,
    /// MedChain.
    Published,
    /// chordae.
    Ours,
}

impl Arm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AllOnLedger, Self::Published, Self::Ours];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllOnLedger => "all on the ledger",
            Self::Published => "published",
            Self::Ours => "ours",
        }
    }
}

/// Bytes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// On the ledger.
    pub ledger: u64,
    /// In the directory.
    pub directory: u64,
}

/// One setting of one arm.
pub struct Grown {
    /// Data in all, and sessions.
    pub data: u64,
    /// Sessions.
    pub sessions: u64,
    /// While the sessions are live. Of `AllOnLedger` also: after they ended, where nobody reports it.
    pub live: Stored,
    /// After all of them were revoked.
    pub revoked: Stored,
}

/// So many sessions; each over `each` records of its own, or all over the same (`shared`).
///
/// # Errors
/// Those of ledger and directory.
pub fn grow(
    arm: Arm,
    (sessions, each, shared): (u64, u64, bool),
    dir: &Path,
    runtime: &Handle,
) -> Outcome<Grown> {
    let os = |e: std::io::Error| Failure::os("make a folder", &e);
    let dir = tempfile::Builder::new()
        .prefix("storage-")
        .tempdir_in(dir)
        .map_err(os)?;
    let folder = dir.path().join("directory");
    let store = Store {
        arm,
        house: House::open(dir.path(), runtime)?,
        directory: Directory::open(Arc::new(OsDisk), &folder)?,
    };
    let mut granted = Vec::new();
    let mut data = 0;
    for number in 0..sessions {
        let of = if shared { 0 } else { number };
        if !(shared && number > 0) {
            store.generate(of, each)?;
            data += each;
        }
        granted.push(store.grant(of, each)?);
    }
    let sids: Vec<_> = granted.iter().map(|e| event::leaf_hash(e)).collect();
    store.house.enter(granted.into_iter())?;
    let stored = || -> Outcome<Stored> {
        Ok(Stored {
            ledger: store.ledger_bytes()?,
            directory: bytes_below(&folder)?,
        })
    };
    let live = stored()?;
    store.revoke(&sids)?;
    let revoked = stored()?;
    store.house.ledger().stop();
    Ok(Grown {
        data,
        sessions,
        live,
        revoked,
    })
}

struct Store {
    arm: Arm,
    house: House,
    directory: Directory,
}

fn did(of: u64, n: u64) -> Did {
    super::numbered(9, of << 32 | n)
}

/// What people want to know of a record, and where it lies.
fn described(did: Did) -> Entry {
    let words = [
        ("device", "Holter recorder"),
        ("summary", "ECG, two leads, 360 Hz, half an hour"),
        ("ward", "cardiology"),
    ];
    let words = words.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Entry {
        did,
        metadata: BTreeMap::from(words),
        url: format!("https://records.hospital.example/v1/streams/{did}"),
    }
}

impl Store {
    /// So many records: their events, and an inventory of them.
    fn generate(&self, of: u64, each: u64) -> Outcome<()> {
        let entries: Vec<Entry> = (0..each).map(|n| described(did(of, n))).collect();
        let events = entries.iter().map(|entry| self.add_data(entry));
        let events = events.collect::<Outcome<Vec<_>>>()?;
        self.house.enter(events.into_iter())?;
        if self.arm == Arm::AllOnLedger {
            return Ok(());
        }
        let keys = &self.house.keys;
        let record =
            inventory::create(&keys.patient, &provider(&self.house)?, &entries, &OsEntropy)?;
        let id = inventory::decode(&record)?.record.id;
        let owner = keys.patient.key_id();
        self.directory.inventories().put(&owner, &id, &record, None)
    }

    fn add_data(&self, entry: &Entry) -> Outcome<Vec<u8>> {
        // A digest has one length, whatever of.
        let digest = Digest(*blake3::hash(&entry.did.0).as_bytes());
        if self.arm != Arm::AllOnLedger {
            return self.house.add_data((entry.did, 0), digest, None);
        }
        let description = inventory::encode_entries(std::slice::from_ref(entry))?;
        let event = Event::AddData {
            digest,
            tag: link::tag(&entry.did, 0),
            content: seal::seal(
                &patient(&self.house)?,
                Purpose::AddData,
                &description,
                &OsEntropy,
            )?,
        };
        event::sign(&event, &self.house.keys.provider)
    }

    /// A session over the records of one run: its record is kept, its event is still to be entered.
    fn grant(&self, of: u64, each: u64) -> Outcome<Vec<u8>> {
        let (keys, provider) = (&self.house.keys, provider(&self.house)?);
        let requester = keys.requester.seal_public();
        let requester = requester.ok_or_else(|| Failure::internal("no sealing key"))?;
        let plain = self.section((0..each).map(|n| described(did(of, n))));
        let made = session::make(&keys.patient, &provider, &requester, &[plain], &OsEntropy)?;
        let (entry, record) = (self.session_event(&made, of, each)?, made.record.encode()?);
        if self.arm != Arm::AllOnLedger {
            let sid = event::leaf_hash(&entry);
            self.directory.put(&sid, &record, || Ok(false))?;
        }
        Ok(entry)
    }

    fn section(&self, entries: impl Iterator<Item = Entry>) -> SectionPlain {
        let grant = |entry: Entry| Grant {
            did: entry.did,
            metadata: entry.metadata,
            url: entry.url,
            st_ns: None,
            et_ns: None,
            leads: None,
        };
        SectionPlain {
            patient: self.house.keys.patient.sign_public(),
            requester: self.house.keys.requester.sign_public(),
            expires_ns: None,
            purpose: "treatment".to_owned(),
            grants: entries.map(grant).collect(),
        }
    }

    /// What the ledger is told of a session.
    fn session_event(&self, made: &Made, of: u64, each: u64) -> Outcome<Vec<u8>> {
        let content = match self.arm {
            Arm::Ours => return Ok(made.entry.clone()),
            // The sections themselves: there is no other place for them.
            Arm::AllOnLedger => made.record.encode()?,
            // Def. 2: dids, spans and the requester, sealed to the patient.
            Arm::Published => {
                let bare = |n| Entry {
                    metadata: BTreeMap::new(),
                    url: String::new(),
                    ..described(did(of, n))
                };
                let plain = self.section((0..each).map(bare)).encode()?;
                let to = patient(&self.house)?;
                seal::seal(&to, Purpose::CreateSession, &plain, &OsEntropy)?
            }
        };
        let event = Event::CreateSession {
            sections: made.record.digest()?,
            content,
            nonce: made.sid.first_chunk().copied().unwrap_or_default(),
        };
        event::sign(&event, &self.house.keys.patient)
    }

    /// Ends sessions, as their scheme does.
    fn revoke(&self, sids: &[[u8; 32]]) -> Outcome<()> {
        if self.arm != Arm::Published {
            let end = |sid: &[u8; 32]| {
                let event = Event::RevokeSession {
                    sid: *sid,
                    nonce: [2; 16],
                };
                event::sign(&event, &self.house.keys.patient)
            };
            let ends = sids.iter().map(end).collect::<Outcome<Vec<_>>>()?;
            self.house.enter(ends.into_iter())?;
        }
        for sid in sids {
            self.directory.remove(sid)?;
        }
        Ok(())
    }

    fn ledger_bytes(&self) -> Outcome<u64> {
        let (ledger, mut bytes) = (self.house.ledger(), 0);
        for leaf in 0..ledger.size() {
            let entry = ledger.entry(leaf)?;
            if !matches!(event::decode(&entry)?.event, Event::Block { .. }) {
                bytes += entry.len() as u64 + BESIDE;
            }
        }
        Ok(bytes)
    }
}

fn provider(house: &House) -> Outcome<[u8; 32]> {
    let key = house.keys.provider.seal_public();
    key.ok_or_else(|| Failure::internal("no sealing key"))
}

fn patient(house: &House) -> Outcome<[u8; 32]> {
    let key = house.keys.patient.seal_public();
    key.ok_or_else(|| Failure::internal("no sealing key"))
}

fn bytes_below(dir: &Path) -> Outcome<u64> {
    let os = |e: std::io::Error| Failure::os("look at the directory", &e);
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(os)? {
        let entry = entry.map_err(os)?;
        let about = entry.metadata().map_err(os)?;
        bytes += match about.is_dir() {
            true => bytes_below(&entry.path())?,
            false => about.len(),
        };
    }
    Ok(bytes)
}
