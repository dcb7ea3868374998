//! The doors: one folder per protocol. A door knows sockets and its protocol's session; what becomes of
//! an arrival is the core's business.

pub mod mqtt;
