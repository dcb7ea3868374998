//! A life from within: time passes, devices offer, the house answers, readers read.
//!
//! What the house said before it died counts: whoever heard it relies on it.

use std::sync::Arc;

use chordae::assemble::House;
use chordae_base::{
    Failure, Outcome,
    seams::{Clock, faulty::FaultyDisk},
    time::SECOND_NS,
};
use chordae_ingest::{
    core::{
        arrival::{ConnId, Notice, Verdict},
        decode::decode,
    },
    mailbox::Arrival,
};
use chordae_storage::registry::{Device, DeviceKind};
use tokio::sync::mpsc;

use crate::{
    baton::Baton,
    disk::LifeDisk,
    fleet::{Fate, What},
    fortune::Fortune,
    run::World,
};

/// Turns that the last life may take until everything has had its word.
const PATIENCE: u32 = 200;

/// What was done to the disk of a life.
#[derive(Clone)]
pub(crate) struct Trouble {
    /// Operations that were refused.
    pub(crate) faulty: FaultyDisk,
    /// A sync that failed.
    pub(crate) disk: LifeDisk,
    /// Whether it is small.
    pub(crate) cramped: bool,
}

impl Trouble {
    /// Whether a house may give up, or not answer: nothing else excuses it.
    pub(crate) fn excuses(&self) -> bool {
        self.faults() > 0 || self.cramped
    }

    /// How often the disk has failed.
    pub(crate) fn faults(&self) -> u64 {
        self.faulty.struck() + u64::from(self.disk.has_failed())
    }
}

/// A house that runs.
pub(crate) struct Life {
    pub(crate) house: House,
    pub(crate) baton: Arc<Baton>,
    pub(crate) trouble: Trouble,
    pub(crate) reply: mpsc::Sender<Notice>,
    pub(crate) notices: mpsc::Receiver<Notice>,
    /// Numbers of its connections begin here.
    pub(crate) conn: u64,
}

impl World {
    /// Lets time pass and everybody do what they do.
    pub(crate) fn drive(&mut self, life: &mut Life, fortune: &Fortune, last: bool) -> Outcome<()> {
        self.introduce(life)?;
        let leaps = self.dice.one_in(3);
        for _ in 0..fortune.turns {
            self.turn(life, leaps)?;
        }
        if !last {
            return Ok(());
        }
        self.fleet.release();
        for _ in 0..PATIENCE {
            self.offer(life)?;
            self.let_pass(life, true, 700_000_000)?;
            if self.fleet.is_done() {
                break;
            }
            self.fleet.again();
        }
        if !self.fleet.is_done() {
            return Err(Failure::internal("what was sent never had its last word"));
        }
        // What waits for its slot's end, or a clock offset, has it.
        for _ in 0..10 {
            self.let_pass(life, true, 10 * SECOND_NS.unsigned_abs())?;
        }
        for _ in 0..3 {
            self.read(life)?;
        }
        Ok(())
    }

    /// The registry knows the devices, and whose their streams are.
    fn introduce(&mut self, life: &Life) -> Outcome<()> {
        let registry = &life.house.registry;
        let made = life.baton.attempt(|| {
            for stream in &self.fleet.streams {
                let id = &stream.key.device;
                if registry.device(id).is_none() {
                    registry.add_device(Device::new(id.clone(), DeviceKind::Device))?;
                }
            }
            self.readers
                .introduce(registry, &self.fleet, &mut self.wards)
        });
        made.unwrap_or_else(|| Err(died()))
    }

    fn turn(&mut self, life: &mut Life, leaps: bool) -> Outcome<()> {
        let ns = match self.dice.below(4) {
            0 => self.dice.below(200_000_000),
            1 => self.dice.below(5_000_000_000),
            _ => self.dice.below(1_500_000_000),
        };
        self.let_pass(life, leaps, ns)?;
        self.offer(life)?;
        if self.dice.one_in(12) {
            self.fleet.again();
        }
        if self.dice.one_in(60) {
            let jump = (self.dice.below(7_200) as i64 - 3_600) * SECOND_NS;
            self.skew_ns = self.skew_ns.saturating_add(jump);
            self.clock
                .set_wall(self.clock.wall_ns().saturating_add(jump));
            self.fleet.server_jumped();
        }
        if self.wards.wishes() {
            self.assign(life)?;
        }
        if self.dice.one_in(10) {
            self.read(life)?;
        }
        Ok(())
    }

    fn let_pass(&mut self, life: &mut Life, leaps: bool, ns: u64) -> Outcome<()> {
        if leaps {
            life.baton.leap(ns);
        } else {
            life.baton.pass(ns);
        }
        self.hear(life);
        self.fleet.measure(self.true_ns())?;
        if life.baton.is_dead() {
            Err(died())
        } else {
            Ok(())
        }
    }

    /// The devices offer what is due.
    fn offer(&mut self, life: &mut Life) -> Outcome<()> {
        let wall_ns = self.clock.wall_ns();
        for n in 0..self.fleet.streams.len() {
            let due = self.fleet.offers(n);
            let mut arrivals = Vec::new();
            for id in due {
                self.fleet.offered(id, wall_ns);
                arrivals.extend(self.arrival(life, id));
            }
            if arrivals.is_empty() {
                continue;
            }
            let (ingest, threads) = (life.house.ingest.clone(), life.baton.threads());
            let taken = life
                .baton
                .attempt(|| threads.wait(ingest.offer_all(arrivals)));
            taken.unwrap_or_else(|| Err(died()))?;
            if self.dice.one_in(2) {
                life.baton.settle();
                self.hear(life);
            }
        }
        life.baton.settle();
        self.hear(life);
        Ok(())
    }

    fn arrival(&self, life: &Life, id: u32) -> Option<Arrival> {
        let item = self.fleet.items.get(id as usize)?;
        let stream = self.fleet.streams.get(item.stream)?;
        // Whoever uses a boot again does so on a connection of its own: what follows on it is put aside.
        let again = matches!(item.what, What::Birth(_)) && !item.plain;
        Some(Arrival {
            stream: stream.key.clone(),
            content: decode(item.shape, item.payload.clone()),
            at_mono_ns: self.clock.mono_ns(),
            relayed_ns: None,
            door: "world",
            conn: ConnId(life.conn + 2 * item.stream as u64 + u64::from(again)),
            can_be_told: item.can_be_told,
            token: id.into(),
            reply: life.reply.clone(),
        })
    }

    /// What the house has said so far. What it said before it died counts.
    pub(crate) fn hear(&mut self, life: &mut Life) {
        while let Ok(notice) = life.notices.try_recv() {
            let Notice::Fates(fates) = notice else {
                continue;
            };
            for (token, verdict) in fates {
                let fate = match verdict {
                    Verdict::Durable => Fate::Acked,
                    Verdict::Refused(_) => Fate::Refused,
                    Verdict::Full(_) | Verdict::Unsure => Fate::Open,
                };
                let id = u32::try_from(token).unwrap_or(u32::MAX);
                self.trace.note("told", "", token, fate as u64);
                self.fleet.told(id, fate);
            }
        }
    }

    /// A stream goes to another patient.
    fn assign(&mut self, life: &mut Life) -> Outcome<()> {
        let (patients, wall_ns) = (self.readers.patients(), self.clock.wall_ns());
        let given = self
            .wards
            .assign(life, &self.fleet, patients, wall_ns, &self.trace);
        self.hear(life);
        match given {
            Err(_) if life.baton.is_dead() => Err(died()),
            // The registry's disk failed: it takes nothing more in this life.
            Err(_) if life.trouble.excuses() => Ok(()),
            given => given,
        }
    }

    /// A clinician reads a window, and the answer is compared with what is stored.
    fn read(&mut self, life: &mut Life) -> Outcome<()> {
        let (medium, trace) = (&self.medium, &self.trace);
        let looked = self
            .readers
            .read(life, medium, &self.keys, self.clock.wall_ns(), trace);
        match looked {
            Ok(count) => self.report.windows += count,
            Err(_) if life.baton.is_dead() => return Err(died()),
            // With a disk that failed or is full, reading may have ended; acknowledging has its own rule.
            Err(_) if life.trouble.excuses() => {}
            Err(failure) => self.report.wrong.push(format!("a window: {failure}")),
        }
        self.hear(life);
        Ok(())
    }
}

pub(crate) fn died() -> Failure {
    Failure::io("the machine died")
}
