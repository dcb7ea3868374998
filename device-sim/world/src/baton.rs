//! The baton: real threads of which exactly one runs, chosen by the dice.
//!
//! ```text
//!           wait(bell, until): the baton goes on          ring(bell): may run again
//!   runs ─────────────────────────────────────▶ waits ─────────────────────────────▶ ready
//!     ▲                                                                                │
//!     └────────── chosen by the dice among those that are ready ◀──────────────────────┘
//!                 nobody ready: the driver, if it is idle; else the clock moves to the next deadline
//! ```
//!
//! Slot 0 is the driver, the thread that made the baton. Between two waits a thread has the world for
//! itself, so nothing is ever rung between looking and waiting, and the order of everything follows from
//! the dice.
//!
//! A process dies when its disk does ([`Baton::kill`]): each of its threads runs on to its next wait, with
//! a disk that answers nothing but errors, and unwinds there. [`Baton::bury`] sees all of them to their end.

use std::{
    any::Any,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

use chordae_base::seams::{Clock, Threads, Turns, fake::FakeClock};

use crate::{dice::Dice, trace::Trace};

/// What unwinds through a thread of a dead process.
struct Ended;

/// See the module.
pub(crate) struct Baton {
    me: Weak<Self>,
    clock: FakeClock,
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Slot>,
    running: usize,
    bells: u64,
    dice: Dice,
    dead: bool,
    /// What is wrong with the threads themselves: panics, a standstill.
    wrong: Vec<String>,
}

struct Slot {
    name: String,
    wants: Wants,
    turn: Arc<Condvar>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// To run.
    Turn,
    /// Until a bell or a time.
    Bell(u64, Option<u64>),
    /// To run when nobody else can: the driver.
    Idle,
    /// Nothing more.
    Over,
}

impl Baton {
    /// A baton that the calling thread holds.
    pub(crate) fn new(clock: FakeClock, dice: Dice, trace: Trace) -> Arc<Self> {
        let driver = Slot {
            name: "driver".to_owned(),
            wants: Wants::Turn,
            turn: Arc::default(),
        };
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            clock,
            trace,
            state: Mutex::new(State {
                slots: vec![driver],
                running: 0,
                bells: 0,
                dice,
                dead: false,
                wrong: Vec::new(),
            }),
        })
    }

    /// The seam for the house.
    pub(crate) fn threads(&self) -> Threads {
        match self.me.upgrade() {
            Some(me) => Threads::in_turns(me),
            None => Threads::of_the_machine(),
        }
    }

    /// The driver lets all others run until each of them waits.
    pub(crate) fn settle(&self) {
        drop(self.give(self.lock(), Wants::Idle));
    }

    /// Time passes, in one leap: whoever slept too long wakes late, as in a process that was stopped.
    pub(crate) fn leap(&self, ns: u64) {
        self.clock.advance(ns);
        self.wake_due(&mut self.lock());
        self.settle();
    }

    /// Time passes from one deadline to the next.
    pub(crate) fn pass(&self, ns: u64) {
        let end = self.clock.mono_ns().saturating_add(ns);
        loop {
            self.settle();
            let next = self.lock().next_deadline().filter(|at| *at <= end);
            let to = next.unwrap_or(end);
            self.clock.advance(to.saturating_sub(self.clock.mono_ns()));
            self.wake_due(&mut self.lock());
            if next.is_none() || self.is_dead() {
                return self.settle();
            }
        }
    }

    /// The process dies: whoever waits, or comes to wait, unwinds.
    pub(crate) fn kill(&self) {
        self.lock().dead = true;
    }

    /// Whether it has died.
    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Kills it, sees all threads but the driver to their end, and says what was wrong with them.
    pub(crate) fn bury(&self) -> Vec<String> {
        self.kill();
        self.settle();
        std::mem::take(&mut self.lock().wrong)
    }

    /// Runs something of the driver that may wait; `None` when the process died meanwhile.
    pub(crate) fn attempt<T>(&self, what: impl FnOnce() -> T) -> Option<T> {
        match panic::catch_unwind(AssertUnwindSafe(what)) {
            Ok(done) => Some(done).filter(|_| !self.is_dead()),
            Err(why) => {
                self.note_panic("driver", &*why);
                self.kill();
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_panic(&self, name: &str, why: &(dyn Any + Send)) {
        if why.is::<Ended>() {
            return;
        }
        let text = why.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| why.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("no text");
        self.lock()
            .wrong
            .push(format!("thread {name} panicked: {text}"));
    }

    fn wake_due(&self, state: &mut State) {
        let now = self.clock.mono_ns();
        for slot in &mut state.slots {
            if matches!(slot.wants, Wants::Bell(_, Some(until)) if until <= now) {
                slot.wants = Wants::Turn;
            }
        }
    }

    /// The running thread passes the baton and comes back with it.
    fn give<'s>(&'s self, mut state: MutexGuard<'s, State>, wants: Wants) -> MutexGuard<'s, State> {
        let me = state.running;
        state.want(me, wants);
        let next = self.choose(&mut state);
        if next != me {
            state = self.hand_over(state, next);
            state = self.await_turn(state, me);
        }
        state.want(me, Wants::Turn);
        state
    }

    fn hand_over<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        next: usize,
    ) -> MutexGuard<'s, State> {
        state.running = next;
        if let Some(slot) = state.slots.get(next) {
            slot.turn.notify_one();
        }
        state
    }

    fn await_turn<'s>(&self, mut state: MutexGuard<'s, State>, me: usize) -> MutexGuard<'s, State> {
        let Some(turn) = state.slots.get(me).map(|slot| Arc::clone(&slot.turn)) else {
            return state;
        };
        while state.running != me {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn choose(&self, state: &mut State) -> usize {
        loop {
            let others = state.slots.iter().enumerate().skip(1);
            if state.dead {
                let left = others.filter(|(_, s)| s.wants != Wants::Over);
                return left.map(|(n, _)| n).next().unwrap_or(0);
            }
            let mut ready: Vec<usize> = others
                .filter(|(_, s)| s.wants == Wants::Turn)
                .map(|(n, _)| n)
                .collect();
            let driver = state.slots.first().map(|s| s.wants);
            if driver == Some(Wants::Turn) {
                ready.push(0);
            }
            if !ready.is_empty() {
                let at = usize::try_from(state.dice.below(ready.len() as u64)).unwrap_or(0);
                let next = ready.get(at).copied().unwrap_or(0);
                self.trace.note("turn", "", next as u64, 0);
                return next;
            }
            if driver == Some(Wants::Idle) {
                return 0;
            }
            match state.next_deadline() {
                Some(at) => {
                    self.clock.advance(at.saturating_sub(self.clock.mono_ns()));
                    self.wake_due(state);
                }
                None => {
                    let names: Vec<&str> = state.slots.iter().map(|s| s.name.as_str()).collect();
                    let line = format!("standstill: all wait for ever: {}", names.join(", "));
                    state.wrong.push(line);
                    state.dead = true;
                }
            }
        }
    }

    /// What a thread does from its start to its end.
    fn live(&self, slot: usize, name: &str, body: Box<dyn FnOnce() + Send>) {
        let state = self.await_turn(self.lock(), slot);
        let dead = state.dead;
        drop(state);
        if dead {
            drop(body);
        } else if let Err(why) = panic::catch_unwind(AssertUnwindSafe(body)) {
            self.note_panic(name, &*why);
        }
        let mut state = self.lock();
        state.want(slot, Wants::Over);
        let next = self.choose(&mut state);
        drop(self.hand_over(state, next));
    }
}

impl State {
    fn want(&mut self, slot: usize, wants: Wants) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.wants = wants;
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let waits = self.slots.iter().filter_map(|slot| match slot.wants {
            Wants::Bell(_, until) => until,
            _ => None,
        });
        waits.min()
    }
}

impl Turns for Baton {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let baton = self.me.upgrade().ok_or(io::ErrorKind::NotFound)?;
        let mut state = self.lock();
        let made = Slot {
            name: name.to_owned(),
            wants: Wants::Turn,
            turn: Arc::default(),
        };
        let free = state.slots.iter().position(|s| s.wants == Wants::Over);
        let at = free.unwrap_or(state.slots.len());
        match state.slots.get_mut(at) {
            Some(slot) => *slot = made,
            None => state.slots.push(made),
        }
        drop(state);
        let own = name.to_owned();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || baton.live(at, &own, body))
            .map(drop)
            .inspect_err(|_| self.lock().want(at, Wants::Over))
    }

    fn bell(&self) -> u64 {
        let mut state = self.lock();
        state.bells += 1;
        state.bells
    }

    fn ring(&self, bell: u64) {
        for slot in &mut self.lock().slots {
            if matches!(slot.wants, Wants::Bell(waits, _) if waits == bell) {
                slot.wants = Wants::Turn;
            }
        }
    }

    fn wait(&self, bell: u64, until_ns: Option<u64>) {
        let mut state = self.lock();
        if !state.dead {
            state = self.give(state, Wants::Bell(bell, until_ns));
        }
        let dead = state.dead;
        drop(state);
        if dead && !thread::panicking() {
            panic::resume_unwind(Box::new(Ended));
        }
    }

    fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }
}
