//! The trust file: what a reader keeps, so that trust never comes from what is being checked
//! (formats.md 1; C2SP tlog-policy).
//!
//! The operator exports it once; the reader stores it. It names the log's origin, the providers whose
//! `add-data` events count and the sequencers whose blocks count. Which signatures make a checkpoint
//! count, the log's and those of witnesses, is said by its [`policy`](crate::policy).

use std::collections::BTreeSet;

use chordae_base::{Failure, KeyId, Outcome, limits};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::TrustedLog,
    keys::{PublicIdentity, Role},
    policy::Policy,
};

pub use crate::policy::policy_text;

/// Bytes of a trust file.
const TEXT_MAX: usize = 1024 * 1024;

/// What a reader trusts. Plain data: [`TrustFile::parse`] and [`TrustFile::policy`] check it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustFile {
    /// The log's name; tokens are addressed to it.
    pub origin: String,
    /// tlog-policy text.
    pub policy: String,
    /// Whose `add-data` and `audit-head` events count; sealing keys for grants.
    pub providers: Vec<PublicIdentity>,
    /// Whose blocks count.
    pub sequencers: Vec<PublicIdentity>,
    /// Those of all these keys, logs and witnesses of the policy too, that sign no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// PEM of the certificate authority, for TLS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A key that was replaced. What it signed before that counts as ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retired {
    /// SHA-256 of its 32 bytes, whatever its role.
    pub key: KeyId,
    /// Leaves of the log up to the end of the batch that retired it: it counts in these entries, and for
    /// checkpoints up to this size.
    pub size: u64,
}

impl Retired {
    /// Whether what the key signed as entry `leaf` of the log counts.
    ///
    /// # Errors
    /// `Refused`, naming the size at which it was retired.
    pub fn in_force(&self, leaf: u64) -> Outcome<()> {
        let Self { key, size } = self;
        if leaf < *size {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "its signer's key {key} was retired at size {size} of the log"
        )))
    }
}

impl TrustFile {
    /// Reads a trust file and checks all of it.
    ///
    /// # Errors
    /// `BadInput` for JSON that is not a trust file, an identity in the wrong role, or a policy that
    /// is malformed or of another origin.
    pub fn parse(text: &str) -> Outcome<Self> {
        if text.len() > TEXT_MAX {
            return Err(Failure::bad_input("the trust file is longer than 1 MiB"));
        }
        let file: Self = serde_json::from_str(text)
            .map_err(|e| Failure::bad_input(format!("not a trust file: {e}")))?;
        file.policy()?;
        let retired: BTreeSet<&KeyId> = file.retired.iter().map(|one| &one.key).collect();
        if retired.len() < file.retired.len() || retired.len() > limits::RETIRED_KEYS_MAX {
            return Err(Failure::bad_input(
                "trust file: a key is retired twice, or there are more than 4,096",
            ));
        }
        let misplaced = |list: &[PublicIdentity], role: Role| {
            list.iter()
                .find(|who| who.role != role)
                .map(|who| who.name.clone())
        };
        let wrong = misplaced(&file.providers, Role::Provider)
            .or_else(|| misplaced(&file.sequencers, Role::Sequencer));
        match wrong {
            Some(name) => Err(Failure::bad_input(format!(
                "trust file: {name:?} is listed in a role that its identity does not have"
            ))),
            None => Ok(file),
        }
    }

    /// The JSON text, one object with a line feed at the end.
    ///
    /// # Errors
    /// `Internal` if it cannot be written.
    pub fn to_json(&self) -> Outcome<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|t| t + "\n")
            .map_err(|e| Failure::internal(format!("trust file: {e}")))
    }

    /// Whether a key stands anywhere in this file: a provider's, a sequencer's, a log's or a witness's.
    pub fn names(&self, key: &[u8; 32]) -> bool {
        let parties = self.providers.iter().chain(&self.sequencers);
        let in_policy = |policy: Policy| {
            let logs = policy.logs.iter().map(TrustedLog::key);
            let witnesses = policy.witnesses.iter().map(|w| w.witness.key());
            logs.chain(witnesses).any(|named| named == *key)
        };
        parties.map(|who| &who.sign).any(|named| named == key) || self.policy().is_ok_and(in_policy)
    }

    /// Whether what a key signed as entry `leaf` of the log counts, as far as its retirement goes.
    ///
    /// # Errors
    /// `Refused`, naming the size at which it was retired.
    pub fn in_force(&self, kid: &KeyId, leaf: u64) -> Outcome<()> {
        self.retired(kid)
            .map_or(Ok(()), |retired| retired.in_force(leaf))
    }

    /// When a key was retired; none if it is in force, or not known here.
    pub fn retired(&self, kid: &KeyId) -> Option<&Retired> {
        self.retired.iter().find(|retired| retired.key == *kid)
    }

    /// The policy, with every log of this file's origin, retired keys with their bounds.
    ///
    /// # Errors
    /// See [`Self::parse`].
    pub fn policy(&self) -> Outcome<Policy> {
        let policy = Policy::parse(&self.policy).map_err(|e| e.during("trust file: policy"))?;
        match policy.logs.iter().find(|log| log.origin() != self.origin) {
            None => Ok(policy.retiring(&self.retired)),
            Some(log) => Err(Failure::bad_input(format!(
                "trust file: the policy trusts log {:?}, the origin is {:?}",
                log.origin(),
                self.origin
            ))),
        }
    }

    /// The provider with this key id.
    pub fn provider(&self, kid: &KeyId) -> Option<&PublicIdentity> {
        self.providers.iter().find(|who| who.key_id() == *kid)
    }

    /// The sequencer with this key id.
    pub fn sequencer(&self, kid: &KeyId) -> Option<&PublicIdentity> {
        self.sequencers.iter().find(|who| who.key_id() == *kid)
    }
}
