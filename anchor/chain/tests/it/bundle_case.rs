//! An honest server's proof bundle over four chunks, and what a reader says of it.

use chordae_base::{
    Did, Digest, Rate, Span,
    wire::{ClockKind, Lead, NO_VALUE},
};
use chordae_chain::{
    bundle::{
        AnswerRows, Asked, BundleAnchor, BundleChunk, BundlePage, BundleVerdict, LinkHex,
        ProofBundle, provable_pages, verify,
    },
    checkpoint::{Checkpoint, TrustedLog},
    event::{self, Event},
    finding::Code,
    heads::{Head, HeadPath, HeadSet},
    keys::{Role, SecretKeys},
    link::{self, Link},
    merkle,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
    pages::{self, PageDigests},
    receipt,
    trust::{self, TrustFile},
};

pub(crate) const S: i64 = 1_000_000_000;
/// Start of the first slot.
pub(crate) const T: i64 = 1_700_000_040 * S;
const ORIGIN: &str = "chordae.local/test";

pub(crate) struct Chunk {
    pub(crate) link: Link,
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

pub(crate) fn did() -> Did {
    "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e".parse().unwrap()
}

pub(crate) fn chunk(
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

pub(crate) fn keys(seed: u8) -> SecretKeys {
    SecretKeys::from_secrets(&[seed; 32], None).unwrap()
}

pub(crate) fn trust_of(provider: u8, log: u8) -> TrustFile {
    let log = TrustedLog::new(ORIGIN, &keys(log).sign_public()).unwrap();
    TrustFile {
        origin: ORIGIN.into(),
        policy: trust::policy_text(&log),
        providers: vec![keys(provider).public("provider", Role::Provider)],
        sequencers: vec![keys(2).public("sequencer", Role::Sequencer)],
        retired: Vec::new(),
        ca: None,
    }
}

pub(crate) fn anchor(link: &Link, signer: u8) -> BundleAnchor {
    let tag = link::tag(&link.did, link.index);
    let event = Event::AddData {
        digest: link.digest(),
        tag,
        content: vec![7; 64],
    };
    logged(&event, signer, None)
}

/// As [`anchor`], by an event that anchors four others too.
pub(crate) fn anchor_together(link: &Link, signer: u8) -> BundleAnchor {
    let tag = link::tag(&link.did, link.index);
    let mut heads: Vec<Head> = (0..4).map(|n| (Digest([n; 32]), Digest([9; 32]))).collect();
    heads.push((tag, link.digest()));
    let set = HeadSet::new(heads).unwrap();
    let event = Event::AddHeads {
        root: set.root(),
        count: set.count(),
    };
    logged(&event, signer, set.prove(&tag).unwrap())
}

fn logged(event: &Event, signer: u8, head: Option<HeadPath>) -> BundleAnchor {
    let entry = event::sign(event, &keys(signer)).unwrap();
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
        head,
    }
}

pub(crate) struct Case {
    pub(crate) bundle: ProofBundle,
    pub(crate) answer: AnswerRows,
    pub(crate) asked: Asked,
}

impl Case {
    /// What an honest server answers for a window in seconds after `T`.
    pub(crate) fn honest(from: i64, until: i64, leads: &[&str]) -> Self {
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

    pub(crate) fn judge(&self) -> BundleVerdict {
        self.judge_by(&trust_of(1, 5))
    }

    pub(crate) fn judge_by(&self, trust: &TrustFile) -> BundleVerdict {
        verify(&self.bundle, &self.answer, &self.asked, Some(trust))
    }

    pub(crate) fn codes(&self) -> Vec<(Code, String)> {
        self.judge()
            .findings
            .into_iter()
            .map(|f| (f.code, f.object))
            .collect()
    }
}
