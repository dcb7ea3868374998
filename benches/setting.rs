//! The command line: which stages, how long, where.

use std::path::PathBuf;

use chordae_base::{Failure, Outcome};

/// What `--help` and a wrong command line print.
pub const USAGE: &str = "\
usage: chordae-benches [ingest|seal|window|all] [--rounds N] [--seconds S] [--dir DIR] [--record PATH.hea]

  ingest   acknowledged frames/s of the MQTT door and its log, beside bare TCP and fdatasync
  seal     MB/s and bits per sample of sealing, beside zstd and beside copying and hashing
  window   a verified window of ten seconds, beside reading the same rows without any check
  all      these three (the default)

  --rounds N     interleaved rounds of each (default 5 of ingest, 15 of the others)
  --seconds S    measured seconds of an ingest round, 1 to 60 (default 3, after 1 to warm up)
  --dir DIR      where the logs and chunks of the run lie, on the disk to be measured
                 (default: beside this program); a folder is made in it and removed
  --record PATH  the WFDB record that is sealed (default ../shared/ecg/100.hea beside the project)

example: cargo run --release -p chordae-benches -- ingest --rounds 3 --dir /var/tmp";

/// A stage of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Frames to acknowledgements.
    Ingest,
    /// Rows to a chunk.
    Seal,
    /// A chunk to a verified window.
    Window,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In this order.
    pub stages: Vec<Stage>,
    /// Interleaved rounds; `None`: each stage's own.
    pub rounds: Option<usize>,
    /// Measured seconds of an ingest round.
    pub seconds: u64,
    /// Where files go.
    pub dir: Option<PathBuf>,
    /// The record that is sealed.
    pub record: Option<PathBuf>,
}

impl Setting {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// `BadInput` for anything that [`USAGE`] does not say.
    pub fn parse(args: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut setting = Self {
            stages: Vec::new(),
            rounds: None,
            seconds: 3,
            dir: None,
            record: None,
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || {
                let missing = || Failure::bad_input(format!("{arg} needs a value"));
                args.next().ok_or_else(missing)
            };
            match arg.as_str() {
                "ingest" => setting.stages.push(Stage::Ingest),
                "seal" => setting.stages.push(Stage::Seal),
                "window" => setting.stages.push(Stage::Window),
                "all" => setting.stages.extend(ALL),
                "--rounds" => setting.rounds = Some(number(&value()?, 1, 1000)?),
                "--seconds" => setting.seconds = number(&value()?, 1, 60)? as u64,
                "--dir" => setting.dir = Some(value()?.into()),
                "--record" => setting.record = Some(value()?.into()),
                other => {
                    return Err(Failure::bad_input(format!("{other:?} is not understood")));
                }
            }
        }
        if setting.stages.is_empty() {
            setting.stages.extend(ALL);
        }
        Ok(setting)
    }
}

const ALL: [Stage; 3] = [Stage::Ingest, Stage::Seal, Stage::Window];

fn number(text: &str, least: usize, most: usize) -> Outcome<usize> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| {
        Failure::bad_input(format!("{text:?} is not a number from {least} to {most}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Setting> {
        Setting::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_read_or_refused() {
        assert_eq!(parse("").unwrap().stages, ALL);
        let setting = parse("seal --rounds 3 window --dir here --seconds 2").unwrap();
        assert_eq!(setting.stages, [Stage::Seal, Stage::Window]);
        assert_eq!((setting.rounds, setting.seconds), (Some(3), 2));
        assert_eq!(setting.dir, Some("here".into()));
        for bad in [
            "sael",
            "--rounds",
            "--rounds 0",
            "--seconds 61",
            "--seconds x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
