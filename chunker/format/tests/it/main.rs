//! Chunks from the outside: what is written, what is refused, what it costs.

mod common;
mod golden;
mod hostile;
mod roundtrip;
