//! Operators over HTTP: each request is signed with an operator's key, body and all, and is in the trail.
//!
//! ```text
//! body, bounded ──▶ token: key, method, target, SHA-256 of the body ──▶ operator?
//!                     ──▶ changes only: trail "asked", synced ──▶ the routes ──▶ trail, synced ──▶ answer
//! ```
//!
//! A token says nothing of a body unless it names it, so a change needs one that does (claim `body`,
//! FORMATS.md 8): whoever stands between can drop the request and nothing else. A crash in the middle of a
//! change leaves "asked" in the trail, never a change without a record. A caller nobody knows hears 401 for
//! every reason; a known party that is no operator 403, and is recorded.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use chordae_base::{DeviceId, Digest, StreamKey, limits};
use chordae_chain::keys::{PublicIdentity, Role};
use chordae_query::http::{self, Problem, Service};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{About, By, Code, Control, routes};
use crate::command;

/// The admin routes for whoever comes with an operator's key.
pub fn over_http(control: Arc<Control>, service: Arc<Service>) -> Router {
    let signed = middleware::from_fn_with_state(service, signed);
    http::dressed(routes(control).route_layer(signed))
}

async fn signed(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, limits::ADMIN_BODY_BYTES_MAX).await else {
        let why = "the body is too long, or broke off";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", why).into_response();
    };
    let changes = head.method != Method::GET;
    let digest = changes.then(|| Digest(Sha256::digest(&body).into()));
    let caller =
        match service.authenticate_body(&head.method, &head.uri, &head.headers, digest.as_ref()) {
            Ok(caller) => caller,
            Err(problem) => return problem.into_response(),
        };
    let mut deed = service.deed(&caller, &words(&head.method, &head.uri, &body));
    if caller.identity.role != Role::Operator || caller.sid.is_some() {
        let why = "only an operator may ask this, for herself";
        let refused = Problem::new(StatusCode::FORBIDDEN, "operator", why);
        return service.settle(deed, Err(refused)).await;
    }
    if changes {
        let mut asked = deed.clone();
        asked.outcome = "asked".to_owned();
        if let Err(problem) = service.note(asked).await {
            return problem.into_response();
        }
    }
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(By::Operator(caller.kid));
    let response = next.run(request).await;
    let seen = response.extensions();
    deed.did = seen.get::<About>().map(|about| about.0);
    deed.outcome = match (seen.get::<Code>(), response.status().is_success()) {
        (Some(Code(why)), _) => (*why).to_owned(),
        (None, true) if changes => "done".to_owned(),
        (None, true) => "answered".to_owned(),
        (None, false) => "failed".to_owned(),
    };
    service.settle(deed, Ok(response)).await
}

/// What is asked, for the trail: `POST /v1/admin/devices bed-12`, `POST /v1/admin/commands bed-12 stop`. Who
/// or what it is about may stand in the body; of a body only what is a word of ours is taken over.
fn words(method: &Method, uri: &Uri, body: &[u8]) -> String {
    let mut words = format!("{method} {}", uri.path());
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let device = [text("id"), text("device")]
        .iter()
        .find_map(|t| t.parse::<DeviceId>().ok());
    let stream: Option<StreamKey> = text("stream").parse().ok();
    let party: Option<PublicIdentity> = body
        .get("identity")
        .and_then(|i| serde_json::from_value(i.clone()).ok());
    let about = device
        .map(|d| d.to_string())
        .or(stream.map(|s| s.to_string()))
        .or(party.map(|p| p.key_id().to_string()));
    if let Some(about) = about {
        words.push(' ');
        words.push_str(&about);
    }
    let order = body.pointer("/command/do").and_then(Value::as_str);
    if let Some(order) = order.filter(|o| command::KNOWN.contains(o)) {
        words.push(' ');
        words.push_str(order);
    }
    // Method and path are ASCII, names and keys too.
    words.truncate(limits::TRAIL_FORMAT_BYTES_MAX);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trail_says_what_was_asked_and_about_whom() {
        let said = |target: &str, body: &str| {
            words(&Method::POST, &target.parse().unwrap(), body.as_bytes())
        };
        let devices = "/v1/admin/devices";
        let added = said(devices, r#"{"id":"bed-12","kind":"device"}"#);
        assert_eq!(added, "POST /v1/admin/devices bed-12");
        let off = said("/v1/admin/devices/bed-12/disable?x", "{}");
        assert_eq!(off, "POST /v1/admin/devices/bed-12/disable");
        let slot = said("/v1/admin/streams/profile", r#"{"stream":"bed-12/ecg"}"#);
        assert_eq!(slot, "POST /v1/admin/streams/profile bed-12/ecg");
        let order = |what: &str| {
            let body = format!(r#"{{"device":"bed-12","command":{{"do":"{what}"}}}}"#);
            said("/v1/admin/commands", &body)
        };
        assert_eq!(order("stop"), "POST /v1/admin/commands bed-12 stop");
        assert_eq!(order("sing"), "POST /v1/admin/commands bed-12");
        for odd in ["", "[]", r#"{"id":"A\nB"}"#, r#"{"id":7}"#, "\u{0}"] {
            assert_eq!(said(devices, odd), "POST /v1/admin/devices");
        }
        let long = said(&format!("/v1/admin/devices/{}", "a".repeat(4000)), "{}");
        assert_eq!(long.len(), limits::TRAIL_FORMAT_BYTES_MAX);
    }
}
