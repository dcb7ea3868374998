//! The ledger: a C2SP tile log with one sequencer thread (formats.md 5).
//!
//! ```text
//! submit ─▶ admit (caller's thread) ─▶ mailbox ─▶ sequencer:
//!   1 close a batch over what waits (1-400 events, block leaf)
//!   2 journal of batches, synced    from here on this batch follows the old size, and no other
//!   3 apply: bundles and tiles, written; checkpoint, signed and put in place of the old one
//!   4 answer every submitter with its leaf index
//!   5 now and then: tiles, synced; `settled` in the journal
//! ```
//!
//! A submitter is answered only after the checkpoint that covers its entry outlives any crash: it is on the disk, or
//! its batch is, of which the start makes the same bytes (decision 49); submitted again, the same bytes get the same
//! index. The start writes the tiles of batches behind the last `settled` again, finishes those without a checkpoint
//! through the same `apply`, reads the entries that no run of the index covers (all of
//! them where there is none), compares every tile over them and recomputes the root. Older entries and tiles are checked against the root when they are read.

mod apply;
mod batches;
mod cosigned;
mod files;
mod finish;
mod mail;
mod open;
mod runs;
mod sequencer;
mod together;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc::TrySendError};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, KeyId, Outcome, limits,
    seams::{Clock, Disk, Mailbox, Thread, Threads},
};
use chordae_chain::{
    checkpoint::{self, Checkpoint, TrustedLog},
    event::{self, Event},
    heads::{HeadPath, HeadSet},
    keys::{Role, SecretKeys},
    link,
    merkle::{self, NodeHash},
    policy::Policy,
    receipt,
};
use tlog_tiles::{Hash, Tile, TileHashReader};

use crate::{
    core::{
        admit::{Admitted, admit},
        index::{self, Found, Index},
        ports::{HeadSets as _, Parties},
        run::Key,
        tree::{self, TILE_HEIGHT, TILE_WIDTH},
    },
    metrics::LedgerMetrics,
};
use cosigned::{Quorum, Signed};
use files::Files;
use mail::{Mail, Reply, stopped};
use runs::Runs;
use together::Together;

pub use open::{Cadence, Settings};

/// Keys that the ledger signs with.
#[derive(Debug, Clone)]
pub struct LedgerKeys {
    /// Signs checkpoints.
    pub log: SecretKeys,
    /// Signs `block` events.
    pub sequencer: SecretKeys,
}

/// Where a did is anchored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Index of the anchored link.
    pub index: u64,
    /// Its digest, as anchored.
    pub digest: Digest,
    /// Leaf index of the `add-data` or `add-heads` event.
    pub leaf_index: u64,
    /// The event, as it was signed.
    pub entry: Bytes,
    /// What an `add-heads` event anchors.
    heads: Option<Arc<HeadSet>>,
}

impl Anchor {
    /// The way from the head of a did to the root that an `add-heads` event names; none for an `add-data`.
    ///
    /// # Errors
    /// `Internal` when it cannot be computed.
    pub fn way(&self, did: &Did) -> Outcome<Option<HeadPath>> {
        let Some(heads) = &self.heads else {
            return Ok(None);
        };
        heads.prove(&link::tag(did, self.index))
    }
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

/// The log and its index as they can be read at any time.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) files: Files,
    pub(crate) together: Together,
    pub(crate) runs: Arc<Runs>,
    pub(crate) view: Arc<RwLock<View>>,
}

impl Shelf {
    fn view(&self) -> RwLockReadGuard<'_, View> {
        // A reader's panic leaves the view whole: only the sequencer writes.
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size and root of the newest checkpoint.
    fn covered(&self) -> (u64, NodeHash) {
        let view = self.view();
        (view.checkpoint.size, view.checkpoint.root)
    }

    /// The first entry under a key, below the newest checkpoint. The index says where; what counts is the entry,
    /// read and checked against the root.
    ///
    /// # Errors
    /// `Io` when the index cannot be read or leads to an entry without this key (it is then removed, and made anew
    /// by the next start); `Damaged` when the entry is not the log's.
    pub(crate) fn find(&self, key: &Key) -> Outcome<Option<Found>> {
        // In this order: keys go from memory to the runs, and what is found lies under the checkpoint of a moment later.
        let fresh = self.view().index.get(key);
        let Some(at) = self.runs.find(key)?.or(fresh) else {
            return Ok(None);
        };
        let covered = self.covered();
        if at < covered.0 {
            let (leaf, entry) = self.files.entry(at, covered)?;
            let signed = event::decode(&entry)?;
            // Of its heads nothing is asked by whoever looks for the entry itself.
            let heads = match *key == Key::leaf(&leaf) {
                true => None,
                false => self.together.of(&signed.event)?,
            };
            if index::keys(&leaf, &signed.event, heads.as_deref()).contains(key) {
                return Ok(Some(Found {
                    leaf_index: at,
                    leaf,
                    entry,
                    signed,
                    heads,
                }));
            }
        }
        self.runs.disown();
        Err(Failure::io(format!(
            "the index leads to ledger entry {at}, which is another than it says: the next start makes the index anew"
        )))
    }
}

struct Inner {
    shelf: Shelf,
    log: TrustedLog,
    /// What readers hold checkpoints to; knows the keys of the log before this one.
    policy: Option<Policy>,
    parties: Arc<dyn Parties>,
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
        let policy = settings.policy.clone();
        let opened = open::open(disk, &settings, &keys)?;
        let shelf = opened.shelf;
        let (mailbox, mail) = threads.mailbox(limits::LEDGER_QUEUE);
        let watches: Arc<RwLock<Vec<Watch>>> = Arc::default();
        let sequencer = sequencer::Sequencer {
            watches: Arc::clone(&watches),
            shelf: shelf.clone(),
            batches: opened.batches,
            unsettled: files::Unsettled::default(),
            behind_since: 0,
            tree: opened.tree,
            keys,
            origin: settings.origin,
            cadence: settings.cadence,
            clock,
            threads: threads.clone(),
            writer: None,
            metrics: metrics.clone(),
        };
        sequencer.show();
        let thread = threads.spawn("ledger", move || sequencer.run(&mail))?;
        let thread = std::sync::Mutex::new(Some(thread));
        Ok(Self(Arc::new(Inner {
            shelf,
            log: opened.log,
            policy,
            parties,
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
        let admitted = self.admit(entry.into())?;
        self.ask(|reply| Mail::Submit(Box::new(admitted), reply))
    }

    /// Waits until `ledger/` holds the newest checkpoint and everything under it.
    ///
    /// # Errors
    /// `Busy` when the sequencer has ended.
    pub fn settle(&self) -> Outcome<()> {
        self.ask(Mail::Settle).map(drop)
    }

    fn ask(&self, mail: impl FnOnce(Reply) -> Mail) -> Outcome<u64> {
        let (reply, answer) = self.0.threads.mailbox(1);
        let mail = mail(Reply::new(move |outcome| {
            // The asker may have gone; what it asked for is done all the same.
            drop(reply.send(outcome));
        }));
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
        let reply = Reply::new(then);
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
        admit(entry, &*self.0.parties, &self.0.shelf.together).inspect_err(|e| {
            let reason = if e.kind == chordae_base::FailureKind::BadInput {
                "bad"
            } else {
                "refused"
            };
            self.0.metrics.refused.with_label_values(&[reason]).inc();
        })
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.0.shelf.view()
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
        let (newest, root) = self.0.shelf.covered();
        if size > newest {
            return Err(Failure::bad_input("the ledger is not that long"));
        }
        let reader = TileHashReader::new(newest, Hash(root), &self.0.shelf.files);
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
        let covered = self.0.shelf.covered();
        self.0.shelf.files.begins_with(covered, earlier)
    }

    /// Origin and key of the log, as a reader trusts them.
    pub fn trusted_log(&self) -> &TrustedLog {
        &self.0.log
    }

    /// A checkpoint of this log that somebody kept: signed by its key, or by one before it while that was
    /// in force.
    ///
    /// # Errors
    /// `BadInput` for what is no checkpoint, `Damaged` for one that is not of this log.
    pub fn known(&self, text: &str) -> Outcome<Checkpoint> {
        let own = checkpoint::open(text, &self.0.log);
        let policy = self.0.policy.as_ref();
        own.or_else(|e| match policy.map(|policy| policy.open(text)) {
            Some(Ok(opened)) => Ok(opened.checkpoint),
            _ => Err(e),
        })
    }

    /// The size at which a key was retired in a role, if the log says so.
    pub fn retired(&self, role: Role, kid: KeyId) -> Option<u64> {
        let view = self.view();
        view.index.retired(role, kid, view.checkpoint.size)
    }

    /// Leaf index of an entry under the newest checkpoint, by its leaf hash.
    ///
    /// # Errors
    /// Those of a look-up: `Io` for an index that cannot be read, `Damaged` for an entry that was changed.
    pub fn place(&self, leaf: &[u8; 32]) -> Outcome<Option<u64>> {
        let found = self.0.shelf.find(&Key::leaf(leaf))?;
        Ok(found.filter(|f| f.leaf == *leaf).map(|f| f.leaf_index))
    }

    /// A session's create-session event.
    fn created(&self, sid: &[u8; 32]) -> Outcome<Option<Found>> {
        let found = self.0.shelf.find(&Key::leaf(sid))?;
        let made = |f: &Found| matches!(f.signed.event, Event::CreateSession { .. });
        Ok(found.filter(|f| f.leaf == *sid && made(f)))
    }

    /// Leaf index of a session's create-session event.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn session(&self, sid: &[u8; 32]) -> Outcome<Option<u64>> {
        Ok(self.created(sid)?.map(|f| f.leaf_index))
    }

    /// Whether the session's signer revoked it.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn revoked(&self, sid: &[u8; 32]) -> Outcome<bool> {
        let Some(ended) = self.0.shelf.find(&Key::revoked(sid))? else {
            return Ok(false);
        };
        let made = self.created(sid)?;
        Ok(made.is_some_and(|made| made.signed.kid == ended.signed.kid))
    }

    /// Makes heads durable, so that an `add-heads` event may name them; their root.
    ///
    /// # Errors
    /// `Io`.
    pub fn keep(&self, heads: &HeadSet) -> Outcome<NodeHash> {
        self.0.shelf.together.put(heads)
    }

    /// The event that anchors one link, found by its tag.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn tagged(&self, did: &Did, index: u64) -> Outcome<Option<Anchor>> {
        let wanted = link::tag(did, index);
        let Some(found) = self.0.shelf.find(&Key::tag(&wanted))? else {
            return Ok(None);
        };
        Ok(found.digest(&wanted).map(|digest| Anchor {
            index,
            digest,
            leaf_index: found.leaf_index,
            entry: found.entry,
            heads: found.heads,
        }))
    }

    /// The earliest link of a did in `at_least..=newest` that is anchored under a checkpoint that counts.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn anchored(&self, did: &Did, at_least: u64, newest: u64) -> Outcome<Option<Anchor>> {
        let last = newest.min(at_least.saturating_add(limits::LINKS_MAX as u64));
        let counted = self.counted();
        for index in at_least..=last {
            let anchor = self.tagged(did, index)?;
            if let Some(anchor) = anchor.filter(|anchor| anchor.leaf_index < counted) {
                return Ok(Some(anchor));
            }
        }
        Ok(None)
    }

    /// An entry.
    ///
    /// # Errors
    /// `NotFound` beyond the checkpoint; `Damaged` when the stored bytes are not those of the log.
    pub fn entry(&self, leaf_index: u64) -> Outcome<Bytes> {
        let covered = self.0.shelf.covered();
        if leaf_index >= covered.0 {
            return Err(Failure::not_found(format!(
                "the ledger has no entry {leaf_index}"
            )));
        }
        let (_, entry) = self.0.shelf.files.entry(leaf_index, covered)?;
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
        let reader = TileHashReader::new(size, Hash(root), &self.0.shelf.files);
        let path = merkle::inclusion_path(size, leaf_index, &reader)?;
        Ok(receipt::make(leaf_index, &path, &text))
    }

    /// The newest `audit-head`, in its receipt: how old the log is, by the provider's clock
    /// ([`chordae_chain::fresh`]).
    ///
    /// # Errors
    /// `NotFound` while there is none that counts, and as [`Self::receipt`].
    pub fn fresh(&self) -> Outcome<String> {
        let newest = self.view().index.state().audit;
        let none = || Failure::not_found("the log has no audit-head yet");
        let at = newest.ok_or_else(none)?.leaf_index;
        let receipt = self.receipt(at)?;
        Ok(receipt::with_entry(&receipt, &self.entry(at)?))
    }

    /// The heads that an `add-heads` event names by this root, as published.
    ///
    /// # Errors
    /// `NotFound` where there are none.
    pub fn heads(&self, root: &NodeHash) -> Outcome<Bytes> {
        self.0.shelf.together.file(root)
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
        self.0
            .shelf
            .files
            .tile(&tile.ok_or_else(none)?)?
            .ok_or_else(none)
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
