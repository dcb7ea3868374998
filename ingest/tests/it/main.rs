//! Ingest, from the outside: rules by table and by model, sessions byte by byte, real sockets, restarts.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod bridge;
mod desk;
mod door;
mod exchange_commands;
mod exchange_model;
mod exchange_sessions;
mod exchange_stage;
mod exchange_thread;
mod exchange_topics;
mod fanout;
mod gaps;
mod model;
mod rows_connect;
mod rows_door;
mod rows_packets;
mod rows_publish;
mod rows_websocket;
mod rules;
mod rules_clock;
mod service;
mod session;
mod spool;
mod support;
mod unreplayable;
mod uplink;
mod uplink_model;
mod ward;
mod wire;
mod zmq_door;
mod zmq_numbers;
mod zmq_rows;
mod zmq_session;
mod zmq_ward;
mod zmtp;
