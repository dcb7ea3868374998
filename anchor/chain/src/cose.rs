//! Signed records: COSE_Sign1 (RFC 9052) in the one encoding that this house writes.
//!
//! ```text
//! 18([ << {1: -8, 3: content type, 4: kid} >>, {}, << payload >>, sig ])
//! ```
//!
//! Whoever reads one builds it anew from its parts and compares: an absent or wrong tag, further
//! headers, another order of keys, long integers and indefinite lengths are refused. So a signature or
//! a hash of such a record never covers something that two readers read differently. The payload is the
//! caller's to judge, in the same way.

use chordae_base::{Failure, KeyId, Outcome};
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};

use crate::{
    cbor,
    keys::{self, SecretKeys},
};

/// One kind of signed record.
pub(crate) struct Kind {
    /// Its content type (header 3).
    pub(crate) content_type: &'static str,
    /// Bytes that it has at most.
    pub(crate) bytes_max: usize,
    /// What it is called in a refusal.
    pub(crate) name: &'static str,
}

/// Who signed which bytes; a claim until [`Signed::verify`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Who says that they signed.
    pub(crate) kid: KeyId,
    /// What the signature covers (RFC 9052 Sig_structure).
    covered: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    /// Verifies the signature under the key that the caller trusts for `kid`.
    ///
    /// # Errors
    /// `Refused` when the key is not the one named, or the signature does not hold.
    pub(crate) fn verify(&self, sign_pub: &[u8; 32]) -> Outcome<()> {
        if keys::key_id(sign_pub) != self.kid {
            return Err(Failure::refused(
                "the record names another key than the one given",
            ));
        }
        keys::verify_strict(sign_pub, &self.covered, &self.signature)
    }
}

impl Kind {
    /// Signs a payload: the bytes of the record.
    ///
    /// # Errors
    /// `BadInput` when they are too many.
    pub(crate) fn sign(&self, payload: Vec<u8>, keys: &SecretKeys) -> Outcome<Vec<u8>> {
        let unsigned = self.envelope(payload, keys.key_id());
        let signature = keys.sign(&unsigned.tbs_data(&[]));
        let record = finish(unsigned, &signature)?;
        if record.len() > self.bytes_max {
            let (name, len, max) = (self.name, record.len(), self.bytes_max);
            let why = format!("the {name} has {len} bytes, more than {max}");
            return Err(Failure::bad_input(why));
        }
        Ok(record)
    }

    /// Takes a record apart, strictly; does not verify the signature.
    ///
    /// # Errors
    /// `BadInput` for anything that is not the one encoding of its parts.
    pub(crate) fn open(&self, record: &[u8]) -> Outcome<(Vec<u8>, Signed)> {
        let bad = |why: &str| Failure::bad_input(format!("{}: {why}", self.name));
        if record.len() > self.bytes_max {
            return Err(bad(&format!("longer than {} bytes", self.bytes_max)));
        }
        // Bounds the depth and refuses most that is not deterministic before the library sees it.
        cbor::decode(record).map_err(|e| e.during(self.name))?;
        let sign1 = CoseSign1::from_tagged_slice(record)
            .map_err(|_| bad("not a COSE_Sign1 with tag 18"))?;
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
        let payload = sign1.payload.ok_or_else(|| bad("it has no payload"))?;
        let unsigned = self.envelope(payload.clone(), KeyId(kid));
        let covered = unsigned.tbs_data(&[]);
        if finish(unsigned, &signature)? != record {
            return Err(bad(
                "its headers or its encoding are not those of the format",
            ));
        }
        let kid = KeyId(kid);
        let signed = Signed {
            kid,
            covered,
            signature,
        };
        Ok((payload, signed))
    }

    /// The record before its signature.
    fn envelope(&self, payload: Vec<u8>, kid: KeyId) -> CoseSign1 {
        let header = HeaderBuilder::new()
            .algorithm(iana::Algorithm::EdDSA)
            .content_type(self.content_type.to_owned())
            .key_id(kid.0.to_vec())
            .build();
        CoseSign1Builder::new()
            .protected(header)
            .payload(payload)
            .build()
    }
}

fn finish(mut sign1: CoseSign1, signature: &[u8; 64]) -> Outcome<Vec<u8>> {
    sign1.signature = signature.to_vec();
    sign1
        .to_tagged_vec()
        .map_err(|e| Failure::internal(format!("cannot write a signed record: {e}")))
}
