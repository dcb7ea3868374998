//! When the `ack` topic is written, and what (formats.md 2): per stream at most once a second and only
//! when there is news, and at once after a birth.

use std::collections::{BTreeMap, BTreeSet};

use chordae_base::{StreamKey, limits};
use serde::Serialize;

use crate::core::arrival::Standing;

/// Questions that may be open at a time.
pub const ASKING_MAX: usize = 256;

/// Which boots have news for the `ack` topic.
#[derive(Debug, Clone, Default)]
pub struct News {
    dirty: BTreeMap<StreamKey, u64>,
    asking: BTreeSet<StreamKey>,
    asked_ns: BTreeMap<StreamKey, u64>,
}

impl News {
    /// Something became durable or was refused; with `at_once` the pause is waived.
    pub fn note(&mut self, stream: &StreamKey, boot: u64, at_once: bool) {
        self.dirty.insert(stream.clone(), boot);
        if at_once {
            self.asked_ns.remove(stream);
        }
    }

    /// The boots to ask about now.
    pub fn due(&mut self, now_ns: u64) -> Vec<(StreamKey, u64)> {
        let pause = u64::try_from(limits::ACK_EVERY.as_nanos()).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        for (stream, boot) in &self.dirty {
            let waits = self
                .asked_ns
                .get(stream)
                .is_some_and(|at| now_ns - at.min(&now_ns) < pause);
            let asked = self.asking.contains(stream);
            if !waits && !asked && self.asking.len() + due.len() < ASKING_MAX {
                due.push((stream.clone(), *boot));
            }
        }
        for (stream, _) in &due {
            self.dirty.remove(stream);
            self.asking.insert(stream.clone());
            self.asked_ns.insert(stream.clone(), now_ns);
        }
        due
    }

    /// The answer is there.
    pub fn answered(&mut self, stream: &StreamKey) {
        self.asking.remove(stream);
    }
}

/// The JSON of the `ack` topic.
pub fn json(standing: &Standing) -> Option<String> {
    #[derive(Serialize)]
    struct Ack<'a> {
        stream: &'a str,
        boot: u64,
        durable: &'a [(u64, u64)],
        /// Empty while the store lives and dies with this node.
        archived: [(u64, u64); 0],
        refused: &'a [(u64, u64, &'static str)],
        boots: &'a [u64],
    }
    let ack = Ack {
        stream: standing.stream.stream.as_str(),
        boot: standing.boot,
        durable: &standing.durable,
        archived: [],
        refused: &standing.refused,
        boots: &standing.boots,
    };
    serde_json::to_string(&ack).ok()
}
