//! What ours is measured against.

pub mod bare;
