//! A key of the installation goes, another one comes (decision 0040).
//!
//! ```text
//! keys/{role}.next.pem, synced ─▶ `rotate-key` in the log ─▶ keys/trust.json ─▶ keys/{role}.pem
//! from here on it is decided       the old key retires at     names both, and    the new one signs
//!                                  the end of this batch      where the old ends
//! ```
//!
//! A crash before the first file is durable leaves the old key in force. After it the next start, or the
//! same command again, comes here and does what is left, each step only if it is not done: the new key is
//! in force before anything else is signed. A witness has its own key at home; its name and its new key
//! wait in `keys/witness.next.json` in the same way.
//!
//! The sealing half of a key stays: records that are sealed to it must open for as long as they live.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_anchor::{
    Ledger, LedgerKeys, Parties,
    ledger::{Cadence, Settings},
};
use chordae_base::{
    Failure, KeyId, Outcome,
    seams::{Disk, write_atomic},
};
use chordae_chain::{
    checkpoint::TrustedLog,
    cosignature::TrustedWitness,
    event::{self, Event},
    keys::{Role, SecretKeys, key_id},
    trust::{Retired, TrustFile},
};
use serde::{Deserialize, Serialize};

use crate::{
    assemble::Seams,
    commands::read_trust,
    folder::{self, Folder},
    keyfile,
    keyring::{self, Keyring},
};

/// Roles whose secret keys lie in `keys/`, each with its file.
const OWN: [(Role, &str); 3] = [
    (Role::Provider, "provider"),
    (Role::Sequencer, "sequencer"),
    (Role::Log, "log"),
];
const WITNESS: &str = "witness.next.json";

/// A witness that gets another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessChange {
    /// Its name in the policy; stays.
    pub name: String,
    /// Its new verifier key (C2SP).
    pub vkey: String,
    /// Where it takes checkpoints.
    pub url: Option<String>,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What the key is for.
    pub role: Role,
    /// The key that is retired.
    pub old: KeyId,
    /// Its successor.
    pub new: KeyId,
    /// The size of the log up to which the old one counts.
    pub size: u64,
}

/// Decides on a new key for a role; [`finish`] does the rest. One that was decided on before is kept. The
/// folder is held, and no server runs over it.
///
/// # Errors
/// `BadInput` for a role whose key is not here, those of [`keyring::open`], `Io`.
pub fn begin(home: &Folder, role: Role, seams: &Seams) -> Outcome<()> {
    let own = OWN.iter().find(|(own, _)| *own == role);
    let Some((_, name)) = own else {
        return Err(Failure::bad_input(format!(
            "a {role} changes its key where it has it; here are those of provider, sequencer and log"
        )));
    };
    let next = next_of(home, name);
    if next.exists() {
        return Ok(());
    }
    // The key that goes must be the one that readers trust.
    keyring::open(home)?;
    let new = SecretKeys {
        seal: keyfile::read(&file_of(home, name))?.seal,
        ..SecretKeys::new(&*seams.entropy, false)?
    };
    write(&*seams.disk, &next, &new.to_pem()?)
}

/// As [`begin`], for a witness of the policy.
///
/// # Errors
/// `NotFound` for a name that the policy does not have, `BadInput` for what is no verifier key, `Io`.
pub fn begin_witness(home: &Folder, change: &WitnessChange, seams: &Seams) -> Outcome<()> {
    let ring = keyring::open(home)?;
    let text = serde_json::to_string(change).map_err(|e| Failure::internal(e.to_string()))?;
    // Held against the policy before it is decided on.
    witness_changed(&ring.trust, change, 0)?;
    write(&*seams.disk, &home.key(WITNESS), &text)
}

/// Does what is left of changes that were decided on; nothing, if there are none. The folder is held.
///
/// # Errors
/// `Damaged`, `Refused` as those of the ledger and of [`keyring::open`]; `Io`. What is left then is done
/// by the next call.
pub fn finish(home: &Folder, seams: &Seams) -> Outcome<Vec<Changed>> {
    let mut done = Vec::new();
    for (role, name) in OWN {
        if next_of(home, name).exists() {
            done.push(own(home, role, name, seams).map_err(|e| e.during("change of a key"))?);
        }
    }
    if home.key(WITNESS).exists() {
        done.push(witness(home, seams).map_err(|e| e.during("change of a witness's key"))?);
    }
    Ok(done)
}

fn own(home: &Folder, role: Role, name: &str, seams: &Seams) -> Outcome<Changed> {
    let (file, next) = (file_of(home, name), next_of(home, name));
    let (old, new) = (keyfile::read(&file)?, keyfile::read(&next)?);
    let trust_path = home.key("trust.json");
    let trust = read_trust(&trust_path)?;
    let size = match trust.retired(&old.key_id()) {
        Some(retired) => retired.size,
        None => {
            let ring = keyring::open(home)?;
            let size = record(home, &ring, role, old.key_id(), new.sign_public(), seams)?;
            let trust = changed(ring.trust, role, name, &old, &new, size)?;
            // Crash before: told again by the log. After: readers of the new file know where the old key ends.
            write(&*seams.disk, &trust_path, &trust.to_json()?)?;
            size
        }
    };
    let public = new.public(name, role).to_json();
    write(&*seams.disk, &keyfile::public_path(&file), &public)?;
    // Crash before: the old file is there, retired, and the next start comes here. After: the new one signs.
    let moved = seams.disk.rename(&next, &file);
    moved
        .and_then(|()| seams.disk.sync_dir(&home.keys()))
        .map_err(|e| Failure::os(format_args!("rename {}", next.display()), &e))?;
    Ok(Changed {
        role,
        old: old.key_id(),
        new: new.key_id(),
        size,
    })
}

fn witness(home: &Folder, seams: &Seams) -> Outcome<Changed> {
    let path = home.key(WITNESS);
    let change: WitnessChange = serde_json::from_str(&folder::read_small(&path)?)
        .map_err(|e| Failure::bad_input(format!("{}: {e}", path.display())))?;
    let new = TrustedWitness::from_vkey(&change.vkey)?.key();
    let ring = keyring::open(home)?;
    let witnesses = ring.trust.policy()?.witnesses;
    let (old, size) = if witnesses.iter().any(|w| w.witness.key() == new) {
        // The trust file was written already.
        let last = ring.trust.retired.last();
        last.map(|r| (r.key, r.size))
            .ok_or_else(|| Failure::refused("this witness's key is in force already"))?
    } else {
        let old = witness_key(&ring.trust, &change.name)?;
        let size = record(home, &ring, Role::Witness, old, new, seams)?;
        let trust = witness_changed(&ring.trust, &change, size)?;
        write(&*seams.disk, &home.key("trust.json"), &trust.to_json()?)?;
        (old, size)
    };
    let gone = seams.disk.remove(&path);
    gone.and_then(|()| seams.disk.sync_dir(&home.keys()))
        .map_err(|e| Failure::os(path.display(), &e))?;
    Ok(Changed {
        role: Role::Witness,
        old,
        new: key_id(&new),
        size,
    })
}

/// Who may write into the log here.
struct Own(Vec<(KeyId, Role, [u8; 32])>);

impl Parties for Own {
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])> {
        let found = self.0.iter().find(|(own, ..)| own == kid);
        found.map(|(_, role, key)| (*role, *key))
    }
}

/// Makes sure that the log says it; the size up to which the old key counts.
fn record(
    home: &Folder,
    ring: &Keyring,
    role: Role,
    old: KeyId,
    new: [u8; 32],
    seams: &Seams,
) -> Outcome<u64> {
    let provider = &ring.provider;
    let own = (provider.key_id(), Role::Provider, provider.sign_public());
    let settings = Settings {
        data_dir: home.root().to_owned(),
        origin: ring.trust.origin.clone(),
        policy: Some(ring.trust.policy()?),
        cadence: Cadence::default(),
    };
    let keys = LedgerKeys {
        log: ring.log.clone(),
        sequencer: ring.sequencer.clone(),
    };
    let ledger = Ledger::open(
        Arc::clone(&seams.disk),
        settings,
        keys,
        Arc::new(Own(vec![own])),
        Arc::clone(&seams.clock),
        &seams.threads,
        &prometheus::Registry::new(),
    )?;
    let told = tell(&ledger, provider, role, old, new, seams);
    ledger.stop();
    told
}

fn tell(
    ledger: &Ledger,
    provider: &SecretKeys,
    role: Role,
    old: KeyId,
    new: [u8; 32],
    seams: &Seams,
) -> Outcome<u64> {
    if let Some(size) = ledger.retired(role, old) {
        return Ok(size);
    }
    let time_ms = u64::try_from(seams.clock.wall_ns() / 1_000_000).unwrap_or(0);
    let event = Event::RotateKey {
        role,
        old,
        new,
        time_ms,
    };
    ledger.submit(event::sign(&event, provider)?)?;
    let size = ledger.retired(role, old);
    size.ok_or_else(|| Failure::internal("the log has the change of a key and does not say so"))
}

/// The trust file after the change.
fn changed(
    trust: TrustFile,
    role: Role,
    name: &str,
    old: &SecretKeys,
    new: &SecretKeys,
    size: u64,
) -> Outcome<TrustFile> {
    let mut trust = trust;
    match role {
        Role::Provider => trust.providers.push(new.public(name, role)),
        Role::Sequencer => trust.sequencers.push(new.public(name, role)),
        _ => {
            let vkey = |keys: &SecretKeys| {
                TrustedLog::new(&trust.origin, &keys.sign_public()).map(|log| log.vkey())
            };
            let (was, is) = (vkey(old)?, vkey(new)?);
            let lines = trust.policy.lines().map(|line| {
                let mut words = line.split_whitespace();
                match (words.next(), words.next()) {
                    (Some("log"), Some(key)) if key == was => format!("{line}\nlog {is}\n"),
                    _ => format!("{line}\n"),
                }
            });
            trust.policy = lines.collect();
        }
    }
    let key = old.key_id();
    trust.retired.push(Retired { key, size });
    checked(trust)
}

/// The trust file after the change of a witness: its name becomes a group of the old key, for what was
/// cosigned before, and the new one; whatever names it means either.
fn witness_changed(trust: &TrustFile, change: &WitnessChange, size: u64) -> Outcome<TrustFile> {
    let WitnessChange { name, vkey, url } = change;
    let key = witness_key(trust, name)?;
    TrustedWitness::from_vkey(vkey)?;
    let url = url
        .as_ref()
        .map_or_else(String::new, |url| format!(" {url}"));
    let lines = trust.policy.lines().map(|line| {
        let mut words = line.split_whitespace();
        let (kind, named, was) = (words.next(), words.next(), words.next());
        match (kind, was) {
            (Some("witness"), Some(was)) if named == Some(name.as_str()) => format!(
                "witness {name}.until-{size} {was}\nwitness {name}.from-{size} {vkey}{url}\n\
                 group {name} any {name}.until-{size} {name}.from-{size}\n"
            ),
            _ => format!("{line}\n"),
        }
    });
    let mut retired = trust.retired.clone();
    retired.push(Retired { key, size });
    checked(TrustFile {
        policy: lines.collect(),
        retired,
        ..trust.clone()
    })
}

/// Key id of a witness of the policy that is in force under this name.
fn witness_key(trust: &TrustFile, name: &str) -> Outcome<KeyId> {
    let policy = trust.policy()?;
    let found = policy.witnesses.iter().find(|w| w.name == name);
    let key = found.map(|w| key_id(&w.witness.key()));
    key.filter(|key| trust.retired(key).is_none())
        .ok_or_else(|| {
            Failure::not_found(format!(
                "the policy has no witness {name:?} whose key is in force (chordae trust policy shows it)"
            ))
        })
}

/// What readers will be given must be what they can read.
fn checked(trust: TrustFile) -> Outcome<TrustFile> {
    TrustFile::parse(&trust.to_json()?)
}

fn file_of(home: &Folder, name: &str) -> PathBuf {
    home.key(&format!("{name}.pem"))
}

fn next_of(home: &Folder, name: &str) -> PathBuf {
    home.key(&format!("{name}.next.pem"))
}

/// Whole or not at all, and for its owner alone.
fn write(disk: &dyn Disk, path: &Path, text: &str) -> Outcome<()> {
    write_atomic(disk, path, text.as_bytes())
        .map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))
}
