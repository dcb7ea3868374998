//! What the registry remembers, and the records of its log.

use chordae_base::{
    DeviceId, Did, KeyId, StreamKey, StreamName,
    plan::{SlotRule, Tenure},
};
use chordae_chain::keys::PublicIdentity;
use serde::{Deserialize, Serialize};

/// What a certificate's name may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Publishes its own streams.
    Device,
    /// Speaks for the devices behind it.
    Gateway,
    /// Reads live frames.
    Monitor,
}

/// A device, gateway or monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name, as in its certificate; one namespace for all kinds.
    pub id: DeviceId,
    /// What it may do.
    pub kind: DeviceKind,
    /// A disabled one is refused at the doors.
    pub enabled: bool,
    /// The gateway that speaks for it.
    pub gateway: Option<DeviceId>,
    /// Streams it may publish; empty = any, up to the limit.
    pub streams: Vec<StreamName>,
    /// Devices whose live frames a monitor may read; empty = any.
    pub watches: Vec<DeviceId>,
    /// The newest certificate given to it.
    pub certificate: Option<Certificate>,
}

impl Device {
    /// An enabled device that may publish any stream.
    pub fn new(id: DeviceId, kind: DeviceKind) -> Self {
        Self {
            id,
            kind,
            enabled: true,
            gateway: None,
            streams: Vec::new(),
            watches: Vec::new(),
            certificate: None,
        }
    }
}

/// What is noted of a certificate; trust comes from the authority that signed it, not from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Serial number, hex.
    pub serial: String,
    /// SHA-256 of the DER, hex.
    pub fingerprint: String,
    /// Not valid after, nanoseconds since 1970.
    pub not_after_ns: i64,
}

/// A party that is known here.
#[derive(Debug, Clone, PartialEq)]
pub struct Party {
    /// Name, role and public keys.
    pub identity: PublicIdentity,
    /// A disabled party's requests are refused.
    pub enabled: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Record {
    DeviceAdded {
        device: Device,
    },
    DeviceEnabled {
        id: DeviceId,
        enabled: bool,
    },
    DeviceCertificate {
        id: DeviceId,
        certificate: Certificate,
    },
    PartyAdded {
        identity: PublicIdentity,
    },
    PartyEnabled {
        kid: KeyId,
        enabled: bool,
    },
    DidGiven {
        stream: StreamKey,
        did: Did,
        slot_ns: i64,
    },
    PatientSet {
        did: Did,
        patient: KeyId,
    },
    TenureBegun {
        stream: StreamKey,
        tenure: Tenure,
        patient: Option<KeyId>,
    },
    SlotRuled {
        stream: StreamKey,
        rule: SlotRule,
    },
}

impl Record {
    /// The stream whose plan it changes.
    pub(super) fn stream(&self) -> Option<&StreamKey> {
        match self {
            Self::DidGiven { stream, .. }
            | Self::TenureBegun { stream, .. }
            | Self::SlotRuled { stream, .. } => Some(stream),
            _ => None,
        }
    }
}
