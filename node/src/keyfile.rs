//! Key files and public identities on disk (formats.md 1): `NAME.pem`, mode 0600, and `NAME.pem.pub`.

use std::path::{Path, PathBuf};

use chordae_base::{Outcome, seams::Entropy};
use chordae_chain::keys::{PublicIdentity, Role, SecretKeys};

use crate::folder;

/// Where the public identity of a key file lies.
pub fn public_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Makes a key file and its public identity; refuses to replace either.
///
/// # Errors
/// `Io` when a file exists or cannot be written.
pub fn make(path: &Path, name: &str, role: Role, entropy: &dyn Entropy) -> Outcome<SecretKeys> {
    // Roles to which something is sealed have a sealing pair (formats.md 1).
    let sealed = matches!(role, Role::Patient | Role::Requester | Role::Provider);
    let keys = SecretKeys::new(entropy, sealed)?;
    folder::write_secret(path, &keys.to_pem()?)?;
    folder::write_public(&public_path(path), &keys.public(name, role).to_json())?;
    Ok(keys)
}

/// Reads a key file; refuses one that others may read.
///
/// # Errors
/// `Refused` for its mode, `BadInput` for its content, naming the file.
pub fn read(path: &Path) -> Outcome<SecretKeys> {
    SecretKeys::from_pem(&folder::read_secret(path)?).map_err(|e| e.during(path.display()))
}

/// Reads a public identity.
///
/// # Errors
/// `BadInput`, naming the file.
pub fn read_public(path: &Path) -> Outcome<PublicIdentity> {
    PublicIdentity::from_json(&folder::read_small(path)?).map_err(|e| e.during(path.display()))
}
