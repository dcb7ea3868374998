//! Reasons of a refusal by the node upstream: which are for good, and their labels.

use chordae_base::wire;

/// What passes: the item stays in the spool and is sent again.
const PASSING: &[&str] = &["full", "unsure", "busy", "stopping"];

/// Other reasons that a node gives, beside the rules of a payload.
const RULES: &[&str] = &[
    BOOT_REUSED,
    CONFLICT,
    "not-authorised",
    "parts",
    "seq",
    "too-many-streams",
    "topic",
];

/// What a reason that nobody here knows is called: labels are a finite set.
const OTHER: &str = "refused";

/// Another birth of this boot is known upstream.
pub const BOOT_REUSED: &str = "boot-reused";
/// Another content under this number is stored upstream.
const CONFLICT: &str = "conflict";

/// Whether the node that gives this reason has the item in its own quarantine, synced before it said so.
pub fn kept_upstream(reason: &str, birth: bool) -> bool {
    !birth && (reason == BOOT_REUSED || reason == CONFLICT)
}

/// The label of a reason.
pub fn known(reason: &str) -> &'static str {
    let all = wire::REASONS.iter().chain(RULES);
    all.copied().find(|label| *label == reason).unwrap_or(OTHER)
}

/// Whether the same item may be taken later.
pub fn passes(reason: &str) -> bool {
    PASSING.contains(&reason)
}
