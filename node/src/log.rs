//! Logs go to stderr, one event a line, control bytes escaped; `RUST_LOG` chooses.

use tracing_subscriber::{
    EnvFilter, Layer, fmt,
    layer::{Layered, SubscriberExt},
    registry::Registry,
    util::SubscriberInitExt,
};

// rumqttd logs each monitor's comings and goings as warnings.
const USUAL: &str = "info,rumqttd=off,rumqttc=off";
const QUIET: &str = "error,rumqttd=off,rumqttc=off";

/// The log, as something may be put on top of it.
pub type Logged = Layered<Box<dyn Layer<Registry> + Send + Sync>, Registry>;

/// Starts logging; a second call changes nothing.
pub fn start() {
    start_with(USUAL);
}

/// As [`start`], for the demo, whose own lines tell the story.
pub fn start_quiet() {
    start_with(QUIET);
}

/// As [`start`], with another listener beside the log, which hears what it asks for and not what the log does.
pub fn start_beside(other: impl Layer<Logged> + Send + Sync) {
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let log: Box<dyn Layer<Registry> + Send + Sync> = Box::new(log.with_filter(filter(USUAL)));
    tracing_subscriber::registry()
        .with(log)
        .with(other)
        .try_init()
        .ok();
}

fn start_with(default: &str) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(default))
        .with_writer(std::io::stderr);
    // It fails only if a test or the demo has started it already.
    subscriber.with_ansi(false).try_init().ok();
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}
