//! What the demo's server has for a browser and no other server has: its page, the keys that it made for itself, and
//! copies to break. On loopback, like all of the demo's plain HTTP.
//!
//! ```text
//! GET  /demo, /demo.js      the viewer with buttons
//! GET  /demo/clinician      trust file and key of the demo's clinician
//! POST /demo/copies         {"deed": "flip-bit", "did": ...} ─▶ what was done, what the checker says
//! Chordae-Demo-Copy: N      on a GET: the same question, put to the server over copy N
//! ```
//!
//! The keys are worth what the demo's simulated devices are worth. Pages of other origins cannot read them (no answer of ours
//! allows it), and cannot ask for copies (JSON is no simple request).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State, rejection::JsonRejection},
    http::Method,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chordae_base::Did;
use chordae_query::http;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use super::broken::{Deed, Told, Workshop};
use crate::{
    assemble::apart,
    control::{Answer, Problem},
    folder,
};

const COPY: &str = "chordae-demo-copy";

/// The readers' routes with those of the demo around them.
pub(super) fn around(workshop: Arc<Workshop>, readers: Router) -> Router {
    let own = Router::new()
        .route("/demo/clinician", get(clinician))
        .route("/demo/copies", post(copies))
        .with_state(Arc::clone(&workshop))
        .merge(http::demonstration());
    let real = readers.merge(http::dressed(own));
    // Before any route is chosen: the router of a copy chooses anew.
    Router::new()
        .fallback(to_whom)
        .with_state(Asked { workshop, real })
}

/// What connects a browser.
#[derive(Serialize)]
struct Keys {
    trust: String,
    key: String,
}

async fn clinician(State(workshop): State<Arc<Workshop>>) -> Answer<Keys> {
    let read = move || {
        let (clinician, trust) = workshop.clinician()?;
        let [_, key] = &clinician.keys;
        let key = folder::read_secret(key)?;
        Ok(Keys { trust, key })
    };
    Ok(Json(apart(read).await?))
}

/// What to do to a copy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    deed: Deed,
    /// The stream on the screen.
    did: Did,
}

async fn copies(
    State(workshop): State<Arc<Workshop>>,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Answer<Told> {
    let Json(Wish { deed, did }) = wish?;
    Ok(Json(apart(move || workshop.make(deed, did)).await?))
}

/// Who may be asked.
#[derive(Clone)]
struct Asked {
    workshop: Arc<Workshop>,
    real: Router,
}

/// A question that names a copy goes to the server over it, if that answers such questions otherwise than the real one.
async fn to_whom(State(Asked { workshop, real }): State<Asked>, request: Request) -> Response {
    let copy = match request.headers().get(COPY) {
        Some(id) if *request.method() == Method::GET => {
            workshop.answers(id.to_str().unwrap_or_default(), request.uri().path())
        }
        _ => Ok(None),
    };
    match copy {
        Ok(copy) => copy.unwrap_or(real).oneshot(request).await.into_response(),
        Err(why) => Problem(why).into_response(),
    }
}
