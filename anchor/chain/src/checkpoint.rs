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
//! demands (rotated keys; those of witnesses are [`crate::cosignature`]'s). **Extension lines are refused**: our logs write none, nobody
//! audits them, and without them one (origin, size, root) has one signed text.

use chordae_base::{Failure, Outcome, limits::CHECKPOINT_BYTES_MAX};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use signed_note::{Note, Signature, Verifier};
use tlog_tiles::Hash;

use crate::{
    merkle::NodeHash,
    note::{self, NoteKey, Only},
};

/// Note signature type of a log: plain Ed25519.
const TYPE_ED25519: u8 = 0x01;

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
pub struct TrustedLog(NoteKey);

/// Whether a text may name a log: not empty, at most 255 bytes, no white space, control character
/// or `+`.
///
/// # Errors
/// `BadInput` saying so.
pub fn check_origin(origin: &str) -> Outcome<()> {
    note::check_name(origin)
}

/// SHA-256 of an origin in hex: its name where a slash may not stand (file names, paths).
pub fn origin_hash(origin: &str) -> String {
    hex::encode(Sha256::digest(origin))
}

impl TrustedLog {
    /// The log of this origin and key (32 bytes, Ed25519).
    ///
    /// # Errors
    /// `BadInput` for a name no log can have, or a key that is not canonical or is weak.
    pub fn new(origin: &str, key: &[u8; 32]) -> Outcome<Self> {
        NoteKey::new(TYPE_ED25519, origin, key).map(Self)
    }

    /// Reads a C2SP verifier key, `origin+hash+base64`.
    ///
    /// # Errors
    /// `BadInput` for anything but the one spelling of an Ed25519 (0x01) key.
    pub fn from_vkey(text: &str) -> Outcome<Self> {
        NoteKey::from_vkey(TYPE_ED25519, text).map(Self)
    }

    /// The C2SP verifier key, `origin+hash+base64`.
    pub fn vkey(&self) -> String {
        self.0.vkey()
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.0.name()
    }

    /// The log's 32-byte Ed25519 key.
    pub fn key(&self) -> [u8; 32] {
        self.0.key()
    }

    /// From now on it counts for checkpoints up to this size only.
    pub(crate) fn retire(&mut self, size: u64) {
        self.0.retire(size);
    }
}

impl Verifier for TrustedLog {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn key_id(&self) -> u32 {
        self.0.id()
    }

    fn verify(&self, msg: &[u8], sig: &[u8]) -> bool {
        self.0.has_signed(msg, sig)
    }
}

impl Checkpoint {
    /// The note's text: origin, size, root, each on its line.
    ///
    /// # Errors
    /// `BadInput` for an origin that cannot name a log.
    pub fn body(&self) -> Outcome<Vec<u8>> {
        check_origin(&self.origin)?;
        tlog_tiles::Checkpoint::new(&self.origin, self.size, Hash(self.root), "")
            .map(|body| body.to_bytes())
            .map_err(|e| Failure::internal(format!("checkpoint: {e}")))
    }

    /// The signed note.
    ///
    /// # Errors
    /// `BadInput` for an origin that cannot name a log.
    pub fn sign(&self, key: &SigningKey) -> Outcome<String> {
        let broken = |e: &dyn std::fmt::Display| Failure::internal(format!("checkpoint: {e}"));
        let body = self.body()?;
        let log = TrustedLog::new(&self.origin, &key.verifying_key().to_bytes())?;
        let sig = key.sign(&body).to_vec();
        let sig = Signature::new(self.origin.clone(), log.key_id(), sig).map_err(|e| broken(&e))?;
        let note = Note::new(&body, &[sig]).map_err(|e| broken(&e))?;
        String::from_utf8(note.to_bytes()).map_err(|e| broken(&e))
    }
}

/// A checkpoint as read, with all signatures under it: a claim, until a key that somebody trusts has
/// vouched for it.
#[derive(Debug, PartialEq)]
pub struct Claim {
    checkpoint: Checkpoint,
    note: Note,
}

impl Claim {
    /// Reads a signed note that holds a checkpoint, at most 64 KiB with at most 100 signatures.
    ///
    /// # Errors
    /// `BadInput` for anything else, extension lines and second spellings too.
    pub fn parse(text: &str) -> Outcome<Self> {
        if text.len() > CHECKPOINT_BYTES_MAX {
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
        let checkpoint = Checkpoint {
            origin: body.origin().to_owned(),
            size: body.size(),
            root: body.hash().0,
        };
        Ok(Self { checkpoint, note })
    }

    /// The log that it says it is of.
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }

    /// The checkpoint, if it is of this log and the log has signed it.
    ///
    /// # Errors
    /// `Damaged` if not, or if its key was retired at a smaller size.
    pub fn signed_by(&self, log: &TrustedLog) -> Outcome<Checkpoint> {
        if self.checkpoint.origin != log.origin() {
            return Err(Failure::damaged(format!(
                "the checkpoint is of {:?}, the trusted log is {:?}",
                self.checkpoint.origin,
                log.origin()
            )));
        }
        self.signature(log).map_err(|e| {
            Failure::damaged(format!(
                "the checkpoint is not signed by the trusted log key: {e}"
            ))
        })?;
        log.0.in_force(self.checkpoint.size)?;
        Ok(self.checkpoint.clone())
    }

    /// Leaves that it says the log has.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// The signature line of this key, if it holds; of several lines of one key the first decides.
    pub(crate) fn signature(
        &self,
        key: &dyn Verifier,
    ) -> Result<Signature, signed_note::NoteError> {
        let (verified, _) = self.note.verify(&Only(key))?;
        verified
            .into_iter()
            .next()
            .ok_or(signed_note::NoteError::UnverifiedNote)
    }
}

/// Reads a checkpoint of the trusted log.
///
/// # Errors
/// `BadInput` for what is no checkpoint, `Damaged` for one of another origin or without a valid
/// signature by the trusted key.
pub fn open(text: &str, log: &TrustedLog) -> Outcome<Checkpoint> {
    Claim::parse(text)?.signed_by(log)
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
        let id = trusted(5).key_id();
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
            let id = trusted(5).key_id();
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

    #[test]
    fn a_log_key_that_is_not_canonical_is_refused() {
        // y = 3 is a point, and so is its second spelling y + p to whoever only decompresses it.
        let mut canonical = [0; 32];
        canonical[0] = 3;
        let mut second = [0xff; 32];
        (second[0], second[31]) = (0xf0, 0x7f);
        let lax = |key: &[u8; 32]| ed25519_dalek::VerifyingKey::from_bytes(key).unwrap();
        assert_eq!(lax(&canonical).to_edwards(), lax(&second).to_edwards());
        TrustedLog::new(ORIGIN, &canonical).unwrap();
        assert!(TrustedLog::new(ORIGIN, &second).is_err());
        let vkey = NoteKey::new(TYPE_ED25519, ORIGIN, &canonical)
            .unwrap()
            .vkey();
        TrustedLog::from_vkey(&vkey).unwrap();
        let mut typed = vec![TYPE_ED25519];
        typed.extend(second);
        let hash = signed_note::key_id(ORIGIN, &typed);
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &typed);
        assert!(TrustedLog::from_vkey(&format!("{ORIGIN}+{hash:08x}+{key}")).is_err());
    }
}
