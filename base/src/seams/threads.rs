//! Threads, mailboxes and waiting: the seam between the loop of a service and whoever decides when it runs.
//!
//! ```text
//!                 the machine                         the world (one seed, docs/decisions/0023)
//! spawn           a thread                            a thread that runs when it has the turn
//! mailbox         a bounded channel of std            the same; who would block gives the turn away
//! wait, wait_for  park until the future's waker       the turn is given away until the waker rings
//! ```
//!
//! A service starts its threads, makes its mailboxes and waits for answers here and nowhere else; then it
//! can be run under a seed without knowing. Locks are not waited for here: nobody may wait while holding
//! one, or two threads of the world stand still for ever.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{
            Receiver, RecvError, RecvTimeoutError, SendError, SyncSender, TryRecvError,
            TrySendError, sync_channel,
        },
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Failure, Outcome};

/// Who decides, in place of the machine, which thread runs: one at a time.
pub trait Turns: Send + Sync {
    /// Starts a thread that waits for its first turn.
    ///
    /// # Errors
    /// When the machine has no thread to give.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> std::io::Result<()>;
    /// A number that threads can wait for, never given before.
    fn bell(&self) -> u64;
    /// Those who wait for the bell may look again. Never blocks; callable from any thread.
    fn ring(&self, bell: u64);
    /// Gives the turn away until the bell rings or the time comes. May come back earlier: the caller looks
    /// whether it has what it waits for, and how late it is.
    fn wait(&self, bell: u64, until_ns: Option<u64>);
    /// The clock of the deadlines, ns; never goes back.
    fn mono_ns(&self) -> u64;
}

/// Where threads, mailboxes and waiting come from. Cheap to clone.
#[derive(Clone, Default)]
pub struct Threads(Option<Arc<dyn Turns>>);

impl Threads {
    /// The machine's own.
    pub const fn of_the_machine() -> Self {
        Self(None)
    }

    /// Under somebody who gives the turns.
    pub fn in_turns(turns: Arc<dyn Turns>) -> Self {
        Self(Some(turns))
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// `Io` when the machine has none to give.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Outcome<Thread<T>> {
        let failed = |err: std::io::Error| Failure::os(format_args!("start thread {name}"), &err);
        let Some(turns) = &self.0 else {
            let started = thread::Builder::new().name(name.to_owned()).spawn(body);
            return Ok(Thread(Inside::Machine(started.map_err(failed)?)));
        };
        let end = Arc::new(Mutex::new(End::Runs));
        let bell = turns.bell();
        let ending = Ending {
            end: Arc::clone(&end),
            at: (Arc::clone(turns), bell),
        };
        let run = move || {
            let done = body();
            *lock(&ending.end) = End::Done(done);
        };
        turns.spawn(name, Box::new(run)).map_err(failed)?;
        Ok(Thread(Inside::Turns(end, (Arc::clone(turns), bell))))
    }

    /// Runs what blocks and does not wait for its end: in the caller's `pool`, or under turns on a thread of
    /// its own.
    pub fn apart(
        &self,
        work: impl FnOnce() + Send + 'static,
        pool: impl FnOnce(Box<dyn FnOnce() + Send>),
    ) {
        match &self.0 {
            None => pool(Box::new(work)),
            // Without a thread the work is dropped, and whoever waits for it hears that.
            Some(turns) => drop(turns.spawn("apart", Box::new(work))),
        }
    }

    /// A bounded mailbox with `room` places, at least one.
    pub fn mailbox<T>(&self, room: usize) -> (Mailbox<T>, Mail<T>) {
        let (sender, receiver) = sync_channel(room.max(1));
        let at = self
            .0
            .as_ref()
            .map(|turns| (Arc::clone(turns), turns.bell()));
        let mailbox = Mailbox {
            sender: Some(sender),
            at: at.clone(),
        };
        let mail = Mail {
            receiver: Some(receiver),
            at,
        };
        (mailbox, mail)
    }

    /// Waits for a future, which must not need a runtime.
    pub fn wait<F: Future>(&self, what: F) -> F::Output {
        let mut what = pin!(what);
        loop {
            if let Some(done) = self.wait_until(None, what.as_mut()) {
                return done;
            }
        }
    }

    /// The same for so long at most; `None` when it has not come.
    pub fn wait_for<F: Future>(&self, most: Duration, what: F) -> Option<F::Output> {
        self.wait_until(Some(most), what)
    }

    fn wait_until<F: Future>(&self, most: Option<Duration>, what: F) -> Option<F::Output> {
        let mut what = pin!(what);
        match &self.0 {
            None => {
                let waker = Waker::from(Arc::new(Parked(thread::current())));
                let begun = now();
                loop {
                    if let Poll::Ready(done) = what.as_mut().poll(&mut Context::from_waker(&waker))
                    {
                        return Some(done);
                    }
                    match most {
                        None => thread::park(),
                        Some(most) => {
                            let left = most.saturating_sub(begun.elapsed());
                            if left.is_zero() {
                                return None;
                            }
                            thread::park_timeout(left);
                        }
                    }
                }
            }
            Some(turns) => {
                let at = (Arc::clone(turns), turns.bell());
                let waker = Waker::from(Arc::new(Rung(at.clone())));
                let until = deadline(&at, most);
                loop {
                    if let Poll::Ready(done) = what.as_mut().poll(&mut Context::from_waker(&waker))
                    {
                        return Some(done);
                    }
                    if until.is_some_and(|until| turns.mono_ns() >= until) {
                        return None;
                    }
                    turns.wait(at.1, until);
                }
            }
        }
    }

    /// Waits for nothing.
    pub fn sleep(&self, time: Duration) {
        match &self.0 {
            None => thread::sleep(time),
            Some(_) => drop(self.wait_for(time, std::future::pending::<()>())),
        }
    }
}

/// A place where turns are waited for.
type At = (Arc<dyn Turns>, u64);

fn deadline(at: &At, most: Option<Duration>) -> Option<u64> {
    let most = u64::try_from(most?.as_nanos()).unwrap_or(u64::MAX);
    Some(at.0.mono_ns().saturating_add(most))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to park: this is the seam that the rest asks"
)]
fn now() -> Instant {
    Instant::now()
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Parked(thread::Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Rung(At);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.0.ring(self.0.1);
    }
}

/// A running thread. Dropping it lets it run on.
pub struct Thread<T>(Inside<T>);

enum Inside<T> {
    Machine(JoinHandle<T>),
    Turns(Arc<Mutex<End<T>>>, At),
}

enum End<T> {
    Runs,
    Done(T),
    Gone,
}

/// Says that the thread has ended, however it did.
struct Ending<T> {
    end: Arc<Mutex<End<T>>>,
    at: At,
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let mut end = lock(&self.end);
        if matches!(*end, End::Runs) {
            *end = End::Gone;
        }
        drop(end);
        self.at.0.ring(self.at.1);
    }
}

impl<T> Thread<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// `Internal` when it panicked.
    pub fn join(self) -> Outcome<T> {
        let panicked = || Failure::internal("a thread panicked");
        match self.0 {
            Inside::Machine(thread) => thread.join().map_err(|_| panicked()),
            Inside::Turns(end, (turns, bell)) => loop {
                match std::mem::replace(&mut *lock(&end), End::Runs) {
                    End::Done(done) => return Ok(done),
                    End::Gone => return Err(panicked()),
                    End::Runs => {}
                }
                turns.wait(bell, None);
            },
        }
    }
}

/// The way into a [`Mail`]: as a `SyncSender` of std.
pub struct Mailbox<T> {
    /// `None` only while it is dropped: the other side is woken after that.
    sender: Option<SyncSender<T>>,
    at: Option<At>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            at: self.at.clone(),
        }
    }
}

impl<T> Mailbox<T> {
    /// Puts one in; waits while there is no room.
    ///
    /// # Errors
    /// Gives it back when nobody will take it.
    pub fn send(&self, what: T) -> Result<(), SendError<T>> {
        let Some(sender) = &self.sender else {
            return Err(SendError(what));
        };
        let Some((turns, bell)) = &self.at else {
            return sender.send(what);
        };
        let mut what = what;
        loop {
            match self.try_send(what) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(what)) => return Err(SendError(what)),
                Err(TrySendError::Full(back)) => what = back,
            }
            turns.wait(*bell, None);
        }
    }

    /// Puts one in if there is room.
    ///
    /// # Errors
    /// Gives it back when there is no room, or nobody will take it.
    pub fn try_send(&self, what: T) -> Result<(), TrySendError<T>> {
        let Some(sender) = &self.sender else {
            return Err(TrySendError::Disconnected(what));
        };
        sender.try_send(what)?;
        ring(self.at.as_ref());
        Ok(())
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        drop(self.sender.take());
        ring(self.at.as_ref());
    }
}

/// What lies in a mailbox: as a `Receiver` of std.
pub struct Mail<T> {
    /// `None` only while it is dropped: the other side is woken after that.
    receiver: Option<Receiver<T>>,
    at: Option<At>,
}

impl<T> Mail<T> {
    /// Takes the oldest; waits while there is none.
    ///
    /// # Errors
    /// When there is none and nobody is left to send one.
    pub fn recv(&self) -> Result<T, RecvError> {
        match (&self.at, &self.receiver) {
            (None, Some(receiver)) => receiver.recv(),
            _ => self.take(None).map_err(|_| RecvError),
        }
    }

    /// The same for so long at most.
    ///
    /// # Errors
    /// As [`Self::recv`], and when none has come.
    pub fn recv_timeout(&self, most: Duration) -> Result<T, RecvTimeoutError> {
        match (&self.at, &self.receiver) {
            (None, Some(receiver)) => receiver.recv_timeout(most),
            _ => self.take(Some(most)),
        }
    }

    /// Takes the oldest, if there is one.
    ///
    /// # Errors
    /// When there is none; when nobody is left to send one.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let receiver = self.receiver.as_ref().ok_or(TryRecvError::Disconnected)?;
        let taken = receiver.try_recv()?;
        ring(self.at.as_ref());
        Ok(taken)
    }

    /// All that there are now.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// All, waiting for each, until nobody is left to send one.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    fn take(&self, most: Option<Duration>) -> Result<T, RecvTimeoutError> {
        let at = self.at.as_ref().ok_or(RecvTimeoutError::Disconnected)?;
        let until = deadline(at, most);
        loop {
            match self.try_recv() {
                Ok(taken) => return Ok(taken),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            if until.is_some_and(|until| at.0.mono_ns() >= until) {
                return Err(RecvTimeoutError::Timeout);
            }
            at.0.wait(at.1, until);
        }
    }
}

impl<T> Drop for Mail<T> {
    fn drop(&mut self) {
        drop(self.receiver.take());
        ring(self.at.as_ref());
    }
}

fn ring(at: Option<&At>) {
    if let Some((turns, bell)) = at {
        turns.ring(*bell);
    }
}
