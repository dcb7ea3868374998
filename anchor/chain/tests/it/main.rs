//! One binary for all integration tests of the crate.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken setting must fail the test, also where a helper makes it"
)]

mod bench_keys;
mod bundle;
mod bundle_case;
mod cosignatures;
mod ed25519_strict;
mod event_formats;
mod fresh;
mod golden_meta;
mod inventory_formats;
mod joined;
mod key_independence;
mod party_formats;
mod policies;
mod rotation;
mod shared;
mod stream;
mod vectors_digests;
