//! The command line: which stages, how long, where.

use std::path::PathBuf;

use chordae_base::{Failure, Outcome};

/// What `--help` and a wrong command line print.
pub const USAGE: &str = "\
usage: chordae-benches [ingest|seal|window|all|peers|serve|idle|ward|flood] [--rounds N] [--seconds S]
                       [--devices N] [--dir DIR] [--record PATH.hea] [--results DIR]

  ingest   acknowledged frames/s of the MQTT door and its log, beside bare TCP and fdatasync
  seal     MB/s and bits per sample of sealing, beside zstd and beside copying and hashing
  window   a verified window of ten seconds, beside reading the same rows without any check
  all      these three (the default)
  peers    ingest of ours and of others, side by side, with what their acknowledgements mean; writes
           peers-ingest.md and .svg
  serve    windows over HTTP and TLS of ours and of others, side by side; writes peers-serve.md and .svg
  idle     memory of 10,000 idle TLS connections
  ward     2,000 devices at a frame a second into all of chordae, while it seals
  flood    what 50 good devices feel of one that floods

  --rounds N     interleaved rounds of each (default 5 of ingest and flood, 3 of peers and serve, 15 of the others)
  --seconds S    measured seconds of a round of ingest, peers, serve, ward and flood, 1 to 60 (default 3, of ward 60)
  --devices N    devices of idle and ward
  --dir DIR      where the logs and chunks of the run lie, on the disk to be measured
                 (default: beside this program); a folder is made in it and removed
  --results DIR  where result files are written (default benches/results)
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
    /// Side by side with others.
    Peers,
    /// Windows side by side with others.
    Serve,
    /// Memory of idle connections.
    Idle,
    /// Many devices in time.
    Ward,
    /// One device too fast.
    Flood,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In this order.
    pub stages: Vec<Stage>,
    /// Interleaved rounds; `None`: each stage's own.
    pub rounds: Option<usize>,
    /// Measured seconds of a round; `None`: each stage's own.
    pub seconds: Option<u64>,
    /// Devices of idle and ward; `None`: as many as the goal says.
    pub devices: Option<usize>,
    /// Where result files go.
    pub results: PathBuf,
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
            seconds: None,
            devices: None,
            results: "benches/results".into(),
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
                "peers" => setting.stages.push(Stage::Peers),
                "serve" => setting.stages.push(Stage::Serve),
                "idle" => setting.stages.push(Stage::Idle),
                "ward" => setting.stages.push(Stage::Ward),
                "flood" => setting.stages.push(Stage::Flood),
                "--rounds" => setting.rounds = Some(number(&value()?, 1, 1000)?),
                "--seconds" => setting.seconds = Some(number(&value()?, 1, 60)? as u64),
                "--devices" => setting.devices = Some(number(&value()?, 1, 15_000)?),
                "--results" => setting.results = value()?.into(),
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
        assert_eq!((setting.rounds, setting.seconds), (Some(3), Some(2)));
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
