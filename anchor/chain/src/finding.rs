//! What a check found wrong: the object, one of the codes of `verify --json`, and a line for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Findings that one report keeps; a flood of further ones is told as one.
pub const FINDINGS_MAX: usize = 10_000;

/// The codes of `verify --json`; their spelling is interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A file is not what its link names.
    FileDigest,
    /// Rows, columns or leaves do not lead to the link's `pages_root`.
    PagesDigest,
    /// A link is not what the next one (or the ledger) names.
    LinkPrev,
    /// A chunk is left out.
    IndexGap,
    /// Two links have one index.
    DuplicateIndex,
    /// Metadata is malformed or contradicts its link.
    Metadata,
    /// A linked chunk has no file.
    MissingFile,
    /// A file belongs to no link.
    ExtraFile,
    /// The ledger vouches for a link that its chain does not have any more, or a log is damaged.
    TruncatedTail,
    /// A ledger entry is malformed or not signed by whom it must be.
    EntrySignature,
    /// An entry is not under the log's root.
    LogRoot,
    /// A checkpoint is not signed by the trusted log.
    CheckpointSignature,
    /// Two digests under one tag, or two blocks of one height.
    Fork,
    /// The log is shorter than something signed, or anchors a head of no known stream.
    Rollback,
    /// The audit trail does not chain.
    Trail,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about: an object name, a link, the anchor.
    pub object: String,
    /// Which rule is broken.
    pub code: Code,
    /// One line for people.
    pub detail: String,
}

/// A bounded list of findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one; after [`FINDINGS_MAX`] only a last one that says that there are more.
    pub fn add(&mut self, object: impl fmt::Display, code: Code, detail: impl fmt::Display) {
        let detail = match self.0.len() {
            n if n < FINDINGS_MAX => detail.to_string(),
            FINDINGS_MAX => "and more like the ones before".to_owned(),
            _ => return,
        };
        self.0.push(Finding {
            object: object.to_string(),
            code,
            detail,
        });
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which they were found.
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}
