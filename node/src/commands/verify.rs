//! `chordae verify` and `chordae tamper`: the checker, and what it must catch. Offline.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind, Outcome, Span, limits,
    seams::{
        Clock, Disk,
        real::{OsClock, OsDisk},
    },
};
use chordae_chain::{
    bundle::{AnswerRows, Asked, ProofBundle, joined},
    report::looks_like,
    trust::TrustFile,
};
use chordae_checker::{self as checker, CheckOptions, Kind, Progress, Report};
use chordae_query::{
    formats::{self, Format},
    strip::{self, Strip},
};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    key::read_trust,
    pull::{rows_of, scales_of},
    report, say,
};
use crate::{Verdict, cli};

pub(super) fn run(args: &cli::VerifyArgs) -> Outcome<Verdict> {
    let trust = args.trust.as_deref().map(read_trust).transpose()?;
    let report = check(&args.path, &args.answer, trust.as_ref())?;
    if args.json {
        say(report.to_json());
    } else {
        print(&report);
    }
    if let Some(max_age) = args.max_age
        && report.verdict == checker::Verdict::Ok
        && report
            .fresh_ms
            .is_none_or(|age| u128::from(age) > max_age.as_millis())
    {
        say(
            "stale: no audit-head of the ledger is as young as --max-age asks; what came after it may be withheld",
        );
        return Ok(Verdict::Unproven);
    }
    Ok(match report.verdict {
        checker::Verdict::Ok => Verdict::Done,
        checker::Verdict::Damaged => Verdict::Tampered,
        checker::Verdict::Unanchored => Verdict::Unproven,
    })
}

pub(super) fn read(path: &Path, max: u64) -> Outcome<Vec<u8>> {
    OsDisk
        .read(path, max)
        .map_err(|e| Failure::os(format!("read {}", path.display()), &e))
}

fn check(path: &Path, answers: &[PathBuf], trust: Option<&TrustFile>) -> Outcome<Report> {
    let disk = OsDisk;
    match checker::kind_of(&disk, path)? {
        Kind::Folder => folder(&disk, path, trust),
        Kind::Chunk => Ok(checker::check_chunk(
            Bytes::from(read(path, limits::CHUNK_BYTES_MAX)?),
            &[],
        )),
        Kind::Other => {
            let text = String::from_utf8(read(path, limits::REPORT_BYTES_MAX)?).ok();
            match (text, answers) {
                (Some(text), []) if strip::looks_like(&text) => carried(&text, trust),
                (Some(text), []) if looks_like(&text) => report::check(&text, trust),
                (Some(text), []) if checker::is_receipt(&text) => {
                    checker::check_fresh(&text, trust, now_ms())
                }
                (_, []) => Err(Failure::bad_input(format!(
                    "{} is neither a data folder, a chunk, a report, a strip nor the receipt of an audit-head; if it is a proof bundle, name its answer with --answer",
                    path.display()
                ))),
                (None, _) => Err(Failure::bad_input("the proof bundle is not text")),
                (Some(text), answers) if joined::is_joined(&text) => {
                    judge_each(&joined::parse(&text)?, answers, trust)
                }
                (Some(text), [answer]) => judge(&ProofBundle::parse(&text)?, answer, trust),
                _ => Err(Failure::bad_input("a proof bundle is for one answer")),
            }
        }
    }
}

/// Judges the answers of joined proofs, each named by its file.
fn judge_each(
    bundles: &[ProofBundle],
    answers: &[PathBuf],
    trust: Option<&TrustFile>,
) -> Outcome<Report> {
    if bundles.len() != answers.len() {
        return Err(Failure::bad_input(format!(
            "these are {} proofs, and {} answers are named: name that of each with --answer, in the order in which they were joined",
            bundles.len(),
            answers.len()
        )));
    }
    let mut all = Report::of_nothing();
    for (bundle, answer) in bundles.iter().zip(answers) {
        let mut report = judge(bundle, answer, trust)?;
        for finding in &mut report.findings {
            finding.object = format!("{}: {}", answer.display(), finding.object);
        }
        all.add(report);
    }
    Ok(all)
}

/// Judges an answer in whatever format it is.
fn judge(bundle: &ProofBundle, name: &Path, trust: Option<&TrustFile>) -> Outcome<Report> {
    let bytes = Bytes::from(read(name, limits::ANSWER_BYTES_MAX)?);
    let format = formats::sniff(&bytes)
        .ok_or_else(|| Failure::bad_input(format!("{} is in no format of ours", name.display())))?;
    match read_back(format, &bytes, bundle) {
        // An overview for example: that is a question wrongly put, not damage.
        Err(e) if format != Format::Csv && e.kind == FailureKind::BadInput => Err(e),
        rows => Ok(checker::check_answer(bundle, rows, trust).report),
    }
}

/// The rows of an answer, whose scales are those of its proof.
fn read_back(format: Format, answer: &Bytes, bundle: &ProofBundle) -> Outcome<AnswerRows> {
    let rows = rows_of(format, answer)?;
    scales_of(format, answer, bundle)?;
    Ok(rows)
}

/// Judges what a strip carries. The trust file in it counts for nothing: it came with what is being checked.
fn carried(page: &str, trust: Option<&TrustFile>) -> Outcome<Report> {
    let (
        Strip {
            about,
            proof,
            answer,
            ..
        },
        ours,
    ) = Strip::open(page)?;
    let bundle = ProofBundle::parse(&proof)?;
    let rows = read_back(Format::Arrow, &answer, &bundle);
    let asked = Asked {
        did: Some(about.did),
        window: Some(Span {
            from_ns: about.from_ns,
            until_ns: about.until_ns,
        }),
        leads: about.leads,
    };
    let mut report = match &rows {
        Ok(rows) => checker::check_answer_rows(&bundle, rows, &asked, trust).report,
        Err(_) => checker::check_answer(&bundle, rows, trust).report,
    };
    if !ours {
        report.notes.push(
            "the page around the data is not the one that this version of chordae makes: what it shows \
             in a browser may be anything"
                .into(),
        );
    }
    Ok(report)
}

/// Does what shows how far it has come, with a progress line, on a terminal only.
pub(super) fn watched<T>(work: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let bar = ProgressBar::new(0);
    // The template is a constant; a bar without one would only look plainer.
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let done = work(&mut |Progress { what, done, of }| {
        bar.set_message(what);
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    done
}

/// Checks a folder.
pub(crate) fn folder(disk: &dyn Disk, path: &Path, trust: Option<&TrustFile>) -> Outcome<Report> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = CheckOptions {
        pages: true,
        threads: cores.clamp(1, limits::CHECK_THREADS_MAX),
        now_ms: Some(now_ms()),
    };
    watched(|show| checker::check_folder_with(disk, path, trust, &options, show))
}

/// The reader's time, in ms since 1970.
fn now_ms() -> u64 {
    u64::try_from(OsClock.wall_ns() / 1_000_000).unwrap_or(0)
}

fn print(report: &Report) {
    for note in &report.notes {
        say(format!("note: {note}"));
    }
    for finding in &report.findings {
        say(format!(
            "{}  {}: {}",
            finding.object, finding.code, finding.detail
        ));
    }
    for stream in &report.streams {
        let anchored = stream
            .anchored_to
            .map_or("not anchored".into(), |n| format!("anchored to {n}"));
        say(format!(
            "{}  {} chunks  {anchored}",
            stream.did, stream.chunks
        ));
    }
    say(match report.verdict {
        checker::Verdict::Ok => "ok: intact, and proven against the trust file",
        checker::Verdict::Unanchored => {
            "unanchored: intact, but not proven (not anchored yet, or no --trust)"
        }
        checker::Verdict::Damaged => "damaged",
    });
}

pub(super) fn tamper(args: &cli::TamperArgs) -> Outcome<Verdict> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let stream = args.stream.as_deref().map(str::parse).transpose()?;
    say(checker::tamper::tamper_stream(
        &disk,
        &args.copy,
        args.how.parse()?,
        stream,
    )?);
    Ok(Verdict::Done)
}
