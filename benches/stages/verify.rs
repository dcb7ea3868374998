//! A whole stream verified by the checker, beside `b3sum` on the same files.
//!
//! ```text
//! b3sum      names ─▶ open, map or read, BLAKE3, print                               what anybody has
//! digests    ledger: checkpoint, entries, tiles ─▶ links/: chain, one look-up
//!            ─▶ each file: read, BLAKE3 = its link's?                                `pages: false`
//! and pages  the same ─▶ Parquet, metadata, page digests = its link's?               the default of `chordae verify`
//! ```
//!
//! The files are sealed, linked and anchored as the product does it, once, before anything is measured; all are in
//! the page cache. In each round the three take turns with as many threads each. Before the first: the sums that
//! `b3sum` prints are those of the links; a flipped bit is found by both forms of the check, which name that file
//! and nothing else; and a stream told from its chunks alone costs one look-up.

use std::{fs, path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, journal, limits,
    seams::{Clock, Disk, real::OsDisk},
    time::SECOND_NS,
};
use chordae_chain::{
    checkpoint::TrustedLog,
    event::{self, Event},
    finding::Code,
    keys::{Role, SecretKeys},
    link::{self, Link},
    stream::{Anchored, ChunkClaim, LedgerReads, verify_stream},
    trust::{self, TrustFile},
};
use chordae_checker::{
    CheckOptions, Report, Verdict, check_folder_with,
    tamper::{LogKeys, write_log},
};
use chordae_chunk::seal;

use super::{ingest::Place, timed};
use crate::{
    material::{DID, Material},
    peers::{
        ingest::write as put,
        plot::{self, Bar},
    },
    table::{Rounds, Table, fine, grouped},
};

/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 5;
/// Chunks, unless told otherwise: a day of ten seconds each.
pub const CHUNKS: u64 = 8640;
/// Lengths of a chunk, in seconds.
const SLOTS_S: [i64; 2] = [10, 60];
const THREADS: [usize; 2] = [1, 2];
/// Part of `b3sum`'s speed that is asked for.
const GOAL: f64 = 0.5;
const ORIGIN: &str = "chordae.local/benches";
/// Links of one commit of their journal.
const COMMIT: usize = 1000;

/// A data folder with one stream, and its reader's trust file.
struct House {
    /// Removed at the end.
    dir: tempfile::TempDir,
    links: Vec<Link>,
    trust: TrustFile,
    bytes: u64,
}

/// What came out for chunks of one length.
struct Measured {
    table: Table,
    /// The smallest of the medians of our speed over that of `b3sum`.
    least: f64,
    /// Bars by threads.
    plots: Vec<(usize, Vec<Bar>)>,
}

/// Measures, writes `verify.md` and `.svg` into `results`, and reports. `about` says what machine this is.
///
/// # Errors
/// `NotFound` without `b3sum`; when a check does not come out as it must.
pub fn run(
    material: &Material,
    (rounds, chunks): (usize, u64),
    place: &Place<'_>,
    results: &Path,
    about: &str,
) -> Outcome<String> {
    let mut text = format!(
        "verify: {}, {} chunks of one stream, warm; {rounds} interleaved rounds, medians\n",
        material.name,
        grouped(chunks as f64),
    );
    let (mut least, mut panels) = (f64::INFINITY, Vec::new());
    for seconds in SLOTS_S {
        let house = House::build(material, seconds * SECOND_NS, chunks, place.dir)?;
        house.control()?;
        let size = grouped(house.bytes as f64 / chunks as f64);
        let megabytes = grouped(house.bytes as f64 / 1e6);
        text.push_str(&format!(
            "\nchunks of {seconds} s, {size} bytes each, {megabytes} MB\n"
        ));
        let measured = house.measure(rounds, place.clock)?;
        text.push_str(&measured.table.to_string());
        least = least.min(measured.least);
        for (threads, bars) in measured.plots {
            panels.push((format!("{size} bytes, {threads} thread(s)"), bars));
        }
    }
    let reached = if least >= GOAL {
        "reached"
    } else {
        "NOT REACHED"
    };
    text.push_str(&format!(
        "\ngoal: file digests and links at half of b3sum's speed or better, one look-up; the least is {} x: {reached}\n",
        fine(least)
    ));
    let head = format!(
        "# A stream verified, beside b3sum\n\nWritten by `cargo run --release -p chordae-benches -- verify`; what is \
         compared stands at the head of `benches/stages/verify.rs`.\n\n```\n{about}"
    );
    let told = format!("{head}{text}```\n\n![plot](verify.svg)\n");
    put(results, "verify.md", &told)?;
    let svg = plot::bars("files/s (dark: ours)", &panels);
    put(results, "verify.svg", &svg)?;
    Ok(text)
}

impl House {
    fn build(material: &Material, slot_ns: i64, chunks: u64, dir: &Path) -> Outcome<Self> {
        let os = |e: std::io::Error| Failure::os("make a data folder", &e);
        let dir = tempfile::Builder::new()
            .prefix("verify-")
            .tempdir_in(dir)
            .map_err(os)?;
        let (mut links, mut bytes): (Vec<Link>, u64) = (Vec::new(), 0);
        for index in 0..chunks {
            let prev = links
                .last()
                .map_or_else(|| link::genesis(&DID), Link::digest);
            let (meta, rows) = material.piece(index, slot_ns, prev)?;
            // A bench has no secrets.
            let chunk = seal(meta, [7; 32], &rows)?;
            let path = dir.path().join(link::object_name(&DID, index));
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(os)?;
            }
            fs::write(&path, chunk.bytes()).map_err(os)?;
            bytes += chunk.bytes().len() as u64;
            links.push(chunk.link().clone());
        }
        write_links(dir.path(), &links)?;
        let trust = write_ledger(dir.path(), links.last())?;
        Ok(Self {
            dir,
            links,
            trust,
            bytes,
        })
    }

    fn names(&self) -> Vec<String> {
        let name = |link: &Link| link::object_name(&link.did, link.index);
        self.links.iter().map(name).collect()
    }

    fn check(&self, pages: bool, threads: usize) -> Outcome<Report> {
        let options = CheckOptions {
            pages,
            threads,
            now_ms: None,
        };
        let trust = Some(&self.trust);
        check_folder_with(&OsDisk, self.dir.path(), trust, &options, &mut |_| {})
    }

    /// The same, of an untouched folder: each chunk is vouched for.
    fn whole(&self, pages: bool, threads: usize) -> Outcome<()> {
        let report = self.check(pages, threads)?;
        let newest = self.links.last().map(|link| link.index);
        let all = report
            .streams
            .iter()
            .any(|stream| stream.chunks == self.links.len() as u64 && stream.anchored_to == newest);
        if report.verdict == Verdict::Ok && all {
            return Ok(());
        }
        Err(Failure::damaged(format!(
            "an untouched folder came out {:?}: {:?}",
            report.verdict,
            report.findings.first()
        )))
    }

    /// The sums that `b3sum` prints, in the order of the links.
    fn b3sum(&self, names: &[String], threads: usize) -> Outcome<String> {
        let ran = Command::new("b3sum")
            .current_dir(self.dir.path())
            .args(["--num-threads", &threads.to_string()])
            .args(names)
            .output();
        let out = ran.map_err(|e| Failure::not_found(format!("b3sum (Debian: b3sum): {e}")))?;
        if !out.status.success() {
            return Err(Failure::io(format!(
                "b3sum: {}",
                String::from_utf8_lossy(&out.stderr)
            )));
        }
        String::from_utf8(out.stdout).map_err(|e| Failure::damaged(e.to_string()))
    }

    fn control(&self) -> Outcome<()> {
        let names = self.names();
        let sums = self.b3sum(&names, 1)?;
        let expected = |(link, name): (&Link, &String)| format!("{}  {name}", link.file_root);
        if !sums.lines().eq(self.links.iter().zip(&names).map(expected)) {
            return Err(Failure::damaged(
                "b3sum prints other sums than the links say",
            ));
        }
        self.finds_a_flip()?;
        self.one_lookup()
    }

    fn finds_a_flip(&self) -> Outcome<()> {
        let middle = self.links.get(self.links.len() / 2);
        let middle = middle.ok_or_else(|| Failure::internal("no chunk"))?;
        let name = link::object_name(&middle.did, middle.index);
        let path = self.dir.path().join(&name);
        flip(&path)?;
        for pages in [false, true] {
            let found = self.check(pages, 2)?.findings;
            let named = found.first().map(|f| (f.object.as_str(), f.code));
            if found.len() != 1 || named != Some((&name, Code::FileDigest)) {
                return Err(Failure::internal(format!(
                    "a flipped bit in {name} came out as {found:?}"
                )));
            }
        }
        flip(&path)
    }

    /// The stream told from its chunks alone, against a ledger that holds its newest head.
    fn one_lookup(&self) -> Outcome<()> {
        struct Newest(Option<Anchored>);
        impl LedgerReads for Newest {
            fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>> {
                Ok(self.0.filter(|(index, _)| *index <= upto))
            }
        }
        let claim = |link: &Link| ChunkClaim {
            index: link.index,
            link: Some(link.clone()),
        };
        let claims: Vec<ChunkClaim> = self.links.iter().map(claim).collect();
        let newest = self.links.last().map(|link| (link.index, link.digest()));
        let verdict = verify_stream(DID, &claims, &mut Newest(newest))?;
        if verdict.is_proven() && verdict.lookups == 1 {
            return Ok(());
        }
        let lookups = verdict.lookups;
        Err(Failure::internal(format!(
            "a whole stream cost {lookups} look-ups"
        )))
    }

    fn measure(&self, rounds: usize, clock: &dyn Clock) -> Outcome<Measured> {
        let (names, megabytes) = (self.names(), self.bytes as f64 / 1e6);
        let mut table = Table::new(&[
            "",
            "threads",
            "ms",
            "(min-max)",
            "MB/s",
            "files/s",
            "x b3sum",
        ]);
        let (mut least, mut plots) = (f64::INFINITY, Vec::new());
        for threads in THREADS {
            let (mut sums, mut digests, mut pages) =
                (Rounds::default(), Rounds::default(), Rounds::default());
            for _ in 0..rounds {
                sums.0.push(timed(clock, || self.b3sum(&names, threads))?.0);
                digests
                    .0
                    .push(timed(clock, || self.whole(false, threads))?.0);
                pages.0.push(timed(clock, || self.whole(true, threads))?.0);
            }
            least = least.min(sums.over(&digests).median());
            let mut bars = Vec::new();
            for (what, took) in [
                ("b3sum", &sums),
                ("checker: file digests, links, ledger", &digests),
                ("checker: page digests too", &pages),
            ] {
                let seconds = took.median() / 1e9;
                let (files, ratio) = (names.len() as f64 / seconds, sums.over(took).median());
                bars.push(Bar {
                    name: what,
                    value: files,
                    told: format!("{}/s, {} x", grouped(files), fine(ratio)),
                    dark: what != "b3sum",
                });
                table.row([
                    what.to_owned(),
                    threads.to_string(),
                    grouped(seconds * 1e3),
                    took.spread(|ns| grouped(ns / 1e6)),
                    grouped(megabytes / seconds),
                    grouped(files),
                    fine(ratio),
                ]);
            }
            plots.push((threads, bars));
        }
        Ok(Measured {
            table,
            least,
            plots,
        })
    }
}

/// Turns one bit in the middle of a file over.
fn flip(path: &Path) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os("change a chunk", &e);
    let mut bytes = fs::read(path).map_err(os)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    fs::write(path, bytes).map_err(os)
}

fn write_links(root: &Path, links: &[Link]) -> Outcome<()> {
    let settings = journal::Settings::small(root.join("links"), limits::RECORD_BYTES_MAX);
    let mut journal = journal::Journal::open(Arc::new(OsDisk), settings)?.journal;
    for some in links.chunks(COMMIT) {
        let record = |link: &Link| Bytes::copy_from_slice(&link.encode());
        let records: Vec<Bytes> = some.iter().map(record).collect();
        journal = journal.commit(&records)?.0;
    }
    journal.mark()?;
    Ok(())
}

/// A log whose only event vouches for this link, and the trust file of its reader.
fn write_ledger(root: &Path, head: Option<&Link>) -> Outcome<TrustFile> {
    let head = head.ok_or_else(|| Failure::bad_input("a stream without a chunk"))?;
    let keys = |seed: u8| SecretKeys::from_secrets(&[seed; 32], None);
    let (provider, sequencer, log) = (keys(1)?, keys(2)?, keys(3)?);
    let event = Event::AddData {
        digest: head.digest(),
        tag: link::tag(&head.did, head.index),
        content: vec![7; 120],
    };
    let trust = TrustFile {
        retired: Vec::new(),
        origin: ORIGIN.to_owned(),
        policy: trust::policy_text(&TrustedLog::new(ORIGIN, &log.sign_public())?),
        providers: vec![provider.public("provider", Role::Provider)],
        sequencers: vec![sequencer.public("sequencer", Role::Sequencer)],
        ca: None,
    };
    let batches = [vec![event::sign(&event, &provider)?]];
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    write_log(
        &disk,
        root,
        ORIGIN,
        &LogKeys { log, sequencer },
        &batches,
        1,
    )?;
    Ok(trust)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_stream_is_whole_and_a_flip_in_it_is_found() {
        let (dir, material) = (tempfile::tempdir().unwrap(), Material::load(None).unwrap());
        let house = House::build(&material, 10 * SECOND_NS, 12, dir.path()).unwrap();
        for pages in [false, true] {
            house.whole(pages, 2).unwrap();
        }
        house.finds_a_flip().unwrap();
        house.one_lookup().unwrap();
    }
}
