//! The trail: every answer is written and synced before its first byte goes out (formats.md 9).
//!
//! ```text
//! handlers ──write(deed)──▶ mailbox ──▶ one thread: n, prev ──▶ journal, one sync for many ──▶ reply
//!                                                                  │
//!                              head (digest, count) ◀─────────────┘   what is durable, for audit-head
//! ```
//!
//! Invariants: records count 0, 1, 2, ... and each names the digest of the one before; the head moves
//! only after the sync. A failed write or sync ends the trail: every later `write` fails, and with it
//! every answer. At start the whole trail is read: a record that does not follow the one before is
//! damage and refuses the start. A crash may leave a record whose answer was never sent, never an
//! answer without its record.

pub mod fhir;
mod record;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, Outcome,
    journal::{Journal, Reader, Settings},
    limits,
    seams::{Disk, Mailbox, Threads},
};
use tokio::sync::oneshot;
use tracing::Instrument;

pub use record::{Deed, NOTHING, Shown, TrailRecord, digest};

use crate::core::jti::JtiMemory;

/// Bytes of one record at the most: jti, 32 lead names and fixed fields, with room.
const TRAIL_RECORD_BYTES_MAX: usize = 16 * 1024;

/// Newest durable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its digest, [`NOTHING`] for an empty trail.
    pub digest: Digest,
    /// Records so far.
    pub count: u64,
}

/// What the trail remembers for the rest of the service at start.
#[derive(Debug)]
pub struct Recall {
    /// Ids of tokens that may not have expired yet.
    pub jtis: JtiMemory,
    /// Time of the newest record, ns since 1970, 0 for an empty trail.
    pub newest_ns: i64,
}

/// See the module. Clones share one trail.
#[derive(Clone)]
pub struct Trail {
    threads: Threads,
    mailbox: Mailbox<writer::Order>,
    head: Arc<Mutex<Head>>,
    reader: Reader,
}

/// Which records about a stream are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// The stream.
    pub did: Did,
    /// Only records with a number below this.
    pub before: u64,
    /// Only those of this time, ns, and later.
    pub from_ns: i64,
    /// Only those before this time, ns.
    pub until_ns: i64,
}

impl Looked {
    fn takes(&self, record: &TrailRecord) -> bool {
        let ms = i128::from(record.deed.time_ms) * 1_000_000;
        record.n < self.before
            && record.deed.did == Some(self.did)
            && (i128::from(self.from_ns)..i128::from(self.until_ns)).contains(&ms)
    }
}

/// A page of the records about one stream, newest last.
#[derive(Debug)]
pub struct TrailPage {
    /// The records.
    pub records: Vec<TrailRecord>,
    /// Whether there are older ones.
    pub more: bool,
}

impl Trail {
    /// Opens the trail in `dir` and reads it whole.
    ///
    /// # Errors
    /// `Damaged` when a record does not follow the one before; those of the journal.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, threads: &Threads) -> Outcome<(Self, Recall)> {
        let settings = Settings::small(dir.to_owned(), TRAIL_RECORD_BYTES_MAX);
        let opened = Journal::open(disk, settings).map_err(|e| e.during("opening the trail"))?;
        if let Some(torn) = &opened.torn {
            tracing::warn!(
                at = torn.at,
                bytes = torn.bytes,
                "cut a torn tail off the trail"
            );
        }
        let reader = opened.journal.reader();
        let (head, recall) = fold(&opened.journal, &reader)?;
        let head = Arc::new(Mutex::new(head));
        let (mailbox, orders) = threads.mailbox(limits::TRAIL_QUEUE);
        let shared = Arc::clone(&head);
        // It ends with the last handle.
        drop(threads.spawn("trail", move || {
            writer::run(opened.journal, &orders, &shared);
        })?);
        Ok((
            Self {
                threads: threads.clone(),
                mailbox,
                head,
                reader,
            },
            recall,
        ))
    }

    /// Writes a deed; synced when it returns.
    ///
    /// # Errors
    /// `Busy` when too many wait; `Io` once the trail has failed.
    pub async fn write(&self, deed: Deed) -> Outcome<()> {
        self.write_all(vec![deed]).await
    }

    /// The same for deeds of one request, which follow each other and are synced at once.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_all(&self, deeds: Vec<Deed>) -> Outcome<()> {
        let (reply, done) = oneshot::channel();
        self.mailbox
            .try_send(writer::Order { deeds, reply })
            .map_err(|e| match e {
                mpsc::TrySendError::Full(_) => Failure::busy("the trail is busy: try again"),
                mpsc::TrySendError::Disconnected(_) => gone(),
            })?;
        let synced = done.instrument(tracing::debug_span!("trail"));
        synced.await.map_err(|_| gone())?
    }

    /// The same from a thread that may block.
    ///
    /// # Errors
    /// `Io` once the trail has failed.
    pub fn write_blocking(&self, deed: Deed) -> Outcome<()> {
        let _writing = tracing::debug_span!("trail").entered();
        let (reply, done) = oneshot::channel();
        let deeds = vec![deed];
        self.mailbox
            .send(writer::Order { deeds, reply })
            .map_err(|_| gone())?;
        self.threads.wait(done).map_err(|_| gone())?
    }

    /// The newest durable record.
    pub fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest `most` durable records that are looked for. Reads the disk.
    ///
    /// # Errors
    /// `Damaged` when a record cannot be read.
    pub fn about(&self, looked: Looked, most: usize) -> Outcome<TrailPage> {
        let looked = Looked {
            before: looked.before.min(self.head().count),
            ..looked
        };
        let mut page = std::collections::VecDeque::new();
        let mut more = false;
        self.reader.scan(0, &mut |_, bytes: Bytes| {
            let record = TrailRecord::decode(&bytes)?;
            if looked.takes(&record) {
                page.push_back(record);
                if page.len() > most {
                    page.pop_front();
                    more = true;
                }
            }
            Ok(())
        })?;
        Ok(TrailPage {
            records: page.into(),
            more,
        })
    }
}

fn gone() -> Failure {
    Failure::io("the trail has failed, and without it nothing is answered: see the log, restart")
}

/// Reads the trail from its start: the head, and what must be remembered.
fn fold(journal: &Journal, reader: &Reader) -> Outcome<(Head, Recall)> {
    let mut head = Head {
        digest: NOTHING,
        count: 0,
    };
    let mut jtis = JtiMemory::new(limits::JTIS_MAX);
    let mut newest_ms: u64 = 0;
    reader.scan(journal.start(), &mut |position, bytes: Bytes| {
        let damaged = |why: &str| Failure::damaged(format!("trail at {position}: {why}"));
        let record = TrailRecord::decode(&bytes).map_err(|e| damaged(&e.why))?;
        if record.n != head.count || record.prev != head.digest {
            return Err(damaged("a record does not follow the one before"));
        }
        head = Head {
            digest: digest(&bytes),
            count: head.count + 1,
        };
        newest_ms = newest_ms.max(record.deed.time_ms);
        // The latest second at which a token that was good then can expire.
        let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        let life = limits::TOKEN_AHEAD_S_MAX + limits::TOKEN_LIFE_S_MAX;
        let expires_s = seconds(record.deed.time_ms).saturating_add(life + 1);
        if expires_s > seconds(newest_ms) {
            // Again is the closing record of a streamed answer.
            match jtis.take(
                record.deed.kid,
                &record.deed.jti,
                expires_s,
                seconds(newest_ms),
            ) {
                crate::core::jti::Once::Full => return Err(damaged("too many token ids")),
                crate::core::jti::Once::First | crate::core::jti::Once::Again => {}
            }
        }
        Ok(())
    })?;
    let newest_ns = i64::try_from(newest_ms)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    Ok((head, Recall { jtis, newest_ns }))
}
