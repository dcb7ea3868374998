//! Who is at a door, and for how long that holds.

use super::{
    gate::Unknown,
    tls::{Identity, Tls},
};
use crate::core::{identify::Peer, ports::DeviceEntry};

/// Somebody who came through a listener.
pub(super) struct Guest {
    pub(super) peer: Peer,
    /// The protocol that was named in the TLS handshake (ALPN).
    pub(super) named: Option<Vec<u8>>,
    /// What its certificate proved, and where its revocation would be found.
    proof: Option<(Identity, Tls)>,
    /// Its place among those we do not know yet.
    unknown: Option<Unknown>,
}

impl Guest {
    /// Of a plain listener, who is believed.
    pub(super) fn plain(unknown: Unknown) -> Self {
        Self {
            peer: Peer::Plain,
            named: None,
            proof: None,
            unknown: Some(unknown),
        }
    }

    pub(super) fn certified(
        identity: Identity,
        tls: Tls,
        named: Option<Vec<u8>>,
        unknown: Unknown,
    ) -> Self {
        Self {
            peer: identity.peer.clone(),
            named,
            proof: Some((identity, tls)),
            unknown: Some(unknown),
        }
    }

    /// It is known now, or gone.
    pub(super) fn is_known(&mut self) {
        self.unknown = None;
    }

    /// Why it may not be here any more; `entry` is what the registry says of it now.
    pub(super) fn lapsed(&self, entry: Option<&DeviceEntry>, wall_ns: i64) -> Option<&'static str> {
        let proof = self.proof.as_ref();
        if proof.is_some_and(|(identity, _)| wall_ns >= identity.expires_ns) {
            return Some("expired");
        }
        let Some(entry) = entry else {
            return Some("disabled");
        };
        let revoked = proof.is_some_and(|(Identity { serial, .. }, tls)| {
            tls.revoked(serial) || entry.revoked.contains(serial)
        });
        revoked.then_some("revoked")
    }
}
