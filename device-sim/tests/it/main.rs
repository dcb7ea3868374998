//! Integration tests of the simulated fleet.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod command;
mod ecg;
mod frames;
mod misbehave;
mod obey;
mod records;
mod router;
mod server;
mod spool;

/// The shared real records, or `None` (said aloud) where they are not; under CI that is a failure.
fn shared(name: &str) -> Option<std::path::PathBuf> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/ecg")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing",
        path.display()
    );
    eprintln!("SKIPPED: {} is missing", path.display());
    None
}
