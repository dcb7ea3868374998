//! Sessions: a patient's grant comes in, is looked at, and is revoked.
//!
//! ```text
//! POST    checked ──▶ record synced ──▶ event submitted ──▶ checkpoint covers it ──▶ 201
//! DELETE  checked ──▶ record removed ──▶ event submitted ──▶ checkpoint covers it ──▶ 200
//! ```
//!
//! Both bodies are events that the patient signed, so they need no token; what they did is in the
//! ledger. A crash after the first arrow leaves a record without an event, or an event without a
//! record: neither lets anybody read (core/access.rs), and the same request again finishes the work.
//! One change of a session at a time, so that no old post can put back what is being revoked.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::StatusCode,
};
use chordae_base::{Digest, Failure, Outcome};

use super::{problem::Problem, service, signed};

mod change;
mod look;
mod sweep;

pub(super) use change::{Change, create, plain_body, revoke};
pub(super) use look::{list, look};

fn sid_of(path: Result<Path<String>, PathRejection>) -> Outcome<[u8; 32]> {
    let text = path.map_err(|_| Failure::bad_input("the path is not UTF-8"))?;
    let sid: Outcome<Digest> = text.parse();
    sid.map(|d| d.0)
        .map_err(|_| Failure::bad_input("the path has no session id (64 hex digits)"))
}

fn no_session() -> Problem {
    let why = "there is no such session, or none of this party";
    Problem::new(StatusCode::NOT_FOUND, "no-session", why)
}
