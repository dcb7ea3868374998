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
    /// Names and addresses in a gateway's certificate, which serves its own door as well.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Streams it may publish; empty = any, up to the limit.
    pub streams: Vec<StreamName>,
    /// Devices whose live frames a monitor may read; empty = any.
    pub watches: Vec<DeviceId>,
    /// The newest certificate given to it.
    pub certificate: Option<Certificate>,
    /// Those given to it before, as far as they have not expired; oldest first.
    #[serde(default)]
    pub earlier: Vec<Certificate>,
}

impl Device {
    /// An enabled device that may publish any stream.
    pub fn new(id: DeviceId, kind: DeviceKind) -> Self {
        Self {
            id,
            kind,
            enabled: true,
            gateway: None,
            hosts: Vec::new(),
            streams: Vec::new(),
            watches: Vec::new(),
            certificate: None,
            earlier: Vec::new(),
        }
    }

    /// All certificates given to it that may still be in force, the newest first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.certificate.iter().chain(self.earlier.iter().rev())
    }
}

/// What is noted of a certificate; trust comes from the authority that signed it, not from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Serial number: the bytes of its DER, lower-case hex.
    pub serial: String,
    /// SHA-256 of the DER, hex.
    pub fingerprint: String,
    /// When it was given, nanoseconds since 1970.
    #[serde(default)]
    pub given_ns: i64,
    /// Not valid after, nanoseconds since 1970.
    pub not_after_ns: i64,
    /// Since when it counts no more.
    #[serde(default)]
    pub revoked_ns: Option<i64>,
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
    DeviceRevoked {
        id: DeviceId,
        at_ns: i64,
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
