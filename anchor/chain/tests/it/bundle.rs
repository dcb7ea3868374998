//! Proof bundles: the untouched one passes, and nothing that was touched does.

use chordae_base::{Did, Digest, Span, wire::NO_VALUE};
use chordae_chain::{
    bundle::{AnswerRows, Asked, BundleAnchor, ProofBundle, Verdict, verify},
    cosignature::{self, TrustedWitness},
    event::{self, Event},
    finding::Code,
    heads::HeadPath,
    link,
    receipt::Proof,
    trust::TrustFile,
};
use serde_json::Value;

use crate::bundle_case::{Case, S, T, anchor, anchor_together, chunk, did, keys, trust_of};

#[test]
fn the_untouched_bundle_is_anchored_for_each_choice_of_leads() {
    for leads in [&["a"][..], &["b"], &["a", "b"], &["b", "a"]] {
        let case = Case::honest(20, 100, leads);
        let verdict = case.judge();
        assert_eq!(verdict.findings, [], "{leads:?}");
        assert_eq!(
            (verdict.verdict, verdict.unproven_rows),
            (Verdict::Anchored, 0)
        );
        assert_eq!((verdict.anchored_to, verdict.newer.len()), (Some(3), 0));
        assert_eq!(verdict.receipt.unwrap().leaf_index, 4);
        // 400 rows of each live chunk, 45 of the late one among the first's.
        assert_eq!(case.answer.times.len(), 845);
        assert!(
            case.bundle.rows.len() > 40,
            "the late rows lie between the live ones"
        );
        let read = ProofBundle::parse(&case.bundle.to_json().unwrap()).unwrap();
        assert_eq!(read, case.bundle);
    }
    let mut all = Case::honest(20, 100, &["a", "b"]);
    all.asked = Asked::default();
    assert_eq!(all.judge().verdict, Verdict::Anchored);
}

#[test]
fn rows_of_cut_pages_are_counted_and_proven_ones_are_not() {
    let mut case = Case::honest(25, 95, &["a", "b"]);
    let verdict = case.judge();
    assert_eq!(
        (verdict.verdict, verdict.unproven_rows),
        (Verdict::Anchored, 100)
    );
    case.answer.codes[0][0] ^= 1;
    assert_eq!(
        case.judge().unproven_rows,
        100,
        "a cut page proves nothing, and that is told"
    );
    let inside = case
        .answer
        .times
        .iter()
        .position(|t| *t == T + 40 * S)
        .unwrap();
    case.answer.codes[0][inside] ^= 1;
    assert_eq!(case.judge().verdict, Verdict::Damaged);
}

#[test]
fn without_anchor_or_trust_file_nothing_is_better_than_unanchored() {
    let mut case = Case::honest(20, 100, &["a", "b"]);
    let verdict = verify(&case.bundle, &case.answer, &case.asked, None);
    assert_eq!(
        (verdict.verdict, verdict.anchored_to),
        (Verdict::Unanchored, None)
    );
    case.bundle.anchor = None;
    assert_eq!(case.judge().verdict, Verdict::Unanchored);
    case.answer.codes[0][9] ^= 1;
    assert_eq!(
        case.judge().verdict,
        Verdict::Damaged,
        "the rows are still held to the links"
    );
}

#[test]
fn an_anchor_proves_nothing_before_its_quorum_has_cosigned() {
    let mut case = Case::honest(20, 100, &["a", "b"]);
    let name = "w.example";
    let witness = TrustedWitness::new(name, &keys(7).sign_public()).unwrap();
    let mut trust = trust_of(1, 5);
    let demand = format!("witness W {}\nquorum W", witness.vkey());
    trust.policy = trust.policy.replace("quorum none", &demand);
    let judge = |case: &Case| verify(&case.bundle, &case.answer, &case.asked, Some(&trust));
    let verdict = judge(&case);
    assert_eq!(verdict.findings, []);
    assert_eq!(verdict.verdict, Verdict::Unanchored);
    assert_eq!(verdict.lacks.as_deref(), Some("W"));
    assert!(verdict.receipt.is_none() && verdict.anchored_to.is_none());
    let proof = case.bundle.anchor.as_ref().unwrap().proof.clone();
    let note = Proof::parse(&proof).unwrap().checkpoint;
    let checkpoint = trust.policy().unwrap().open(&note).unwrap().checkpoint;
    let mut with = |seed: u8| {
        let line = cosignature::sign(&checkpoint, name, &keys(seed).sign, 77).unwrap();
        case.bundle.anchor.as_mut().unwrap().proof = format!("{proof}{line}");
        judge(&case)
    };
    assert_eq!(with(8).verdict, Verdict::Unanchored, "another's key");
    let verdict = with(7);
    assert_eq!((verdict.verdict, verdict.lacks), (Verdict::Anchored, None));
    assert_eq!(verdict.receipt.unwrap().cosigned[0].time_s, 77);
    // An entry that is not under the root is damage, however few have cosigned.
    let mut case = Case::honest(20, 100, &["a", "b"]);
    let anchor = case.bundle.anchor.as_mut().unwrap();
    anchor.proof = anchor.proof.replace("index 4", "index 3");
    assert_eq!(judge(&case).verdict, Verdict::Damaged);
}

#[test]
fn every_altered_row_is_found() {
    let good = Case::honest(20, 100, &["a", "b"]);
    for row in 0..good.answer.times.len() {
        let mut twisted: Vec<AnswerRows> = (0..5).map(|_| good.answer.clone()).collect();
        twisted[0].codes[0][row] ^= 1;
        twisted[1].codes[1][row] ^= 1 << 31;
        twisted[2].times[row] += 1;
        twisted[3].times[row] -= 1;
        for lead in &mut twisted[4].codes {
            lead.remove(row);
        }
        twisted[4].times.remove(row);
        for (how, answer) in twisted.into_iter().enumerate() {
            let verdict = verify(&good.bundle, &answer, &good.asked, Some(&trust_of(1, 5)));
            assert_eq!(verdict.verdict, Verdict::Damaged, "row {row}, twist {how}");
        }
    }
}

/// Takes row `row` out of the answer and out of its run, as a cheating server would.
fn leave_out(case: &mut Case, row: usize) {
    case.answer.times.remove(row);
    for lead in &mut case.answer.codes {
        lead.remove(row);
    }
    let mut at = 0;
    let run = case.bundle.rows.iter_mut().find(|(_, n)| {
        at += *n as usize;
        row < at
    });
    run.unwrap().1 -= 1;
    case.bundle.rows.retain(|(_, n)| *n > 0);
}

#[test]
fn a_row_left_out_or_put_in_with_fitting_runs_is_found() {
    for row in [0, 1, 99, 100, 101, 102, 400, 445, 800, 844] {
        let mut case = Case::honest(20, 100, &["a"]);
        leave_out(&mut case, row);
        assert_eq!(case.judge().verdict, Verdict::Damaged, "row {row} left out");
    }
    let mut case = Case::honest(20, 100, &["a"]);
    case.answer.times.push(T + 100 * S - 1);
    case.answer.codes[0].push(5);
    case.bundle.rows.last_mut().unwrap().1 += 1;
    assert_eq!(case.judge().verdict, Verdict::Damaged, "a row put in");
}

#[test]
fn a_chunk_left_out_with_its_rows_is_found_or_told() {
    let drop_chunk = |index: u64| {
        let mut case = Case::honest(20, 100, &["a", "b"]);
        while let Some(row) = {
            let mut owners = case
                .bundle
                .rows
                .iter()
                .flat_map(|(i, n)| vec![*i; *n as usize]);
            owners.position(|i| i == index)
        } {
            leave_out(&mut case, row);
        }
        case.bundle.chunks.retain(|c| c.index != index);
        case
    };
    assert_eq!(
        drop_chunk(1).codes(),
        [(Code::IndexGap, link::object_name(&did(), 1))]
    );
    let newest = drop_chunk(2).judge();
    assert_eq!((newest.verdict, newest.newer), (Verdict::Anchored, vec![2]));
}

#[test]
fn every_bad_link_is_named() {
    let name = |i| link::object_name(&did(), i);
    let mut case = Case::honest(20, 100, &["a", "b"]);
    case.bundle.links[1].0.file_root.0[0] ^= 1;
    assert_eq!(case.codes(), [(Code::LinkPrev, name(1))]);
    case.bundle.links[0].0.file_root.0[0] ^= 1;
    case.bundle.links[3].0.file_root.0[0] ^= 1;
    let named: Vec<_> = [0, 1, 3].map(|i| (Code::LinkPrev, name(i))).into();
    assert_eq!(case.codes(), named);
    // A middle link dropped.
    let mut case = Case::honest(70, 100, &["a", "b"]);
    case.bundle.links.remove(1);
    assert!(case.codes().contains(&(Code::IndexGap, name(1))));
    // The whole chain made anew: only the ledger tells.
    let mut case = Case::honest(20, 100, &["a", "b"]);
    case.bundle.anchor = Some(anchor(
        &chunk(3, Digest([1; 32]), T + 120 * S, T + 120 * S, 9, &["a"]).link,
        1,
    ));
    assert_eq!(case.codes(), [(Code::LinkPrev, name(3))]);
}

#[test]
fn the_anchor_must_be_signed_and_logged_by_whom_the_reader_trusts() {
    let mut case = Case::honest(20, 100, &["a", "b"]);
    let code = |case: &Case, trust: &TrustFile| {
        let verdict = verify(&case.bundle, &case.answer, &case.asked, Some(trust));
        assert_eq!(
            (verdict.verdict, verdict.anchored_to),
            (Verdict::Damaged, None)
        );
        verdict
            .findings
            .into_iter()
            .map(|f| f.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        code(&case, &trust_of(9, 5)),
        [Code::EntrySignature],
        "another provider"
    );
    assert_eq!(
        code(&case, &trust_of(1, 9)),
        [Code::CheckpointSignature],
        "another log key"
    );
    let mut broken = trust_of(1, 5);
    broken.policy.push_str("quorum none\n");
    assert_eq!(
        code(&case, &broken),
        [Code::CheckpointSignature],
        "a policy we cannot use"
    );
    let last = case.bundle.links[3].0.clone();
    case.bundle.anchor = Some(anchor(&last, 2));
    assert_eq!(
        code(&case, &trust_of(1, 5)),
        [Code::EntrySignature],
        "signed by the sequencer"
    );
    let other = anchor(&case.bundle.links[2].0, 1);
    case.bundle.anchor = Some(BundleAnchor {
        entry: other.entry,
        ..anchor(&last, 1)
    });
    assert_eq!(
        code(&case, &trust_of(1, 5)),
        [Code::LinkPrev, Code::LogRoot],
        "another entry"
    );
    let revoke = Event::RevokeSession {
        sid: [0; 32],
        nonce: [0; 16],
    };
    case.bundle.anchor.as_mut().unwrap().entry = event::sign(&revoke, &keys(1)).unwrap();
    assert_eq!(
        code(&case, &trust_of(1, 5)),
        [Code::EntrySignature],
        "another event"
    );
}

#[test]
fn a_head_that_was_anchored_with_others_is_anchored() {
    let mut case = Case::honest(20, 100, &["a", "b"]);
    let last = case.bundle.links[3].0.clone();
    let good = anchor_together(&last, 1);
    case.bundle.anchor = Some(good.clone());
    let verdict = case.judge();
    assert_eq!(verdict.findings, []);
    assert_eq!(
        (verdict.verdict, verdict.anchored_to),
        (Verdict::Anchored, Some(3))
    );
    let read = ProofBundle::parse(&case.bundle.to_json().unwrap()).unwrap();
    assert_eq!(read, case.bundle);

    let code = |case: &Case, trust: &TrustFile| {
        let verdict = verify(&case.bundle, &case.answer, &case.asked, Some(trust));
        verdict
            .findings
            .into_iter()
            .map(|f| f.code)
            .collect::<Vec<_>>()
    };
    let mut told = |bend: &dyn Fn(&mut BundleAnchor)| {
        let mut bent = good.clone();
        bend(&mut bent);
        case.bundle.anchor = Some(bent);
        code(&case, &trust_of(1, 5))
    };
    fn way(anchor: &mut BundleAnchor) -> &mut HeadPath {
        anchor.head.as_mut().unwrap()
    }
    assert_eq!(told(&|_| ()), [], "the control");
    assert_eq!(told(&|a| way(a).at ^= 1), [Code::LinkPrev]);
    assert_eq!(told(&|a| way(a).path[0][0] ^= 1), [Code::LinkPrev]);
    assert_eq!(told(&|a| way(a).path.clear()), [Code::LinkPrev]);
    assert_eq!(told(&|a| way(a).path.push([0; 32])), [Code::LinkPrev]);
    assert_eq!(told(&|a| a.head = None), [Code::EntrySignature]);
    let alone = anchor(&last, 1);
    let other =
        |a: &mut BundleAnchor| (a.entry, a.proof) = (alone.entry.clone(), alone.proof.clone());
    assert_eq!(
        told(&other),
        [Code::EntrySignature],
        "an add-data has no way"
    );
    case.bundle.anchor = Some(anchor_together(&case.bundle.links[2].0, 1));
    assert_eq!(
        code(&case, &trust_of(1, 5)),
        [Code::LinkPrev],
        "another link's"
    );
    case.bundle.anchor = Some(anchor_together(&last, 2));
    assert_eq!(
        code(&case, &trust_of(1, 5)),
        [Code::EntrySignature],
        "by the sequencer"
    );
}

#[test]
fn the_answer_must_be_to_the_question() {
    let good = Case::honest(20, 100, &["a"]);
    let window = Some(Span {
        from_ns: T + 10 * S,
        until_ns: T + 100 * S,
    });
    for (what, asked) in [
        (
            "stream",
            Asked {
                did: Some(Did([1; 16])),
                ..good.asked.clone()
            },
        ),
        (
            "window",
            Asked {
                window,
                ..good.asked.clone()
            },
        ),
        (
            "more leads",
            Asked {
                leads: Some(vec!["a".into(), "b".into()]),
                ..good.asked.clone()
            },
        ),
        (
            "all leads",
            Asked {
                leads: None,
                ..good.asked.clone()
            },
        ),
        (
            "other leads",
            Asked {
                leads: Some(vec!["b".into()]),
                ..good.asked.clone()
            },
        ),
    ] {
        let verdict = verify(&good.bundle, &good.answer, &asked, Some(&trust_of(1, 5)));
        assert_eq!(verdict.verdict, Verdict::Damaged, "{what}");
    }
    // A value in a lead that the late chunk does not have.
    let mut case = Case::honest(20, 100, &["a", "b"]);
    let late = case.bundle.rows[0].1 as usize;
    assert_eq!(
        (case.bundle.rows[1].0, case.answer.codes[1][late]),
        (2, NO_VALUE)
    );
    case.answer.codes[1][late] = 5;
    assert_eq!(case.judge().verdict, Verdict::Damaged);
}

/// Every JSON value reachable from `v` is bent in every way we know, one at a time.
fn bend(v: &Value, visit: &mut dyn FnMut(Value)) {
    match v {
        Value::Object(map) => {
            for key in map.keys() {
                let mut less = map.clone();
                less.remove(key);
                visit(Value::Object(less));
                bend(&map[key], &mut |bent| {
                    let mut other = map.clone();
                    other.insert(key.clone(), bent);
                    visit(Value::Object(other));
                });
            }
            let mut more = map.clone();
            more.insert("more".into(), Value::Null);
            visit(Value::Object(more));
        }
        Value::Array(list) => {
            // Long lists of alike things: the first few and the last.
            for i in (0..list.len()).filter(|i| *i < 4 || i + 1 == list.len()) {
                let mut less = list.clone();
                less.remove(i);
                visit(Value::Array(less));
                let mut twice = list.clone();
                twice.insert(i, list[i].clone());
                visit(Value::Array(twice));
                if i + 1 < list.len() && list[i] != list[i + 1] {
                    let mut swapped = list.clone();
                    swapped.swap(i, i + 1);
                    visit(Value::Array(swapped));
                }
                bend(&list[i], &mut |bent| {
                    let mut other = list.clone();
                    other[i] = bent;
                    visit(Value::Array(other));
                });
            }
        }
        Value::Number(n) => {
            let n = n.as_i64().unwrap();
            [n + 1, n - 1, 0, i64::MAX]
                .iter()
                .filter(|m| **m != n)
                .for_each(|m| visit((*m).into()));
        }
        Value::String(text) => {
            for at in (0..text.len())
                .step_by(1 + text.len() / 40)
                .chain(text.len().checked_sub(1))
            {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                if let Ok(bent) = String::from_utf8(bytes) {
                    visit(bent.into());
                }
            }
            visit(format!("{text}0").into());
            visit("".into());
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[test]
fn no_bent_bundle_is_anchored() {
    let mut good = Case::honest(20, 100, &["a"]);
    none_bent_is_anchored(&good);
    let last = good.bundle.links[3].0.clone();
    good.bundle.anchor = Some(anchor_together(&last, 1));
    none_bent_is_anchored(&good);
}

fn none_bent_is_anchored(good: &Case) {
    let json = serde_json::to_value(&good.bundle).unwrap();
    let (mut bent, mut read) = (0, 0);
    bend(&json, &mut |value| {
        bent += 1;
        let Ok(bundle) = ProofBundle::parse(&value.to_string()) else {
            return;
        };
        read += 1;
        let verdict = verify(&bundle, &good.answer, &good.asked, Some(&trust_of(1, 5)));
        assert_ne!(verdict.verdict, Verdict::Anchored, "{value}");
    });
    assert!(
        bent > 1000 && read > 500,
        "{bent} bent, {read} of them read"
    );
}
