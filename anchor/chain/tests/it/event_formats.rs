//! Entries agree with the shared vectors byte for byte, and every rule of formats.md 5 has a bad twin
//! that is refused: most of them properly signed, so that nothing but the rule refuses them.

use chordae_base::{Did, Digest, KeyId};
use chordae_chain::{
    event::{self, ContentDg, Event},
    keys::{Role, SecretKeys, key_id},
};
use ciborium::{Value, cbor};
use serde_json::json;

use crate::{
    bench_keys::{golden, party, raw},
    shared,
};

const CONTENT_TYPE: &str = "application/chordae-event+cbor";

fn good() -> Vec<(&'static str, Event, u8)> {
    let bytes = |n: u8| (0..n).collect::<Vec<u8>>();
    let (digest, tag) = (Digest([7; 32]), Digest([8; 32]));
    vec![
        (
            "add-data",
            Event::AddData {
                digest,
                tag,
                content: bytes(64),
            },
            1,
        ),
        (
            "add-heads",
            Event::AddHeads {
                root: [14; 32],
                count: 4096,
            },
            1,
        ),
        (
            "create-session",
            Event::CreateSession {
                sections: [9; 32],
                content: bytes(32),
                nonce: [10; 16],
            },
            3,
        ),
        (
            "revoke-session",
            Event::RevokeSession {
                sid: [11; 32],
                nonce: [12; 16],
            },
            3,
        ),
        (
            "audit-head",
            Event::AuditHead {
                digest,
                count: u64::MAX,
                time_ms: 1_700_000_000_000,
            },
            1,
        ),
        (
            "rotate-key",
            Event::RotateKey {
                role: Role::Log,
                old: party(5).key_id(),
                new: party(6).sign_public(),
                time_ms: 1_700_000_000_000,
            },
            1,
        ),
        (
            "block",
            Event::Block {
                height: 23,
                prev: [0; 32],
                events_root: [13; 32],
                first: 24,
                count: 400,
                time_ms: 255,
            },
            2,
        ),
    ]
}

/// The parts of an entry, each replaceable.
struct Parts {
    tag: Option<u64>,
    protected: Vec<u8>,
    unprotected: Value,
    payload: Value,
}

impl Parts {
    fn of(payload: Vec<u8>, keys: &SecretKeys) -> Self {
        let kid = Value::Bytes(keys.key_id().0.to_vec());
        let header = cbor!({ 1 => -8, 3 => CONTENT_TYPE, 4 => kid }).unwrap();
        Self {
            tag: Some(18),
            protected: raw(&header),
            unprotected: Value::Map(vec![]),
            payload: Value::Bytes(payload),
        }
    }

    /// Signs these very bytes, without the library that the product uses.
    fn sign(&self, keys: &SecretKeys) -> Vec<u8> {
        let covered = match &self.payload {
            Value::Bytes(bytes) => bytes.clone(),
            _ => vec![],
        };
        let protected = Value::Bytes(self.protected.clone());
        let structure = Value::Array(vec![
            "Signature1".into(),
            protected,
            Value::Bytes(vec![]),
            Value::Bytes(covered),
        ]);
        self.close(&keys.sign(&raw(&structure)))
    }

    fn close(&self, signature: &[u8]) -> Vec<u8> {
        let array = Value::Array(vec![
            Value::Bytes(self.protected.clone()),
            self.unprotected.clone(),
            self.payload.clone(),
            Value::Bytes(signature.to_vec()),
        ]);
        raw(&match self.tag {
            Some(tag) => Value::Tag(tag, Box::new(array)),
            None => array,
        })
    }
}

/// A revocation in canonical order, the base of most twins.
fn fields() -> Vec<(Value, Value)> {
    let pair = |k: &str, v: Value| (Value::from(k), v);
    vec![
        pair("sid", Value::Bytes(vec![11; 32])),
        pair("type", "revoke-session".into()),
        pair("nonce", Value::Bytes(vec![12; 16])),
    ]
}

fn block_fields(count: i64, height: i64) -> Vec<(Value, Value)> {
    let pair = |k: &str, v: Value| (Value::from(k), v);
    vec![
        pair("prev", Value::Bytes(vec![0; 32])),
        pair("type", "block".into()),
        pair("count", count.into()),
        pair("first", 0.into()),
        pair("height", height.into()),
        pair("time_ms", 1.into()),
        pair("events_root", Value::Bytes(vec![1; 32])),
    ]
}

fn heads_fields(count: i64) -> Vec<(Value, Value)> {
    let pair = |k: &str, v: Value| (Value::from(k), v);
    vec![
        pair("root", Value::Bytes(vec![14; 32])),
        pair("type", "add-heads".into()),
        pair("count", count.into()),
    ]
}

fn rotation_fields(role: &str, old: KeyId, new: &[u8]) -> Vec<(Value, Value)> {
    let pair = |k: &str, v: Value| (Value::from(k), v);
    vec![
        pair("new", Value::Bytes(new.to_vec())),
        pair("old", Value::Bytes(old.0.to_vec())),
        pair("role", role.into()),
        pair("type", "rotate-key".into()),
        pair("time_ms", 1.into()),
    ]
}

fn rotation(role: &str, old: KeyId, new: &[u8]) -> Vec<u8> {
    with_payload(raw(&Value::Map(rotation_fields(role, old, new))))
}

fn with_payload(payload: Vec<u8>) -> Vec<u8> {
    let keys = party(3);
    Parts::of(payload, &keys).sign(&keys)
}

fn with_fields(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Vec<u8> {
    let mut map = fields();
    change(&mut map);
    with_payload(raw(&Value::Map(map)))
}

fn with_parts(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let keys = party(3);
    let mut parts = Parts::of(raw(&Value::Map(fields())), &keys);
    change(&mut parts);
    parts.sign(&keys)
}

/// Twins that must not even decode.
fn undecodable() -> Vec<(&'static str, Vec<u8>)> {
    let kid = || Value::Bytes(party(3).key_id().0.to_vec());
    let header = |v: Value| move |p: &mut Parts| p.protected = raw(&v);
    let good = with_parts(|_| ());
    let spliced = |at: usize, old: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes.splice(at..at + old, new.iter().copied());
        bytes
    };
    let payload = raw(&Value::Map(fields()));
    let indefinite = [&[0xbf], &payload[1..], &[0xff]].concat();
    let text = Value::from;
    let (old, new) = (party(5).key_id(), party(6).sign_public());
    vec![
        ("untagged", with_parts(|p| p.tag = None)),
        ("wrong-tag", with_parts(|p| p.tag = Some(17))),
        ("long-tag", spliced(0, 1, &[0xd8, 18])),
        (
            "indefinite-array",
            [&[0xd2, 0x9f], &good[2..], &[0xff]].concat(),
        ),
        ("trailing-byte", [good.as_slice(), &[0]].concat()),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("empty", vec![]),
        (
            "extra-protected-header",
            with_parts(header(
                cbor!({1 => -8, 3 => CONTENT_TYPE, 4 => kid(), 5 => Value::Bytes(vec![1])})
                    .unwrap(),
            )),
        ),
        (
            "critical-header",
            with_parts(header(
                cbor!({1 => -8, 2 => [1], 3 => CONTENT_TYPE, 4 => kid()}).unwrap(),
            )),
        ),
        (
            "no-content-type",
            with_parts(header(cbor!({1 => -8, 4 => kid()}).unwrap())),
        ),
        (
            "other-content-type",
            with_parts(header(cbor!({1 => -8, 3 => "a/b", 4 => kid()}).unwrap())),
        ),
        (
            "other-alg",
            with_parts(header(
                cbor!({1 => -7, 3 => CONTENT_TYPE, 4 => kid()}).unwrap(),
            )),
        ),
        (
            "no-alg",
            with_parts(header(cbor!({3 => CONTENT_TYPE, 4 => kid()}).unwrap())),
        ),
        (
            "no-kid",
            with_parts(header(cbor!({1 => -8, 3 => CONTENT_TYPE}).unwrap())),
        ),
        (
            "short-kid",
            with_parts(header(
                cbor!({1 => -8, 3 => CONTENT_TYPE, 4 => Value::Bytes(vec![1; 31])}).unwrap(),
            )),
        ),
        (
            "header-key-order",
            with_parts(header(
                cbor!({1 => -8, 4 => kid(), 3 => CONTENT_TYPE}).unwrap(),
            )),
        ),
        ("empty-protected", with_parts(|p| p.protected = vec![])),
        (
            "unprotected-header",
            with_parts(|p| p.unprotected = cbor!({4 => kid()}).unwrap()),
        ),
        ("detached-payload", with_parts(|p| p.payload = Value::Null)),
        (
            "short-signature",
            Parts::of(payload.clone(), &party(3)).close(&[0; 63]),
        ),
        ("payload-key-order", with_fields(|f| f.swap(0, 1))),
        (
            "payload-key-twice",
            with_fields(|f| f.insert(1, f[0].clone())),
        ),
        ("payload-indefinite", with_payload(indefinite)),
        (
            "payload-trailing",
            with_payload([payload.as_slice(), &[0]].concat()),
        ),
        ("payload-no-map", with_payload(raw(&Value::Array(vec![])))),
        ("payload-empty", with_payload(vec![])),
        // A count of 1 written in nine bytes.
        (
            "long-integer",
            with_payload({
                let mut bytes = raw(&Value::Map(block_fields(1, 0)));
                let at = bytes.windows(6).position(|w| w == b"ecount").unwrap() + 6;
                bytes.splice(at..=at, [0x1b, 0, 0, 0, 0, 0, 0, 0, 1]);
                bytes
            }),
        ),
        ("unknown-type", with_fields(|f| f[1].1 = text("erase"))),
        ("type-is-no-text", with_fields(|f| f[1].1 = 1.into())),
        (
            "unknown-field",
            with_fields(|f| f.insert(0, (text("a"), 1.into()))),
        ),
        ("missing-field", with_fields(|f| drop(f.remove(2)))),
        ("no-type", with_fields(|f| drop(f.remove(1)))),
        (
            "short-sid",
            with_fields(|f| f[0].1 = Value::Bytes(vec![11; 31])),
        ),
        (
            "long-nonce",
            with_fields(|f| f[2].1 = Value::Bytes(vec![12; 17])),
        ),
        ("text-for-bytes", with_fields(|f| f[0].1 = text("x"))),
        (
            "empty-block",
            with_payload(raw(&Value::Map(block_fields(0, 0)))),
        ),
        (
            "big-block",
            with_payload(raw(&Value::Map(block_fields(401, 0)))),
        ),
        (
            "negative-height",
            with_payload(raw(&Value::Map(block_fields(1, -1)))),
        ),
        ("no-heads", with_payload(raw(&Value::Map(heads_fields(0))))),
        (
            "many-heads",
            with_payload(raw(&Value::Map(heads_fields(4097)))),
        ),
        ("rotated-role", rotation("patient", old, &new)),
        ("rotated-unknown-role", rotation("king", old, &new)),
        ("rotated-to-a-weak-key", rotation("log", old, &[0; 32])),
        ("rotated-to-a-short-key", rotation("log", old, &new[..31])),
        ("rotated-to-itself", rotation("log", key_id(&new), &new)),
    ]
}

/// Adds the order of the group to S: the same signature to a verifier that does not look.
fn malleable(entry: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = entry.to_vec();
    let start = bytes.len() - 32;
    let mut carry = 0;
    for (byte, l) in bytes[start..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    bytes
}

/// Twins that decode and must not verify, with the key that is asked.
fn unverifiable() -> Vec<(&'static str, Vec<u8>, [u8; 32])> {
    let good = with_parts(|_| ());
    let own = party(3).sign_public();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let n = good.len();
    // The identity point as key and as R, S = 0: holds for every message where nobody looks.
    let mut identity = [0; 32];
    identity[0] = 1;
    let weak = |key: [u8; 32]| {
        let kid = Value::Bytes(key_id(&key).0.to_vec());
        let header = cbor!({ 1 => -8, 3 => CONTENT_TYPE, 4 => kid }).unwrap();
        let mut parts = Parts::of(raw(&Value::Map(fields())), &party(3));
        parts.protected = raw(&header);
        parts.close(&[&identity[..], &[0; 32]].concat())
    };
    // The identity again, its y written as p + 1.
    let mut uncanonical = [0xff; 32];
    (uncanonical[0], uncanonical[31]) = (0xee, 0x7f);
    vec![
        ("other-key", good.clone(), party(4).sign_public()),
        ("changed-payload", flipped(n - 66 - 10), own),
        ("changed-r", flipped(n - 64), own),
        ("malleable-s", malleable(&good), own),
        ("small-order-key", weak(identity), identity),
        ("uncanonical-key", weak(uncanonical), uncanonical),
    ]
}

#[test]
fn entries_are_those_of_the_shared_vectors() {
    let Some(vectors) = shared::json("vectors/ledger.json") else {
        return;
    };
    let keys = [("add-data", 1), ("create-session", 3), ("block", 2)];
    for entry in vectors["entries"].as_array().unwrap() {
        let bytes = hex::decode(entry["hex"].as_str().unwrap()).unwrap();
        let kind = entry["type"].as_str().unwrap();
        let seed = keys.iter().find(|(k, _)| *k == kind).unwrap().1;
        let signed = event::decode(&bytes).unwrap();
        assert_eq!(signed.event.kind(), kind);
        signed.verify(&party(seed).sign_public()).unwrap();
        assert_eq!(event::sign(&signed.event, &party(seed)).unwrap(), bytes);
        assert_eq!(
            hex::encode(event::leaf_hash(&bytes)),
            entry["leaf_hash"].as_str().unwrap()
        );
        if kind == "create-session" {
            assert_eq!(
                hex::encode(event::leaf_hash(&bytes)),
                vectors["sid"].as_str().unwrap()
            );
        }
    }
    for (name, seed) in [("provider", 1u8), ("patient", 3), ("requester", 4)] {
        assert_eq!(
            party(seed).key_id().to_string(),
            vectors["key_ids"][name].as_str().unwrap()
        );
        let public = vectors["public_keys"][name].as_str().unwrap();
        assert_eq!(hex::encode(party(seed).sign_public()), public);
    }
}

#[test]
fn entries_are_those_of_version_1() {
    let good: Vec<_> = good()
        .into_iter()
        .map(|(name, event, seed)| {
            let keys = party(seed);
            let entry = event::sign(&event, &keys).unwrap();
            let signed = event::decode(&entry).unwrap();
            assert_eq!((&signed.event, signed.kid), (&event, keys.key_id()));
            signed.verify(&keys.sign_public()).unwrap();
            let leaf = hex::encode(event::leaf_hash(&entry));
            json!({"name": name, "key": hex::encode(keys.sign_public()),
                "entry": hex::encode(entry), "leaf_hash": leaf})
        })
        .collect();
    golden("entries.json", &json!(good));
}

#[test]
fn every_rule_has_a_bad_twin_that_is_refused() {
    // The base of the twins is itself good: what refuses a twin is its one change.
    let base = event::decode(&with_parts(|_| ())).unwrap();
    base.verify(&party(3).sign_public()).unwrap();
    assert!(event::decode(&with_payload(raw(&Value::Map(block_fields(1, 0))))).is_ok());
    assert!(event::decode(&with_payload(raw(&Value::Map(heads_fields(1))))).is_ok());
    let (old, new) = (party(5).key_id(), party(6).sign_public());
    event::decode(&rotation("log", old, &new)).unwrap();
    let mut twins = Vec::new();
    for (name, entry) in undecodable() {
        let refusal = event::decode(&entry).expect_err(name);
        assert_eq!(
            refusal.kind,
            chordae_base::FailureKind::BadInput,
            "{name}: {refusal}"
        );
        twins.push(json!({"name": name, "refused_by": "decode", "entry": hex::encode(entry)}));
    }
    for (name, entry, key) in unverifiable() {
        let signed = event::decode(&entry).expect(name);
        assert!(signed.verify(&key).is_err(), "{name}");
        twins.push(
            json!({"name": name, "refused_by": "verify", "entry": hex::encode(entry),
            "key": hex::encode(key)}),
        );
    }
    golden("entries-bad.json", &json!(twins));
}

#[test]
fn a_verifier_that_is_not_strict_takes_the_small_order_twin() {
    // Negative control: the twin is refused by the strict rule and by nothing else.
    use ed25519_dalek::{Signature, Verifier, VerifyingKey};
    let twins = unverifiable();
    let (_, entry, key) = twins
        .iter()
        .find(|twin| twin.0 == "small-order-key")
        .unwrap();
    let signature = Signature::from_slice(&entry[entry.len() - 64..]).unwrap();
    assert!(
        VerifyingKey::from_bytes(key)
            .unwrap()
            .verify(b"anything", &signature)
            .is_ok()
    );
}

#[test]
fn an_entry_is_at_most_65_535_bytes() {
    let event = |n: usize| Event::AddData {
        digest: Digest([0; 32]),
        tag: Digest([0; 32]),
        content: vec![0; n],
    };
    let around = event::sign(&event(1000), &party(1)).unwrap().len() - 1000;
    // Two length prefixes (payload, content) are still of two bytes, as with 1000.
    let most = 65_535 - around;
    let entry = event::sign(&event(most), &party(1)).unwrap();
    assert_eq!(entry.len(), 65_535);
    event::decode(&entry).unwrap();
    assert!(event::sign(&event(most + 1), &party(1)).is_err());
    assert!(event::decode(&[entry, vec![0]].concat()).is_err());
}

#[test]
fn content_of_add_data_is_strict() {
    let did = Did([0x42; 16]);
    let content = ContentDg {
        did,
        index: 3,
        slot_start_ns: -5,
        end_ns: 7,
        patient: None,
    };
    let known = ContentDg {
        patient: Some([1; 32]),
        ..content.clone()
    };
    for content in [content, known] {
        let bytes = content.encode().unwrap();
        assert_eq!(ContentDg::decode(&bytes).unwrap(), content);
        assert!(ContentDg::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(ContentDg::decode(&[bytes.as_slice(), &[0xf6]].concat()).is_err());
    }
    let four = raw(&cbor!([Value::Bytes(vec![0; 16]), 1, 2, 3]).unwrap());
    assert!(ContentDg::decode(&four).is_err());
}

#[test]
fn no_byte_of_an_entry_can_be_changed() {
    let keys = party(3);
    let entry = with_parts(|_| ());
    for at in 0..entry.len() {
        for bit in 0..8 {
            let mut bytes = entry.clone();
            bytes[at] ^= 1 << bit;
            let survived = event::decode(&bytes)
                .is_ok_and(|signed| signed.verify(&keys.sign_public()).is_ok());
            assert!(!survived, "byte {at} bit {bit}");
        }
    }
    let other = KeyId([0; 32]);
    assert_ne!(keys.key_id(), other);
}
