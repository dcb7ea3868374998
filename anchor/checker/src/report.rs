//! What a check says: interfaces.md "verify --json", and the exit code that follows.

use chordae_base::Did;
use chordae_chain::finding::Finding;
use serde::Serialize;

/// The verdict on a stream or on everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Intact, and proven against the trust file up to the newest link.
    Ok,
    /// Intact, but not proven: not anchored yet, or no trust file.
    Unanchored,
    /// There are findings.
    Damaged,
}

impl Verdict {
    /// The exit code of `chordae verify`: 0, 4 or 3.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unanchored => 4,
            Self::Damaged => 3,
        }
    }
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// The data stream.
    pub did: Did,
    /// Chunks that its links name.
    pub chunks: u64,
    /// Index of the newest link that the ledger vouches for.
    pub anchored_to: Option<u64>,
    /// `Ok` iff that is its newest link, the ledger is trusted, and nothing is wrong.
    pub verdict: Verdict,
}

/// The outcome of a check; its JSON is interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version, 1.
    pub v: u32,
    /// The worst of all.
    pub verdict: Verdict,
    /// By ascending did.
    pub streams: Vec<StreamReport>,
    /// Everything wrong.
    pub findings: Vec<Finding>,
    /// Age of the newest `audit-head` of a proven ledger, in ms, where the reader's time was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh_ms: Option<u64>,
    /// What a person should know and no program should act on (a crash's remnant, no trust file).
    #[serde(skip)]
    pub notes: Vec<String>,
}

impl Report {
    /// Of nothing at all, to be added to.
    pub fn of_nothing() -> Self {
        Self {
            v: 1,
            verdict: Verdict::Ok,
            streams: Vec::new(),
            findings: Vec::new(),
            fresh_ms: None,
            notes: Vec::new(),
        }
    }

    /// Adds a report on something else: the worse verdict, and everything wrong with either.
    pub fn add(&mut self, other: Self) {
        self.verdict = self.verdict.max(other.verdict);
        self.streams.extend(other.streams);
        self.streams.sort_by_key(|stream| stream.did);
        self.findings.extend(other.findings);
        self.notes.extend(other.notes);
    }

    /// The report as one line of JSON.
    pub fn to_json(&self) -> String {
        // Strings, numbers and enums: nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being checked.
    pub what: &'static str,
    /// Units of it done.
    pub done: u64,
    /// Units of it in all.
    pub of: u64,
}
