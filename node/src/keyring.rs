//! The keys of an installation, held against what its readers were told to trust.
//!
//! A key file that was damaged or mixed up is still a key: what it signs would be refused by every reader,
//! and nobody here would know. So nothing is signed before `keys/trust.json` names each key: provider and
//! sequencer with all their halves, the log in the policy, and the certificate authority.

use chordae_base::{Failure, Outcome};
use chordae_chain::{
    checkpoint::TrustedLog,
    keys::{PublicIdentity, SecretKeys},
    trust::TrustFile,
};

use crate::{
    commands::read_trust,
    folder::{self, Folder},
    keyfile,
};

/// See the module. The product has it from [`open`] only.
#[derive(Clone)]
pub struct Keyring {
    /// Signs anchors; grants are sealed to it.
    pub provider: SecretKeys,
    /// Closes batches.
    pub sequencer: SecretKeys,
    /// Signs checkpoints.
    pub log: SecretKeys,
    /// What readers trust.
    pub trust: TrustFile,
}

/// Reads the keys and compares them with the trust file.
///
/// # Errors
/// `Refused` for a key file that others may read, and for a key that the trust file does not name;
/// `BadInput` for one that is none; each names its file.
pub fn open(home: &Folder) -> Outcome<Keyring> {
    named_by(home, read_trust(&home.key("trust.json"))?)
}

/// As [`open`], by another trust file.
///
/// # Errors
/// Those of [`open`].
pub(crate) fn named_by(home: &Folder, trust: TrustFile) -> Outcome<Keyring> {
    let path = home.key("trust.json");
    let stranger = |file: &str| {
        Failure::refused(format!(
            "{} is not the key that {} names: readers would refuse what it signs; bring back the right file",
            home.key(file).display(),
            path.display()
        ))
    };
    let named = |all: &[PublicIdentity], keys: &SecretKeys| {
        all.iter()
            .any(|who| who.sign == keys.sign_public() && who.seal == keys.seal_public())
    };
    let [provider, sequencer, log] = ["provider.pem", "sequencer.pem", "log.pem"];
    let keys = |file| keyfile::read(&home.key(file));
    let ring = Keyring {
        provider: keys(provider)?,
        sequencer: keys(sequencer)?,
        log: keys(log)?,
        trust,
    };
    for (keys, file) in [
        (&ring.provider, provider),
        (&ring.sequencer, sequencer),
        (&ring.log, log),
    ] {
        ring.trust.in_force(&keys.key_id(), u64::MAX).map_err(|e| {
            let (path, why) = (home.key(file), e.why);
            Failure::refused(format!(
                "{}: {why}; bring back the file of its successor",
                path.display()
            ))
        })?;
    }
    if !named(&ring.trust.providers, &ring.provider) {
        return Err(stranger(provider));
    }
    if !named(&ring.trust.sequencers, &ring.sequencer) {
        return Err(stranger(sequencer));
    }
    let own = TrustedLog::new(&ring.trust.origin, &ring.log.sign_public())?;
    if !ring.trust.policy()?.logs.contains(&own) {
        return Err(stranger(log));
    }
    let ca = home.key("ca.crt");
    if let Some(trusted) = &ring.trust.ca
        && ca.exists()
        && *trusted != folder::read_small(&ca)?
    {
        return Err(stranger("ca.crt"));
    }
    Ok(ring)
}
