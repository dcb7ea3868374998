//! The age of a ledger, from its newest audit-head.

use chordae_base::{Digest, FailureKind};
use chordae_chain::{
    checkpoint::{Checkpoint, TrustedLog},
    event::{self, Event},
    fresh::{self, AHEAD_MS},
    keys::{Role, SecretKeys},
    merkle, receipt,
    trust::{self, TrustFile},
};

const ORIGIN: &str = "chordae.local/test";
const TIME: u64 = 1_700_000_000_000;

fn keys(seed: u8) -> SecretKeys {
    SecretKeys::from_secrets(&[seed; 32], None).unwrap()
}

fn head(count: u64, seed: u8) -> Vec<u8> {
    let event = Event::AuditHead {
        digest: Digest([0; 32]),
        count,
        time_ms: TIME,
    };
    event::sign(&event, &keys(seed)).unwrap()
}

/// A log of these entries, and the receipt of each.
fn log(entries: &[Vec<u8>]) -> (TrustFile, Vec<String>) {
    let leaves: Vec<_> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
    let size = leaves.len() as u64;
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: merkle::root(&leaves),
    };
    let text = checkpoint.sign(&keys(5).sign).unwrap();
    let stored = merkle::StoredHashes::of(&leaves);
    let receipts = (0..size).map(|at| {
        receipt::make(
            at,
            &merkle::inclusion_path(size, at, &stored).unwrap(),
            &text,
        )
    });
    let log = TrustedLog::new(ORIGIN, &keys(5).sign_public()).unwrap();
    let trust = TrustFile {
        origin: ORIGIN.into(),
        policy: trust::policy_text(&log),
        providers: vec![keys(1).public("provider", Role::Provider)],
        sequencers: Vec::new(),
        retired: Vec::new(),
        ca: None,
    };
    (trust, receipts.collect())
}

#[test]
fn an_idle_log_tells_its_age_and_an_old_one_is_refused() {
    let entries = [head(0, 1), head(7, 1)];
    let (trust, receipts) = log(&entries);
    let judge = |now| {
        let text = receipt::with_entry(&receipts[0], &entries[0]);
        fresh::judge(&text, &trust, now)
    };
    let fresh = judge(TIME + 90_000).unwrap();
    assert_eq!(
        (fresh.count, fresh.time_ms, fresh.age_ms),
        (0, TIME, 90_000)
    );
    fresh.at_most(90_000).unwrap();
    let refused = fresh.at_most(89_999).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.why.contains("90 s old"), "{refused}");
    // Clocks may differ a little; beyond that no age can be told.
    assert_eq!(judge(TIME - AHEAD_MS).unwrap().age_ms, 0);
    assert!(judge(TIME - AHEAD_MS - 1).is_err());
    assert_eq!(judge(u64::MAX).unwrap().age_ms, u64::MAX - TIME);
}

#[test]
fn only_a_head_of_the_trusted_provider_in_the_trusted_log_counts() {
    let other = event::sign(
        &Event::RevokeSession {
            sid: [1; 32],
            nonce: [1; 16],
        },
        &keys(1),
    );
    let entries = [head(1, 1), head(1, 9), other.unwrap()];
    let (trust, receipts) = log(&entries);
    let judge = |entry: &[u8], receipt: &str| {
        fresh::judge(&receipt::with_entry(receipt, entry), &trust, TIME)
    };
    judge(&entries[0], &receipts[0]).unwrap();
    let kind = |entry: &[u8], receipt: &str| judge(entry, receipt).unwrap_err().kind;
    assert_eq!(
        kind(&entries[1], &receipts[1]),
        FailureKind::Refused,
        "a stranger's"
    );
    assert_eq!(
        kind(&entries[2], &receipts[2]),
        FailureKind::BadInput,
        "no audit-head"
    );
    assert_eq!(
        kind(&entries[0], &receipts[1]),
        FailureKind::Damaged,
        "of another entry"
    );
    assert_eq!(
        kind(&head(2, 1), &receipts[0]),
        FailureKind::Damaged,
        "not in the log"
    );
    let mut forged = entries[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(kind(&forged, &receipts[0]), FailureKind::Refused);
}
