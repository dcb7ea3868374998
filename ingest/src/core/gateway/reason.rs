//! Reasons of a refusal by the node upstream: which are for good, and their labels.

use chordae_base::wire;

/// What passes: the item stays in the spool and is sent again.
const PASSING: &[&str] = &["full", "unsure", "busy", "stopping"];

/// Other reasons that a node gives, beside the rules of a payload.
const RULES: &[&str] = &[
    "boot-reused",
    "conflict",
    "not-authorised",
    "parts",
    "seq",
    "too-many-streams",
    "topic",
];

/// What a reason that nobody here knows is called: labels are a finite set.
const OTHER: &str = "refused";

/// The label of a reason.
pub fn known(reason: &str) -> &'static str {
    let all = wire::REASONS.iter().chain(RULES);
    all.copied().find(|label| *label == reason).unwrap_or(OTHER)
}

/// Whether the same item may be taken later.
pub fn passes(reason: &str) -> bool {
    PASSING.contains(&reason)
}
