//! Which heads are to be anchored, and when (formats.md 5).
//!
//! ```text
//! linked ──▶ pending ──(round)──▶ in flight ──settled──▶ anchored up to its index
//!               ▲                     │ failed: pending again
//!               └─────────────────────┘ given up: pending for ever, an alert (a fork is no accident)
//! ```
//!
//! Rounds take all pending heads together, so that a thousand streams share blocks: the first new link
//! after a quiet interval goes at once, everything that follows waits for the next round, at most one
//! interval. One event vouches for all links up to its own, so at most one is in flight per did. Where there
//! are many streams, one event takes many heads; the first of each stream goes alone, because its content
//! tells the patient, in the log itself, which stream is hers.
//! `now` is monotonic time, in nanoseconds.

use std::collections::BTreeMap;

use chordae_base::{Did, limits};
use chordae_chain::link::Link;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// A did with new links is anchored at least this often.
    pub anchor_every_ns: u64,
    /// The head of the audit trail is anchored at least this often.
    pub audit_every_ns: u64,
    /// Streams up to which each head has an event of its own.
    pub alone_streams: usize,
}

/// What a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    /// Heads to submit each by itself, ascending by did.
    pub heads: Vec<Link>,
    /// Heads to submit together: an event for each of these, of 2 to [`limits::HEADS_TOGETHER_MAX`].
    pub together: Vec<Vec<Link>>,
    /// Whether the head of the audit trail is due.
    pub audit: bool,
}

#[derive(Debug, Clone)]
struct Head {
    newest: Link,
    anchored: Option<u64>,
    in_flight: Option<u64>,
    /// When the oldest link that is not anchored was linked.
    since: u64,
    /// When the first link after the one in flight was.
    since_flight: Option<u64>,
    given_up: bool,
    /// Not with others: an event that it was in was refused.
    alone: bool,
}

impl Head {
    fn pending(&self) -> bool {
        self.anchored.is_none_or(|index| index < self.newest.index)
    }

    fn ready(&self) -> bool {
        self.pending() && self.in_flight.is_none() && !self.given_up
    }
}

/// See the module.
#[derive(Debug)]
pub struct Heads {
    cadence: Cadence,
    heads: BTreeMap<Did, Head>,
    next_round: u64,
    next_audit: u64,
}

impl Heads {
    /// Knows no stream yet; round and audit are due at once.
    pub fn new(cadence: Cadence, now: u64) -> Self {
        Self {
            cadence,
            heads: BTreeMap::new(),
            next_round: now,
            next_audit: now,
        }
    }

    /// A head found at the start, and up to which index the log already vouches for its did.
    pub fn know(&mut self, newest: Link, anchored: Option<u64>, now: u64) {
        let head = Head {
            anchored,
            in_flight: None,
            since: now,
            since_flight: None,
            given_up: false,
            alone: false,
            newest,
        };
        self.heads.insert(head.newest.did, head);
    }

    /// A new link; older ones than the head are ignored.
    pub fn linked(&mut self, link: &Link, now: u64) {
        let Some(head) = self.heads.get_mut(&link.did) else {
            return self.know(link.clone(), None, now);
        };
        if link.index <= head.newest.index {
            return;
        }
        if !head.pending() {
            head.since = now;
        }
        if head.in_flight.is_some() {
            head.since_flight.get_or_insert(now);
        }
        head.newest = link.clone();
    }

    /// When the next step has something to do.
    pub fn deadline(&self) -> u64 {
        if self.heads.values().any(Head::ready) {
            return self.next_round.min(self.next_audit);
        }
        self.next_audit
    }

    /// The head of the trail is due now (an orderly stop: nothing is written to it after this).
    pub fn audit_now(&mut self) {
        self.next_audit = 0;
    }

    /// What is due; `force` (an orderly stop) makes every ready head due. Calling it early is harmless.
    pub fn step(&mut self, now: u64, force: bool) -> Round {
        let mut round = Round::default();
        if now >= self.next_audit {
            round.audit = true;
            self.next_audit = now.saturating_add(self.cadence.audit_every_ns);
        }
        if now < self.next_round && !force {
            return round;
        }
        let many = self.heads.len() > self.cadence.alone_streams;
        let mut together = Vec::new();
        for head in self.heads.values_mut().filter(|head| head.ready()) {
            head.in_flight = Some(head.newest.index);
            head.since_flight = None;
            if many && head.anchored.is_some() && !head.alone {
                together.push(head.newest.clone());
            } else {
                round.heads.push(head.newest.clone());
            }
        }
        if together.len() + round.heads.len() > 0 {
            self.next_round = now.saturating_add(self.cadence.anchor_every_ns);
        }
        for some in together.chunks(limits::HEADS_TOGETHER_MAX) {
            match some {
                [one] => round.heads.push(one.clone()),
                some => round.together.push(some.to_vec()),
            }
        }
        round
    }

    /// A checkpoint covers the event of this head.
    pub fn settled(&mut self, did: &Did, index: u64) {
        let Some(head) = self.heads.get_mut(did) else {
            return;
        };
        head.anchored = head.anchored.max(Some(index));
        if head.in_flight == Some(index) {
            head.in_flight = None;
            head.alone = false;
            head.since = head.since_flight.take().unwrap_or(head.since);
        }
    }

    /// The ledger did not take it now; it comes with the next round.
    pub fn failed(&mut self, did: &Did, index: u64) {
        if let Some(head) = self
            .heads
            .get_mut(did)
            .filter(|h| h.in_flight == Some(index))
        {
            head.in_flight = None;
            head.since_flight = None;
        }
    }

    /// The ledger refused the event that it was in with others, perhaps because of one of them: by itself in the
    /// next round.
    pub fn alone(&mut self, did: &Did, index: u64) {
        self.failed(did, index);
        if let Some(head) = self.heads.get_mut(did) {
            head.alone = true;
        }
    }

    /// The ledger will never take it: not tried again, and the lag grows until somebody looks.
    pub fn give_up(&mut self, did: &Did, index: u64) {
        self.failed(did, index);
        if let Some(head) = self.heads.get_mut(did) {
            head.given_up = true;
        }
    }

    /// The head of the audit trail could not be anchored; it is due again with the next interval.
    pub fn audit_failed(&mut self, now: u64) {
        self.next_audit = now.saturating_add(self.cadence.anchor_every_ns);
    }

    /// Dids whose head is not anchored.
    pub fn pending(&self) -> usize {
        self.heads.values().filter(|head| head.pending()).count()
    }

    /// Age of the oldest link that is not anchored; 0 if there is none.
    pub fn lag_ns(&self, now: u64) -> u64 {
        let pending = self.heads.values().filter(|head| head.pending());
        pending
            .map(|head| now.saturating_sub(head.since))
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use chordae_base::Digest;

    use super::*;

    const CADENCE: Cadence = Cadence {
        anchor_every_ns: 10,
        audit_every_ns: 3600,
        alone_streams: 3,
    };

    fn link(did: u8, index: u64) -> Link {
        Link {
            did: Did([did; 16]),
            index,
            slot_start_ns: 0,
            slot_len_ns: 10_000_000_000,
            first_ns: 0,
            end_ns: 1,
            rows: 1,
            file_root: Digest([1; 32]),
            pages_root: Digest([2; 32]),
            prev: Digest([3; 32]),
        }
    }

    fn heads() -> Heads {
        let mut heads = Heads::new(CADENCE, 0);
        assert!(heads.step(0, false).audit);
        heads
    }

    #[test]
    fn the_first_link_goes_at_once_and_the_next_ones_share_a_round() {
        let mut heads = heads();
        heads.linked(&link(1, 0), 100);
        assert_eq!(heads.deadline(), 0);
        assert_eq!(heads.step(100, false).heads, vec![link(1, 0)]);
        heads.linked(&link(2, 0), 101);
        heads.linked(&link(3, 0), 105);
        assert_eq!(heads.step(109, false), Round::default());
        assert_eq!(heads.deadline(), 110);
        assert_eq!(heads.step(110, false).heads, vec![link(2, 0), link(3, 0)]);
        assert_eq!(
            heads.step(120, false),
            Round::default(),
            "all are in flight"
        );
        assert_eq!(heads.deadline(), 3600);
    }

    #[test]
    fn the_newest_head_vouches_for_those_before_it() {
        let mut heads = heads();
        heads.linked(&link(1, 0), 100);
        heads.step(100, false);
        heads.linked(&link(1, 1), 102);
        heads.linked(&link(1, 2), 104);
        heads.linked(&link(1, 1), 105);
        assert_eq!(heads.lag_ns(106), 6);
        assert_eq!(
            heads.step(110, false),
            Round::default(),
            "one in flight per did"
        );
        heads.settled(&Did([1; 16]), 0);
        assert_eq!((heads.pending(), heads.lag_ns(112)), (1, 10));
        assert_eq!(heads.step(112, false).heads, vec![link(1, 2)]);
        heads.settled(&Did([1; 16]), 2);
        assert_eq!((heads.pending(), heads.lag_ns(200)), (0, 0));
    }

    #[test]
    fn what_failed_comes_again_and_what_is_given_up_does_not() {
        let mut heads = heads();
        heads.know(link(1, 4), Some(4), 0);
        heads.know(link(2, 4), Some(3), 0);
        heads.know(link(3, 4), None, 0);
        assert_eq!(heads.step(1, false).heads, vec![link(2, 4), link(3, 4)]);
        heads.failed(&Did([2; 16]), 4);
        heads.give_up(&Did([3; 16]), 4);
        assert_eq!(heads.step(5, false), Round::default());
        assert_eq!(heads.step(11, false).heads, vec![link(2, 4)]);
        heads.failed(&Did([2; 16]), 4);
        assert_eq!(
            heads.step(12, true).heads,
            vec![link(2, 4)],
            "an orderly stop does not wait"
        );
        heads.settled(&Did([2; 16]), 4);
        assert_eq!(
            (heads.pending(), heads.lag_ns(50)),
            (1, 50),
            "a fork stays visible"
        );
    }

    #[test]
    fn of_many_streams_the_first_heads_go_alone_and_the_next_ones_together() {
        let mut heads = heads();
        let all = |index| (1..=4).map(|did| link(did, index)).collect::<Vec<_>>();
        let settle = |heads: &mut Heads, round: &Round| {
            let settled = round.heads.iter().chain(round.together.iter().flatten());
            settled.for_each(|link| heads.settled(&link.did, link.index));
        };
        all(0).iter().for_each(|link| heads.linked(link, 1));
        let first = heads.step(1, false);
        assert_eq!((&first.heads, first.together.len()), (&all(0), 0));
        settle(&mut heads, &first);
        all(1).iter().for_each(|link| heads.linked(link, 2));
        let second = heads.step(11, false);
        assert_eq!((second.heads.len(), &second.together), (0, &vec![all(1)]));
        assert_eq!(heads.step(12, true), Round::default(), "all are in flight");

        // Refused as one, each goes by itself; then they are together again.
        for link in all(1) {
            heads.alone(&link.did, link.index);
        }
        let third = heads.step(21, false);
        assert_eq!((&third.heads, third.together.len()), (&all(1), 0));
        settle(&mut heads, &third);
        assert_eq!(heads.pending(), 0);
        heads.linked(&link(2, 2), 22);
        let one = heads.step(31, false);
        assert_eq!(one.heads, vec![link(2, 2)], "one is no many");
        settle(&mut heads, &one);
        all(3).iter().for_each(|link| heads.linked(link, 32));
        assert_eq!(heads.step(41, false).together, vec![all(3)]);
    }

    #[test]
    fn the_audit_head_is_due_at_the_start_and_each_interval() {
        let mut heads = heads();
        assert!(!heads.step(3599, false).audit);
        assert!(heads.step(3600, false).audit);
        heads.audit_failed(3601);
        assert!(!heads.step(3610, false).audit);
        assert!(heads.step(3611, false).audit);
        heads.audit_now();
        assert!(
            heads.step(3612, false).audit,
            "an orderly stop does not wait"
        );
    }
}
