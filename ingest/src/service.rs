//! The ingest thread: wait, step, ONE commit, perform.
//!
//! ```text
//! wait     mailbox or 100 ms ── drain what is there, up to a commit's worth
//! step     core decides about each; nothing is told yet
//! commit   quarantine (if anything goes there), then the log: one write, one sync
//! perform  tell the senders ── hand the records downstream (blocks: that is the back-pressure) ── live
//! ```
//!
//! A failed commit ends the loop with an error: those who wait hear nothing, their connections close
//! when the mailbox does, and the node exits. What of that commit reached the disk is found at the next
//! start, unacknowledged, and the repeat of it is absorbed.
//!
//! News from the chunker (covered, trim) never goes through the mailbox: it lies in a letterbox that is
//! looked into every turn, so that neither side can block the other for ever.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chordae_base::{
    FailureKind, Outcome, RangeSet, StreamKey,
    journal::TornTail,
    limits,
    record::WalRecord,
    seams::{Clock, Disk, Thread, Threads},
};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    core::{
        admission::{Admission, AdmissionLimits},
        ports::{Downstream, GapNews, History, Registry},
        state::Core,
        steady::Steady,
    },
    fanout::Fanout,
    mailbox::{IngestHandle, Letterbox, Message},
    metrics::Metrics,
    quarantine::{Quarantine, QuarantineReader},
    turn::Turner,
    unreplayable::{UNREPLAYABLE, Unreplayable},
    wal::{Wal, WalReader, WalSettings},
};

/// How long the loop waits when nothing comes.
const TICK: Duration = Duration::from_millis(100);
/// Payload bytes after which a batch is committed although more waits.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Payload bytes that may wait in the mailbox.
pub(crate) const MAILBOX_KIB: usize = 64 * 1024;

/// What ingest is made of. The node hands it over.
pub struct Parts {
    /// Where the logs lie.
    pub disk: Arc<dyn Disk>,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Where it runs and waits.
    pub threads: Threads,
    /// The log.
    pub wal: WalSettings,
    /// The quarantine's folder.
    pub quarantine_dir: PathBuf,
    /// Who is known.
    pub registry: Arc<dyn Registry>,
    /// What the chunks say.
    pub history: Arc<dyn History>,
    /// Where live frames are offered.
    pub fanout: Arc<dyn Fanout>,
    /// When the doors shut.
    pub admission: AdmissionLimits,
    /// Samples older than this go to quarantine.
    pub past_ns_max: i64,
    /// What is counted.
    pub metrics: Metrics,
}

/// A running service.
pub struct Ingest {
    handle: IngestHandle,
    thread: Thread<Outcome<()>>,
}

impl Ingest {
    /// Opens the logs and finds again what was known. No door may be open yet.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset; `Io`.
    pub fn open(parts: Parts) -> Outcome<Recovered> {
        let (wal, torn) = Wal::open(Arc::clone(&parts.disk), parts.wal.clone())?;
        if let Some(torn) = torn {
            tracing::warn!(at = torn.at, bytes = torn.bytes, "log: torn tail cut");
        }
        let mut quarantine =
            Quarantine::open(Arc::clone(&parts.disk), parts.quarantine_dir.clone())?;
        let note = parts.wal.dir.with_extension("failed");
        let failing = Arc::new(Unreplayable::open(Arc::clone(&parts.disk), note)?);
        if let Some(position) = failing.due() {
            quarantine = set_aside(position, &wal, quarantine, &failing, &parts)?;
        }
        let mut core = Core::new(parts.past_ns_max);
        quarantine.reader().scan(&mut |position, q, _| {
            core.fold_quarantined(position, &q);
            Ok(())
        })?;
        wal.frame_source()
            .counting(Arc::clone(&failing))
            .replay(&mut |position, record| core.fold(position, &record))?;
        core.recovered();
        for stream in core.unlearned() {
            core.learn(&stream, parts.history.covered(&stream));
        }
        Ok(Recovered {
            parts,
            wal,
            quarantine,
            core,
            torn,
            failing,
        })
    }

    /// The way in.
    pub fn handle(&self) -> IngestHandle {
        self.handle.clone()
    }

    /// Waits for the thread to end, after [`IngestHandle::stop`] or a failure.
    ///
    /// # Errors
    /// Why it ended, unless it was stopped.
    pub fn join(self) -> Outcome<()> {
        drop(self.handle);
        self.thread
            .join()
            .map_err(|panicked| panicked.during("ingest"))?
    }
}

/// The logs are open and everything is remembered; nothing runs yet.
pub struct Recovered {
    parts: Parts,
    wal: Wal,
    quarantine: Quarantine,
    core: Core,
    torn: Option<TornTail>,
    failing: Arc<Unreplayable>,
}

impl Recovered {
    /// What was cut off the log.
    pub fn torn(&self) -> Option<TornTail> {
        self.torn
    }

    /// Where the recovered records end; what follows comes downstream.
    pub fn end(&self) -> u64 {
        self.wal.end()
    }

    /// Reads the log, now and later: the chunker's source of payloads.
    pub fn frame_source(&self) -> WalReader {
        let failing = Arc::clone(&self.failing);
        self.wal.frame_source().counting(failing)
    }

    /// Reads what lies in quarantine, now and later.
    pub fn quarantined(&self) -> QuarantineReader {
        self.quarantine.reader()
    }

    /// Shows every record in order, for the chunker's replay.
    ///
    /// # Errors
    /// `Damaged`, `Io`, and whatever `visit` returns.
    pub fn replay(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        self.frame_source().replay(visit)
    }

    /// Writes the state and starts the thread. Doors may open after this: all of the log has been replayed, here
    /// and by whoever asked for it, and no failed start is counted any more.
    ///
    /// # Errors
    /// `Io` when the state cannot be written or the thread cannot be started.
    pub fn run(self, downstream: Box<dyn Downstream>) -> Outcome<Ingest> {
        let Self {
            parts,
            wal,
            quarantine,
            core,
            torn: _,
            failing,
        } = self;
        failing.started(wal.start())?;
        let (mailbox, arrivals) = mpsc::channel(limits::ARRIVALS_QUEUE);
        let (doors, doors_open) = watch::channel(true);
        let letters = Arc::new(Letterbox::default());
        let handle = IngestHandle {
            mailbox,
            room: Arc::new(Semaphore::new(MAILBOX_KIB)),
            letters: Arc::clone(&letters),
            doors_open,
            clock: Arc::clone(&parts.clock),
        };
        let mut turner = Turner {
            steady: Steady::new(core.recv_ns(), parts.clock.mono_ns()),
            admission: Admission::new(parts.admission),
            core,
            wal: Some(wal),
            quarantine: Some(quarantine),
            downstream,
            parts,
            doors,
            last_tick_ns: i64::MIN,
            last_admission_mono: None,
            idle_since_mono: 0,
        };
        turner.begin()?;
        let threads = turner.parts.threads.clone();
        let thread = threads.spawn("ingest", move || serve(turner, arrivals, &letters))?;
        Ok(Ingest { handle, thread })
    }
}

/// The record at `position` has failed too many starts: into quarantine, and then passed over.
fn set_aside(
    position: u64,
    wal: &Wal,
    quarantine: Quarantine,
    failing: &Unreplayable,
    parts: &Parts,
) -> Outcome<Quarantine> {
    let bytes = match wal.frame_source().raw(position) {
        Ok(bytes) => bytes,
        // Trimmed since, or the log is another one: nothing fails by it any more.
        Err(failure) if failure.kind == FailureKind::NotFound => return Ok(quarantine),
        Err(failure) => return Err(failure),
    };
    let Some((q, payload)) = failing.quarantined(&bytes, parts.clock.wall_ns()) else {
        return Ok(quarantine);
    };
    let (quarantine, _) = quarantine.commit(&[q.encode(&payload)?])?;
    failing.set_aside()?;
    let quarantined = parts.metrics.quarantined.with_label_values(&[UNREPLAYABLE]);
    quarantined.inc();
    tracing::error!(stream = %q.stream, frame = ?q.frame, position,
        "a frame of the log has failed every start; it lies in quarantine, and all others go on");
    Ok(quarantine)
}

/// The loop. Returns when it is stopped, when every handle is gone, or at the first failure.
fn serve(
    mut turner: Turner,
    mut arrivals: mpsc::Receiver<Message>,
    letters: &Letterbox,
) -> Outcome<()> {
    let ended = serve_until(&mut turner, &mut arrivals, letters);
    if let Err(failure) = &ended {
        tracing::error!(%failure, "ingest ends; nothing is acknowledged any more");
    }
    ended
}

fn serve_until(
    turner: &mut Turner,
    arrivals: &mut mpsc::Receiver<Message>,
    letters: &Letterbox,
) -> Outcome<()> {
    let threads = turner.parts.threads.clone();
    loop {
        let first = threads.wait_for(TICK, arrivals.recv());
        let (mut batch, mut bytes, mut count) = (Vec::new(), 0, 0);
        let mut next = match first {
            Some(None) => return turner.finish(),
            Some(message) => message,
            None => arrivals.try_recv().ok(),
        };
        while let Some(message) = next {
            bytes += message.bytes();
            count += message.count();
            batch.push(message);
            let full = count >= limits::COMMIT_RECORDS_MAX || bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { arrivals.try_recv().ok() };
        }
        let stop = turner.turn(batch, letters.take())?;
        if let Some(reply) = stop {
            let finished = turner.finish();
            // Whoever asked may have given up waiting.
            reply.send(()).ok();
            return finished;
        }
    }
}

/// What lay in the letterbox.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// Newly covered seqs.
    pub(crate) covered: Vec<(StreamKey, u64, RangeSet)>,
    /// Frames that no chunk will hold.
    pub(crate) gaps: Vec<GapNews>,
    /// The log may be trimmed up to here.
    pub(crate) trim: Option<u64>,
}
