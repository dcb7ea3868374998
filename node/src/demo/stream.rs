//! The streaming part of the demo, with a live line on a terminal.

use std::{sync::Arc, time::Duration};

use chordae_base::{Failure, Outcome, StreamName, seams::real};
use chordae_device_sim::{Config, Credentials, Fleet, FleetHandle, Pace, Report, Source};
use indicatif::{ProgressBar, ProgressStyle};

use super::{DemoArgs, Stage, invite, say};

/// Streams until the time is over, the record has ended or Ctrl-C; everything made is acknowledged then.
pub(super) async fn run(stage: &Stage, args: &DemoArgs, time: Option<Duration>) -> Outcome<Report> {
    let mut fleet = Fleet::start(
        config(stage, args)?,
        Arc::new(real::OsClock),
        &real::OsEntropy,
    )?;
    invite(stage);
    let over = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let bar = ProgressBar::new_spinner();
    // The template is a constant; a bar without one would only look plainer.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let ended = {
        let show = show(stage, &fleet, &bar);
        tokio::select! {
            () = over => "the time is over",
            () = show => "the streams have ended",
            _ = tokio::signal::ctrl_c() => "stopped by hand",
            () = stage.server.failed() => return Err(Failure::io("the server has failed; see its messages above")),
        }
    };
    bar.finish_and_clear();
    if fleet.is_finished() {
        fleet.finished().await;
    }
    let report = fleet.stop().await?;
    say(format!(
        "streamed    {} frames, {} samples a lead acknowledged as on disk ({ended})",
        report.stats.acked, report.stats.samples
    ));
    if report.owed() > 0 {
        return Err(Failure::io(format!(
            "{} frames were never acknowledged",
            report.owed()
        )));
    }
    Ok(report)
}

fn config(stage: &Stage, args: &DemoArgs) -> Outcome<Config> {
    let door = stage
        .server
        .address("mqtt-tls")
        .ok_or_else(|| Failure::internal("no MQTT door"))?;
    let certs = stage.certs();
    let mut config = Config::new(
        format!("mqtts://127.0.0.1:{}", door.port()).parse()?,
        stage.devices.clone(),
    )?;
    config.credentials = Some(Credentials {
        ca: certs.join("ca.crt"),
        cert: certs.clone(),
        key: certs,
    });
    config.stream = StreamName::new("ecg")?;
    config.pace = Pace::Speed(args.speed);
    if let Some(path) = &args.record {
        config.source = Source::Record {
            path: path.clone(),
            leads: None,
        };
    }
    config.acked = Some(stage.work.join("acked"));
    Ok(config)
}

/// Refreshes the live line until every device is done.
async fn show(stage: &Stage, fleet: &FleetHandle, bar: &ProgressBar) {
    while !fleet.is_finished() {
        let stats = fleet.snapshot();
        let house = stage.server.house();
        let anchors = house.notary.status();
        bar.set_message(format!(
            "{} devices  {} sent  {} on disk (p50 {} ms)  {} chunks  {} ledger entries  {} heads waiting",
            stats.connected,
            stats.made,
            stats.acked,
            stats.ack_p50_ns / 1_000_000,
            house.catalogue.chunks(),
            house.ledger.size(),
            anchors.pending_heads
        ));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
