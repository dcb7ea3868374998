//! A file system in memory that tells apart what was synced and what was not, and can lose the rest.
//!
//! ```text
//!   a real server ──system calls──▶ kernel ──FUSE──▶ fuse ──▶ State ── files: bytes live | bytes durable
//!                                                     │              └ folders: names live | names durable
//!   a test driver ──lines on a socket────────────────▶ control: cut the power here, lose what was not synced
//! ```
//!
//! What programs see is the live side. `fsync` of a file makes its bytes and length durable, `fsync` of a folder
//! its names; nothing else does, not the sync of a file for its own name, nor time. That is the least that POSIX
//! promises and less than any one file system gives: what survives here survives everywhere.
//!
//! **Cut**: at a chosen operation, before or after it takes effect, the power fails: every operation from then on
//! fails and changes nothing, until the driver has killed the programs and chosen what is lost:
//! - `keep`: nothing (a killed process: the machine goes on),
//! - `drop`: everything that was not synced,
//! - `torn`: of each unsynced 512-byte sector and each unsynced change of names either the old or the new, at random
//!   or in the order of writing; lengths likewise.
//!
//! A sync can also fail as Linux fails it: the error is told once, the pages count as clean, and a later sync that
//! succeeds does not bring them to the disk. Or lie: say done and do nothing, the control of the power loss tests.
//!
//! Invariants, held by the tests here: a program that syncs as it should loses nothing in any mode; one that leaves a
//! sync out (of the file, of the folder after a create or a rename) loses; the same seed loses the same.

pub mod bytes;
pub mod control;
pub mod fuse;
pub mod luck;
pub mod state;
