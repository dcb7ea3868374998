//! Group commit for small logs (registry, trail): one thread owns the journal, many callers append.
//!
//! ```text
//!  callers ──bounded mailbox──▶ drain all that wait ──▶ one commit ──▶ a position for each
//!                                    └─ nothing for a while: idle mark      segment full: roll
//! ```
//!
//! A record is answered with its position once it is synced, or with a failure, and every record is
//! answered. After the first failed write every record is answered with a failure: the log must be
//! opened again. Segments are rolled when full and all kept. Dropping the last handle, or `stop`, commits
//! what waits and ends the thread.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::{Journal, Reader};
use crate::{Failure, Outcome, limits};

/// Bytes of records that one commit gathers.
const BATCH_BYTES: usize = 8 << 20;

type Reply = Box<dyn FnOnce(Outcome<u64>) + Send>;

/// A record with somebody who waits for it; answers even when it is dropped.
struct Waiting {
    record: Bytes,
    reply: Option<Reply>,
}

impl Waiting {
    fn answer(mut self, outcome: Outcome<u64>) {
        if let Some(reply) = self.reply.take() {
            reply(outcome);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Err(stopped()));
        }
    }
}

enum Mail {
    Append(Waiting),
    Stop,
}

fn stopped() -> Failure {
    Failure::busy("this log has been stopped")
}

/// A journal behind a thread; clones share it.
#[derive(Clone)]
pub struct GroupCommit(Arc<Inner>);

struct Inner {
    /// `None` only while the last handle is dropped.
    mailbox: Option<SyncSender<Mail>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reader: Reader,
    record_bytes_max: usize,
}

impl GroupCommit {
    /// Starts the thread, named `name`, with room for `capacity` waiting records.
    ///
    /// # Errors
    /// `Io` if the machine has no thread to give.
    pub fn spawn(journal: Journal, capacity: usize, name: &str) -> Outcome<Self> {
        let reader = journal.reader();
        let record_bytes_max = journal.settings.record_bytes_max;
        let (mailbox, mail) = sync_channel(capacity.max(1));
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(journal, &mail))
            .map_err(|err| Failure::os(format_args!("start thread {name}"), &err))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self(Arc::new(Inner {
            mailbox: Some(mailbox),
            thread,
            reader,
            record_bytes_max,
        })))
    }

    /// Appends a record and waits until it is synced; its position.
    ///
    /// # Errors
    /// `BadInput` for an empty or overlong record; `Busy` once stopped; `Io` from the first failed write
    /// on.
    pub fn commit(&self, record: Bytes) -> Outcome<u64> {
        self.check(&record)?;
        let (reply, answer) = sync_channel(1);
        let reply: Reply = Box::new(move |outcome| {
            // The asker may have gone; the record is durable all the same.
            drop(reply.send(outcome));
        });
        let mailbox = self.0.mailbox.as_ref().ok_or_else(stopped)?;
        let mail = Mail::Append(Waiting {
            record,
            reply: Some(reply),
        });
        mailbox.send(mail).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Appends a record without waiting; `then` gets the outcome, on the log's thread or, when the record
    /// is not taken (`BadInput`, `Busy` with a full mailbox), on this one. It must not block.
    pub fn commit_then(&self, record: Bytes, then: Box<dyn FnOnce(Outcome<u64>) + Send>) {
        if let Err(err) = self.check(&record) {
            return then(Err(err));
        }
        let Some(mailbox) = self.0.mailbox.as_ref() else {
            return then(Err(stopped()));
        };
        let waiting = Waiting {
            record,
            reply: Some(then),
        };
        // Where the thread has ended, the dropped record answers for itself.
        if let Err(TrySendError::Full(Mail::Append(waiting))) =
            mailbox.try_send(Mail::Append(waiting))
        {
            waiting.answer(Err(Failure::busy("too many records wait for this log")));
        }
    }

    /// Reads what is durable.
    pub fn reader(&self) -> Reader {
        self.0.reader.clone()
    }

    /// Commits what waits, ends the thread and waits for its end. Later records are answered `Busy`.
    pub fn stop(&self) {
        if let Some(mailbox) = self.0.mailbox.as_ref() {
            // Fails only when the thread has ended already.
            drop(mailbox.send(Mail::Stop));
        }
        self.0.join();
    }

    fn check(&self, record: &Bytes) -> Outcome<()> {
        let max = self.0.record_bytes_max;
        if (1..=max).contains(&record.len()) {
            return Ok(());
        }
        let why = format!("a log record of {} bytes, must be 1 to {max}", record.len());
        Err(Failure::bad_input(why))
    }
}

impl Inner {
    fn join(&self) {
        let handle = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // A reply that holds the last handle runs on the thread itself, which cannot wait for its end.
        if let Some(handle) = handle.filter(|h| h.thread().id() != thread::current().id()) {
            drop(handle.join());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.mailbox = None;
        self.join();
    }
}

fn run(journal: Journal, mail: &Receiver<Mail>) {
    let mut state = Ok(journal);
    loop {
        let (batch, last) = gather(&mut state, mail);
        if !batch.is_empty() {
            state = append(state, batch);
        }
        if last {
            break;
        }
    }
    // An orderly end leaves nothing unmarked.
    drop(state.and_then(Journal::mark));
}

/// Waits for a record (writing an idle mark when none comes for a while), then takes all that wait.
fn gather(state: &mut Outcome<Journal>, mail: &Receiver<Mail>) -> (Vec<Waiting>, bool) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let first = loop {
        let wants_mark = state.as_ref().is_ok_and(Journal::wants_mark);
        if !wants_mark {
            match mail.recv() {
                Ok(mail) => break mail,
                Err(_) => return (batch, true),
            }
        }
        match mail.recv_timeout(limits::IDLE_MARK) {
            Ok(mail) => break mail,
            Err(RecvTimeoutError::Disconnected) => return (batch, true),
            Err(RecvTimeoutError::Timeout) => {
                let journal = std::mem::replace(state, Err(stopped()));
                *state = journal.and_then(Journal::mark);
            }
        }
    };
    let mut next = Some(first);
    while let Some(mail_now) = next {
        match mail_now {
            Mail::Stop => return (batch, true),
            Mail::Append(waiting) => {
                bytes += waiting.record.len();
                batch.push(waiting);
            }
        }
        let full = batch.len() >= limits::COMMIT_RECORDS_MAX || bytes >= BATCH_BYTES;
        next = if full { None } else { mail.try_recv().ok() };
    }
    (batch, false)
}

/// One commit for the batch; everybody is answered.
fn append(state: Outcome<Journal>, batch: Vec<Waiting>) -> Outcome<Journal> {
    let records: Vec<Bytes> = batch.iter().map(|w| w.record.clone()).collect();
    let done = state.and_then(|journal| {
        if journal.wants_roll() {
            journal.roll(&records)
        } else {
            journal.commit(&records)
        }
    });
    match done {
        Ok((journal, durable)) => {
            for (waiting, position) in batch.into_iter().zip(durable.positions()) {
                waiting.answer(Ok(*position));
            }
            Ok(journal)
        }
        Err(err) => {
            for waiting in batch {
                waiting.answer(Err(err.clone()));
            }
            Err(err)
        }
    }
}
