//! Keys of signed notes (C2SP signed-note): a name, a signature type and an Ed25519 key.
//!
//! ```text
//! verifier key   name+hash+base64(type || key)                type 0x01: a log       checkpoint
//! hash, key id   SHA-256(name || "\n" || type || key)[:4]          0x04: a witness   cosignature
//! signature      — name base64(key id || bytes of the type)
//! ```
//!
//! A key is taken under the one rule of the house ([`keys::strong_key`]) and a verifier key in one
//! spelling, so that two texts never stand for one key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chordae_base::{Failure, Outcome};
use signed_note::{VerificationError, Verifier, Verifiers};

use crate::keys;

/// Bytes of a key's name.
const NAME_MAX: usize = 255;

/// The key that a name signs notes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoteKey {
    kind: u8,
    name: String,
    key: [u8; 32],
    id: u32,
    /// Largest size it may sign; `None`: it is in force.
    until: Option<u64>,
}

/// Whether a text may name a log or a witness: not empty, at most 255 bytes, no white space, control
/// character or `+`.
pub(crate) fn check_name(name: &str) -> Outcome<()> {
    let fits = signed_note::is_key_name_valid(name)
        && name.len() <= NAME_MAX
        && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "{name:?} cannot name a log or a witness: 1 to 255 bytes without white space, control characters or +"
    )))
}

impl NoteKey {
    pub(crate) fn new(kind: u8, name: &str, key: &[u8; 32]) -> Outcome<Self> {
        check_name(name)?;
        keys::strong_key(key)?;
        Ok(Self {
            kind,
            name: name.to_owned(),
            key: *key,
            id: signed_note::key_id(name, &typed(kind, key)),
            until: None,
        })
    }

    /// Reads a verifier key of this type, in its one spelling.
    pub(crate) fn from_vkey(kind: u8, text: &str) -> Outcome<Self> {
        let bad = || {
            Failure::bad_input(format!(
                "{text:?} is not a verifier key of type {kind:#04x} in its one spelling"
            ))
        };
        let (name, rest) = text.split_once('+').ok_or_else(bad)?;
        let (_, key) = rest.split_once('+').ok_or_else(bad)?;
        let key = STANDARD.decode(key).map_err(|_| bad())?;
        let key = match key.split_first() {
            Some((found, key)) if *found == kind => <[u8; 32]>::try_from(key).map_err(|_| bad())?,
            _ => return Err(bad()),
        };
        let read = Self::new(kind, name, &key)?;
        if read.vkey() == text {
            Ok(read)
        } else {
            Err(bad())
        }
    }

    pub(crate) fn vkey(&self) -> String {
        let key = STANDARD.encode(typed(self.kind, &self.key));
        format!("{}+{:08x}+{key}", self.name, self.id)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key(&self) -> [u8; 32] {
        self.key
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// From now on it counts for checkpoints up to this size only, or a smaller one said before.
    pub(crate) fn retire(&mut self, size: u64) {
        self.until = Some(self.until.map_or(size, |until| until.min(size)));
    }

    /// Whether it may sign a checkpoint of this size.
    ///
    /// # Errors
    /// `Damaged`, naming the size at which it was retired.
    pub(crate) fn in_force(&self, size: u64) -> Outcome<()> {
        match self.until {
            Some(until) if size > until => Err(Failure::damaged(format!(
                "the key of {:?} was retired at size {until}: what it signed after that does not count",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// Whether this is its Ed25519 signature of a message, by the one rule of the house.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        keys::verify_strict(&self.key, message, signature).is_ok()
    }
}

fn typed(kind: u8, key: &[u8; 32]) -> Vec<u8> {
    [&[kind][..], key].concat()
}

/// The one key that `signed_note` is to know; signatures by all others are ignored, as C2SP demands.
pub(crate) struct Only<'a>(pub(crate) &'a dyn Verifier);

impl Verifiers for Only<'_> {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if name == self.0.name() && id == self.0.key_id() {
            return Ok(self.0);
        }
        Err(VerificationError::UnknownKey {
            name: name.to_owned(),
            id,
        })
    }
}
