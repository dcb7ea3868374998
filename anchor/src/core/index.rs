//! What the log says, by key: a fold over its entries, made anew at every start.
//!
//! It may run ahead of the newest checkpoint by the batch at work; every answer therefore takes the
//! size up to which it may speak. Lives in memory: about 100 bytes an entry.

use std::collections::BTreeMap;

use chordae_base::{Digest, Failure, KeyId, Outcome};
use chordae_chain::{
    event::{Event, SignedEvent},
    merkle::NodeHash,
};

/// The newest block leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBlock {
    /// Its number.
    pub height: u64,
    /// Its leaf hash.
    pub leaf: NodeHash,
    /// Its time.
    pub time_ms: u64,
}

/// The head of the trail with the highest count.
#[derive(Debug, Clone, Copy)]
struct Audit {
    leaf_index: u64,
    count: u64,
    digest: Digest,
}

#[derive(Debug, Clone)]
struct Session {
    leaf_index: u64,
    signer: KeyId,
    revoked: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Index {
    size: u64,
    leaves: BTreeMap<NodeHash, u64>,
    tags: BTreeMap<Digest, (u64, Digest)>,
    sessions: BTreeMap<[u8; 32], Session>,
    audit: Option<Audit>,
    block: Option<LastBlock>,
}

impl Index {
    /// Entries folded in.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The newest block.
    pub fn last_block(&self) -> Option<LastBlock> {
        self.block
    }

    /// Whether an entry fits what the log says so far.
    ///
    /// # Errors
    /// `Damaged` for a fork (another digest under a known tag, or for a known count of the trail):
    /// evidence, and never by our own hand; `Refused` for a revocation of what is no session or
    /// another's, and for a head of the trail older than one in the log.
    pub fn check(&self, signed: &SignedEvent) -> Outcome<()> {
        match &signed.event {
            Event::AddData { digest, tag, .. } => match self.tags.get(tag) {
                Some((at, known)) if known != digest => Err(Failure::damaged(format!(
                    "fork: entry {at} anchors digest {known} where {digest} is to be anchored now"
                ))),
                _ => Ok(()),
            },
            Event::RevokeSession { sid, .. } => match self.sessions.get(sid) {
                Some(session) if session.signer == signed.kid => Ok(()),
                // One answer for both: who is not the patient learns nothing about sessions.
                _ => Err(Failure::refused(
                    "there is no session of this signer to revoke",
                )),
            },
            Event::AuditHead { digest, count, .. } => self.check_audit(*count, digest),
            _ => Ok(()),
        }
    }

    /// A trail only grows, and its head is one. The trail of no records has the digest of zeros.
    fn check_audit(&self, count: u64, digest: &Digest) -> Outcome<()> {
        if count == 0 && *digest != Digest([0; 32]) {
            return Err(Failure::refused(
                "an audit-head of no records must name the digest of zeros",
            ));
        }
        match self.audit {
            Some(known) if count < known.count => Err(Failure::refused(format!(
                "entry {} knows a trail of {} records, an audit-head of {count} is older",
                known.leaf_index, known.count
            ))),
            Some(known) if count == known.count && *digest != known.digest => {
                Err(Failure::damaged(format!(
                    "fork: entry {} names {} as the head of {count} records, {digest} is to be named now",
                    known.leaf_index, known.digest
                )))
            }
            _ => Ok(()),
        }
    }

    /// Folds in the next entry.
    pub fn append(&mut self, leaf: NodeHash, signed: &SignedEvent) {
        let at = self.size;
        self.size += 1;
        self.leaves.entry(leaf).or_insert(at);
        match &signed.event {
            Event::AddData { digest, tag, .. } => {
                self.tags.entry(*tag).or_insert((at, *digest));
            }
            Event::CreateSession { .. } => {
                let session = Session {
                    leaf_index: at,
                    signer: signed.kid,
                    revoked: None,
                };
                self.sessions.entry(leaf).or_insert(session);
            }
            Event::RevokeSession { sid, .. } => {
                let session = self
                    .sessions
                    .get_mut(sid)
                    .filter(|s| s.signer == signed.kid);
                if let Some(session) = session {
                    session.revoked.get_or_insert(at);
                }
            }
            Event::AuditHead { digest, count, .. } => {
                if self.audit.is_none_or(|known| known.count < *count) {
                    self.audit = Some(Audit {
                        leaf_index: at,
                        count: *count,
                        digest: *digest,
                    });
                }
            }
            Event::Block {
                height, time_ms, ..
            } => {
                self.block = Some(LastBlock {
                    height: *height,
                    leaf,
                    time_ms: *time_ms,
                });
            }
        }
    }

    /// Leaf index of an entry, below `size`.
    pub fn place(&self, leaf: &NodeHash, size: u64) -> Option<u64> {
        self.leaves.get(leaf).copied().filter(|at| *at < size)
    }

    /// Leaf index and link digest of the first `add-data` event under a tag, below `size`.
    pub fn tagged(&self, tag: &Digest, size: u64) -> Option<(u64, Digest)> {
        self.tags.get(tag).copied().filter(|(at, _)| *at < size)
    }

    /// Leaf index of a session's create-session entry, below `size`.
    pub fn session(&self, sid: &[u8; 32], size: u64) -> Option<u64> {
        self.sessions
            .get(sid)
            .map(|s| s.leaf_index)
            .filter(|at| *at < size)
    }

    /// Whether the session's own signer revoked it, below `size`.
    pub fn revoked(&self, sid: &[u8; 32], size: u64) -> bool {
        let revoked = self.sessions.get(sid).and_then(|s| s.revoked);
        revoked.is_some_and(|at| at < size)
    }
}
