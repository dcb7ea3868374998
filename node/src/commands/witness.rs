//! `chordae witness`: cosigns checkpoints that are sent to it, and those of servers that it looks at by itself.
//!
//! ```text
//! POST add-checkpoint ─┐
//!                      ├─▶ signed by a log we know, goes on from what we saw ─▶ memory, synced ─▶ cosignature
//! every 10 s: a look ──┘      else its status code, and where two histories show, both notes are kept
//! ```
//!
//! A look asks the server for its checkpoint, makes the consistency proof from its tiles, and sends itself the same
//! request that a log would send: there is one judge. One process per memory; a crash loses nothing that was
//! answered.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chordae_anchor::{
    core::witness::Request,
    witness::{Answer, Settings, Witness},
};
use chordae_base::{Failure, FailureKind, Outcome, limits, seams::real};
use chordae_chain::checkpoint::{self, TrustedLog, origin_hash};
use tokio::sync::watch;

use super::{key::read_trust, say, stop::Stop};
use crate::{
    Verdict,
    cli::WitnessArgs,
    client::Place,
    folder::{self, Folder},
    keyfile, listen,
    remote_log::RemoteLog,
    serving,
};

/// What the routes and the looks work on.
struct Desk {
    witness: Witness,
    logs: Vec<TrustedLog>,
}

pub(super) async fn run(args: &WitnessArgs) -> Outcome<Verdict> {
    crate::log::start();
    if args.listen.is_none() && args.follow.is_empty() {
        let why =
            "nothing to do: --listen ADDR takes checkpoints, --follow URL looks at a server's log";
        return Err(Failure::bad_input(why));
    }
    if let Some(addr) = args.listen.filter(|addr| !addr.ip().is_loopback()) {
        return Err(Failure::bad_input(format!(
            "--listen {addr}: without TLS it must be on loopback; put a proxy with TLS in front of it"
        )));
    }
    let (logs, ca) = logs(args)?;
    let key = keyfile::read(&args.key)?;
    let origins: BTreeSet<&str> = logs.iter().map(TrustedLog::origin).collect();
    if args.init {
        folder::make_private(&args.memory)?;
        for origin in origins {
            Witness::init(&real::OsDisk, &args.memory, origin)?;
        }
    } else if !args.memory.is_dir() {
        let memory = args.memory.display();
        return Err(Failure::not_found(format!(
            "{memory} is missing: --init makes the memory of a key that has cosigned nothing yet"
        )));
    }
    let _held = Folder::new(&args.memory).hold()?;
    let settings = Settings {
        dir: args.memory.clone(),
        name: args.name.clone(),
        logs: logs.clone(),
    };
    let witness = Witness::open(
        Arc::new(real::OsDisk),
        Arc::new(real::OsClock),
        settings,
        key,
    )?;
    let verifier = witness.verifier()?;
    say(format!("witness {} {}", verifier.name(), verifier.vkey()));
    let desk = Arc::new(Desk { witness, logs });
    let follow = args.follow.iter().map(|url| {
        let place = Place::url(url, ca.clone())?;
        Ok((url.clone(), RemoteLog::new(place)))
    });
    let follow = follow.collect::<Outcome<Vec<_>>>()?;
    if args.once {
        return desk.look(&follow).await;
    }
    let (stopping, stop) = watch::channel(false);
    let serving = match args.listen {
        Some(addr) => Some(tokio::spawn(serve(Arc::clone(&desk), addr, stop).await?)),
        None => None,
    };
    let mut signals = Stop::listen()?;
    say("ready");
    let mut verdict = Verdict::Done;
    let looking = async {
        let mut every = tokio::time::interval(args.every);
        while !follow.is_empty() {
            every.tick().await;
            match desk.look(&follow).await {
                Ok(Verdict::Tampered) => verdict = Verdict::Tampered,
                Ok(_) => {}
                Err(why) => tracing::warn!(%why, "a look"),
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = signals.asked() => {}
        () = looking => {}
    }
    stopping.send_replace(true);
    if let Some(serving) = serving {
        tokio::time::timeout(limits::COSIGN_TIMEOUT, serving)
            .await
            .ok();
    }
    Ok(verdict)
}

/// The logs to follow, and the authorities of their servers.
fn logs(args: &WitnessArgs) -> Outcome<(Vec<TrustedLog>, Option<String>)> {
    let vkeys = args.log.iter().map(|vkey| TrustedLog::from_vkey(vkey));
    let mut logs = vkeys.collect::<Outcome<Vec<_>>>()?;
    let mut ca = String::new();
    for path in &args.trust {
        let trust = read_trust(path)?;
        logs.extend(trust.policy()?.logs);
        ca.push_str(trust.ca.as_deref().unwrap_or_default());
    }
    if logs.is_empty() {
        let why = "which log? --trust FILE takes those of a trust file, --log VKEY one by its key";
        return Err(Failure::bad_input(why));
    }
    Ok((logs, Some(ca).filter(|ca| !ca.is_empty())))
}

impl Desk {
    /// Looks at each server once: what goes on from what was seen is cosigned.
    async fn look(self: &Arc<Self>, follow: &[(String, RemoteLog)]) -> Outcome<Verdict> {
        let (mut verdict, mut failed) = (Verdict::Done, None);
        for (url, log) in follow {
            match self.look_at(log).await {
                Ok(Verdict::Done) => {}
                Ok(other) => verdict = other,
                Err(why) => failed = Some(why.during(url)),
            }
        }
        match (verdict, failed) {
            (Verdict::Done, Some(why)) => Err(why),
            (verdict, _) => Ok(verdict),
        }
    }

    async fn look_at(self: &Arc<Self>, log: &RemoteLog) -> Outcome<Verdict> {
        let note = log.checkpoint().await?;
        let opened = self.logs.iter().map(|log| checkpoint::open(&note, log));
        let new = opened.into_iter().find_map(Result::ok).ok_or_else(|| {
            Failure::refused("its checkpoint is not signed by a log that is followed here")
        })?;
        let old = self.witness.remembers(&new.origin).unwrap_or(0);
        // From nothing, and to the same, there is nothing to prove; backwards nothing can be proven.
        let proof = match 0 < old && old < new.size {
            true => log.consistency(&new, old).await?,
            false => Vec::new(),
        };
        let (origin, size) = (new.origin, new.size);
        let answer = self
            .asked(Request::compose(old, &proof, &note).into())
            .await?;
        if let Some(doubt) = answer.doubt {
            say(format!(
                "TAMPERED {origin}: {}; {size} entries do not go on from the {old} that were seen, both notes are kept \
                 in evidence/: it was set back, or shows two histories",
                doubt.word()
            ));
            return Ok(Verdict::Tampered);
        }
        if answer.status == StatusCode::OK.as_u16() {
            say(format!("cosigned {origin} {size}"));
            return Ok(Verdict::Done);
        }
        Err(Failure::refused(answer.body.trim_end().to_owned()))
    }

    /// The answer of the one judge, which waits for the disk.
    async fn asked(self: &Arc<Self>, body: Bytes) -> Outcome<Answer> {
        let desk = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || desk.witness.add_checkpoint(&body)).await;
        answer.map_err(|e| Failure::internal(format!("the witness: {e}")))
    }
}

/// Binds the address; the future serves it until it is stopped.
async fn serve(
    desk: Arc<Desk>,
    addr: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Outcome<impl Future<Output = ()> + Send + 'static> {
    let socket = listen::bind("--listen", addr).await?;
    let addr = socket
        .local_addr()
        .map_err(|e| Failure::os("listener", &e))?;
    say(format!("listening witness {addr}"));
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/checkpoint/{origin}", get(newest))
        .layer(DefaultBodyLimit::max(limits::WITNESS_REQUEST_BYTES_MAX))
        .with_state(desk);
    Ok(serving::serve(socket, router, None, stop))
}

async fn add_checkpoint(State(desk): State<Arc<Desk>>, body: Bytes) -> Response {
    match desk.asked(body).await {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status);
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (
                status,
                [(header::CONTENT_TYPE, answer.content_type)],
                answer.body,
            )
                .into_response()
        }
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.why).into_response(),
    }
}

/// The newest checkpoint of a log that was cosigned; `origin` is the SHA-256 of its name, hex.
async fn newest(State(desk): State<Arc<Desk>>, Path(origin): Path<String>) -> Response {
    let known = desk
        .logs
        .iter()
        .find(|log| origin_hash(log.origin()) == origin);
    let newest = match known {
        Some(log) => desk.witness.newest(log.origin()),
        None => Err(Failure::not_found("this log is not followed here")),
    };
    match newest {
        Ok(note) => note.into_response(),
        Err(e) if e.kind == FailureKind::NotFound => (StatusCode::NOT_FOUND, e.why).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.why).into_response(),
    }
}
