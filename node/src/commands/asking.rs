//! Requests that a party signs, one token each.

use std::time::Duration;

use chordae_base::{FailureKind, Outcome};
use chordae_chain::keys::SecretKeys;

use super::{key::sign_request, session::Far};
use crate::client::{self, Answer, Call};

/// How often a busy server is asked.
const TRIES: u32 = 10;
/// Between two of those: what its `Retry-After` says.
const PAUSE: Duration = Duration::from_secs(1);

/// Who asks where, and on what ground.
pub(super) struct Asking<'a> {
    pub(super) far: &'a Far,
    pub(super) keys: &'a SecretKeys,
    pub(super) session: Option<&'a str>,
}

impl Asking<'_> {
    /// One answer of at most `max` bytes.
    ///
    /// # Errors
    /// The server's refusal, also where it is busy.
    pub(super) async fn once(&self, target: &str, max: u64) -> Outcome<Answer> {
        let origin = &self.far.trust.origin;
        let token = sign_request(self.keys, origin, self.session, "GET", target, None)?;
        let call = Call {
            method: "GET".into(),
            target: target.to_owned(),
            authorization: Some(format!("Chordae {token}")),
            body: None,
        };
        client::send(&self.far.place, call, max).await?.ok()
    }

    /// The same, asked again while the server is busy.
    ///
    /// # Errors
    /// The server's refusal; `Busy` when it stays so.
    pub(super) async fn get(&self, target: &str, max: u64) -> Outcome<Answer> {
        let mut tries = 1;
        loop {
            match self.once(target, max).await {
                Err(e) if e.kind == FailureKind::Busy && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }
}
