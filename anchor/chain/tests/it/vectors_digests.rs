//! Agreement with the second implementation: `digests.json` and the log half of `ledger.json`.

use chordae_base::{Did, Digest, KeyId, Rate};
use chordae_chain::{
    checkpoint::{self, Checkpoint, TrustedLog},
    link::{self, Link},
    merkle, pages,
};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use crate::shared;

fn texts(v: &Value) -> Vec<String> {
    let all = v.as_array().expect("an array");
    all.iter()
        .map(|t| t.as_str().expect("a text").to_owned())
        .collect()
}

fn digests(v: &Value) -> Vec<Digest> {
    texts(v)
        .iter()
        .map(|t| t.parse().expect("a digest"))
        .collect()
}

fn bytes32(v: &Value) -> [u8; 32] {
    hex::decode(v.as_str().expect("hex"))
        .expect("hex")
        .try_into()
        .expect("32 bytes")
}

/// The rows that the vector's `leads` and `t0_ns` describe.
fn rows(v: &Value) -> (Vec<i64>, Vec<Vec<i32>>) {
    let rate = Rate::new(360, 1).unwrap();
    let t0 = v["t0_ns"].as_i64().unwrap();
    let n = v["rows"].as_i64().unwrap();
    let times = (0..n)
        .map(|k| t0 + rate.after_ns(k as u64).unwrap())
        .collect();
    let a = (0..n).map(|k| ((k * 37) % 2048 - 1024) as i32).collect();
    let b = |k: i64| {
        if (100..120).contains(&k) {
            i32::MIN
        } else {
            ((k * k) % 4096 - 2048) as i32
        }
    };
    (times, vec![a, (0..n).map(b).collect()])
}

#[test]
fn salts_columns_leaves_and_root_agree() {
    let Some(v) = shared::json("vectors/digests.json") else {
        return;
    };
    let salt = bytes32(&v["salt"]);
    let (times, leads) = rows(&v);
    let (start, len) = (
        v["slot_start_ns"].as_i64().unwrap(),
        v["slot_len_ns"].as_i64().unwrap(),
    );
    for (p, key) in [(0, "salts_p0"), (1, "salts_p1")] {
        let ours: Vec<String> = (0..3)
            .map(|c| hex::encode(pages::page_salt(&salt, p, c)))
            .collect();
        assert_eq!(ours, texts(&v[key]), "{key}");
    }
    let ours = pages::page_digests(&salt, start, len, &times, &leads).unwrap();
    assert_eq!(ours.cols[0], digests(&v["cols_p0"]));
    assert_eq!(ours.leaves, digests(&v["leaves"]));
    let root = pages::pages_root(v["meta_ascii"].as_str().unwrap(), &ours.leaves);
    assert_eq!(root.to_string(), v["pages_root"].as_str().unwrap());
    // Negative control: one code differs.
    let mut other = leads;
    other[1][4000] ^= 1;
    let other = pages::page_digests(&salt, start, len, &times, &other).unwrap();
    assert_ne!(other.leaves, ours.leaves);
}

#[test]
fn links_genesis_tags_and_names_agree() {
    let Some(v) = shared::json("vectors/digests.json") else {
        return;
    };
    let did: Did = v["did"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        link::genesis(&did).to_string(),
        v["genesis"].as_str().unwrap()
    );
    assert_eq!(
        link::tag(&did, 1).to_string(),
        v["tag_index_1"].as_str().unwrap()
    );
    let mut before: Option<Link> = None;
    for (i, vector) in v["links"].as_array().unwrap().iter().enumerate() {
        let bytes = hex::decode(vector["hex"].as_str().unwrap()).unwrap();
        let link = Link::decode(&bytes).unwrap();
        assert_eq!(link.encode()[..], bytes[..]);
        assert_eq!(
            link.digest().to_string(),
            vector["digest"].as_str().unwrap()
        );
        assert_eq!((link.index, link.did), (i as u64, did));
        link.follows(before.as_ref()).unwrap();
        before = Some(link);
    }
    assert_eq!(before.expect("links").index, 1);
    let names = texts(&v["object_names"]);
    assert_eq!(
        names,
        [
            link::object_name(&did, 0),
            link::object_name(&did, 1_234_567)
        ]
    );
    let (text, root) = ("not a real file", v["file_root"]["hex"].as_str().unwrap());
    assert_eq!(blake3::hash(text.as_bytes()).to_hex().as_str(), root);
}

#[test]
fn log_roots_and_key_ids_agree() {
    let Some(v) = shared::json("vectors/digests.json") else {
        return;
    };
    let entries = texts(&v["log"]["entries"]);
    let leaves: Vec<[u8; 32]> = entries
        .iter()
        .map(|e| merkle::leaf_hash(&hex::decode(e).unwrap()))
        .collect();
    assert_eq!(
        leaves.iter().map(hex::encode).collect::<Vec<_>>(),
        texts(&v["log"]["leaf_hashes"])
    );
    for (n, root) in texts(&v["log"]["roots"]).iter().enumerate() {
        assert_eq!(&hex::encode(merkle::root(&leaves[..n])), root, "{n} leaves");
    }
    let key = bytes32(&v["key_id"]["sign_hex"]);
    let id: KeyId = v["key_id"]["hex"].as_str().unwrap().parse().unwrap();
    assert_eq!(chordae_chain::keys::key_id(&key), id);
}

#[test]
fn origin_log_key_and_checkpoint_agree() {
    let Some(v) = shared::json("vectors/ledger.json") else {
        return;
    };
    let key = SigningKey::from_bytes(&[5; 32]);
    assert_eq!(
        key.verifying_key().to_bytes(),
        bytes32(&v["public_keys"]["log"])
    );
    let origin = v["origin"].as_str().unwrap();
    let log = TrustedLog::new(origin, &bytes32(&v["public_keys"]["log"])).unwrap();
    assert_eq!(log.vkey(), v["log_vkey"].as_str().unwrap());
    assert_eq!(TrustedLog::from_vkey(&log.vkey()).unwrap(), log);

    let leaves: Vec<[u8; 32]> = v["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| merkle::leaf_hash(&hex::decode(e["hex"].as_str().unwrap()).unwrap()))
        .collect();
    let ours = Checkpoint {
        origin: origin.to_owned(),
        size: 3,
        root: merkle::root(&leaves),
    };
    let theirs = v["checkpoint"].as_str().unwrap();
    assert_eq!(ours.sign(&key).unwrap(), theirs);
    assert_eq!(checkpoint::open(theirs, &log).unwrap(), ours);
    let stranger = TrustedLog::new(origin, &bytes32(&v["public_keys"]["provider"])).unwrap();
    assert!(checkpoint::open(theirs, &stranger).is_err());
}
