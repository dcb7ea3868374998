//! Policies: which signatures make a checkpoint count (C2SP tlog-policy).
//!
//! ```text
//! log chordae.local/x+1f2e3d4c+AW56...                  one of the logs must have signed
//! witness A witness.example/a+aa4a09d1+BOpK... [url]
//! witness B ...
//! witness C ...
//! group G 2 A B C                                       any, all, or so many of its members
//! quorum G                                              none: the log's signature is enough
//! ```
//!
//! A checkpoint that the log has signed and too few witnesses have cosigned is not damaged: their
//! cosignatures may come. [`Policy::open`] tells it apart, and what is proven by it is at best
//! `unanchored`. A cosignature that does not hold counts for nothing and against nothing.
//!
//! Keys that were retired ([`Policy::retiring`]) count for what was signed before that, up to a size.
//!
//! Only Ed25519 cosignatures (0x04) can be demanded: a policy that names a witness of another type is
//! refused, because it would never be met. A key under two names is refused, and so is a log's key as
//! a witness: each would vouch twice.

use std::collections::BTreeMap;

use chordae_base::{Failure, Outcome};

use crate::{
    checkpoint::{Checkpoint, Claim, TrustedLog},
    cosignature::{self, TrustedWitness},
    keys::key_id,
    trust::Retired,
};

/// Bytes of a policy.
const TEXT_MAX: usize = 1024 * 1024;
/// Logs of a policy, and witnesses, and groups, each (C2SP asks for at least 32).
const NAMES_MAX: usize = 64;

/// What a checkpoint is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// One of them must have signed; there is at least one.
    pub logs: Vec<TrustedLog>,
    /// Who may be asked to cosign, demanded or not.
    pub witnesses: Vec<PolicyWitness>,
    /// Each names only what stands before it.
    groups: Vec<Group>,
    /// The witness or group that must have cosigned; `None` where nobody must.
    quorum: Option<String>,
}

/// A witness of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in this policy; means nothing outside it.
    pub name: String,
    /// Its key, with the name that it signs under.
    pub witness: TrustedWitness,
    /// Where it takes checkpoints (the submission prefix of C2SP tlog-witness).
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    threshold: usize,
    members: Vec<String>,
}

/// A checkpoint that a trusted log has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the log has signed.
    pub checkpoint: Checkpoint,
    /// The witnesses of the policy that have cosigned it, by their names there.
    pub cosigned: Vec<Cosigned>,
    /// What the quorum lacks, for people: `C`, or `1 of G (B, C)`. `None`: the checkpoint counts.
    pub lacks: Option<String>,
}

/// Who has cosigned, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The witness's name in the policy.
    pub witness: String,
    /// When it signed, seconds since 1970 by its clock.
    pub time_s: u64,
}

/// The policy of a log without witnesses, as `trust export` writes it.
pub fn policy_text(log: &TrustedLog) -> String {
    format!("log {}\nquorum none\n", log.vkey())
}

impl Opened {
    /// Whether the quorum has cosigned: the checkpoint counts.
    pub fn counts(&self) -> bool {
        self.lacks.is_none()
    }
}

impl Policy {
    /// Reads tlog-policy text.
    ///
    /// # Errors
    /// `BadInput` naming the line that is wrong.
    pub fn parse(text: &str) -> Outcome<Self> {
        if text.len() > TEXT_MAX || text.bytes().any(is_control) {
            return Err(Failure::bad_input(
                "too long, or it holds a control character",
            ));
        }
        let mut reading = Reading::default();
        for (n, line) in (1..).zip(text.split('\n')) {
            reading
                .line(line)
                .map_err(|e| e.during(format_args!("line {n}")))?;
        }
        let quorum = reading
            .quorum
            .ok_or_else(|| Failure::bad_input("there is no quorum line"))?;
        if reading.logs.is_empty() {
            return Err(Failure::bad_input("there is no log line"));
        }
        let (logs, witnesses) = (reading.logs, reading.witnesses);
        if let Some(own) = witnesses
            .iter()
            .find(|w| logs.iter().any(|log| log.key() == w.witness.key()))
        {
            let name = &own.name;
            return Err(Failure::bad_input(format!(
                "the key of witness {name:?} is a log's: it would vouch for itself"
            )));
        }
        Ok(Self {
            logs,
            witnesses,
            groups: reading.groups,
            quorum: Some(quorum).filter(|name| name != NONE),
        })
    }

    /// The same, with some of its keys retired: each counts for checkpoints up to its size only.
    #[must_use]
    pub fn retiring(mut self, retired: &[Retired]) -> Self {
        for Retired { key, size } in retired {
            let logs = self.logs.iter_mut();
            logs.filter(|log| key_id(&log.key()) == *key)
                .for_each(|log| log.retire(*size));
            let witnesses = self.witnesses.iter_mut().map(|w| &mut w.witness);
            witnesses
                .filter(|witness| key_id(&witness.key()) == *key)
                .for_each(|witness| witness.retire(*size));
        }
        self
    }

    /// Whether somebody beside the log must have signed.
    pub fn demands_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Opens a signed note: one of the logs has signed it, and so many witnesses have cosigned it.
    ///
    /// # Errors
    /// `BadInput` for what is no checkpoint, `Damaged` for one that none of the logs has signed while
    /// its key was in force. A quorum that is not met is no error: see [`Opened::lacks`].
    pub fn open(&self, text: &str) -> Outcome<Opened> {
        let claim = Claim::parse(text)?;
        let mut signed = Err(Failure::bad_input("the policy trusts no log"));
        // Those that have signed and are retired come last: why they do not count says more.
        let (signers, others): (Vec<_>, Vec<_>) = self
            .logs
            .iter()
            .partition(|log| claim.signature(*log).is_ok());
        for log in others.into_iter().chain(signers) {
            signed = claim.signed_by(log);
            if signed.is_ok() {
                break;
            }
        }
        let checkpoint = signed?;
        let cosigned: Vec<Cosigned> = self
            .witnesses
            .iter()
            .filter_map(|w| {
                cosignature::find(&claim, &w.witness).map(|found| Cosigned {
                    witness: w.name.clone(),
                    time_s: found.time_s,
                })
            })
            .collect();
        let lacks = self.lacks(&cosigned);
        Ok(Opened {
            checkpoint,
            cosigned,
            lacks,
        })
    }

    /// What the quorum lacks. A name that is not known lacks: nothing counts by mistake.
    fn lacks(&self, cosigned: &[Cosigned]) -> Option<String> {
        let quorum = self.quorum.as_ref()?;
        let mut known: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for witness in &self.witnesses {
            let name = &witness.name;
            let there = cosigned.iter().any(|c| c.witness == *name);
            known.insert(name, (!there).then(|| name.clone()));
        }
        for group in &self.groups {
            let lacking: Vec<String> = group
                .members
                .iter()
                .filter_map(|m| known.get(m.as_str()).cloned().unwrap_or(Some(m.clone())))
                .collect();
            let have = group.members.len() - lacking.len();
            let short = group.threshold.saturating_sub(have);
            let word = format!("{short} of {} ({})", group.name, lacking.join(", "));
            known.insert(&group.name, (short > 0).then_some(word));
        }
        let missing = || Some(quorum.clone());
        known.remove(quorum.as_str()).unwrap_or_else(missing)
    }
}

/// The quorum that demands nobody.
const NONE: &str = "none";

/// What a policy must not hold (tlog-policy "Character set").
fn is_control(b: u8) -> bool {
    (b < b' ' && b != b'\t' && b != b'\n') || b == 0x7f
}

/// A policy, as far as its lines have been read.
#[derive(Default)]
struct Reading {
    logs: Vec<TrustedLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// Witnesses and groups by name: whether it is a group's member already.
    names: BTreeMap<String, bool>,
    quorum: Option<String>,
}

impl Reading {
    fn line(&mut self, line: &str) -> Outcome<()> {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
        match *words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey] | ["log", vkey, _] => self.log(vkey),
            ["witness", name, vkey] => self.witness(name, vkey, None),
            ["witness", name, vkey, url] => self.witness(name, vkey, Some(url.to_owned())),
            ["group", name, k, ref members @ ..] => self.group(name, k, members),
            ["quorum", name] => self.set_quorum(name),
            _ => Err(Failure::bad_input(
                "not a log, witness, group or quorum line",
            )),
        }
    }

    fn log(&mut self, vkey: &str) -> Outcome<()> {
        let log = TrustedLog::from_vkey(vkey)?;
        if self.logs.len() >= NAMES_MAX || self.logs.iter().any(|l| l.key() == log.key()) {
            return Err(Failure::bad_input(
                "a log key occurs twice, or there are too many logs",
            ));
        }
        self.logs.push(log);
        Ok(())
    }

    /// Two verifier keys of one Ed25519 key are one witness, whatever they call it.
    fn witness(&mut self, name: &str, vkey: &str, url: Option<String>) -> Outcome<()> {
        let witness = TrustedWitness::from_vkey(vkey)?;
        let twice = |w: &PolicyWitness| w.witness.key() == witness.key();
        if self.witnesses.len() >= NAMES_MAX || self.witnesses.iter().any(twice) {
            return Err(Failure::bad_input(
                "a witness key occurs twice, or there are too many witnesses",
            ));
        }
        self.define(name)?;
        self.witnesses.push(PolicyWitness {
            name: name.to_owned(),
            witness,
            url,
        });
        Ok(())
    }

    fn group(&mut self, name: &str, k: &str, members: &[&str]) -> Outcome<()> {
        let threshold = match k {
            "any" => Some(1),
            "all" => Some(members.len()),
            k if k.starts_with('0') || !k.bytes().all(|b| b.is_ascii_digit()) => None,
            k => k.parse().ok(),
        };
        let Some(threshold) = threshold.filter(|k| (1..=members.len()).contains(k)) else {
            return Err(Failure::bad_input(format!(
                "group {name:?} has no usable threshold"
            )));
        };
        for member in members {
            match self.names.get_mut(*member) {
                Some(used) if !*used => *used = true,
                Some(_) => {
                    return Err(Failure::bad_input(format!("{member:?} is a member twice")));
                }
                None => {
                    return Err(Failure::bad_input(format!(
                        "{member:?} is not defined above"
                    )));
                }
            }
        }
        if self.groups.len() >= NAMES_MAX {
            return Err(Failure::bad_input("there are too many groups"));
        }
        self.define(name)?;
        self.groups.push(Group {
            name: name.to_owned(),
            threshold,
            members: members.iter().map(|m| (*m).to_owned()).collect(),
        });
        Ok(())
    }

    fn set_quorum(&mut self, name: &str) -> Outcome<()> {
        if self.quorum.is_some() {
            return Err(Failure::bad_input("there is a second quorum line"));
        }
        if name != NONE && !self.names.contains_key(name) {
            return Err(Failure::bad_input(format!("{name:?} is not defined above")));
        }
        self.quorum = Some(name.to_owned());
        Ok(())
    }

    fn define(&mut self, name: &str) -> Outcome<()> {
        if name == NONE || self.names.contains_key(name) {
            return Err(Failure::bad_input(format!("{name:?} is taken")));
        }
        self.names.insert(name.to_owned(), false);
        Ok(())
    }
}
