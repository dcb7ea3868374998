//! What the ledger and the notary ask of others; the node hands the answers over.

use std::sync::Arc;

use chordae_base::{Did, Digest, KeyId, Outcome};
use chordae_chain::{event::Event, heads::HeadSet, keys::Role, link::Link};

/// Who is known here.
pub trait Parties: Send + Sync {
    /// Role and Ed25519 key of a known, enabled party.
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])>;
}

/// What `add-heads` events anchor, which lies beside the log.
pub trait HeadSets {
    /// The heads that an event anchors, held against its root; none if it is no `add-heads`.
    ///
    /// # Errors
    /// `Damaged` when they are missing or others; `Io`.
    fn of(&self, event: &Event) -> Outcome<Option<Arc<HeadSet>>>;
}

/// Whose streams are.
pub trait Patients: Send + Sync {
    /// Ed25519 and X25519 key of a did's patient, if it has one.
    fn seal_key_of(&self, did: &Did) -> Option<([u8; 32], [u8; 32])>;
}

/// The head of the audit trail.
pub trait TrailHead: Send + Sync {
    /// SHA-256 of the newest durable record and how many there are; none while there is none (the log
    /// is then told a count of 0, so that it proves its freshness all the same).
    fn head(&self) -> Option<(Digest, u64)>;
}

/// The links that storage has made history: linked, synced, re-read and re-hashed.
pub trait Links: Send + Sync {
    /// The newest link of every did.
    fn heads(&self) -> Vec<Link>;
    /// One link.
    ///
    /// # Errors
    /// Those of the link journal.
    fn link(&self, did: &Did, index: u64) -> Outcome<Option<Link>>;
}
