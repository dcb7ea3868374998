//! The notary's thread: turns due heads into signed events, and sees them into the log.
//!
//! ```text
//! due heads ─▶ sign add-data ─▶ outbox, one sync ─▶ submit all ─▶ wait for their checkpoint ─▶ settled
//! of many streams: keep them beside the log ─▶ sign add-heads ─▶ outbox ...
//! ```
//!
//! Signed bytes are durable before they are submitted, so a crash in between submits the same bytes
//! again and the log counts them once; a second signature for one link would seal its content anew and
//! count twice. (An `add-heads` that may or may not have entered is not submitted again: the next round's may
//! have newer heads, and a head that is anchored twice is anchored.) What is anchored is not stored: at the start it is read from the log by tag, and each
//! anchored digest is compared with the link as it is stored now.

mod outbox;
mod worker;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind, Outcome, limits,
    seams::{Clock, Disk, Entropy, Mailbox, Thread, Threads},
};
use chordae_chain::{event, keys::SecretKeys, link::Link};

use crate::{
    core::{
        notary::{Cadence, Heads},
        ports::{Links, Patients, TrailHead},
    },
    ledger::Ledger,
    metrics::NotaryMetrics,
};
use outbox::Outbox;
use worker::Worker;

/// What the notary works with.
#[derive(Clone)]
pub struct NotaryParts {
    /// For the outbox.
    pub disk: Arc<dyn Disk>,
    /// Where heads are anchored.
    pub ledger: Ledger,
    /// Signs `add-data` and `audit-head`; what belongs to no patient is sealed to it.
    pub provider: SecretKeys,
    /// Whose streams are.
    pub patients: Arc<dyn Patients>,
    /// The links that are history.
    pub links: Arc<dyn Links>,
    /// The head of the audit trail.
    pub trail: Arc<dyn TrailHead>,
    /// Monotonic for rounds, wall for `audit-head`.
    pub clock: Arc<dyn Clock>,
    /// For sealing.
    pub entropy: Arc<dyn Entropy>,
    /// Where it runs and waits.
    pub threads: Threads,
}

/// Where the outbox lies, and how often.
#[derive(Debug, Clone)]
pub struct NotarySettings {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Anchoring faster shows data as anchored sooner and makes the log grow faster: each event is
    /// about 400 bytes, for ever.
    pub cadence: Cadence,
}

/// How anchoring stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnchorStatus {
    /// Streams whose head is not anchored.
    pub pending_heads: usize,
    /// Age of the oldest link that is not anchored.
    pub lag_ns: u64,
    /// Why the newest submission that failed did; none once one succeeds again.
    pub trouble: Option<String>,
}

pub(crate) enum Mail {
    Linked(Vec<Link>),
    Settle(Mailbox<AnchorStatus>),
    Stop,
}

/// See the module.
pub struct Notary {
    threads: Threads,
    mailbox: Mailbox<Mail>,
    status: Arc<Mutex<AnchorStatus>>,
    thread: Mutex<Option<Thread<()>>>,
}

impl Notary {
    /// Submits what the outbox still holds, reads what is anchored from the log, starts the thread.
    ///
    /// # Errors
    /// `Damaged` when the log anchors another digest than the stored link's (a fork), or the outbox is
    /// damaged; `BadInput` for a provider key without a sealing half; `Io`.
    pub fn start(
        parts: NotaryParts,
        settings: &NotarySettings,
        registry: &prometheus::Registry,
    ) -> Outcome<Self> {
        if parts.provider.seal.is_none() {
            return Err(Failure::bad_input(
                "the provider's key file has no X25519 key",
            ));
        }
        let metrics = NotaryMetrics::new(registry)?;
        let dir = settings.data_dir.join("outbox");
        let (outbox, left) = Outbox::open(Arc::clone(&parts.disk), dir)?;
        submit_again(&parts.ledger, left)?;
        let mut heads = Heads::new(settings.cadence, parts.clock.mono_ns());
        for newest in parts.links.heads() {
            let anchored = anchored_upto(&parts, &newest)?;
            heads.know(newest, anchored, parts.clock.mono_ns());
        }
        let status = Arc::new(Mutex::new(AnchorStatus::default()));
        let threads = parts.threads.clone();
        let worker = Worker::new(parts, heads, outbox, Arc::clone(&status), metrics);
        let (mailbox, mail) = threads.mailbox(limits::NOTARY_QUEUE);
        let thread = threads.spawn("notary", move || worker.run(&mail))?;
        Ok(Self {
            threads,
            mailbox,
            status,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Tells of links that have become history. May block while a round is at work.
    ///
    /// # Errors
    /// `Busy` once stopped; the next start finds the links by itself.
    pub fn linked(&self, links: &[Link]) -> Outcome<()> {
        self.mailbox
            .send(Mail::Linked(links.to_vec()))
            .map_err(|_| stopped())
    }

    /// Anchors everything that is pending now and waits for it (an orderly stop, the demo).
    ///
    /// # Errors
    /// `Busy` once stopped. What could not be anchored shows in the status.
    pub fn settle(&self) -> Outcome<AnchorStatus> {
        let (reply, answer) = self.threads.mailbox(1);
        self.mailbox
            .send(Mail::Settle(reply))
            .map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())
    }

    /// How anchoring stands.
    pub fn status(&self) -> AnchorStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Anchors what is pending, ends the thread and waits for its end. Stop the ledger after it.
    pub fn stop(&self) {
        // Fails only when the thread has ended already.
        drop(self.mailbox.send(Mail::Stop));
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            // It has no result.
            drop(thread.join());
        }
    }
}

fn stopped() -> Failure {
    Failure::busy("the notary has stopped")
}

/// Submits events that a crash left between outbox and log, unchanged.
fn submit_again(ledger: &Ledger, left: Vec<Bytes>) -> Outcome<()> {
    for entry in left {
        if ledger.place(&event::leaf_hash(&entry))?.is_some() {
            continue;
        }
        // The head of the trail is signed anew at every start: one that was overtaken meanwhile, or that
        // contradicts the log, is told by that one and does not keep the house from starting.
        let audit = event::decode(&entry).is_ok_and(|s| s.event.kind() == "audit-head");
        match ledger.submit(entry) {
            Ok(_) => {}
            Err(e) if audit || matches!(e.kind, FailureKind::BadInput | FailureKind::Refused) => {
                // By a provider key that is no longer known: the head is signed anew.
                tracing::warn!("notary: an event left in the outbox is dropped: {e}");
            }
            Err(e) => return Err(e.during("submit an event left in the outbox")),
        }
    }
    Ok(())
}

/// Up to which index the log vouches for a did, newest first.
fn anchored_upto(parts: &NotaryParts, newest: &Link) -> Outcome<Option<u64>> {
    let did = newest.did;
    for index in (0..=newest.index).rev() {
        let Some(anchor) = parts.ledger.tagged(&did, index)? else {
            continue;
        };
        let link = if index == newest.index {
            Some(newest.clone())
        } else {
            parts.links.link(&did, index)?
        };
        if link.is_some_and(|link| link.digest() == anchor.digest) {
            return Ok(Some(index));
        }
        let at = anchor.leaf_index;
        return Err(Failure::damaged(format!(
            "fork: ledger entry {at} anchors another link {index} of {did} than the stored one"
        )));
    }
    Ok(None)
}
