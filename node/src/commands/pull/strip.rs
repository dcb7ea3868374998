//! `chordae pull --format html`: what was pulled, as a page that draws and checks itself.

use chordae_base::{
    Failure, Outcome, Span, limits,
    seams::{Clock, real},
};
use chordae_chain::trust::TrustFile;
use chordae_query::strip::{About, Strip};

use super::{Pulled, Wanted};

const INSTEAD: &str = "pull it in parts, or as arrow with --proof";

/// Whether a window can be a strip; asked before anything is fetched.
///
/// # Errors
/// `BadInput`, saying what to do instead.
pub(super) fn allowed(window: Span) -> Outcome<()> {
    let length = window.until_ns.checked_sub(window.from_ns);
    if length.is_some_and(|length| length <= limits::STRIP_SPAN_NS_MAX) {
        return Ok(());
    }
    let minutes = limits::STRIP_SPAN_NS_MAX / 60_000_000_000;
    Err(Failure::bad_input(format!(
        "a strip is at most {minutes} minutes long: {INSTEAD}"
    )))
}

/// Whether so much can be a strip: asked when it is known.
fn fits(rows: usize, leads: usize) -> Outcome<()> {
    let codes = rows as u64 * leads as u64;
    if codes <= limits::STRIP_CODES_MAX {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "{codes} samples are more than a strip may have ({}, ten minutes of twelve leads at 500 Hz): \
         ask for fewer --leads, {INSTEAD}",
        limits::STRIP_CODES_MAX
    )))
}

/// The page. It carries the leads that were pulled and the keys that they were checked by, and no key of the
/// one who pulled.
///
/// # Errors
/// `BadInput` for more codes than a strip may have.
pub(super) fn page(wanted: &Wanted<'_>, pulled: &Pulled, trust: &TrustFile) -> Outcome<String> {
    fits(pulled.rows, pulled.leads)?;
    // A page that connects to nothing needs no authority for TLS.
    let trust = TrustFile {
        ca: None,
        ..trust.clone()
    };
    let about = About {
        v: 1,
        did: wanted.did,
        from_ns: pulled.window.from_ns,
        until_ns: pulled.window.until_ns,
        leads: wanted.leads.map(<[String]>::to_vec),
        made_ns: real::OsClock.wall_ns(),
    };
    let strip = Strip {
        about,
        trust: trust.to_json()?,
        proof: pulled.bundle.to_json()?,
        answer: pulled.answer.clone(),
    };
    strip.page()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_of_twelve_leads_are_a_strip_and_no_more() {
        let minutes = |n: i64| Span {
            from_ns: 5,
            until_ns: 5 + n * 60_000_000_000,
        };
        assert!(allowed(minutes(10)).is_ok());
        let why = allowed(minutes(11)).unwrap_err().why;
        assert!(
            why.contains("at most 10 minutes") && why.contains(INSTEAD),
            "{why}"
        );
        let whole = Span {
            from_ns: i64::MIN,
            until_ns: i64::MAX,
        };
        assert!(allowed(whole).is_err());
        assert!(fits(300_000, 12).is_ok());
        assert!(fits(300_001, 12).unwrap_err().why.contains("fewer --leads"));
    }
}
