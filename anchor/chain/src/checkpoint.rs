//! Checkpoints: the log's signed size and root (formats.md 5; C2SP tlog-checkpoint, signed-note).
//!
//! ```text
//! chordae.local/34750f98bd59fcfc946da45aaabe933b      origin
//! 3                                                    size
//! eW8JTj9zzbbUI3ySR28dCzP5JfNNmDK4tWH+8AUeKRI=         root
//!
//! — chordae.local/34750f98bd59fcfc946da45aaabe933b 9kxV...QVQc=
//! ```
//!
//! Opening one asks for exactly the origin that the reader trusts and a strict Ed25519 signature
//! (type 0x01) by exactly the key that she trusts. Signatures by unknown keys are ignored, as C2SP
//! demands (rotated keys, witnesses). **Extension lines are refused**: our logs write none, nobody
//! audits them, and without them one (origin, size, root) has one signed text.

use chordae_base::{Failure, Outcome};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use signed_note::{Note, Signature, VerificationError, Verifier, Verifiers};
use tlog_tiles::Hash;

use crate::merkle::NodeHash;

/// Note signature type of plain Ed25519.
const TYPE_ED25519: u8 = 0x01;
/// Bytes of a checkpoint with its signatures.
const TEXT_MAX: usize = 64 * 1024;
/// Bytes of an origin.
const ORIGIN_MAX: usize = 255;

/// A log's size and root under its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: NodeHash,
}

/// The key a reader trusts to speak for an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedLog {
    origin: String,
    key: VerifyingKey,
    id: u32,
}

/// Whether a text may name a log: not empty, at most 255 bytes, no white space, control character
/// or `+`.
///
/// # Errors
/// `BadInput` saying so.
pub fn check_origin(origin: &str) -> Outcome<()> {
    let fits = signed_note::is_key_name_valid(origin)
        && origin.len() <= ORIGIN_MAX
        && !origin.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "{origin:?} cannot name a log: 1 to 255 bytes without white space, control characters or +"
    )))
}

impl TrustedLog {
    /// The log of this origin and key (32 bytes, Ed25519).
    ///
    /// # Errors
    /// `BadInput` for a name no log can have, or a key that is no strong Ed25519 point.
    pub fn new(origin: &str, key: &[u8; 32]) -> Outcome<Self> {
        check_origin(origin)?;
        let key = VerifyingKey::from_bytes(key).ok().filter(|k| !k.is_weak());
        let key = key.ok_or_else(|| Failure::bad_input("the log key is not an Ed25519 key"))?;
        Ok(Self {
            origin: origin.to_owned(),
            id: key_hash(origin, &key),
            key,
        })
    }

    /// Reads a C2SP verifier key, `origin+hash+base64`.
    ///
    /// # Errors
    /// `BadInput` for anything but the one spelling of an Ed25519 (0x01) key.
    pub fn from_vkey(text: &str) -> Outcome<Self> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let bad = || Failure::bad_input(format!("{text:?} is not a verifier key of type 0x01"));
        let (origin, rest) = text.split_once('+').ok_or_else(bad)?;
        let (_, key) = rest.split_once('+').ok_or_else(bad)?;
        let key = STANDARD.decode(key).map_err(|_| bad())?;
        let key = match key.split_first() {
            Some((&TYPE_ED25519, key)) => <[u8; 32]>::try_from(key).map_err(|_| bad())?,
            _ => return Err(bad()),
        };
        let log = Self::new(origin, &key)?;
        if log.vkey() == text {
            Ok(log)
        } else {
            Err(bad())
        }
    }

    /// The C2SP verifier key, `origin+hash+base64`.
    pub fn vkey(&self) -> String {
        signed_note::new_ed25519_verifier_key(&self.origin, &self.key)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The log's 32-byte Ed25519 key.
    pub fn key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }
}

fn key_hash(origin: &str, key: &VerifyingKey) -> u32 {
    let mut typed = vec![TYPE_ED25519];
    typed.extend_from_slice(key.as_bytes());
    signed_note::key_id(origin, &typed)
}

/// The one verifier that `signed_note` is to know: strict, where its own is not.
impl Verifier for TrustedLog {
    fn name(&self) -> &str {
        &self.origin
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, msg: &[u8], sig: &[u8]) -> bool {
        let sig = ed25519_dalek::Signature::from_slice(sig);
        sig.is_ok_and(|sig| self.key.verify_strict(msg, &sig).is_ok())
    }
}

impl Verifiers for TrustedLog {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if name == self.origin && id == self.id {
            return Ok(self);
        }
        Err(VerificationError::UnknownKey {
            name: name.to_owned(),
            id,
        })
    }
}

impl Checkpoint {
    /// The signed note.
    ///
    /// # Errors
    /// `BadInput` for an origin that cannot name a log.
    pub fn sign(&self, key: &SigningKey) -> Outcome<String> {
        check_origin(&self.origin)?;
        let broken = |e: &dyn std::fmt::Display| Failure::internal(format!("checkpoint: {e}"));
        let body = tlog_tiles::Checkpoint::new(&self.origin, self.size, Hash(self.root), "")
            .map_err(|e| broken(&e))?
            .to_bytes();
        let id = key_hash(&self.origin, &key.verifying_key());
        let sig = key.sign(&body).to_vec();
        let sig = Signature::new(self.origin.clone(), id, sig).map_err(|e| broken(&e))?;
        let note = Note::new(&body, &[sig]).map_err(|e| broken(&e))?;
        String::from_utf8(note.to_bytes()).map_err(|e| broken(&e))
    }
}

/// Reads a checkpoint of the trusted log.
///
/// # Errors
/// `BadInput` for what is no checkpoint, `Damaged` for one of another origin or without a valid
/// signature by the trusted key.
pub fn open(text: &str, log: &TrustedLog) -> Outcome<Checkpoint> {
    if text.len() > TEXT_MAX {
        return Err(Failure::bad_input("the checkpoint is longer than 64 KiB"));
    }
    let note = Note::from_bytes(text.as_bytes())
        .map_err(|e| Failure::bad_input(format!("not a checkpoint: {e}")))?;
    let body = tlog_tiles::Checkpoint::from_bytes(note.text())
        .map_err(|e| Failure::bad_input(e.to_string()))?;
    if body.to_bytes() != note.text() || !body.extension().is_empty() {
        return Err(Failure::bad_input(
            "the checkpoint has extension lines or a second spelling",
        ));
    }
    if body.origin() != log.origin {
        return Err(Failure::damaged(format!(
            "the checkpoint is of {:?}, the trusted log is {:?}",
            body.origin(),
            log.origin
        )));
    }
    note.verify(log).map_err(|e| {
        Failure::damaged(format!(
            "the checkpoint is not signed by the trusted log key: {e}"
        ))
    })?;
    Ok(Checkpoint {
        origin: body.origin().to_owned(),
        size: body.size(),
        root: body.hash().0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "chordae.local/test";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn trusted(seed: u8) -> TrustedLog {
        TrustedLog::new(ORIGIN, &key(seed).verifying_key().to_bytes()).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.into(),
            size: 7,
            root: [9; 32],
        }
    }

    #[test]
    fn opens_its_own_and_refuses_every_flipped_character() {
        let text = checkpoint().sign(&key(5)).unwrap();
        assert_eq!(open(&text, &trusted(5)).unwrap(), checkpoint());
        for at in 0..text.len() {
            let mut bent = text.clone().into_bytes();
            bent[at] ^= 1;
            if let Ok(bent) = String::from_utf8(bent) {
                assert!(open(&bent, &trusted(5)).is_err(), "byte {at}: {bent}");
            }
        }
    }

    #[test]
    fn only_the_trusted_key_under_the_trusted_name_counts() {
        let text = checkpoint().sign(&key(5)).unwrap();
        assert!(open(&text, &trusted(6)).is_err(), "another key");
        let other = Checkpoint {
            origin: "elsewhere".into(),
            ..checkpoint()
        };
        assert!(
            open(&other.sign(&key(5)).unwrap(), &trusted(5)).is_err(),
            "another origin"
        );
        // The body of a strange origin, with a signature line in the trusted name.
        let body = tlog_tiles::Checkpoint::new("elsewhere", 7, Hash([9; 32]), "")
            .unwrap()
            .to_bytes();
        let id = key_hash(ORIGIN, &key(5).verifying_key());
        let sig = Signature::new(ORIGIN.into(), id, key(5).sign(&body).to_vec()).unwrap();
        let note = Note::new(&body, &[sig]).unwrap().to_bytes();
        assert!(open(std::str::from_utf8(&note).unwrap(), &trusted(5)).is_err());
    }

    #[test]
    fn unknown_signatures_are_ignored_before_and_after() {
        let text = checkpoint().sign(&key(5)).unwrap();
        let (body, line) = text.rsplit_once("\n\n").unwrap();
        let witness = Signature::new("witness.example".into(), 1, vec![3; 72])
            .unwrap()
            .to_bytes();
        let witness = String::from_utf8(witness).unwrap();
        open(&format!("{body}\n\n{witness}{line}"), &trusted(5)).unwrap();
        open(&format!("{body}\n\n{line}{witness}"), &trusted(5)).unwrap();
        assert!(
            open(&format!("{body}\n\n{witness}"), &trusted(5)).is_err(),
            "only a stranger's"
        );
    }

    #[test]
    fn what_is_signed_but_no_checkpoint_of_ours_is_refused() {
        let sign = |body: &str| {
            let id = key_hash(ORIGIN, &key(5).verifying_key());
            let sig = Signature::new(ORIGIN.into(), id, key(5).sign(body.as_bytes()).to_vec());
            let note = Note::new(body.as_bytes(), &[sig.unwrap()]).unwrap();
            String::from_utf8(note.to_bytes()).unwrap()
        };
        let root = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
        open(&sign(&format!("{ORIGIN}\n7\n{root}\n")), &trusted(5)).unwrap();
        for bad in [
            format!("{ORIGIN}\n7\n{root}\nextension\n"),
            format!("{ORIGIN}\n07\n{root}\n"),
            format!("{ORIGIN}\n-7\n{root}\n"),
            format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
            format!("{ORIGIN}\n7\n{}\n", &root[..40]),
            format!("{ORIGIN}\n7\n"),
            format!("\n7\n{root}\n"),
        ] {
            assert!(open(&sign(&bad), &trusted(5)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_verifier_key_has_one_spelling() {
        let vkey = trusted(5).vkey();
        assert_eq!(TrustedLog::from_vkey(&vkey).unwrap(), trusted(5));
        let (head, key) = vkey.rsplit_once('+').unwrap();
        for bad in [
            vkey.to_uppercase(),
            vkey.replace("chordae", "chordal"),
            format!("{head}+{}", &key[1..]),
            format!("{vkey} "),
            String::new(),
            "a+b".into(),
            format!("{ORIGIN}+00000000+AQ=="),
        ] {
            assert!(TrustedLog::from_vkey(&bad).is_err(), "{bad:?}");
        }
        assert!(TrustedLog::new("a b", &trusted(5).key()).is_err());
        assert!(
            TrustedLog::new(ORIGIN, &[0; 32]).is_err(),
            "a small-order key"
        );
    }
}
