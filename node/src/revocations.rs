//! `keys/ca.crl`: the certificates that count no more, for our doors and for whoever wants to know.
//!
//! ```text
//! registry: revoked serials ──▶ signed by the authority ──▶ keys/ca.crl (written whole or not at all)
//!                at start, after every revocation, every day          counts for seven days
//! ```
//!
//! The registry is the truth and the list its signed copy: signing it again is always right. A door whose
//! list has expired lets nobody in; that the list can no longer be signed is therefore said by `/readyz`
//! six days before.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chordae_base::{
    Failure, Outcome,
    seams::{Clock, Disk, write_atomic},
    time::SECOND_NS,
};
use chordae_storage::registry::Registry;

use crate::{
    assemble::apart,
    authority::{self, PemPair},
    folder::Folder,
    observe::Readiness,
};

/// How often it is looked whether the list is a day old.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// The age at which it is signed anew.
const AGE_NS_MAX: i64 = 86_400 * SECOND_NS;

/// See the module. Clones share one list.
#[derive(Clone)]
pub struct Revocations(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    ca: PemPair,
    path: PathBuf,
    /// When the list was signed; held while it is, so that an older one never replaces a newer.
    signed_ns: Mutex<Option<i64>>,
}

impl Revocations {
    /// Of one installation; nothing is signed yet.
    pub fn new(
        home: &Folder,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
        ca: PemPair,
    ) -> Self {
        Self(Arc::new(Shared {
            disk,
            clock,
            registry,
            ca,
            path: home.key("ca.crl"),
            signed_ns: Mutex::new(None),
        }))
    }

    /// Signs the list as the registry has it now and puts it in its place; durable when it returns.
    ///
    /// # Errors
    /// `Io`, and those of the authority; the list that was there stays.
    pub fn sign(&self) -> Outcome<()> {
        let of = &*self.0;
        let mut signed = of.signed_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = of.clock.wall_ns();
        let text = authority::revocation_list(&of.ca, &of.registry.revoked(), now_ns)?;
        write_atomic(&*of.disk, &of.path, text.as_bytes())
            .map_err(|e| Failure::os(format_args!("write {}", of.path.display()), &e))?;
        *signed = Some(now_ns);
        Ok(())
    }

    /// Whether the list is a day old, or from after now: the clock was set back.
    fn due(&self) -> bool {
        let signed = self.0.signed_ns.lock();
        let signed = *signed.unwrap_or_else(PoisonError::into_inner);
        let now_ns = self.0.clock.wall_ns();
        signed.is_none_or(|at| !(0..AGE_NS_MAX).contains(&now_ns.saturating_sub(at)))
    }

    /// Signs the list every day, for ever.
    pub async fn keep(self, ready: Readiness) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if !self.due() {
                continue;
            }
            let of = self.clone();
            let signed = apart(move || of.sign()).await;
            ready.set(
                "revocations",
                signed.err().map(|e| {
                    format!("keys/ca.crl cannot be signed, and in days no device gets in: {e}")
                }),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chordae_base::seams::{
        fake::{FakeClock, FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How, Op},
    };
    use chordae_storage::registry::{Device, DeviceKind};

    use super::*;
    use crate::authority::Leaf;

    const NOW: i64 = 1_800_000_000 * SECOND_NS;

    #[test]
    fn the_list_follows_the_registry_and_is_replaced_whole() {
        let disk = FakeDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let clock = Arc::new(FakeClock::new(NOW));
        let ca = authority::make("test", NOW).unwrap();
        let entropy = Arc::new(FakeEntropy::new(1));
        let dir = Path::new("/data/registry");
        let registry =
            Registry::open(Arc::new(disk.clone()), dir, entropy, 60 * SECOND_NS).unwrap();
        let registry = Arc::new(registry);
        let home = Folder::new("/data");
        disk.create_dir_all(&home.keys()).unwrap();
        let list = Revocations::new(
            &home,
            Arc::new(faulty.clone()),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&registry),
            ca.clone(),
        );
        assert!(list.due());
        list.sign().unwrap();
        let empty = disk.peek(&home.key("ca.crl")).unwrap();
        let issued = authority::sign(&ca, &Leaf::Client("urn:chordae:device:a"), NOW).unwrap();
        let device = Device {
            certificate: Some(issued.noted),
            ..Device::new("a".parse().unwrap(), DeviceKind::Device)
        };
        registry.add_device(device).unwrap();
        registry.revoke_device(&"a".parse().unwrap(), NOW).unwrap();
        // A list that cannot be written leaves the old one, and is signed when the disk is well again.
        faulty.arm(Fault::next(
            Op::Write,
            How::Fail(std::io::ErrorKind::StorageFull),
        ));
        assert!(list.sign().is_err());
        assert_eq!(disk.peek(&home.key("ca.crl")).unwrap(), empty);
        list.sign().unwrap();
        disk.crash();
        let full = disk.peek(&home.key("ca.crl")).unwrap();
        assert!(full.len() > empty.len(), "it names the certificate");
        assert!(!list.due());
        clock.advance(AGE_NS_MAX.unsigned_abs());
        assert!(list.due());
        clock.set_wall(NOW - AGE_NS_MAX);
        assert!(
            list.due(),
            "a list from the future would not be replaced in time"
        );
    }
}
