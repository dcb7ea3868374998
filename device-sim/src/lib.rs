//! A fleet of simulated devices: WFDB records or synthetic ECG over MQTT or ZeroMQ, kept until
//! acknowledged.
//!
//! ```text
//!  wfdb | ecgsyn ─▶ source ─▶ maker ─▶ spool ─▶ encoding ─▶ link (rumqttc | zeromq) ─▶ a door
//!                    timetable ─┘ ▲       ▲ state  orders ◀──┤ commands
//!                    faults ──────┴───────┴── acked, standing ┴▶ --acked FILE (fsynced)
//! ```
//!
//! `wfdb`, `ecgsyn`, `timetable`, `maker`, `spool`, `orders`, `encoding` and `faults` decide and know no
//! clock or network; `link`, `device`, `acked`, `state` and `fleet` do. The demo uses the library,
//! everybody else the binary `device-sim`.

mod acked;
mod credentials;
mod device;
mod dice;
mod encoding;
mod faults;
mod fleet;
mod leads;
mod link;
mod maker;
mod orders;
mod report;
mod source;
mod standing;
mod state;
mod tally;

pub mod ecgsyn;
pub mod spool;
pub mod timetable;
pub mod wfdb;

pub use credentials::Credentials;
pub use encoding::Encoding;
pub use faults::Faults;
pub use fleet::{Config, Fleet, FleetHandle};
pub use link::{Endpoint, Mqtt, Protocol};
pub use orders::parse_rate;
pub use report::{DeviceReport, Report};
pub use source::Source;
pub use tally::Stats;
pub use timetable::Pace;
