//! `GET /ledger/...`: the log for everybody, cacheable; no token, no trail.
//!
//! A path is read into numbers and written anew before it is looked up; text from outside reaches no
//! disk. Tiles never change; the checkpoint and what shows the log's age do.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use chordae_base::{Failure, Outcome};

use super::{problem::Problem, service::Service};
use crate::core::ledger_path::LedgerPath;

pub(super) async fn file(State(service): State<Arc<Service>>, uri: Uri) -> Response {
    match read(&service, uri.path(), uri.query()).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn read(
    service: &Arc<Service>,
    path: &str,
    query: Option<&str>,
) -> Result<Response, Problem> {
    let path = parse(path, query)?;
    let entries = matches!(
        path,
        LedgerPath::Entries { .. } | LedgerPath::Heads { .. } | LedgerPath::Fresh
    );
    if entries && !service.entries_public {
        return Err(Failure::not_found("no such file of the log").into());
    }
    let _place = service.place()?;
    let of = Arc::clone(service);
    let bytes = service.blocking(move || Ok(of.ledger.file(&path)?)).await?;
    let (media_type, cache) = if path.immutable() {
        (
            "application/octet-stream",
            "public, max-age=31536000, immutable",
        )
    } else {
        ("text/plain; charset=utf-8", "no-cache")
    };
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    Ok(response)
}

fn parse(path: &str, query: Option<&str>) -> Outcome<LedgerPath> {
    let path = path.strip_prefix("/ledger/").filter(|_| query.is_none());
    LedgerPath::parse(path.unwrap_or_default())
}
