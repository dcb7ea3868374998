//! What devices did, in the end.

use std::collections::BTreeMap;

use chordae_base::{Failure, RangeSet, StreamKey};

use crate::tally::Stats;

/// What one device did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// The stream.
    pub key: StreamKey,
    /// The boots it began, in order.
    pub boots: Vec<u64>,
    /// Frames made, or owed from before a crash.
    pub made: u64,
    /// Seqs acknowledged, by boot.
    pub acked: BTreeMap<u64, RangeSet>,
    /// Samples per lead in them.
    pub samples: u64,
    /// Frames and births refused for good, by reason: an MQTT 5 code (`0x99`), the label of a nack, or
    /// at QoS 0 what the `ack` topic said.
    pub refused: BTreeMap<String, u64>,
    /// Seqs that the `ack` topic said are refused, by reason; to a device of 3.1.1 the only word of it.
    pub told: BTreeMap<String, u64>,
    /// Frames that a full spool had no room for, or that a fault lost.
    pub lost: u64,
    /// Frames still owed at the end.
    pub owed: u64,
    /// How often it connected.
    pub connections: u64,
    /// Commands executed.
    pub obeyed: u64,
    /// Why the last connection ended or failed, where it was not this device's wish; or what was
    /// refused last.
    pub trouble: Option<String>,
    /// What ended the device before its stream.
    pub failure: Option<Failure>,
}

impl DeviceReport {
    pub(crate) fn new(key: StreamKey) -> Self {
        Self {
            key,
            boots: Vec::new(),
            made: 0,
            acked: BTreeMap::new(),
            samples: 0,
            refused: BTreeMap::new(),
            told: BTreeMap::new(),
            lost: 0,
            owed: 0,
            connections: 0,
            obeyed: 0,
            trouble: None,
            failure: None,
        }
    }
}

/// What a fleet did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The last count.
    pub stats: Stats,
    /// Each device, in the order of the configuration.
    pub devices: Vec<DeviceReport>,
}

impl Report {
    /// Frames made but neither acknowledged nor refused for good.
    pub fn owed(&self) -> u64 {
        self.devices.iter().map(|d| d.owed).sum()
    }

    /// What was refused, by reason.
    pub fn refused(&self) -> BTreeMap<&str, u64> {
        sum(self.devices.iter().flat_map(|d| &d.refused))
    }

    /// What the `ack` topic said was refused, by reason.
    pub fn told(&self) -> BTreeMap<&str, u64> {
        sum(self.devices.iter().flat_map(|d| &d.told))
    }

    /// The first thing that ended a device before its stream.
    pub fn failure(&self) -> Option<&Failure> {
        self.devices.iter().find_map(|d| d.failure.as_ref())
    }

    /// The last trouble that any device had with its connection.
    pub fn trouble(&self) -> Option<&str> {
        self.devices.iter().find_map(|d| d.trouble.as_deref())
    }
}

fn sum<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> BTreeMap<&'a str, u64> {
    let mut all = BTreeMap::new();
    for (reason, n) in counts {
        *all.entry(reason.as_str()).or_default() += n;
    }
    all
}
