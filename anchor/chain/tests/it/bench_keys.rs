//! Keys, entropy and raw CBOR of the tests below: everything a forger could make.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use chordae_base::seams::Entropy;
use chordae_chain::keys::SecretKeys;
use ciborium::Value;

/// Entropy that anybody can reproduce: BLAKE3 of a seed and a counter.
pub(crate) struct CountingEntropy(u64, AtomicU64);

impl CountingEntropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed, AtomicU64::new(0))
    }
}

impl Entropy for CountingEntropy {
    fn fill(&self, buf: &mut [u8]) {
        let n = self.1.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.0.to_le_bytes())
            .update(&n.to_le_bytes());
        hasher.finalize_xof().fill(buf);
    }
}

/// The key whose secret is one byte 32 times, as in the shared vectors; its X25519 half likewise.
pub(crate) fn party(seed: u8) -> SecretKeys {
    SecretKeys::from_secrets(&[seed; 32], Some(&[seed; 32])).unwrap()
}

/// CBOR of a value as it stands: order, sizes and keys are the caller's.
pub(crate) fn raw(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// Compares with a golden file; with CHORDAE_GOLDEN=write it is written instead, which is the
/// approval of a new format.
pub(crate) fn golden(name: &str, value: &serde_json::Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/ledger")
        .join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var("CHORDAE_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, stored, "{name} differs from what version 1 is");
}
