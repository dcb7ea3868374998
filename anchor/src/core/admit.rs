//! What may enter the log: the one encoding of a known event, signed by a known party whose role the
//! type asks for (formats.md 5). What is in the log has passed here, so nobody needs to be lenient later.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{Failure, FailureKind, Outcome};
use chordae_chain::{
    event::{self, Event, SignedEvent},
    heads::HeadSet,
    merkle::NodeHash,
};

use super::ports::{HeadSets, Parties};

/// An entry that may enter; only [`admit`] makes one.
#[derive(Debug, Clone)]
pub struct Admitted {
    entry: Bytes,
    leaf: NodeHash,
    signed: SignedEvent,
    heads: Option<Arc<HeadSet>>,
}

impl Admitted {
    /// The entry's bytes.
    pub fn entry(&self) -> &Bytes {
        &self.entry
    }

    /// Its leaf hash.
    pub fn leaf(&self) -> &NodeHash {
        &self.leaf
    }

    /// What it says, verified.
    pub fn signed(&self) -> &SignedEvent {
        &self.signed
    }

    /// What it anchors, of an `add-heads` event.
    pub fn heads(&self) -> Option<&Arc<HeadSet>> {
        self.heads.as_ref()
    }
}

/// Checks an entry. What depends on the log so far is [`super::index::Index::check`]'s.
///
/// # Errors
/// `BadInput` for what is no entry; `Refused` for an unknown signer, a role that may not sign this type,
/// a signature that does not hold, or heads that are not here; `Io` when it cannot be known.
pub fn admit(entry: Bytes, parties: &dyn Parties, sets: &dyn HeadSets) -> Outcome<Admitted> {
    let signed = event::decode(&entry)?;
    let kind = signed.event.kind();
    let (role, key) = parties
        .role_key(&signed.kid)
        .ok_or_else(|| Failure::refused(format!("{kind}: its signer is not known here")))?;
    if let Event::Block { .. } = signed.event {
        return Err(Failure::refused("only the sequencer itself closes a batch"));
    }
    let wanted = signed.event.signer();
    if role != wanted {
        let why = format!("{kind} must be signed by a {wanted}, its signer is a {role}");
        return Err(Failure::refused(why));
    }
    signed.verify(&key)?;
    // Without them nobody could show what it vouches for.
    let heads = sets.of(&signed.event).map_err(|e| match e.kind {
        FailureKind::Io => e,
        _ => Failure::refused(format!("{kind}: {e}")),
    })?;
    let leaf = event::leaf_hash(&entry);
    Ok(Admitted {
        entry,
        leaf,
        signed,
        heads,
    })
}
