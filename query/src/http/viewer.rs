//! `GET /`, `/patient`, `/operator`: the pages, from files that are part of this binary.
//!
//! They are made from `query/web/viewer` (`npm run build`) and committed as `query/web/dist`, so that
//! nothing but cargo is needed here, and a page never comes from another version than the service that
//! it asks. No token is needed for them: they say nothing about anyone. The page may load nothing from
//! elsewhere and be framed by nobody, so what it shows goes only to the one who looks.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, media type, content.
type File = (&'static str, &'static str, &'static [u8]);

const FILES: [File; 10] = [
    ("/", HTML, include_bytes!("../../web/dist/index.html")),
    (
        "/patient",
        HTML,
        include_bytes!("../../web/dist/patient.html"),
    ),
    (
        "/operator",
        HTML,
        include_bytes!("../../web/dist/operator.html"),
    ),
    (
        "/patient.js",
        JAVASCRIPT,
        include_bytes!("../../web/dist/patient.js"),
    ),
    (
        "/operator.js",
        JAVASCRIPT,
        include_bytes!("../../web/dist/operator.js"),
    ),
    (
        "/pages.css",
        CSS,
        include_bytes!("../../web/dist/pages.css"),
    ),
    (
        "/viewer.js",
        JAVASCRIPT,
        include_bytes!("../../web/dist/viewer.js"),
    ),
    (
        "/judge.js",
        JAVASCRIPT,
        include_bytes!("../../web/dist/judge.js"),
    ),
    (
        "/viewer.css",
        CSS,
        include_bytes!("../../web/dist/viewer.css"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_bytes!("../../web/dist/icon.svg"),
    ),
];

/// The page of the demonstration: the viewer, and what it can break. No server but that of `chordae demo` has it.
const DEMONSTRATION: [File; 2] = [
    (
        "/demo",
        "text/html; charset=utf-8",
        include_bytes!("../../web/dist/demo.html"),
    ),
    (
        "/demo.js",
        JAVASCRIPT,
        include_bytes!("../../web/dist/demo.js"),
    ),
];

/// One tag for all of them: they belong together.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut all = Sha256::new();
    for (_, _, content) in FILES.into_iter().chain(DEMONSTRATION) {
        all.update(content);
    }
    format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(all.finalize()))
});

/// The routes of the pages.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    of(FILES)
}

/// The page of the demonstration, for who mounts it.
pub fn demonstration<S: Clone + Send + Sync + 'static>() -> Router<S> {
    of(DEMONSTRATION)
}

fn of<S: Clone + Send + Sync + 'static>(files: impl IntoIterator<Item = File>) -> Router<S> {
    files.into_iter().fold(Router::new(), |routes, file| {
        let answer = move |headers: HeaderMap| async move { served(file, &headers) };
        routes.route(file.0, get(answer))
    })
}

fn served((_, media_type, content): File, asked: &HeaderMap) -> Response {
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|tags| tags.to_str().is_ok_and(|tags| tags.contains(TAG.as_str())));
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        // Kept, and asked about each time: an old page must not meet a new service.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let mut response = match known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, content).into_response(),
    };
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
