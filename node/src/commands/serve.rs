//! `chordae serve`: the parts of `assemble.rs` behind their sockets, until SIGTERM or Ctrl-C.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use chordae_base::{Failure, Outcome};
use chordae_ingest::fanout::RouterFanout;

use super::{manager, say, stop::Stop};
use crate::{
    Verdict,
    assemble::settings_of,
    cli::ServeArgs,
    folder::Folder,
    log,
    server::{self, Server, Started},
    settings::Settings,
};

pub(super) async fn run(args: &ServeArgs) -> Outcome<Verdict> {
    let home = Folder::new(data_folder(args)?);
    let settings = settings_of(&home, args.config.as_deref())?;
    let metrics = prometheus::Registry::new();
    let traces = settings.trace.start(&home, &metrics)?;
    match &traces {
        Some(traces) => log::start_beside(traces.layer()),
        None => log::start(),
    }
    let served = serve(home, settings, metrics).await;
    // Also of a stop that failed: that is the one to be looked at.
    if let Some(traces) = traces {
        traces.end().await;
    }
    served
}

async fn serve(
    home: Folder,
    settings: Settings,
    metrics: prometheus::Registry,
) -> Outcome<Verdict> {
    let seams = server::real(Arc::new(RouterFanout::start()?));
    let started = Server::start_or_read(home, settings, seams, metrics).await?;
    let mut stop = Stop::listen()?;
    let listening = match &started {
        Started::Whole(server) => server.listening(),
        Started::Reading(reader) => reader.listening(),
    };
    for (what, addr) in listening {
        say(format!("listening {what} {addr}"));
    }
    match started {
        Started::Whole(server) => {
            say("ready");
            manager::ready("serving");
            tokio::select! {
                () = stop.asked() => {}
                () = server.failed() => tracing::error!("a part has failed; stopping"),
                why = server.set_back() => return anew(&why?),
                () = manager::watched(|| server.alive()) => {}
            }
            manager::stopping();
            server.stop().await?;
        }
        Started::Reading(reader) => {
            let how = format!("reading only: {}", reader.shut().why());
            say(&how);
            manager::ready(&how);
            tokio::select! {
                () = stop.asked() => {}
                () = reader.accepted() => say("accepted; start again"),
                () = manager::watched(|| async { true }) => {}
            }
            manager::stopping();
            reader.stop().await;
        }
    }
    Ok(Verdict::Done)
}

/// The process becomes a new one, which finds why in the folder and only reads: as by a crash, so that nothing is
/// sealed or anchored on the way.
fn anew(why: &str) -> Outcome<Verdict> {
    say(format!("starting anew: {why}"));
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_else(|| "chordae".into());
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(program));
    // It comes back only when it fails.
    let failed = Command::new(program).args(words).exec();
    Err(Failure::os(format!("{why} and start anew"), &failed))
}

fn data_folder(args: &ServeArgs) -> Outcome<PathBuf> {
    match (&args.data, &args.config) {
        (Some(data), _) => Ok(data.clone()),
        (None, Some(config)) => {
            let dir = config.parent().filter(|d| !d.as_os_str().is_empty());
            Ok(dir.unwrap_or(Path::new(".")).to_owned())
        }
        (None, None) => Err(Failure::bad_input(
            "say what to serve: --config DIR/chordae.toml or --data DIR",
        )),
    }
}
