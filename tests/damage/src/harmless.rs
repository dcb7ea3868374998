//! Bytes whose change changes nothing that is said, by name. What is not in this list is a failure.

use crate::{
    keys,
    parts::{Part, Said},
};

/// The kinds, each with its reason.
pub const KINDS: [(&str, &str); 7] = [
    (
        "idle-tail",
        "the mark that closes an idle journal holds nothing, nor do the zeros of its room; broken, they are a torn tail: cut, and said",
    ),
    (
        "unmarked-tail",
        "the newest event of the outbox is marked by nothing: its head is signed anew, and counts once",
    ),
    (
        "sid-copy",
        "a session record repeats its id, which its name says; the copy is not read",
    ),
    (
        "unmarked-batch",
        "the newest batch after a crash is marked by nothing, and nobody was told of it: its events are submitted again",
    ),
    (
        "settled-tail",
        "the last record of a stopped ledger says that its tiles are synced; without it they are written again",
    ),
    (
        keys::DRESS,
        "line ends of a PEM block, names of parties and white space in the trust file: keys read as what they were",
    ),
    (
        keys::WORDS,
        "settings are the operator's words: a comment, or another value that may stand there",
    ),
];

/// Which kind a damage is, if the part still says what it said.
pub fn kind(part: Part, before: &Said, after: &Said) -> Option<&'static str> {
    let same = before.text == after.text;
    match part {
        Part::Directory if same => Some("sid-copy"),
        Part::Batches if same && after.torn => Some("settled-tail"),
        Part::Pending if after.torn => Some("unmarked-batch"),
        Part::Directory | Part::Ledger | Part::Heads => None,
        _ if same && after.torn => Some("idle-tail"),
        Part::Outbox if after.torn && before.text.starts_with(&after.text) => Some("unmarked-tail"),
        _ => None,
    }
}
