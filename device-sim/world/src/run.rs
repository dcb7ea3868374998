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
        Clock, Disk, Entropy,
        fake::{FakeClock, FakeDisk, FakeEntropy},
        faulty::FaultyDisk,
    },
    time::SECOND_NS,
};
use chordae_chain::{
    checkpoint::TrustedLog,
    keys::{Role, SecretKeys},
    link::{Link, object_name},
    trust::{TrustFile, policy_text},
};
use chordae_checker::Verdict;
use chordae_ingest::fanout::NoFanout;
use tokio::sync::mpsc;

use crate::{
    baton::Baton,
    dice::Dice,
    disk::{Death, LifeDisk},
    drive::{Life, Trouble},
    fleet::Fleet,
    fortune::{Close, Fortune},
    oracle::{Counts, Oracle, Wrong},
    stored::Stored,
    trace::Trace,
    wards::Wards,
    window::Readers,
};

/// Where the folder lies on the fake disk.
pub(crate) const ROOT: &str = "/data";
/// When the world begins: 2026-01-01T00:00:00Z.
const BEGIN_NS: i64 = 1_767_225_600 * SECOND_NS;

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Say everything that happens.
    pub lines: bool,
    /// The negative control: in every life but the last the disk says that it synced, and did not.
    pub lies: bool,
    /// Another: streams go to other patients three seconds later than those say who assigned them.
    pub late: bool,
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
    /// How often a stream went to another patient.
    pub assigned: u64,
    /// Counts of the last look.
    pub counts: Counts,
    /// What must not be; empty is good.
    pub wrong: Wrong,
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
    pub(crate) readers: Readers,
    pub(crate) wards: Wards,
    /// Wall clock of the server minus true time.
    pub(crate) skew_ns: i64,
    conns: u64,
    lies: bool,
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
        retired: Vec::new(),
        ca: None,
    };
    Ok(Keyring {
        provider,
        sequencer,
        log,
        trust,
    })
}

fn settings(seed: u64, dice: &mut Dice) -> Settings {
    let mut settings = Settings::default();
    // In half of the worlds heads are anchored together from the second on; no dice, so that the rest is as it was.
    if seed % 2 == 1 {
        settings.ledger.heads_alone = 0;
    }
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
            settings: settings(options.seed, &mut dice),
            readers: Readers::new(dice.fork())?,
            wards: Wards::new(options.seed, streams, options.late),
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
            let fortune = Fortune::chosen(&mut self.dice, self.lies);
            self.life(&fortune, false);
            if !self.report.wrong.is_empty() {
                return Ok(self.end());
            }
            self.fleet.again();
            self.pause();
        }
        self.life(&Fortune::good(), true);
        if self.report.wrong.is_empty() {
            let mut oracle = Oracle::new(&self.fleet, &self.wards);
            oracle.check(&self.medium, Path::new(ROOT), &self.keys.trust);
            self.report.wrong.append(&mut oracle.wrong);
            self.rot()?;
        }
        Ok(self.end())
    }

    /// One bit of one chunk flips at rest: the checker names it, and the house serves everything but it.
    fn rot(&mut self) -> Outcome<()> {
        let root = Path::new(ROOT);
        let links: Vec<Link> = Stored::read(&self.medium, root)?
            .chunks
            .into_iter()
            .map(|chunk| chunk.link)
            .collect();
        let at = usize::try_from(self.dice.below(links.len() as u64)).unwrap_or(0);
        let Some(link) = links.get(at) else {
            return Ok(());
        };
        let path = root.join(object_name(&link.did, link.index));
        let bytes = self.medium.peek(&path).unwrap_or_default();
        let at = self.dice.below(bytes.len() as u64);
        let byte = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at))
            .copied();
        let flipped = byte.unwrap_or(0) ^ (1 << self.dice.below(8));
        let os = |e: std::io::Error| Failure::os("flip a bit", &e);
        let mut file = self.medium.open(&path).map_err(os)?;
        file.write_all_at(&[flipped], at)
            .and_then(|()| file.sync())
            .map_err(os)?;
        let trust = &self.keys.trust;
        let report = chordae_checker::check_folder(&self.medium, root, Some(trust), &mut |_| ())?;
        if report.verdict != Verdict::Damaged {
            self.wrong(format!(
                "bit flipped at {at} of {}: {:?}",
                path.display(),
                report.verdict
            ));
        }
        let fortune = Fortune::good();
        let baton = Baton::new(self.clock.clone(), self.dice.fork(), self.trace.clone());
        let disk = LifeDisk::new(
            &self.medium,
            Arc::clone(&baton),
            self.trace.clone(),
            &fortune,
        );
        let trouble = Trouble {
            faulty: FaultyDisk::new(Arc::new(disk.clone())),
            disk,
            cramped: false,
        };
        match self.build(&baton, &trouble) {
            Some(Ok(house)) => {
                let named = house.catalogue.damaged();
                let named = named
                    .iter()
                    .any(|(did, index, _)| (*did, *index) == (link.did, link.index));
                if !named || house.catalogue.chunk_bytes(&link.did, link.index).is_ok() {
                    self.wrong(format!("{} has rotted and is served", path.display()));
                }
            }
            Some(Err(failure)) => drop(self.wrong(format!("over a rotten chunk: {failure}"))),
            None => drop(self.wrong("it died over a rotten chunk".to_owned())),
        }
        self.report.wrong.append(&mut baton.bury());
        Ok(())
    }

    fn end(self) -> Report {
        let (trace, events) = self.trace.end();
        Report {
            trace,
            events,
            assigned: self.wards.changes,
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

    pub(crate) fn true_ns(&self) -> i64 {
        self.clock.wall_ns().saturating_sub(self.skew_ns)
    }

    /// One life, and what it left.
    fn life(&mut self, fortune: &Fortune, last: bool) {
        self.report.lives += 1;
        self.trace.say(|| format!("life {}", self.report.lives));
        self.medium.set_capacity(fortune.room);
        let baton = Baton::new(self.clock.clone(), self.dice.fork(), self.trace.clone());
        let disk = LifeDisk::new(
            &self.medium,
            Arc::clone(&baton),
            self.trace.clone(),
            fortune,
        );
        let trouble = Trouble {
            faulty: FaultyDisk::new(Arc::new(disk.clone())),
            disk,
            cramped: fortune.room < u64::MAX,
        };
        fortune
            .faults
            .iter()
            .for_each(|f| trouble.faulty.arm(f.clone()));
        let orderly = match self.build(&baton, &trouble) {
            Some(Ok(house)) => self.live(house, &baton, &trouble, fortune, last),
            Some(Err(failure)) if !trouble.excuses() => {
                self.wrong(format!("it does not start: {failure}"))
            }
            _ => false,
        };
        let died = baton.is_dead();
        self.report.wrong.append(&mut baton.bury());
        self.report.faults += trouble.faults();
        self.medium.set_capacity(u64::MAX);
        if !orderly {
            self.report.deaths += 1;
        }
        if !orderly && !died {
            let death = match fortune.close {
                Close::Death(death) => death,
                Close::Stop => Death::Kill,
            };
            self.trace.say(|| format!("{death:?}"));
            death.befall(&self.medium);
        }
        if last && !orderly {
            self.wrong("the last life was not stopped in order".to_owned());
        }
        let mut oracle = Oracle::new(&self.fleet, &self.wards);
        oracle.look(&self.medium, Path::new(ROOT), last);
        self.report.counts = oracle.counts;
        self.report.wrong.append(&mut oracle.wrong);
    }

    fn wrong(&mut self, line: String) -> bool {
        self.report.wrong.push(line);
        false
    }

    /// The house, over what is on the disk; `None` when it died meanwhile.
    fn build(&mut self, baton: &Baton, trouble: &Trouble) -> Option<Outcome<House>> {
        let seams = Seams {
            disk: Arc::new(trouble.faulty.clone()),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(FakeEntropy::new(self.dice.next())),
            threads: baton.threads(),
            fanout: Arc::new(NoFanout),
        };
        let (keys, settings) = (self.keys.clone(), &self.settings);
        baton.attempt(|| {
            let (metrics, ready) = (prometheus::Registry::new(), Readiness::default());
            assemble::build(&self.home, keys, settings, &seams, &metrics, &ready)
        })
    }

    /// Whether it was stopped in order.
    fn live(
        &mut self,
        house: House,
        baton: &Arc<Baton>,
        trouble: &Trouble,
        fortune: &Fortune,
        last: bool,
    ) -> bool {
        let (reply, notices) = mpsc::channel(limits::CONNECTION_QUEUE);
        self.conns += 10;
        let mut life = Life {
            house,
            baton: Arc::clone(baton),
            trouble: trouble.clone(),
            reply,
            notices,
            conn: self.conns,
        };
        let driven = self.drive(&mut life, fortune, last);
        self.hear(&mut life);
        let excused = baton.is_dead() || trouble.excuses();
        match driven {
            Err(failure) if !excused => return self.wrong(format!("the house gave up: {failure}")),
            Err(_) => return false,
            Ok(()) if fortune.close != Close::Stop => return false,
            Ok(()) => {}
        }
        let Life { house, baton, .. } = life;
        match baton.attempt(|| house.stop()) {
            Some(Ok(())) => true,
            Some(Err(failure)) if !trouble.excuses() => {
                self.wrong(format!("the orderly stop: {failure}"))
            }
            _ => false,
        }
    }
}

/// Bytes for a name or a nonce.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}
