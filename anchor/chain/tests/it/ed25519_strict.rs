//! One rule for signatures (formats.md 5), held against a table of those that verifiers disagree about.
//!
//! `tests/golden/ed25519.json`, written by `ed25519.py` beside it from the arithmetic of RFC 8032; the Python
//! client is held against the same table.

use chordae_chain::{
    event,
    keys::{PublicIdentity, Role, key_id, strong_key, verify_strict},
};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    keys: Vec<Key>,
    signatures: Vec<Case>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
    key: String,
    valid: bool,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    valid: bool,
    lax: bool,
    key: String,
    message: String,
    signature: String,
    entry: String,
}

fn table() -> Table {
    serde_json::from_str(include_str!("../golden/ed25519.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

#[test]
fn l11_every_path_judges_a_signature_alike() {
    let mut entries = 0;
    for case in table().signatures {
        let (message, signature) = (bytes(&case.message), bytes(&case.signature));
        let Ok(key) = <[u8; 32]>::try_from(bytes(&case.key)) else {
            assert!(!case.valid, "{}", case.name);
            continue;
        };
        let bare = verify_strict(&key, &message, &signature);
        assert_eq!(bare.is_ok(), case.valid, "{}", case.name);
        match event::decode(&bytes(&case.entry)) {
            Ok(signed) => {
                // "other-key" names the other one; it is held against it all the same.
                assert_eq!(signed.kid, key_id(&key), "{}", case.name);
                assert_eq!(signed.verify(&key).is_ok(), case.valid, "{}", case.name);
                entries += 1;
            }
            Err(_) => assert_ne!(signature.len(), 64, "{}", case.name),
        }
    }
    assert!(entries > 50);
}

#[test]
fn l11_every_path_judges_a_key_alike() {
    for Key { name, key, valid } in table().keys {
        let key: [u8; 32] = bytes(&key).try_into().unwrap();
        assert_eq!(strong_key(&key).is_ok(), valid, "{name}");
        let identity = PublicIdentity {
            name: name.clone(),
            role: Role::Provider,
            sign: key,
            seal: None,
        };
        let read = PublicIdentity::from_json(&identity.to_json());
        assert_eq!(read.is_ok(), valid, "{name}");
    }
}

/// The control: verifiers that look less closely accept what we refuse.
#[test]
fn a_lax_verifier_accepts_what_is_refused_here() {
    let cases = table().signatures;
    let equation = cases.iter().filter(|c| c.lax && !c.valid).count();
    assert!(
        equation > 30,
        "{equation} of the refused ones satisfy the bare equation"
    );
    let lax = cases.iter().filter(|case| {
        let key = <[u8; 32]>::try_from(bytes(&case.key)).ok();
        let key = key.and_then(|key| VerifyingKey::from_bytes(&key).ok());
        let signature = Signature::from_slice(&bytes(&case.signature)).ok();
        let accepts = |(key, signature): (VerifyingKey, Signature)| {
            key.verify(&bytes(&case.message), &signature).is_ok()
        };
        !case.valid && key.zip(signature).is_some_and(accepts)
    });
    assert!(
        lax.count() > 20,
        "a plain verifier refuses the small orders too"
    );
}
