//! What is decided here: admission, batches, tiles, indexes, and which heads are due. Pure values: no
//! clock, disk, socket or thread; `now` comes in as input.

pub mod admit;
pub mod batch;
pub mod index;
pub mod notary;
pub mod ports;
pub mod run;
pub mod tree;
pub mod witness;
