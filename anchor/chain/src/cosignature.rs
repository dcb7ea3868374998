//! Cosignatures: a witness says that it saw a checkpoint, and when (C2SP tlog-cosignature v1, Ed25519).
//!
//! ```text
//! cosignature/v1                                      signed message: two lines of its own,
//! time 1679315147                                     then the body of the checkpoint
//! chordae.local/34750f98bd59fcfc946da45aaabe933b
//! 3
//! eW8JTj9zzbbUI3ySR28dCzP5JfNNmDK4tWH+8AUeKRI=
//!
//! — witness.example/w1 base64(key id (4) || time, seconds, big-endian (8) || signature (64))
//! ```
//!
//! It says: at this time the largest tree of this origin that I have seen has this root, and it is
//! consistent with all that I saw before. Only type 0x04 is read; 0x06 (ML-DSA-44) is not.

use chordae_base::{Failure, Outcome};
use ed25519_dalek::{Signer as _, SigningKey};
use signed_note::{Signature, Verifier};

use crate::{
    checkpoint::{Checkpoint, Claim},
    note::NoteKey,
};

/// Note signature type of a witness: Ed25519 over a time and a checkpoint.
const TYPE_COSIGNATURE: u8 = 0x04;
/// Latest time that a cosignature may carry, in seconds (tlog-cosignature "Format").
const TIME_S_MAX: u64 = i64::MAX.unsigned_abs();
/// Bytes of the time before the signature.
const TIME_BYTES: usize = 8;

/// The key a reader trusts to cosign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedWitness(NoteKey);

/// A cosignature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// When the witness signed, seconds since 1970 by its clock.
    pub time_s: u64,
    /// Its line of the note, with the line feed.
    pub line: String,
}

impl TrustedWitness {
    /// The witness of this name and key (32 bytes, Ed25519).
    ///
    /// # Errors
    /// `BadInput` for a name that no witness can have, or a key that is not canonical or is weak.
    pub fn new(name: &str, key: &[u8; 32]) -> Outcome<Self> {
        NoteKey::new(TYPE_COSIGNATURE, name, key).map(Self)
    }

    /// Reads a C2SP verifier key, `name+hash+base64`.
    ///
    /// # Errors
    /// `BadInput` for anything but the one spelling of an Ed25519 cosignature (0x04) key.
    pub fn from_vkey(text: &str) -> Outcome<Self> {
        NoteKey::from_vkey(TYPE_COSIGNATURE, text).map(Self)
    }

    /// The C2SP verifier key, `name+hash+base64`.
    pub fn vkey(&self) -> String {
        self.0.vkey()
    }

    /// The name it signs under.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its 32-byte Ed25519 key.
    pub fn key(&self) -> [u8; 32] {
        self.0.key()
    }

    /// From now on it counts for checkpoints up to this size only.
    pub(crate) fn retire(&mut self, size: u64) {
        self.0.retire(size);
    }
}

impl Verifier for TrustedWitness {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn key_id(&self) -> u32 {
        self.0.id()
    }

    fn verify(&self, body: &[u8], signature: &[u8]) -> bool {
        let Some((time_s, signature)) = timed(signature) else {
            return false;
        };
        time_s <= TIME_S_MAX && self.0.has_signed(&message(time_s, body), signature)
    }
}

/// The signature line of a witness, with the line feed: to be put under the checkpoint's note.
///
/// # Errors
/// `BadInput` for a name that no witness can have, an origin that no log can have, or a time, in
/// seconds since 1970, above 2^63 - 1.
pub fn sign(checkpoint: &Checkpoint, name: &str, key: &SigningKey, time_s: u64) -> Outcome<String> {
    if time_s > TIME_S_MAX {
        return Err(Failure::bad_input("the time of a cosignature is too late"));
    }
    let witness = TrustedWitness::new(name, &key.verifying_key().to_bytes())?;
    let signature = key.sign(&message(time_s, &checkpoint.body()?));
    let timed = [&time_s.to_be_bytes()[..], &signature.to_bytes()].concat();
    let broken = |e: &dyn std::fmt::Display| Failure::internal(format!("cosignature: {e}"));
    let line = Signature::new(name.to_owned(), witness.key_id(), timed).map_err(|e| broken(&e))?;
    String::from_utf8(line.to_bytes()).map_err(|e| broken(&e))
}

/// The cosignature of this witness under a checkpoint. One that does not hold is none: whoever hands a
/// note on can add lines, and a line must not make a checkpoint worth less than it is without. Nor is
/// that of a key that was retired at a smaller size.
pub fn find(claim: &Claim, witness: &TrustedWitness) -> Option<Cosignature> {
    witness.0.in_force(claim.size()).ok()?;
    let signature = claim.signature(witness).ok()?;
    Some(Cosignature {
        time_s: timed(signature.signature())?.0,
        line: String::from_utf8(signature.to_bytes()).ok()?,
    })
}

fn timed(signature: &[u8]) -> Option<(u64, &[u8])> {
    let (time, signature) = signature.split_first_chunk::<TIME_BYTES>()?;
    Some((u64::from_be_bytes(*time), signature))
}

fn message(time_s: u64, body: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {time_s}\n").as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "witness.example/w1";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn witness(seed: u8) -> TrustedWitness {
        TrustedWitness::new(NAME, &key(seed).verifying_key().to_bytes()).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint {
            origin: "chordae.local/test".into(),
            size,
            root: [9; 32],
        }
    }

    fn time_in(note: &str, witness: &TrustedWitness) -> Option<u64> {
        find(&Claim::parse(note).ok()?, witness).map(|c| c.time_s)
    }

    #[test]
    fn holds_for_its_checkpoint_and_breaks_with_every_byte() {
        let note = checkpoint(7).sign(&key(5)).unwrap();
        let line = sign(&checkpoint(7), NAME, &key(7), 1_700_000_000).unwrap();
        let cosigned = format!("{note}{line}");
        let found = find(&Claim::parse(&cosigned).unwrap(), &witness(7)).unwrap();
        assert_eq!((found.time_s, found.line.as_str()), (1_700_000_000, &*line));
        // The log's own signature is none of the witness's business.
        let log = note.len() - note.rsplit_once("\n\n").unwrap().1.len()..note.len();
        for at in (0..cosigned.len()).filter(|at| !log.contains(at)) {
            let mut bent = cosigned.clone().into_bytes();
            bent[at] ^= 1;
            if let Ok(bent) = String::from_utf8(bent) {
                assert_eq!(time_in(&bent, &witness(7)), None, "byte {at}: {bent}");
            }
        }
        let other = checkpoint(8).sign(&key(5)).unwrap();
        assert_eq!(time_in(&format!("{other}{line}"), &witness(7)), None);
        assert_eq!(time_in(&cosigned, &witness(8)), None, "another key");
    }

    #[test]
    fn a_line_that_does_not_hold_counts_for_nothing_and_against_nothing() {
        let note = checkpoint(7).sign(&key(5)).unwrap();
        let good = sign(&checkpoint(7), NAME, &key(7), 7).unwrap();
        let stale = sign(&checkpoint(6), "w2.example", &key(8), 7).unwrap();
        let text = format!("{note}{stale}{good}");
        assert_eq!(time_in(&text, &witness(7)), Some(7));
        let second = TrustedWitness::new("w2.example", &witness(8).key()).unwrap();
        assert_eq!(time_in(&text, &second), None);
    }

    #[test]
    fn times_end_at_the_bound_of_the_format() {
        let note = checkpoint(7).sign(&key(5)).unwrap();
        for time_s in [0, TIME_S_MAX] {
            let line = sign(&checkpoint(7), NAME, &key(7), time_s).unwrap();
            assert_eq!(time_in(&format!("{note}{line}"), &witness(7)), Some(time_s));
        }
        assert!(sign(&checkpoint(7), NAME, &key(7), TIME_S_MAX + 1).is_err());
        // Signed all the same, by a witness of other rules.
        let body = checkpoint(7).body().unwrap();
        let late = TIME_S_MAX + 1;
        let signature = key(7).sign(&message(late, &body)).to_bytes();
        let timed = [&late.to_be_bytes()[..], &signature].concat();
        assert!(!witness(7).verify(&body, &timed));
        assert!(
            !witness(7).verify(&body, &timed[..7]),
            "shorter than a time"
        );
    }

    #[test]
    fn a_logs_signature_is_no_cosignature_and_the_other_way_round() {
        let body = checkpoint(7).body().unwrap();
        let plain = key(7).sign(&body).to_bytes();
        assert!(!witness(7).verify(&body, &plain));
        assert!(!witness(7).verify(&body, &[&[0; 8][..], &plain].concat()));
        // The verifier key of a log is not that of a witness, even of the same key.
        let log = crate::checkpoint::TrustedLog::new(NAME, &witness(7).key()).unwrap();
        assert!(TrustedWitness::from_vkey(&log.vkey()).is_err());
        assert!(crate::checkpoint::TrustedLog::from_vkey(&witness(7).vkey()).is_err());
    }

    #[test]
    fn a_verifier_key_has_one_spelling() {
        let vkey = witness(7).vkey();
        assert_eq!(TrustedWitness::from_vkey(&vkey).unwrap(), witness(7));
        for bad in [
            vkey.to_uppercase(),
            vkey.replace("w1", "w2"),
            format!("{vkey} "),
            vkey.replace("+B", "+C"),
            String::new(),
        ] {
            assert!(TrustedWitness::from_vkey(&bad).is_err(), "{bad:?}");
        }
        for weak in [[0; 32], [0xff; 32]] {
            assert!(TrustedWitness::new(NAME, &weak).is_err());
        }
    }
}
