//! `chordae demo`: the whole job on one machine, with real sockets, TLS, disks and clients.
//!
//! ```text
//! stage (keys, server, devices, patient) ─▶ stream ─▶ sealed, linked, anchored ─▶ count: acknowledged = stored
//!      ─▶ grant ─▶ pull, verified ─▶ one nanosecond outside: refused ─▶ stop ─▶ a copy broken, and named
//! ```
//!
//! Nothing is faked for show: each step uses what an operator, a patient and a clinician would use, and the
//! command fails if any of them does not hold.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chordae_base::{Failure, FailureKind, Outcome, Span, limits, seams::real, time};
use chordae_chain::bundle;
use chordae_checker::tamper::{self, How};
use chordae_device_sim::Report;
use chordae_query::formats::Format;

use crate::{
    Verdict, cli,
    cli::DemoArgs,
    commands::{
        self, check_folder,
        pull::{self, Pulled, Wanted},
        say, session,
    },
    keyfile,
};

mod broken;
mod copy;
mod count;
mod forged;
mod page;
mod stage;
mod stream;
mod ward;

use stage::Stage;

/// What sealing and anchoring need after the last frame: slot, grace, late lane, anchor interval.
const WIND_UP: Duration = Duration::from_secs(20);
/// How long settling may take before the demo calls it a failure.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// Runs the command.
///
/// # Errors
/// Whatever did not hold.
pub async fn run(args: DemoArgs) -> Outcome<Verdict> {
    crate::log::start_quiet();
    let mut stage = Stage::set(&args).await?;
    say("");
    let report = stream::run(&mut stage, &args, stream_time(&args)).await?;
    if let Some(failure) = report.failure() {
        return Err(failure.clone());
    }
    settle(&stage).await?;
    let counted = count::count(&stage.server.house().catalogue, &report)?;
    say(format!(
        "sealed      {} chunks, all linked; {} anchored in a ledger of {} entries",
        counted.chunks,
        if counted.chunks == 0 {
            "none"
        } else {
            "every head"
        },
        stage.server.house().ledger.size()
    ));
    let pulled = show_reading(&stage, &report).await?;
    let (home, trust) = (
        stage.server.home().root().to_owned(),
        stage.far.trust.clone(),
    );
    let work = stage.work.clone();
    stage.server.stop().await?;
    let caught = crate::assemble::apart(move || show_tampering(&home, &trust, work)).await?;

    say("");
    say(format!(
        "frames      {} acknowledged = {} stored",
        counted.acknowledged, counted.stored
    ));
    say(format!("chunks      {}, all anchored", counted.chunks));
    say(format!(
        "pull        {} rows verified against the trust file",
        pulled.rows
    ));
    say(format!("tampering   tampering caught: {caught}"));
    say(format!(
        "latency     acknowledged (on disk) after {} ms at the median, {} ms at the 99th percentile",
        millis(report.stats.ack_p50_ns),
        millis(report.stats.ack_p99_ns)
    ));
    Ok(Verdict::Done)
}

fn millis(ns: u64) -> String {
    format!("{}.{}", ns / 1_000_000, ns / 100_000 % 10)
}

/// How long the devices stream, so that everything ends about when it was asked to.
fn stream_time(args: &DemoArgs) -> Option<Duration> {
    let length = args.length?;
    // A record is streamed to its end where the time allows.
    if args.record.is_some() {
        return Some(length);
    }
    Some(length.saturating_sub(WIND_UP).max(length / 2))
}

/// Waits until everything that was acknowledged is in linked, anchored chunks.
async fn settle(stage: &Stage) -> Outcome<()> {
    let begun = tokio::time::Instant::now();
    loop {
        let status = stage.chunker().await?;
        let open = status.open_buckets + status.sealing + status.held;
        if open == 0 {
            break;
        }
        if begun.elapsed() > SETTLE_MAX {
            return Err(Failure::internal(format!(
                "{open} buckets are still open two minutes after the last frame; see {}",
                stage.server.home().root().display()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let notary = Arc::clone(&stage.server.house().notary);
    let anchors = crate::assemble::apart(move || notary.settle()).await?;
    match (anchors.pending_heads, anchors.trouble) {
        (0, None) => Ok(()),
        (n, why) => Err(Failure::internal(format!(
            "{n} heads are not anchored: {}",
            why.unwrap_or_default()
        ))),
    }
}

/// A grant, a pull inside it, a refusal outside it; then everything, under an unbounded grant.
async fn show_reading(stage: &Stage, report: &Report) -> Outcome<Pulled> {
    let device = report
        .devices
        .first()
        .ok_or_else(|| Failure::internal("no device streamed"))?;
    let plan = stage.server.house().registry.plan(&device.key);
    let did = plan
        .map(|p| p.newest())
        .ok_or_else(|| Failure::internal("the stream has no did"))?;
    let links = stage.server.house().catalogue.links(&did, 0..u64::MAX);
    let begins = links.iter().map(|l| l.first_ns).min().unwrap_or_default();
    let until_ns = links.iter().map(|l| l.end_ns).max().unwrap_or_default();
    // The first whole page, and what follows it up to ten more seconds: what is granted.
    let from_ns = time::slot_start(begins, limits::PAGE_NS).saturating_add(limits::PAGE_NS);
    let grant_until = from_ns.saturating_add(2 * limits::PAGE_NS);
    let patient = keyfile::read(&stage.patient)?;
    let doctor = keyfile::read(&stage.doctor)?;
    let grant = |from: Option<i64>, until: Option<i64>| cli::GrantArgs {
        key: stage.patient.clone(),
        to: keyfile::public_path(&stage.doctor),
        stream: vec![did.to_string()],
        inventory: Vec::new(),
        from: from.map(|t| t.to_string()),
        until: until.map(|t| t.to_string()),
        leads: None,
        expires: None,
        purpose: "demonstration".into(),
        exact: false,
        trust: None,
        server: cli::Remote {
            data: Some(stage.server.home().root().to_owned()),
            url: None,
        },
    };
    let sid = session::grant(
        &stage.far,
        &patient,
        &grant(Some(from_ns), Some(grant_until)),
    )
    .await?;
    say(format!(
        "granted     [{}, +20 s) to Dr. Roe: session {}...",
        time::show(from_ns),
        &sid[..16]
    ));
    let window = Span {
        from_ns,
        until_ns: from_ns.saturating_add(limits::PAGE_NS),
    };
    let wanted = |sid, window, format| Wanted {
        keys: &doctor,
        session: Some(sid),
        did,
        window,
        leads: None,
        snap: window.until_ns < until_ns,
        format,
    };
    let pulled = pull::fetch(&stage.far, &wanted(&sid, window, Format::Arrow), true).await?;
    proven(&pulled)?;
    say(format!(
        "pulled      {} rows over HTTP, every one proven up to the ledger (chunk {})",
        pulled.rows,
        pulled.judgement.anchored_to.unwrap_or_default()
    ));
    let outside = Span {
        from_ns,
        until_ns: grant_until.saturating_add(1),
    };
    match pull::fetch(
        &stage.far,
        &Wanted {
            snap: false,
            ..wanted(&sid, outside, Format::Csv)
        },
        true,
    )
    .await
    {
        Err(e) if e.kind == FailureKind::Refused => {
            say("refused     the same with one nanosecond more than was granted");
        }
        Err(e) => return Err(e.during("a window outside the grant")),
        Ok(_) => return Err(Failure::internal("a window outside the grant was answered")),
    }
    let all = session::grant(&stage.far, &patient, &grant(None, None)).await?;
    let window = Span {
        from_ns: begins - begins.rem_euclid(limits::PAGE_NS),
        until_ns: whole_pages(until_ns),
    };
    let whole = pull::fetch(&stage.far, &wanted(&all, window, Format::Csv), true).await?;
    proven(&whole)?;
    std::fs::write(stage.work.join("everything.csv"), &whole.answer)
        .map_err(|e| Failure::os("write everything.csv", &e))?;
    Ok(whole)
}

fn whole_pages(until_ns: i64) -> i64 {
    let up = until_ns.saturating_add(limits::PAGE_NS - 1);
    up - up.rem_euclid(limits::PAGE_NS)
}

fn proven(pulled: &Pulled) -> Outcome<()> {
    let j = &pulled.judgement;
    if j.verdict == bundle::Verdict::Anchored
        && j.unproven_rows == 0
        && j.newer.is_empty()
        && pulled.rows > 0
    {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "a pull of {} rows was not proven: {:?}, {} rows unproven, {:?}",
        pulled.rows, j.verdict, j.unproven_rows, j.findings
    )))
}

/// Verifies the folder and an untouched copy, breaks the copy, and wants it named.
fn show_tampering(
    home: &std::path::Path,
    trust: &chordae_chain::trust::TrustFile,
    work: PathBuf,
) -> Outcome<String> {
    let copy = work.join("tampered");
    copy::copy_parts(home, &copy)?;
    let disk: Arc<dyn chordae_base::seams::Disk> = Arc::new(real::OsDisk);
    let before = check_folder(&*disk, &copy, Some(trust))?;
    if before.verdict != chordae_checker::Verdict::Ok {
        return Err(Failure::internal(format!(
            "the untouched copy does not verify: {:?}",
            before.findings
        )));
    }
    say(format!(
        "verified    {} offline: {} streams intact and anchored",
        home.display(),
        before.streams.len()
    ));
    say(format!(
        "tampered    {}",
        tamper::tamper(&disk, &copy, How::FlipBit)?
    ));
    let after = check_folder(&*disk, &copy, Some(trust))?;
    match after.findings.first() {
        Some(f) if after.verdict == chordae_checker::Verdict::Damaged => {
            Ok(format!("{} ({})", f.object, f.code))
        }
        _ => Err(Failure::internal("the tampered copy was not noticed")),
    }
}

/// Where to look and what to try while it runs.
fn invite(stage: &Stage) {
    let data = stage.server.home().root().display();
    say(format!("try         chordae status --data {data}"));
    say(format!("            chordae stream list --data {data}"));
    if let Some(addr) = stage.server.address("http-plain") {
        say(format!(
            "look        http://{addr}/demo in a browser: click \"Connect as the demo's clinician\","
        ));
        say(
            "            then \"Flip a bit\" or another way to break a copy, and see what catches it",
        );
        let trust = stage.server.home().key("trust.json");
        let (patient, doctor) = (stage.patient.display(), stage.doctor.display());
        say(format!(
            "            http://{addr}/ is the plain viewer: trust file {}",
            trust.display()
        ));
        say(format!(
            "            key files {doctor} (clinician), {patient} (Ann, who sees her own streams)"
        ));
    }
    commands::say("            Ctrl-C ends the streams and shows the rest");
}
