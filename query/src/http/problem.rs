//! Errors as `application/problem+json` (RFC 9457), and nothing in them that the asker may not know.
//!
//! `type` is `urn:chordae:problem:{code}`; the code is also the reason in the metric and the outcome in
//! the trail. Details of our own failures go to the log, not to the asker.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chordae_base::{Failure, FailureKind};
use serde_json::json;

use crate::core::access::{Denied, Grant};

/// Parts named in a refusal at most.
const PARTS_MAX: usize = 100;

/// Why a request is not answered.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    allowed: Vec<Grant>,
    /// After how many seconds it may be tried again.
    retry_s: u64,
}

impl Problem {
    /// A problem; `code` is kebab-case and one of few.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            allowed: Vec::new(),
            retry_s: 1,
        }
    }

    /// Not who the request says, whatever is wrong with it: one body for all.
    pub fn unknown_caller() -> Self {
        let detail = "the request needs a fresh token, signed by a key that is known here";
        Self::new(StatusCode::UNAUTHORIZED, "token", detail)
    }

    /// No such stream, for this party: one body for unknown and forbidden.
    pub fn hidden() -> Self {
        let detail = "there is no such stream, or none that this party may see";
        Self::new(StatusCode::NOT_FOUND, "stream", detail)
    }

    /// Too much at one time.
    pub fn busy(detail: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail)
    }

    /// Too much of one party, for so long.
    pub fn slow_down(wait_ns: u64) -> Self {
        let detail = "more requests than one party may send: wait";
        Self {
            retry_s: wait_ns.div_ceil(1_000_000_000).max(1),
            ..Self::busy(detail)
        }
    }

    /// Its code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let ours = |status, code, detail| {
            tracing::error!(%failure, "a request failed");
            Self::new(status, code, detail)
        };
        match failure.kind {
            FailureKind::BadInput => Self::new(StatusCode::BAD_REQUEST, "bad-request", failure.why),
            FailureKind::Refused => Self::new(StatusCode::FORBIDDEN, "refused", failure.why),
            FailureKind::NotFound => Self::new(StatusCode::NOT_FOUND, "not-found", failure.why),
            FailureKind::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", failure.why)
            }
            FailureKind::Damaged => {
                let detail = "stored data contradict each other and are not served";
                ours(StatusCode::INTERNAL_SERVER_ERROR, "damaged", detail)
            }
            FailureKind::Io => {
                let detail = "the node cannot read or write what it must: try again later";
                ours(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            }
            FailureKind::Internal => ours(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "a bug of ours, see our log",
            ),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Hidden => Self::hidden(),
            Denied::SessionNotLive => Self::new(
                StatusCode::FORBIDDEN,
                "session",
                "the session is unknown, revoked, expired or not made out to this key",
            ),
            Denied::Exceeds(mut allowed) => {
                allowed.truncate(PARTS_MAX);
                let detail =
                    "more than one grant of the session allows: ask for a part, or with clip=true";
                Self {
                    allowed,
                    ..Self::new(StatusCode::FORBIDDEN, "window", detail)
                }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:chordae:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.allowed.is_empty() {
            let part = |g: &Grant| json!({ "from_ns": g.from_ns, "until_ns": g.until_ns, "leads": g.leads });
            body["allowed"] = self.allowed.iter().map(part).collect();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Chordae"),
            );
        }
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_s));
        }
        response
    }
}
