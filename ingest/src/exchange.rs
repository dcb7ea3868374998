//! The exchange's thread: mailbox, board, ONE commit, then answers and deliveries.
//!
//! ```text
//! wait     mailbox or 100 ms ── drain what is there, up to a commit's worth
//! step     the board decides about each; nothing is told yet
//! commit   journal `mqtt/`: what the steps say must be kept, one write, one sync
//! perform  answers and deliveries into the connections' channels; never waits for one
//! ```
//!
//! A failed commit ends the thread: whoever waits hears nothing, and the node exits.

mod handle;
mod log;
mod metrics;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use chordae_base::{
    Outcome, limits,
    seams::{Clock, Disk, Entropy, Thread, Threads},
};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};

use self::{
    handle::{Letter, Mailbox},
    log::Log,
    metrics::Metrics,
    turn::{Times, Turner},
};
use crate::core::{exchange::board::Board, steady::Steady};

pub use handle::{CommandLine, CommandState, ExchangeHandle};

/// How long the loop waits when nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// The same while some connection has deliveries in its channel: more may wait for the room.
const BUSY_TICK: Duration = Duration::from_millis(10);
/// Bytes of requests after which a batch is committed although more waits.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the exchange is made of. The node hands it over.
pub struct Parts {
    /// Where the journal lies.
    pub disk: Arc<dyn Disk>,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Ids of commands.
    pub entropy: Arc<dyn Entropy>,
    /// Where it runs and waits.
    pub threads: Threads,
    /// The journal's folder, `mqtt/` of the data folder.
    pub dir: PathBuf,
    /// Where its counters are registered.
    pub metrics: Registry,
}

/// A running exchange.
pub struct Exchange {
    handle: ExchangeHandle,
    thread: Thread<Outcome<()>>,
}

impl Exchange {
    /// Opens the journal, finds again what was kept, and starts the thread. Doors may open after this.
    /// Whoever was connected has lost the connection: wills without a delay are published here.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset; `Io`.
    pub fn open(parts: Parts) -> Outcome<Self> {
        Self::open_with(parts, limits::JOURNAL_SEGMENT_BYTES)
    }

    /// The same with segments of another size.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(parts: Parts, segment_bytes: u64) -> Outcome<Self> {
        let metrics = Metrics::register(&parts.metrics)?;
        let mut board = Board::default();
        let disk = Arc::clone(&parts.disk);
        let log = Log::open(disk, parts.dir.clone(), segment_bytes, &mut board)?;
        let mono = parts.clock.mono_ns();
        let mut steady = Steady::new(board.newest_ns(), mono);
        let now_ns = steady.read(parts.clock.wall_ns(), mono);
        // What this changes is in the snapshot, and nobody is connected to hear of it.
        let fx = board.recovered(now_ns);
        metrics.count(&fx);
        metrics.show(&board, true);
        let log = log.begin(&board)?;
        let (handle, mailbox) = ExchangeHandle::new();
        let turner = Turner {
            board,
            log: Some(log),
            steady,
            clock: parts.clock,
            disk: parts.disk,
            dir: parts.dir,
            entropy: parts.entropy,
            metrics,
            bell: mailbox.changed.clone(),
            outs: BTreeMap::new(),
            busy: BTreeSet::new(),
            lost: BTreeSet::new(),
            entries: Vec::new(),
            times: Times::default(),
        };
        let threads = parts.threads.clone();
        let thread = parts
            .threads
            .spawn("exchange", move || serve(turner, mailbox, &threads))?;
        Ok(Self { handle, thread })
    }

    /// The way in.
    pub fn handle(&self) -> ExchangeHandle {
        self.handle.clone()
    }

    /// Waits for the thread to end, after [`ExchangeHandle::stop`] or a failure.
    ///
    /// # Errors
    /// Why it ended, unless it was stopped.
    pub fn join(self) -> Outcome<()> {
        drop(self.handle);
        self.thread
            .join()
            .map_err(|panicked| panicked.during("the exchange"))?
    }
}

/// The loop. Returns when it is stopped, when every handle is gone, or at the first failure.
fn serve(mut turner: Turner, mailbox: Mailbox, threads: &Threads) -> Outcome<()> {
    let mut letters = mailbox.letters;
    let ended = serve_until(&mut turner, &mut letters, threads);
    if let Err(failure) = &ended {
        tracing::error!(%failure, "the exchange ends; nothing is answered any more");
    }
    ended
}

fn serve_until(
    turner: &mut Turner,
    letters: &mut mpsc::Receiver<Letter>,
    threads: &Threads,
) -> Outcome<()> {
    loop {
        let wait = if turner.busy.is_empty() {
            TICK
        } else {
            BUSY_TICK
        };
        let first = threads.wait_for(wait, letters.recv());
        let mut batch = Vec::new();
        match first {
            Some(None) => return turner.finish(),
            Some(Some(letter)) => batch.push(letter),
            None => {}
        }
        let mut bytes: usize = batch.iter().map(Letter::bytes).sum();
        while batch.len() < limits::COMMIT_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(letter) = letters.try_recv() else {
                break;
            };
            bytes += letter.bytes();
            batch.push(letter);
        }
        if let Some(reply) = turner.turn(batch)? {
            return stop(turner, reply);
        }
    }
}

fn stop(turner: &mut Turner, reply: oneshot::Sender<()>) -> Outcome<()> {
    turner.finish()?;
    // Whoever asked may have given up waiting.
    reply.send(()).ok();
    Ok(())
}
