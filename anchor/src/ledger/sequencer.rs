//! The sequencer's thread: takes what waits, makes it a batch, applies it, answers.
//!
//! No timer: while a batch is being synced the next one gathers, so blocks grow with the load. The first
//! failed write ends the thread; whoever waits is told that the outcome is unknown, and only a new start,
//! which reads what is really on the disk, goes on.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind, Outcome, limits,
    seams::{self, Clock},
};
use chordae_chain::{event, merkle::NodeHash};

use super::{LedgerKeys, Mail, Reply, View, Watch, apply::apply, files::Files, write_view};
use crate::{
    core::{admit::Admitted, batch::Batch, tree::Tree},
    metrics::LedgerMetrics,
};

pub(super) struct Sequencer {
    pub(super) files: Files,
    pub(super) pending: PathBuf,
    pub(super) tree: Tree,
    pub(super) keys: LedgerKeys,
    pub(super) origin: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) view: Arc<RwLock<View>>,
    pub(super) watches: Arc<RwLock<Vec<Watch>>>,
    pub(super) metrics: LedgerMetrics,
}

/// Events on their way into a batch, with everybody who waits for them.
#[derive(Default)]
struct Gathered {
    events: Vec<Bytes>,
    waiting: BTreeMap<NodeHash, Vec<Reply>>,
    places: BTreeMap<NodeHash, u64>,
}

impl Sequencer {
    pub(super) fn run(mut self, mail: &seams::Mail<Mail>) {
        let mut stopping = false;
        while !stopping {
            let Ok(first) = mail.recv() else { return };
            let mut gathered = Gathered::default();
            let mut next = Some(first);
            while let Some(mail_item) = next {
                match mail_item {
                    Mail::Submit(admitted, reply) => self.gather(&mut gathered, *admitted, reply),
                    Mail::Stop => stopping = true,
                }
                let room = gathered.events.len() < limits::BLOCK_EVENTS_MAX;
                next = if room { mail.try_recv().ok() } else { None };
            }
            if gathered.events.is_empty() {
                continue;
            }
            let places = std::mem::take(&mut gathered.places);
            match self.sequence(std::mem::take(&mut gathered.events)) {
                Ok(()) => {
                    for (leaf, replies) in gathered.waiting {
                        let place = places.get(&leaf).copied();
                        for reply in replies {
                            reply.answer(place.ok_or_else(super::stopped));
                        }
                    }
                }
                Err(e) => {
                    tracing::error!("ledger: {e}; it stops until the next start");
                    for reply in gathered.waiting.into_values().flatten() {
                        let why = format!("{}; the entry may or may not be in the ledger", e.why);
                        reply.answer(Err(Failure {
                            kind: FailureKind::Io,
                            why,
                        }));
                    }
                    return;
                }
            }
        }
    }

    /// Puts an event into the batch, or answers at once: it is there already, or may not enter.
    fn gather(&self, gathered: &mut Gathered, admitted: Admitted, reply: Reply) {
        let mut view = write_view(&self.view);
        let leaf = *admitted.leaf();
        if let Some(at) = view.index.place(&leaf, view.checkpoint.size) {
            drop(view);
            return reply.answer(Ok(at));
        }
        if let Some(waiting) = gathered.waiting.get_mut(&leaf) {
            return waiting.push(reply);
        }
        if let Err(e) = view.index.check(admitted.signed()) {
            drop(view);
            let reason = if e.kind == FailureKind::Damaged {
                "fork"
            } else {
                "refused"
            };
            self.metrics.refused.with_label_values(&[reason]).inc();
            return reply.answer(Err(e));
        }
        // The index runs ahead of the checkpoint; readers look below the checkpoint's size only.
        gathered.places.insert(leaf, view.index.size());
        view.index.append(leaf, admitted.signed());
        gathered.waiting.insert(leaf, vec![reply]);
        gathered.events.push(admitted.entry().clone());
    }

    fn sequence(&mut self, events: Vec<Bytes>) -> Outcome<()> {
        let began = self.clock.mono_ns();
        let now_ms = u64::try_from(self.clock.wall_ns() / 1_000_000).unwrap_or(0);
        let last = write_view(&self.view).index.last_block();
        let batch = Batch::close(&self.tree, last, events, now_ms, &self.keys.sequencer)?;

        // A crash or a failure here leaves the old pending form, which is history, or this one. Nothing
        // is signed yet and nobody was answered, so either start is right.
        put_pending(&self.files, &self.pending, &batch)?;

        let applied = apply(
            &self.files,
            &self.tree,
            &batch,
            &self.origin,
            &self.keys.log,
        )?;

        // Durable; now readers may see it, then submitters may be told.
        let watches = self.watches.read().unwrap_or_else(PoisonError::into_inner);
        watches.iter().for_each(|watch| watch(&applied.text));
        drop(watches);
        if let Some(block) = batch.entries.last() {
            let mut view = write_view(&self.view);
            let leaf = event::leaf_hash(block);
            view.index.append(leaf, &event::decode(block)?);
            view.checkpoint = applied.checkpoint;
            view.text = applied.text;
        }
        self.tree = applied.tree;
        self.metrics
            .batch_seconds
            .observe(seconds(self.clock.mono_ns().saturating_sub(began)));
        self.show();

        // Full tiles stand under a durable checkpoint; their partial ones are no longer needed. What is
        // left behind here is only space.
        for file in &applied.full {
            if let Err(e) = self.files.remove_partials(&file.tile) {
                tracing::warn!("ledger: partial tiles stay: {e}");
            }
        }
        Ok(())
    }

    /// Shows size and time of the newest checkpoint to operators.
    pub(super) fn show(&self) {
        let view = write_view(&self.view);
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

fn put_pending(files: &Files, path: &std::path::Path, batch: &Batch) -> Outcome<()> {
    seams::write_atomic(&*files.disk, path, &batch.encode()?)
        .map_err(|e| Failure::os("write the pending batch", &e))
}

#[expect(clippy::cast_precision_loss, reason = "a metric in seconds")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
