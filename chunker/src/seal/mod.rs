//! Sealing: from an order to a linked chunk, steps c and d of the order of truth.

pub mod build;
pub mod cache;
pub mod sealer;
