//! Keys of the parties (formats.md 1): Ed25519 to sign, X25519 to be sealed to.
//!
//! ```text
//! key file   PEM, one or two PKCS#8 blocks "PRIVATE KEY": Ed25519, then X25519   (RFC 8410)
//! public     JSON {"name","role","sign","seal"}, keys base64url without padding
//! key id     SHA-256 of the 32-byte Ed25519 public key
//! ```
//!
//! Text only: who reads a key file checks its mode. Secrets are wiped when dropped and have no
//! `Debug` that shows them. One verification rule for the whole house, [`verify_strict`]: RFC 8032
//! with canonical points and scalars and no small-order keys, so that no two verifiers disagree.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chordae_base::{Failure, KeyId, Outcome, limits, seams::Entropy};
use ed25519_dalek::{
    Signature, Signer, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes},
};
use hpke::{Deserializable, Kem, Serializable, kem::X25519HkdfSha256};
use pkcs8::{
    AlgorithmIdentifierRef, LineEnding, ObjectIdentifier, PrivateKeyInfo, SecretDocument,
    der::zeroize::Zeroizing,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
const X25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
/// A key file holds two short blocks; anything longer is not one.
const PEM_BYTES_MAX: usize = 4096;

/// What a party is known as. One key has one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Grants and revokes windows of her own streams.
    Patient,
    /// Asks for windows: a clinician or researcher.
    Requester,
    /// Runs the node; signs `add-data` and `audit-head`.
    Provider,
    /// Closes batches of the ledger with `block` events.
    Sequencer,
    /// Administers the node.
    Operator,
    /// Checks history.
    Auditor,
    /// Sends frames.
    Device,
    /// Signs checkpoints.
    Log,
    /// Cosigns checkpoints.
    Witness,
}

impl Role {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Patient, "patient"),
        (Self::Requester, "requester"),
        (Self::Provider, "provider"),
        (Self::Sequencer, "sequencer"),
        (Self::Operator, "operator"),
        (Self::Auditor, "auditor"),
        (Self::Device, "device"),
        (Self::Log, "log"),
        (Self::Witness, "witness"),
    ];

    /// The role's word, as in a public identity.
    pub fn as_str(&self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(role, _)| role == self)
            .map_or("", |(_, word)| word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = Failure;
    fn from_str(s: &str) -> Outcome<Self> {
        let known = Self::ALL.iter().find(|(_, word)| *word == s);
        known
            .map(|(role, _)| *role)
            .ok_or_else(|| Failure::bad_input(format!("{s:?} is not a role of a party")))
    }
}

/// Key id of an Ed25519 public key.
pub fn key_id(sign_pub: &[u8; 32]) -> KeyId {
    KeyId(Sha256::digest(sign_pub).into())
}

/// The X25519 secret with which a party opens what was sealed to it; wiped when dropped.
#[derive(Clone)]
pub struct SealKey(pub(crate) <X25519HkdfSha256 as Kem>::PrivateKey);

impl SealKey {
    /// The key with these 32 secret bytes.
    ///
    /// # Errors
    /// `BadInput` when the library refuses them.
    pub fn from_bytes(secret: &[u8; 32]) -> Outcome<Self> {
        <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(secret)
            .map(Self)
            .map_err(|_| Failure::bad_input("not an X25519 secret key"))
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().into()
    }
}

/// A party's secret keys.
#[derive(Clone)]
pub struct SecretKeys {
    /// Signs.
    pub sign: SigningKey,
    /// Opens what is sealed to the party, where something is.
    pub seal: Option<SealKey>,
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKeys({})", self.key_id())
    }
}

impl SecretKeys {
    /// Fresh keys.
    ///
    /// # Errors
    /// `Internal` when the library refuses random bytes as an X25519 key.
    pub fn new(entropy: &dyn Entropy, with_seal: bool) -> Outcome<Self> {
        let mut sign = Zeroizing::new([0; 32]);
        entropy.fill(sign.as_mut());
        let mut seal = Zeroizing::new([0; 32]);
        entropy.fill(seal.as_mut());
        Self::from_secrets(&sign, with_seal.then_some(&*seal))
    }

    /// Keys from their 32-byte secrets (tests and imports).
    ///
    /// # Errors
    /// `BadInput` when the library refuses the X25519 secret.
    pub fn from_secrets(sign: &[u8; 32], seal: Option<&[u8; 32]>) -> Outcome<Self> {
        let seal = seal.map(SealKey::from_bytes).transpose()?;
        Ok(Self {
            sign: SigningKey::from_bytes(sign),
            seal,
        })
    }

    /// The text of the key file.
    ///
    /// # Errors
    /// `Internal` when the library cannot encode the key.
    pub fn to_pem(&self) -> Outcome<Zeroizing<String>> {
        let failed = |_| Failure::internal("cannot encode a key as PKCS#8");
        // Without the public half: PKCS#8 version 1, which every tool reads.
        let pair = KeypairBytes {
            secret_key: self.sign.to_bytes(),
            public_key: None,
        };
        let mut text = pair.to_pkcs8_pem(LineEnding::LF).map_err(failed)?;
        if let Some(seal) = &self.seal {
            let secret: Zeroizing<[u8; 32]> = Zeroizing::new(seal.0.to_bytes().into());
            // RFC 8410: the private key is itself an octet string.
            let mut inner = Zeroizing::new([0; 34]);
            inner[..2].copy_from_slice(&[0x04, 0x20]);
            inner[2..].copy_from_slice(&*secret);
            let algorithm = AlgorithmIdentifierRef {
                oid: X25519_OID,
                parameters: None,
            };
            let info = PrivateKeyInfo::new(algorithm, &*inner);
            let failed = |_| Failure::internal("cannot encode a key as PKCS#8");
            let doc = SecretDocument::encode_msg(&info).map_err(failed)?;
            text.push_str(&doc.to_pem("PRIVATE KEY", LineEnding::LF).map_err(failed)?);
        }
        Ok(text)
    }

    /// Reads the text of a key file: exactly one Ed25519 block, then at most one X25519 block.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn from_pem(text: &str) -> Outcome<Self> {
        let blocks = pem_blocks(text)?;
        let bad = |what: &str| Failure::bad_input(format!("key file: {what}"));
        let (first, second) = match blocks.as_slice() {
            [first] => (first, None),
            [first, second] => (first, Some(second)),
            _ => {
                return Err(bad(
                    "it must hold one Ed25519 block and at most one X25519 block",
                ));
            }
        };
        let sign = SigningKey::from_pkcs8_pem(first)
            .map_err(|_| bad("the first block is not an Ed25519 key in PKCS#8"))?;
        let seal = second.map(|block| x25519_block(block)).transpose()?;
        Ok(Self { sign, seal })
    }

    /// The Ed25519 public key.
    pub fn sign_public(&self) -> [u8; 32] {
        self.sign.verifying_key().to_bytes()
    }

    /// The X25519 public key, if there is one.
    pub fn seal_public(&self) -> Option<[u8; 32]> {
        self.seal.as_ref().map(SealKey::public)
    }

    /// The party's key id.
    pub fn key_id(&self) -> KeyId {
        key_id(&self.sign_public())
    }

    /// What others may know of the party.
    pub fn public(&self, name: impl Into<String>, role: Role) -> PublicIdentity {
        PublicIdentity {
            name: name.into(),
            role,
            sign: self.sign_public(),
            seal: self.seal_public(),
        }
    }

    /// Ed25519 signature of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.sign.sign(message).to_bytes()
    }
}

/// Splits a key file into its PEM blocks; nothing but white space may stand between them.
fn pem_blocks(text: &str) -> Outcome<Vec<&str>> {
    let bad = |what: &str| Failure::bad_input(format!("key file: {what}"));
    if text.len() > PEM_BYTES_MAX {
        return Err(bad("longer than any key file"));
    }
    let mut rest = text.trim();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        if !rest.starts_with(BEGIN) {
            return Err(bad("expected a block PRIVATE KEY (PKCS#8, not encrypted)"));
        }
        let end = rest
            .find(END)
            .ok_or_else(|| bad("a block has no end line"))?
            + END.len();
        let (block, after) = rest.split_at(end);
        blocks.push(block);
        rest = after.trim_start();
    }
    Ok(blocks)
}

fn x25519_block(block: &str) -> Outcome<SealKey> {
    let bad = || Failure::bad_input("key file: the second block is not an X25519 key in PKCS#8");
    let (_, doc) = SecretDocument::from_pem(block).map_err(|_| bad())?;
    let info = PrivateKeyInfo::try_from(doc.as_bytes()).map_err(|_| bad())?;
    let (oid, params) = (info.algorithm.oid, info.algorithm.parameters);
    match info.private_key {
        [0x04, 0x20, secret @ ..] if oid == X25519_OID && params.is_none() => {
            SealKey::from_bytes(secret.try_into().map_err(|_| bad())?)
        }
        _ => Err(bad()),
    }
}

/// What others know of a party; authenticated by the key id under which it was learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicIdentity {
    /// For people; proves nothing.
    pub name: String,
    /// What the key is for.
    pub role: Role,
    /// Ed25519 public key.
    #[serde(with = "key_text")]
    pub sign: [u8; 32],
    /// X25519 public key, where things are sealed to the party.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_key_text"
    )]
    pub seal: Option<[u8; 32]>,
}

impl PublicIdentity {
    /// The party's key id.
    pub fn key_id(&self) -> KeyId {
        key_id(&self.sign)
    }

    /// The JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the JSON text and checks the signing key.
    ///
    /// # Errors
    /// `BadInput` for unknown fields, a wrong length, a name that is too long or a weak key.
    pub fn from_json(text: &str) -> Outcome<Self> {
        let bad = |why: String| Failure::bad_input(format!("public identity: {why}"));
        if text.len() > PEM_BYTES_MAX {
            return Err(bad("longer than any".into()));
        }
        let identity: Self = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if identity.name.len() > limits::TEXT_BYTES_MAX {
            return Err(bad(format!(
                "its name is over {} bytes",
                limits::TEXT_BYTES_MAX
            )));
        }
        strong_key(&identity.sign)?;
        Ok(identity)
    }
}

/// Checks that a public key is a canonical point that is not of small order.
///
/// # Errors
/// `BadInput` when it is not.
pub fn strong_key(sign_pub: &[u8; 32]) -> Outcome<VerifyingKey> {
    // Decompression alone takes y + p for y, so two texts would name one key.
    let canonical = canonical_y(sign_pub);
    let key = VerifyingKey::from_bytes(sign_pub)
        .ok()
        .filter(|k| canonical && !k.is_weak());
    key.ok_or_else(|| Failure::bad_input("the Ed25519 public key is not canonical or is weak"))
}

/// Whether the 255-bit little-endian y is below p = 2^255 - 19.
fn canonical_y(point: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = point;
    !(*low >= 0xed && middle.iter().all(|b| *b == 0xff) && high & 0x7f == 0x7f)
}

/// Verifies an Ed25519 signature: canonical point and scalar, no small-order key or R.
///
/// # Errors
/// `Refused` when the key or the signature does not hold.
pub fn verify_strict(sign_pub: &[u8; 32], message: &[u8], signature: &[u8]) -> Outcome<()> {
    let key = strong_key(sign_pub).map_err(|e| Failure::refused(e.why))?;
    let refused = || Failure::refused("the signature does not verify under the signer's key");
    let signature = Signature::from_slice(signature).map_err(|_| refused())?;
    key.verify_strict(message, &signature)
        .map_err(|_| refused())
}

fn decode_key<E: de::Error>(text: &str) -> Result<[u8; 32], E> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|b| <[u8; 32]>::try_from(b).ok())
        .ok_or_else(|| E::custom("a key must be 32 bytes in base64url without padding"))
}

mod key_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(key: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&URL_SAFE_NO_PAD.encode(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        decode_key(&String::deserialize(d)?)
    }
}

mod optional_key_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        key: &Option<[u8; 32]>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => key_text::serialize(key, s),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| decode_key(&text))
            .transpose()
    }
}
