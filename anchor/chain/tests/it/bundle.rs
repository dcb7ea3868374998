//! Proof bundles.
