//! The audit trail: records that chain, and heads of it in the ledger (formats.md 9).

use bytes::Bytes;
use chordae_base::{Digest, FailureKind, Outcome, journal, limits};
use chordae_chain::{
    cbor,
    finding::{Code, Findings},
};
use ciborium::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    Progress,
    files::Folder,
    ledger::{AuditHead, Facts, entry_name},
};

const TRAIL: &str = "trail";

struct Trail<'a> {
    /// Records so far.
    count: u64,
    /// SHA-256 of the newest; zeros before the first.
    head: Digest,
    /// Heads in the ledger that are still to come, by count.
    audits: std::iter::Peekable<std::slice::Iter<'a, AuditHead>>,
}

/// Checks `trail/`.
pub(crate) fn check(
    folder: &Folder<'_>,
    facts: &Facts,
    found: &mut Findings,
    notes: &mut Vec<String>,
    progress: &mut dyn FnMut(Progress),
) -> Outcome<()> {
    let mut trail = Trail {
        count: 0,
        head: Digest([0; 32]),
        audits: facts.audits.iter().peekable(),
    };
    trail.audit(found);
    if folder.list(TRAIL)?.is_some() {
        let dir = folder.root.join(TRAIL);
        let scanned = journal::scan_dir(
            folder.disk,
            &dir,
            limits::RECORD_BYTES_MAX,
            &mut |_, record| {
                if trail.count.is_multiple_of(1024) {
                    progress(Progress {
                        what: "trail",
                        done: trail.count,
                        of: 0,
                    });
                }
                trail.record(&record, found);
                Ok(())
            },
        );
        match scanned {
            Ok(None) => {}
            Ok(Some(torn)) => notes.push(format!("trail/ ends in {} torn bytes", torn.bytes)),
            Err(e) if e.kind == FailureKind::Damaged => found.add(TRAIL, Code::Trail, e),
            Err(e) => return Err(e),
        }
    }
    if let Some(audit) = trail.audits.next_back() {
        let why = format!(
            "{} says that there were {} records, {} are here",
            entry_name(audit.leaf),
            audit.count,
            trail.count
        );
        found.add(TRAIL, Code::Trail, why);
    }
    Ok(())
}

impl Trail<'_> {
    fn record(&mut self, record: &Bytes, found: &mut Findings) {
        let name = format!("trail record {}", self.count);
        match read(record) {
            None => found.add(name, Code::Trail, "not a record of the trail"),
            Some((n, _)) if n != self.count => {
                found.add(name, Code::Trail, format!("says that it is record {n}"));
            }
            Some((_, prev)) if prev != self.head => {
                found.add(
                    name,
                    Code::Trail,
                    "does not name the digest of the record before it",
                );
            }
            Some(_) => {}
        }
        self.head = Digest(Sha256::digest(record).into());
        self.count += 1;
        self.audit(found);
    }

    /// Holds the heads of this count against the newest record.
    fn audit(&mut self, found: &mut Findings) {
        while let Some(audit) = self.audits.next_if(|a| a.count <= self.count) {
            if audit.digest != self.head {
                let why = format!(
                    "record {} is not what it names",
                    audit.count.saturating_sub(1)
                );
                found.add(entry_name(audit.leaf), Code::Trail, why);
            }
        }
    }
}

/// `n` and `prev` of a record; none if it is not deterministic CBOR with both.
fn read(record: &[u8]) -> Option<(u64, Digest)> {
    let fields = cbor::decode(record).ok()?.into_map().ok()?;
    let field = |name: &str| {
        fields
            .iter()
            .find(|(k, _)| k.as_text() == Some(name))
            .map(|(_, v)| v)
    };
    let n = field("n")
        .and_then(Value::as_integer)
        .and_then(|n| u64::try_from(n).ok())?;
    let prev: [u8; 32] = field("prev")?.as_bytes()?.as_slice().try_into().ok()?;
    Some((n, Digest(prev)))
}
