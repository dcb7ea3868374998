//! A server that only answers: what is stored is served, and nothing new is taken.
//!
//! ```text
//! readers ─▶ GET as always; anything that would change something ─▶ 503, and why
//! operator ─▶ control socket: status; POST /v1/admin/rollback/accept ─▶ the process ends, the next start is whole
//! ```
//!
//! The doors for devices are not opened: a device that cannot connect keeps what it has. `/readyz` says why, and
//! `/metrics` goes on. Answers are written into the trail as always; who reads is not forgotten.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State, rejection::JsonRejection},
    http::Method,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chordae_base::{Failure, Outcome};
use chordae_query::http;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    assemble::{Reading, Shut, apart},
    control::{Answer, Problem},
    folder::Folder,
    listen::TlsListener,
    observe::Readiness,
    server::{Running, addr},
    serving::Hosts,
    tls::Readers,
};

/// Readers in mid-answer get so long at a stop.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a start has made before it knew that it would only read.
pub(crate) struct Opening {
    pub(crate) home: Folder,
    /// The names that readers know us by.
    pub(crate) hosts: Hosts,
    /// HTTP with TLS, HTTP without, control.
    pub(crate) sockets: (Option<TcpListener>, Option<TcpListener>, UnixListener),
    pub(crate) certificate: Readers,
    pub(crate) listening: Vec<(&'static str, SocketAddr)>,
    pub(crate) ready: Readiness,
    pub(crate) running: Running,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) held: std::fs::File,
}

/// See the module.
pub struct ReadServer {
    home: Folder,
    serving: Vec<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    listening: Vec<(&'static str, SocketAddr)>,
    desk: Arc<Desk>,
    /// Held as long as the server lives: one server per folder.
    _held: std::fs::File,
}

/// What the control routes work on.
struct Desk {
    reading: Reading,
    ready: Readiness,
    accepted: watch::Sender<bool>,
}

impl ReadServer {
    /// Opens the listeners for readers and the control socket.
    ///
    /// # Errors
    /// Those of the certificate.
    pub(crate) fn open(opening: Opening, reading: Box<Reading>) -> Outcome<Self> {
        let Opening {
            home,
            hosts,
            sockets: (http_tls, http_plain, control),
            certificate,
            mut listening,
            ready,
            mut running,
            stopping,
            held,
        } = opening;
        let why = reading.shut.why();
        tracing::error!(why, "nothing new is taken");
        ready.set("doors", Some(why.clone()));
        ready.set("start", None);
        let readers = http::router(&reading.service).layer(middleware::from_fn_with_state(
            Arc::<str>::from(why),
            only_get,
        ));
        let desk = Arc::new(Desk {
            reading: *reading,
            ready: ready.clone(),
            accepted: watch::Sender::new(false),
        });
        if let Some(socket) = http_tls {
            listening.push(("http-tls", addr(&socket)?));
            let tls = TlsListener::new(socket, certificate)?;
            running.public(tls, readers.clone(), &hosts);
        }
        if let Some(socket) = http_plain {
            listening.push(("http-plain", addr(&socket)?));
            running.public(socket, readers.clone(), &hosts);
        }
        let operators = Router::new()
            .route("/v1/admin/status", get(status))
            .route("/v1/admin/rollback/accept", post(accept))
            .with_state(Arc::clone(&desk));
        // Only the control socket accepts: who may enter the folder decides about it.
        running.http(control, readers.merge(operators));
        Ok(Self {
            home,
            serving: running.serving,
            stopping,
            listening,
            desk,
            _held: held,
        })
    }

    /// What listens where.
    pub fn listening(&self) -> &[(&'static str, SocketAddr)] {
        &self.listening
    }

    /// Why nothing new is taken.
    pub fn shut(&self) -> &Shut {
        &self.desk.reading.shut
    }

    /// Completes when an operator has accepted the folder: the next start is whole.
    pub async fn accepted(&self) {
        // The sender lives in the desk, which lives in us.
        self.desk
            .accepted
            .subscribe()
            .wait_for(|done| *done)
            .await
            .ok();
    }

    /// Closes the listeners; nothing needs to be finished.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        for task in self.serving {
            tokio::time::timeout(GOODBYE, task).await.ok();
        }
        std::fs::remove_file(self.home.control()).ok();
        let ledger = self.desk.reading.ledger.clone();
        apart(move || {
            ledger.stop();
            Ok(())
        })
        .await
        .ok();
    }
}

/// Refuses what would change something.
async fn only_get(State(why): State<Arc<str>>, request: Request, next: Next) -> Response {
    match *request.method() {
        Method::GET => next.run(request).await,
        _ => Problem(Failure::busy(&*why)).into_response(),
    }
}

async fn status(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let reading = &desk.reading;
    let damaged: Vec<String> = reading
        .catalogue
        .damaged()
        .iter()
        .map(|(did, index, why)| format!("{did} {index}: {why}"))
        .collect();
    Json(json!({
        "ready": false,
        "reasons": desk.ready.reasons(),
        "doors_open": false,
        "read_only": reading.shut.why(),
        "chunks": reading.catalogue.chunks(),
        "damaged_chunks": damaged,
        "ledger_entries": reading.ledger.size(),
    }))
}

/// Body of an acceptance.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    /// Why, in a few words; it stands in the trail.
    reason: String,
}

async fn accept(
    State(desk): State<Arc<Desk>>,
    body: Result<Json<Acceptance>, JsonRejection>,
) -> Answer<Value> {
    let Json(Acceptance { reason }) = body?;
    let at = Arc::clone(&desk);
    apart(move || at.reading.accept(&reason)).await?;
    desk.accepted.send_replace(true);
    Ok(Json(
        json!({ "accepted": true, "ledger_entries": desk.reading.ledger.size() }),
    ))
}
