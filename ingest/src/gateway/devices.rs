//! The devices behind this gateway: told by the node upstream, kept in a file, so that a gateway that
//! starts without its uplink knows whom to serve.
//!
//! Nobody is known before the first list has come. A list replaces the one before, on the disk first; a
//! device that is gone from it, or disabled in it, is cut by the door's recheck.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use chordae_base::{
    DeviceId, Failure, Outcome, StreamKey,
    seams::{Disk, write_atomic},
};

use crate::core::{
    gateway::wire::{self, Listed},
    ports::{DeviceEntry, DeviceKind, Registry},
};

/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// See the module.
pub struct Devices {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    listed: RwLock<BTreeMap<DeviceId, Listed>>,
    changes: AtomicU64,
}

impl Devices {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// `Damaged` for a file that we did not write; `Io`.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Outcome<Self> {
        let listed = match disk.read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => wire::devices(&bytes).ok_or_else(|| {
                let path = path.display();
                Failure::damaged(format!(
                    "{path} is no list of devices; remove it, the uplink brings a new one"
                ))
            })?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(Failure::os(format_args!("read {}", path.display()), &err)),
        };
        Ok(Self {
            disk,
            path,
            listed: RwLock::new(by_id(listed)),
            changes: AtomicU64::new(0),
        })
    }

    /// Takes the node's list. Blocks on the disk.
    ///
    /// # Errors
    /// `Io` when it cannot be kept; the list before stays in force.
    pub fn replace(&self, listed: Vec<Listed>) -> Outcome<()> {
        let listed = by_id(listed);
        if *self.read() == listed {
            return Ok(());
        }
        let all: Vec<&Listed> = listed.values().collect();
        let bytes = serde_json::to_vec(&all)
            .map_err(|err| Failure::internal(format!("the list of devices: {err}")))?;
        write_atomic(&*self.disk, &self.path, &bytes)
            .map_err(|err| Failure::os(format_args!("write {}", self.path.display()), &err))?;
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = listed;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Who is listed.
    pub fn ids(&self) -> Vec<DeviceId> {
        self.read().keys().cloned().collect()
    }

    /// Whether no list has ever come, or an empty one.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<DeviceId, Listed>> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_id(listed: Vec<Listed>) -> BTreeMap<DeviceId, Listed> {
    listed
        .into_iter()
        .map(|device| (device.id.clone(), device))
        .collect()
}

impl Registry for Devices {
    fn device(&self, id: &DeviceId) -> Option<DeviceEntry> {
        let listed = self.read();
        let device = listed.get(id)?;
        Some(DeviceEntry {
            enabled: device.enabled,
            streams: device.streams.clone(),
            revoked: device.revoked.clone(),
            ..DeviceEntry::new(DeviceKind::Device)
        })
    }

    /// Nobody lies behind a gateway of ours but ourselves.
    fn behind(&self, _gateway: &DeviceId) -> Vec<(DeviceId, DeviceEntry)> {
        Vec::new()
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Streams get their did upstream.
    fn open_stream(&self, _key: &StreamKey) -> Outcome<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chordae_base::seams::fake::FakeDisk;

    #[test]
    fn a_list_outlives_the_process_and_damage_is_named() {
        let disk = FakeDisk::new();
        disk.create_dir_all("/data".as_ref()).unwrap();
        let open = || Devices::open(Arc::new(disk.boot()), "/data/devices.json".into());
        let id = DeviceId::new("bed-7").unwrap();
        let devices = open().unwrap();
        assert!(devices.device(&id).is_none() && devices.is_empty());
        let listed = |enabled| {
            vec![Listed {
                id: id.clone(),
                streams: vec![],
                enabled,
                revoked: vec!["0a".into()],
            }]
        };
        devices.replace(listed(true)).unwrap();
        disk.crash();
        let devices = open().unwrap();
        assert!(
            devices
                .device(&id)
                .is_some_and(|d| d.enabled && d.kind == DeviceKind::Device && d.revoked == ["0a"])
        );
        devices.replace(listed(false)).unwrap();
        disk.crash();
        assert!(open().unwrap().device(&id).is_some_and(|d| !d.enabled));
        write_atomic(&disk, "/data/devices.json".as_ref(), b"{}").unwrap();
        assert!(open().is_err_and(|err| err.why.contains("devices.json")));
    }
}
