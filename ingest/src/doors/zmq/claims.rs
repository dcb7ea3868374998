//! Who is here: a second connection of the same name cuts the first, another name's never. The name comes
//! from the certificate, so nobody can claim another's. And who said last that a device is online: only that
//! connection's end takes it back.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chordae_base::DeviceId;
use tokio::sync::watch;

use crate::core::arrival::ConnId;

/// How a connection is told to end.
pub(super) type Cutter = watch::Sender<bool>;

/// See the module.
#[derive(Default)]
pub(super) struct Claims(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    here: BTreeMap<String, (ConnId, Cutter)>,
    online: BTreeMap<DeviceId, ConnId>,
}

impl Claims {
    /// The name is this connection's now.
    pub(super) fn claim(&self, name: String, conn: ConnId, cutter: Cutter) {
        if let Some((_, before)) = self.inside().here.insert(name, (conn, cutter)) {
            before.send_replace(true);
        }
    }

    /// What a device, or its connection, has said of it.
    pub(super) fn status(&self, device: &DeviceId, online: bool, conn: ConnId) {
        let mut inside = self.inside();
        if online {
            inside.online.insert(device.clone(), conn);
        } else {
            inside.online.remove(device);
        }
    }

    /// The connection is over: a name that was taken over stays the other's. Gives the devices that it
    /// leaves behind as online.
    pub(super) fn release(&self, name: Option<&str>, conn: ConnId) -> Vec<DeviceId> {
        let mut inside = self.inside();
        let held = |name: &&str| {
            inside
                .here
                .get(*name)
                .is_some_and(|(holder, _)| *holder == conn)
        };
        if let Some(name) = name.filter(held) {
            inside.here.remove(name);
        }
        let left: Vec<_> = inside
            .online
            .iter()
            .filter(|(_, said)| **said == conn)
            .map(|(device, _)| device.clone())
            .collect();
        inside.online.retain(|_, said| *said != conn);
        left
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
