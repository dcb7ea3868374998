//! `GET /v1/streams/{did}/chunks`: the links of a window. `.../chunks/{index}`: a whole chunk file.
//!
//! A file shows everything in it, so it needs a grant of all leads over `[first_ns, end_ns)`, and its
//! last row must not be later than now. One byte range is served, as RFC 9110 says; several are refused.

use std::{ops::Range, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chordae_base::{Did, Digest, Failure, FailureKind, Outcome, Span, limits};
use chordae_chain::link::Link;
use serde_json::json;

use super::{
    problem::Problem,
    signed::{DidPath, Signed, did_of},
};
use crate::core::access::{Leads, Want};

pub(super) async fn links(signed: Signed, did: DidPath) -> Response {
    let mut deed = signed.deed("links");
    let answer = match signed.want(did, &["from", "until"], &mut deed) {
        Ok((want, _)) => list(&signed, want).await,
        Err(failure) => Err(failure.into()),
    };
    signed.settle(deed, answer).await
}

async fn list(signed: &Signed, want: Want) -> Result<Response, Problem> {
    let service = &signed.service;
    let _place = service.place()?;
    let (of, caller, now) = (Arc::clone(service), signed.caller.clone(), service.now());
    // Links and metadata need no lead.
    let leads = Leads::Named(Vec::new());
    let want = Want { leads, ..want };
    service
        .blocking(move || {
            let rows = of.decide(&caller, &want, now)?.rows();
            let mut touched = of.chunks.touching(&want.did, rows)?;
            touched.retain(|t| t.link.span().meets(&rows));
            if touched.len() > limits::LISTED_MAX {
                return Err(Failure::bad_input("too many chunks: ask for a shorter window").into());
            }
            touched.sort_by_key(|t| t.link.index);
            let links: Vec<_> = touched.iter().map(|t| shown(&t.link)).collect();
            Ok(Json(json!({ "did": want.did, "links": links })).into_response())
        })
        .await
}

fn shown(link: &Link) -> serde_json::Value {
    json!({
        "index": link.index,
        "slot_start_ns": link.slot_start_ns,
        "slot_len_ns": link.slot_len_ns,
        "first_ns": link.first_ns,
        "end_ns": link.end_ns,
        "rows": link.rows,
        "file_root": link.file_root,
        "pages_root": link.pages_root,
        "prev": link.prev,
        "digest": link.digest(),
        "link": hex::encode(link.encode()),
    })
}

pub(super) async fn chunk(
    signed: Signed,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let mut deed = signed.deed("chunk");
    let asked = path.map_err(|_| Failure::bad_input("the path is not UTF-8"));
    let asked = asked.and_then(|Path((did, index))| {
        let did = did_of(Ok(Path(did)))?;
        deed.did = Some(did);
        signed.params(&[])?;
        let index = index.parse::<u64>().ok().filter(|i| i.to_string() == index);
        Ok((
            did,
            index.ok_or_else(|| Failure::bad_input("the path has no chunk index"))?,
        ))
    });
    let found = match asked {
        Ok((did, index)) => fetch(&signed, did, index).await,
        Err(failure) => Err(failure.into()),
    };
    let answer = found.map(|(link, bytes)| {
        (deed.from_ns, deed.until_ns) = (Some(link.first_ns), Some(link.end_ns));
        deed.rows = Some(u64::from(link.rows));
        file(link.file_root, bytes, &signed.headers)
    });
    signed.settle(deed, answer).await
}

async fn fetch(signed: &Signed, did: Did, index: u64) -> Result<(Link, Bytes), Problem> {
    let service = &signed.service;
    signed.hold(service.place()?);
    let (of, caller, now) = (Arc::clone(service), signed.caller.clone(), service.now());
    let found = service.blocking(move || {
        let link = of
            .chunks
            .links(&did, index, 1)?
            .into_iter()
            .find(|l| l.index == index);
        // A chunk that is not there is told to whoever holds any grant of the stream, and to nobody else.
        let nothing = Span {
            from_ns: now.wall_ns,
            until_ns: now.wall_ns,
        };
        let (window, leads) = match &link {
            Some(link) => (link.span(), Leads::All),
            None => (nothing, Leads::Named(Vec::new())),
        };
        let allowed = of.decide(
            &caller,
            &Want {
                did,
                window,
                leads,
                clip: false,
            },
            now,
        );
        let link = match (link, &allowed) {
            (Some(link), _) => link,
            (None, Err(problem)) if problem.code() != "window" => return Err(problem.clone()),
            (None, _) => return Err(Failure::not_found("the stream has no such chunk").into()),
        };
        if allowed?.rows() != link.span() {
            let why = "the chunk has rows later than now: ask again in a while";
            return Err(Problem::new(StatusCode::FORBIDDEN, "later-than-now", why));
        }
        let bytes = of.chunks.bytes(&did, index).inspect_err(|failure| {
            if failure.kind == FailureKind::Damaged {
                of.metrics.verify_failed();
            }
        })?;
        Ok((link, bytes))
    });
    let (link, bytes) = found.await?;
    // The file is in memory until the reader has taken it.
    signed.hold(service.room(bytes.len() as u64)?);
    Ok((link, bytes))
}

/// The file, or the part of it that a Range header asks for.
fn file(root: Digest, bytes: Bytes, headers: &HeaderMap) -> Response {
    let tag = format!("\"{root}\"");
    let same = headers
        .get(header::IF_RANGE)
        .is_none_or(|v| v.as_bytes() == tag.as_bytes());
    let range = headers.get(header::RANGE).filter(|_| same);
    let length = bytes.len();
    let mut response = match range.map(|v| part(v.to_str().unwrap_or(""), length)) {
        None => Response::new(Body::from(bytes)),
        Some(Ok(range)) => {
            let content = format!(
                "bytes {}-{}/{length}",
                range.start,
                range.end.saturating_sub(1)
            );
            let mut response = Response::new(Body::from(bytes.slice(range)));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, content);
            response
        }
        Some(Err(_)) => {
            let why = "one byte range inside the file can be asked for";
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", why);
            let mut response = problem.into_response();
            set(
                &mut response,
                header::CONTENT_RANGE,
                format!("bytes */{length}"),
            );
            return response;
        }
    };
    set(
        &mut response,
        header::CONTENT_TYPE,
        "application/vnd.apache.parquet".to_owned(),
    );
    set(&mut response, header::ACCEPT_RANGES, "bytes".to_owned());
    set(&mut response, header::ETAG, tag);
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: String) {
    // Made of digits, hex and fixed words, so it is always a header value.
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n`, inside a file of `length` bytes.
fn part(text: &str, length: usize) -> Outcome<Range<usize>> {
    let bad = || Failure::bad_input("not one range inside the file");
    let (first, last) = text
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'))
        .ok_or_else(bad)?;
    let number = |text: &str| -> Outcome<Option<usize>> {
        if text.is_empty() {
            return Ok(None);
        }
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .map(Some)
            .ok_or_else(bad)
    };
    let range = match (number(first)?, number(last)?) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) => first..length,
        (None, Some(count)) => length.saturating_sub(count)..length,
        _ => return Err(bad()),
    };
    if range.start < range.end {
        Ok(range)
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h13_ranges_inside_the_file_and_no_others() {
        let ok = |text| part(text, 10).ok();
        assert_eq!(ok("bytes=0-0"), Some(0..1));
        assert_eq!(ok("bytes=2-"), Some(2..10));
        assert_eq!(ok("bytes=-3"), Some(7..10));
        assert_eq!(ok("bytes=8-99"), Some(8..10));
        assert_eq!(ok("bytes=-99"), Some(0..10));
        for bad in [
            "bytes=-0",
            "bytes=10-",
            "bytes=3-2",
            "bytes=0-1,3-4",
            "bytes=a-b",
            "bytes=-",
            "0-1",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
            "",
        ] {
            assert_eq!(ok(bad), None, "{bad}");
        }
        assert!(part("bytes=0-", 0).is_err());
    }
}
