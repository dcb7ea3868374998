//! Proofs joined in one text: what is read is what was joined, and what they share is there once.

use chordae_base::FailureKind;
use chordae_chain::bundle::{ProofBundle, Verdict, joined, verify};
use serde_json::Value;

use crate::bundle_case::{Case, anchor_together, trust_of};

/// Two that one event anchors, one with an event of its own, one without.
fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [(20, 100), (30, 90), (20, 60), (40, 80)]
        .map(|(from, until)| Case::honest(from, until, &["a", "b"]))
        .into();
    for case in &mut cases[..2] {
        let last = case.bundle.links.last().unwrap().0.clone();
        case.bundle.anchor = Some(anchor_together(&last, 1));
    }
    cases[3].bundle.anchor = None;
    cases
}

fn bundles(cases: &[Case]) -> Vec<ProofBundle> {
    cases.iter().map(|case| case.bundle.clone()).collect()
}

#[test]
fn what_is_read_is_what_was_joined_and_what_is_shared_is_there_once() {
    let cases = cases();
    let text = joined::join(&bundles(&cases)).unwrap();
    assert!(joined::is_joined(&text));
    assert!(!joined::is_joined(&cases[0].bundle.to_json().unwrap()));
    let read = joined::parse(&text).unwrap();
    assert_eq!(read, bundles(&cases));
    let json: Value = serde_json::from_str(&text).unwrap();
    let count = |table: &str| json[table].as_array().unwrap().len();
    assert_eq!((count("checkpoints"), count("entries")), (2, 2));
    // Both of the first two go the same ways.
    let steps = |bundle: &ProofBundle| {
        let anchor = bundle.anchor.as_ref().unwrap();
        let lines = anchor.proof.split("\n\n").next().unwrap().lines().count() - 2;
        lines + anchor.head.as_ref().map_or(0, |head| head.path.len())
    };
    assert!(count("nodes") <= steps(&cases[0].bundle) + steps(&cases[2].bundle));
}

#[test]
fn each_is_judged_as_it_would_be_alone_and_a_shared_step_that_was_changed_damages_all_that_go_it() {
    let cases = cases();
    let text = joined::join(&bundles(&cases)).unwrap();
    let judged = |text: &str| -> Vec<Verdict> {
        let read = joined::parse(text).unwrap();
        let each = read.iter().zip(&cases);
        each.map(|(b, case)| verify(b, &case.answer, &case.asked, Some(&trust_of(1, 5))).verdict)
            .collect()
    };
    use Verdict::{Anchored, Damaged, Unanchored};
    assert_eq!(judged(&text), [Anchored, Anchored, Anchored, Unanchored]);
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let first = json["proofs"][0]["anchor"]["head"]["path"][0]
        .as_u64()
        .unwrap();
    json["nodes"][first as usize] = json["nodes"][0].clone();
    assert_eq!(
        judged(&json.to_string()),
        [Damaged, Damaged, Anchored, Unanchored]
    );
}

#[test]
fn what_join_does_not_write_is_refused() {
    let text = joined::join(&bundles(&cases())).unwrap();
    let good: Value = serde_json::from_str(&text).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        let e = joined::parse(&json.to_string()).unwrap_err();
        assert_eq!(e.kind, FailureKind::BadInput, "{e}");
    };
    refused(&|json| json["v"] = 2.into());
    refused(&|json| json["kind"] = "chordae-report".into());
    refused(&|json| json["more"] = 1.into());
    refused(&|json| json["proofs"] = Value::Array(Vec::new()));
    refused(&|json| json["nodes"][0] = "AAAA".into());
    refused(&|json| json["entries"][0] = "A".into());
    refused(&|json| json["entries"][0] = "A".repeat(100_000).into());
    refused(&|json| json["checkpoints"][0] = "A".repeat(10_000_000).into());
    for place in ["entry", "checkpoint"] {
        refused(&|json| json["proofs"][0]["anchor"][place] = 1000.into());
    }
    refused(&|json| json["proofs"][0]["anchor"]["path"][0] = 1000.into());
    refused(&|json| json["proofs"][0]["anchor"]["path"] = vec![0; 65].into());
    refused(&|json| json["proofs"][0]["bundle"]["v"] = 2.into());
    refused(&|json| {
        let whole = &cases()[0].bundle;
        json["proofs"][0]["bundle"] = serde_json::to_value(whole).unwrap();
    });
    let one = &bundles(&cases())[..1];
    assert!(joined::join(&[]).is_err());
    assert!(joined::join(&vec![one[0].clone(); 1001]).is_err());
    let mut foreign = one.to_vec();
    foreign[0].anchor.as_mut().unwrap().proof = "no receipt".into();
    assert!(joined::join(&foreign).is_err());
}
