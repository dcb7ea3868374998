//! `chordae key`, `trust`, `token`: what needs no server.

use std::{path::Path, sync::Arc};

use chordae_base::{
    Digest, Failure, KeyId, Outcome,
    seams::{self, Clock, Entropy, real},
    time::SECOND_NS,
};
use chordae_chain::{
    keys::{Role, SecretKeys, key_id},
    token::{self, Claims},
    trust::TrustFile,
};
use chordae_ingest::fanout::NoFanout;
use sha2::{Digest as _, Sha256};

use super::say;
use crate::{
    Verdict,
    cli::{RotateArgs, TokenArgs},
    folder::{self, Folder},
    keyfile, keyring, rotation, server,
};

/// How long the tokens that we make live.
const TOKEN_S: i64 = 120;

/// Reads a role that a person may have.
///
/// # Errors
/// `BadInput` naming the roles there are.
pub(crate) fn role(text: &str) -> Outcome<Role> {
    let known = [
        Role::Patient,
        Role::Requester,
        Role::Provider,
        Role::Operator,
        Role::Auditor,
        Role::Witness,
    ];
    known
        .into_iter()
        .find(|r| r.as_str() == text)
        .ok_or_else(|| {
            Failure::bad_input(format!(
                "{text:?}: use patient, requester, provider, operator, auditor or witness"
            ))
        })
}

pub(super) fn new(role_text: &str, name: &str, out: &Path) -> Outcome<Verdict> {
    let keys = keyfile::make(out, name, role(role_text)?, &real::OsEntropy)?;
    say(format!(
        "{} {}",
        keyfile::public_path(out).display(),
        keys.key_id()
    ));
    Ok(Verdict::Done)
}

/// Replaces a key of a data folder.
pub(super) fn rotate(args: &RotateArgs) -> Outcome<Verdict> {
    let home = Folder::new(&args.data);
    let _held = home.hold()?;
    let seams = server::real(Arc::new(NoFanout));
    // What a crash cut off comes first; it may be this very change.
    let mut done = rotation::finish(&home, &seams)?;
    let role: Role = args.role.parse()?;
    if done.iter().all(|changed| changed.role != role) {
        match (role, &args.name, &args.vkey) {
            (Role::Witness, Some(name), Some(vkey)) => {
                let change = rotation::WitnessChange {
                    name: name.clone(),
                    vkey: vkey.clone(),
                    url: args.url.clone(),
                };
                rotation::begin_witness(&home, &change, &seams)?;
            }
            (Role::Witness, ..) => {
                return Err(Failure::bad_input(
                    "which witness? --name NAME of the policy, and its new --vkey",
                ));
            }
            _ => rotation::begin(&home, role, &seams)?,
        }
        done.extend(rotation::finish(&home, &seams)?);
    }
    for rotation::Changed {
        role,
        old,
        new,
        size,
    } in done
    {
        say(format!(
            "{role} key {new} follows {old}, which counts up to size {size} of the log"
        ));
    }
    say("in force from the next start; readers need the new trust file (chordae trust export)");
    Ok(Verdict::Done)
}

/// Reads a trust file.
///
/// # Errors
/// `BadInput`, naming the file.
pub(crate) fn read_trust(path: &Path) -> Outcome<TrustFile> {
    TrustFile::parse(&folder::read_small(path)?).map_err(|e| e.during(path.display()))
}

pub(super) fn export_trust(data: &Path, out: &Path) -> Outcome<Verdict> {
    let trust = read_trust(&Folder::new(data).key("trust.json"))?;
    folder::write_public(out, &trust.to_json()?)?;
    say(out.display());
    Ok(Verdict::Done)
}

/// Prints the keys that a trust file names, one a line, each with its fingerprint.
pub(super) fn show_trust(file: &Path) -> Outcome<Verdict> {
    let trust = read_trust(file)?;
    let policy = trust.policy()?;
    let (providers, sequencers) = (trust.providers.iter(), trust.sequencers.iter());
    let parties = providers.map(|who| ("provider", who.name.as_str(), who.sign));
    let sequencers = sequencers.map(|who| ("sequencer", who.name.as_str(), who.sign));
    let logs = policy.logs.iter();
    let logs = logs.map(|log| ("log", log.origin(), log.key()));
    let witnesses = policy.witnesses.iter();
    let witnesses = witnesses.map(|w| ("witness", w.name.as_str(), w.witness.key()));
    for (role, name, key) in parties.chain(logs).chain(witnesses).chain(sequencers) {
        let kid = key_id(&key);
        let retired = trust.retired(&kid).map_or_else(String::new, |retired| {
            format!("  retired at size {} of the log", retired.size)
        });
        say(format!("{role} {name}  {}{retired}", fingerprint(&kid)));
    }
    Ok(Verdict::Done)
}

/// A key id in groups of four digits, as strips show it.
fn fingerprint(kid: &KeyId) -> String {
    let digits: Vec<char> = kid.to_string().chars().collect();
    let groups: Vec<String> = digits.chunks(4).map(String::from_iter).collect();
    groups.join(" ")
}

/// Puts another policy into the trust file of a data folder, or shows the one in force.
pub(super) fn policy(data: &Path, policy: Option<&Path>) -> Outcome<Verdict> {
    let home = Folder::new(data);
    let path = home.key("trust.json");
    let trust = read_trust(&path)?;
    let Some(policy) = policy else {
        say(trust.policy.trim_end());
        return Ok(Verdict::Done);
    };
    // A server reads it at its start alone, and would go on by another one than its readers.
    let _held = home.hold()?;
    let text = folder::read_small(policy)?;
    let trust = TrustFile {
        policy: text,
        ..trust
    };
    let written = trust.to_json()?;
    TrustFile::parse(&written).map_err(|e| e.during(policy.display()))?;
    keyring::named_by(&home, trust)?;
    let done = seams::write_atomic(&real::OsDisk, &path, written.as_bytes());
    done.map_err(|e| Failure::os(path.display(), &e))?;
    say("in force from the next start; readers need the new trust file (chordae trust export)");
    Ok(Verdict::Done)
}

/// A fresh request token for one request; `body` where it must cover that as well.
///
/// # Errors
/// `BadInput` when it would be too long.
pub(crate) fn sign_request(
    keys: &SecretKeys,
    origin: &str,
    session: Option<&str>,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
) -> Outcome<String> {
    let mut jti = [0; 16];
    real::OsEntropy.fill(&mut jti);
    let iat = real::OsClock.wall_ns() / SECOND_NS;
    let claims = Claims {
        aud: origin.to_owned(),
        sid: session.map(str::parse).transpose()?,
        htm: method.to_owned(),
        target: target.to_owned(),
        body: body.map(|b| Digest(Sha256::digest(b).into())),
        iat,
        exp: iat + TOKEN_S,
        jti: hex::encode(jti),
    };
    token::sign(&claims, keys)
}

pub(super) fn token(args: &TokenArgs) -> Outcome<Verdict> {
    let keys = keyfile::read(&args.key)?;
    let origin = match (&args.aud, &args.trust) {
        (Some(aud), _) => aud.clone(),
        (None, Some(path)) => read_trust(path)?.origin,
        (None, None) => return Err(Failure::bad_input("name the origin with --trust or --aud")),
    };
    let uri: hyper::Uri = args
        .url
        .parse()
        .map_err(|_| Failure::bad_input(format!("{:?} is not a URL", args.url)))?;
    let target = uri.path_and_query().map_or("/", |t| t.as_str());
    let body = args.body.as_deref().map(std::fs::read).transpose();
    let body = body.map_err(|e| Failure::os("read the --body", &e))?;
    say(sign_request(
        &keys,
        &origin,
        args.session.as_deref(),
        &args.method,
        target,
        body.as_deref(),
    )?);
    Ok(Verdict::Done)
}
