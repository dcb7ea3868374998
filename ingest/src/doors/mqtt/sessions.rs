//! Whose session is whose: a second connection of the same device cuts the first, another device's never.
//! The key comes from the certificate, so nobody can claim another's.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::core::{arrival::ConnId, mqtt::session::Cut};

/// How a connection is told to end.
pub(super) type Cutter = watch::Sender<Option<Cut>>;

/// See the module.
#[derive(Default)]
pub(super) struct Sessions {
    by_key: Mutex<BTreeMap<String, (ConnId, Cutter)>>,
}

impl Sessions {
    /// The session is this connection's now.
    pub(super) fn claim(&self, key: String, conn: ConnId, cutter: Cutter) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = by_key.insert(key, (conn, cutter)) {
            before.send_replace(Some(Cut::TakenOver));
        }
    }

    /// The connection is over; a session that was taken over stays the other's.
    pub(super) fn release(&self, key: &str, conn: ConnId) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if by_key.get(key).is_some_and(|(holder, _)| *holder == conn) {
            by_key.remove(key);
        }
    }
}
