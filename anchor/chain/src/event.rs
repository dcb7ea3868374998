//! Ledger entries (formats.md 5): events as COSE_Sign1 (RFC 9052).
//!
//! ```text
//! entry = 18([ << {1: -8, 3: "application/chordae-event+cbor", 4: kid} >>, {}, << payload >>, sig ])
//! payload = { "type": ..., other fields by text key }
//! leaf hash = SHA-256(0x00 || entry)         SID = leaf hash of the create-session entry
//! ```
//!
//! An entry has exactly one encoding: [`decode`] takes the event and the signature out, builds the
//! entry anew from them and refuses what differs (cose.rs). So a signature or a leaf hash never covers
//! something that two readers read differently. Unknown types and unknown fields are refused: a new
//! one is a new version. Decoding checks no signature; [`SignedEvent::verify`] does, against the key
//! that the caller trusts for that key id.

use chordae_base::{Did, Digest, Failure, KeyId, Outcome, limits};
use ciborium::Value;

use crate::{
    cbor::{self, Fields, take},
    cose::{Kind, Signed},
    keys::{self, Role, SecretKeys},
    merkle,
};

/// Roles whose keys history hangs on, and whose changes are recorded in it.
const ROTATING: [Role; 4] = [Role::Provider, Role::Sequencer, Role::Log, Role::Witness];

const ENTRY: Kind = Kind {
    content_type: "application/chordae-event+cbor",
    bytes_max: limits::ENTRY_BYTES_MAX,
    name: "ledger entry",
};

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// EventDG, signed by the provider: vouches for all links of a did up to one.
    AddData {
        /// Digest of the link.
        digest: Digest,
        /// [`crate::link::tag`] of did and index: whoever knows the did finds the event.
        tag: Digest,
        /// [`ContentDg`], sealed.
        content: Vec<u8>,
    },
    /// The heads of many streams at once, signed by the provider: vouches for each as an `add-data` does.
    AddHeads {
        /// Root over them ([`crate::heads`]).
        root: [u8; 32],
        /// How many.
        count: u32,
    },
    /// EventSC, signed by the patient: her grant.
    CreateSession {
        /// Digest of the session record's sections ([`crate::session::sections_digest`]).
        sections: [u8; 32],
        /// The sections' plaintexts, sealed to the patient.
        content: Vec<u8>,
        /// Random: makes the SID unguessable and unique.
        nonce: [u8; 16],
    },
    /// Ends a session; signed by the patient who created it.
    RevokeSession {
        /// The session.
        sid: [u8; 32],
        /// Random.
        nonce: [u8; 16],
    },
    /// Head of the audit trail, signed by the provider.
    AuditHead {
        /// SHA-256 of the newest trail record.
        digest: Digest,
        /// Records of the trail so far.
        count: u64,
        /// When, in ms since 1970.
        time_ms: u64,
    },
    /// Retires a key in its role and names its successor, signed by the provider: by its own old key,
    /// where it is that one. Counts from the end of the batch on in which it stands.
    RotateKey {
        /// What the key is for: provider, sequencer, log or witness.
        role: Role,
        /// Key id of the one that goes.
        old: KeyId,
        /// Ed25519 key of the one that comes.
        new: [u8; 32],
        /// When, in ms since 1970.
        time_ms: u64,
    },
    /// Closes a batch, signed by the sequencer.
    Block {
        /// Number of the block, from 0.
        height: u64,
        /// Leaf hash of the block leaf before, or zeros.
        prev: [u8; 32],
        /// RFC 6962 root over the leaf hashes of the block's events.
        events_root: [u8; 32],
        /// Leaf index of its first event.
        first: u64,
        /// Its events, 1-400.
        count: u32,
        /// When, in ms since 1970; never less than the block before.
        time_ms: u64,
    },
}

impl Event {
    /// The value of the field `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AddData { .. } => "add-data",
            Self::AddHeads { .. } => "add-heads",
            Self::CreateSession { .. } => "create-session",
            Self::RevokeSession { .. } => "revoke-session",
            Self::AuditHead { .. } => "audit-head",
            Self::RotateKey { .. } => "rotate-key",
            Self::Block { .. } => "block",
        }
    }

    /// Who alone may sign it.
    pub fn signer(&self) -> Role {
        match self {
            Self::AddData { .. }
            | Self::AddHeads { .. }
            | Self::AuditHead { .. }
            | Self::RotateKey { .. } => Role::Provider,
            Self::CreateSession { .. } | Self::RevokeSession { .. } => Role::Patient,
            Self::Block { .. } => Role::Sequencer,
        }
    }

    /// The payload: a map with text keys.
    fn payload(&self) -> Outcome<Vec<u8>> {
        let bytes = |b: &[u8]| Value::Bytes(b.to_vec());
        let fields = match self {
            Self::AddData {
                digest,
                tag,
                content,
            } => vec![
                ("digest", bytes(&digest.0)),
                ("tag", bytes(&tag.0)),
                ("content", bytes(content)),
            ],
            Self::AddHeads { root, count } => {
                vec![("root", bytes(root)), ("count", Value::from(*count))]
            }
            Self::CreateSession {
                sections,
                content,
                nonce,
            } => vec![
                ("sections", bytes(sections)),
                ("content", bytes(content)),
                ("nonce", bytes(nonce)),
            ],
            Self::RevokeSession { sid, nonce } => {
                vec![("sid", bytes(sid)), ("nonce", bytes(nonce))]
            }
            Self::AuditHead {
                digest,
                count,
                time_ms,
            } => vec![
                ("digest", bytes(&digest.0)),
                ("count", Value::from(*count)),
                ("time_ms", Value::from(*time_ms)),
            ],
            Self::RotateKey {
                role,
                old,
                new,
                time_ms,
            } => vec![
                ("role", Value::from(role.as_str())),
                ("old", bytes(&old.0)),
                ("new", bytes(new)),
                ("time_ms", Value::from(*time_ms)),
            ],
            Self::Block {
                height,
                prev,
                events_root,
                first,
                count,
                time_ms,
            } => vec![
                ("height", Value::from(*height)),
                ("prev", bytes(prev)),
                ("events_root", bytes(events_root)),
                ("first", Value::from(*first)),
                ("count", Value::from(*count)),
                ("time_ms", Value::from(*time_ms)),
            ],
        };
        let mut map = vec![(Value::from("type"), Value::from(self.kind()))];
        map.extend(
            fields
                .into_iter()
                .map(|(key, value)| (Value::from(key), value)),
        );
        cbor::encode(&Value::Map(map))
    }

    fn from_payload(payload: &[u8]) -> Outcome<Self> {
        let mut fields = Fields::open(payload, "event")?;
        let kind = take::text(fields.take("type")?, "type")?;
        let event = match kind.as_str() {
            "add-data" => Self::AddData {
                digest: Digest(take::fixed(fields.take("digest")?, "digest")?),
                tag: Digest(take::fixed(fields.take("tag")?, "tag")?),
                content: take::bytes(fields.take("content")?, "content")?,
            },
            "add-heads" => Self::AddHeads {
                root: take::fixed(fields.take("root")?, "root")?,
                count: take::int(fields.take("count")?, "count")?,
            },
            "create-session" => Self::CreateSession {
                sections: take::fixed(fields.take("sections")?, "sections")?,
                content: take::bytes(fields.take("content")?, "content")?,
                nonce: take::fixed(fields.take("nonce")?, "nonce")?,
            },
            "revoke-session" => Self::RevokeSession {
                sid: take::fixed(fields.take("sid")?, "sid")?,
                nonce: take::fixed(fields.take("nonce")?, "nonce")?,
            },
            "audit-head" => Self::AuditHead {
                digest: Digest(take::fixed(fields.take("digest")?, "digest")?),
                count: take::int(fields.take("count")?, "count")?,
                time_ms: take::int(fields.take("time_ms")?, "time_ms")?,
            },
            "rotate-key" => Self::RotateKey {
                role: take::text(fields.take("role")?, "role")?.parse()?,
                old: KeyId(take::fixed(fields.take("old")?, "old")?),
                new: take::fixed(fields.take("new")?, "new")?,
                time_ms: take::int(fields.take("time_ms")?, "time_ms")?,
            },
            "block" => Self::Block {
                height: take::int(fields.take("height")?, "height")?,
                prev: take::fixed(fields.take("prev")?, "prev")?,
                events_root: take::fixed(fields.take("events_root")?, "events_root")?,
                first: take::int(fields.take("first")?, "first")?,
                count: take::int(fields.take("count")?, "count")?,
                time_ms: take::int(fields.take("time_ms")?, "time_ms")?,
            },
            other => {
                return Err(Failure::bad_input(format!(
                    "event of unknown type {other:?}"
                )));
            }
        };
        fields.finish()?;
        event.check()?;
        Ok(event)
    }

    /// Rules that a type cannot express.
    fn check(&self) -> Outcome<()> {
        match self {
            Self::Block { count, .. }
                if !(1..=limits::BLOCK_EVENTS_MAX).contains(&(*count as usize)) =>
            {
                let max = limits::BLOCK_EVENTS_MAX;
                Err(Failure::bad_input(format!(
                    "a block holds 1-{max} events, not {count}"
                )))
            }
            Self::AddHeads { count, .. }
                if !(1..=limits::HEADS_TOGETHER_MAX).contains(&(*count as usize)) =>
            {
                let max = limits::HEADS_TOGETHER_MAX;
                Err(Failure::bad_input(format!(
                    "one event anchors 1-{max} heads, not {count}"
                )))
            }
            Self::RotateKey { role, old, new, .. } => check_rotation(*role, old, new),
            _ => Ok(()),
        }
    }
}

fn check_rotation(role: Role, old: &KeyId, new: &[u8; 32]) -> Outcome<()> {
    if !ROTATING.contains(&role) {
        return Err(Failure::bad_input(format!(
            "the ledger does not record the keys of a {role}"
        )));
    }
    keys::strong_key(new)?;
    if keys::key_id(new) == *old {
        return Err(Failure::bad_input("a key cannot follow itself"));
    }
    Ok(())
}

/// An entry taken apart; a claim until [`SignedEvent::verify`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEvent {
    /// What it says.
    pub event: Event,
    /// Who says that they say it.
    pub kid: KeyId,
    signed: Signed,
}

impl SignedEvent {
    /// Verifies the signature under the key that the caller trusts for [`SignedEvent::kid`].
    ///
    /// # Errors
    /// `Refused` when the key is not the one named, or the signature does not hold.
    pub fn verify(&self, sign_pub: &[u8; 32]) -> Outcome<()> {
        self.signed.verify(sign_pub)
    }
}

/// Signs an event: the bytes of its entry.
///
/// # Errors
/// `BadInput` for an event that breaks a rule or is longer than 65,535 bytes.
pub fn sign(event: &Event, signer: &SecretKeys) -> Outcome<Vec<u8>> {
    event.check()?;
    ENTRY.sign(event.payload()?, signer)
}

/// Takes an entry apart, strictly; does not verify the signature.
///
/// # Errors
/// `BadInput` for anything that is not the one encoding of a known event.
pub fn decode(entry: &[u8]) -> Outcome<SignedEvent> {
    let (payload, signed) = ENTRY.open(entry)?;
    let event = Event::from_payload(&payload)?;
    // The one encoding of this event.
    if event.payload()? != payload {
        return Err(Failure::bad_input(
            "ledger entry: its payload is not that of formats.md 5",
        ));
    }
    Ok(SignedEvent {
        event,
        kid: signed.kid,
        signed,
    })
}

/// The leaf hash of an entry, RFC 6962; of a create-session entry, the SID.
pub fn leaf_hash(entry: &[u8]) -> [u8; 32] {
    merkle::leaf_hash(entry)
}

/// Content of an `add-data` event, readable by whom it is sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDg {
    /// The stream.
    pub did: Did,
    /// Index of the link.
    pub index: u64,
    /// Its slot.
    pub slot_start_ns: i64,
    /// End of its rows.
    pub end_ns: i64,
    /// Sign key of the patient whose stream it is, if there is one.
    pub patient: Option<[u8; 32]>,
}

impl ContentDg {
    /// CBOR `[did, index, slot_start_ns, end_ns, patient or null]`.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        cbor::encode(&Value::Array(vec![
            Value::Bytes(self.did.0.to_vec()),
            Value::from(self.index),
            Value::from(self.slot_start_ns),
            Value::from(self.end_ns),
            self.patient
                .map_or(Value::Null, |key| Value::Bytes(key.to_vec())),
        ]))
    }

    /// Reads it back, strictly.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        let [did, index, slot_start, end, patient] = take::tuple(cbor::decode(bytes)?, "content")?;
        Ok(Self {
            did: Did(take::fixed(did, "did")?),
            index: take::int(index, "index")?,
            slot_start_ns: take::int(slot_start, "slot_start_ns")?,
            end_ns: take::int(end, "end_ns")?,
            patient: take::optional(patient, |v| take::fixed(v, "patient"))?,
        })
    }
}
