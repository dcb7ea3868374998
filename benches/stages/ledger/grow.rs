//! One log that grows: at twenty lengths, what an append and a look-up cost; at the end, a start with its index and
//! one without.

use std::{fs, ops::Range, path::Path, thread, time::Duration};

use chordae_base::{Failure, Outcome, seams::Clock};
use hdrhistogram::Histogram;

use super::{
    START_GOAL, folder, goal, histogram,
    log::{Log, Source},
    timed,
};
use crate::{
    stages::ingest::Place,
    table::{Rounds, Table, fine, grouped, short},
};

/// Lengths at which is measured.
const POINTS: u64 = 20;
/// Events of a burst, of appends one by one, and look-ups of each kind.
const BURST: u64 = 4000;
const ALONE: u64 = 50;
const LOOKUPS: u64 = 2000;
/// Starts.
const STARTS: usize = 3;
/// The writer of the index has this long to end what it began, so that it is not measured.
const SETTLE: Duration = Duration::from_secs(30);

/// What was measured at one length. Pairs are p50 and p99.
pub(super) struct Point {
    entries: u64,
    pub(super) append_us: f64,
    pub(super) alone_ms: (f64, f64),
    pub(super) found_us: (f64, f64),
    /// The same look-ups once more: whatever they read is in the page cache.
    pub(super) again_us: (f64, f64),
    pub(super) absent_us: (f64, f64),
    /// What a look-up of the first pass read, and how much of that came from the disk.
    read: Read,
    runs: usize,
    index_bytes: u64,
    memory: u64,
}

/// See the module.
pub(super) struct Grown {
    points: Vec<Point>,
    starts: Rounds,
    rebuilt_s: f64,
}

/// Lets a log grow to so many entries and measures on the way.
pub(super) fn run(place: &Place<'_>, entries: u64) -> Outcome<Grown> {
    let (dir, source) = (folder(place)?, Source::new(7)?);
    let log = Log::open(dir.path(), &source)?;
    let (mut points, mut events) = (Vec::new(), 0);
    for point in 1..=POINTS {
        let target = entries / POINTS * point;
        while log.ledger.size() + BURST + 2 * ALONE < target {
            let room = target - log.ledger.size() - BURST - 2 * ALONE;
            let range = events..events + room.min(100_000);
            events = range.end;
            log.sign_and_feed(&source, range)?;
        }
        points.push(measure(place, &log, &source, &mut events)?);
    }
    let size = log.ledger.size();
    log.stop();
    let mut starts = Rounds::default();
    for _ in 0..STARTS {
        starts
            .0
            .push(start(place, dir.path(), &source, size)? / 1e9);
    }
    let index = dir.path().join("data/ledger.index");
    fs::remove_dir_all(&index).map_err(|e| Failure::os(index.display(), &e))?;
    let rebuilt_s = start(place, dir.path(), &source, size)? / 1e9;
    Ok(Grown {
        points,
        starts,
        rebuilt_s,
    })
}

/// Nanoseconds of a start; what was there is there.
fn start(place: &Place<'_>, dir: &Path, source: &Source, size: u64) -> Outcome<f64> {
    let (took, log) = timed(place.clock, || Log::open(dir, source))?;
    log.holds(&source.signed(0..1)?, size)?;
    log.stop();
    Ok(took)
}

fn measure(place: &Place<'_>, log: &Log, source: &Source, events: &mut u64) -> Outcome<Point> {
    let mut next = |n: u64| -> Range<u64> {
        let range = *events..*events + n;
        *events = range.end;
        range
    };
    let burst = source.signed(next(BURST))?;
    let alone = source.signed(next(ALONE))?;
    let known = alone.len() as u64;
    settled(&log.dir, place.clock)?;
    let (took, ()) = timed(place.clock, || log.feed(&burst))?;
    let append_us = took / 1e3 / BURST as f64;
    let mut each = histogram()?;
    for entry in alone {
        let (took, _) = timed(place.clock, || log.ledger.submit(entry.clone()))?;
        each.saturating_record(took as u64);
    }
    // Spread evenly over all events, out of order.
    let all = *events - known;
    let chosen = || (0..LOOKUPS).map(|k| k.wrapping_mul(0x9e37_79b9_7f4a_7c15) % all);
    let look_up = || {
        let mut times = histogram()?;
        for n in chosen() {
            let (did, index) = source.link(n);
            let (took, anchor) = timed(place.clock, || log.ledger.tagged(&did, index))?;
            if anchor.map(|anchor| anchor.digest) != Some(Source::digest(n)) {
                return Err(Failure::damaged(format!(
                    "event {n} is not found by its link"
                )));
            }
            times.saturating_record(took as u64);
        }
        Ok(times)
    };
    let before = Read::now()?;
    let found = look_up()?;
    let read = before.until(&Read::now()?, LOOKUPS);
    let again = look_up()?;
    let mut absent = histogram()?;
    for (did, index) in chosen().map(|n| source.link(n)) {
        let (took, none) = timed(place.clock, || {
            log.ledger.tagged(&did, index + 1_000_000_000)
        })?;
        if none.is_some() {
            return Err(Failure::damaged("a link is found that is not there"));
        }
        absent.saturating_record(took as u64);
    }
    let pair = |of: &Histogram<u64>, unit: f64| {
        let at = |part| of.value_at_quantile(part) as f64 / unit;
        (at(0.5), at(0.99))
    };
    let (runs, index_bytes) = index(&log.dir)?;
    Ok(Point {
        entries: log.ledger.size(),
        append_us,
        alone_ms: pair(&each, 1e6),
        found_us: pair(&found, 1e3),
        again_us: pair(&again, 1e3),
        read,
        absent_us: pair(&absent, 1e3),
        runs,
        index_bytes,
        memory: memory()?,
    })
}

/// Waits until no run is being written.
fn settled(dir: &Path, clock: &dyn Clock) -> Outcome<()> {
    let (begun, index) = (clock.mono_ns(), dir.join("ledger.index"));
    let os = |e: std::io::Error| Failure::os(index.display(), &e);
    while Duration::from_nanos(clock.mono_ns().saturating_sub(begun)) < SETTLE {
        thread::sleep(Duration::from_millis(50));
        let mut names = fs::read_dir(&index).map_err(os)?.filter_map(Result::ok);
        if !names.any(|entry| entry.path().extension().is_some_and(|e| e == "tmp")) {
            return Ok(());
        }
    }
    Ok(())
}

/// Runs of the index, and their bytes.
fn index(dir: &Path) -> Outcome<(usize, u64)> {
    let index = dir.join("ledger.index");
    let os = |e: std::io::Error| Failure::os(index.display(), &e);
    let files = fs::read_dir(&index).map_err(os)?.filter_map(Result::ok);
    // One that a merge has just removed counts as empty.
    let bytes: Vec<u64> = files.map(|f| f.metadata().map_or(0, |m| m.len())).collect();
    Ok((bytes.len(), bytes.iter().sum()))
}

/// Bytes that this process has read.
#[derive(Clone, Copy)]
struct Read {
    /// By any call, from memory or from the disk.
    all: f64,
    /// From the disk: what was not in the page cache.
    disk: f64,
}

impl Read {
    /// Since the process began (proc(5), `io`).
    fn now() -> Outcome<Self> {
        let text = fs::read_to_string("/proc/self/io").map_err(|e| Failure::os("reads", &e))?;
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let bytes = line.and_then(|bytes| bytes.trim().parse().ok());
            bytes.ok_or_else(|| Failure::io("this system does not count reads"))
        };
        Ok(Self {
            all: of("rchar:")?,
            disk: of("read_bytes:")?,
        })
    }

    /// Of each of so many steps since then.
    fn until(&self, now: &Self, steps: u64) -> Self {
        Self {
            all: (now.all - self.all) / steps as f64,
            disk: (now.disk - self.disk) / steps as f64,
        }
    }
}

/// Memory of this process, bytes.
fn memory() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/status").map_err(|e| Failure::os("memory", &e))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kb.unwrap_or(0) * 1024)
}

impl Grown {
    /// Something of each point, against the length.
    pub(super) fn line(&self, of: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
        self.points
            .iter()
            .map(|p| (p.entries as f64, of(p)))
            .collect()
    }

    /// The last against the first, by a median of three.
    fn growth(&self, of: impl Fn(&Point) -> f64) -> f64 {
        let three = |points: &mut dyn Iterator<Item = &Point>| {
            Rounds(points.take(3).map(&of).collect()).median()
        };
        three(&mut self.points.iter().rev()) / three(&mut self.points.iter())
    }

    pub(super) fn report(&self) -> String {
        let mut table = Table::new(&[
            "entries",
            "append us",
            "alone p50 ms",
            "p99",
            "found p50 us",
            "p99",
            "read kB",
            "disk kB",
            "again p50 us",
            "p99",
            "absent p50 us",
            "p99",
            "runs",
            "index MB",
            "memory MB",
        ]);
        for p in &self.points {
            table.row([
                grouped(p.entries as f64),
                short(p.append_us),
                fine(p.alone_ms.0),
                fine(p.alone_ms.1),
                short(p.found_us.0),
                short(p.found_us.1),
                short(p.read.all / 1e3),
                short(p.read.disk / 1e3),
                short(p.again_us.0),
                short(p.again_us.1),
                short(p.absent_us.0),
                short(p.absent_us.1),
                p.runs.to_string(),
                short(p.index_bytes as f64 / 1e6),
                grouped(p.memory as f64 / 1e6),
            ]);
        }
        let size = self.points.last().map_or(0, |p| p.entries);
        let is = self.starts.median();
        format!(
            "one log that grows, add-data events of 1,000 streams; append: one of {BURST} from two submitters, signature verified, \
             durable;\nalone: one, waited for; found, absent: by (did, index), the entry read and checked against the root;\n\
             read: of one that is found, and how much of that from the disk; again: the same ones, all of it in memory\n{table}\
             last three against first three: append {} x, alone {} x, found {} x, again {} x, absent {} x\n\
             start with {} entries: {} s ({}); with its index removed, every entry read again: {} s (files in the page cache)\n{}",
            fine(self.growth(|p| p.append_us)),
            fine(self.growth(|p| p.alone_ms.0)),
            fine(self.growth(|p| p.found_us.0)),
            fine(self.growth(|p| p.again_us.0)),
            fine(self.growth(|p| p.absent_us.0)),
            grouped(size as f64),
            fine(is),
            self.starts.spread(fine),
            short(self.rebuilt_s),
            goal(
                &format!("start of the ledger under {START_GOAL:.0} s"),
                format!("{} s", fine(is)),
                is < START_GOAL
            )
        )
    }
}
