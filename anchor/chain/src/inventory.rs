//! Inventories (formats.md 7): a patient's lists of her streams, one per provider or department.
//!
//! ```text
//! id      = SHA-256(patient sign key || Sdata)           Sdata: 32 random bytes, for the inventory's life
//! entries = CBOR [[did, metadata map, url], ...]          dids ascending, each once
//! content = nonce (12, random) || entries under Sdata     ChaCha20-Poly1305, aad empty
//! record  = COSE_Sign1 by the patient over {"type": "inventory", "id", "version", "prev", "content",
//!           "sdata_provider", "sdata_patient"}, or over {"type": "remove-inventory", "id", "version", "prev"}
//! prev    = SHA-256 of the record that this one replaces; 32 zero bytes for version 1
//! ```
//!
//! The id names the patient and the key, and shows neither. A record is good in one place only: after
//! the one that it names. So an old one, sent again, is refused by whoever holds a newer one, and a
//! removal, which stays, ends the row for good. The ledger knows nothing of all this: what is in here may
//! change without an event, and none of it decides who may read.

use std::collections::BTreeMap;

use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, aead::Aead};
use chordae_base::{Did, Digest, Failure, KeyId, Outcome, limits, seams::Entropy};
use ciborium::Value;
use pkcs8::der::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use crate::{
    cbor::{self, Fields, take},
    cose::{Kind, Signed},
    keys::{SealKey, SecretKeys},
    seal::{self, Purpose},
};

const RECORD: Kind = Kind {
    content_type: "application/chordae-inventory+cbor",
    bytes_max: limits::BODY_BYTES_MAX,
    name: "inventory",
};
/// Bytes of the nonce in front of the content.
const NONCE_BYTES: usize = 12;
/// Bytes of Sdata, sealed.
const SEALED_BYTES: usize = 32 + seal::OVERHEAD;

/// What an inventory says of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The stream.
    pub did: Did,
    /// For people: device, place.
    pub metadata: BTreeMap<String, String>,
    /// Where the stream can be asked for; empty if nowhere in particular.
    pub url: String,
}

/// What a record stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Nonce and entries under Sdata.
    pub content: Vec<u8>,
    /// Sdata sealed to the provider.
    pub sdata_provider: Vec<u8>,
    /// Sdata sealed to the patient.
    pub sdata_patient: Vec<u8>,
}

/// One version of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which inventory.
    pub id: [u8; 32],
    /// 1, 2, 3, ...
    pub version: u64,
    /// [`digest`] of the version before; zeros for the first.
    pub prev: [u8; 32],
    /// What it holds; none: it is removed for good.
    pub stored: Option<Stored>,
}

/// A record taken apart; a claim until [`SignedRecord::verify`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecord {
    /// What it says.
    pub record: Record,
    /// Who says that they say it.
    pub kid: KeyId,
    signed: Signed,
}

impl SignedRecord {
    /// Verifies the signature under the key that the caller trusts for [`SignedRecord::kid`].
    ///
    /// # Errors
    /// `Refused` when the key is not the one named, or the signature does not hold.
    pub fn verify(&self, sign_pub: &[u8; 32]) -> Outcome<()> {
        self.signed.verify(sign_pub)
    }
}

impl Record {
    fn payload(&self) -> Outcome<Vec<u8>> {
        let bytes = |b: &[u8]| Value::Bytes(b.to_vec());
        let mut fields = vec![
            ("id", bytes(&self.id)),
            ("version", Value::from(self.version)),
            ("prev", bytes(&self.prev)),
        ];
        let kind = match &self.stored {
            Some(stored) => {
                fields.push(("content", bytes(&stored.content)));
                fields.push(("sdata_provider", bytes(&stored.sdata_provider)));
                fields.push(("sdata_patient", bytes(&stored.sdata_patient)));
                "inventory"
            }
            None => "remove-inventory",
        };
        fields.push(("type", Value::from(kind)));
        let pair = |(key, value)| (Value::from(key), value);
        cbor::encode(&Value::Map(fields.into_iter().map(pair).collect()))
    }

    fn from_payload(payload: &[u8]) -> Outcome<Self> {
        let bad = |why: &str| Err(Failure::bad_input(format!("inventory: {why}")));
        let mut fields = Fields::open(payload, "inventory")?;
        let kind = take::text(fields.take("type")?, "type")?;
        let stored = match kind.as_str() {
            "inventory" => {
                let sealed = |value, name| take::fixed::<SEALED_BYTES>(value, name).map(Vec::from);
                Some(Stored {
                    content: take::bytes(fields.take("content")?, "content")?,
                    sdata_provider: sealed(fields.take("sdata_provider")?, "sdata_provider")?,
                    sdata_patient: sealed(fields.take("sdata_patient")?, "sdata_patient")?,
                })
            }
            "remove-inventory" => None,
            _ => return bad("unknown type"),
        };
        let record = Self {
            id: take::fixed(fields.take("id")?, "id")?,
            version: take::int(fields.take("version")?, "version")?,
            prev: take::fixed(fields.take("prev")?, "prev")?,
            stored,
        };
        fields.finish()?;
        let first = record.version == 1;
        if record.version == 0 || first != (record.prev == [0; 32]) {
            return bad("versions count from 1, and all but the first name the one before");
        }
        if first && record.stored.is_none() {
            return bad("there is nothing to remove before version 1");
        }
        Ok(record)
    }

    /// Opens what is stored, with the provider's or the patient's sealing key; `patient` is her sign key.
    ///
    /// # Errors
    /// `NotFound` for a removal; `Refused` when it is not sealed to this key, was changed, or is no
    /// inventory of this patient; `BadInput` when what is inside breaks a rule.
    pub fn open(&self, patient: &[u8; 32], key: &SealKey, who: Reader) -> Outcome<Vec<Entry>> {
        let stored = self.stored();
        let stored = stored.ok_or_else(|| Failure::not_found("the inventory is removed"))?;
        let sdata = self.sdata(patient, key, who)?;
        let refused = || Failure::refused("inventory: its content was changed");
        let (nonce, ciphertext) = stored
            .content
            .split_at_checked(NONCE_BYTES)
            .ok_or_else(refused)?;
        let plain = ChaCha20Poly1305::new(Key::from_slice(&*sdata))
            .decrypt(Nonce::from_slice(nonce), ciphertext)
            .map_err(|_| refused())?;
        decode_entries(&plain)
    }

    fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// The key of the inventory, if the id is that of this patient and this key.
    fn sdata(
        &self,
        patient: &[u8; 32],
        key: &SealKey,
        who: Reader,
    ) -> Outcome<Zeroizing<[u8; 32]>> {
        let refused = || {
            Failure::refused("inventory: not this patient's, not sealed to this key, or changed")
        };
        let stored = self.stored().ok_or_else(refused)?;
        let sealed = match who {
            Reader::Provider => &stored.sdata_provider,
            Reader::Patient => &stored.sdata_patient,
        };
        let opened = Zeroizing::new(seal::open(key, Purpose::Sdata, sealed)?);
        let mut sdata = Zeroizing::new([0; 32]);
        if opened.len() != sdata.len() {
            return Err(refused());
        }
        sdata.copy_from_slice(&opened);
        if id_of(patient, &sdata) != self.id {
            return Err(refused());
        }
        Ok(sdata)
    }
}

/// Who opens an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The provider whose streams it lists.
    Provider,
    /// The patient.
    Patient,
}

fn id_of(patient: &[u8; 32], sdata: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(patient)
        .chain_update(sdata)
        .finalize()
        .into()
}

/// What the next version names as the one before.
pub fn digest(record: &[u8]) -> Digest {
    Digest(Sha256::digest(record).into())
}

/// Version 1 of a new inventory, signed; `provider` is an X25519 public key.
///
/// # Errors
/// `BadInput` for entries that break a rule, or keys without a sealing half.
pub fn create(
    patient: &SecretKeys,
    provider: &[u8; 32],
    entries: &[Entry],
    entropy: &dyn Entropy,
) -> Outcome<Vec<u8>> {
    let mut sdata = Zeroizing::new([0; 32]);
    entropy.fill(sdata.as_mut());
    let record = Record {
        id: id_of(&patient.sign_public(), &sdata),
        version: 1,
        prev: [0; 32],
        stored: Some(close(&sdata, patient, provider, entries, entropy)?),
    };
    RECORD.sign(record.payload()?, patient)
}

/// The version after `before` (the bytes of a record), with other entries.
///
/// # Errors
/// `Refused` when `before` is not this patient's; those of [`create`].
pub fn update(
    before: &[u8],
    patient: &SecretKeys,
    provider: &[u8; 32],
    entries: &[Entry],
    entropy: &dyn Entropy,
) -> Outcome<Vec<u8>> {
    let (last, version) = next(before, patient)?;
    let own = patient.seal.as_ref().ok_or_else(no_seal)?;
    let sdata = last.sdata(&patient.sign_public(), own, Reader::Patient)?;
    let record = Record {
        id: last.id,
        version,
        prev: digest(before).0,
        stored: Some(close(&sdata, patient, provider, entries, entropy)?),
    };
    RECORD.sign(record.payload()?, patient)
}

/// The version after `before` that removes the inventory for good.
///
/// # Errors
/// `Refused` when `before` is not this patient's.
pub fn remove(before: &[u8], patient: &SecretKeys) -> Outcome<Vec<u8>> {
    let (last, version) = next(before, patient)?;
    let record = Record {
        id: last.id,
        version,
        prev: digest(before).0,
        stored: None,
    };
    RECORD.sign(record.payload()?, patient)
}

/// Takes a record apart, strictly; does not verify the signature.
///
/// # Errors
/// `BadInput` for anything that is not the one encoding of a record.
pub fn decode(record: &[u8]) -> Outcome<SignedRecord> {
    let (payload, signed) = RECORD.open(record)?;
    let read = Record::from_payload(&payload)?;
    if read.payload()? != payload {
        return Err(Failure::bad_input("inventory: not its one encoding"));
    }
    Ok(SignedRecord {
        record: read,
        kid: signed.kid,
        signed,
    })
}

fn no_seal() -> Failure {
    Failure::bad_input("inventory: the patient's key file has no X25519 key")
}

/// The record before, hers, and the number of the next.
fn next(before: &[u8], patient: &SecretKeys) -> Outcome<(Record, u64)> {
    let signed = decode(before)?;
    signed.verify(&patient.sign_public())?;
    let version = signed.record.version.checked_add(1);
    let version = version.ok_or_else(|| Failure::bad_input("inventory: no more versions"))?;
    Ok((signed.record, version))
}

fn close(
    sdata: &[u8; 32],
    patient: &SecretKeys,
    provider: &[u8; 32],
    entries: &[Entry],
    entropy: &dyn Entropy,
) -> Outcome<Stored> {
    let own = patient.seal_public().ok_or_else(no_seal)?;
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce);
    let ciphertext = ChaCha20Poly1305::new(Key::from_slice(sdata))
        .encrypt(
            Nonce::from_slice(&nonce),
            encode_entries(entries)?.as_slice(),
        )
        .map_err(|_| Failure::bad_input("inventory: too long"))?;
    let sealed = |to| seal::seal(to, Purpose::Sdata, sdata, entropy);
    Ok(Stored {
        content: [nonce.as_slice(), &ciphertext].concat(),
        sdata_provider: sealed(provider)?,
        sdata_patient: sealed(&own)?,
    })
}

/// CBOR of the entries.
///
/// # Errors
/// `BadInput` when they break a rule.
pub fn encode_entries(entries: &[Entry]) -> Outcome<Vec<u8>> {
    check(entries)?;
    let entry = |e: &Entry| {
        Value::Array(vec![
            Value::Bytes(e.did.0.to_vec()),
            cbor::text_map(&e.metadata),
            Value::from(e.url.as_str()),
        ])
    };
    cbor::encode(&Value::Array(entries.iter().map(entry).collect()))
}

/// Reads entries, strictly.
///
/// # Errors
/// `BadInput` for anything else.
pub fn decode_entries(plain: &[u8]) -> Outcome<Vec<Entry>> {
    let entry = |value| {
        let [did, metadata, url] = take::tuple(value, "entry")?;
        Ok(Entry {
            did: Did(take::fixed(did, "did")?),
            metadata: take::text_map(metadata, "metadata", limits::METADATA_MAX)?,
            url: take::text(url, "url")?,
        })
    };
    let entries = take::array(
        cbor::decode(plain)?,
        "entries",
        limits::INVENTORY_ENTRIES_MAX,
    )?;
    let entries: Vec<Entry> = entries.into_iter().map(entry).collect::<Outcome<_>>()?;
    check(&entries)?;
    Ok(entries)
}

fn check(entries: &[Entry]) -> Outcome<()> {
    let bad = |why: &str| Err(Failure::bad_input(format!("inventory: {why}")));
    if !(1..=limits::INVENTORY_ENTRIES_MAX).contains(&entries.len()) {
        return bad("it lists 1-1024 streams");
    }
    if entries
        .windows(2)
        .any(|two| matches!(two, [a, b] if a.did >= b.did))
    {
        return bad("its streams are in ascending order, each once");
    }
    let long = |text: &str| text.len() > limits::METADATA_BYTES_MAX;
    for entry in entries {
        if entry.metadata.len() > limits::METADATA_MAX {
            return bad("too much metadata for one stream");
        }
        if long(&entry.url) || entry.metadata.iter().any(|(k, v)| long(k) || long(v)) {
            return bad("an address or a text of the metadata is over 1024 bytes");
        }
    }
    Ok(())
}
