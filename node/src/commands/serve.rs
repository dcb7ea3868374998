//! `chordae serve`: the parts of `assemble.rs` behind their sockets, until SIGTERM or Ctrl-C.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_base::{Failure, Outcome};
use chordae_ingest::fanout::RouterFanout;
use tokio::signal::unix::{SignalKind, signal};

use super::say;
use crate::{
    Verdict,
    assemble::settings_of,
    cli::ServeArgs,
    folder::Folder,
    server::{self, Server, Started},
};

pub(super) async fn run(args: &ServeArgs) -> Outcome<Verdict> {
    crate::log::start();
    let home = Folder::new(data_folder(args)?);
    let settings = settings_of(&home, args.config.as_deref())?;
    let started = Server::start_or_read(
        home,
        settings,
        server::real(Arc::new(RouterFanout::start()?)),
    )
    .await?;
    // Before "ready": whoever has read that may stop us, and the stop must be an orderly one.
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Failure::os("signals", &e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::os("signals", &e))?;
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
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = server.failed() => tracing::error!("a part has failed; stopping"),
            }
            server.stop().await?;
        }
        Started::Reading(reader) => {
            say(format!("reading only: {}", reader.shut().why()));
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = reader.accepted() => say("accepted; start again"),
            }
            reader.stop().await;
        }
    }
    Ok(Verdict::Done)
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
