//! Inventories (formats.md 7): one golden row of versions, and a bad twin for every rule, properly signed
//! where that is possible, so that nothing but the rule refuses it.

use std::collections::BTreeMap;

use chordae_base::{Did, FailureKind};
use chordae_chain::{
    inventory::{self, Entry, Reader, Record},
    keys::SecretKeys,
};
use ciborium::{Value, cbor};
use serde_json::json;

use crate::bench_keys::{CountingEntropy, golden, party, raw};

fn entry(n: u8) -> Entry {
    Entry {
        did: Did([n; 16]),
        metadata: BTreeMap::from([("device".into(), "bed-7".into()), ("a".into(), "b".into())]),
        url: "https://node.example:8443".into(),
    }
}

/// Versions 1 to 3 of the inventory of party 3 at provider 1: made, changed, removed.
fn row() -> [Vec<u8>; 3] {
    let entropy = CountingEntropy::new(7);
    let provider = party(1).seal_public().unwrap();
    let made = inventory::create(&party(3), &provider, &[entry(1), entry(2)], &entropy).unwrap();
    let moved = Entry {
        url: "https://other.example".into(),
        ..entry(2)
    };
    let changed = inventory::update(&made, &party(3), &provider, &[moved], &entropy).unwrap();
    let removed = inventory::remove(&changed, &party(3)).unwrap();
    [made, changed, removed]
}

fn record(bytes: &[u8]) -> Record {
    let signed = inventory::decode(bytes).unwrap();
    signed.verify(&party(3).sign_public()).unwrap();
    signed.record
}

#[test]
fn a_row_of_versions_is_what_version_1_is() {
    let row = row();
    let [made, changed, removed] = row.each_ref().map(|b| record(b));
    golden(
        "inventory.json",
        &json!({
            "id": hex::encode(made.id), "patient": hex::encode(party(3).sign_public()),
            "versions": row.each_ref().map(hex::encode),
            "entries": hex::encode(inventory::encode_entries(&[entry(1), entry(2)]).unwrap()),
        }),
    );
    assert_eq!([made.version, changed.version, removed.version], [1, 2, 3]);
    assert_eq!(made.prev, [0; 32]);
    assert_eq!(changed.prev, inventory::digest(&row[0]).0);
    assert_eq!(removed.prev, inventory::digest(&row[1]).0);
    assert!(made.id == changed.id && changed.id == removed.id);
    assert!(removed.stored.is_none());
    // The key is kept, nothing else repeats: neither nonce nor sealed text.
    let (a, b) = (made.stored.unwrap(), changed.stored.unwrap());
    assert_ne!(a.content[..12], b.content[..12]);
    assert_ne!(a.sdata_patient, b.sdata_patient);
}

#[test]
fn it_opens_for_patient_and_provider_and_for_nobody_else() {
    let row = row();
    let made = record(&row[0]);
    let (ann, bob) = (party(3).sign_public(), party(5).sign_public());
    let open = |record: &Record, patient, key: u8, who| {
        record.open(patient, party(key).seal.as_ref().unwrap(), who)
    };
    for (key, who) in [(1, Reader::Provider), (3, Reader::Patient)] {
        assert_eq!(open(&made, &ann, key, who).unwrap(), [entry(1), entry(2)]);
        for other in [4, 5] {
            assert!(open(&made, &ann, other, who).is_err(), "key {other}");
        }
        // The id is of this patient and this key: nobody passes it off as another's.
        assert!(open(&made, &bob, key, who).is_err());
        let renamed = Record {
            id: [9; 32],
            ..made.clone()
        };
        assert!(open(&renamed, &ann, key, who).is_err());
    }
    let stored = made.stored.clone().unwrap();
    for at in 0..stored.content.len() {
        let mut twin = made.clone();
        twin.stored.as_mut().unwrap().content[at] ^= 1;
        assert!(open(&twin, &ann, 1, Reader::Provider).is_err(), "byte {at}");
    }
    let removed = open(&record(&row[2]), &ann, 3, Reader::Patient);
    assert_eq!(removed.unwrap_err().kind, FailureKind::NotFound);
}

#[test]
fn f24_an_update_with_any_byte_changed_is_no_record_of_hers() {
    for good in row() {
        let whole = inventory::decode(&good).unwrap();
        whole.verify(&party(3).sign_public()).unwrap();
        for at in 0..good.len() {
            let mut twin = good.clone();
            twin[at] ^= 1;
            let verified =
                inventory::decode(&twin).and_then(|signed| signed.verify(&party(3).sign_public()));
            assert!(verified.is_err(), "byte {at}");
        }
    }
}

#[test]
fn nobody_continues_the_row_of_another() {
    let row = row();
    let entropy = CountingEntropy::new(8);
    let provider = party(1).seal_public().unwrap();
    let update = |by: &SecretKeys| inventory::update(&row[0], by, &provider, &[entry(1)], &entropy);
    assert!(update(&party(3)).is_ok(), "the positive control");
    assert!(update(&party(5)).is_err());
    assert!(inventory::remove(&row[0], &party(5)).is_err());
    // Nor is a removed one continued by its owner: there is no key in a removal.
    let after = inventory::update(&row[2], &party(3), &provider, &[entry(1)], &entropy);
    assert!(after.is_err());
}

/// A record with this payload, signed by party 3 without the library that the product uses.
fn signed(payload: &Value, content_type: &str) -> Vec<u8> {
    let keys = party(3);
    let kid = Value::Bytes(keys.key_id().0.to_vec());
    let protected = raw(&cbor!({ 1 => -8, 3 => content_type, 4 => kid }).unwrap());
    let (protected, payload) = (Value::Bytes(protected), Value::Bytes(raw(payload)));
    let empty = Value::Bytes(vec![]);
    let covered = Value::Array(vec![
        "Signature1".into(),
        protected.clone(),
        empty,
        payload.clone(),
    ]);
    let signature = Value::Bytes(keys.sign(&raw(&covered)).to_vec());
    let array = Value::Array(vec![protected, Value::Map(vec![]), payload, signature]);
    raw(&Value::Tag(18, Box::new(array)))
}

/// The fields of a good version 2, in deterministic order.
fn fields() -> Vec<(&'static str, Value)> {
    let bytes = |n: usize| Value::Bytes(vec![7; n]);
    vec![
        ("id", bytes(32)),
        ("prev", bytes(32)),
        ("type", "inventory".into()),
        ("content", bytes(40)),
        ("version", 2.into()),
        ("sdata_patient", bytes(80)),
        ("sdata_provider", bytes(80)),
    ]
}

#[test]
fn every_rule_of_a_record_has_a_twin_that_is_refused() {
    const TYPE: &str = "application/chordae-inventory+cbor";
    let map = |fields: Vec<(&str, Value)>| {
        Value::Map(fields.into_iter().map(|(k, v)| (k.into(), v)).collect())
    };
    let with = |name: &str, value: Value| {
        let mut fields = fields();
        let at = fields.iter().position(|f| f.0 == name).unwrap();
        fields[at].1 = value;
        map(fields)
    };
    let without = |name: &str| map(fields().into_iter().filter(|f| f.0 != name).collect());
    let good = signed(&map(fields()), TYPE);
    assert!(inventory::decode(&good).is_ok(), "the positive control");

    let mut extra = fields();
    extra.insert(2, ("more", Value::Null));
    let mut swapped = fields();
    swapped.swap(0, 1);
    let removal = |version: u64, prev: u8| {
        map(vec![
            ("id", Value::Bytes(vec![7; 32])),
            ("prev", Value::Bytes(vec![prev; 32])),
            ("type", "remove-inventory".into()),
            ("version", version.into()),
        ])
    };
    assert!(inventory::decode(&signed(&removal(2, 7), TYPE)).is_ok());
    let mut twins = vec![
        (
            "an event's type",
            signed(&map(fields()), "application/chordae-event+cbor"),
        ),
        ("unknown type", signed(&with("type", "other".into()), TYPE)),
        ("another field", signed(&map(extra), TYPE)),
        ("another order", signed(&map(swapped), TYPE)),
        ("version 0", signed(&with("version", 0.into()), TYPE)),
        (
            "a version below 0",
            signed(&with("version", (-1).into()), TYPE),
        ),
        (
            "a first that names one before",
            signed(&with("version", 1.into()), TYPE),
        ),
        (
            "a later that names none",
            signed(&with("prev", Value::Bytes(vec![0; 32])), TYPE),
        ),
        (
            "a short id",
            signed(&with("id", Value::Bytes(vec![7; 31])), TYPE),
        ),
        (
            "a short key",
            signed(&with("sdata_patient", Value::Bytes(vec![7; 79])), TYPE),
        ),
        (
            "a long key",
            signed(&with("sdata_provider", Value::Bytes(vec![7; 81])), TYPE),
        ),
        (
            "content as text",
            signed(&with("content", "x".into()), TYPE),
        ),
        (
            "a removal with content",
            signed(&with("type", "remove-inventory".into()), TYPE),
        ),
        ("a removal as the first", signed(&removal(1, 0), TYPE)),
        ("no payload map", signed(&Value::Null, TYPE)),
        ("bytes after it", [good.as_slice(), &[0]].concat()),
        ("cut", good[..good.len() - 1].to_vec()),
        (
            "longer than a body",
            signed(&with("content", Value::Bytes(vec![7; 1 << 20])), TYPE),
        ),
    ];
    for name in fields().into_iter().map(|f| f.0) {
        twins.push((name, signed(&without(name), TYPE)));
    }
    for (name, twin) in twins {
        let refusal = inventory::decode(&twin).expect_err(name);
        assert_eq!(refusal.kind, FailureKind::BadInput, "{name}");
    }
}

#[test]
fn every_rule_of_the_entries_has_a_twin_that_is_refused() {
    let many = |n: u16| -> Vec<Entry> {
        let did = |k: u16| {
            let mut did = [0; 16];
            did[..2].copy_from_slice(&k.to_be_bytes());
            Did(did)
        };
        (0..n)
            .map(|k| Entry {
                did: did(k),
                ..entry(0)
            })
            .collect()
    };
    let texts = |n: usize, long: usize| Entry {
        metadata: (0..n)
            .map(|k| (format!("k{k}"), "v".repeat(long)))
            .collect(),
        ..entry(1)
    };
    let good = [many(1), many(1024), vec![texts(64, 1024)]];
    for entries in good {
        let bytes = inventory::encode_entries(&entries).unwrap();
        assert_eq!(inventory::decode_entries(&bytes).unwrap(), entries);
    }
    let long_url = Entry {
        url: "u".repeat(1025),
        ..entry(1)
    };
    for (name, bad) in [
        ("none", vec![]),
        ("too many", many(1025)),
        ("one twice", vec![entry(1), entry(1)]),
        ("another order", vec![entry(2), entry(1)]),
        ("too many texts", vec![texts(65, 1)]),
        ("a long text", vec![texts(1, 1025)]),
        ("a long address", vec![long_url]),
    ] {
        assert!(inventory::encode_entries(&bad).is_err(), "{name}");
        // The same as bytes that nobody checked when they were written.
        let did = |e: &Entry| Value::Bytes(e.did.0.to_vec());
        let map = |e: &Entry| {
            let mut pairs: Vec<(Value, Value)> = e
                .metadata
                .iter()
                .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                .collect();
            pairs.sort_by_key(|p| raw(&p.0));
            Value::Map(pairs)
        };
        let rows = bad
            .iter()
            .map(|e| Value::Array(vec![did(e), map(e), e.url.as_str().into()]));
        let bytes = raw(&Value::Array(rows.collect()));
        assert!(
            inventory::decode_entries(&bytes).is_err(),
            "{name}, as bytes"
        );
    }
}
