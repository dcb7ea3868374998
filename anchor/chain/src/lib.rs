//! Links, page digests, events, checkpoints, proofs and their verification: all that an outsider needs.
//!
//! ```text
//! rows ─▶ page columns ─▶ leaves ─▶ pages_root ┐
//!                    metadata JSON ────────────┤         pages · meta        formats.md 3, 4
//! chunk file ─▶ file_root ─────────────────────┴▶ link ─▶ link ─▶ ...  link   formats.md 4
//!                                                          │ digest
//!                                        add-data event ◀──┘         event · seal · keys   5
//!                            or, with many others, add-heads event     heads   5
//!                                              │ leaf hash
//!                                     tile log root ─▶ checkpoint     merkle · checkpoint   5
//!                                              │ ◀── witnesses   cosignature · policy   5
//!                                              │
//!                      receipt · proof bundle ─▶ verdict     receipt · trust · bundle   1, 6
//!                      newest audit-head ─▶ age · whole stream ─▶ verdict    fresh · stream   6
//! ```
//!
//! No I/O: every function is a pure function of bytes (making a key or a sealed text asks for
//! entropy). Everything that is read here is a *claim*; what cannot be checked is refused, never
//! repaired. Trust comes from a [`trust::TrustFile`] that the reader kept, never from the thing
//! that is being checked.

pub mod bundle;
pub mod cbor;
pub mod checkpoint;
mod cose;
pub mod cosignature;
pub mod event;
pub mod finding;
pub mod fresh;
pub mod heads;
pub mod inventory;
pub mod keys;
pub mod link;
pub mod merkle;
pub mod meta;
mod note;
pub mod pages;
pub mod policy;
pub mod receipt;
pub mod report;
pub mod seal;
pub mod session;
pub mod stream;
pub mod token;
pub mod trust;
