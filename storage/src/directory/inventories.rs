//! The directory's inventories (formats.md 7): the newest record of each, and nothing older.
//!
//! ```text
//! directory/inventories/{patient's key id}/{id, 64 hex}      the record, as the patient signed it
//! ```
//!
//! A record is stored in one place only: after the one that it names by its SHA-256. The comparison and
//! the write happen under one lock, so of two updates of the same version one is refused. A crash leaves
//! the old record or the new one. What a record says, and who signed it, is the caller's to check.
//!
//! **A removed id is never stored again**: the signed removal is a record like any other and stays where
//! the inventory was, some 300 bytes, so that the first version, sent again, has no place.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use chordae_base::{
    Failure, KeyId, Outcome, limits,
    seams::{Disk, EntryKind, write_atomic},
};
use chordae_chain::inventory;

use super::hex_of;

/// Id of an inventory.
pub type InventoryId = [u8; 32];

/// See the module. Shared by all threads; calls block on the disk.
pub struct Inventories {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Whose each one is; held while one is changed.
    held: Mutex<BTreeMap<InventoryId, KeyId>>,
}

impl Inventories {
    /// Opens the folder, making it if there is none.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Outcome<Self> {
        let os = |e: io::Error| Failure::os(format_args!("open {}", dir.display()), &e);
        disk.create_dir_all(&dir).map_err(os)?;
        let mut held = BTreeMap::new();
        for folder in disk.list(&dir).map_err(os)? {
            let Some(owner) = named(&folder.path).filter(|_| folder.kind == EntryKind::Dir) else {
                continue;
            };
            for file in disk.list(&folder.path).map_err(os)? {
                if file.kind != EntryKind::File {
                    continue;
                }
                if let Some(id) = named(&file.path) {
                    held.insert(id, KeyId(owner));
                } else if torn(&file.path) {
                    disk.remove(&file.path).map_err(os)?;
                }
            }
            // Names that a killed process left unsynced are answered from, so they must be durable.
            disk.sync_dir(&folder.path).map_err(os)?;
        }
        Ok(Self {
            disk,
            dir,
            held: Mutex::new(held),
        })
    }

    /// Stores a record in the place of the one whose digest is `replaces`; none: it is the first. Durable
    /// when it returns. Storing the newest again is fine.
    ///
    /// # Errors
    /// `Refused` when another one is there than the record replaces, or another patient's; `BadInput` for
    /// an overlong record; `Busy` when the directory, or this patient's part of it, is full; `Io`.
    pub fn put(
        &self,
        owner: &KeyId,
        id: &InventoryId,
        record: &[u8],
        replaces: Option<&[u8; 32]>,
    ) -> Outcome<()> {
        if !(1..=limits::BODY_BYTES_MAX).contains(&record.len()) {
            return Err(Failure::bad_input("an inventory has 1 byte to 1 MiB"));
        }
        let mut held = self.held();
        let path = self.path(owner, id);
        match held.get(id) {
            Some(other) if other != owner => return Err(stale()),
            Some(_) => {
                let there = self.read(&path)?;
                if there == record {
                    return Ok(());
                }
                if replaces != Some(&inventory::digest(&there).0) {
                    return Err(stale());
                }
            }
            None if replaces.is_some() => return Err(stale()),
            None => {
                let own = held.values().filter(|o| *o == owner).count();
                if held.len() >= limits::INVENTORIES_MAX
                    || own >= limits::INVENTORIES_PER_PATIENT_MAX
                {
                    return Err(Failure::busy("the directory holds no more inventories"));
                }
            }
        }
        let write = || {
            if let Some(folder) = path.parent() {
                self.disk.create_dir_all(folder)?;
            }
            write_atomic(&*self.disk, &path, record)
        };
        let written = write();
        // Which one is there is open after a failure; the next call reads it from the disk.
        if written.is_ok() || self.read(&path).is_ok() {
            held.insert(*id, *owner);
        }
        written.map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))
    }

    /// Whose it is, and its newest record, a removal too; `None` if there is none.
    ///
    /// # Errors
    /// `Damaged` if its file is gone, `Io`.
    pub fn get(&self, id: &InventoryId) -> Outcome<Option<(KeyId, Bytes)>> {
        let held = self.held();
        let Some(owner) = held.get(id) else {
            return Ok(None);
        };
        let record = self.read(&self.path(owner, id))?;
        Ok(Some((*owner, record.into())))
    }

    /// Whose it is; `None` if there is none. Touches no disk.
    pub fn owner(&self, id: &InventoryId) -> Option<KeyId> {
        self.held().get(id).copied()
    }

    /// The ids of a patient, removed ones too, ascending.
    pub fn of(&self, owner: &KeyId) -> Vec<InventoryId> {
        let held = self.held();
        let own = held.iter().filter(|(_, o)| *o == owner);
        own.map(|(id, _)| *id).collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<InventoryId, KeyId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, owner: &KeyId, id: &InventoryId) -> PathBuf {
        self.dir.join(owner.to_string()).join(hex::encode(id))
    }

    fn read(&self, path: &Path) -> Outcome<Vec<u8>> {
        super::read(&*self.disk, path)
    }
}

fn stale() -> Failure {
    Failure::refused("another version is there than the one that this record replaces")
}

fn named(path: &Path) -> Option<[u8; 32]> {
    hex_of(path.file_name()?.to_str()?)
}

fn torn(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    name.and_then(|n| n.strip_suffix(".tmp"))
        .and_then(hex_of)
        .is_some()
}
