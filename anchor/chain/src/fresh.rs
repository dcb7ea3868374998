//! Freshness: how old the newest `audit-head` of a log is (formats.md 5, 9).
//!
//! ```text
//! provider ─ signs, at least hourly ─▶ audit-head {count, digest, time_ms} ─▶ leaf ─▶ checkpoint
//!                                            │
//!                      age = the reader's now − time_ms   (an idle log has one too, of count 0)
//! ```
//!
//! A checkpoint has no time, so a ledger that is put back a day is flawless in itself. Its newest
//! audit-head is then a day old: whoever asks for an entry, its receipt and a greatest age notices.
//! The time is the provider's word; who must not trust the provider needs witnesses.

use chordae_base::{Digest, Failure, Outcome};

use crate::{
    event::{self, Event},
    receipt::{self, Proof},
    trust::TrustFile,
};

/// By how many ms a head may be ahead of the reader's clock; more means that one of two clocks is wrong,
/// and then no age can be told.
pub const AHEAD_MS: u64 = 60_000;

/// A head of the trail that the trusted log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// Records of the trail at that time.
    pub count: u64,
    /// SHA-256 of the newest of them; zeros if there are none.
    pub digest: Digest,
    /// When it was signed, in ms since 1970, by the provider's clock.
    pub time_ms: u64,
    /// How long ago that is, in ms, by the reader's clock.
    pub age_ms: u64,
}

/// Age of what was said at `time_ms`, both in ms since 1970.
///
/// # Errors
/// `BadInput` when it lies more than [`AHEAD_MS`] ahead.
pub fn age_ms(time_ms: u64, now_ms: u64) -> Outcome<u64> {
    if time_ms > now_ms.saturating_add(AHEAD_MS) {
        let ahead = (time_ms - now_ms) / 1000;
        return Err(Failure::bad_input(format!(
            "the newest audit-head is {ahead} s ahead of this clock: one of the two clocks is wrong"
        )));
    }
    Ok(now_ms.saturating_sub(time_ms))
}

/// Verifies a receipt (C2SP tlog-proof) that brings an `audit-head` entry along, and tells that one's age at `now_ms`.
///
/// # Errors
/// `BadInput` for what is no receipt or brings no audit-head, or lies ahead of `now_ms`; `Refused` when no
/// provider of the trust file signed it; `Damaged` when it is not in the trusted log.
pub fn judge(proof: &str, trust: &TrustFile, now_ms: u64) -> Outcome<Fresh> {
    let entry = Proof::parse(proof)?.extra;
    let entry = entry.ok_or_else(|| Failure::bad_input("the receipt brings no entry along"))?;
    let signed = event::decode(&entry)?;
    let Event::AuditHead {
        digest,
        count,
        time_ms,
    } = signed.event
    else {
        let kind = signed.event.kind();
        return Err(Failure::bad_input(format!("{kind} is no audit-head")));
    };
    let provider = trust.provider(&signed.kid).ok_or_else(|| {
        Failure::refused("the audit-head is signed by no provider of the trust file")
    })?;
    signed.verify(&provider.sign)?;
    let receipt = receipt::verify(&entry, proof, trust)?;
    trust.in_force(&signed.kid, receipt.leaf_index)?;
    Ok(Fresh {
        count,
        digest,
        time_ms,
        age_ms: age_ms(time_ms, now_ms)?,
    })
}

impl Fresh {
    /// Whether it is at most `max_age_ms` old.
    ///
    /// # Errors
    /// `Refused` when it is older: the log stands still, or what is shown is an old state of it.
    pub fn at_most(&self, max_age_ms: u64) -> Outcome<()> {
        if self.age_ms <= max_age_ms {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "the newest audit-head is {} s old, {} s are allowed: the ledger stands still or was put back",
            self.age_ms / 1000,
            max_age_ms / 1000
        )))
    }
}
