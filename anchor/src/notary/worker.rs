//! The loop: wait (mail or deadline), step (which heads), perform (sign, sync, submit, wait).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, mpsc::RecvTimeoutError},
    time::Duration,
};

use bytes::Bytes;
use chordae_base::{Did, Digest, Failure, FailureKind, Outcome, limits, seams};
use chordae_chain::{
    event::{self, ContentDg, Event},
    heads::HeadSet,
    link::{self, Link},
    seal::{self, Purpose},
};

use super::{AnchorStatus, Mail, NotaryParts, outbox::Outbox};
use crate::{
    core::notary::{Heads, Round},
    metrics::NotaryMetrics,
};

/// The longest sleep: status and metrics are never older.
const SLEEP: Duration = Duration::from_millis(200);
/// Events under way at one time: leaves room in the ledger's mailbox for sessions.
const AT_ONCE: usize = limits::LEDGER_QUEUE / 4;

pub(super) struct Worker {
    parts: NotaryParts,
    heads: Heads,
    outbox: Outbox,
    /// Signed, durable, not settled: submitted again unchanged.
    signed: BTreeMap<(Did, u64), Bytes>,
    /// The head of the trail that the log names.
    audited: Option<(Digest, u64)>,
    trouble: Option<String>,
    status: Arc<Mutex<AnchorStatus>>,
    metrics: NotaryMetrics,
}

/// What an event under way is about.
#[derive(Clone)]
enum About {
    Head(Did, u64),
    Heads(Arc<[(Did, u64)]>),
    Audit(Digest, u64),
}

impl Worker {
    pub(super) fn new(
        parts: NotaryParts,
        heads: Heads,
        outbox: Outbox,
        status: Arc<Mutex<AnchorStatus>>,
        metrics: NotaryMetrics,
    ) -> Self {
        let signed = BTreeMap::new();
        Self {
            parts,
            heads,
            outbox,
            signed,
            audited: None,
            trouble: None,
            status,
            metrics,
        }
    }

    pub(super) fn run(mut self, mail: &seams::Mail<Mail>) {
        loop {
            self.show();
            let due = self
                .heads
                .deadline()
                .saturating_sub(self.parts.clock.mono_ns());
            let mut next = match mail.recv_timeout(Duration::from_nanos(due).min(SLEEP)) {
                Ok(mail) => Some(mail),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(item) = next {
                match item {
                    Mail::Linked(links) => {
                        let now = self.parts.clock.mono_ns();
                        links.iter().for_each(|link| self.heads.linked(link, now));
                    }
                    Mail::Settle(reply) => {
                        self.round(true);
                        // The asker may have gone.
                        drop(reply.send(self.show()));
                    }
                    Mail::Stop => {
                        // Whoever stops in order has closed the readers' doors: this is the last head.
                        if Some(self.trail_head()) != self.audited {
                            self.heads.audit_now();
                        }
                        self.round(true);
                        self.show();
                        return;
                    }
                }
                next = mail.try_recv().ok();
            }
            self.round(false);
        }
    }

    /// One round, if something is due.
    fn round(&mut self, force: bool) {
        let round = self.heads.step(self.parts.clock.mono_ns(), force);
        if round == Round::default() {
            return;
        }
        let work = self.sign_all(&round);
        for some in work.chunks(AT_ONCE) {
            for (about, outcome) in self.submit_all(some) {
                self.settle(about, outcome);
            }
        }
        let under_way: Vec<Bytes> = self.signed.values().cloned().collect();
        if let Err(e) = self.outbox.settle(&under_way) {
            self.trouble = Some(e.why);
        }
    }

    /// Signs what is not signed yet and makes it durable.
    fn sign_all(&mut self, round: &Round) -> Vec<(About, Bytes)> {
        let (mut work, mut fresh) = (Vec::new(), Vec::new());
        for link in &round.heads {
            let about = About::Head(link.did, link.index);
            if let Some(entry) = self.signed.get(&(link.did, link.index)) {
                work.push((about, entry.clone()));
                continue;
            }
            match self.sign_head(link) {
                Ok(entry) => fresh.push((about, entry)),
                Err(e) => self.settle(about, Err(e)),
            }
        }
        for links in &round.together {
            let about = About::Heads(links.iter().map(|link| (link.did, link.index)).collect());
            match self.sign_heads(links) {
                Ok(entry) => fresh.push((about, entry)),
                Err(e) => self.settle(about, Err(e)),
            }
        }
        if round.audit {
            let head = self.trail_head();
            match self.sign_audit(head) {
                Ok(entry) => fresh.push((About::Audit(head.0, head.1), entry)),
                Err(e) => self.settle(About::Audit(head.0, head.1), Err(e)),
            }
        }
        let bytes: Vec<Bytes> = fresh.iter().map(|(_, entry)| entry.clone()).collect();
        if let Err(e) = self.outbox.commit(&bytes) {
            // A crash here leaves heads that are pending again; what is not durable is not submitted.
            for (about, _) in fresh {
                self.settle(about, Err(e.clone()));
            }
            return work;
        }
        for (about, entry) in &fresh {
            if let About::Head(did, index) = about {
                self.signed.insert((*did, *index), entry.clone());
            }
        }
        work.extend(fresh);
        work
    }

    fn sign_head(&self, head: &Link) -> Outcome<Bytes> {
        let patient = self.parts.patients.seal_key_of(&head.did);
        let own = self.parts.provider.seal_public();
        let to = patient.map(|(_, seal)| seal).or(own);
        let to = to.ok_or_else(|| Failure::internal("the provider has no sealing key"))?;
        let content = ContentDg {
            did: head.did,
            index: head.index,
            slot_start_ns: head.slot_start_ns,
            end_ns: head.end_ns,
            patient: patient.map(|(sign, _)| sign),
        };
        let event = Event::AddData {
            digest: head.digest(),
            tag: link::tag(&head.did, head.index),
            content: seal::seal(
                &to,
                Purpose::AddData,
                &content.encode()?,
                &*self.parts.entropy,
            )?,
        };
        event::sign(&event, &self.parts.provider).map(Bytes::from)
    }

    /// Their file is durable before an event names it.
    fn sign_heads(&self, links: &[Link]) -> Outcome<Bytes> {
        let head = |link: &Link| (link::tag(&link.did, link.index), link.digest());
        let heads = HeadSet::new(links.iter().map(head).collect())?;
        let event = Event::AddHeads {
            root: self.parts.ledger.keep(&heads)?,
            count: heads.count(),
        };
        event::sign(&event, &self.parts.provider).map(Bytes::from)
    }

    /// Head of the trail; of an empty one zeros and 0: an idle log shows by its time that it lives.
    fn trail_head(&self) -> (Digest, u64) {
        let head = self.parts.trail.head();
        head.unwrap_or((Digest([0; 32]), 0))
    }

    fn sign_audit(&self, (digest, count): (Digest, u64)) -> Outcome<Bytes> {
        let time_ms = u64::try_from(self.parts.clock.wall_ns() / 1_000_000).unwrap_or(0);
        let event = Event::AuditHead {
            digest,
            count,
            time_ms,
        };
        event::sign(&event, &self.parts.provider).map(Bytes::from)
    }

    fn submit_all(&self, work: &[(About, Bytes)]) -> Vec<(About, Outcome<u64>)> {
        // As many places as answers: the sequencer's thread never waits for this one.
        let (answer, answers) = self.parts.threads.mailbox(work.len());
        for (about, entry) in work {
            let (about, answer) = (about.clone(), answer.clone());
            self.parts
                .ledger
                .submit_then(entry.clone(), move |outcome| {
                    // Fails only if this thread has died.
                    drop(answer.send((about, outcome)));
                });
        }
        drop(answer);
        answers.iter().collect()
    }

    fn settle(&mut self, about: About, outcome: Outcome<u64>) {
        let failure = match outcome {
            Ok(_) => {
                self.trouble = None;
                match about {
                    About::Head(did, index) => self.anchored(did, index),
                    About::Heads(heads) => {
                        for (did, index) in heads.iter() {
                            self.anchored(*did, *index);
                        }
                    }
                    About::Audit(digest, count) => self.audited = Some((digest, count)),
                }
                return;
            }
            Err(failure) => failure,
        };
        self.metrics.failures.inc();
        let later = matches!(failure.kind, FailureKind::Busy | FailureKind::Io);
        match about {
            About::Head(did, index) if later => self.heads.failed(&did, index),
            About::Head(did, index) => {
                self.signed.remove(&(did, index));
                self.heads.give_up(&did, index);
                tracing::error!("notary: link {index} of a stream cannot be anchored: {failure}");
            }
            About::Heads(heads) => {
                for (did, index) in heads.iter() {
                    if later {
                        self.heads.failed(did, *index);
                    } else {
                        self.heads.alone(did, *index);
                    }
                }
            }
            About::Audit(..) => self.heads.audit_failed(self.parts.clock.mono_ns()),
        }
        self.trouble = Some(failure.why);
    }

    fn anchored(&mut self, did: Did, index: u64) {
        self.heads.settled(&did, index);
        // One event vouches for all links before it.
        let before = self.signed.range((did, 0)..=(did, index));
        for key in before.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.signed.remove(&key);
        }
        self.metrics.anchored.inc();
    }

    fn show(&self) -> AnchorStatus {
        let now = self.parts.clock.mono_ns();
        let status = AnchorStatus {
            pending_heads: self.heads.pending(),
            lag_ns: self.heads.lag_ns(now),
            trouble: self.trouble.clone(),
        };
        self.metrics
            .pending_heads
            .set(i64::try_from(status.pending_heads).unwrap_or(i64::MAX));
        self.metrics
            .lag_seconds
            .set(Duration::from_nanos(status.lag_ns).as_secs_f64());
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status.clone();
        status
    }
}
