//! The spool's thread: wait, step, ONE commit, perform; the same rhythm as the ingest loop's.
//!
//! ```text
//! wait     mailbox (the door), the uplink's words, or 100 ms ── drain what is there, up to a commit's worth
//! step     the book decides about each; nothing is told yet
//! commit   quarantine (if anything goes there), then the journal: one write, one sync
//! perform  tell the senders ── send what fits into the window ── trim what is upstream
//! ```
//!
//! A failed commit ends the loop with an error: those who wait hear nothing and their connections close.
//! The newest segment, one commit above its size, is copied at every start: see `base::journal`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use chordae_base::{
    Failure, Outcome,
    journal::{Journal, Opened, Settings},
    limits,
    seams::{Clock, Disk},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time,
};

use super::{metrics::GatewayMetrics, turn::Turner};
use crate::{
    core::{
        gateway::{
            book::{Answer, Book},
            gate::{Gate, SpoolBounds},
            record::SpoolRecord,
            wire::Parts as Message,
        },
        steady::Steady,
    },
    mailbox::{self, IngestHandle, Letterbox},
    metrics::Metrics,
    quarantine::Quarantine,
    service::MAILBOX_KIB,
};

/// How long the loop waits when nothing comes.
const TICK: Duration = Duration::from_millis(100);

/// What a spool is made of. The node hands it over.
pub struct Parts {
    /// Where the journals lie.
    pub disk: Arc<dyn Disk>,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// The gateway's folder: `spool/` and `quarantine/` are made in it.
    pub dir: PathBuf,
    /// How much it may hold.
    pub bounds: SpoolBounds,
    /// What a door counts.
    pub metrics: Metrics,
    /// What a gateway counts.
    pub gateway: GatewayMetrics,
}

/// What the uplink tells the spool. One connection at a time, in order.
#[derive(Debug)]
pub enum Said {
    /// A connection is ready; messages for it go here. The channel takes a whole window
    /// ([`limits::UPLINK_ITEMS_MAX`]); the spool drops its end when the connection is not to be trusted.
    Connected(mpsc::Sender<Message>),
    /// The node has answered.
    Answers(Vec<Answer>),
    /// The connection is gone.
    Gone,
}

/// A running spool.
pub struct Spool {
    handle: IngestHandle,
    uplink: mpsc::Sender<Said>,
    thread: JoinHandle<Outcome<()>>,
}

impl Spool {
    /// Opens the journals, finds again what was kept, and starts the thread. Doors may open after this.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset; `Io`.
    pub fn open(parts: Parts) -> Outcome<Self> {
        let journal = open_journal(&parts, &parts.dir.join("spool"))?;
        let quarantine = Quarantine::open(Arc::clone(&parts.disk), parts.dir.join("quarantine"))?;
        let mut book = Book::default();
        journal.reader().scan(0, &mut |position, bytes| {
            book.fold(position, SpoolRecord::decode(bytes)?);
            Ok(())
        })?;
        let (mailbox, arrivals) = mpsc::channel(limits::ARRIVALS_QUEUE);
        let (uplink, said) = mpsc::channel(limits::UPLINK_QUEUE);
        let (doors, doors_open) = watch::channel(true);
        let handle = IngestHandle {
            mailbox,
            room: Arc::new(Semaphore::new(MAILBOX_KIB)),
            // News from a chunker: there is none here.
            letters: Arc::new(Letterbox::default()),
            doors_open,
            clock: Arc::clone(&parts.clock),
        };
        let mut turner = Turner {
            steady: Steady::new(book.recv_ns(), parts.clock.mono_ns()),
            gate: Gate::new(parts.bounds),
            book,
            journal: Some(journal),
            quarantine: Some(quarantine),
            parts,
            doors,
            out: None,
            free: None,
            looked_mono: None,
            floor_written: 0,
            floor_mono: 0,
            idle_since_mono: 0,
            hearers: BTreeMap::new(),
            news: BTreeSet::new(),
        };
        turner.begin()?;
        let thread = thread::Builder::new()
            .name("spool".into())
            .spawn(move || serve(turner, arrivals, said))
            .map_err(|err| Failure::os("start the spool's thread", &err))?;
        Ok(Self {
            handle,
            uplink,
            thread,
        })
    }

    /// The door's way in.
    pub fn handle(&self) -> IngestHandle {
        self.handle.clone()
    }

    /// The uplink's way in.
    pub fn uplink(&self) -> mpsc::Sender<Said> {
        self.uplink.clone()
    }

    /// Waits for the thread to end, after [`IngestHandle::stop`] or a failure.
    ///
    /// # Errors
    /// Why it ended, unless it was stopped.
    pub fn join(self) -> Outcome<()> {
        drop((self.handle, self.uplink));
        self.thread
            .join()
            .unwrap_or_else(|_| Err(Failure::internal("the spool's thread panicked")))
    }
}

fn open_journal(parts: &Parts, dir: &Path) -> Outcome<Journal> {
    let settings = Settings::large(dir.to_owned(), parts.bounds.segment_bytes());
    let Opened { journal, torn } = Journal::open(Arc::clone(&parts.disk), settings)?;
    if let Some(torn) = torn {
        tracing::warn!(at = torn.at, bytes = torn.bytes, "spool: torn tail cut");
    }
    Ok(journal)
}

/// The loop. Returns when it is stopped, when the door is gone, or at the first failure.
fn serve(
    mut turner: Turner,
    mut arrivals: mpsc::Receiver<mailbox::Message>,
    mut said: mpsc::Receiver<Said>,
) -> Outcome<()> {
    let ended = serve_until(&mut turner, &mut arrivals, &mut said);
    if let Err(failure) = &ended {
        tracing::error!(%failure, "the spool ends; nothing is acknowledged any more");
    }
    ended
}

fn serve_until(
    turner: &mut Turner,
    arrivals: &mut mpsc::Receiver<mailbox::Message>,
    said: &mut mpsc::Receiver<Said>,
) -> Outcome<()> {
    // For its timer and its select; a thread of its own, because the disk blocks.
    let waiter = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|err| Failure::os("start the spool's timer", &err))?;
    let batch_bytes = usize::try_from(turner.parts.bounds.batch_bytes()).unwrap_or(usize::MAX);
    loop {
        let (mut batch, mut words) = (Vec::new(), Vec::new());
        let open = waiter.block_on(async {
            tokio::select! {
                arrival = arrivals.recv() => {
                    let open = arrival.is_some();
                    batch.extend(arrival);
                    open
                }
                Some(word) = said.recv() => { words.push(word); true }
                () = time::sleep(TICK) => true,
            }
        });
        if !open {
            return turner.finish();
        }
        let mut bytes: usize = batch.iter().map(mailbox::Message::bytes).sum();
        let mut count: usize = batch.iter().map(mailbox::Message::count).sum();
        while count < limits::COMMIT_RECORDS_MAX && bytes < batch_bytes {
            let Ok(message) = arrivals.try_recv() else {
                break;
            };
            bytes += message.bytes();
            count += message.count();
            batch.push(message);
        }
        while words.len() < limits::UPLINK_QUEUE {
            let Ok(word) = said.try_recv() else { break };
            words.push(word);
        }
        if let Some(reply) = turner.turn(batch, words)? {
            let finished = turner.finish();
            // Whoever asked may have given up waiting.
            reply.send(()).ok();
            return finished;
        }
    }
}
