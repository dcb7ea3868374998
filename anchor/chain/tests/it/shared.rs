//! Finds `../shared`, the vectors of the second implementation, next to the workspace.

use std::path::PathBuf;

/// The text of a shared file; `None` (after saying so) where it is missing and that is allowed.
pub(crate) fn text(name: &str) -> Option<String> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = here
        .ancestors()
        .nth(3)
        .expect("the workspace has a parent")
        .join("shared")
        .join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("{}: {e}", path.display())
        }
        Err(e) => {
            eprintln!("SKIPPED: {}: {e}", path.display());
            None
        }
    }
}

/// The JSON of a shared file.
pub(crate) fn json(name: &str) -> Option<serde_json::Value> {
    text(name).map(|text| serde_json::from_str(&text).expect("a vector is JSON"))
}
