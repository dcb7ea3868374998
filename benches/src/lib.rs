//! Measurements: stages, peers and published evaluations.
