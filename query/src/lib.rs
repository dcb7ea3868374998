//! The access rule, the window service, proofs and the trail.
