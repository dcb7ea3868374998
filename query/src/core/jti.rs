//! Each request token is good once, also across restarts (formats.md 8).
//!
//! A token's id is remembered until the token has expired, by the clock that never goes back: a token
//! that has expired is refused for that reason and needs no memory. The trail holds every id that was
//! answered, so the memory is rebuilt from its last minutes at start. The memory is bounded; when it is
//! full, requests are refused rather than ids forgotten.

use std::collections::{BTreeMap, BTreeSet};

use chordae_base::KeyId;

/// See the module.
#[derive(Debug, Default)]
pub struct JtiMemory {
    seen: BTreeSet<(KeyId, String)>,
    by_expiry: BTreeMap<(i64, u64), (KeyId, String)>,
    count: u64,
    most: usize,
}

/// What a memory says to a token id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// First seen now, and remembered.
    First,
    /// Seen before.
    Again,
    /// No room to remember it.
    Full,
}

impl JtiMemory {
    /// An empty memory for at most `most` ids.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Takes the id of a token that expires at `expires_s`; `now_s` never goes back.
    pub fn take(&mut self, kid: KeyId, jti: &str, expires_s: i64, now_s: i64) -> Once {
        self.forget(now_s);
        let id = (kid, jti.to_owned());
        if self.seen.contains(&id) {
            return Once::Again;
        }
        if self.seen.len() >= self.most {
            return Once::Full;
        }
        self.count += 1;
        self.by_expiry.insert((expires_s, self.count), id.clone());
        self.seen.insert(id);
        Once::First
    }

    /// Forgets ids whose tokens have expired.
    fn forget(&mut self, now_s: i64) {
        while let Some(entry) = self.by_expiry.first_entry() {
            if entry.key().0 > now_s {
                return;
            }
            self.seen.remove(&entry.remove());
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: KeyId = KeyId([1; 32]);
    const B: KeyId = KeyId([2; 32]);

    #[test]
    fn once_per_key_until_expiry() {
        let mut memory = JtiMemory::new(10);
        assert_eq!(memory.take(A, "x", 100, 50), Once::First);
        assert_eq!(memory.take(A, "x", 100, 50), Once::Again);
        assert_eq!(
            memory.take(A, "x", 900, 99),
            Once::Again,
            "a later expiry is the same id"
        );
        assert_eq!(
            memory.take(B, "x", 100, 50),
            Once::First,
            "nobody can burn another's ids"
        );
        // At 100 the token is expired, and refused for that; only then is its id forgotten.
        assert_eq!(memory.take(A, "y", 200, 100), Once::First);
        assert_eq!(memory.len(), 1);
    }

    #[test]
    fn full_refuses_and_forgets_nothing() {
        let mut memory = JtiMemory::new(2);
        assert_eq!(memory.take(A, "1", 100, 0), Once::First);
        assert_eq!(memory.take(A, "2", 100, 0), Once::First);
        assert_eq!(memory.take(A, "3", 100, 0), Once::Full);
        assert_eq!(memory.take(A, "1", 100, 0), Once::Again);
        assert_eq!(memory.take(A, "3", 200, 100), Once::First);
    }
}
