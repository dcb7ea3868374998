//! Proof bundles: the untouched one passes, and nothing that was touched does.

use chordae_base::{Did, Digest, Rate, Span, wire::ClockKind, wire::Lead, wire::NO_VALUE};
use chordae_chain::{
    bundle::{
        AnswerRows, Asked, BundleAnchor, BundleChunk, BundlePage, BundleVerdict, LinkHex,
        ProofBundle, Verdict, provable_pages, verify,
    },
    checkpoint::{Checkpoint, TrustedLog},
    event::{self, Event},
    finding::Code,
    keys::{Role, SecretKeys},
    link::{self, Link},
    merkle,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
    pages::{self, PageDigests},
    receipt,
    trust::{self, TrustFile},
};
use serde_json::Value;

const S: i64 = 1_000_000_000;
/// Start of the first slot.
const T: i64 = 1_700_000_040 * S;
const ORIGIN: &str = "chordae.local/test";

struct Chunk {
    link: Link,
    meta: String,
    lead_names: Vec<&'static str>,
    salt: [u8; 32],
    digests: PageDigests,
    times: Vec<i64>,
    codes: Vec<Vec<i32>>,
}

/// Four chunks of one did: two live slots, a late chunk of the first slot with one lead, one slot more.
fn history() -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let specs: [(i64, i64, i64, &[&'static str]); 4] = [
        (0, 0, 600, &["a", "b"]),
        (60, 60, 600, &["a", "b"]),
        (0, 30, 45, &["a"]),
        (120, 120, 600, &["a", "b"]),
    ];
    for (index, (slot, first, rows, leads)) in (0u64..).zip(specs) {
        let prev = chunks
            .last()
            .map_or(link::genesis(&did()), |c| c.link.digest());
        chunks.push(chunk(index, prev, T + slot * S, T + first * S, rows, leads));
    }
    chunks
}

fn did() -> Did {
    "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e".parse().unwrap()
}

fn chunk(
    index: u64,
    prev: Digest,
    slot: i64,
    first: i64,
    rows: i64,
    leads: &[&'static str],
) -> Chunk {
    let times: Vec<i64> = (0..rows).map(|k| first + k * S / 10).collect();
    let code = |i: i64, k: i64| {
        if k % 50 == 7 {
            NO_VALUE
        } else {
            (k * (i + 3) + index as i64) as i32
        }
    };
    let codes: Vec<Vec<i32>> = (0..leads.len() as i64)
        .map(|i| (0..rows).map(|k| code(i, k)).collect())
        .collect();
    let lead = |name: &&str| Lead {
        name: (*name).to_owned(),
        mdc: 0,
        gain: 200.0,
        baseline: 0,
        unit: "mV".into(),
        bits: 12,
    };
    let meta = ChunkMeta {
        boot: 1 + index,
        clock: ChunkClock {
            offset_ns: 0,
            quality: ClockKind::Synced,
        },
        did: did(),
        end_ns: times[times.len() - 1] + S / 10,
        first_ns: first,
        index,
        jitter_ns: (0, 0),
        lane: if index == 2 { Lane::Late } else { Lane::Live },
        leads: leads.iter().map(lead).collect(),
        missing: vec![],
        page_ns: 10 * S,
        prev,
        profile: Profile::Open,
        rate: Rate::new(10, 1).unwrap(),
        received: (first, first + 60 * S),
        rows: rows as u32,
        seq: (0, 59),
        slot_len_ns: 60 * S,
        slot_start_ns: slot,
        v: 1,
    };
    let salt = [index as u8 + 1; 32];
    let digests = pages::page_digests(&salt, slot, 60 * S, &times, &codes).unwrap();
    let json = meta.to_json();
    let link = Link {
        did: did(),
        index,
        slot_start_ns: slot,
        slot_len_ns: 60 * S,
        first_ns: first,
        end_ns: meta.end_ns,
        rows: rows as u32,
        file_root: Digest([index as u8; 32]),
        pages_root: pages::pages_root(&json, &digests.leaves),
        prev,
    };
    Chunk {
        link,
        meta: json,
        lead_names: leads.to_vec(),
        salt,
        digests,
        times,
        codes,
    }
}

fn keys(seed: u8) -> SecretKeys {
    SecretKeys::from_secrets(&[seed; 32], None).unwrap()
}

fn trust_of(provider: u8, log: u8) -> TrustFile {
    let log = TrustedLog::new(ORIGIN, &keys(log).sign_public()).unwrap();
    TrustFile {
        origin: ORIGIN.into(),
        policy: trust::policy_text(&log),
        providers: vec![keys(provider).public("provider", Role::Provider)],
        sequencers: vec![keys(2).public("sequencer", Role::Sequencer)],
        ca: None,
    }
}

fn anchor(link: &Link, signer: u8) -> BundleAnchor {
    let tag = link::tag(&link.did, link.index);
    let event = Event::AddData {
        digest: link.digest(),
        tag,
        content: vec![7; 64],
    };
    let entry = event::sign(&event, &keys(signer)).unwrap();
    let mut leaves: Vec<[u8; 32]> = (0..6u8).map(|i| merkle::leaf_hash(&[i])).collect();
    leaves[4] = merkle::leaf_hash(&entry);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: 6,
        root: merkle::root(&leaves),
    };
    let path = merkle::inclusion_path(6, 4, &merkle::StoredHashes::of(&leaves)).unwrap();
    let signed = checkpoint.sign(&keys(5).sign).unwrap();
    BundleAnchor {
        entry,
        proof: receipt::make(4, &path, &signed),
    }
}

struct Case {
    bundle: ProofBundle,
    answer: AnswerRows,
    asked: Asked,
}

impl Case {
    /// What an honest server answers for a window in seconds after `T`.
    fn honest(from: i64, until: i64, leads: &[&str]) -> Self {
        let window = Span {
            from_ns: T + from * S,
            until_ns: T + until * S,
        };
        let history = history();
        let touched: Vec<&Chunk> = history
            .iter()
            .filter(|c| c.link.span().meets(&window))
            .collect();
        let mut rows: Vec<(i64, u64, Vec<i32>)> = Vec::new();
        for c in &touched {
            for (k, t) in c
                .times
                .iter()
                .enumerate()
                .filter(|(_, t)| window.holds(**t))
            {
                let code = |name: &&str| {
                    let place = c.lead_names.iter().position(|n| n == name);
                    place.map_or(NO_VALUE, |i| c.codes[i][k])
                };
                rows.push((*t, c.link.index, leads.iter().map(code).collect()));
            }
        }
        rows.sort();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (_, index, _) in &rows {
            match runs.last_mut() {
                Some((last, n)) if last == index => *n += 1,
                _ => runs.push((*index, 1)),
            }
        }
        let show = |c: &&Chunk| {
            let places: Vec<usize> = (0..c.lead_names.len())
                .filter(|i| leads.contains(&c.lead_names[*i]))
                .collect();
            BundleChunk {
                index: c.link.index,
                meta: c.meta.clone(),
                leaves: c.digests.leaves.clone(),
                pages: provable_pages(&c.link, window)
                    .map(|p| BundlePage::show(&c.salt, p, &c.digests, &places).unwrap())
                    .collect(),
            }
        };
        let bundle = ProofBundle {
            v: 1,
            did: did(),
            from_ns: window.from_ns,
            until_ns: window.until_ns,
            links: history[touched[0].link.index as usize..]
                .iter()
                .map(|c| LinkHex(c.link.clone()))
                .collect(),
            chunks: touched.iter().map(show).collect(),
            rows: runs,
            anchor: Some(anchor(&history[3].link, 1)),
        };
        let answer = AnswerRows {
            leads: leads.iter().map(|l| (*l).to_owned()).collect(),
            times: rows.iter().map(|r| r.0).collect(),
            codes: (0..leads.len())
                .map(|i| rows.iter().map(|r| r.2[i]).collect())
                .collect(),
        };
        let leads = Some(answer.leads.clone());
        Self {
            bundle,
            answer,
            asked: Asked {
                did: Some(did()),
                window: Some(window),
                leads,
            },
        }
    }

    fn judge(&self) -> BundleVerdict {
        verify(
            &self.bundle,
            &self.answer,
            &self.asked,
            Some(&trust_of(1, 5)),
        )
    }

    fn codes(&self) -> Vec<(Code, String)> {
        self.judge()
            .findings
            .into_iter()
            .map(|f| (f.code, f.object))
            .collect()
    }
}

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
    let good = Case::honest(20, 100, &["a"]);
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
