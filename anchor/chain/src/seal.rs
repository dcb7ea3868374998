//! Sealing to a party (formats.md 1): HPKE base mode, RFC 9180.
//!
//! ```text
//! DHKEM(X25519, HKDF-SHA256) · HKDF-SHA256 · ChaCha20-Poly1305, aad empty
//! info   = "chordae v1 " + purpose         one sealed text cannot be passed off as another kind
//! sealed = enc (32) || ciphertext (plaintext + 16)
//! ```

use chordae_base::{Failure, Outcome, limits, seams::Entropy};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, rand_core,
};

use crate::keys::SealKey;

/// Bytes by which a sealed text is longer than its plaintext.
pub const OVERHEAD: usize = 48;
const ENC_BYTES: usize = 32;

/// What is sealed; part of the key schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Content of an `add-data` event.
    AddData,
    /// Content of a `create-session` event.
    CreateSession,
    /// The key of an inventory.
    Sdata,
    /// The key of a section of a session record.
    Ksec,
}

impl Purpose {
    /// The HPKE info string.
    fn info(self) -> &'static [u8] {
        match self {
            Self::AddData => b"chordae v1 add-data",
            Self::CreateSession => b"chordae v1 create-session",
            Self::Sdata => b"chordae v1 sdata",
            Self::Ksec => b"chordae v1 ksec",
        }
    }
}

/// Seals a text to the holder of an X25519 key.
///
/// # Errors
/// `BadInput` for a key that is no usable point or a plaintext no event or record could carry.
pub fn seal(
    to: &[u8; 32],
    purpose: Purpose,
    plaintext: &[u8],
    entropy: &dyn Entropy,
) -> Outcome<Vec<u8>> {
    let bad_key = || Failure::bad_input("cannot seal: the X25519 public key is not usable");
    if plaintext.len() > limits::BODY_BYTES_MAX {
        return Err(Failure::bad_input(
            "cannot seal: the text is longer than a request body",
        ));
    }
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to).map_err(|_| bad_key())?;
    let (enc, ciphertext) =
        hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &to,
            purpose.info(),
            plaintext,
            &[],
            &mut FromEntropy(entropy),
        )
        .map_err(|_| bad_key())?;
    let mut sealed = enc.to_bytes().to_vec();
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens a sealed text.
///
/// # Errors
/// `Refused` when it was not sealed to this key for this purpose, or was changed.
pub fn open(secret: &SealKey, purpose: Purpose, sealed: &[u8]) -> Outcome<Vec<u8>> {
    let refused = || Failure::refused("cannot open: not sealed to this key, or changed");
    let (enc, ciphertext) = sealed.split_at_checked(ENC_BYTES).ok_or_else(refused)?;
    if ciphertext.len() > limits::BODY_BYTES_MAX + OVERHEAD {
        return Err(refused());
    }
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).map_err(|_| refused())?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret.0,
        &enc,
        purpose.info(),
        ciphertext,
        &[],
    )
    .map_err(|_| refused())
}

/// The house's entropy as the library wants it.
struct FromEntropy<'a>(&'a dyn Entropy);

impl rand_core::TryRng for FromEntropy<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(dst);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for FromEntropy<'_> {}
