//! A fleet of simulated devices: WFDB records or synthetic ECG over MQTT, kept until acknowledged.
//!
//! ```text
//!  wfdb | ecgsyn ─▶ source ─▶ maker ─▶ spool ─▶ link (rumqttc) ─▶ a door
//!                    timetable ─┘         ▲         │
//!                    faults ──────────────┴─ acked ─┴▶ --acked FILE (fsynced)
//! ```
//!
//! `wfdb`, `ecgsyn`, `timetable`, `maker`, `spool` and `faults` decide and know no clock or network;
//! `link`, `device`, `acked` and `fleet` do. The demo uses the library, everybody else the binary
//! `device-sim`.

mod acked;
mod credentials;
mod device;
mod dice;
mod faults;
mod fleet;
mod leads;
mod link;
mod maker;
mod source;
mod tally;

pub mod ecgsyn;
pub mod spool;
pub mod timetable;
pub mod wfdb;

pub use acked::line as acked_line;
pub use credentials::Credentials;
pub use device::DeviceReport;
pub use faults::Faults;
pub use fleet::{Config, Fleet, FleetHandle, Report};
pub use link::{Endpoint, Mqtt};
pub use source::Source;
pub use tally::Stats;
pub use timetable::Pace;
