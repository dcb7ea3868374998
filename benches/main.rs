//! `cargo run --release -p chordae-benches -- [ingest|seal|window|all|verify|paper|peers|serve|idle|ward|flood|ledger]`: measures and prints.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chordae_base::{
    Failure, FailureKind, Outcome,
    seams::real::{OsClock, OsDisk},
};
use chordae_benches::{
    machine,
    material::Material,
    paper, peers, server,
    setting::{Setting, Stage, USAGE},
    stages::{
        flood, idle,
        ingest::{self, Place},
        ledger, seal, verify, ward, window,
    },
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == server::CHILD => server::serve(rest),
        Some((first, _)) if matches!(first.as_str(), "--help" | "-h" | "help") => say(USAGE),
        _ => Setting::parse(args.into_iter()).and_then(|setting| measure(&setting)),
    };
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    eprintln!("chordae-benches: {failure}");
    if failure.kind == FailureKind::BadInput {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    ExitCode::from(1)
}

fn say(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout();
    let said = writeln!(out, "{text}").and_then(|()| out.flush());
    said.map_err(|e| Failure::os("print", &e))
}

fn measure(setting: &Setting) -> Outcome<()> {
    let program = env::current_exe().map_err(|e| Failure::os("find this program", &e))?;
    let beside = program.parent().map(Path::to_path_buf);
    let dir: PathBuf = setting.dir.clone().or(beside).unwrap_or_default();
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&dir);
    let dir = dir.map_err(|e| Failure::os("make a folder", &e))?;
    let clock = OsClock;
    let place = Place {
        program: &program,
        dir: dir.path(),
        clock: &clock,
    };
    let about = machine::facts(place.dir, &OsDisk, &clock)?;
    say(&about)?;
    let mut material = None;
    let (rounds, seconds) = (
        |n| setting.rounds.unwrap_or(n),
        |s| setting.seconds.unwrap_or(s),
    );
    for stage in &setting.stages {
        let report = match stage {
            Stage::Ingest => Some(ingest::run(&place, rounds(ingest::ROUNDS), seconds(3))?),
            Stage::Peers => {
                let (rounds, seconds) = (rounds(peers::ingest::ROUNDS), seconds(3));
                let results = &setting.results;
                Some(peers::ingest::run(
                    &place, rounds, seconds, results, &about,
                )?)
            }
            Stage::Serve => {
                let (rounds, seconds) = (rounds(peers::serve::ROUNDS), seconds(3));
                let results = &setting.results;
                Some(peers::serve::run(&place, rounds, seconds, results, &about)?)
            }
            Stage::Idle => Some(idle::run(&place, setting.devices.unwrap_or(idle::DEVICES))?),
            Stage::Ward => {
                let devices = setting.devices.unwrap_or(ward::DEVICES);
                Some(ward::run(&place, devices, seconds(60))?)
            }
            Stage::Flood => Some(flood::run(&place, rounds(flood::ROUNDS), seconds(3))?),
            Stage::Ledger => {
                let (rounds, seconds) = (rounds(ledger::ROUNDS), seconds(3));
                let entries = setting.entries.unwrap_or(ledger::ENTRIES);
                let results = &setting.results;
                Some(ledger::run(
                    &place, rounds, seconds, entries, results, &about,
                )?)
            }
            Stage::Paper => {
                let most = setting.chunks.unwrap_or(paper::LONGEST);
                Some(paper::run(&place, most, &setting.results, &about)?)
            }
            Stage::Seal | Stage::Window | Stage::Verify => None,
        };
        if let Some(report) = report {
            say(&report)?;
            continue;
        }
        let material = match &material {
            Some(material) => material,
            None => material.insert(Material::load(setting.record.as_deref())?),
        };
        say(&match stage {
            Stage::Seal => seal::run(material, rounds(seal::ROUNDS), &clock)?,
            Stage::Verify => {
                let chunks = setting.chunks.unwrap_or(verify::CHUNKS);
                let size = (rounds(verify::ROUNDS), chunks);
                verify::run(material, size, &place, &setting.results, &about)?
            }
            _ => window::run(material, rounds(window::ROUNDS), &place)?,
        })?;
    }
    say(&format!("load at the end: {}", machine::load()))
}
