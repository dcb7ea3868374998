//! The sequencer's thread: takes what waits, makes it a batch, applies it, answers.
//!
//! A batch is closed by count or by timer. Without a timer it takes what waits: while a batch is being synced the
//! next one gathers, so blocks grow with the load. `ledger/` follows some batches later, after the answers
//! (decisions 49, 53). The first failed write, or look-up, ends the thread; whoever waits is told that the outcome is
//! unknown, and only a new start, which reads what is really on the disk, goes on.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, mpsc::RecvTimeoutError},
    time::Duration,
};

use chordae_base::{
    Failure, FailureKind, Outcome, limits,
    seams::{self, Clock, Thread, Threads},
};
use chordae_chain::{event, merkle::NodeHash};

use super::{
    Cadence, LedgerKeys, Mail, Reply, Shelf, Watch, apply::apply, batches::Batches,
    files::Unsettled, write_view,
};
use crate::{
    core::{
        admit::Admitted,
        batch::Batch,
        index::{Entries, Found, Index, Verdict},
        run::Key,
        tree::Tree,
    },
    metrics::LedgerMetrics,
};

pub(super) struct Sequencer {
    pub(super) shelf: Shelf,
    pub(super) batches: Batches,
    /// What a crash may tear until it is settled.
    pub(super) unsettled: Unsettled,
    /// When the first batch came that is not settled.
    pub(super) behind_since: u64,
    pub(super) tree: Tree,
    pub(super) keys: LedgerKeys,
    pub(super) origin: String,
    pub(super) cadence: Cadence,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) threads: Threads,
    /// Writes runs of the index.
    pub(super) writer: Option<Thread<()>>,
    pub(super) watches: Arc<RwLock<Vec<Watch>>>,
    pub(super) metrics: LedgerMetrics,
}

/// Events on their way into a batch, with everybody who waits for them.
struct Gathered {
    /// What the log will say.
    ahead: Index,
    events: Vec<Admitted>,
    waiting: BTreeMap<NodeHash, Waiting>,
    /// When the first event came.
    since: u64,
}

struct Waiting {
    place: u64,
    replies: Vec<Reply>,
}

/// The log, and behind it what is gathered.
struct Both<'a>(&'a Shelf, &'a Gathered);

impl Entries for Both<'_> {
    fn find(&self, key: &Key) -> Outcome<Option<Found>> {
        if let Some(found) = self.0.find(key)? {
            return Ok(Some(found));
        }
        let (ahead, events) = (&self.1.ahead, &self.1.events);
        let found = ahead.get(key).and_then(|at| {
            let event = events.get(usize::try_from(at - ahead.first()).ok()?)?;
            Some(Found {
                leaf_index: at,
                leaf: *event.leaf(),
                entry: event.entry().clone(),
                signed: event.signed().clone(),
                heads: event.heads().cloned(),
            })
        });
        Ok(found)
    }
}

impl Sequencer {
    pub(super) fn run(mut self, mail: &seams::Mail<Mail>) {
        let ended = self.turns(mail).and_then(|()| self.settle());
        if let Err(e) = ended {
            tracing::error!("ledger: {e}; it stops until the next start");
        }
        if let Some(writer) = self.writer.take() {
            // What it could not write is made anew at the next start.
            drop(writer.join());
        }
    }

    /// Batch after batch, until it is to stop.
    ///
    /// # Errors
    /// The first failed write or look-up; whoever waited was told.
    fn turns(&mut self, mail: &seams::Mail<Mail>) -> Outcome<()> {
        let mut stopping = false;
        while !stopping {
            let first = match self.first(mail) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.settle()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut settlers = Vec::new();
            let mut gathered = Gathered {
                ahead: write_view(&self.shelf.view).index.ahead(),
                events: Vec::new(),
                waiting: BTreeMap::new(),
                since: 0,
            };
            let mut next = Some(first);
            let mut failed = None;
            while let Some(mail_item) = next {
                match mail_item {
                    Mail::Submit(admitted, reply) => {
                        failed = self.gather(&mut gathered, *admitted, reply).err();
                    }
                    Mail::Settle(reply) => settlers.push(reply),
                    Mail::Stop => stopping = true,
                }
                next = if failed.is_none() {
                    self.next(&gathered, stopping, mail)
                } else {
                    None
                };
            }
            let waiting = std::mem::take(&mut gathered.waiting).into_values();
            let done = match failed {
                Some(e) => Err(e),
                None if gathered.events.is_empty() => Ok(()),
                None => self.sequence(gathered),
            };
            for Waiting { place, replies } in waiting {
                for reply in replies {
                    let outcome = done.as_ref().map(|()| place);
                    reply.answer(outcome.map_err(unknown));
                }
            }
            done?;
            let many = self.batches.behind() >= self.cadence.behind || self.left().is_zero();
            if many || !settlers.is_empty() || self.batches.is_full() || self.unsettled.is_much() {
                self.settle()?;
            }
            // Dropped by an error before this, a reply answers for itself.
            settlers.into_iter().for_each(|reply| reply.answer(Ok(0)));
        }
        Ok(())
    }

    /// The first mail of a batch; `Timeout` when it is time to settle.
    fn first(&self, mail: &seams::Mail<Mail>) -> Result<Mail, RecvTimeoutError> {
        match self.batches.behind() {
            0 => mail.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => mail.recv_timeout(self.left()),
        }
    }

    /// How long the batches behind `ledger/` may wait for it still.
    fn left(&self) -> Duration {
        let gone = self.clock.mono_ns().saturating_sub(self.behind_since);
        let gone = Duration::from_nanos(gone);
        self.cadence.settle_after.saturating_sub(gone)
    }

    /// Brings `ledger/` up to the batches so far, so that the next start need not apply them again.
    fn settle(&mut self) -> Outcome<()> {
        if self.batches.behind() == 0 {
            return Ok(());
        }
        let checkpoint = self.shelf.view().text.clone();
        self.batches
            .settle(&self.shelf.files, &mut self.unsettled, &checkpoint)
    }

    /// What comes into the same batch: what waits already and, until the batch has its time, what comes.
    fn next(&self, gathered: &Gathered, stopping: bool, mail: &seams::Mail<Mail>) -> Option<Mail> {
        if gathered.events.len() >= self.cadence.events.min(limits::BLOCK_EVENTS_MAX) {
            return None;
        }
        let waits = mail.try_recv().ok();
        if waits.is_some() || stopping || gathered.events.is_empty() {
            return waits;
        }
        let gone = self.clock.mono_ns().saturating_sub(gathered.since);
        let left = self.cadence.wait.saturating_sub(Duration::from_nanos(gone));
        if left.is_zero() {
            return None;
        }
        mail.recv_timeout(left).ok()
    }

    /// Puts an event into the batch, or answers at once: it is there already, may not enter, or leads to an entry that
    /// was changed. An error is that of the index, and of all that follows; the submitter was told.
    fn gather(&self, gathered: &mut Gathered, admitted: Admitted, reply: Reply) -> Outcome<()> {
        let leaf = *admitted.leaf();
        if let Some(waiting) = gathered.waiting.get_mut(&leaf) {
            waiting.replies.push(reply);
            return Ok(());
        }
        let entries = Both(&self.shelf, gathered);
        let heads = admitted.heads().map(|heads| &**heads);
        match gathered
            .ahead
            .check(&leaf, admitted.signed(), heads, &entries)
        {
            Ok(Verdict::There(at)) => reply.answer(Ok(at)),
            Ok(Verdict::Not(e)) => {
                let reason = if e.kind == FailureKind::Damaged {
                    "fork"
                } else {
                    "refused"
                };
                self.metrics.refused.with_label_values(&[reason]).inc();
                reply.answer(Err(e));
            }
            Ok(Verdict::Fits) => {
                if gathered.events.is_empty() {
                    gathered.since = self.clock.mono_ns();
                }
                let place = gathered.ahead.size();
                gathered.ahead.append(leaf, &admitted.signed().event, heads);
                let replies = vec![reply];
                gathered.waiting.insert(leaf, Waiting { place, replies });
                gathered.events.push(admitted);
            }
            Err(e) if e.kind == FailureKind::Damaged => reply.answer(Err(e)),
            Err(e) => {
                reply.answer(Err(unknown(&e)));
                return Err(e);
            }
        }
        Ok(())
    }

    fn sequence(&mut self, gathered: Gathered) -> Outcome<()> {
        let events = gathered.events.len();
        let _sequencing = tracing::debug_span!("ledger.batch", events).entered();
        let began = self.clock.mono_ns();
        let now_ms = u64::try_from(self.clock.wall_ns() / 1_000_000).unwrap_or(0);
        let mut ahead = gathered.ahead;
        let last = ahead.last_block();
        let events = gathered.events.iter().map(|e| e.entry().clone()).collect();
        let batch = Batch::close(&self.tree, last, events, now_ms, &self.keys.sequencer)?;
        if let Some(block) = batch.entries.last() {
            ahead.append(event::leaf_hash(block), &event::decode(block)?.event, None);
        }

        // A crash or a failure in here leaves the batch, whole, or not. Nothing is signed yet and nobody was answered,
        // so either start is right.
        if self.batches.behind() == 0 {
            self.behind_since = began;
        }
        self.batches.commit(&batch)?;

        let applied = apply(
            &self.shelf.files,
            &mut self.unsettled,
            &self.tree,
            &batch,
            &self.origin,
            &self.keys.log,
        )?;

        // No crash takes it back; now readers may see it, then submitters may be told.
        let watches = self.watches.read().unwrap_or_else(PoisonError::into_inner);
        watches.iter().for_each(|watch| watch(&applied.text));
        drop(watches);
        let mut view = write_view(&self.shelf.view);
        view.index.absorb(ahead);
        view.checkpoint = applied.checkpoint;
        view.text = applied.text;
        let many = view.index.holds(self.cadence.run_entries);
        drop(view);
        self.tree = applied.tree;
        if many {
            self.write_index();
        }
        self.metrics
            .batch_seconds
            .observe(seconds(self.clock.mono_ns().saturating_sub(began)));
        self.show();
        Ok(())
    }

    /// Lets the keys that are in memory become a run, on a thread of its own; if one is at work still, later.
    fn write_index(&mut self) {
        let runs = &self.shelf.runs;
        if !runs.begin() {
            return;
        }
        let mut view = write_view(&self.shelf.view);
        // Under the lock: whoever finds a key no longer in memory finds it among the frozen.
        runs.freeze(&mut view.index, self.tree.root());
        drop(view);
        let work = Arc::clone(runs);
        match self.threads.spawn("ledger-index", move || work.write()) {
            Ok(thread) => self.writer = Some(thread),
            Err(e) => {
                tracing::warn!("ledger: the index is written here: {e}");
                runs.write();
            }
        }
    }

    /// Shows size and time of the newest checkpoint to operators.
    pub(super) fn show(&self) {
        let view = write_view(&self.shelf.view);
        self.metrics
            .entries
            .set(i64::try_from(view.checkpoint.size).unwrap_or(i64::MAX));
        self.metrics.show_uncounted(&view);
        if let Some(block) = view.index.last_block() {
            self.metrics
                .checkpoint_timestamp
                .set(seconds(block.time_ms.saturating_mul(1_000_000)));
        }
    }
}

fn unknown(e: &Failure) -> Failure {
    Failure::io(format!(
        "{}; the entry may or may not be in the ledger",
        e.why
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a metric in seconds")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
