//! The HTTP interface: one router, over parts that the node hands in. Sockets and TLS are the node's.
//!
//! Each file is one kind of answer; all of them go through [`Service`], so none can skip the token, the
//! rule or the trail. Whatever is not a route, or not a method of one, is a problem too, in the same
//! format. HEAD is refused: an answer without its body would still be an answer.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chordae_base::limits;
use tracing::{Instrument, Span, field};

mod aside;
mod chunks;
mod hot;
mod inventories;
mod ledger;
mod live;
pub mod openapi;
mod problem;
mod proof;
mod send;
mod service;
mod sessions;
mod signed;
mod streams;
mod trail;
mod viewer;
mod window;

pub use problem::Problem;
pub use service::{Caller, Parts, Service};
pub use viewer::demonstration;

/// All routes of the query service. Merged into a router, never nested below a path: tokens name the
/// path as sent.
pub fn router(service: &Arc<Service>) -> Router {
    let routes = Router::new()
        .route("/v1/streams", get(streams::streams))
        .route("/v1/streams/{did}/window", get(window::window))
        .route("/v1/streams/{did}/live", get(live::live))
        .route("/v1/streams/{did}/proof", get(proof::proof))
        .route("/v1/streams/{did}/aside", get(aside::aside))
        .route("/v1/streams/{did}/chunks", get(chunks::links))
        .route("/v1/streams/{did}/chunks/{index}", get(chunks::chunk))
        .route("/v1/sessions", post(sessions::create).get(sessions::list))
        .route(
            "/v1/sessions/{sid}",
            get(sessions::look).delete(sessions::revoke),
        )
        .route("/v1/inventories", get(inventories::list))
        .route(
            "/v1/inventories/{id}",
            get(inventories::look)
                .put(inventories::put)
                .delete(inventories::remove),
        )
        .route("/v1/trail", get(trail::trail))
        .route("/ledger/{*path}", get(ledger::file))
        .route("/openapi.json", get(openapi::openapi))
        .merge(viewer::routes())
        .fallback(nothing_here)
        .layer(middleware::from_fn(signed::holding))
        .with_state(Arc::clone(service));
    dressed(routes)
}

/// What holds for all routes of ours; for those that the node puts beside [`router`].
pub fn dressed(routes: Router) -> Router {
    routes
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(middleware::from_fn(every_answer))
}

async fn nothing_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-route",
        "there is nothing at this path",
    )
}

async fn no_such_method(request: Request) -> Response {
    no_method(request.uri().path())
}

fn no_method(path: &str) -> Response {
    let why = "this path does not know this method";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", why);
    let mut response = problem.into_response();
    // Said here, because the router would count HEAD in wherever there is a GET.
    if let Ok(allowed) = HeaderValue::try_from(openapi::methods(path)) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// What holds for every answer: few methods, nothing cached that does not say so, no sniffing, and not a
/// word for scripts of other origins. One span, that of all that is done for it.
async fn every_answer(request: Request, next: Next) -> Response {
    let span = span_of(&request);
    let answering = async {
        match *request.method() {
            Method::GET | Method::POST | Method::PUT | Method::DELETE => next.run(request).await,
            _ => no_method(request.uri().path()),
        }
    };
    let mut response = answering.instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The span of a request, in OpenTelemetry's words: the template of its path and one of our methods, never what the
/// requester wrote, for that names streams, sessions and people.
fn span_of(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str);
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "_OTHER",
    };
    tracing::debug_span!(
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
    )
}
