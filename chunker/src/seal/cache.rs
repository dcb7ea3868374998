//! Payloads of frames in open buckets, so that a seal in ordinary life reads no log.
//!
//! Bounded; when it is full, newer payloads stay out and are read from the WAL at their seal: the
//! older ones are sealed first, so they are the better use of the room.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use chordae_base::limits::PAYLOAD_CACHE_BYTES_MAX;

/// Bytes that an entry costs beside its payload.
const ENTRY_BYTES: usize = 96;

#[derive(Debug, Default)]
struct Kept {
    payloads: BTreeMap<u64, Bytes>,
    bytes: usize,
}

/// Shared by the windower's thread, which fills it, and the sealer.
#[derive(Debug)]
pub struct PayloadCache {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

impl Default for PayloadCache {
    fn default() -> Self {
        Self::new(PAYLOAD_CACHE_BYTES_MAX)
    }
}

impl PayloadCache {
    /// A cache of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            bytes_max,
        }
    }

    /// Keeps the payload of the frame at a WAL position, if there is room.
    pub fn keep(&self, position: u64, payload: &Bytes) {
        let mut kept = self.kept();
        let cost = payload.len() + ENTRY_BYTES;
        if kept.bytes + cost <= self.bytes_max && !kept.payloads.contains_key(&position) {
            kept.payloads.insert(position, payload.clone());
            kept.bytes += cost;
        }
    }

    /// The payload, if it was kept.
    pub fn get(&self, position: u64) -> Option<Bytes> {
        self.kept().payloads.get(&position).cloned()
    }

    /// Forgets a payload.
    pub fn forget(&self, position: u64) {
        let mut kept = self.kept();
        if let Some(payload) = kept.payloads.remove(&position) {
            kept.bytes -= payload.len() + ENTRY_BYTES;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_oldest_within_its_bound_and_takes_room_back() {
        let cache = PayloadCache::new(2 * (10 + ENTRY_BYTES));
        let payload = Bytes::from_static(b"0123456789");
        for position in [1, 2, 3] {
            cache.keep(position, &payload);
        }
        assert!(cache.get(1).is_some() && cache.get(2).is_some());
        assert!(cache.get(3).is_none(), "no room");
        cache.forget(1);
        cache.forget(1);
        cache.keep(3, &payload);
        assert_eq!(cache.get(3), Some(payload));
    }
}
