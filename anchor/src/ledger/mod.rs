//! The ledger: a C2SP tile log with one sequencer thread (formats.md 5).
//!
//! ```text
//! submit ─▶ admit (caller's thread) ─▶ mailbox ─▶ sequencer:
//!   1 close a batch over what waits (1-400 events, block leaf)
//!   2 pending, synced          from here on this batch follows the old size, and no other
//!   3 apply: bundles and tiles, synced; checkpoint, signed and put in place of the old one
//!   4 answer every submitter with its leaf index
//! ```
//!
//! A submitter is answered only after the checkpoint that covers its entry is durable; submitted again,
//! the same bytes get the same index. The start recomputes the root from the entries, compares every
//! tile, and finishes a pending batch through the same `apply`.

mod apply;
mod cosigned;
mod files;
mod open;
mod sequencer;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc::TrySendError};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, Outcome, limits,
    seams::{Clock, Disk, Mailbox, Thread, Threads},
};
use chordae_chain::{
    checkpoint::{Checkpoint, TrustedLog},
    keys::SecretKeys,
    link,
    merkle::{self, NodeHash},
    receipt,
};
use tlog_tiles::{Hash, Tile, TileHashReader};

use crate::{
    core::{
        admit::{Admitted, admit},
        index::Index,
        ports::Parties,
        tree::{self, TILE_HEIGHT, TILE_WIDTH},
    },
    metrics::LedgerMetrics,
};
use cosigned::{Quorum, Signed};
use files::Files;

pub use open::Settings;

/// Keys that the ledger signs with.
#[derive(Debug, Clone)]
pub struct LedgerKeys {
    /// Signs checkpoints.
    pub log: SecretKeys,
    /// Signs `block` events.
    pub sequencer: SecretKeys,
}

/// Where a did is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Index of the anchored link.
    pub index: u64,
    /// Its digest, as anchored.
    pub digest: Digest,
    /// Leaf index of the `add-data` event.
    pub leaf_index: u64,
}

/// What a submission is answered to; unanswered, it says so itself.
pub(crate) struct Reply(Option<Box<dyn FnOnce(Outcome<u64>) + Send>>);

impl Reply {
    pub(crate) fn answer(mut self, outcome: Outcome<u64>) {
        if let Some(then) = self.0.take() {
            then(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(stopped()));
        }
    }
}

fn stopped() -> Failure {
    Failure::busy("the ledger has stopped; the entry may or may not be in it: submit it again")
}

/// Mail to the sequencer.
pub(crate) enum Mail {
    Submit(Box<Admitted>, Reply),
    Stop,
}

/// Who hears of each new checkpoint; see [`Ledger::watch`].
pub type Watch = Box<dyn Fn(&str) + Send + Sync>;

/// What readers see: the newest durable checkpoint and what lies under it.
pub(crate) struct View {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) text: String,
    pub(crate) index: Index,
    /// Whether readers wait for a quorum of witnesses.
    pub(crate) waits: bool,
    /// The newest checkpoint that has one.
    pub(crate) cosigned: Option<Signed>,
}

impl View {
    /// Size, root and text of the checkpoint that counts for readers; none while no witness has seen any.
    fn counted(&self) -> Option<(&Checkpoint, &str)> {
        match &self.cosigned {
            _ if !self.waits => Some((&self.checkpoint, &self.text)),
            Some(signed) => Some((&signed.checkpoint, &signed.text)),
            None => None,
        }
    }

    /// Entries that count for nobody yet.
    pub(crate) fn uncounted(&self) -> u64 {
        let counted = self.counted().map_or(0, |(c, _)| c.size);
        self.checkpoint.size.saturating_sub(counted)
    }
}

struct Inner {
    files: Files,
    log: TrustedLog,
    parties: Arc<dyn Parties>,
    view: Arc<RwLock<View>>,
    threads: Threads,
    mailbox: Mailbox<Mail>,
    thread: std::sync::Mutex<Option<Thread<()>>>,
    watches: Arc<RwLock<Vec<Watch>>>,
    metrics: LedgerMetrics,
    quorum: Option<Quorum>,
}

/// See the module. Clones share the log.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

impl Ledger {
    /// Opens the log in `data_dir/ledger`, creating it if there is none, and starts its sequencer.
    ///
    /// # Errors
    /// `Damaged`, naming file or entry, when what is stored contradicts the checkpoint, itself, or these
    /// keys; `Io`.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: Settings,
        keys: LedgerKeys,
        parties: Arc<dyn Parties>,
        clock: Arc<dyn Clock>,
        threads: &Threads,
        registry: &prometheus::Registry,
    ) -> Outcome<Self> {
        let metrics = LedgerMetrics::new(registry)?;
        let opened = open::open(disk, &settings, &keys)?;
        let view = Arc::new(RwLock::new(opened.view));
        let (mailbox, mail) = threads.mailbox(limits::LEDGER_QUEUE);
        let watches: Arc<RwLock<Vec<Watch>>> = Arc::default();
        let sequencer = sequencer::Sequencer {
            watches: Arc::clone(&watches),
            files: opened.files.clone(),
            pending: opened.pending,
            tree: opened.tree,
            keys,
            origin: settings.origin,
            clock,
            view: Arc::clone(&view),
            metrics: metrics.clone(),
        };
        sequencer.show();
        let thread = threads.spawn("ledger", move || sequencer.run(&mail))?;
        let thread = std::sync::Mutex::new(Some(thread));
        let (files, log) = (opened.files, opened.log);
        Ok(Self(Arc::new(Inner {
            files,
            log,
            parties,
            view,
            threads: threads.clone(),
            mailbox,
            thread,
            watches,
            metrics,
            quorum: opened.quorum,
        })))
    }

    /// Submits a signed entry and waits until a durable checkpoint covers it; its leaf index.
    ///
    /// # Errors
    /// `BadInput` and `Refused` for what may not enter (never tried again as it is); `Damaged` for a
    /// fork; `Busy` or `Io` when the outcome is unknown: submit the same bytes again.
    pub fn submit(&self, entry: impl Into<Bytes>) -> Outcome<u64> {
        let (reply, answer) = self.0.threads.mailbox(1);
        let admitted = self.admit(entry.into())?;
        let reply = Reply(Some(Box::new(move |outcome| {
            // The asker may have gone; the entry is in the log all the same.
            drop(reply.send(outcome));
        })));
        let mail = Mail::Submit(Box::new(admitted), reply);
        self.0.mailbox.send(mail).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Submits without waiting. `then` gets the outcome on the sequencer's thread or, when the entry is
    /// not taken, on this one; it must not block. `Busy` when too many wait.
    pub fn submit_then(
        &self,
        entry: impl Into<Bytes>,
        then: impl FnOnce(Outcome<u64>) + Send + 'static,
    ) {
        let reply = Reply(Some(Box::new(then)));
        let admitted = match self.admit(entry.into()) {
            Ok(admitted) => admitted,
            Err(e) => return reply.answer(Err(e)),
        };
        let mail = Mail::Submit(Box::new(admitted), reply);
        // Dropped because the sequencer is gone, a reply answers for itself.
        if let Err(TrySendError::Full(Mail::Submit(_, reply))) = self.0.mailbox.try_send(mail) {
            reply.answer(Err(Failure::busy("too many events wait for the ledger")));
        }
    }

    fn admit(&self, entry: Bytes) -> Outcome<Admitted> {
        admit(entry, &*self.0.parties).inspect_err(|e| {
            let reason = if e.kind == chordae_base::FailureKind::BadInput {
                "bad"
            } else {
                "refused"
            };
            self.0.metrics.refused.with_label_values(&[reason]).inc();
        })
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        // A reader's panic leaves the view whole: only the sequencer writes, in one assignment.
        self.0.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries under the newest checkpoint.
    pub fn size(&self) -> u64 {
        self.view().checkpoint.size
    }

    /// The newest checkpoint, a signed note; with its cosignatures, once it has enough of them.
    pub fn checkpoint(&self) -> String {
        let view = self.view();
        match &view.cosigned {
            Some(signed) if signed.checkpoint == view.checkpoint => signed.text.clone(),
            _ => view.text.clone(),
        }
    }

    /// The newest checkpoint, and its note as the log alone signed it.
    pub fn newest(&self) -> (Checkpoint, String) {
        let view = self.view();
        (view.checkpoint.clone(), view.text.clone())
    }

    /// The proof that the log begins with its first `old` entries, from those up to a size: see
    /// [`merkle::consistency_path`].
    ///
    /// # Errors
    /// `BadInput` beyond the checkpoint; `Damaged` when the tiles cannot be read.
    pub fn consistency(&self, size: u64, old: u64) -> Outcome<Vec<NodeHash>> {
        let (newest, root) = {
            let view = self.view();
            (view.checkpoint.size, view.checkpoint.root)
        };
        if size > newest {
            return Err(Failure::bad_input("the ledger is not that long"));
        }
        let reader = TileHashReader::new(newest, Hash(root), &self.0.files);
        merkle::consistency_path(size, old, &reader)
    }

    /// From now on tells `watch` each new checkpoint, once it is durable and before its submitters are
    /// told, on the sequencer's thread: it may take as long as a write.
    pub fn watch(&self, watch: Watch) {
        let watches = self.0.watches.write();
        watches.unwrap_or_else(PoisonError::into_inner).push(watch);
    }

    /// Whether the log begins with what this checkpoint of it covers.
    ///
    /// # Errors
    /// `Damaged` when its tiles cannot be read.
    pub fn begins_with(&self, earlier: &Checkpoint) -> Outcome<bool> {
        let (size, root) = {
            let view = self.view();
            (view.checkpoint.size, view.checkpoint.root)
        };
        self.0.files.begins_with((size, root), earlier)
    }

    /// Origin and key of the log, as a reader trusts them.
    pub fn trusted_log(&self) -> &TrustedLog {
        &self.0.log
    }

    /// Leaf index of an entry under the newest checkpoint, by its leaf hash.
    pub fn place(&self, leaf: &[u8; 32]) -> Option<u64> {
        let view = self.view();
        view.index.place(leaf, view.checkpoint.size)
    }

    /// Leaf index of a session's create-session event.
    pub fn session(&self, sid: &[u8; 32]) -> Option<u64> {
        let view = self.view();
        view.index.session(sid, view.checkpoint.size)
    }

    /// Whether the session's signer revoked it.
    pub fn revoked(&self, sid: &[u8; 32]) -> bool {
        let view = self.view();
        view.index.revoked(sid, view.checkpoint.size)
    }

    /// The event of one link, found by its tag.
    pub fn tagged(&self, did: &Did, index: u64) -> Option<Anchor> {
        let view = self.view();
        let (leaf_index, digest) = view
            .index
            .tagged(&link::tag(did, index), view.checkpoint.size)?;
        Some(Anchor {
            index,
            digest,
            leaf_index,
        })
    }

    /// The earliest link of a did in `at_least..=newest` that is anchored under a checkpoint that counts.
    pub fn anchored(&self, did: &Did, at_least: u64, newest: u64) -> Option<Anchor> {
        let last = newest.min(at_least.saturating_add(limits::LINKS_MAX as u64));
        let counted = self.counted();
        let counts = |anchor: &Anchor| anchor.leaf_index < counted;
        (at_least..=last).find_map(|index| self.tagged(did, index).filter(counts))
    }

    /// An entry.
    ///
    /// # Errors
    /// `NotFound` beyond the checkpoint; `Damaged` when the stored bytes are not those of the log.
    pub fn entry(&self, leaf_index: u64) -> Outcome<Bytes> {
        let size = self.size();
        if leaf_index >= size {
            return Err(Failure::not_found(format!(
                "the ledger has no entry {leaf_index}"
            )));
        }
        let entries = self.0.files.bundle(leaf_index / TILE_WIDTH, size)?;
        let at = usize::try_from(leaf_index % TILE_WIDTH).unwrap_or(usize::MAX);
        let entry = entries.get(at).cloned();
        let entry = entry.ok_or_else(|| Failure::damaged("the bundle is too short"))?;
        // The index was made from the entries when their root was checked.
        if self.place(&merkle::leaf_hash(&entry)) != Some(leaf_index) {
            return Err(Failure::damaged(format!(
                "ledger entry {leaf_index} was changed"
            )));
        }
        Ok(entry)
    }

    /// The receipt of an entry under the newest checkpoint that counts: tlog-proof text.
    ///
    /// # Errors
    /// `NotFound` beyond that checkpoint; `Damaged` when the tiles do not lead to its root.
    pub fn receipt(&self, leaf_index: u64) -> Outcome<String> {
        let (size, root, text) = {
            let view = self.view();
            let counted = view.counted();
            let (checkpoint, text) =
                counted.ok_or_else(|| Failure::not_found("no checkpoint has its witnesses yet"))?;
            (checkpoint.size, checkpoint.root, text.to_owned())
        };
        if leaf_index >= size {
            return Err(Failure::not_found(format!(
                "the ledger has no entry {leaf_index} that counts"
            )));
        }
        let reader = TileHashReader::new(size, Hash(root), &self.0.files);
        let path = merkle::inclusion_path(size, leaf_index, &reader)?;
        Ok(receipt::make(leaf_index, &path, &text))
    }

    /// A file of the log as published: `checkpoint` or `tile/...`.
    ///
    /// # Errors
    /// `NotFound` for anything that the newest checkpoint does not cover.
    pub fn file(&self, path: &str) -> Outcome<Bytes> {
        if path == "checkpoint" {
            return Ok(Bytes::from(self.checkpoint()));
        }
        let size = self.size();
        let tile: Option<Tile> = tree::parse_path(path).filter(|tile| tree::covers(size, tile));
        let none = || Failure::not_found("no such file in the ledger");
        self.0.files.tile(&tile.ok_or_else(none)?)?.ok_or_else(none)
    }

    /// Finishes what waits, ends the sequencer and waits for its end.
    pub fn stop(&self) {
        // Fails only when the thread has ended already.
        drop(self.0.mailbox.send(Mail::Stop));
        let thread = self
            .0
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It has no result; a panic of its was answered to the submitters.
            drop(thread.join());
        }
    }
}

pub(crate) fn write_view(view: &RwLock<View>) -> RwLockWriteGuard<'_, View> {
    view.write().unwrap_or_else(PoisonError::into_inner)
}

const _: () = assert!(TILE_WIDTH == 1 << TILE_HEIGHT);
