//! Whom a peer may speak for.
//!
//! The registry is asked once per stream and connection, and again after every change of it: a device that
//! is disabled is refused at its next message, whatever the door's recheck.

use std::collections::BTreeSet;

use bytes::Bytes;
use chordae_base::{DeviceId, StreamKey, limits};

use super::parts::Said;
use crate::core::{
    identify::{self, Peer},
    ports::{DeviceKind, Registry},
};

/// Whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Speaks {
    /// For this device, which it is.
    Itself(DeviceId),
    /// For the devices behind this gateway, which it is.
    Behind(DeviceId),
    /// For any registered device: plain loopback.
    Anyone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rights {
    peer: Peer,
    speaks: Speaks,
    /// Streams it may speak for, as of `changes` of the registry.
    streams: BTreeSet<StreamKey>,
    changes: u64,
}

impl Rights {
    pub(super) fn new(peer: Peer) -> Self {
        let speaks = match &peer {
            Peer::Certified(DeviceKind::Gateway, id) => Speaks::Behind(id.clone()),
            Peer::Certified(_, id) => Speaks::Itself(id.clone()),
            Peer::Plain => Speaks::Anyone,
        };
        Self {
            peer,
            speaks,
            streams: BTreeSet::new(),
            changes: 0,
        }
    }

    /// Whether the peer may be here at all, now that it has said what it calls itself.
    pub(super) fn may_enter(&mut self, identity: &Bytes, registry: &dyn Registry) -> bool {
        self.changes = registry.changes();
        match &self.peer {
            Peer::Certified(kind, id) => {
                let speaker = matches!(kind, DeviceKind::Device | DeviceKind::Gateway);
                speaker && identify::entry(registry, *kind, id).is_some()
            }
            Peer::Plain => {
                let gateway = gateway_called(identity, registry);
                self.speaks = gateway.map_or(Speaks::Anyone, Speaks::Behind);
                true
            }
        }
    }

    /// The name by which only one connection may be here.
    pub(super) fn claim(&self) -> Option<String> {
        match &self.peer {
            Peer::Plain => None,
            Peer::Certified(_, id) => Some(id.to_string()),
        }
    }

    /// The device that it is.
    pub(super) fn itself(&self) -> Option<&DeviceId> {
        match &self.speaks {
            Speaks::Itself(id) => Some(id),
            Speaks::Behind(_) | Speaks::Anyone => None,
        }
    }

    /// The gateway that it is.
    pub(super) fn gateway(&self) -> Option<&DeviceId> {
        match &self.speaks {
            Speaks::Behind(id) => Some(id),
            Speaks::Itself(_) | Speaks::Anyone => None,
        }
    }

    /// Whether the registry has changed since the last time it was asked this.
    pub(super) fn changed(&mut self, registry: &dyn Registry) -> bool {
        let changes = registry.changes();
        if changes == self.changes {
            return false;
        }
        self.changes = changes;
        self.streams.clear();
        true
    }

    /// Whether it may say this.
    pub(super) fn may_say(&mut self, said: &Said, registry: &dyn Registry) -> bool {
        // What `changed` has yet to report counts already.
        let fresh = registry.changes() == self.changes;
        if !fresh || self.streams.len() > limits::ZMQ_AUTHORISED_MAX {
            self.streams.clear();
        }
        let stream = said.stream();
        if stream.is_some_and(|s| self.streams.contains(s)) {
            return true;
        }
        let device = said.device();
        let Some(entry) = identify::entry(registry, DeviceKind::Device, device) else {
            return false;
        };
        let speaks = match &self.speaks {
            Speaks::Itself(id) => id == device,
            Speaks::Behind(gateway) => entry.gateway.as_ref() == Some(gateway),
            Speaks::Anyone => true,
        };
        let has = |s: &StreamKey| entry.streams.is_empty() || entry.streams.contains(&s.stream);
        let may = speaks && stream.is_none_or(has);
        if let (true, true, Some(stream)) = (may, fresh, stream) {
            self.streams.insert(stream.clone());
        }
        may
    }
}

/// The gateway whose name this is.
fn gateway_called(identity: &Bytes, registry: &dyn Registry) -> Option<DeviceId> {
    let id = DeviceId::new(std::str::from_utf8(identity).ok()?).ok()?;
    identify::entry(registry, DeviceKind::Gateway, &id).map(|_| id)
}
