//! Who may come in, how often: so that one device that connects in a storm, or one address that opens
//! sockets and says nothing, costs the others nothing.
//!
//! ```text
//! accept ─▶ places in all ─▶ of this address: unknown peers, connects per second ─▶ handshake
//!        ─▶ identity ─▶ connects of this identity per second ─▶ session
//! ```
//!
//! An identity that connects too often is refused before its session hears of it: the connection that
//! stands is not touched. Addresses are counted on TLS listeners only: there a connect costs us a
//! signature, and many devices may share an address, so that their bound is a wide one. What is remembered
//! is bounded; the forgotten begin anew.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use chordae_base::limits;

/// What may come at once, and what is added each second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    pub(super) burst: f64,
    pub(super) per_second: f64,
}

impl Rate {
    pub(super) const fn new(per_second: u32, burst: u32) -> Self {
        Self {
            burst: burst as f64,
            per_second: per_second as f64,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at_ns: u64,
}

/// Buckets of tokens by key.
#[derive(Debug)]
struct Buckets<K> {
    rate: Rate,
    by_key: BTreeMap<K, Bucket>,
}

impl<K: Ord> Buckets<K> {
    fn take(&mut self, key: K, now_ns: u64) -> bool {
        if self.by_key.len() >= limits::GATE_KEYS_MAX && !self.by_key.contains_key(&key) {
            self.forget_full(now_ns);
        }
        let rate = self.rate;
        let bucket = self.by_key.entry(key).or_insert(Bucket {
            left: rate.burst,
            at_ns: now_ns,
        });
        bucket.left = rate.refilled(bucket, now_ns);
        bucket.at_ns = now_ns;
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }

    /// A full bucket is as good as none. If none is full, all are forgotten: a wrong guess lets in, for a
    /// moment, and keeps nobody out.
    fn forget_full(&mut self, now_ns: u64) {
        let rate = self.rate;
        self.by_key
            .retain(|_, bucket| rate.refilled(bucket, now_ns) < rate.burst);
        if self.by_key.len() >= limits::GATE_KEYS_MAX {
            self.by_key.clear();
        }
    }
}

impl Rate {
    fn refilled(self, bucket: &Bucket, now_ns: u64) -> f64 {
        let seconds = now_ns.saturating_sub(bucket.at_ns) as f64 / 1e9;
        (bucket.left + seconds * self.per_second).min(self.burst)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    identities: Mutex<Buckets<String>>,
    addresses: Mutex<Buckets<IpAddr>>,
    /// Peers without an identity yet, by address.
    unknown: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Gate {
    pub(super) fn new(identities: Rate, addresses: Rate) -> Self {
        let (by_id, by_address) = (BTreeMap::new(), BTreeMap::new());
        Self {
            identities: Mutex::new(Buckets {
                rate: identities,
                by_key: by_id,
            }),
            addresses: Mutex::new(Buckets {
                rate: addresses,
                by_key: by_address,
            }),
            unknown: Mutex::default(),
        }
    }

    /// Whether an identity may take up its session now.
    pub(super) fn admits(&self, key: &str, now_ns: u64) -> bool {
        let mut identities = self
            .identities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        identities.take(key.to_owned(), now_ns)
    }

    /// Whether an address may begin a handshake now.
    pub(super) fn admits_from(&self, address: IpAddr, now_ns: u64) -> bool {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        addresses.take(address, now_ns)
    }

    /// A place among the unknown of this address, given back by [`Self::known`].
    pub(super) fn unknown_from(&self, address: IpAddr) -> bool {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let count = unknown.entry(address).or_default();
        let fits = *count < limits::UNKNOWN_PER_ADDRESS_MAX;
        if fits {
            *count += 1;
        }
        fits
    }

    /// A peer of this address is known now, or gone.
    pub(super) fn known(&self, address: IpAddr) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = unknown.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                unknown.remove(&address);
            }
        }
    }
}

/// A place among the unknown peers of an address, until it is dropped.
pub(super) struct Unknown {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Unknown {
    /// None when the address has as many as it may.
    pub(super) fn place(gate: &Arc<Gate>, address: IpAddr) -> Option<Self> {
        let gate = Arc::clone(gate);
        gate.unknown_from(address).then(|| Self { gate, address })
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        self.gate.known(self.address);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(
            Rate::new(limits::CONNECTS_PER_ID, limits::CONNECTS_PER_ID_BURST),
            Rate::new(
                limits::CONNECTS_PER_ADDRESS,
                limits::CONNECTS_PER_ADDRESS_BURST,
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn gate() -> Gate {
        Gate::new(Rate::new(2, 3), Rate::new(10, 20))
    }

    #[test]
    fn a_storm_of_one_identity_takes_from_itself_only() {
        let gate = gate();
        let storm = (0..100).filter(|_| gate.admits("device:a", 0)).count();
        assert_eq!(storm, 3);
        assert!(gate.admits("device:b", 0));
        assert!(!gate.admits("device:a", SECOND / 4));
        let later = (0..100).filter(|_| gate.admits("device:a", SECOND)).count();
        assert_eq!(later, 2, "two a second");
        let much_later = 1_000 * SECOND;
        let full = (0..100).filter(|_| gate.admits("device:a", much_later));
        assert_eq!(full.count(), 3, "never more than the burst");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let gate = gate();
        for n in 0..2 * limits::GATE_KEYS_MAX {
            gate.admits(&n.to_string(), 0);
        }
        assert!(gate.identities.lock().unwrap().by_key.len() <= limits::GATE_KEYS_MAX);
    }

    #[test]
    fn the_unknown_of_an_address_have_places_of_their_own() {
        let gate = gate();
        let [a, b] = ["127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap());
        let taken = (0..2 * limits::UNKNOWN_PER_ADDRESS_MAX)
            .filter(|_| gate.unknown_from(a))
            .count();
        assert_eq!(taken, limits::UNKNOWN_PER_ADDRESS_MAX);
        assert!(gate.unknown_from(b));
        gate.known(a);
        assert!(gate.unknown_from(a));
        gate.known(b);
        assert!(!gate.unknown.lock().unwrap().contains_key(&b));
    }
}
