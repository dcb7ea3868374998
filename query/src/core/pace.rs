//! How much of the service one party may take: so many requests per second, and so many answers at a time.
//!
//! Each party has a bucket that fills with time (the generic cell rate algorithm: one number per party).
//! What a party may not have now, it is told when to come back for. Parties who are at rest are forgotten,
//! so the memory is bounded; if all of it is taken by parties who are not, a new one waits.

use std::collections::BTreeMap;

use chordae_base::{Digest, KeyId, limits};

const SECOND_NS: u64 = 1_000_000_000;
/// What one request costs, ns of the bucket.
const COST_NS: u64 = SECOND_NS / limits::PARTY_REQUESTS_PER_S;
/// How far ahead of the clock a bucket may be.
const BURST_NS: u64 = COST_NS * limits::PARTY_REQUESTS_BURST;

/// Who counts as one: a party, or a party on one of her sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A party.
    Party(KeyId),
    /// A session.
    Session(Digest),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// When each bucket is empty again, monotonic ns.
    empty_ns: BTreeMap<KeyId, u64>,
    /// Answers that are being made or taken.
    at_work: BTreeMap<Who, usize>,
}

impl Pace {
    /// Counts a request, or says in how many ns one would be taken.
    ///
    /// # Errors
    /// The wait.
    pub fn request(&mut self, party: KeyId, now_ns: u64) -> Result<(), u64> {
        if !self.empty_ns.contains_key(&party) && self.empty_ns.len() >= limits::PARTIES_PACED_MAX {
            self.empty_ns.retain(|_, at| *at > now_ns);
            if self.empty_ns.len() >= limits::PARTIES_PACED_MAX {
                return Err(SECOND_NS);
            }
        }
        let at = self.empty_ns.entry(party).or_insert(now_ns);
        let from = (*at).max(now_ns);
        let ahead = from - now_ns + COST_NS;
        if ahead > BURST_NS {
            return Err(ahead - BURST_NS);
        }
        *at = from + COST_NS;
        Ok(())
    }

    /// Counts an answer of a party, on a session if there is one; whether there was room.
    pub fn begin(&mut self, party: KeyId, session: Option<Digest>) -> bool {
        let counted = who(party, session);
        let full = counted.iter().flatten().any(|(who, most)| {
            let taken = self.at_work.get(who).copied().unwrap_or(0);
            taken >= *most
        });
        if full {
            return false;
        }
        for (who, _) in counted.into_iter().flatten() {
            *self.at_work.entry(who).or_insert(0) += 1;
        }
        true
    }

    /// An answer that was counted has ended.
    pub fn end(&mut self, party: KeyId, session: Option<Digest>) {
        for (who, _) in who(party, session).into_iter().flatten() {
            if let Some(taken) = self.at_work.get_mut(&who) {
                *taken = taken.saturating_sub(1);
                if *taken == 0 {
                    self.at_work.remove(&who);
                }
            }
        }
    }
}

fn who(party: KeyId, session: Option<Digest>) -> [Option<(Who, usize)>; 2] {
    [
        Some((Who::Party(party), limits::PARTY_ANSWERS_MAX)),
        session.map(|sid| (Who::Session(sid), limits::SESSION_ANSWERS_MAX)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: KeyId = KeyId([1; 32]);
    const B: KeyId = KeyId([2; 32]);

    #[test]
    fn a_burst_then_the_rate_and_nobody_pays_for_another() {
        let mut pace = Pace::default();
        let burst = limits::PARTY_REQUESTS_BURST;
        assert!((0..burst).all(|_| pace.request(A, 7).is_ok()));
        let wait = pace.request(A, 7).unwrap_err();
        assert_eq!(wait, COST_NS);
        assert!(pace.request(B, 7).is_ok());
        assert!(pace.request(A, 7 + wait - 1).is_err());
        assert!(pace.request(A, 7 + wait).is_ok());
        // Over a long time exactly the rate.
        let taken = (0..10 * limits::PARTY_REQUESTS_PER_S * 4)
            .map(|k| 7 + wait + k * COST_NS / 4)
            .filter(|at| pace.request(A, *at).is_ok())
            .count() as u64;
        let exact = 10 * limits::PARTY_REQUESTS_PER_S;
        assert!(taken.abs_diff(exact) <= 1, "{taken} of {exact}");
        // A clock that stands or goes back gives nothing away.
        assert!(
            (0..2 * burst)
                .filter(|_| pace.request(A, 0).is_ok())
                .count()
                == 0
        );
    }

    #[test]
    fn answers_are_counted_by_party_and_by_session() {
        let mut pace = Pace::default();
        let (one, other) = (Some(Digest([7; 32])), Some(Digest([8; 32])));
        let taken = (0..limits::PARTY_ANSWERS_MAX)
            .filter(|_| pace.begin(A, one))
            .count();
        assert_eq!(taken, limits::SESSION_ANSWERS_MAX);
        let more = (0..limits::PARTY_ANSWERS_MAX)
            .filter(|_| pace.begin(A, other))
            .count();
        assert_eq!(taken + more, limits::PARTY_ANSWERS_MAX);
        assert!(!pace.begin(A, None) && pace.begin(B, None));
        pace.end(A, one);
        assert!(pace.begin(A, None) && !pace.begin(A, None));
        (0..limits::PARTY_ANSWERS_MAX).for_each(|_| pace.end(A, None));
        (0..limits::SESSION_ANSWERS_MAX).for_each(|_| pace.end(A, one));
        (0..limits::PARTY_ANSWERS_MAX).for_each(|_| pace.end(A, other));
        pace.end(B, None);
        assert!(pace.at_work.is_empty());
    }
}
