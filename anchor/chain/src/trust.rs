//! The trust file: what a reader keeps, so that trust never comes from what is being checked
//! (formats.md 1; C2SP tlog-policy).
//!
//! The operator exports it once; the reader stores it. It names the log's origin, the providers whose
//! `add-data` events count and the sequencers whose blocks count. Which signatures make a checkpoint
//! count, the log's and those of witnesses, is said by its [`policy`](crate::policy).

use chordae_base::{Failure, KeyId, Outcome};
use serde::{Deserialize, Serialize};

use crate::{
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
    /// PEM of the certificate authority, for TLS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
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

    /// The policy, with every log of this file's origin.
    ///
    /// # Errors
    /// See [`Self::parse`].
    pub fn policy(&self) -> Outcome<Policy> {
        let policy = Policy::parse(&self.policy).map_err(|e| e.during("trust file: policy"))?;
        match policy.logs.iter().find(|log| log.origin() != self.origin) {
            None => Ok(policy),
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
