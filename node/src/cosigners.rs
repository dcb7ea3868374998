//! Asks the witnesses of the policy to cosign each new checkpoint (C2SP tlog-witness, the log's side).
//!
//! ```text
//! checkpoint durable ─▶ each witness: POST add-checkpoint { what it saw last, consistency proof, note }
//!                       200 a line      409 "I saw N": once more from there      anything else: later
//!                       enough lines ─▶ `Ledger::count`, synced ─▶ receipts under it
//! ```
//!
//! Nothing waits for a witness but receipts: what is stored is stored, and anchored by the log's own signature. While
//! they are silent, readers get what counted before. A witness that has seen more of this log than there is, or
//! another history, is loud: either this folder was set back or somebody signs with its key.

use std::sync::Arc;

use chordae_anchor::{Ledger, core::witness::Request};
use chordae_base::{Failure, Outcome, limits};
use chordae_chain::{
    checkpoint::{Checkpoint, Claim},
    cosignature::{self, TrustedWitness},
};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    client::{self, Call, Place},
    observe::Readiness,
};

/// What `add-checkpoint` answers where it has seen another size.
const SIZE: &str = "text/x.tlog.size";

/// One witness, and what it has seen of our log.
struct Asked {
    name: String,
    key: TrustedWitness,
    place: Place,
    /// Path of `add-checkpoint`.
    target: String,
    seen: u64,
}

/// See the module.
pub(crate) struct Cosigners {
    ledger: Ledger,
    asked: Vec<Asked>,
    news: Arc<Notify>,
    ready: Readiness,
}

impl Cosigners {
    /// Of a ledger whose policy asks for witnesses; none otherwise. `ca` is the authority of their certificates.
    ///
    /// # Errors
    /// `BadInput` for a witness without an address, or one that is none.
    pub(crate) fn of(ledger: &Ledger, ca: &str, ready: Readiness) -> Outcome<Option<Self>> {
        let Some(policy) = ledger.policy() else {
            return Ok(None);
        };
        let mut asked = Vec::new();
        for witness in &policy.witnesses {
            // One without an address is asked by somebody else, e.g. it follows us.
            let Some(url) = &witness.url else { continue };
            let (place, prefix) = Place::prefix(url, Some(ca.to_owned()))?;
            asked.push(Asked {
                name: witness.name.clone(),
                key: witness.witness.clone(),
                place,
                target: format!("{prefix}/add-checkpoint"),
                seen: 0,
            });
        }
        let news = Arc::new(Notify::new());
        let rings = Arc::clone(&news);
        ledger.watch(Box::new(move |_| rings.notify_one()));
        // What was signed before the start may have no witness yet.
        news.notify_one();
        Ok(Some(Self {
            ledger: ledger.clone(),
            asked,
            news,
            ready,
        }))
    }

    /// Until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            self.news.notified().await;
            let whole = self.round().await;
            self.ready
                .note("witnesses", whole.as_ref().err().map(ToString::to_string));
            if let Err(why) = whole {
                tracing::warn!(%why, "not every witness has cosigned the newest checkpoint");
                tokio::time::sleep(limits::COSIGN_RETRY).await;
                self.news.notify_one();
            }
        }
    }

    /// Asks all of them at once about the newest checkpoint.
    async fn round(&mut self) -> Outcome<()> {
        let (newest, note) = self.ledger.newest();
        let mut asking = JoinSet::new();
        for mut witness in self.asked.drain(..) {
            let (ledger, newest, note) = (self.ledger.clone(), newest.clone(), note.clone());
            asking.spawn(async move {
                let answer = witness.ask(&ledger, &newest, &note);
                let answer = tokio::time::timeout(limits::COSIGN_TIMEOUT, answer).await;
                let silent = |_| Err(Failure::busy(format!("witness {} is silent", witness.name)));
                let answer = answer.unwrap_or_else(silent);
                (witness, answer)
            });
        }
        let (mut cosigned, mut missing) = (note, Vec::new());
        for (witness, answer) in asking.join_all().await {
            match answer {
                Ok(lines) => cosigned.push_str(&lines),
                Err(why) => missing.push(why.to_string()),
            }
            self.asked.push(witness);
        }
        let ledger = self.ledger.clone();
        let counts = tokio::task::spawn_blocking(move || ledger.count(&cosigned)).await;
        counts.map_err(|e| Failure::internal(format!("count a checkpoint: {e}")))??;
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::busy(missing.join("; "))),
        }
    }
}

impl Asked {
    /// Its signature lines under a checkpoint.
    async fn ask(&mut self, ledger: &Ledger, newest: &Checkpoint, note: &str) -> Outcome<String> {
        let name = self.name.clone();
        let named = |e: Failure| e.during(format_args!("witness {name}"));
        // Twice: it may have seen more of us than we remember.
        for _ in 0..2 {
            let (of, size, old) = (ledger.clone(), newest.size, self.seen);
            let proof = tokio::task::spawn_blocking(move || of.consistency(size, old)).await;
            let proof =
                proof.map_err(|e| Failure::internal(format!("a consistency proof: {e}")))??;
            let call = Call {
                method: "POST".into(),
                target: self.target.clone(),
                authorization: None,
                body: Some((
                    "text/plain",
                    Request::compose(old, &proof, note).into_bytes(),
                )),
            };
            let max = limits::CHECKPOINT_BYTES_MAX as u64;
            let answer = client::send(&self.place, call, max).await.map_err(named)?;
            let sized = answer
                .headers
                .get("content-type")
                .is_some_and(|t| t == SIZE);
            if answer.status.as_u16() == 409 && sized {
                let text = String::from_utf8_lossy(&answer.body);
                let bad = || Failure::bad_input(format!("witness {name}: {text:?} is no size"));
                let seen: u64 = text.trim_end().parse().map_err(|_| bad())?;
                if seen > newest.size {
                    return Err(Failure::damaged(format!(
                        "witness {name} has seen {seen} entries of this log, here are {}: the folder was set back, or \
                         somebody else signs with its key",
                        newest.size
                    )));
                }
                self.seen = seen;
                continue;
            }
            if !answer.status.is_success() {
                let said = String::from_utf8_lossy(&answer.body);
                let said = said
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(200)
                    .collect::<String>();
                return Err(Failure::busy(format!(
                    "witness {name}: {} {said}",
                    answer.status
                )));
            }
            self.seen = newest.size;
            return self.line(note, &answer.body);
        }
        Err(Failure::busy(format!(
            "witness {name} does not say what it has seen"
        )))
    }

    /// Its own line out of an answer: whatever else it says must not spoil the note for the others.
    fn line(&self, note: &str, answer: &[u8]) -> Outcome<String> {
        let bad = |_| Failure::bad_input(format!("witness {}: its answer is no text", self.name));
        let signed = [note, std::str::from_utf8(answer).map_err(bad)?].concat();
        let found = Claim::parse(&signed).ok();
        let found = found.and_then(|claim| cosignature::find(&claim, &self.key));
        found.map(|cosignature| cosignature.line).ok_or_else(|| {
            Failure::bad_input(format!(
                "witness {}: what it answers is not a cosignature by the key of the policy",
                self.name
            ))
        })
    }
}
