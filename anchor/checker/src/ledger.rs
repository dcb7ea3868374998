//! The tile log: everything recomputed from its entries (formats.md 5).
//!
//! ```text
//! checkpoint (signed: size, root) ◀═ must equal ═ root ◀─ leaf hashes ◀─ entries ─▶ events, blocks
//!                                                            ║ must equal
//!                                                        level-0 tiles ─▶ tiles above
//! ```
//!
//! Two towers are built, one over the entries and one over the stored level-0 hashes. Where an entry
//! and its stored hash differ, the tower that reaches the signed root tells which of the two was
//! changed; if neither does, both are named.

use std::collections::BTreeMap;

use chordae_base::{Digest, KeyId, Outcome};
use chordae_chain::{
    checkpoint::Checkpoint,
    event::{self, Event},
    finding::{Code, Findings},
    heads::{self, HeadSet},
    merkle::{self, NodeHash},
    trust::TrustFile,
};

use crate::{
    Progress,
    files::Folder,
    tiles::{self, Kind, Tower, WIDTH},
};

mod batches;
mod blocks;
mod counted;
mod signers;
mod stored;

use batches::Batches;
use blocks::Blocks;
use counted::Counted;
use signers::{Signers, Standing};
use stored::Stored;

pub(crate) const CHECKPOINT: &str = "ledger/checkpoint";
const CHECKPOINT_BYTES: u64 = 64 * 1024;
/// Differences between entries and stored hashes that are kept until the root is known.
const DOUBTS_MAX: usize = 1000;

/// A head that the ledger vouches for, in an `add-data` event or with others in an `add-heads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Head {
    pub(crate) tag: Digest,
    pub(crate) digest: Digest,
    pub(crate) leaf: u64,
}

/// An `audit-head` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AuditHead {
    pub(crate) count: u64,
    pub(crate) digest: Digest,
    pub(crate) leaf: u64,
    pub(crate) time_ms: u64,
}

/// What the ledger says, as far as it holds together.
#[derive(Default)]
pub(crate) struct Facts {
    /// Signed by the trusted log and cosigned as its policy demands, and everything under it in order.
    pub(crate) proven: bool,
    /// By tag.
    pub(crate) heads: Vec<Head>,
    /// By count.
    pub(crate) audits: Vec<AuditHead>,
    /// Sessions that were granted and not revoked, each with its patient.
    pub(crate) sessions: BTreeMap<[u8; 32], KeyId>,
}

pub(crate) fn entry_name(leaf: u64) -> String {
    format!("ledger entry {leaf}")
}

/// Everything that a walk over the log carries along.
struct Walk<'a> {
    stored: Stored<'a>,
    trust: Option<&'a TrustFile>,
    found: Findings,
    signers: Signers<'a>,
    blocks: Blocks,
    facts: Facts,
    /// The checkpoint that counts, as a trusted log has signed it.
    signed: Option<String>,
    /// Where that is not the newest one.
    counted: Option<Counted>,
    notes: Vec<String>,
    /// Records of the trail that the log knows of.
    trail: u64,
    /// Entries whose signer cannot be known without a trust file.
    strangers: u64,
}

/// Checks `ledger/`; findings and notes are added to those given.
pub(crate) fn check(
    folder: &Folder<'_>,
    trust: Option<&TrustFile>,
    found: &mut Findings,
    notes: &mut Vec<String>,
    progress: &mut dyn FnMut(Progress),
) -> Outcome<Facts> {
    let mut walk = Walk {
        stored: Stored { folder },
        trust,
        found: Findings::default(),
        signers: Signers::new(folder, trust),
        blocks: Blocks::default(),
        facts: Facts::default(),
        signed: None,
        counted: None,
        notes: Vec::new(),
        trail: 0,
        strangers: 0,
    };
    let Some((claim, mut counts)) = walk.checkpoint(notes)? else {
        let findings = walk.found.into_vec();
        findings
            .into_iter()
            .for_each(|f| found.add(f.object, f.code, f.detail));
        return Ok(Facts::default());
    };
    walk.entries(&claim, progress)?;
    counts &= walk.in_force(notes)?;
    let batches = Batches::read(folder);
    walk.beyond(&claim, batches.as_ref(), notes)?;
    walk.forks();
    walk.only_counted();
    if walk.strangers > 0 {
        notes.push(format!(
            "{} ledger entries are signed by keys that only a trust file can vouch for",
            walk.strangers
        ));
    }
    notes.extend(batches.as_ref().and_then(Batches::note));
    let mut facts = walk.facts;
    facts.proven = counts && walk.found.is_empty();
    facts.heads.sort_unstable();
    facts.audits.sort_unstable();
    walk.found
        .into_vec()
        .into_iter()
        .for_each(|f| found.add(f.object, f.code, f.detail));
    Ok(facts)
}

impl Walk<'_> {
    /// The checkpoint, and whether it counts: the trusted log signed it, and enough witnesses did.
    fn checkpoint(&mut self, notes: &mut Vec<String>) -> Outcome<Option<(Checkpoint, bool)>> {
        let folder = self.stored.folder;
        let Some(text) = folder.read(CHECKPOINT, CHECKPOINT_BYTES)?.text() else {
            if folder.list("ledger/tile")?.is_some() {
                let why = "there are tiles but no checkpoint";
                self.found.add(CHECKPOINT, Code::MissingFile, why);
            } else {
                notes.push("there is no ledger: nothing is anchored".into());
            }
            return Ok(None);
        };
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.found.add(CHECKPOINT, Code::CheckpointSignature, why);
                return Ok(None);
            }
        };
        let Some(trust) = self.trust else {
            return Ok(self.unsigned(&text).map(|claim| (claim, false)));
        };
        let policy = trust.policy()?;
        match policy.open(&text) {
            Ok(opened) => {
                let mut counts = opened.counts();
                self.signed = Some(text);
                // Not damage: the log is intact, and the cosignatures may come.
                if let Some(lacks) = opened.lacks {
                    notes.push(format!(
                        "the ledger's checkpoint is not cosigned as the trust file demands: it lacks {lacks}"
                    ));
                    counts = self.cosigned(&policy, &opened.checkpoint, notes)?;
                }
                Ok(Some((opened.checkpoint, counts)))
            }
            Err(e) => {
                self.found.add(CHECKPOINT, Code::CheckpointSignature, e);
                Ok(self.unsigned(&text).map(|claim| (claim, false)))
            }
        }
    }

    /// Whether the checkpoint still counts when the keys are set aside that the log itself has retired: a
    /// reader whose trust file is older than that is not taken in by them.
    fn in_force(&mut self, notes: &mut Vec<String>) -> Outcome<bool> {
        notes.append(&mut self.notes);
        let (Some(trust), Some(signed)) = (self.trust, &self.signed) else {
            return Ok(true);
        };
        match trust
            .policy()?
            .retiring(&self.signers.retired())
            .open(signed)
        {
            Ok(opened) => Ok(opened.counts()),
            Err(e) => {
                self.found.add(CHECKPOINT, Code::CheckpointSignature, e);
                Ok(false)
            }
        }
    }

    /// What a checkpoint says, whoever signed it.
    fn unsigned(&mut self, text: &str) -> Option<Checkpoint> {
        let claim = body(text);
        if claim.is_none() {
            self.found
                .add(CHECKPOINT, Code::CheckpointSignature, "not a checkpoint");
        }
        claim
    }

    fn entries(&mut self, claim: &Checkpoint, progress: &mut dyn FnMut(Progress)) -> Outcome<()> {
        let (mut by_entries, mut by_tiles) = (Check::default(), Check::default());
        // Leaves where entry and stored hash differ, with the tile's number.
        let mut doubts: Vec<(u64, u64)> = Vec::new();
        let tiles = claim.size.div_ceil(WIDTH);
        for n in 0..tiles {
            progress(Progress {
                what: "ledger entries",
                done: n * WIDTH,
                of: claim.size,
            });
            let width = usize::try_from((claim.size - n * WIDTH).min(WIDTH)).unwrap_or(0);
            let bundle = self.stored.bundle(n, width, &mut self.found)?;
            let hashes = self
                .stored
                .hashes(Kind::Level(0), n, width, &mut self.found)?;
            if let Some(entries) = &bundle {
                for (leaf, entry) in (n * WIDTH..).zip(entries) {
                    self.entry(leaf, entry)?;
                }
            }
            let leaves = bundle.map(|b| b.iter().map(|e| merkle::leaf_hash(e)).collect::<Vec<_>>());
            let (leaves, hashes) = match (leaves, hashes) {
                (Some(leaves), Some(hashes)) => {
                    let pairs = leaves.iter().zip(&hashes).zip(n * WIDTH..);
                    let differ = pairs
                        .filter(|((a, b), _)| a != b)
                        .map(|(_, leaf)| (leaf, n));
                    doubts.extend(differ.take(DOUBTS_MAX.saturating_sub(doubts.len())));
                    (leaves, hashes)
                }
                (Some(leaves), None) => (leaves.clone(), leaves),
                (None, Some(hashes)) => {
                    self.blocks.lost();
                    (hashes.clone(), hashes)
                }
                // Both findings are there; what follows cannot be placed.
                (None, None) => return Ok(()),
            };
            if let Some(counted) = &mut self.counted {
                counted.walk(&leaves);
            }
            by_entries.add(&self.stored, &leaves)?;
            by_tiles.add(&self.stored, &hashes)?;
        }
        by_entries.finish(&self.stored)?;
        by_tiles.finish(&self.stored)?;
        self.judge(claim, by_entries, by_tiles, &doubts);
        self.blocks.end(claim.size, &mut self.found);
        Ok(())
    }

    fn judge(
        &mut self,
        claim: &Checkpoint,
        by_entries: Check,
        by_tiles: Check,
        doubts: &[(u64, u64)],
    ) {
        let (entries_hold, tiles_hold) =
            (by_entries.root == claim.root, by_tiles.root == claim.root);
        let found = &mut self.found;
        if !entries_hold && !tiles_hold {
            found.add(
                CHECKPOINT,
                Code::LogRoot,
                "neither entries nor tiles lead to its root",
            );
        }
        for (leaf, n) in doubts {
            if !entries_hold {
                let why = "the entry is not what the tile over it says";
                found.add(entry_name(*leaf), Code::LogRoot, why);
            }
            if entries_hold || !tiles_hold {
                let why = format!("its hash of leaf {leaf} is not that of the entry");
                found.add(tiles::name(Kind::Level(0), *n), Code::LogRoot, why);
            }
        }
        let upper = if tiles_hold && !entries_hold {
            by_tiles.wrong
        } else {
            by_entries.wrong
        };
        for (name, why) in upper {
            found.add(name, Code::LogRoot, why);
        }
    }

    fn entry(&mut self, leaf: u64, entry: &[u8]) -> Outcome<()> {
        let name = || entry_name(leaf);
        let signed = match event::decode(entry) {
            Ok(signed) => signed,
            Err(e) => {
                self.found.add(name(), Code::EntrySignature, e);
                self.blocks.event(merkle::leaf_hash(entry));
                return Ok(());
            }
        };
        match self.signers.judge(leaf, &signed)? {
            Standing::Good => {}
            Standing::Stranger => self.strangers += 1,
            Standing::Bad(why) => self.found.add(name(), Code::EntrySignature, why),
        }
        match signed.event {
            Event::Block { .. } => {
                self.blocks
                    .block(leaf, entry, &signed.event, &mut self.found);
                self.signers
                    .batch_ends(leaf.saturating_add(1), &mut self.notes);
            }
            _ => self.blocks.event(merkle::leaf_hash(entry)),
        }
        match signed.event {
            Event::AddData { digest, tag, .. } => self.facts.heads.push(Head { tag, digest, leaf }),
            Event::AddHeads { root, count } => self.heads(leaf, &root, count)?,
            Event::AuditHead {
                digest,
                count,
                time_ms,
            } => {
                if count < self.trail {
                    let why = format!(
                        "names a trail of {count} records after one of {}",
                        self.trail
                    );
                    self.found.add(name(), Code::Trail, why);
                }
                self.trail = self.trail.max(count);
                self.facts.audits.push(AuditHead {
                    count,
                    digest,
                    leaf,
                    time_ms,
                });
            }
            Event::CreateSession { .. } => {
                let sid = event::leaf_hash(entry);
                self.facts.sessions.insert(sid, signed.kid);
            }
            // Only by the patient who granted it, as everywhere.
            Event::RevokeSession { sid, .. }
                if self.facts.sessions.get(&sid) == Some(&signed.kid) =>
            {
                self.facts.sessions.remove(&sid);
            }
            _ => {}
        }
        Ok(())
    }

    /// The heads that an `add-heads` event names by their root; they lie beside the log.
    fn heads(&mut self, leaf: u64, root: &NodeHash, count: u32) -> Outcome<()> {
        let name = format!("ledger.heads/{}", heads::file_name(root));
        let read = self
            .stored
            .folder
            .read(&name, heads::FILE_BYTES_MAX as u64)?;
        let Some(bytes) = stored::taken(&name, read, &mut self.found) else {
            return Ok(());
        };
        match HeadSet::decode(&bytes) {
            Ok(set) if set.root() == *root && set.count() == count => {
                let all = set.iter().map(|(tag, digest)| Head {
                    tag: *tag,
                    digest: *digest,
                    leaf,
                });
                self.facts.heads.extend(all);
            }
            _ => {
                let why = format!("not the heads that ledger entry {leaf} anchors");
                self.found.add(name, Code::LogRoot, why);
            }
        }
        Ok(())
    }

    /// Entries past the checkpoint: one batch may be waiting to be finished, two were once signed for. Where the journal
    /// of batches goes on from this very checkpoint, they are those of its batches, which were on their way into the folder.
    fn beyond(
        &mut self,
        claim: &Checkpoint,
        batches: Option<&Batches>,
        notes: &mut Vec<String>,
    ) -> Outcome<()> {
        let mut blocks = 0;
        let mut more = 0_u64;
        let mut n = claim.size / WIDTH;
        while blocks < 2 {
            let Some(entries) = self.stored.widest(n)? else {
                break;
            };
            let skip = usize::try_from(claim.size.saturating_sub(n * WIDTH)).unwrap_or(usize::MAX);
            for entry in entries.iter().skip(skip) {
                more += 1;
                let event = event::decode(entry).map(|s| s.event);
                blocks += u32::from(matches!(event, Ok(Event::Block { .. })));
            }
            if (entries.len() as u64) < WIDTH {
                break;
            }
            n += 1;
        }
        if batches.is_some_and(|batches| batches.go_on_from(claim)) {
            // The note of the batches says so.
        } else if blocks >= 2 && self.grew(claim)? {
            notes.push("the ledger grew while it was checked".into());
        } else if blocks >= 2 {
            let why = format!("{more} or more entries lie past its size of {}", claim.size);
            self.found.add(CHECKPOINT, Code::Rollback, why);
        } else if more > 0 {
            notes.push(format!(
                "a batch of {more} entries waits for its checkpoint"
            ));
        }
        Ok(())
    }

    /// Whether the checkpoint is of a larger log by now: the folder is in use.
    fn grew(&self, claim: &Checkpoint) -> Outcome<bool> {
        let read = self.stored.folder.read(CHECKPOINT, CHECKPOINT_BYTES)?;
        let now = read.text().and_then(|text| body(&text.ok()?));
        Ok(now.is_some_and(|now| now.size > claim.size))
    }

    fn forks(&mut self) {
        self.facts.heads.sort_unstable();
        for pair in self.facts.heads.windows(2) {
            if let [a, b] = pair
                && a.tag == b.tag
                && a.digest != b.digest
            {
                let why = format!(
                    "vouches for another link under the tag of ledger entry {}",
                    a.leaf
                );
                self.found.add(entry_name(b.leaf), Code::Fork, why);
            }
        }
    }
}

/// The text of a checkpoint, which ends before the blank line that the signatures follow.
fn body(text: &str) -> Option<Checkpoint> {
    let (body, _) = text.split_once("\n\n")?;
    let body = tlog_tiles::Checkpoint::from_bytes(format!("{body}\n").as_bytes()).ok()?;
    let (origin, size, root) = (body.origin().to_owned(), body.size(), body.hash().0);
    Some(Checkpoint { origin, size, root })
}

/// One tower and what it found above level 0.
#[derive(Default)]
struct Check {
    tower: Tower,
    root: NodeHash,
    wrong: Vec<(String, String)>,
}

impl Check {
    fn add(&mut self, stored: &Stored<'_>, leaves: &[NodeHash]) -> Outcome<()> {
        for (level, n, hashes) in self.tower.add(leaves) {
            stored.compare(Kind::Level(level), n, &hashes, &mut self.wrong)?;
        }
        Ok(())
    }

    fn finish(&mut self, stored: &Stored<'_>) -> Outcome<()> {
        let (root, open) = std::mem::take(&mut self.tower).finish();
        self.root = root;
        for (level, n, hashes) in open {
            stored.compare(Kind::Level(level), n, &hashes, &mut self.wrong)?;
        }
        Ok(())
    }
}
