//! Policies: what is read, what is refused, and which checkpoints count under them.

use chordae_base::{FailureKind, Outcome};
use chordae_chain::{
    checkpoint::{Checkpoint, TrustedLog},
    cosignature::{self, TrustedWitness},
    policy::{Policy, policy_text},
};

use crate::bundle_case::keys;

const ORIGIN: &str = "chordae.local/test";

fn log(seed: u8) -> TrustedLog {
    TrustedLog::new(ORIGIN, &keys(seed).sign_public()).unwrap()
}

fn signing_name(seed: u8) -> String {
    format!("w{seed}.example")
}

fn vkey(seed: u8) -> String {
    let key = keys(seed).sign_public();
    TrustedWitness::new(&signing_name(seed), &key)
        .unwrap()
        .vkey()
}

/// Reads a policy in which LOG and OTHER stand for two logs, W11, W12, ... for witnesses' keys.
fn policy(text: &str) -> Outcome<Policy> {
    let mut text = text
        .replace("LOG", &log(1).vkey())
        .replace("OTHER", &log(2).vkey());
    for seed in 11..=16 {
        text = text.replace(&format!("W{seed}"), &vkey(seed));
    }
    Policy::parse(&text)
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: [9; 32],
    }
}

fn line(seed: u8, size: u64, time_s: u64) -> String {
    cosignature::sign(
        &checkpoint(size),
        &signing_name(seed),
        &keys(seed).sign,
        time_s,
    )
    .unwrap()
}

/// The checkpoint of size 7 by log 1, cosigned by these witnesses.
fn note(witnesses: &[u8]) -> String {
    let mut note = checkpoint(7).sign(&keys(1).sign).unwrap();
    for seed in witnesses {
        note += &line(*seed, 7, u64::from(*seed));
    }
    note
}

const TWO_LEVELS: &str = "log LOG\n\
    witness X1 W11 https://w11.example/\nwitness X2 W12\nwitness X3 W13\n\
    group X 2 X1 X2 X3\n\
    witness Y1 W14\nwitness Y2 W15\n\
    group Y any Y1 Y2\n\
    group Z all X Y\n\
    quorum Z\n";

#[test]
fn a_policy_without_witnesses_is_read_in_every_spelling() {
    assert_eq!(Policy::parse(&policy_text(&log(1))).unwrap().logs, [log(1)]);
    let spaced = "# ours\n\n \tlog\tLOG  https://log.example \nlog OTHER\n quorum  none";
    assert_eq!(policy(spaced).unwrap().logs, [log(1), log(2)]);
    // Witnesses that nobody demands are still looked for.
    let asked = policy("log LOG\nwitness A W11\ngroup G 1 A\nquorum none\n").unwrap();
    let opened = asked.open(&note(&[])).unwrap();
    assert!(opened.counts() && opened.cosigned.is_empty());
    let opened = asked.open(&note(&[11])).unwrap();
    assert_eq!(
        (&*opened.cosigned[0].witness, opened.cosigned[0].time_s),
        ("A", 11)
    );
}

#[test]
fn witnesses_keep_their_addresses() {
    let read = policy(TWO_LEVELS).unwrap();
    let urls: Vec<_> = read.witnesses.iter().map(|w| w.url.as_deref()).collect();
    assert_eq!(urls, [Some("https://w11.example/"), None, None, None, None]);
    assert_eq!(read.witnesses[4].witness.vkey(), vkey(15));
}

#[test]
fn a_quorum_is_met_by_those_who_meet_it_and_by_no_others() {
    let read = policy(TWO_LEVELS).unwrap();
    // Every set of the five witnesses, against the rule written once more.
    for set in 0..32u8 {
        let cosigned: Vec<u8> = (0..5)
            .filter(|i| (set >> i) & 1 == 1)
            .map(|i| 11 + i)
            .collect();
        let x = cosigned.iter().filter(|seed| **seed <= 13).count();
        let opened = read.open(&note(&cosigned)).unwrap();
        assert_eq!(
            opened.counts(),
            x >= 2 && cosigned.len() > x,
            "{cosigned:?}"
        );
        assert_eq!(opened.cosigned.len(), cosigned.len());
        assert_eq!(opened.checkpoint, checkpoint(7));
    }
}

#[test]
fn what_lacks_is_named() {
    let lacks = |text: &str, witnesses: &[u8]| {
        let opened = policy(text).unwrap().open(&note(witnesses)).unwrap();
        opened.lacks.unwrap_or_default()
    };
    let one = "log LOG\nwitness A W11\nquorum A\n";
    assert_eq!(lacks(one, &[]), "A");
    assert_eq!(lacks(one, &[11]), "");
    assert_eq!(
        lacks(TWO_LEVELS, &[12]),
        "2 of Z (1 of X (X1, X3), 1 of Y (Y1, Y2))"
    );
    assert_eq!(lacks(TWO_LEVELS, &[12, 13]), "1 of Z (1 of Y (Y1, Y2))");
}

#[test]
fn a_cosignature_that_does_not_hold_only_does_not_count() {
    let read = policy("log LOG\nwitness A W11\nwitness B W12\ngroup G 1 A B\nquorum G\n").unwrap();
    // Of another size; by another key under A's name and id; a line of the known key that is cut.
    let other = line(11, 8, 5);
    let (head, tail) = other.rsplit_once(' ').unwrap();
    for bad in [
        other.clone(),
        format!("{head} {}AAAA{}", &tail[..20], &tail[24..]),
        format!("{head} {}\n", &tail[..16]),
    ] {
        let opened = read.open(&(note(&[]) + &bad)).unwrap();
        assert!(!opened.counts(), "{bad}");
        let opened = read.open(&(note(&[]) + &bad + &line(12, 7, 6))).unwrap();
        assert!(opened.counts(), "{bad}");
        assert_eq!(opened.cosigned.len(), 1);
    }
}

#[test]
fn the_log_must_have_signed_whoever_else_has() {
    let read = policy(TWO_LEVELS).unwrap();
    let all = [11, 12, 13, 14, 15];
    let good = note(&all);
    assert!(read.open(&good).unwrap().counts());
    let stranger = checkpoint(7).sign(&keys(3).sign).unwrap();
    let lines = good
        .split_once("\n\n")
        .unwrap()
        .1
        .split_once('\n')
        .unwrap()
        .1;
    let kind = |text: &str| read.open(text).unwrap_err().kind;
    assert_eq!(kind(&(stranger + lines)), FailureKind::Damaged);
    let body = good.split_once("\n\n").unwrap().0;
    assert_eq!(kind(&format!("{body}\n\n{lines}")), FailureKind::Damaged);
    assert_eq!(kind("no note"), FailureKind::BadInput);
    // Either of two logs is enough.
    let either = policy("log LOG\nlog OTHER\nquorum none\n").unwrap();
    for seed in [1, 2] {
        let note = checkpoint(7).sign(&keys(seed).sign).unwrap();
        assert!(either.open(&note).unwrap().counts());
    }
}

#[test]
fn malformed_policies_are_refused() {
    let a = "log LOG\nwitness A W11\n";
    let again = TrustedWitness::new("elsewhere.example", &keys(11).sign_public()).unwrap();
    let own = TrustedWitness::new("log.example", &keys(1).sign_public()).unwrap();
    for (what, text) in [
        ("no quorum", "log LOG\n".to_owned()),
        ("no log", "quorum none\n".into()),
        ("two quorums", "log LOG\nquorum none\nquorum none\n".into()),
        ("a log twice", "log LOG\nlog LOG\nquorum none\n".into()),
        (
            "an unknown line",
            "log LOG\nquorum none\nallow all\n".into(),
        ),
        ("no key", "log x\nquorum none\n".into()),
        ("an undefined quorum", "log LOG\nquorum A\n".into()),
        (
            "a quorum that comes before its witness",
            "log LOG\nquorum A\nwitness A W11\n".into(),
        ),
        (
            "an undefined member",
            "log LOG\ngroup G 1 A\nquorum none\n".into(),
        ),
        ("threshold 0", format!("{a}group G 0 A\nquorum G\n")),
        ("threshold 2 of 1", format!("{a}group G 2 A\nquorum G\n")),
        (
            "a threshold with a zero in front",
            format!("{a}group G 01 A\nquorum G\n"),
        ),
        ("no member", format!("{a}group G any\nquorum none\n")),
        ("a member twice", format!("{a}group G 1 A A\nquorum G\n")),
        (
            "a member of two groups",
            format!("{a}group G 1 A\ngroup H 1 A\nquorum G\n"),
        ),
        ("a group in itself", format!("{a}group G 1 A G\nquorum G\n")),
        (
            "none as a member",
            format!("{a}group G 1 A none\nquorum G\n"),
        ),
        ("a name twice", format!("{a}witness A W12\nquorum A\n")),
        ("a key twice", format!("{a}witness B W11\nquorum B\n")),
        (
            "a key twice under two signing names",
            format!("{a}witness B {}\nquorum B\n", again.vkey()),
        ),
        (
            "the log as its own witness",
            format!("{a}witness B {}\nquorum B\n", own.vkey()),
        ),
        (
            "a log's key as a witness",
            "log LOG\nwitness A OTHER\nquorum A\n".into(),
        ),
        ("a witness's key as a log", "log W11\nquorum none\n".into()),
        (
            "a witness called none",
            "log LOG\nwitness none W11\nquorum none\n".into(),
        ),
        ("a carriage return", "log LOG\r\nquorum none\r\n".into()),
        ("a delete", "log LOG\n#\x7f\nquorum none\n".into()),
        (
            "too many groups",
            (0..65).fold(a.to_owned(), |text, n| {
                let member = if n == 0 {
                    "A".into()
                } else {
                    format!("G{}", n - 1)
                };
                format!("{text}group G{n} 1 {member}\n")
            }) + "quorum none\n",
        ),
    ] {
        assert!(policy(&text).is_err(), "{what} was accepted");
    }
}
