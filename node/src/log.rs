//! Logs go to stderr, one event a line, control bytes escaped; `RUST_LOG` chooses.

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call changes nothing.
pub fn start() {
    // rumqttd logs each monitor's comings and goings as warnings.
    start_with("info,rumqttd=off,rumqttc=off");
}

/// As [`start`], for the demo, whose own lines tell the story.
pub fn start_quiet() {
    start_with("error,rumqttd=off,rumqttc=off");
}

fn start_with(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // It fails only if a test or the demo has started it already.
    subscriber.with_ansi(false).try_init().ok();
}
