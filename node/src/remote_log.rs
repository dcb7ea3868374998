//! A log elsewhere, over HTTP: its checkpoint, and proofs from its tiles.

use bytes::Bytes;
use chordae_anchor::remote;
use chordae_base::{Failure, Outcome, limits};
use chordae_chain::{checkpoint::Checkpoint, merkle::NodeHash};
use tokio::runtime::Handle;

use crate::client::{self, Call, Place};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct RemoteLog(Place);

impl RemoteLog {
    /// The log of a server.
    pub(crate) fn new(place: Place) -> Self {
        Self(place)
    }

    /// The newest checkpoint, a signed note; nothing of it is verified.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) async fn checkpoint(&self) -> Outcome<String> {
        let text = self.get("checkpoint").await?;
        String::from_utf8(text.into()).map_err(|_| Failure::bad_input("the checkpoint is not text"))
    }

    /// As [`remote::consistency`].
    ///
    /// # Errors
    /// Those of [`remote::consistency`].
    pub(crate) async fn consistency(&self, new: &Checkpoint, old: u64) -> Outcome<Vec<NodeHash>> {
        let (log, new, here) = (self.clone(), new.clone(), Handle::current());
        let proof = tokio::task::spawn_blocking(move || {
            remote::consistency(&new, old, &|path| here.block_on(log.get(path)))
        });
        proof
            .await
            .map_err(|e| Failure::internal(format!("a consistency proof: {e}")))?
    }

    async fn get(&self, path: &str) -> Outcome<Bytes> {
        let call = Call {
            method: "GET".into(),
            target: format!("/ledger/{path}"),
            ..Call::default()
        };
        let answer = client::send(&self.0, call, limits::CHECKPOINT_BYTES_MAX as u64).await?;
        Ok(answer.ok()?.body)
    }
}
