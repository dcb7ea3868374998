//! What is known of a stream beside its items: the births of its newest boots, and the numbers that the
//! `ack` topic shows. Forgetting is harmless: a repeat then goes upstream once more, and is absorbed there.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{RangeSet, StreamKey, limits};

use crate::core::arrival::Standing;

/// Whether the node upstream has a birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// It has not said so.
    #[default]
    Open,
    /// It has said so: the birth may be announced before the boot's frames on every connection.
    Acknowledged,
}

/// One boot, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBoot {
    /// Boot of the device.
    pub boot: u64,
    /// Of its birth.
    pub fate: Fate,
    /// Its birth as protobuf.
    pub birth: Option<Bytes>,
    /// Where another birth of it lay that was refused upstream, and that birth.
    pub reused: Option<(u64, Bytes)>,
    /// Inclusive ranges of seqs that are or were in the spool.
    pub durable: Vec<(u64, u64)>,
    /// Inclusive ranges of seqs that were refused upstream, newest last.
    pub refused: Vec<(u64, u64, &'static str)>,
}

/// A stream's memory as it is written; the newest boot last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The stream.
    pub stream: StreamKey,
    /// Newest receive time of all streams.
    pub recv_ns: i64,
    /// Oldest first.
    pub boots: Vec<KnownBoot>,
}

#[derive(Debug, Clone, Default)]
struct Boot {
    birth: Option<Bytes>,
    fate: Fate,
    reused: Option<(u64, Bytes)>,
    durable: RangeSet,
    refused: Vec<(u64, u64, &'static str)>,
    /// Which came first.
    order: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    boots: BTreeMap<u64, Boot>,
    next_order: u64,
}

impl Memory {
    /// Whether this very birth is known.
    pub fn holds_birth(&self, boot: u64, birth: &[u8]) -> bool {
        let known = self.boots.get(&boot).and_then(|b| b.birth.as_deref());
        known.is_some_and(|known| known == birth)
    }

    /// A birth goes into the spool; the first of a boot is remembered.
    pub fn born(&mut self, boot: u64, birth: &Bytes) {
        let boot = self.boot(boot);
        if boot.birth.is_none() {
            boot.birth = Some(birth.clone());
            boot.fate = Fate::Open;
        }
    }

    /// A frame is durable.
    pub fn durable(&mut self, boot: u64, seq: u64) {
        let boot = self.boot(boot);
        boot.durable.insert(seq);
        if boot.durable.ranges_len() > limits::ACK_RANGES_MAX {
            let newest = boot.durable.iter().skip(1).collect::<Vec<_>>();
            boot.durable = RangeSet::new();
            newest
                .iter()
                .for_each(|(a, b)| boot.durable.insert_range(*a, *b));
        }
    }

    /// The birth is upstream.
    pub fn birth_acknowledged(&mut self, boot: u64, birth: &[u8]) {
        if self.holds_birth(boot, birth) {
            self.boot(boot).fate = Fate::Acknowledged;
        }
    }

    /// Upstream refused this birth, which lay at `position`: it is not announced, and another may take its
    /// place. With `reused` upstream knows another birth of the boot; what the device says from here on is
    /// not of that one, and every connection has to say so again.
    pub fn birth_refused(&mut self, boot: u64, position: u64, birth: &Bytes, reused: bool) {
        let holds = self.holds_birth(boot, birth);
        let boot = self.boot(boot);
        if holds {
            (boot.birth, boot.fate) = (None, Fate::Open);
        }
        if reused && boot.reused.is_none() {
            boot.reused = Some((position, birth.clone()));
        }
    }

    /// Upstream refused a frame for good.
    pub fn refused(&mut self, boot: u64, seq: u64, reason: &'static str) {
        let refused = &mut self.boot(boot).refused;
        // Sent again after a crash, it is refused again.
        let is_known = |(first, last, why): &(u64, u64, &str)| {
            (*first..=*last).contains(&seq) && *why == reason
        };
        if refused.iter().any(is_known) {
            return;
        }
        match refused.last_mut() {
            Some((_, last, before)) if *before == reason && last.checked_add(1) == Some(seq) => {
                *last = seq;
            }
            _ => refused.push((seq, seq, reason)),
        }
        if refused.len() > limits::ACK_RANGES_MAX {
            refused.remove(0);
        }
    }

    /// The birth to announce before the boot's frame at `position`: the one that upstream has, or the one
    /// that it has refused and that this frame came after (then `true`).
    pub fn announcement(&self, boot: u64, position: u64) -> Option<(Bytes, bool)> {
        let boot = self.boots.get(&boot)?;
        match &boot.reused {
            Some((since, birth)) if *since < position => Some((birth.clone(), true)),
            _ => boot
                .birth
                .clone()
                .filter(|_| boot.fate == Fate::Acknowledged)
                .map(|birth| (birth, false)),
        }
    }

    /// The `ack` topic's content.
    pub fn standing(&self, stream: &StreamKey, boot: u64) -> Standing {
        let known = self.boots.get(&boot);
        let mut boots: Vec<_> = self
            .boots
            .iter()
            .filter(|(_, b)| b.birth.is_some())
            .collect();
        boots.sort_by_key(|(_, b)| b.order);
        Standing {
            stream: stream.clone(),
            boot,
            durable: known.map_or_else(Vec::new, |b| b.durable.iter().collect()),
            refused: known.map_or_else(Vec::new, |b| b.refused.clone()),
            boots: boots.into_iter().map(|(boot, _)| *boot).collect(),
        }
    }

    /// For the head of a segment.
    pub fn save(&self, stream: &StreamKey, recv_ns: i64) -> Known {
        let mut boots: Vec<_> = self.boots.iter().collect();
        boots.sort_by_key(|(_, b)| b.order);
        let boots = boots.into_iter().map(|(number, b)| KnownBoot {
            boot: *number,
            fate: b.fate,
            birth: b.birth.clone(),
            reused: b.reused.clone(),
            durable: b.durable.iter().collect(),
            refused: b.refused.clone(),
        });
        Known {
            stream: stream.clone(),
            recv_ns,
            boots: boots.collect(),
        }
    }

    /// Reads back what [`Self::save`] made.
    pub fn load(known: Known) -> Self {
        let mut memory = Self::default();
        for saved in known.boots {
            let boot = memory.boot(saved.boot);
            (boot.birth, boot.fate, boot.refused) = (saved.birth, saved.fate, saved.refused);
            boot.reused = saved.reused;
            saved
                .durable
                .iter()
                .for_each(|(a, b)| boot.durable.insert_range(*a, *b));
        }
        memory
    }

    fn boot(&mut self, number: u64) -> &mut Boot {
        if !self.boots.contains_key(&number) && self.boots.len() >= limits::SPOOL_BOOTS_MAX {
            let oldest = self
                .boots
                .iter()
                .min_by_key(|(_, b)| b.order)
                .map(|(n, _)| *n);
            oldest.and_then(|n| self.boots.remove(&n));
        }
        let next = &mut self.next_order;
        self.boots.entry(number).or_insert_with(|| {
            *next += 1;
            Boot {
                order: *next,
                ..Boot::default()
            }
        })
    }
}
