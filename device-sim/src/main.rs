//! `device-sim`: simulated ECG devices on the command line.

mod cli;

use std::{process::ExitCode, sync::Arc, time::Duration};

use chordae_base::{
    Failure, Outcome,
    seams::real::{OsClock, OsEntropy},
};
use chordae_device_sim::{Fleet, FleetHandle, Report, Stats};
use clap::Parser;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

fn main() -> ExitCode {
    let args = cli::Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("DEVICE_SIM_LOG"))
        .with_writer(std::io::stderr)
        .init();
    match args
        .config()
        .and_then(|config| config.check().map(|()| config))
    {
        Err(usage) => {
            eprintln!("device-sim: {usage}");
            ExitCode::from(2)
        }
        Ok(config) => match run(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("device-sim: {failure}");
                ExitCode::FAILURE
            }
        },
    }
}

/// A device takes up to three descriptors, and the usual soft limit is 1,024: as many as we may have.
fn take_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused, the usual limit holds, and a connection too many says so itself.
    setrlimit(Resource::Nofile, limit).ok();
}

fn run(config: chordae_device_sim::Config) -> Outcome<()> {
    take_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("starting the runtime", &e))?;
    let report = runtime.block_on(async {
        let mut fleet = Fleet::start(config, Arc::new(OsClock), &OsEntropy)?;
        watch(&mut fleet).await;
        fleet.stop().await
    })?;
    println!("{}", summary(&report.stats, report.owed()));
    for (what, counts) in [
        ("refused", report.refused()),
        ("told on the ack topic", report.told()),
    ] {
        for (reason, n) in counts {
            println!("{what}: {} with reason {reason}", HumanCount(n));
        }
    }
    let obeyed: u64 = report.devices.iter().map(|d| d.obeyed).sum();
    if obeyed > 0 {
        println!("obeyed: {} commands", HumanCount(obeyed));
    }
    verdict(&report)
}

/// Shows progress (on a terminal only) until the fleet is finished or the user has had enough.
async fn watch(fleet: &mut FleetHandle) {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    // One wish to end, kept while the bar is drawn: asked for anew each time, a signal in between would be lost.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            () = fleet.finished() => break,
            _ = &mut interrupted => break,
            () = tokio::time::sleep(Duration::from_millis(250)) => {
                let stats = fleet.snapshot();
                let owed = stats.made.saturating_sub(stats.acked + stats.refused);
                let all = stats.connected + stats.finished >= stats.devices;
                let trouble = fleet.trouble().filter(|_| !all);
                bar.set_message(format!(
                    "{}/{} connected, {}{}",
                    stats.connected,
                    stats.devices,
                    summary(&stats, owed),
                    trouble.map(|why| format!("; {why}")).unwrap_or_default()
                ));
                bar.tick();
            }
        }
    }
    bar.finish_and_clear();
}

fn summary(stats: &Stats, owed: u64) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    format!(
        "{} frames made, {} acknowledged ({} samples per lead), {} refused, {} lost, {} owed; \
         {} connections; acknowledged within {:.1} ms (median), {:.1} ms (99 %), {:.1} ms (all)",
        HumanCount(stats.made),
        HumanCount(stats.acked),
        HumanCount(stats.samples),
        HumanCount(stats.refused),
        HumanCount(stats.lost),
        HumanCount(owed),
        HumanCount(stats.connections),
        ms(stats.ack_p50_ns),
        ms(stats.ack_p99_ns),
        ms(stats.ack_max_ns)
    )
}

/// Everything that was made must have been acknowledged.
fn verdict(report: &Report) -> Outcome<()> {
    if let Some(failure) = report.failure() {
        return Err(failure.clone());
    }
    let (owed, refused, lost) = (report.owed(), report.stats.refused, report.stats.lost);
    if owed + refused + lost == 0 {
        return Ok(());
    }
    let why = report.trouble().unwrap_or("stopped before they were");
    Err(Failure::busy(format!(
        "not everything was acknowledged ({owed} owed, {refused} refused, {lost} lost): {why}"
    )))
}
