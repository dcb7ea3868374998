//! Ledger entries (formats.md 5): events as COSE_Sign1 (RFC 9052).
//!
//! ```text
//! entry = 18([ << {1: -8, 3: "application/chordae-event+cbor", 4: kid} >>, {}, << payload >>, sig ])
//! payload = { "type": ..., other fields by text key }
//! leaf hash = SHA-256(0x00 || entry)         SID = leaf hash of the create-session entry
//! ```
//!
//! An entry has exactly one encoding: [`decode`] takes the event and the signature out, builds the
//! entry anew from them and refuses what differs (an absent or wrong tag, further headers, another
//! order of keys, long integers, indefinite lengths). So a signature or a leaf hash never covers
//! something that two readers read differently. Unknown types and unknown fields are refused: a new
//! one is a new version. Decoding checks no signature; [`SignedEvent::verify`] does, against the key
//! that the caller trusts for that key id.

use chordae_base::{Did, Digest, Failure, KeyId, Outcome, limits};
use ciborium::Value;
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};

use crate::{
    cbor::{self, take},
    keys::{self, SecretKeys},
    merkle,
};

const CONTENT_TYPE: &str = "application/chordae-event+cbor";

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
            Self::CreateSession { .. } => "create-session",
            Self::RevokeSession { .. } => "revoke-session",
            Self::AuditHead { .. } => "audit-head",
            Self::Block { .. } => "block",
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
        let mut fields = Fields::open(payload)?;
        let kind = take::text(fields.take("type")?, "type")?;
        let event = match kind.as_str() {
            "add-data" => Self::AddData {
                digest: Digest(take::fixed(fields.take("digest")?, "digest")?),
                tag: Digest(take::fixed(fields.take("tag")?, "tag")?),
                content: take::bytes(fields.take("content")?, "content")?,
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
            _ => Ok(()),
        }
    }
}

/// The fields of a payload, each to be taken once; none may remain.
struct Fields(Vec<(Value, Value)>);

impl Fields {
    fn open(payload: &[u8]) -> Outcome<Self> {
        let value = cbor::decode(payload).map_err(|e| e.during("event payload"))?;
        let map = value
            .into_map()
            .map_err(|_| Failure::bad_input("event payload is no map"))?;
        Ok(Self(map))
    }

    fn take(&mut self, name: &str) -> Outcome<Value> {
        let at = self
            .0
            .iter()
            .position(|(key, _)| key.as_text() == Some(name));
        at.map(|i| self.0.swap_remove(i).1)
            .ok_or_else(|| Failure::bad_input(format!("event has no field {name}")))
    }

    fn finish(self) -> Outcome<()> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(Failure::bad_input(format!(
                "event has an unknown field {key:?}"
            ))),
        }
    }
}

/// An entry taken apart; a claim until [`SignedEvent::verify`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEvent {
    /// What it says.
    pub event: Event,
    /// Who says that they say it.
    pub kid: KeyId,
    /// What the signature covers (RFC 9052 Sig_structure).
    signed: Vec<u8>,
    signature: [u8; 64],
}

impl SignedEvent {
    /// Verifies the signature under the key that the caller trusts for [`SignedEvent::kid`].
    ///
    /// # Errors
    /// `Refused` when the key is not the one named, or the signature does not hold.
    pub fn verify(&self, sign_pub: &[u8; 32]) -> Outcome<()> {
        if keys::key_id(sign_pub) != self.kid {
            return Err(Failure::refused(
                "the event names another key than the one given",
            ));
        }
        keys::verify_strict(sign_pub, &self.signed, &self.signature)
    }
}

/// Signs an event: the bytes of its entry.
///
/// # Errors
/// `BadInput` for an event that breaks a rule or is longer than 65,535 bytes.
pub fn sign(event: &Event, keys: &SecretKeys) -> Outcome<Vec<u8>> {
    event.check()?;
    let unsigned = envelope(event, keys.key_id())?;
    let signature = keys.sign(&unsigned.tbs_data(&[]));
    let entry = finish(unsigned, &signature)?;
    if entry.len() > limits::ENTRY_BYTES_MAX {
        let (len, max) = (entry.len(), limits::ENTRY_BYTES_MAX);
        return Err(Failure::bad_input(format!(
            "the entry has {len} bytes, more than {max}"
        )));
    }
    Ok(entry)
}

/// Takes an entry apart, strictly; does not verify the signature.
///
/// # Errors
/// `BadInput` for anything that is not the one encoding of a known event.
pub fn decode(entry: &[u8]) -> Outcome<SignedEvent> {
    let bad = |why: &str| Failure::bad_input(format!("ledger entry: {why}"));
    if entry.len() > limits::ENTRY_BYTES_MAX {
        return Err(bad("longer than 65,535 bytes"));
    }
    // Bounds the depth and refuses most that is not deterministic before the library sees it.
    cbor::decode(entry).map_err(|e| e.during("ledger entry"))?;
    let sign1 =
        CoseSign1::from_tagged_slice(entry).map_err(|_| bad("not a COSE_Sign1 with tag 18"))?;
    let kid: [u8; 32] = sign1
        .protected
        .header
        .key_id
        .as_slice()
        .try_into()
        .map_err(|_| bad("its kid is not a key id of 32 bytes"))?;
    let signature: [u8; 64] = sign1
        .signature
        .as_slice()
        .try_into()
        .map_err(|_| bad("its signature has not 64 bytes"))?;
    let payload = sign1
        .payload
        .as_deref()
        .ok_or_else(|| bad("it has no payload"))?;
    let event = Event::from_payload(payload)?;
    let unsigned = envelope(&event, KeyId(kid))?;
    let signed = unsigned.tbs_data(&[]);
    // The one encoding of this event, key id and signature: headers included.
    if finish(unsigned, &signature)? != entry {
        return Err(bad(
            "its headers or its encoding are not those of formats.md 5",
        ));
    }
    Ok(SignedEvent {
        event,
        kid: KeyId(kid),
        signed,
        signature,
    })
}

/// The entry before its signature.
fn envelope(event: &Event, kid: KeyId) -> Outcome<CoseSign1> {
    let header = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .content_type(CONTENT_TYPE.to_owned())
        .key_id(kid.0.to_vec())
        .build();
    Ok(CoseSign1Builder::new()
        .protected(header)
        .payload(event.payload()?)
        .build())
}

fn finish(mut sign1: CoseSign1, signature: &[u8; 64]) -> Outcome<Vec<u8>> {
    sign1.signature = signature.to_vec();
    sign1
        .to_tagged_vec()
        .map_err(|e| Failure::internal(format!("cannot write an entry: {e}")))
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
