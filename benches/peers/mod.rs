//! What ours is measured against.

pub mod bare;
pub mod ingest;
pub mod plot;
pub mod serve;
