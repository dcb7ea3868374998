//! Who signed an entry, and whether they may.
//!
//! Providers and sequencers count if the trust file lists them. Patients are known to the folder only:
//! `registry/keys/{key id}.json`, authenticated by the key id in the signed entry. Without a trust file
//! providers and sequencers are looked up there too, so that a wrong signature is still found, but a
//! key that is not there is only a stranger.
//!
//! Keys change in the log itself (`rotate-key`, formats.md 5). From the end of its batch on the old key
//! counts no more, and the new one of a provider or sequencer does: a reader who keeps her trust file goes
//! from key to key as the old one says. Keys of logs and witnesses are never followed, only retired: who
//! may speak for the log is said by the trust file alone.

use std::collections::BTreeMap;

use chordae_base::{KeyId, Outcome};
use chordae_chain::{
    event::{Event, SignedEvent},
    keys::{PublicIdentity, Role, key_id},
    trust::{Retired, TrustFile},
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
    /// Changes in the batch that is read.
    changing: Vec<Change>,
    /// Keys that the log has retired, each in its role.
    retired: Vec<(Role, Retired)>,
    /// Providers and sequencers that the log has named, after those of the trust file.
    followed: Vec<PublicIdentity>,
}

/// A key that goes, and its successor.
#[derive(Clone, Copy)]
struct Change {
    role: Role,
    old: KeyId,
    new: [u8; 32],
}

impl<'a> Signers<'a> {
    pub(super) fn new(folder: &'a Folder<'a>, trust: Option<&'a TrustFile>) -> Self {
        Self {
            folder,
            trust,
            known: BTreeMap::new(),
            changing: Vec::new(),
            retired: Vec::new(),
            followed: Vec::new(),
        }
    }

    /// Keys of logs and witnesses that the log has retired: those that a policy may name.
    pub(super) fn retired(&self) -> Vec<Retired> {
        let of_policy = |role: &Role| matches!(role, Role::Log | Role::Witness);
        let retired = self.retired.iter();
        retired
            .filter_map(|(role, one)| of_policy(role).then_some(*one))
            .collect()
    }

    /// A batch ends at this size: the changes in it are in force.
    pub(super) fn batch_ends(&mut self, size: u64, notes: &mut Vec<String>) {
        for Change { role, old, new } in std::mem::take(&mut self.changing) {
            self.retired.push((role, Retired { key: old, size }));
            let trusted = self.trust.is_some_and(|trust| trust.names(&new));
            let follow = matches!(role, Role::Provider | Role::Sequencer);
            if follow && !trusted {
                self.followed.push(PublicIdentity {
                    name: format!("{role} from size {size} on"),
                    role,
                    sign: new,
                    seal: None,
                });
            }
            if !trusted {
                let kid = key_id(&new);
                let how = match follow {
                    true => "it is followed here; receipts alone need",
                    false => "what it signs counts by",
                };
                notes.push(format!(
                    "the key of the {role} was changed to {kid} at size {size}: {how} the new trust file (ask for it)"
                ));
            }
        }
    }

    /// Why a key counts no more at an entry, if so.
    fn gone(&self, role: Role, kid: &KeyId, leaf: u64) -> Option<String> {
        let by_trust = self.trust.map(|trust| trust.in_force(kid, leaf));
        if let Some(Err(e)) = by_trust {
            return Some(e.why);
        }
        let mut retired = self.retired.iter();
        let (_, retired) = retired.find(|(of, one)| *of == role && one.key == *kid)?;
        retired.in_force(leaf).err().map(|e| e.why)
    }

    /// Takes down a change of keys, signed by a provider in force; why it may not be, if so.
    fn change(&mut self, change: Change, by: &KeyId) -> Option<String> {
        let Change { role, old, new } = change;
        let gone = |kid: &KeyId| {
            let retired = self.retired.iter().map(|(of, one)| (*of, one.key));
            let changing = self.changing.iter().map(|c| (c.role, c.old));
            retired.chain(changing).any(|one| one == (role, *kid))
        };
        if role == Role::Provider && old != *by {
            return Some("a provider's key is retired by itself only".into());
        }
        if gone(&old) || gone(&key_id(&new)) {
            return Some("it names a key that was retired before".into());
        }
        self.changing.push(change);
        None
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
    pub(super) fn judge(&mut self, leaf: u64, signed: &SignedEvent) -> Outcome<Standing> {
        let role = signed.event.signer();
        let identity = match (self.trust, role) {
            (Some(trust), Role::Provider) => {
                let named = trust.provider(&signed.kid);
                named.or(self.followed(&signed.kid)).cloned()
            }
            (Some(trust), Role::Sequencer) => {
                let named = trust.sequencer(&signed.kid);
                named.or(self.followed(&signed.kid)).cloned()
            }
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
        if let Err(e) = signed.verify(&identity.sign) {
            return Ok(Standing::Bad(e.why));
        }
        if let Some(why) = self.gone(role, &signed.kid, leaf) {
            return Ok(Standing::Bad(why));
        }
        if let Event::RotateKey { role, old, new, .. } = signed.event
            && let Some(why) = self.change(Change { role, old, new }, &signed.kid)
        {
            return Ok(Standing::Bad(why));
        }
        Ok(Standing::Good)
    }

    fn followed(&self, kid: &KeyId) -> Option<&PublicIdentity> {
        self.followed.iter().find(|who| who.key_id() == *kid)
    }
}
