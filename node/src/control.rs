//! What operators do: `/v1/admin/...`, JSON over HTTP.
//!
//! ```text
//! DATA/control.sock, mode 0600 ─── an operator on this machine ──────────────┐
//!                                                                            ├─▶ the same routes
//! HTTP listeners ─▶ operators.rs: token of an operator, body and all; trail ─┘
//! ```
//!
//! Who reaches the socket owns the data folder and needs no key. Each file in `control/` is one subject.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use chordae_base::{DeviceId, Did, Failure, FailureKind, KeyId, Outcome, seams::Clock};
use chordae_ingest::{exchange::ExchangeHandle, mailbox::IngestHandle};
use chordae_storage::{Catalogue, directory::Directory, registry::Registry};
use serde_json::{Value, json};

use crate::{
    assemble::{Feed, apart},
    authority::PemPair,
    revocations::Revocations,
    status::StatusSource,
};

mod commands;
mod devices;
mod operators;
mod parties;
mod streams;

pub use commands::CommandShown;
pub use devices::{DeviceLine, DeviceMade};
pub use operators::over_http;
pub use parties::PartyLine;
pub use streams::{StreamLine, give};

/// What the admin routes work on.
pub struct Control {
    /// Devices, parties, streams.
    pub registry: Arc<Registry>,
    /// Sessions.
    pub directory: Arc<Directory>,
    /// Chunks.
    pub catalogue: Arc<Catalogue>,
    /// Frames on their way.
    pub ingest: IngestHandle,
    /// Commands, and what devices say of themselves.
    pub exchange: ExchangeHandle,
    /// The windower, which knows which rows are sealed.
    pub feed: Feed,
    /// Signs device certificates.
    pub ca: PemPair,
    /// Signs the list of revoked ones.
    pub revocations: Revocations,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// What `chordae status` shows.
    pub status: StatusSource,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum By {
    /// Somebody on this machine who may enter the data folder.
    Socket,
    /// The operator with this key.
    Operator(KeyId),
}

/// The stream that a change was about.
#[derive(Debug, Clone, Copy)]
struct About(Did);

/// What kept a request from being done, in a word; for the trail.
#[derive(Debug, Clone, Copy)]
struct Code(&'static str);

type Shared = State<Arc<Control>>;

/// A failure as `application/problem+json` (RFC 9457).
pub(crate) struct Problem(pub(crate) Failure);

pub(crate) type Answer<T> = Result<Json<T>, Problem>;

/// The admin routes for whoever may open the control socket.
pub fn on_socket(control: Arc<Control>) -> Router {
    routes(control).layer(axum::Extension(By::Socket))
}

fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .merge(devices::routes())
        .merge(parties::routes())
        .merge(streams::routes())
        .merge(commands::routes())
        .route("/v1/admin/sessions", get(sessions))
        .route("/v1/admin/status", get(status))
        .with_state(control)
}

async fn sessions(State(c): Shared) -> Answer<Value> {
    Ok(Json(c.directory.list().iter().map(hex::encode).collect()))
}

async fn status(State(c): Shared) -> Answer<Value> {
    let feed = c.feed.clone();
    let chunker = apart(move || feed.status()).await?;
    Ok(Json(c.status.show(&c, &chunker)))
}

impl Control {
    /// What a device said of itself last, or its will for it.
    async fn status_of(&self, id: &DeviceId) -> Outcome<Option<String>> {
        let topic = format!("chordae/v1/{id}/status");
        let said = self.exchange.retained(&topic).await?;
        Ok(said.and_then(|said| match said.as_ref() {
            b"online" => Some("online".to_owned()),
            b"offline" => Some("offline".to_owned()),
            _ => None,
        }))
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket => f.write_str("control socket"),
            Self::Operator(kid) => kid.fmt(f),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<JsonRejection> for Problem {
    fn from(e: JsonRejection) -> Self {
        Self(Failure::bad_input(e.body_text()))
    }
}

impl From<QueryRejection> for Problem {
    fn from(e: QueryRejection) -> Self {
        Self(Failure::bad_input(e.body_text()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title) = match self.0.kind {
            FailureKind::BadInput => (StatusCode::BAD_REQUEST, "bad input"),
            FailureKind::Refused => (StatusCode::FORBIDDEN, "refused"),
            FailureKind::NotFound => (StatusCode::NOT_FOUND, "not found"),
            FailureKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            FailureKind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
            FailureKind::Io | FailureKind::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "failed")
            }
        };
        let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": self.0.why});
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        (status, axum::Extension(Code(title)), kind, body.to_string()).into_response()
    }
}
