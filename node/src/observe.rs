//! `/metrics`, `/livez`, `/readyz`: what an operator's machines ask.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus::{IntGauge, Registry, TextEncoder};

/// Why the server is not ready; empty when it is. Set by whoever knows, read by `/readyz`.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    reasons: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Readiness {
    /// Says that a part is not ready, and why; `None` takes it back.
    pub fn set(&self, part: &'static str, reason: Option<String>) {
        // A panic elsewhere cannot leave a plain list half-changed: its content is still right.
        let mut reasons = self
            .reasons
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        reasons.retain(|(name, _)| *name != part);
        reasons.extend(reason.map(|why| (part, why)));
    }

    /// One line per part that is not ready.
    pub fn reasons(&self) -> Vec<String> {
        let reasons = self
            .reasons
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        reasons
            .iter()
            .map(|(part, why)| format!("{part}: {why}"))
            .collect()
    }
}

/// The probes and metrics of one server.
pub fn router(registry: Registry, ready: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state((registry, ready))
}

async fn readyz(State((_, ready)): State<(Registry, Readiness)>) -> (StatusCode, String) {
    let reasons = ready.reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

async fn metrics(State((registry, _)): State<(Registry, Readiness)>) -> (StatusCode, String) {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {e}\n")),
    }
}

/// `chordae_build_info` and the expiry of our certificate.
///
/// # Errors
/// When a metric of that name is there already.
pub fn describe(registry: &Registry, certificate_expiry_s: i64) -> prometheus::Result<()> {
    let opts = prometheus::Opts::new(
        "chordae_build_info",
        "Always 1; the labels say which build runs.",
    )
    .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = IntGauge::with_opts(opts)?;
    build.set(1);
    registry.register(Box::new(build))?;
    let expiry = IntGauge::new(
        "chordae_certificate_expiry_timestamp_seconds",
        "When the server's certificate ends.",
    )?;
    expiry.set(certificate_expiry_s);
    registry.register(Box::new(expiry))
}
