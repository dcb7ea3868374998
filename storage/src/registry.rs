//! The registry: which devices and parties are known, whose a stream is and how it is cut.
//!
//! ```text
//! registry/log/    base journal, one JSON record per change, never trimmed   ── the truth
//! registry/keys/   {key id}.json, the public identity of each party          ── for checkers
//! ```
//!
//! A change is checked against the state, written, synced, and only then seen: when a call returns,
//! a crash cannot take it back; when it fails, nothing has changed. The state is folded from the log
//! at open, through the same checks, so a log that says what no registry writes is damage. A party's
//! key file is written before its record: a crash between leaves a key file that nobody names.
//!
//! After a failed write nothing can be changed until the node is started again (the log may hold the
//! record, or half of it); reading goes on. One [`Registry`] is shared by all threads.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use chordae_base::{
    DeviceId, Did, Failure, KeyId, Outcome, StreamKey, StreamPlan,
    journal::{Journal, Settings},
    plan::{SlotRule, Tenure},
    seams::{Disk, Entropy, write_atomic},
};
use chordae_chain::keys::PublicIdentity;

mod record;
mod state;
#[cfg(test)]
mod tests;

pub use record::{Certificate, Device, DeviceKind, Party};

use record::Record;
use state::State;

/// Bytes of one record; a device with all its streams fits.
const RECORD_MAX: usize = 64 * 1024;
/// Bytes of a public identity file.
const IDENTITY_MAX: u64 = 16 * 1024;

/// See the module.
pub struct Registry {
    disk: Arc<dyn Disk>,
    keys: PathBuf,
    entropy: Arc<dyn Entropy>,
    slot_ns: i64,
    /// Held during a whole change; `None` after a failed write.
    log: Mutex<Option<Journal>>,
    state: RwLock<State>,
    changes: AtomicU64,
}

impl Registry {
    /// Opens the registry in its folder, making it if there is none. New streams get slots of
    /// `slot_ns`, a multiple of a page up to an hour.
    ///
    /// # Errors
    /// `Damaged` for a log that contradicts itself or a key file that is not its party's; `BadInput`
    /// for a slot length that no stream may have; `Io`.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        entropy: Arc<dyn Entropy>,
        slot_ns: i64,
    ) -> Outcome<Self> {
        state::check_slot_len(slot_ns)?;
        let settings = Settings::small(dir.join("log"), RECORD_MAX);
        let journal = Journal::open(Arc::clone(&disk), settings)?.journal;
        let mut state = State::default();
        journal
            .reader()
            .scan(journal.start(), &mut |position, bytes| {
                Record::decode(&bytes)
                    .and_then(|record| state.admit(&record).map(|()| record))
                    .map(|record| state.fold(record))
                    .map_err(|e| Failure::damaged(format!("registry log at {position}: {e}")))
            })?;
        let keys = dir.join("keys");
        disk.create_dir_all(&keys)
            .map_err(|e| Failure::os(format_args!("create {}", keys.display()), &e))?;
        let log = Mutex::new(Some(journal));
        let registry = Self {
            disk,
            keys,
            entropy,
            slot_ns,
            log,
            state: RwLock::new(state),
            changes: AtomicU64::new(0),
        };
        for party in registry.parties() {
            registry.keep_identity(&party.identity)?;
        }
        Ok(registry)
    }

    // ---- devices, gateways, monitors

    /// All of them, by id.
    pub fn devices(&self) -> Vec<Device> {
        self.look(|s| s.devices.values().cloned().collect())
    }

    /// One of them.
    pub fn device(&self, id: &DeviceId) -> Option<Device> {
        self.look(|s| s.devices.get(id).cloned())
    }

    /// Adds one.
    ///
    /// # Errors
    /// `Refused` if the id is taken, `NotFound` for a gateway that is none, `Busy` when the registry is
    /// full.
    pub fn add_device(&self, device: Device) -> Outcome<()> {
        self.change(|_| Ok(Some(Record::DeviceAdded { device })))
            .map(drop)
    }

    /// Lets it in or keeps it out. The doors look at their connections again within
    /// [`chordae_base::limits::RECHECK_EVERY`].
    ///
    /// # Errors
    /// `NotFound`.
    pub fn enable_device(&self, id: &DeviceId, enabled: bool) -> Outcome<()> {
        self.change(|s| match s.devices.get(id) {
            Some(device) if device.enabled == enabled => Ok(None),
            _ => Ok(Some(Record::DeviceEnabled {
                id: id.clone(),
                enabled,
            })),
        })
        .map(drop)
    }

    /// The devices that a gateway speaks for, by id.
    pub fn behind(&self, gateway: &DeviceId) -> Vec<Device> {
        self.look(|s| {
            let all = s.devices.values();
            all.filter(|d| d.gateway.as_ref() == Some(gateway))
                .cloned()
                .collect()
        })
    }

    /// Notes the newest certificate given to it.
    ///
    /// # Errors
    /// `NotFound`; `Refused` when it has too many that have not expired.
    pub fn set_certificate(&self, id: &DeviceId, certificate: Certificate) -> Outcome<()> {
        self.change(|_| {
            Ok(Some(Record::DeviceCertificate {
                id: id.clone(),
                certificate,
            }))
        })
        .map(drop)
    }

    /// Revokes every certificate given to it so far; one given later counts.
    ///
    /// # Errors
    /// `NotFound` for an unknown device, or one without a certificate to revoke.
    pub fn revoke_device(&self, id: &DeviceId, at_ns: i64) -> Outcome<()> {
        let id = id.clone();
        self.change(|_| Ok(Some(Record::DeviceRevoked { id, at_ns })))
            .map(drop)
    }

    /// The revoked certificates of all, also expired ones.
    pub fn revoked(&self) -> Vec<Certificate> {
        self.look(|s| {
            let all = s.devices.values().flat_map(Device::certificates);
            all.filter(|c| c.revoked_ns.is_some()).cloned().collect()
        })
    }

    /// Changes since the registry was opened: another number means that something is different.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    // ---- parties

    /// All parties, by key id.
    pub fn parties(&self) -> Vec<Party> {
        self.look(|s| s.parties.values().cloned().collect())
    }

    /// A party, disabled ones too.
    pub fn party(&self, kid: &KeyId) -> Option<Party> {
        self.look(|s| s.parties.get(kid).cloned())
    }

    /// Makes a party known; one that is known and disabled is enabled again.
    ///
    /// # Errors
    /// `Refused` if its key is known under another name, role or sealing key.
    pub fn add_party(&self, identity: PublicIdentity) -> Outcome<KeyId> {
        let kid = identity.key_id();
        self.change(|s| {
            Ok(match s.parties.get(&kid) {
                Some(known) if known.identity == identity && known.enabled => None,
                Some(known) if known.identity == identity => {
                    Some(Record::PartyEnabled { kid, enabled: true })
                }
                _ => Some(Record::PartyAdded { identity }),
            })
        })?;
        Ok(kid)
    }

    /// Lets a party act or not. A disabled patient keeps her streams.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn enable_party(&self, kid: &KeyId, enabled: bool) -> Outcome<()> {
        self.change(|s| match s.parties.get(kid) {
            Some(party) if party.enabled == enabled => Ok(None),
            _ => Ok(Some(Record::PartyEnabled { kid: *kid, enabled })),
        })
        .map(drop)
    }

    // ---- streams

    /// All streams with their plans.
    pub fn streams(&self) -> Vec<(StreamKey, StreamPlan)> {
        self.look(|s| {
            s.streams
                .iter()
                .map(|(k, p)| (k.clone(), p.clone()))
                .collect()
        })
    }

    /// The plan of a stream; `None` before its first birth or assignment.
    pub fn plan(&self, key: &StreamKey) -> Option<StreamPlan> {
        self.look(|s| s.streams.get(key).cloned())
    }

    /// The stream that a did belongs to.
    pub fn stream_of(&self, did: &Did) -> Option<StreamKey> {
        self.look(|s| s.dids.get(did).cloned())
    }

    /// The plan of a stream, which gets a did if it has none.
    ///
    /// # Errors
    /// `NotFound` for an unknown device, `Refused` for a stream that the device may not have.
    pub fn open_stream(&self, key: &StreamKey) -> Outcome<StreamPlan> {
        if let Some(plan) = self.plan(key) {
            return Ok(plan);
        }
        self.change(|s| {
            let given = || Record::DidGiven {
                stream: key.clone(),
                did: Did::random(&*self.entropy),
                slot_ns: self.slot_ns,
            };
            Ok((!s.streams.contains_key(key)).then(given))
        })?;
        self.plan(key)
            .ok_or_else(|| Failure::internal("a stream was opened and is not there"))
    }

    /// A did that no stream has, for [`Self::add_tenure`].
    pub fn fresh_did(&self) -> Did {
        Did::random(&*self.entropy)
    }

    /// From `from_ns` on the rows of a stream belong to `did` and, if one is named, to this patient: one
    /// record, so a crash leaves both or neither. That no linked row is later is the chunker's to say.
    ///
    /// # Errors
    /// `NotFound` for an unknown stream or patient; `Refused` for a did that is in use or a time not
    /// after the newest tenure's.
    pub fn add_tenure(
        &self,
        stream: &StreamKey,
        did: Did,
        from_ns: i64,
        patient: Option<KeyId>,
    ) -> Outcome<StreamPlan> {
        let stream = stream.clone();
        let tenure = Tenure { from_ns, did };
        self.change_plan(Record::TenureBegun {
            stream,
            tenure,
            patient,
        })
    }

    /// From `rule.from_ns` on slots are `rule.len_ns` long.
    ///
    /// # Errors
    /// `NotFound` for an unknown stream; `BadInput` for a length or time that breaks formats.md 3;
    /// `Refused` for a time not after the newest rule's.
    pub fn add_slot_rule(&self, stream: &StreamKey, rule: SlotRule) -> Outcome<StreamPlan> {
        self.change_plan(Record::SlotRuled {
            stream: stream.clone(),
            rule,
        })
    }

    // ---- patients

    /// Whose a did is.
    pub fn patient_of(&self, did: &Did) -> Option<KeyId> {
        self.look(|s| s.patients.get(did).copied())
    }

    /// The dids of a patient.
    pub fn dids_of(&self, patient: &KeyId) -> Vec<Did> {
        self.look(|s| {
            let hers = s.patients.iter().filter(|(_, kid)| *kid == patient);
            hers.map(|(did, _)| *did).collect()
        })
    }

    /// Says whose a did is, once and for ever; saying it again is fine.
    ///
    /// # Errors
    /// `Refused` if it has another patient; `NotFound` for an unknown did, or a patient who is not a
    /// known, enabled party of that role.
    pub fn set_patient(&self, did: Did, patient: KeyId) -> Outcome<()> {
        self.change(|s| {
            let same = s.patients.get(&did) == Some(&patient);
            Ok((!same).then_some(Record::PatientSet { did, patient }))
        })
        .map(drop)
    }

    // ---- the one way in

    fn look<T>(&self, see: impl FnOnce(&State) -> T) -> T {
        see(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn log(&self) -> MutexGuard<'_, Option<Journal>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_plan(&self, record: Record) -> Outcome<StreamPlan> {
        let stream = record.stream().cloned();
        self.change(|_| Ok(Some(record)))?;
        let plan = stream.and_then(|stream| self.plan(&stream));
        plan.ok_or_else(|| Failure::internal("a plan was changed and is not there"))
    }

    /// Decides on a record under the lock (`None`: nothing to change), checks it, makes it durable,
    /// then visible.
    fn change(&self, decide: impl FnOnce(&State) -> Outcome<Option<Record>>) -> Outcome<bool> {
        let mut log = self.log();
        let checked = self.look(|state| match decide(state)? {
            Some(record) => state.admit(&record).map(|()| Some(record)),
            None => Ok(None),
        })?;
        let Some(record) = checked else {
            return Ok(false);
        };
        let bytes = record.encode()?;
        if let Record::PartyAdded { identity } = &record {
            self.keep_identity(identity)?;
        }
        let journal = log.take().ok_or_else(|| {
            // Not `Io`, which says that this change may hold.
            Failure::busy("the registry's log failed earlier; start the node again to change it")
        })?;
        let (journal, _) = if journal.wants_roll() {
            journal.roll(&[bytes])?
        } else {
            journal.commit(&[bytes])?
        };
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .fold(record);
        self.changes.fetch_add(1, Ordering::Release);
        // The mark tells later damage of this record from a torn tail; the record is durable without it.
        *log = journal.mark().ok();
        Ok(true)
    }

    /// Writes a party's identity where checkers look for it, unless it lies there.
    fn keep_identity(&self, identity: &PublicIdentity) -> Outcome<()> {
        let path = self.keys.join(format!("{}.json", identity.key_id()));
        let text = identity.to_json();
        match self.disk.read(&path, IDENTITY_MAX) {
            Ok(there) if there == text.as_bytes() => Ok(()),
            Ok(_) => self.replace_orphan(identity, &path, &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.write_identity(&path, &text),
            Err(e) => Err(Failure::os(format_args!("read {}", path.display()), &e)),
        }
    }

    /// Another text under the same key id: of an identity that a crash kept from being recorded, or,
    /// where the party is known already, a key file that somebody changed.
    fn replace_orphan(&self, identity: &PublicIdentity, path: &Path, text: &str) -> Outcome<()> {
        if self.party(&identity.key_id()).is_some() {
            return Err(Failure::damaged(format!(
                "{} is not the identity that the registry knows under this key",
                path.display()
            )));
        }
        self.write_identity(path, text)
    }

    fn write_identity(&self, path: &Path, text: &str) -> Outcome<()> {
        write_atomic(&*self.disk, path, text.as_bytes())
            .map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))
    }
}

impl Record {
    fn encode(&self) -> Outcome<Bytes> {
        let text = serde_json::to_vec(self)
            .map_err(|e| Failure::internal(format!("registry record: {e}")))?;
        if text.len() > RECORD_MAX {
            return Err(Failure::bad_input("too much for one registry record"));
        }
        Ok(text.into())
    }

    fn decode(bytes: &[u8]) -> Outcome<Self> {
        serde_json::from_slice(bytes).map_err(|e| Failure::bad_input(e.to_string()))
    }
}
