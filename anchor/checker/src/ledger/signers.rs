//! Who signed an entry, and whether they may.
//!
//! Providers and sequencers count if the trust file lists them. Patients are known to the folder only:
//! `registry/keys/{key id}.json`, authenticated by the key id in the signed entry. Without a trust file
//! providers and sequencers are looked up there too, so that a wrong signature is still found, but a
//! key that is not there is only a stranger.

use std::collections::BTreeMap;

use chordae_base::{KeyId, Outcome};
use chordae_chain::{
    event::{Event, SignedEvent},
    keys::{PublicIdentity, Role},
    trust::TrustFile,
};

use crate::files::{Folder, Read};

/// Bytes of an identity file.
const IDENTITY_BYTES: u64 = 64 * 1024;
/// Identities kept in memory.
const KNOWN_MAX: usize = 100_000;

/// The judgement on a signature.
pub(super) enum Standing {
    /// By a key that may sign this.
    Good,
    /// By a key that nothing here vouches for; only without a trust file.
    Stranger,
    /// Not so; why.
    Bad(String),
}

/// Looks keys up.
pub(super) struct Signers<'a> {
    folder: &'a Folder<'a>,
    trust: Option<&'a TrustFile>,
    known: BTreeMap<KeyId, Option<PublicIdentity>>,
}

impl<'a> Signers<'a> {
    pub(super) fn new(folder: &'a Folder<'a>, trust: Option<&'a TrustFile>) -> Self {
        Self {
            folder,
            trust,
            known: BTreeMap::new(),
        }
    }

    fn registered(&mut self, kid: &KeyId) -> Outcome<Option<PublicIdentity>> {
        if let Some(known) = self.known.get(kid) {
            return Ok(known.clone());
        }
        let read = self
            .folder
            .read(&format!("registry/keys/{kid}.json"), IDENTITY_BYTES)?;
        let text = match read {
            Read::Bytes(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        };
        let identity = text.and_then(|t| PublicIdentity::from_json(&t).ok());
        let identity = identity.filter(|who| who.key_id() == *kid);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(*kid, identity.clone());
        Ok(identity)
    }

    /// Whether the signer of an entry is one who may sign it, and did.
    pub(super) fn judge(&mut self, signed: &SignedEvent) -> Outcome<Standing> {
        let role = match signed.event {
            Event::AddData { .. } | Event::AuditHead { .. } => Role::Provider,
            Event::Block { .. } => Role::Sequencer,
            Event::CreateSession { .. } | Event::RevokeSession { .. } => Role::Patient,
        };
        let identity = match (self.trust, role) {
            (Some(trust), Role::Provider) => trust.provider(&signed.kid).cloned(),
            (Some(trust), Role::Sequencer) => trust.sequencer(&signed.kid).cloned(),
            _ => self.registered(&signed.kid)?,
        };
        let Some(identity) = identity else {
            let whose = signed.kid;
            return Ok(match (self.trust, role) {
                (_, Role::Patient) => {
                    Standing::Bad(format!("no registry/keys/{whose}.json: whose is it?"))
                }
                (None, _) => Standing::Stranger,
                (Some(_), role) => Standing::Bad(format!(
                    "{} key {whose} is not in the trust file",
                    role.as_str()
                )),
            });
        };
        if identity.role != role {
            let (is, must) = (identity.role.as_str(), role.as_str());
            return Ok(Standing::Bad(format!(
                "signed by a {is}, where only a {must} may"
            )));
        }
        Ok(match signed.verify(&identity.sign) {
            Ok(()) => Standing::Good,
            Err(e) => Standing::Bad(e.why),
        })
    }
}
