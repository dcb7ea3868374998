//! Nothing; see `Cargo.toml` beside it, and `tests/binaries`.
