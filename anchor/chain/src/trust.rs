//! The trust file: what a reader keeps, so that trust never comes from what is being checked
//! (formats.md 1; C2SP tlog-policy).
//!
//! The operator exports it once; the reader stores it. It names the log's origin and key, the
//! providers whose `add-data` events count and the sequencers whose blocks count. The policy is text
//! after tlog-policy. Today's logs have no witnesses, so a policy must end `quorum none`; one that
//! demands cosignatures is read (names, groups and thresholds are checked, so that a typing error is
//! told apart) and then refused, because we could not hold a checkpoint to it: a policy that cannot
//! be enforced must not be believed to be.

use std::collections::BTreeMap;

use chordae_base::{Failure, KeyId, Outcome};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::TrustedLog,
    keys::{PublicIdentity, Role},
};

/// Bytes of a trust file.
const TEXT_MAX: usize = 1024 * 1024;
/// Logs, witnesses and groups of a policy, each (C2SP asks for at least 32).
const NAMES_MAX: usize = 64;

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

/// A policy that we can hold a checkpoint to: signed by one of these logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// At least one.
    pub logs: Vec<TrustedLog>,
}

/// The policy of a log without witnesses, as `trust export` writes it.
pub fn policy_text(log: &TrustedLog) -> String {
    format!("log {}\nquorum none\n", log.vkey())
}

impl TrustFile {
    /// Reads a trust file and checks all of it.
    ///
    /// # Errors
    /// `BadInput` for JSON that is not a trust file, an identity in the wrong role, or a policy that
    /// is malformed, of another origin, or demands what we cannot check.
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

/// What a name of the policy stands for, and whether it is a group's member already.
#[derive(Default)]
struct Reading {
    logs: Vec<TrustedLog>,
    witness_keys: Vec<String>,
    /// name -> listed as a member
    names: BTreeMap<String, bool>,
    quorum: Option<String>,
}

impl Policy {
    /// Reads tlog-policy text.
    ///
    /// # Errors
    /// `BadInput` naming the line that is wrong, or for a policy that demands witnesses.
    pub fn parse(text: &str) -> Outcome<Self> {
        if text.len() > TEXT_MAX || text.bytes().any(|b| b < b' ' && b != b'\t' && b != b'\n') {
            return Err(Failure::bad_input(
                "too long, or it holds a control character",
            ));
        }
        let mut reading = Reading::default();
        for (n, line) in (1..).zip(text.lines()) {
            reading
                .line(line)
                .map_err(|e| e.during(format_args!("line {n}")))?;
        }
        let quorum = reading
            .quorum
            .ok_or_else(|| Failure::bad_input("there is no quorum line"))?;
        if quorum != "none" {
            return Err(Failure::bad_input(format!(
                "quorum {quorum:?} demands witnesses; not supported yet"
            )));
        }
        if reading.logs.is_empty() {
            return Err(Failure::bad_input("there is no log line"));
        }
        Ok(Self { logs: reading.logs })
    }
}

impl Reading {
    fn line(&mut self, line: &str) -> Outcome<()> {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
        match *words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey] | ["log", vkey, _] => self.log(vkey),
            ["witness", name, vkey] | ["witness", name, vkey, _] => self.witness(name, vkey),
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

    /// Cosignature types are not ours to read yet: only that the key has a shape and occurs once.
    fn witness(&mut self, name: &str, vkey: &str) -> Outcome<()> {
        let key = match vkey.split('+').collect::<Vec<_>>().as_slice() {
            [_, id, key] if id.len() == 8 && !key.is_empty() => (*key).to_owned(),
            _ => {
                return Err(Failure::bad_input(format!(
                    "{vkey:?} is not a verifier key"
                )));
            }
        };
        if self.witness_keys.contains(&key) {
            return Err(Failure::bad_input("a witness key occurs twice"));
        }
        self.witness_keys.push(key);
        self.define(name)
    }

    fn group(&mut self, name: &str, k: &str, members: &[&str]) -> Outcome<()> {
        let threshold = match k {
            "any" => Some(1),
            "all" => Some(members.len()),
            k if k.starts_with('0') || !k.bytes().all(|b| b.is_ascii_digit()) => None,
            k => k.parse().ok(),
        };
        if !threshold.is_some_and(|k| (1..=members.len()).contains(&k)) {
            return Err(Failure::bad_input(format!(
                "group {name:?} has no usable threshold"
            )));
        }
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
        self.define(name)
    }

    fn set_quorum(&mut self, name: &str) -> Outcome<()> {
        if self.quorum.is_some() {
            return Err(Failure::bad_input("there is a second quorum line"));
        }
        if name != "none" && !self.names.contains_key(name) {
            return Err(Failure::bad_input(format!("{name:?} is not defined above")));
        }
        self.quorum = Some(name.to_owned());
        Ok(())
    }

    fn define(&mut self, name: &str) -> Outcome<()> {
        let free = name != "none" && !self.names.contains_key(name);
        if !free || self.names.len() >= 2 * NAMES_MAX {
            return Err(Failure::bad_input(format!(
                "{name:?} is taken, or there are too many names"
            )));
        }
        self.names.insert(name.to_owned(), false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(seed: u8) -> TrustedLog {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
        TrustedLog::new("chordae.local/test", &key.to_bytes()).unwrap()
    }

    fn policy(text: &str) -> Outcome<Policy> {
        Policy::parse(
            &text
                .replace("LOG", &log(1).vkey())
                .replace("OTHER", &log(2).vkey()),
        )
    }

    #[test]
    fn a_policy_without_witnesses_is_read_in_every_spelling() {
        assert_eq!(
            Policy::parse(&policy_text(&log(1))).unwrap().logs,
            vec![log(1)]
        );
        let spaced = "# ours\n\n \tlog\tLOG  https://log.example \nlog OTHER\n quorum  none";
        assert_eq!(policy(spaced).unwrap().logs, vec![log(1), log(2)]);
        // Witnesses that nobody demands.
        policy("log LOG\nwitness W w.example+01234567+BAAA\ngroup G 1 W\nquorum none\n").unwrap();
    }

    #[test]
    fn a_policy_that_demands_witnesses_is_refused_and_says_why() {
        for text in [
            "log LOG\nwitness W w.example+01234567+BAAA\nquorum W\n",
            "log LOG\nwitness W w.example+01234567+BAAA\ngroup G any W\nquorum G\n",
        ] {
            let why = policy(text).unwrap_err().why;
            assert!(
                why.contains("demands witnesses; not supported yet"),
                "{why}"
            );
        }
    }

    #[test]
    fn malformed_policies_are_refused() {
        let witness = "witness W w.example+01234567+BAAA\n";
        for (what, text) in [
            ("no quorum", "log LOG\n".to_owned()),
            ("no log", "quorum none\n".into()),
            ("two quorums", "log LOG\nquorum none\nquorum none\n".into()),
            ("a log twice", "log LOG\nlog LOG\nquorum none\n".into()),
            (
                "an unknown line",
                "log LOG\nquorum none\nallow all\n".into(),
            ),
            ("no key", "log x\nquorum none\n".into()),
            ("an undefined quorum", "log LOG\nquorum W\n".into()),
            (
                "an undefined member",
                "log LOG\ngroup G 1 W\nquorum none\n".into(),
            ),
            (
                "threshold 0",
                format!("log LOG\n{witness}group G 0 W\nquorum none\n"),
            ),
            (
                "threshold 2 of 1",
                format!("log LOG\n{witness}group G 2 W\nquorum none\n"),
            ),
            (
                "a member twice",
                format!("log LOG\n{witness}group G 1 W W\nquorum none\n"),
            ),
            (
                "a name twice",
                format!(
                    "log LOG\n{witness}{}quorum none\n",
                    witness.replace("BAAA", "BBBB")
                ),
            ),
            (
                "a witness twice",
                format!(
                    "log LOG\n{witness}{}quorum none\n",
                    witness.replace("W w", "V w")
                ),
            ),
            (
                "a witness called none",
                "log LOG\nwitness none w+01234567+BA\nquorum none\n".into(),
            ),
            ("a carriage return", "log LOG\r\nquorum none\r\n".into()),
        ] {
            assert!(policy(&text).is_err(), "{what} was accepted");
        }
    }
}
