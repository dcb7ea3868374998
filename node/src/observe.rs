//! `/metrics`, `/livez`, `/readyz`: what an operator's machines ask.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus::{IntGauge, Registry, TextEncoder};

/// Why the server is not ready; empty when it is. Set by whoever knows, read by `/readyz`.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    reasons: Arc<Mutex<Vec<(&'static str, String)>>>,
    notes: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Readiness {
    /// Says that a part is not ready, and why; `None` takes it back.
    pub fn set(&self, part: &'static str, reason: Option<String>) {
        put(&self.reasons, part, reason);
    }

    /// Says what is worth knowing and keeps nobody from being ready; `None` takes it back.
    pub fn note(&self, part: &'static str, note: Option<String>) {
        put(&self.notes, part, note);
    }

    /// One line per part that is not ready.
    pub fn reasons(&self) -> Vec<String> {
        lines(&self.reasons)
    }
}

type Said = Mutex<Vec<(&'static str, String)>>;

// A panic elsewhere cannot leave a plain list half-changed: its content is still right.
fn put(said: &Said, part: &'static str, what: Option<String>) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.retain(|(name, _)| *name != part);
    said.extend(what.map(|what| (part, what)));
}

fn lines(said: &Said) -> Vec<String> {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.iter()
        .map(|(part, what)| format!("{part}: {what}"))
        .collect()
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
        let notes: String = lines(&ready.notes)
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        return (StatusCode::OK, format!("ready\n{notes}"));
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

async fn metrics(State((registry, _)): State<(Registry, Readiness)>) -> (StatusCode, String) {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {e}\n")),
    }
}

/// `chordae_build_info`, and the expiry of our certificate: whoever reads the certificate sets it.
///
/// # Errors
/// When a metric of that name is there already.
pub fn describe(registry: &Registry) -> prometheus::Result<IntGauge> {
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
    registry.register(Box::new(expiry.clone()))?;
    Ok(expiry)
}
