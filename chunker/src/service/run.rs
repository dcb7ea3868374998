//! The loop: wait, step, perform.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use chordae_base::{
    Failure, FailureKind, Outcome, StreamKey, StreamPlan,
    limits::SEAL_QUEUE,
    record::WalRecord,
    seams::{Mail, Mailbox},
};

use super::{Input, Status, Stopped};
use crate::{
    core::{
        bucket::SealOrder,
        ports::{Plans, Progress},
        windower::{Effect, Windower},
    },
    metrics::Metrics,
    replay::Recovered,
    seal::{cache::PayloadCache, sealer::Told},
};

/// How long the thread waits for input before it looks for news from the sealer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whoever asked may be gone; what was asked is done all the same.
fn answer<T>(to: &Mailbox<T>, what: T) {
    if to.try_send(what).is_err() {
        tracing::debug!("nobody waits for an answer of the chunker");
    }
}

/// Whether a change that failed may be durable all the same.
fn may_hold(failure: &Failure) -> bool {
    use FailureKind::{BadInput, Busy, Refused};
    !matches!(failure.kind, BadInput | Busy | Refused)
}

/// The state of the thread.
pub(super) struct Run {
    pub(super) windower: Windower,
    pub(super) plans: Box<dyn Plans>,
    pub(super) progress: Box<dyn Progress>,
    pub(super) cache: Arc<PayloadCache>,
    pub(super) metrics: Metrics,
    pub(super) orders: Option<Mailbox<Arc<SealOrder>>>,
    pub(super) told: Mail<Told>,
    /// Orders that the sealer has no room for yet.
    pub(super) waiting: VecDeque<Arc<SealOrder>>,
    /// Orders at the sealer.
    pub(super) out: usize,
    pub(super) trimmed: u64,
}

impl Run {
    pub(super) fn replay(&mut self, recovered: &dyn Recovered) -> Outcome<()> {
        recovered.scan(&mut |position, record| {
            self.record(position, record);
            self.perform()
        })?;
        self.windower.replayed();
        self.trim();
        Ok(())
    }

    pub(super) fn serve(&mut self, feed: &Mail<Input>) -> Outcome<()> {
        loop {
            self.perform()?;
            // With no order out there is no news to look for.
            let input = match self.out {
                0 => feed.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => feed.recv_timeout(LOOK_EVERY),
            };
            match input {
                Ok(Input::Stop { reply }) => {
                    let stopped = self.stop()?;
                    answer(&reply, stopped);
                    return Ok(());
                }
                Ok(input) => self.step(input)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.stop().map(|_| ()),
            }
        }
    }

    fn step(&mut self, input: Input) -> Outcome<()> {
        match input {
            Input::Record { position, record } => self.record(position, record),
            Input::Tick { now_ns } => {
                self.windower.tick(now_ns);
                let (_, oldest) = self.windower.open_buckets();
                self.metrics
                    .oldest_open(oldest.map(|o| now_ns.saturating_sub(o)));
                self.trim();
            }
            Input::Replan {
                stream,
                plan,
                from_ns,
                persist,
                reply,
            } => {
                let done = self.replan(&stream, plan, from_ns, persist);
                let unknown = done.clone().err().filter(may_hold);
                answer(&reply, done);
                // What is sealed from here on under the old plan would be sealed again by the next start, if
                // that finds the new one.
                if let Some(failure) = unknown {
                    return Err(failure.during("a change of plan that may hold or not"));
                }
            }
            Input::Claim {
                stream,
                did,
                take,
                reply,
            } => {
                let free = !self.windower.has_rows(&stream, &did);
                answer(
                    &reply,
                    if free {
                        take().map(|()| true)
                    } else {
                        Ok(false)
                    },
                );
            }
            Input::Status { reply } => answer(&reply, self.status()),
            Input::Stop { .. } => {}
        }
        Ok(())
    }

    fn record(&mut self, position: u64, record: WalRecord) {
        self.windower.record(position, &record, &*self.plans);
        if let WalRecord::Frame(frame) = record
            && self.windower.needs(position)
        {
            self.cache.keep(position, &frame.payload);
        }
    }

    /// Check, make durable, then put in force: a crash between the last two finds the new plan in the
    /// registry, folds it first and replays the open rows under it.
    fn replan(
        &mut self,
        stream: &StreamKey,
        plan: StreamPlan,
        from_ns: i64,
        persist: Box<dyn FnOnce() -> Outcome<()> + Send>,
    ) -> Outcome<()> {
        self.windower.may_replan(stream, &plan, from_ns)?;
        persist()?;
        self.windower.replan(stream, plan, from_ns);
        Ok(())
    }

    /// Takes effects and news until there is room for more input.
    fn perform(&mut self) -> Outcome<()> {
        for effect in self.windower.take_effects() {
            match effect {
                Effect::Seal(order) => self.waiting.push_back(order),
                Effect::Stranded { position, why } => {
                    self.metrics.stranded();
                    tracing::error!(
                        position,
                        why,
                        "a frame cannot be placed; it stays in the WAL"
                    );
                }
            }
        }
        loop {
            while let Ok(told) = self.told.try_recv() {
                self.hear(told)?;
            }
            self.send_orders()?;
            if self.waiting.len() < SEAL_QUEUE {
                return Ok(());
            }
            self.wait()?;
        }
    }

    fn send_orders(&mut self) -> Outcome<()> {
        while self.out < SEAL_QUEUE {
            let Some(order) = self.waiting.pop_front() else {
                break;
            };
            let sent = self
                .orders
                .as_ref()
                .is_some_and(|to| to.send(order).is_ok());
            if !sent {
                return Err(Failure::internal("the sealer is gone"));
            }
            self.out += 1;
        }
        Ok(())
    }

    /// Waits for one piece of news from the sealer.
    fn wait(&mut self) -> Outcome<()> {
        let told = self
            .told
            .recv()
            .map_err(|_| Failure::internal("the sealer is gone"))?;
        self.hear(told)
    }

    fn hear(&mut self, told: Told) -> Outcome<()> {
        match told {
            Told::Linked(ids) => {
                self.out = self.out.saturating_sub(ids.len());
                let positions = self.windower.positions(&ids);
                let news = self.windower.linked(&ids);
                positions
                    .iter()
                    .filter(|p| !self.windower.needs(**p))
                    .for_each(|p| {
                        self.cache.forget(*p);
                    });
                if !news.is_empty() {
                    self.progress.covered(news);
                }
                self.trim();
            }
            Told::Failed {
                id,
                failure,
                unsealable,
            } => {
                self.out = self.out.saturating_sub(1);
                for position in self.windower.positions(&[id]) {
                    self.cache.forget(position);
                }
                self.gap(id, &failure, unsealable);
            }
            Told::Gone(failure) => return Err(failure.during("linking chunks")),
        }
        Ok(())
    }

    /// A bucket failed twice. What cannot be sealed goes to quarantine, so that it does not keep the WAL
    /// from being trimmed; what the store did not take stays, and the next start tries again.
    fn gap(&mut self, id: u64, failure: &Failure, unsealable: bool) {
        self.metrics.gap();
        if !unsealable {
            tracing::error!(why = %failure, "a bucket failed to seal twice; its frames stay in the WAL");
            return self.windower.failed(id);
        }
        if let Some(gap) = self.windower.unsealable(id, failure.why.clone()) {
            let (first, last) = (gap.frames.first(), gap.frames.last());
            let seqs = first
                .zip(last)
                .map(|((first, _), (last, _))| (*first, *last));
            tracing::error!(stream = %gap.stream, did = %gap.did, boot = gap.boot, slot = gap.slot_start_ns,
                ?seqs, frames = gap.frames.len(), why = %failure,
                "a bucket cannot be sealed: its frames go to quarantine, a gap stays");
            self.progress.gap(gap);
        }
    }

    fn trim(&mut self) {
        let floor = self.windower.floor();
        if floor > self.trimmed {
            self.trimmed = floor;
            self.progress.trim(floor);
        }
    }

    fn stop(&mut self) -> Outcome<Stopped> {
        self.windower.stop();
        self.perform()?;
        while self.windower.sealing() > 0 {
            self.send_orders()?;
            self.wait()?;
        }
        self.trim();
        let Status {
            floor,
            gaps,
            parked,
            ..
        } = self.status();
        Ok(Stopped {
            floor,
            gaps,
            parked,
        })
    }

    fn status(&self) -> Status {
        let (open_buckets, oldest_open_ns) = self.windower.open_buckets();
        let (held, parked) = self.windower.waiting();
        Status {
            now_ns: self.windower.now_ns(),
            open_buckets,
            oldest_open_ns,
            sealing: self.windower.sealing(),
            gaps: self.windower.gaps(),
            stranded: self.windower.stranded(),
            held,
            parked,
            floor: self.windower.floor(),
        }
    }
}
