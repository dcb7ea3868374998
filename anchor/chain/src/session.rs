//! Session records (formats.md 7): what the directory keeps of a grant.
//!
//! ```text
//! section  = [inventory id, ciphertext under Ksec, Ksec sealed to provider, requester, patient]
//! plain    = [patient, requester, expires_ns|null, purpose, [[did, metadata, url, st|null, et|null, leads|null], ...]]
//! sections = SHA-256(CBOR array of the sections)      ── in the create-session event, so the SID binds them
//! record   = [sid|null, [section, ...]]               ── mutable: removed when revoked
//! post     = [entry, record]                          ── body of POST /v1/sessions
//! ```
//!
//! A fresh Ksec per section makes the zero nonce safe: no key encrypts twice. The event's `content`
//! holds the plaintexts sealed to the patient, so she can read what she granted from the ledger
//! alone, after the record is gone. Whether a grant covers a request is the query service's to judge.

mod codec;

use std::collections::BTreeMap;

use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, aead::Aead};
use chordae_base::{Did, Failure, Outcome, limits, seams::Entropy};
use ciborium::Value;
use pkcs8::der::zeroize::Zeroizing;

use crate::{
    cbor::{self, take},
    event::{self, Event},
    keys::{SealKey, SecretKeys},
    seal::{self, Purpose},
};

pub use codec::{decode_post, encode_post, sections_digest};

/// The inventory id of a section without inventory.
pub const NO_INVENTORY: [u8; 32] = [0; 32];

/// What a patient allows of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The stream.
    pub did: Did,
    /// For people: device, place.
    pub metadata: BTreeMap<String, String>,
    /// Where the stream can be asked for; empty if nowhere in particular.
    pub url: String,
    /// First instant allowed; none: no bound.
    pub st_ns: Option<i64>,
    /// First instant no longer allowed; none: no bound.
    pub et_ns: Option<i64>,
    /// Leads allowed; none: all.
    pub leads: Option<Vec<String>>,
}

/// A section in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionPlain {
    /// Sign key of the patient; the session's signer.
    pub patient: [u8; 32],
    /// Sign key of the requester; signs each request.
    pub requester: [u8; 32],
    /// When the session ends by itself.
    pub expires_ns: Option<i64>,
    /// For people.
    pub purpose: String,
    /// What is allowed.
    pub grants: Vec<Grant>,
}

/// A section as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// [`NO_INVENTORY`], or the inventory whose dids it grants.
    pub inventory_id: [u8; 32],
    /// [`SectionPlain`] under Ksec.
    pub ciphertext: Vec<u8>,
    /// Ksec sealed to the provider.
    pub ksec_provider: Vec<u8>,
    /// Ksec sealed to the requester.
    pub ksec_requester: Vec<u8>,
    /// Ksec sealed to the patient.
    pub ksec_patient: Vec<u8>,
}

/// A session as the directory stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Leaf hash of its create-session entry; none before there is one.
    pub sid: Option<[u8; 32]>,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// Who opens a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The provider, to answer requests.
    Provider,
    /// The requester, to see what was granted.
    Requester,
    /// The patient.
    Patient,
}

/// A session ready to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The signed create-session entry.
    pub entry: Vec<u8>,
    /// Its record.
    pub record: SessionRecord,
    /// Its id.
    pub sid: [u8; 32],
}

/// Makes a session: encrypts the sections, signs the create-session event.
///
/// `provider` and `requester` are X25519 public keys. Each section's patient must be the signer.
///
/// # Errors
/// `BadInput` for keys without a sealing half, sections of another patient, or more grants than an
/// entry of 65,535 bytes can carry (make two sessions).
pub fn make(
    patient: &SecretKeys,
    provider: &[u8; 32],
    requester: &[u8; 32],
    plains: &[SectionPlain],
    entropy: &dyn Entropy,
) -> Outcome<Made> {
    let sections: Vec<_> = plains.iter().map(|plain| (NO_INVENTORY, plain)).collect();
    make_of(patient, provider, requester, &sections, entropy)
}

/// The same, each section with the inventory that it is of, or [`NO_INVENTORY`].
///
/// # Errors
/// Those of [`make`].
pub fn make_of(
    patient: &SecretKeys,
    provider: &[u8; 32],
    requester: &[u8; 32],
    plains: &[([u8; 32], &SectionPlain)],
    entropy: &dyn Entropy,
) -> Outcome<Made> {
    let bad = |why: &str| Failure::bad_input(format!("session: {why}"));
    if !(1..=limits::SECTIONS_MAX).contains(&plains.len()) {
        return Err(bad("a record has 1-64 sections"));
    }
    if plains
        .iter()
        .any(|(_, plain)| plain.patient != patient.sign_public())
    {
        return Err(bad("the patient of a section must be the one who signs"));
    }
    let own = patient
        .seal_public()
        .ok_or_else(|| bad("the patient's key file has no X25519 key"))?;
    let mut sections = Vec::with_capacity(plains.len());
    for (inventory, plain) in plains {
        let mut section = close_section(plain, [provider, requester, &own], entropy)?;
        section.inventory_id = *inventory;
        sections.push(section);
    }
    let content = cbor::encode(&Value::Array(
        plains.iter().map(|(_, plain)| plain.value()).collect(),
    ))?;
    let mut nonce = [0; 16];
    entropy.fill(&mut nonce);
    let event = Event::CreateSession {
        sections: sections_digest(&sections)?,
        content: seal::seal(&own, Purpose::CreateSession, &content, entropy)?,
        nonce,
    };
    let entry = event::sign(&event, patient)?;
    let sid = event::leaf_hash(&entry);
    Ok(Made {
        entry,
        record: SessionRecord {
            sid: Some(sid),
            sections,
        },
        sid,
    })
}

fn close_section(
    plain: &SectionPlain,
    [provider, requester, patient]: [&[u8; 32]; 3],
    entropy: &dyn Entropy,
) -> Outcome<Section> {
    let mut ksec = Zeroizing::new([0; 32]);
    entropy.fill(ksec.as_mut());
    let ciphertext = ChaCha20Poly1305::new(Key::from_slice(&*ksec))
        .encrypt(&Nonce::default(), plain.encode()?.as_slice())
        .map_err(|_| Failure::bad_input("session: a section is too long"))?;
    let sealed = |to| seal::seal(to, Purpose::Ksec, &*ksec, entropy);
    Ok(Section {
        inventory_id: NO_INVENTORY,
        ciphertext,
        ksec_provider: sealed(provider)?,
        ksec_requester: sealed(requester)?,
        ksec_patient: sealed(patient)?,
    })
}

/// Opens a section with the keys of one of its three readers.
///
/// # Errors
/// `Refused` when it is not sealed to these keys or was changed; `BadInput` when what is inside is
/// no section.
pub fn open_section(section: &Section, keys: &SecretKeys, who: Reader) -> Outcome<SectionPlain> {
    let refused = || Failure::refused("session: not sealed to these keys, or changed");
    let secret = keys.seal.as_ref().ok_or_else(refused)?;
    let sealed = match who {
        Reader::Provider => &section.ksec_provider,
        Reader::Requester => &section.ksec_requester,
        Reader::Patient => &section.ksec_patient,
    };
    let ksec = Zeroizing::new(seal::open(secret, Purpose::Ksec, sealed)?);
    if ksec.len() != 32 {
        return Err(refused());
    }
    let plain = ChaCha20Poly1305::new(Key::from_slice(&ksec))
        .decrypt(&Nonce::default(), section.ciphertext.as_slice())
        .map_err(|_| refused())?;
    SectionPlain::decode(&plain)
}

/// What a create-session event's content says, opened with the patient's own key.
///
/// # Errors
/// `Refused` when it is not hers; `BadInput` when what is inside are no sections.
pub fn open_content(content: &[u8], patient: &SealKey) -> Outcome<Vec<SectionPlain>> {
    let plain = seal::open(patient, Purpose::CreateSession, content)?;
    let sections = take::array(cbor::decode(&plain)?, "content", limits::SECTIONS_MAX)?;
    sections.into_iter().map(SectionPlain::from_value).collect()
}
