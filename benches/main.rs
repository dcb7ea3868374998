//! `cargo run --release -p chordae-benches -- [ingest|seal|window|all]`: measures and prints.

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
    server,
    setting::{Setting, Stage, USAGE},
    stages::{
        ingest::{self, Place},
        seal, window,
    },
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == server::SERVE => server::serve(rest),
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
    say(&machine::facts(place.dir, &OsDisk, &clock)?)?;
    let mut material = None;
    for stage in &setting.stages {
        if *stage == Stage::Ingest {
            say(&ingest::run(
                &place,
                setting.rounds.unwrap_or(ingest::ROUNDS),
                setting.seconds,
            )?)?;
            continue;
        }
        let material = match &material {
            Some(material) => material,
            None => material.insert(Material::load(setting.record.as_deref())?),
        };
        say(&match stage {
            Stage::Seal => seal::run(material, setting.rounds.unwrap_or(seal::ROUNDS), &clock)?,
            _ => window::run(material, setting.rounds.unwrap_or(window::ROUNDS), &place)?,
        })?;
    }
    say(&format!("load at the end: {}", machine::load()))
}
