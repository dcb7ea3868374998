//! What is fuzzed, and what must hold for any bytes.
//!
//! ```text
//! ./test  ─▶ tests/it: corpus replayed, then mutations of it by a seeded generator (thousands each)
//! ./fuzz  ─▶ main.rs: the same functions under libFuzzer, a million runs each and more
//! ```
//!
//! A target is a function of bytes that panics when a rule is broken. "No crash" is the least of them: what
//! is taken must survive being written and read again, and how bytes are cut into reads must not matter.

pub mod mqtt;
pub mod session;
pub mod websocket;
pub mod wire;
pub mod zmtp;

/// One target: its name, the function, and bytes that it takes, to begin with.
pub struct Target {
    /// Name of its corpus folder.
    pub name: &'static str,
    /// Panics when a rule is broken.
    pub run: fn(&[u8]),
    /// Good inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "birth",
        run: wire::birth,
        seeds: wire::birth_seeds,
    },
    Target {
        name: "birth-json",
        run: wire::birth_json,
        seeds: wire::birth_json_seeds,
    },
    Target {
        name: "frame",
        run: wire::frame,
        seeds: wire::frame_seeds,
    },
    Target {
        name: "frame-json",
        run: wire::frame_json,
        seeds: wire::frame_json_seeds,
    },
    Target {
        name: "mqtt",
        run: mqtt::packets,
        seeds: mqtt::seeds,
    },
    Target {
        name: "mqtt-session",
        run: session::mqtt,
        seeds: mqtt::seeds,
    },
    Target {
        name: "zmq-session",
        run: session::zmq,
        seeds: session::zmq_seeds,
    },
    Target {
        name: "websocket",
        run: websocket::stream,
        seeds: websocket::seeds,
    },
    Target {
        name: "zmtp",
        run: zmtp::peer,
        seeds: zmtp::seeds,
    },
];
