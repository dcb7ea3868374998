//! The checker: verifies a data folder, a chunk or a proof bundle, trusting no other part.
