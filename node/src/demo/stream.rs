//! The streaming part of the demo, with a live line on a terminal.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chordae_base::{DeviceId, Failure, Outcome, StreamName, seams::real};
use chordae_device_sim::{Config, Credentials, Fleet, FleetHandle, Pace, Report, Source, Stats};
use indicatif::{ProgressBar, ProgressStyle};

use super::{DemoArgs, Stage, invite, say};

/// The devices that speak to the server itself, and the one behind the gateway.
struct Fleets {
    direct: FleetHandle,
    ward: Option<FleetHandle>,
}

impl Fleets {
    fn start(stage: &Stage, args: &DemoArgs) -> Outcome<Self> {
        let start = |config| Fleet::start(config, Arc::new(real::OsClock), &real::OsEntropy);
        let door = stage.server.address("mqtt-tls");
        let direct = start(config(stage, args, door, &stage.devices, "acked")?)?;
        let ward = stage.ward.as_ref().map(|ward| {
            let (door, behind) = (ward.gateway.address("mqtt-tls"), [ward.device.clone()]);
            start(config(stage, args, door, &behind, "acked-by-the-gateway")?)
        });
        let ward = ward.transpose()?;
        Ok(Self { direct, ward })
    }

    fn each(&self) -> impl Iterator<Item = &FleetHandle> {
        std::iter::once(&self.direct).chain(&self.ward)
    }

    fn are_finished(&self) -> bool {
        self.each().all(FleetHandle::is_finished)
    }

    /// What both did; the times are those of the server's own devices.
    async fn stop(self) -> Outcome<Report> {
        let mut report = ended(self.direct).await?;
        if let Some(ward) = self.ward {
            let behind = ended(ward).await?;
            report.stats.acked += behind.stats.acked;
            report.stats.samples += behind.stats.samples;
            report.devices.extend(behind.devices);
        }
        Ok(report)
    }
}

async fn ended(mut fleet: FleetHandle) -> Outcome<Report> {
    if fleet.is_finished() {
        fleet.finished().await;
    }
    fleet.stop().await
}

/// Streams until the time is over, the record has ended or Ctrl-C; everything made is acknowledged then, and
/// what the gateway acknowledged has reached the server.
pub(super) async fn run(
    stage: &mut Stage,
    args: &DemoArgs,
    time: Option<Duration>,
) -> Outcome<Report> {
    let fleets = Fleets::start(stage, args)?;
    stage.grant_for_the_browser().await?;
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
        let show = show(stage, &fleets, &bar);
        tokio::select! {
            () = over => "the time is over",
            () = show => "the streams have ended",
            _ = tokio::signal::ctrl_c() => "stopped by hand",
            () = stage.server.failed() => return Err(Failure::io("the server has failed; see its messages above")),
        }
    };
    bar.finish_and_clear();
    let report = fleets.stop().await?;
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
    if let Some(ward) = stage.ward.take() {
        let behind = ward.device.clone();
        ward.close().await?;
        let of_it = report.devices.iter().filter(|d| d.key.device == behind);
        let frames: u64 = of_it.map(|d| d.made).sum();
        say(format!(
            "gateway     {frames} frames of {behind} reached the server by ZeroMQ; its spool is empty"
        ));
    }
    Ok(report)
}

fn config(
    stage: &Stage,
    args: &DemoArgs,
    door: Option<SocketAddr>,
    devices: &[DeviceId],
    acked: &str,
) -> Outcome<Config> {
    let door = door.ok_or_else(|| Failure::internal("no MQTT door"))?;
    let certs = stage.certs();
    let mut config = Config::new(
        format!("mqtts://127.0.0.1:{}", door.port()).parse()?,
        devices.to_vec(),
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
    config.acked = Some(stage.work.join(acked));
    Ok(config)
}

/// Refreshes the live line until every device is done.
async fn show(stage: &Stage, fleets: &Fleets, bar: &ProgressBar) {
    while !fleets.are_finished() {
        let stats: Vec<_> = fleets.each().map(FleetHandle::snapshot).collect();
        let sum = |of: fn(&Stats) -> u64| stats.iter().map(of).sum::<u64>();
        let house = stage.server.house();
        let anchors = house.notary.status();
        let spooled = stage
            .ward
            .as_ref()
            .map_or(0, |ward| ward.gateway.metrics().spool_frames.get());
        bar.set_message(format!(
            "{} devices  {} sent  {} on disk (p50 {} ms)  {} in the gateway  {} chunks  {} ledger entries  {} heads waiting",
            sum(|s| s.connected),
            sum(|s| s.made),
            sum(|s| s.acked),
            stats.first().map_or(0, |s| s.ack_p50_ns / 1_000_000),
            spooled,
            house.catalogue.chunks(),
            house.ledger.size(),
            anchors.pending_heads
        ));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
