//! What ingest decides. Values only: no clock, disk, socket, thread or async; `now` comes in as input
//! and effects go out as data (see [`state::Core::step`] and [`mqtt::session::Session`]).

pub mod admission;
pub mod arrival;
pub mod aside;
pub mod bridge;
pub mod clock;
pub mod decode;
pub mod dedupe;
pub mod exchange;
pub mod gateway;
pub mod identify;
pub mod judge;
pub mod mqtt;
pub mod park;
pub mod ports;
pub mod quarantined;
pub mod release;
pub mod saved;
pub mod sight;
pub mod state;
pub mod steady;
pub mod zmq;
pub mod zmtp;
