//! One binary for all integration tests of the crate.

mod bench_keys;
mod event_formats;
mod party_formats;
mod bundle;
mod golden_meta;
mod shared;
mod vectors_digests;
