//! The ledger with its local sequencer: durable signed events a second and how long one takes, beside bare
//! fdatasync of the same bytes; and what an append, a look-up and a start cost as the log grows (`grow`).
//!
//! Everything goes the way of the product: each event is signed, each signature is verified, each entry is looked
//! up before it may enter, and an answer means that a signed checkpoint over it is on the disk. Signing is the
//! notary's work and lies outside the measured time. The yardstick appends the same bytes to one file with as many
//! syncs as the log had blocks: no hashes, no tiles, no signatures, no index.

mod grow;
mod log;

use std::{fmt::Write as _, path::Path, thread, time::Duration};

use chordae_base::{
    Failure, Outcome,
    seams::{Clock, Disk, real::OsDisk},
};
use hdrhistogram::Histogram;

use super::{ingest::Place, timed};
use crate::{
    peers::{
        ingest::write,
        plot::{self, Course},
    },
    table::{Rounds, Table, fine, grouped, part, short},
};
use log::{Log, Source};

/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 3;
/// Entries that the log grows to, unless told otherwise.
pub const ENTRIES: usize = 200_000;
/// Signed events of a measured second of the rate.
const EVENTS: u64 = 15_000;
/// Events a second whose latency is looked at.
const PACE: u64 = 400;
/// Durable signed events a second.
const RATE_GOAL: f64 = 10_000.0;
/// Milliseconds from submitting to the checkpoint, median at [`PACE`].
const LATENCY_GOAL: f64 = 5.0;
/// Seconds of a start.
const START_GOAL: f64 = 2.0;

/// Measures, writes `ledger.md` and `ledger.svg` into `results`, and reports. `about` says what machine this is.
///
/// # Errors
/// The first round that failed; `Damaged` when the log does not hold what was answered.
pub fn run(
    place: &Place<'_>,
    rounds: usize,
    seconds: u64,
    entries: usize,
    results: &Path,
    about: &str,
) -> Outcome<String> {
    let mut text = String::new();
    let mut say = |piece: String| {
        // Writing to a text does not fail.
        writeln!(text, "{piece}").ok();
    };
    say(rate(place, rounds, seconds)?);
    say(latency(place, rounds, seconds)?);
    let grown = grow::run(place, entries as u64)?;
    say(grown.report());
    let svg = plot::courses(
        "cost against the length of the log",
        "entries",
        &[
            ("an append among many, us", grown.line(|p| p.append_us)),
            ("an append alone, ms (p50)", grown.line(|p| p.alone_ms.0)),
            (
                "a look-up that finds, us (p50)",
                grown.line(|p| p.found_us.0),
            ),
            ("the same again, us (p50)", grown.line(|p| p.again_us.0)),
            (
                "a look-up that does not, us (p50)",
                grown.line(|p| p.absent_us.0),
            ),
        ]
        .map(|(name, points)| Course { name, points }),
    );
    let md = format!(
        "# The ledger\n\n{rounds} interleaved rounds of {seconds} s each, medians; then one log that grows. Every event is signed, \
         verified and answered after a signed checkpoint over it is on the disk.\n\n```\n{about}\n{text}```\n\n![plot](ledger.svg)\n"
    );
    write(results, "ledger.md", &md)?;
    write(results, "ledger.svg", &svg)?;
    Ok(text)
}

fn goal(what: &str, is: String, reached: bool) -> String {
    let word = if reached { "reached" } else { "NOT REACHED" };
    format!("goal: {what}, is {is}: {word}\n")
}

/// A folder of its own below the place.
fn folder(place: &Place<'_>) -> Outcome<tempfile::TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("ledger-")
        .tempdir_in(place.dir);
    dir.map_err(|e| Failure::os("make a folder", &e))
}

/// As many events as can be, from two threads.
fn rate(place: &Place<'_>, rounds: usize, seconds: u64) -> Outcome<String> {
    let events = EVENTS * seconds;
    let (mut ours, mut bare, mut blocks) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..rounds {
        let source = Source::new(round as u64)?;
        let signed = source.signed(0..events)?;
        let bytes: usize = signed.iter().map(|entry| entry.len() + 2).sum();
        let dir = folder(place)?;
        let log = Log::open(dir.path(), &source)?;
        let (took, ()) = timed(place.clock, || log.feed(&signed))?;
        let count = log.ledger.size() - events;
        log.stop();
        ours.0.push(events as f64 / took * 1e9);
        blocks.0.push(events as f64 / count as f64);
        // What was answered is there, whoever opens it.
        let log = Log::open(dir.path(), &source)?;
        log.holds(&signed, events + count)?;
        log.stop();
        let (took, ()) = timed(place.clock, || {
            append(&dir.path().join("bare"), bytes, count)
        })?;
        bare.0.push(events as f64 / took * 1e9);
    }
    let mut table = Table::new(&["", "events/s", "(min-max)", "events/block", "x bare"]);
    for (name, rate) in [
        ("bare: the same bytes, an fdatasync a block", &bare),
        ("chordae ledger", &ours),
    ] {
        table.row([
            name.to_owned(),
            grouped(rate.median()),
            rate.spread(grouped),
            short(blocks.median()),
            part(rate.over(&bare).median()),
        ]);
    }
    let is = ours.median();
    Ok(format!(
        "ledger: {} signed events, two submitters with 1,024 open each; {rounds} interleaved rounds, medians\n{table}{}",
        grouped(events as f64),
        goal(
            &format!("at least {} durable signed events/s", grouped(RATE_GOAL)),
            grouped(is),
            is >= RATE_GOAL
        )
    ))
}

/// So many bytes in so many appends, each with fdatasync.
fn append(path: &Path, bytes: usize, times: u64) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os(path.display(), &e);
    let mut file = OsDisk.create_new(path).map_err(os)?;
    let piece = vec![7; bytes / usize::try_from(times).unwrap_or(1).max(1)];
    for n in 0..times {
        file.write_all_at(&piece, n * piece.len() as u64)
            .map_err(os)?;
        file.sync().map_err(os)?;
    }
    Ok(())
}

fn histogram() -> Outcome<Histogram<u64>> {
    // Up to an hour in ns. Without a bound it would hold what fits its first 2,048 and call the rest that.
    Histogram::new_with_max(3_600_000_000_000, 3).map_err(|e| Failure::internal(e.to_string()))
}

/// At a steady pace, from when each was due.
fn latency(place: &Place<'_>, rounds: usize, seconds: u64) -> Outcome<String> {
    let events = PACE * seconds;
    let (mut ours, mut bare) = (histogram()?, histogram()?);
    for round in 0..rounds {
        let source = Source::new(100 + round as u64)?;
        let signed = source.signed(0..events)?;
        let dir = folder(place)?;
        let log = Log::open(dir.path(), &source)?;
        for took in log.paced(&signed, PACE, place.clock)? {
            ours.saturating_record(took);
        }
        log.holds(&signed, log.ledger.size())?;
        log.stop();
        let path = dir.path().join("bare");
        let os = |e: std::io::Error| Failure::os(path.display(), &e);
        let mut file = OsDisk.create_new(&path).map_err(os)?;
        let (begun, mut at) = (place.clock.mono_ns(), 0);
        for (n, entry) in (0u64..).zip(&signed) {
            let due = until(place.clock, begun, n, PACE);
            file.write_all_at(entry, at).map_err(os)?;
            file.sync().map_err(os)?;
            at += entry.len() as u64;
            bare.saturating_record(place.clock.mono_ns().saturating_sub(due));
        }
    }
    let mut table = Table::new(&["", "p50 ms", "p99 ms", "longest ms"]);
    let ms = |of: &Histogram<u64>, part| of.value_at_quantile(part) as f64 / 1e6;
    for (name, of) in [
        ("bare: each event with an fdatasync", &bare),
        ("chordae ledger", &ours),
    ] {
        table.row([
            name.to_owned(),
            fine(ms(of, 0.5)),
            fine(ms(of, 0.99)),
            fine(of.max() as f64 / 1e6),
        ]);
    }
    let is = ms(&ours, 0.5);
    Ok(format!(
        "from submitting to the durable checkpoint, {PACE} events/s, {} events in {rounds} rounds\n{table}{}",
        grouped(ours.len() as f64),
        goal(
            &format!("p50 at most {LATENCY_GOAL:.0} ms at {PACE} events/s"),
            format!("{} ms", fine(is)),
            is <= LATENCY_GOAL
        )
    ))
}

/// Waits until the n-th is due at so many a second; when that was.
fn until(clock: &dyn Clock, begun: u64, n: u64, pace: u64) -> u64 {
    let due = begun + n * 1_000_000_000 / pace;
    let left = due.saturating_sub(clock.mono_ns());
    thread::sleep(Duration::from_nanos(left));
    due
}
