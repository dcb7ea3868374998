//! The command line: which stages, how long, where.

use std::path::PathBuf;

use chordae_base::{Failure, Outcome};

/// What `--help` and a wrong command line print.
pub const USAGE: &str = "\
usage: chordae-benches [ingest|seal|window|all|verify|paper|peers|serve|idle|ward|flood|ledger] [--rounds N]
                       [--seconds S] [--devices N] [--entries N] [--chunks N] [--dir DIR] [--record PATH.hea]
                       [--results DIR]

  ingest   acknowledged frames/s of the MQTT door and its log, beside bare TCP and fdatasync
  seal     MB/s and bits per sample of sealing, beside zstd and beside copying and hashing
  window   a verified window of ten seconds, beside reading the same rows without any check
  all      these three (the default)
  verify   the checker over 8,640 chunks, beside b3sum on the same files; writes verify.md and .svg
  paper    the published evaluation done again: ledger reads, bytes and time to verify a stream by three schemes,
           storage, operation counts, features; writes paper.md and plots
  peers    ingest of ours and of others, side by side, with what their acknowledgements mean; writes
           peers-ingest.md and .svg
  serve    windows over HTTP and TLS of ours and of others, side by side; writes peers-serve.md and .svg
  idle     memory of 10,000 idle TLS connections
  ward     2,000 devices at a frame a second into all of chordae, while it seals
  flood    what 50 good devices feel of one that floods
  ledger   durable signed events/s and their latency, beside fdatasync of the same bytes; appends, look-ups and
           the start of a log that grows; writes ledger.md and ledger.svg

  --rounds N     interleaved rounds of each (default 5 of ingest, verify and flood, 3 of peers, serve and ledger,
                 15 of seal and window)
  --seconds S    measured seconds of a round of ingest, peers, serve, ward, flood and ledger, 1 to 60 (default 3, of ward 60)
  --devices N    devices of idle and ward
  --entries N    length that the log of ledger grows to, 200000 to 100000000 (default 200000)
  --chunks N     chunks of verify; of paper the longest stream, at least 100 (default 8640)
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
    /// Chunks to a verdict.
    Verify,
    /// The published evaluation.
    Paper,
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
    /// The ledger and its index.
    Ledger,
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
    /// Length that the log of ledger grows to; `None`: a short one.
    pub entries: Option<usize>,
    /// Chunks of verify and of the longest stream of paper; `None`: as many as the goal says.
    pub chunks: Option<u64>,
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
            entries: None,
            chunks: None,
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
                "verify" => setting.stages.push(Stage::Verify),
                "paper" => setting.stages.push(Stage::Paper),
                "peers" => setting.stages.push(Stage::Peers),
                "serve" => setting.stages.push(Stage::Serve),
                "idle" => setting.stages.push(Stage::Idle),
                "ward" => setting.stages.push(Stage::Ward),
                "flood" => setting.stages.push(Stage::Flood),
                "ledger" => setting.stages.push(Stage::Ledger),
                "--rounds" => setting.rounds = Some(number(&value()?, 1, 1000)?),
                "--seconds" => setting.seconds = Some(number(&value()?, 1, 60)? as u64),
                "--devices" => setting.devices = Some(number(&value()?, 1, 15_000)?),
                "--entries" => {
                    setting.entries = Some(number(&value()?, 200_000, 100_000_000)?);
                }
                "--chunks" => setting.chunks = Some(number(&value()?, 1, 8640)? as u64),
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
            "--entries 10",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
