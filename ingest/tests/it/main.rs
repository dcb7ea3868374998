//! Ingest, from the outside: rules by table and by model, sessions byte by byte, real sockets, restarts.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod door;
mod fanout;
mod model;
mod rules;
mod service;
mod session;
mod support;
