//! One seed from beginning to end.
//!
//! ```text
//! life ─▶ life ─▶ ... ─▶ last life, on a good disk: all is sent, sealed, anchored, stopped in order
//!   │       each: build (the house's own assemble), drive, death: at the n-th change of the disk, by a
//!   │       failing disk, by kill or power loss between two turns, or an orderly stop
//!   └─▶ the oracle looks at what each death left
//! ```

use std::{path::Path, sync::Arc};

use chordae::{
    assemble::{self, House, Seams},
    folder::Folder,
    keyring::Keyring,
    observe::Readiness,
    settings::Settings,
};
use chordae_base::{
    Failure, Outcome, limits,
    seams::{
        Clock, Entropy,
        fake::{FakeClock, FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How, Op},
    },
    time::SECOND_NS,
};
use chordae_chain::{
    checkpoint::TrustedLog,
    keys::{Role, SecretKeys},
    trust::{TrustFile, policy_text},
};
use chordae_ingest::{
    core::{
        arrival::{ConnId, Notice, Verdict},
        decode::decode,
    },
    fanout::NoFanout,
    mailbox::Arrival,
};
use chordae_storage::registry::{Device, DeviceKind};
use tokio::sync::mpsc;

use crate::{
    baton::Baton,
    dice::Dice,
    disk::{Death, LifeDisk},
    fleet::{Fate, Fleet, What},
    oracle::{Counts, Oracle, Wrong},
    trace::Trace,
    window::Readers,
};

/// Where the folder lies on the fake disk.
pub(crate) const ROOT: &str = "/data";
/// When the world begins: 2026-01-01T00:00:00Z.
const BEGIN_NS: i64 = 1_767_225_600 * SECOND_NS;
/// Turns that the last life may take until everything has had its word.
const PATIENCE: u32 = 200;

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Say everything that happens.
    pub lines: bool,
    /// The negative control: in every life but the last the disk says that it synced, and did not.
    pub lies: bool,
}

/// What came of a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Hash of all that happened.
    pub trace: u64,
    /// How much happened.
    pub events: u64,
    /// How often the house was built.
    pub lives: u64,
    /// How often it died otherwise than by an orderly stop.
    pub deaths: u64,
    /// How often a disk failed an operation.
    pub faults: u64,
    /// Windows that were read and compared.
    pub windows: u64,
    /// Counts of the last look.
    pub counts: Counts,
    /// What must not be; empty is good.
    pub wrong: Wrong,
}

/// How a life ends if nothing comes between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Stop,
    Death(Death),
}

/// What is in store for a life.
struct Fortune {
    at: Option<(u64, Death)>,
    faults: Vec<Fault>,
    room: u64,
    turns: u64,
    close: Close,
}

/// See the module.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) clock: FakeClock,
    pub(crate) medium: FakeDisk,
    pub(crate) trace: Trace,
    pub(crate) fleet: Fleet,
    pub(crate) keys: Keyring,
    pub(crate) report: Report,
    home: Folder,
    settings: Settings,
    readers: Readers,
    /// Wall clock of the server minus true time.
    skew_ns: i64,
    conns: u64,
    lies: bool,
}

/// A house that runs.
pub(crate) struct Life {
    pub(crate) house: House,
    pub(crate) baton: Arc<Baton>,
    disk: FaultyDisk,
    reply: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    conn: u64,
}

/// Runs a seed.
#[must_use]
pub fn run(options: Options) -> Report {
    match World::new(options).and_then(World::all_lives) {
        Ok(report) => report,
        Err(failure) => Report {
            seed: options.seed,
            wrong: vec![format!("the world itself: {failure}")],
            ..Report::default()
        },
    }
}

/// Keys of the installation, the same in every world.
fn keys() -> Outcome<Keyring> {
    let entropy = FakeEntropy::new(0);
    let make = |seal| SecretKeys::new(&entropy, seal);
    let (provider, sequencer, log) = (make(true)?, make(false)?, make(false)?);
    let origin = "chordae.world/1".to_owned();
    let trust = TrustFile {
        policy: policy_text(&TrustedLog::new(&origin, &log.sign_public())?),
        origin,
        providers: vec![provider.public("provider", Role::Provider)],
        sequencers: vec![sequencer.public("sequencer", Role::Sequencer)],
        ca: None,
    };
    Ok(Keyring {
        provider,
        sequencer,
        log,
        trust,
    })
}

fn settings(dice: &mut Dice) -> Settings {
    let mut settings = Settings::default();
    settings.chunks.slot_seconds = 10;
    settings.ledger.anchor_seconds = 2;
    settings.wal.segment_bytes = dice.between(2, 32) << 10;
    settings.wal.max_bytes = 1 << 20;
    settings.wal.min_free_bytes = 1 << 18;
    settings
}

impl World {
    fn new(options: Options) -> Outcome<Self> {
        let mut dice = Dice::new(options.seed);
        let streams = dice.between(1, 3) as usize;
        Ok(Self {
            clock: FakeClock::new(BEGIN_NS),
            medium: FakeDisk::new(),
            trace: Trace::new(options.lines),
            fleet: Fleet::new(dice.fork(), streams, BEGIN_NS)?,
            keys: keys()?,
            home: Folder::new(ROOT),
            settings: settings(&mut dice),
            readers: Readers::new(dice.fork())?,
            skew_ns: 0,
            conns: 0,
            lies: options.lies,
            report: Report {
                seed: options.seed,
                ..Report::default()
            },
            dice,
        })
    }

    fn all_lives(mut self) -> Outcome<Report> {
        for _ in 0..self.dice.between(1, 4) {
            let fortune = self.fortune();
            self.life(fortune, false)?;
            if !self.report.wrong.is_empty() {
                return Ok(self.end());
            }
            self.fleet.again();
            self.pause();
        }
        let good = Fortune {
            at: None,
            faults: Vec::new(),
            room: u64::MAX,
            turns: 3,
            close: Close::Stop,
        };
        self.life(good, true)?;
        if self.report.wrong.is_empty() {
            let mut oracle = Oracle::new(&self.fleet);
            oracle.check(&self.medium, Path::new(ROOT), &self.keys.trust);
            self.report.wrong.append(&mut oracle.wrong);
        }
        Ok(self.end())
    }

    fn end(self) -> Report {
        let (trace, events) = self.trace.end();
        Report {
            trace,
            events,
            ..self.report
        }
    }

    /// Between two lives time passes; the devices measure on, or are off.
    fn pause(&mut self) {
        let seconds = match self.dice.below(12) {
            0 => 365 * 86_400,
            1 => self.dice.between(300, 7_200),
            _ => self.dice.between(0, 20),
        };
        self.clock.advance(seconds * SECOND_NS.unsigned_abs());
        if seconds > 60 {
            self.fleet.silence(self.true_ns());
        }
    }

    fn true_ns(&self) -> i64 {
        self.clock.wall_ns().saturating_sub(self.skew_ns)
    }

    fn fortune(&mut self) -> Fortune {
        let dice = &mut self.dice;
        let death = match dice.below(4) {
            0 => Death::Kill,
            1 => Death::Power,
            _ => Death::Torn(dice.next()),
        };
        let at = match dice.below(4) {
            0 => None,
            1 => Some(dice.between(1, 80)),
            _ => Some(dice.between(1, 900)),
        };
        let mut faults = Vec::new();
        if self.lies {
            let lie = |op| Fault {
                for_ever: true,
                ..Fault::next(op, How::Lie)
            };
            faults = vec![lie(Op::Sync), lie(Op::SyncDir)];
        } else if dice.one_in(4) {
            faults.push(fault(dice));
        }
        Fortune {
            at: at.map(|n| (n, death)),
            faults,
            room: if dice.one_in(8) {
                dice.between(64, 1500) << 10
            } else {
                u64::MAX
            },
            turns: dice.between(3, 40),
            close: if dice.one_in(4) {
                Close::Stop
            } else {
                Close::Death(death)
            },
        }
    }

    /// One life, and what it left.
    fn life(&mut self, fortune: Fortune, last: bool) -> Outcome<()> {
        self.report.lives += 1;
        self.medium.set_capacity(fortune.room);
        let baton = Baton::new(self.clock.clone(), self.dice.fork(), self.trace.clone());
        let disk = LifeDisk::new(
            &self.medium,
            Arc::clone(&baton),
            self.trace.clone(),
            fortune.at,
        );
        let faulty = FaultyDisk::new(Arc::new(disk));
        fortune.faults.iter().for_each(|f| faulty.arm(f.clone()));
        let seams = Seams {
            disk: Arc::new(faulty.clone()),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(FakeEntropy::new(self.dice.next())),
            threads: baton.threads(),
            fanout: Arc::new(NoFanout),
        };
        self.trace.say(|| format!("life {}", self.report.lives));
        let built = baton.attempt(|| {
            let (metrics, ready) = (prometheus::Registry::new(), Readiness::default());
            assemble::build(
                &self.home,
                self.keys.clone(),
                &self.settings,
                &seams,
                &metrics,
                &ready,
            )
        });
        // A disk that was made to fail, or is too small, excuses a house that gives up; nothing else does.
        let excused = |faulty: &FaultyDisk| faulty.struck() > 0 || fortune.room < u64::MAX;
        let orderly = match built {
            Some(Ok(house)) => {
                let (reply, notices) = mpsc::channel(limits::CONNECTION_QUEUE);
                self.conns += 10;
                let mut life = Life {
                    house,
                    baton: Arc::clone(&baton),
                    disk: faulty.clone(),
                    reply,
                    notices,
                    conn: self.conns,
                };
                let driven = self.drive(&mut life, &fortune, last);
                self.hear(&mut life);
                match driven {
                    Err(failure) if !baton.is_dead() && !excused(&faulty) => {
                        self.report
                            .wrong
                            .push(format!("the house gave up: {failure}"));
                        false
                    }
                    Err(_) => false,
                    Ok(()) => self.close(life, &fortune, &|| excused(&faulty)),
                }
            }
            Some(Err(failure)) => {
                if !excused(&faulty) {
                    self.report
                        .wrong
                        .push(format!("it does not start: {failure}"));
                }
                false
            }
            None => false,
        };
        let died = baton.is_dead();
        self.report.wrong.append(&mut baton.bury());
        self.report.faults += faulty.struck();
        self.medium.set_capacity(u64::MAX);
        if !orderly {
            self.report.deaths += 1;
            if !died {
                let death = match fortune.close {
                    Close::Death(death) => death,
                    Close::Stop => Death::Kill,
                };
                self.trace.say(|| format!("{death:?}"));
                death.befall(&self.medium);
            }
        }
        if last && !orderly {
            self.report
                .wrong
                .push("the last life was not stopped in order".to_owned());
        }
        let mut oracle = Oracle::new(&self.fleet);
        oracle.look(&self.medium, Path::new(ROOT), last);
        self.report.counts = oracle.counts;
        self.report.wrong.append(&mut oracle.wrong);
        Ok(())
    }

    /// Whether it was stopped in order.
    fn close(&mut self, life: Life, fortune: &Fortune, excused: &dyn Fn() -> bool) -> bool {
        if fortune.close != Close::Stop {
            return false;
        }
        let Life { house, baton, .. } = life;
        match baton.attempt(|| house.stop()) {
            Some(Ok(())) => true,
            Some(Err(failure)) if !excused() => {
                self.report
                    .wrong
                    .push(format!("the orderly stop: {failure}"));
                false
            }
            _ => false,
        }
    }

    /// Lets time pass and everybody do what they do.
    fn drive(&mut self, life: &mut Life, fortune: &Fortune, last: bool) -> Outcome<()> {
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
            self.readers.introduce(registry, &self.fleet)
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
    fn hear(&mut self, life: &mut Life) {
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

    /// A clinician reads a window, and the answer is compared with what is stored.
    fn read(&mut self, life: &mut Life) -> Outcome<()> {
        let (medium, trace) = (&self.medium, &self.trace);
        let looked = self
            .readers
            .read(life, medium, &self.keys, self.clock.wall_ns(), trace);
        match looked {
            Ok(count) => self.report.windows += count,
            Err(_) if life.baton.is_dead() => return Err(died()),
            // With a disk that failed, reading may have ended; acknowledging has its own rule.
            Err(_) if life.disk.struck() > 0 => {}
            Err(failure) => self.report.wrong.push(format!("a window: {failure}")),
        }
        self.hear(life);
        Ok(())
    }
}

/// A disk that fails once, somewhere.
fn fault(dice: &mut Dice) -> Fault {
    let op = dice.pick(&[
        Op::Sync,
        Op::Sync,
        Op::Write,
        Op::SyncDir,
        Op::Rename,
        Op::Create,
        Op::Remove,
    ]);
    let eio = std::io::ErrorKind::Other;
    let how = match dice.below(4) {
        0 => How::FailAfter(eio),
        1 => How::Short(usize::try_from(dice.below(600)).unwrap_or(0)),
        _ => How::Fail(eio),
    };
    let path_has = dice.pick(&[
        "", "", "wal", "links", "chunks", "ledger", "trail", "registry",
    ]);
    Fault {
        path_has: path_has.unwrap_or_default().to_owned(),
        after: dice.below(60),
        ..Fault::next(op.unwrap_or(Op::Sync), how)
    }
}

pub(crate) fn died() -> Failure {
    Failure::io("the machine died")
}

/// Bytes for a name or a nonce.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}
