//! The directory: the session records that patients have granted, and their inventories (formats.md 7).
//!
//! ```text
//! directory/sessions/{sid, 64 hex}      the record's CBOR, as the patient made it
//! directory/inventories/...             inventories.rs
//! ```
//!
//! One file per session, written whole or not at all; removing it is revoking it here and gives its
//! space back. What a record says is not looked at: the ledger holds its digest and the access rule
//! compares them on every request.
//!
//! **A revoked SID is never stored again.** The ledger remembers revocations, not this folder: `put`
//! asks it while no `remove` can run, and whoever revokes does so in the ledger first, then here. So
//! either `put` sees the revocation, or the `remove` that follows it takes the record away.
//!
//! A crash leaves a record or none; a `.tmp` is removed at the next open. Files with other names are
//! not ours: never read, never removed.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, limits,
    seams::{Disk, EntryKind, write_atomic},
};

mod inventories;

pub use inventories::{Inventories, InventoryId};

/// A session id: the leaf hash of its `create-session` entry.
pub type Sid = [u8; 32];

/// See the module. Shared by all threads; calls block on the disk.
pub struct Directory {
    disk: Arc<dyn Disk>,
    sessions: PathBuf,
    /// Those that are stored; held while one is stored or removed.
    held: Mutex<BTreeSet<Sid>>,
    inventories: Inventories,
}

impl Directory {
    /// Opens the directory in its folder, making it if there is none.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Outcome<Self> {
        let sessions = dir.join("sessions");
        let os = |e: io::Error| Failure::os(format_args!("open {}", sessions.display()), &e);
        disk.create_dir_all(&sessions).map_err(os)?;
        let mut held = BTreeSet::new();
        for entry in disk.list(&sessions).map_err(os)? {
            let name = entry
                .path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            if entry.kind != EntryKind::File {
                continue;
            }
            if let Some(sid) = hex_of(name) {
                held.insert(sid);
            } else if name.strip_suffix(".tmp").and_then(hex_of).is_some() {
                disk.remove(&entry.path).map_err(os)?;
            }
        }
        // A killed process may have left a record's name in a cache that was never synced: the same record
        // again is answered at once, so its name must be durable by then.
        disk.sync_dir(&sessions).map_err(os)?;
        let inventories = Inventories::open(Arc::clone(&disk), dir.join("inventories"))?;
        Ok(Self {
            disk,
            sessions,
            held: Mutex::new(held),
            inventories,
        })
    }

    /// The inventories.
    pub fn inventories(&self) -> &Inventories {
        &self.inventories
    }

    /// Stores a record; durable when it returns. Storing an equal one again is fine. `revoked` asks the
    /// ledger about this SID.
    ///
    /// # Errors
    /// `Refused` for a revoked SID or another record under it, `BadInput` for an empty or overlong
    /// record, `Busy` when the directory is full, `Io`.
    pub fn put(
        &self,
        sid: &Sid,
        record: &[u8],
        revoked: impl FnOnce() -> Outcome<bool>,
    ) -> Outcome<()> {
        if !(1..=limits::BODY_BYTES_MAX).contains(&record.len()) {
            return Err(Failure::bad_input("a session record has 1 byte to 1 MiB"));
        }
        let mut held = self.held();
        if revoked()? {
            return Err(Failure::refused(
                "the session is revoked and is not stored again",
            ));
        }
        if held.contains(sid) {
            return match self.read(sid)? {
                there if there == record => Ok(()),
                _ => Err(Failure::refused(
                    "another record is stored under this session id",
                )),
            };
        }
        if held.len() >= limits::SESSIONS_MAX {
            return Err(Failure::busy("the directory holds no more sessions"));
        }
        let path = self.path(sid);
        write_atomic(&*self.disk, &path, record)
            .map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))?;
        held.insert(*sid);
        Ok(())
    }

    /// The record; `None` if there is none.
    ///
    /// # Errors
    /// `Damaged` if the file of a stored record is gone, `Io`.
    pub fn get(&self, sid: &Sid) -> Outcome<Option<Bytes>> {
        let held = self.held();
        if !held.contains(sid) {
            return Ok(None);
        }
        self.read(sid).map(|record| Some(record.into()))
    }

    /// Removes a record, whose revocation the ledger holds already; false if there was none. Durable
    /// when it returns.
    ///
    /// # Errors
    /// `Io`; whether it is gone is then open until the next call.
    pub fn remove(&self, sid: &Sid) -> Outcome<bool> {
        let mut held = self.held();
        if !held.contains(sid) {
            return Ok(false);
        }
        let path = self.path(sid);
        let os = |e: io::Error| Failure::os(format_args!("remove {}", path.display()), &e);
        match self.disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(os(e)),
            _ => {}
        }
        self.disk.sync_dir(&self.sessions).map_err(os)?;
        held.remove(sid);
        Ok(true)
    }

    /// The stored session ids, ascending.
    pub fn list(&self) -> Vec<Sid> {
        self.held().iter().copied().collect()
    }

    /// How many sessions are stored.
    pub fn len(&self) -> usize {
        self.held().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held().is_empty()
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<Sid>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, sid: &Sid) -> PathBuf {
        self.sessions.join(hex::encode(sid))
    }

    fn read(&self, sid: &Sid) -> Outcome<Vec<u8>> {
        read(&*self.disk, &self.path(sid))
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Outcome<Vec<u8>> {
    let max = u64::try_from(limits::BODY_BYTES_MAX).unwrap_or(u64::MAX);
    disk.read(path, max).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
            Failure::damaged(format!("{}: {e}", path.display()))
        }
        _ => Failure::os(format_args!("read {}", path.display()), &e),
    })
}

/// A name is ours only in lower case, so one record has one file.
fn hex_of(name: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(name, &mut bytes).ok()?;
    (hex::encode(bytes) == name).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use chordae_base::{
        FailureKind,
        seams::{
            fake::FakeDisk,
            faulty::{Fault, FaultyDisk, How, Op},
        },
    };

    use super::*;

    const DIR: &str = "/data/directory";

    fn open(disk: &FakeDisk) -> Directory {
        Directory::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap()
    }

    fn free() -> Outcome<bool> {
        Ok(false)
    }

    #[test]
    fn what_is_stored_survives_a_crash_and_what_is_removed_does_not_come_back() {
        let disk = FakeDisk::new();
        let directory = open(&disk);
        directory.put(&[1; 32], b"one", free).unwrap();
        directory.put(&[2; 32], b"two", free).unwrap();
        directory.put(&[1; 32], b"one", free).unwrap();
        assert!(directory.remove(&[2; 32]).unwrap());
        assert!(!directory.remove(&[2; 32]).unwrap());
        disk.crash();
        let directory = open(&disk);
        assert_eq!(directory.list(), vec![[1; 32]]);
        assert_eq!(directory.get(&[1; 32]).unwrap().unwrap(), "one");
        assert_eq!(directory.get(&[2; 32]).unwrap(), None);
    }

    #[test]
    fn a_revoked_session_and_another_record_are_refused() {
        let disk = FakeDisk::new();
        let directory = open(&disk);
        let refused = |outcome: Outcome<()>| {
            assert_eq!(outcome.unwrap_err().kind, FailureKind::Refused);
        };
        refused(directory.put(&[1; 32], b"one", || Ok(true)));
        assert!(
            directory
                .put(&[1; 32], b"one", || Err(Failure::busy("no ledger")))
                .is_err()
        );
        assert!(directory.is_empty());
        directory.put(&[1; 32], b"one", free).unwrap();
        refused(directory.put(&[1; 32], b"another", free));
        refused(directory.put(&[1; 32], b"one", || Ok(true)));
        for bad in [0, limits::BODY_BYTES_MAX + 1] {
            assert!(
                directory.put(&[3; 32], &vec![0; bad], free).is_err(),
                "{bad} bytes"
            );
        }
        assert_eq!(directory.get(&[1; 32]).unwrap().unwrap(), "one");
    }

    #[test]
    fn foreign_files_are_left_alone_and_torn_ones_swept() {
        let disk = FakeDisk::new();
        let sessions = Path::new(DIR).join("sessions");
        let name = hex::encode([10; 32]);
        disk.put(&sessions.join(format!("{name}.tmp")), b"half");
        disk.put(&sessions.join(name.to_uppercase()), b"capitals");
        disk.put(&sessions.join("notes"), b"foreign");
        let directory = open(&disk);
        assert!(directory.is_empty());
        assert!(disk.peek(&sessions.join(format!("{name}.tmp"))).is_none());
        assert!(disk.peek(&sessions.join(name.to_uppercase())).is_some());
        assert!(disk.peek(&sessions.join("notes")).is_some());
        directory.put(&[10; 32], b"ten", free).unwrap();
        disk.remove(&sessions.join(&name)).unwrap();
        assert_eq!(
            directory.get(&[10; 32]).unwrap_err().kind,
            FailureKind::Damaged
        );
    }

    #[test]
    fn a_crash_at_any_step_leaves_a_whole_record_or_none() {
        let fail = How::Fail(io::ErrorKind::Other);
        let fault = |after| Fault {
            op: None,
            path_has: String::new(),
            after,
            for_ever: true,
            how: fail,
        };
        let (mut stored, mut kept) = (0, 0);
        for after in 0..10 {
            let disk = FakeDisk::new();
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            let directory = Directory::open(Arc::new(faulty.clone()), Path::new(DIR)).unwrap();
            faulty.arm(fault(after));
            let put = directory.put(&[1; 32], b"one", free).is_ok();
            stored += u64::from(put);
            disk.crash_torn(after);
            let found = open(&disk).get(&[1; 32]).unwrap();
            assert!(
                found.as_ref().is_none_or(|r| r == "one"),
                "step {after}: a torn record"
            );
            assert!(found.is_some() || !put, "step {after}: lost");

            let directory = Directory::open(Arc::new(faulty.clone()), Path::new(DIR))
                .unwrap_or_else(|_| {
                    faulty.disarm();
                    Directory::open(Arc::new(faulty.clone()), Path::new(DIR)).unwrap()
                });
            faulty.disarm();
            directory.put(&[1; 32], b"one", free).unwrap();
            faulty.arm(fault(after % 3));
            let removed = directory.remove(&[1; 32]).is_ok();
            faulty.disarm();
            disk.crash_torn(after);
            let back = open(&disk).get(&[1; 32]).unwrap().is_some();
            assert!(!(back && removed), "step {after}: came back");
            kept += u64::from(back);
        }
        assert!(
            stored > 0 && stored < 10 && kept > 0,
            "{stored} stored, {kept} kept"
        );
    }

    #[test]
    fn a_disk_that_lies_about_syncs_loses_records_and_the_test_can_see_it() {
        let disk = FakeDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let directory = Directory::open(Arc::new(faulty.clone()), Path::new(DIR)).unwrap();
        let lie = |op| Fault {
            for_ever: true,
            ..Fault::next(op, How::Lie)
        };
        faulty.arm(lie(Op::Sync));
        faulty.arm(lie(Op::SyncDir));
        directory.put(&[1; 32], b"one", free).unwrap();
        disk.crash();
        assert!(open(&disk).is_empty());
    }
}
