//! `chordae gateway`: a gateway until SIGTERM or Ctrl-C, or with `--init` its settings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_base::{DeviceId, Failure, Outcome};
use chordae_ingest::{fanout::NoFanout, gateway::link::Target};

use super::{manager, say, stop::Stop};
use crate::{
    Verdict,
    cli::GatewayArgs,
    folder,
    gateway::{
        Gateway,
        settings::{self, GatewaySettings},
    },
    server,
};

pub(super) async fn run(args: &GatewayArgs) -> Outcome<Verdict> {
    if args.init {
        return init(args);
    }
    crate::log::start();
    let (config, data) = places(args)?;
    if !config.exists() {
        return Err(Failure::not_found(format!(
            "{} is missing; make it: chordae gateway --data {} --init --uplink zmq+tls://HOST:5556",
            config.display(),
            data.display()
        )));
    }
    let env: Vec<(String, String)> = std::env::vars().collect();
    let settings = GatewaySettings::read(&config, &env)?;
    let gateway = Gateway::start(data, settings, server::real(Arc::new(NoFanout))).await?;
    for (what, addr) in gateway.listening() {
        say(format!("listening {what} {addr}"));
    }
    let mut stop = Stop::listen()?;
    say("ready");
    manager::ready("serving");
    tokio::select! {
        () = stop.asked() => {}
        () = gateway.failed() => tracing::error!("a part has failed; stopping"),
    }
    manager::stopping();
    gateway.stop().await?;
    Ok(Verdict::Done)
}

/// Settings and folder: the one names the other.
fn places(args: &GatewayArgs) -> Outcome<(PathBuf, PathBuf)> {
    match (&args.config, &args.data) {
        (Some(config), Some(data)) => Ok((config.clone(), data.clone())),
        (None, Some(data)) => Ok((data.join("gateway.toml"), data.clone())),
        (Some(config), None) => {
            let dir = config.parent().filter(|d| !d.as_os_str().is_empty());
            Ok((config.clone(), dir.unwrap_or(Path::new(".")).to_owned()))
        }
        (None, None) => Err(Failure::bad_input(
            "say which gateway: --config DIR/gateway.toml or --data DIR",
        )),
    }
}

fn init(args: &GatewayArgs) -> Outcome<Verdict> {
    let (config, data) = places(args)?;
    let url = args.uplink.as_deref().ok_or_else(|| {
        Failure::bad_input("--init needs --uplink, e.g. --uplink zmq+tls://ecg.example.org:5556")
    })?;
    let (target, name) = (url.parse::<Target>()?, DeviceId::new(args.name.as_str())?);
    folder::make_private(&data)?;
    let text = settings::written(name.as_str(), &target.to_string());
    folder::write_public(&config, &text)?;
    let data = data.display();
    say(format!("made {}", config.display()));
    say(format!(
        "next:  chordae device add {name} --kind gateway --host HOST --out {data}/keys --data SERVER"
    ));
    say(format!("       chordae gateway --data {data}"));
    Ok(Verdict::Done)
}
