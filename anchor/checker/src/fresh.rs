//! The age of a log that is elsewhere: the newest audit-head in its receipt, as `GET /ledger/fresh` gives it out.

use chordae_base::{FailureKind, Outcome};
use chordae_chain::{
    finding::{Code, Finding},
    fresh,
    trust::TrustFile,
};

use crate::{Report, Verdict};

/// Whether a text is a receipt (C2SP tlog-proof).
pub fn is_receipt(text: &str) -> bool {
    text.starts_with(chordae_chain::receipt::HEADER)
}

/// Checks the receipt of an audit-head and tells its age at `now_ms`, in ms since 1970.
///
/// # Errors
/// `BadInput` for what is no receipt of an audit-head, or ahead of `now_ms`.
pub fn check_fresh(receipt: &str, trust: Option<&TrustFile>, now_ms: u64) -> Outcome<Report> {
    let mut report = Report::of_nothing();
    let Some(trust) = trust else {
        report.verdict = Verdict::Unanchored;
        report.notes.push("no trust file: nothing is proven".into());
        return Ok(report);
    };
    let (code, why) = match fresh::judge(receipt, trust, now_ms) {
        Ok(fresh) => {
            report.fresh_ms = Some(fresh.age_ms);
            let (age, count) = (fresh.age_ms / 1000, fresh.count);
            report.notes.push(format!(
                "newest audit-head: {age} s old, over {count} records of the trail"
            ));
            return Ok(report);
        }
        // Right, and not cosigned as the policy demands.
        Err(e) if e.kind == FailureKind::Busy => {
            report.verdict = Verdict::Unanchored;
            report.notes.push(e.why);
            return Ok(report);
        }
        Err(e) if e.kind == FailureKind::Refused => (Code::EntrySignature, e.why),
        Err(e) if e.kind == FailureKind::Damaged => (Code::LogRoot, e.why),
        Err(e) => return Err(e),
    };
    report.verdict = Verdict::Damaged;
    report.findings.push(Finding {
        object: "audit-head".into(),
        code,
        detail: why,
    });
    Ok(report)
}
