//! One turn of the exchange: step, commit, perform. See the parent for the picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, limits,
    seams::{Clock, Disk, Entropy},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};

use super::{
    handle::{Issue, Letter},
    log::Log,
    metrics::Metrics,
};
use crate::core::{
    arrival::ConnId,
    exchange::{
        board::Board,
        codec::encode,
        effects::Effects,
        request::{Denied, Request, ToClient},
    },
    steady::Steady,
};

/// What nobody waits for is committed at least this often, in ns.
const LAZY_NS: u64 = 100_000_000;
/// The disk is asked for its free bytes at most this often, in ns.
const ROOM_NS: u64 = 100_000_000;
/// Connections that went without a word are looked for this often, in ns.
const SWEEP_NS: u64 = 1_000_000_000;

/// The thread's state. The log is `None` after a failed commit, and stays so.
pub(super) struct Turner {
    pub(super) board: Board,
    pub(super) log: Option<Log>,
    pub(super) steady: Steady,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) metrics: Metrics,
    pub(super) bell: watch::Sender<u64>,
    /// The way to each connection.
    pub(super) outs: BTreeMap<ConnId, mpsc::Sender<ToClient>>,
    /// Connections whose channel may hold something.
    pub(super) busy: BTreeSet<ConnId>,
    /// Connections that took nothing any more: gone, whatever they think.
    pub(super) lost: BTreeSet<ConnId>,
    /// Entries that are to be committed.
    pub(super) entries: Vec<Bytes>,
    pub(super) times: Times,
}

/// Monotonic times of the newest of each, in ns.
#[derive(Default)]
pub(super) struct Times {
    committed: u64,
    swept: u64,
    measured: Option<u64>,
}

/// What a turn has decided and not yet told.
#[derive(Default)]
struct Todo {
    urgent: bool,
    changed: bool,
    out: Vec<(ConnId, ToClient)>,
    gone: Vec<ConnId>,
    replies: Vec<Box<dyn FnOnce()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Todo {
    /// Whoever asked may have given up waiting.
    fn reply<T: 'static>(&mut self, to: oneshot::Sender<T>, what: T) {
        self.replies.push(Box::new(move || {
            to.send(what).ok();
        }));
    }
}

impl Turner {
    /// Gives the reply of whoever asked to stop.
    pub(super) fn turn(&mut self, letters: Vec<Letter>) -> Outcome<Option<oneshot::Sender<()>>> {
        let mono = self.clock.mono_ns();
        let now_ns = self.steady.read(self.clock.wall_ns(), mono);
        let mut todo = Todo::default();
        self.measure(mono);
        self.look_around(mono, now_ns, &mut todo);
        for letter in letters {
            self.read(letter, now_ns, &mut todo);
        }
        loop {
            let mut fx = Effects::default();
            let more = self.board.tick(now_ns, &mut fx);
            self.take(fx, &mut todo);
            if !more {
                break;
            }
        }
        self.commit(mono, todo.urgent)?;
        Ok(self.perform(todo))
    }

    /// Orderly end: what is decided is written, what is written is marked.
    pub(super) fn finish(&mut self) -> Outcome<()> {
        self.commit(self.clock.mono_ns(), true)?;
        self.log = Some(self.log()?.mark()?);
        Ok(())
    }

    /// Whether the disk has room. One that does not say is taken to have: it will fail the commit.
    fn measure(&mut self, mono: u64) {
        let fresh = |last: u64| mono.saturating_sub(last) < ROOM_NS;
        if self.times.measured.is_some_and(fresh) {
            return;
        }
        self.times.measured = Some(mono);
        let free = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        self.board.set_room(free >= limits::EXCHANGE_FREE_MIN);
    }

    /// Which channels have room again, and which connections are gone.
    fn look_around(&mut self, mono: u64, now_ns: i64, todo: &mut Todo) {
        if mono.saturating_sub(self.times.swept) >= SWEEP_NS {
            self.times.swept = mono;
            let closed = self.outs.iter().filter(|(_, out)| out.is_closed());
            self.lost.extend(closed.map(|(conn, _)| *conn));
        }
        for conn in mem::take(&mut self.lost) {
            self.outs.remove(&conn);
            let gone = Request::Detach {
                will: true,
                expiry_s: None,
            };
            let mut fx = Effects::default();
            self.board.request(conn, 0, gone, 0, now_ns, &mut fx);
            self.take(fx, todo);
        }
        for conn in mem::take(&mut self.busy) {
            let Some(out) = self.outs.get(&conn) else {
                continue;
            };
            if out.capacity() < out.max_capacity() {
                self.busy.insert(conn);
            }
            let mut fx = Effects::default();
            self.board.room(conn, room(out), now_ns, &mut fx);
            self.take(fx, todo);
        }
    }

    fn read(&mut self, letter: Letter, now_ns: i64, todo: &mut Todo) {
        let mut fx = Effects::default();
        match letter {
            Letter::Connect(conn, out) => {
                self.outs.insert(conn, out);
            }
            Letter::Request(conn, token, request, room) => {
                // Taken out of the mailbox: there is room for others.
                drop(room);
                return self.ask(conn, token, request, now_ns, todo);
            }
            Letter::Publish(message, room, reply) => {
                drop(room);
                let done = self.board.publish_own(message, now_ns, &mut fx);
                todo.reply(reply, done.map(|_| ()).map_err(refused));
            }
            Letter::Retained(topic, reply) => {
                let kept = self.board.retained(&topic, now_ns);
                todo.reply(reply, kept.map(|s| s.message.payload.clone()));
            }
            Letter::Issue(issue, reply) => {
                let id = self.issue(issue, now_ns, &mut fx);
                todo.reply(reply, id);
            }
            Letter::Delivered(device, id, reply) => {
                let known = self.board.delivered(&device, &id, &mut fx);
                todo.reply(reply, known);
            }
            Letter::Replied(device, id, text, reply) => {
                let known = match text.len() > limits::REPLY_BYTES_MAX {
                    true => Err(Failure::bad_input("the reply to a command is too long")),
                    false => Ok(self.board.replied(&device, &id, text, now_ns, &mut fx)),
                };
                todo.reply(reply, known);
            }
            Letter::Commands(device, reply) => {
                let lines = self.board.commands(device.as_ref());
                todo.reply(reply, lines);
            }
            Letter::Settle(id, reply) => {
                self.board.settle(&id, &mut fx);
                todo.reply(reply, ());
            }
            Letter::Stop(reply) => todo.stop = Some(reply),
        }
        self.take(fx, todo);
    }

    fn ask(&mut self, conn: ConnId, token: u64, request: Request, now_ns: i64, todo: &mut Todo) {
        // One that was cut off has nothing to ask any more.
        let Some(out) = self.outs.get(&conn) else {
            return;
        };
        let mut fx = Effects::default();
        let room = room(out);
        self.board
            .request(conn, token, request, room, now_ns, &mut fx);
        self.take(fx, todo);
    }

    fn issue(&mut self, issue: Issue, now_ns: i64, fx: &mut Effects) -> Outcome<String> {
        let id = issue.id.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            self.entropy.fill(&mut bytes);
            format!("{:016x}", u64::from_be_bytes(bytes))
        });
        let Issue {
            device,
            body,
            expires_ns,
            ..
        } = issue;
        self.board
            .issue(&device, &id, &body, expires_ns, now_ns, fx)?;
        Ok(id)
    }

    /// One step has been taken: its records are one entry of the journal.
    fn take(&mut self, fx: Effects, todo: &mut Todo) {
        self.metrics.count(&fx);
        if !fx.records.is_empty() {
            self.entries.push(encode(&fx.records));
        }
        todo.urgent |= fx.urgent;
        todo.changed |= fx.changed;
        todo.out.extend(fx.out);
        todo.gone.extend(fx.gone);
    }

    /// Nothing has been told yet. What nobody waits for may be written later, in its order.
    fn commit(&mut self, mono: u64, urgent: bool) -> Outcome<()> {
        let since = mono.saturating_sub(self.times.committed);
        if self.entries.is_empty() {
            let mark_after = u64::try_from(limits::IDLE_MARK.as_nanos()).unwrap_or(u64::MAX);
            if since >= mark_after {
                self.log = Some(self.log()?.mark()?);
            }
            return Ok(());
        }
        let due = since >= LAZY_NS || self.entries.len() >= limits::COMMIT_RECORDS_MAX;
        if urgent || due {
            let entries = mem::take(&mut self.entries);
            self.log = Some(self.log()?.commit(&self.board, &entries)?);
            self.times.committed = mono;
        }
        Ok(())
    }

    /// Only after the commit: answers, deliveries and releases leave here and nowhere else.
    fn perform(&mut self, todo: Todo) -> Option<oneshot::Sender<()>> {
        for (conn, what) in todo.out {
            let Some(out) = self.outs.get(&conn) else {
                continue;
            };
            match out.try_send(what) {
                Ok(()) => {
                    self.busy.insert(conn);
                }
                // It asks more than it listens to, or it is gone. Either way it hears nothing more: what
                // comes after something that it has missed would mislead it.
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                    self.outs.remove(&conn);
                    self.lost.insert(conn);
                }
            }
        }
        for conn in todo.gone {
            self.outs.remove(&conn);
        }
        if todo.changed {
            self.bell.send_modify(|n| *n = n.wrapping_add(1));
        }
        for reply in todo.replies {
            reply();
        }
        self.metrics.show(&self.board, todo.changed);
        todo.stop
    }

    fn log(&mut self) -> Outcome<Log> {
        let lost = || Failure::io("the exchange's journal failed; see its first error");
        self.log.take().ok_or_else(lost)
    }
}

/// Deliveries that a channel takes now. Its other half is for answers.
fn room(out: &mpsc::Sender<ToClient>) -> usize {
    out.capacity().saturating_sub(out.max_capacity() / 2)
}

fn refused(denied: Denied) -> Failure {
    match denied {
        Denied::Quota => Failure::busy(denied.why()),
        _ => Failure::bad_input(denied.why()),
    }
}
