//! What is decided here, without a clock, a disk, a socket or a thread:
//!
//! ```text
//! token ──▶ request ──▶ ask ──▶ access ──▶ plan ──▶ merge ──▶ (formats)
//!           who?        what?   may she?   which    which     rows
//!                                          chunks?  row next?
//!                                            └────▶ proof
//! ```
//!
//! `now` comes in as input; what the outside knows comes in through [`ports`].

pub mod access;
pub mod ask;
pub mod high_water;
pub mod jti;
pub mod ledger_path;
pub mod merge;
pub mod pace;
pub mod plan;
pub mod ports;
pub mod proof;
pub mod request;
pub mod tail;
