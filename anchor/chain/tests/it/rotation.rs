//! Keys that change: the event that says so, and what a retired key is worth to a reader.

use chordae_base::FailureKind;
use chordae_chain::{
    bundle::Verdict,
    checkpoint::{Checkpoint, TrustedLog},
    cosignature::{self, TrustedWitness},
    event::{self, Event},
    finding::Code,
    keys::{Role, key_id},
    policy::Policy,
    trust::{Retired, TrustFile},
};

use crate::bundle_case::{Case, keys, trust_of};

const ORIGIN: &str = "chordae.local/test";

fn rotation(role: Role, old: u8, new: u8) -> Event {
    Event::RotateKey {
        role,
        old: keys(old).key_id(),
        new: keys(new).sign_public(),
        time_ms: 7,
    }
}

fn retired(seed: u8, size: u64) -> Retired {
    Retired {
        key: keys(seed).key_id(),
        size,
    }
}

#[test]
fn a_change_of_keys_has_one_encoding_and_its_rules() {
    for role in [Role::Provider, Role::Sequencer, Role::Log, Role::Witness] {
        let event = rotation(role, 1, 11);
        let entry = event::sign(&event, &keys(1)).unwrap();
        let read = event::decode(&entry).unwrap();
        assert_eq!(read.event, event);
        read.verify(&keys(1).sign_public()).unwrap();
    }
    for role in [Role::Patient, Role::Requester, Role::Operator, Role::Device] {
        event::sign(&rotation(role, 1, 11), &keys(1)).unwrap_err();
    }
    event::sign(&rotation(Role::Provider, 1, 1), &keys(1)).unwrap_err();
    let weak = Event::RotateKey {
        role: Role::Log,
        old: keys(5).key_id(),
        new: [0; 32],
        time_ms: 7,
    };
    event::sign(&weak, &keys(1)).unwrap_err();
}

#[test]
fn a_retired_provider_is_believed_up_to_its_size() {
    let case = Case::honest(0, 60, &["I", "II"]);
    let judged = |retired: &[Retired]| {
        let trust = TrustFile {
            retired: retired.to_vec(),
            ..trust_of(1, 5)
        };
        case.judge_by(&trust)
    };
    assert_eq!(judged(&[]).verdict, Verdict::Anchored);
    // The entry is leaf 4 of 6.
    let late = judged(&[retired(1, 4)]);
    assert_eq!(late.verdict, Verdict::Damaged);
    assert_eq!(late.findings[0].code, Code::EntrySignature);
    assert!(late.findings[0].detail.contains("retired at size 4"));
    assert_eq!(judged(&[retired(1, 5)]).verdict, Verdict::Anchored);
    let log = judged(&[retired(5, 5)]);
    assert_eq!(log.findings[0].code, Code::CheckpointSignature);
    assert_eq!(judged(&[retired(5, 6)]).verdict, Verdict::Anchored);
    // Who keeps the old trust file while another key signs is told what to ask for.
    let new = case.judge_by(&trust_of(11, 5));
    assert!(new.findings[0].detail.contains("new trust file"));
}

#[test]
fn retired_logs_and_witnesses_sign_up_to_their_size_only() {
    let log = |seed| TrustedLog::new(ORIGIN, &keys(seed).sign_public()).unwrap();
    let witness = |seed| {
        TrustedWitness::new("w.example", &keys(seed).sign_public())
            .unwrap()
            .vkey()
    };
    let text = format!(
        "log {}\nlog {}\nwitness A {}\nwitness B {}\ngroup W any A B\nquorum W\n",
        log(5).vkey(),
        log(6).vkey(),
        witness(11),
        witness(12)
    );
    let policy = |retired: &[Retired]| Policy::parse(&text).unwrap().retiring(retired);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: 7,
        root: [9; 32],
    };
    let signed = |by: u8| checkpoint.sign(&keys(by).sign).unwrap();
    let line = |by: u8| cosignature::sign(&checkpoint, "w.example", &keys(by).sign, 1).unwrap();
    let old = signed(5) + &line(11);

    assert!(policy(&[]).open(&old).unwrap().counts());
    assert!(
        policy(&[retired(5, 7), retired(11, 7)])
            .open(&old)
            .unwrap()
            .counts()
    );
    let refused = policy(&[retired(5, 6)]).open(&old).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Damaged);
    assert!(refused.why.contains("retired at size 6"), "{refused}");
    // The successor's signature stands by itself, whatever the old key adds.
    let both = old.clone() + signed(6).rsplit_once("\n\n").unwrap().1;
    assert!(policy(&[retired(5, 6)]).open(&both).unwrap().counts());

    let lacks = policy(&[retired(11, 6)]).open(&old).unwrap();
    assert_eq!(lacks.lacks.as_deref(), Some("1 of W (A, B)"));
    let both = old + &line(12);
    assert!(policy(&[retired(11, 6)]).open(&both).unwrap().counts());
}

#[test]
fn a_trust_file_names_a_retired_key_once() {
    let mut trust = trust_of(1, 5);
    let plain = trust.to_json().unwrap();
    assert!(
        !plain.contains("retired"),
        "as ever where nothing was retired"
    );
    trust.retired = vec![retired(1, 4)];
    assert_eq!(key_id(&keys(1).sign_public()), trust.retired[0].key);
    let text = trust.to_json().unwrap();
    assert_eq!(TrustFile::parse(&text).unwrap(), trust);
    trust.retired.push(retired(1, 5));
    TrustFile::parse(&trust.to_json().unwrap()).unwrap_err();
}
