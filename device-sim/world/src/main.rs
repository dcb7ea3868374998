//! `chordae-world`: many seeds, or one that is looked at.
//!
//! Seeds are dealt to a worker per core; each seed is a world of its own, so that the order in which they
//! are run changes nothing. The last line is for the scorecard.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use chordae_world::{Counts, Options, Report, run};
use clap::Parser;
use serde_json::json;

/// Seeds with a violation that are told in full.
const TOLD_MAX: usize = 10;

/// Runs the house under many seeds: a disk that loses, tears and fails, death at any change of it, devices
/// that misbehave; and looks whether anything acknowledged is lost, or anything else is not as promised.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example: chordae-world --seeds 20000\n         chordae-world --seed 4711 --trace"
)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// One seed, with what was found.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Tells everything that happens, on stderr; with --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// The negative control: a disk that says that it synced, and did not. Must be caught.
    #[arg(long)]
    lies: bool,
    /// Another: streams go to their next patients three seconds late. Must be caught.
    #[arg(long)]
    late: bool,
    /// Workers; as many as there are cores if absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// The last line is `SCORE {...}`.
    #[arg(long)]
    json: bool,
}

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    lives: u64,
    deaths: u64,
    faults: u64,
    windows: u64,
    assigned: u64,
    events: u64,
    counts: Counts,
    wrong: u64,
    told: Vec<Report>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.lives += report.lives;
        self.deaths += report.deaths;
        self.faults += report.faults;
        self.windows += report.windows;
        self.assigned += report.assigned;
        self.events += report.events;
        self.counts.add(&report.counts);
        if !report.wrong.is_empty() {
            self.wrong += 1;
            if self.told.len() < TOLD_MAX {
                self.told.push(report);
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn main() -> ExitCode {
    let args = Args::parse();
    // Panics are findings of their seed; the machine's own lines about them would only be noise.
    if !args.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let (from, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    println!(
        "seeds {from} to {}",
        from.saturating_add(seeds).saturating_sub(1)
    );
    let sum = all(&args, from, seeds);
    for report in &sum.told {
        println!(
            "seed {}: {} things wrong; again with --seed {0} --trace",
            report.seed,
            report.wrong.len()
        );
        report
            .wrong
            .iter()
            .take(TOLD_MAX)
            .for_each(|line| println!("  {line}"));
    }
    // Of a control something must be wrong.
    let ok = (sum.wrong > 0) == control(&args);
    println!(
        "{} seeds, {} violations: {} lives, {} deaths, {} failed operations, {} windows, {} streams moved, {} events; {} acknowledged, {} lost",
        sum.seeds,
        sum.wrong,
        sum.lives,
        sum.deaths,
        sum.faults,
        sum.windows,
        sum.assigned,
        sum.events,
        sum.counts.acknowledged,
        sum.counts.lost,
    );
    if args.json {
        let Counts {
            acknowledged,
            stored,
            lost,
            duplicate,
            phantom,
        } = sum.counts;
        println!(
            "SCORE {}",
            json!({
                "row": "R04", "cycles": sum.seeds, "acknowledged": acknowledged, "stored": stored,
                "lost": lost, "duplicate": duplicate, "phantom": phantom, "violations": sum.wrong,
                "deaths": sum.deaths, "windows": sum.windows, "moved": sum.assigned, "control": control_name(&args),
                "seed": from, "ok": ok,
            })
        );
    }
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn control(args: &Args) -> bool {
    args.lies || args.late || cfg!(feature = "control-ack-before-append")
}

fn control_name(args: &Args) -> &'static str {
    match (args.lies, cfg!(feature = "control-ack-before-append")) {
        (true, _) => "sync-lies",
        _ if args.late => "late",
        (_, true) => "ack-before-append",
        _ => "none",
    }
}

fn all(args: &Args, from: u64, seeds: u64) -> Sum {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..args.jobs.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= seeds {
                        return;
                    }
                    let options = Options {
                        seed: from.saturating_add(n),
                        lines: args.trace,
                        lies: args.lies,
                        late: args.late,
                    };
                    let report = run(options);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(report);
                    progress(&sum, seeds);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// On a terminal only.
#[expect(clippy::print_stderr, reason = "progress")]
fn progress(sum: &Sum, seeds: u64) {
    if std::io::stderr().is_terminal() && sum.seeds.is_multiple_of(20) {
        eprint!(
            "\r{} of {seeds} seeds, {} violations ",
            sum.seeds, sum.wrong
        );
        std::io::stderr().flush().ok();
    }
}
