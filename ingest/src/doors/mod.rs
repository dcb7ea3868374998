//! The doors: one folder per protocol. A door knows sockets and its protocol's session; what becomes of
//! an arrival is the core's business.

pub(crate) mod capped;
mod gate;
mod guest;
mod linger;
mod listener;
pub mod mqtt;
pub mod tls;
pub mod zmq;

pub use listener::{Door, DoorSettings};
