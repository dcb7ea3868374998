//! What may enter the log: the one encoding of a known event, signed by a known party whose role the
//! type asks for (formats.md 5). What is in the log has passed here, so nobody needs to be lenient later.

use bytes::Bytes;
use chordae_base::{Failure, Outcome};
use chordae_chain::{
    event::{self, Event, SignedEvent},
    keys::Role,
    merkle::NodeHash,
};

use super::ports::Parties;

/// An entry that may enter; only [`admit`] makes one.
#[derive(Debug, Clone)]
pub struct Admitted {
    entry: Bytes,
    leaf: NodeHash,
    signed: SignedEvent,
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
}

/// Checks an entry. What depends on the log so far is [`super::index::Index::check`]'s.
///
/// # Errors
/// `BadInput` for what is no entry; `Refused` for an unknown signer, a role that may not sign this type,
/// or a signature that does not hold.
pub fn admit(entry: Bytes, parties: &dyn Parties) -> Outcome<Admitted> {
    let signed = event::decode(&entry)?;
    let kind = signed.event.kind();
    let (role, key) = parties
        .role_key(&signed.kid)
        .ok_or_else(|| Failure::refused(format!("{kind}: its signer is not known here")))?;
    let wanted = match signed.event {
        Event::AddData { .. } | Event::AuditHead { .. } => Role::Provider,
        Event::CreateSession { .. } | Event::RevokeSession { .. } => Role::Patient,
        Event::Block { .. } => {
            return Err(Failure::refused("only the sequencer itself closes a batch"));
        }
    };
    if role != wanted {
        let why = format!("{kind} must be signed by a {wanted}, its signer is a {role}");
        return Err(Failure::refused(why));
    }
    signed.verify(&key)?;
    let leaf = event::leaf_hash(&entry);
    Ok(Admitted {
        entry,
        leaf,
        signed,
    })
}
