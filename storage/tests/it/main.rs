//! Tests of storage through its public face.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod catalogue;
mod commit;
mod crash;
mod directory;
mod made;
mod rebuild;
mod same_rows;
