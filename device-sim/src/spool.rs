//! The spool: what a device still owes. A frame leaves it when its acknowledgement has come, or when
//! it was refused for good; nothing else removes it.
//!
//! ```text
//!  keep ─▶ waiting ──hand_over──▶ handed ──numbered(pkid)──▶ in flight ──acknowledged──▶ gone
//!             ▲                     │                            │  └────refused for good──▶ gone
//!             └────disconnected─────┴────────disconnected────────┴──refused for now──▶ waiting
//! ```
//!
//! The MQTT client numbers the packets, so between handing over and the number's arrival a frame is
//! *handed*: a queue, because the client sends in the order it was given. After a connection is lost
//! everything unacknowledged waits again, in order of seq: what is sent again is decided here and
//! nowhere else, never by what the client remembers. Pure: `now` (monotonic ns) comes in.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// A frame as it was made: encoded once, so that every repeat has the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number within the boot.
    pub seq: u64,
    /// The device's clock at its first sample.
    pub t0_ns: i64,
    /// Samples per lead.
    pub samples: u32,
    /// BLAKE3 of its codes as little-endian i32, lead after lead.
    pub digest: [u8; 32],
    /// The encoded frame.
    pub payload: Bytes,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The birth of the boot.
    Birth,
    /// The frame of this seq.
    Frame(u64),
}

/// What an acknowledgement settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What the packet carried.
    pub item: Item,
    /// When it was handed over.
    pub handed_ns: u64,
    /// The frame, when this is what took it out of the spool; `None` for a birth and for a repeat.
    pub frame: Option<Kept>,
}

/// What a refusal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Send it again, not before this time.
    Until(u64),
    /// Never again.
    ForGood,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Spool {
    kept: BTreeMap<u64, Kept>,
    bytes: usize,
    /// seq, and the earliest time it may be sent.
    waiting: BTreeMap<u64, u64>,
    handed: VecDeque<(Item, u64)>,
    in_flight: BTreeMap<u16, (Item, u64)>,
}

impl Spool {
    /// Takes a new frame, to be sent no earlier than `not_before_ns`.
    pub fn keep(&mut self, frame: Kept, not_before_ns: u64) {
        self.bytes += frame.payload.len();
        self.waiting.insert(frame.seq, not_before_ns);
        if let Some(old) = self.kept.insert(frame.seq, frame) {
            self.bytes -= old.payload.len();
        }
    }

    /// Hands the birth over: it goes first on every connection.
    pub fn hand_birth(&mut self, now_ns: u64) {
        self.handed.push_back((Item::Birth, now_ns));
    }

    /// Hands over the lowest seq that may go, or the one after it (`skip`) if there is one.
    pub fn hand_over(&mut self, now_ns: u64, skip: bool) -> Option<Kept> {
        let seq = {
            let mut ready = self
                .waiting
                .iter()
                .filter(|(_, at)| **at <= now_ns)
                .map(|(s, _)| *s);
            let first = ready.next()?;
            if skip {
                ready.next().unwrap_or(first)
            } else {
                first
            }
        };
        self.waiting.remove(&seq);
        let frame = self.kept.get(&seq)?.clone();
        self.handed.push_back((Item::Frame(seq), now_ns));
        Some(frame)
    }

    /// Hands over a frame a second time, as a careless device would; `None` if it is gone.
    pub fn hand_again(&mut self, seq: u64, now_ns: u64) -> Option<Kept> {
        let frame = self.kept.get(&seq)?.clone();
        self.handed.push_back((Item::Frame(seq), now_ns));
        Some(frame)
    }

    /// The client did not take what was handed over last: it waits again.
    pub fn take_back(&mut self) {
        if let Some((Item::Frame(seq), _)) = self.handed.pop_back() {
            self.wait_again(seq, 0);
        }
    }

    /// The oldest thing handed over went out under this packet id.
    pub fn numbered(&mut self, pkid: u16) -> Option<Item> {
        let (item, at) = self.handed.pop_front()?;
        if let Some((Item::Frame(seq), _)) = self.in_flight.insert(pkid, (item, at)) {
            // The client used an id that was never acknowledged: that packet will not be.
            self.wait_again(seq, 0);
        }
        Some(item)
    }

    /// The packet was acknowledged; `None` for an id that nothing is in flight under.
    pub fn acknowledged(&mut self, pkid: u16) -> Option<Settled> {
        let (item, handed_ns) = self.in_flight.remove(&pkid)?;
        let frame = match item {
            Item::Birth => None,
            Item::Frame(seq) => self.forget(seq),
        };
        Some(Settled {
            item,
            handed_ns,
            frame,
        })
    }

    /// The packet was refused.
    pub fn refused(&mut self, pkid: u16, refusal: Refusal) -> Option<Settled> {
        let (item, handed_ns) = self.in_flight.remove(&pkid)?;
        let frame = match (item, refusal) {
            (Item::Birth, _) => None,
            (Item::Frame(seq), Refusal::ForGood) => self.forget(seq),
            (Item::Frame(seq), Refusal::Until(at)) => {
                self.wait_again(seq, at);
                None
            }
        };
        Some(Settled {
            item,
            handed_ns,
            frame,
        })
    }

    /// The connection is gone: everything unacknowledged waits again.
    pub fn disconnected(&mut self) {
        let lost: Vec<Item> = std::mem::take(&mut self.handed)
            .into_iter()
            .chain(std::mem::take(&mut self.in_flight).into_values())
            .map(|(item, _)| item)
            .collect();
        for item in lost {
            if let Item::Frame(seq) = item {
                self.wait_again(seq, 0);
            }
        }
    }

    /// Everything that is held back may go now.
    pub fn release(&mut self) {
        self.waiting.values_mut().for_each(|at| *at = 0);
    }

    /// When the next waiting frame may go; `None` if none waits.
    pub fn next_ns(&self) -> Option<u64> {
        self.waiting.values().min().copied()
    }

    /// Packets handed over and not yet settled.
    pub fn flying(&self) -> usize {
        self.handed.len() + self.in_flight.len()
    }

    /// When the oldest packet that is not settled was handed over.
    pub fn oldest_ns(&self) -> Option<u64> {
        self.handed
            .iter()
            .chain(self.in_flight.values())
            .map(|(_, at)| *at)
            .min()
    }

    /// Frames owed.
    pub fn frames(&self) -> usize {
        self.kept.len()
    }

    /// Payload bytes of the frames owed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn wait_again(&mut self, seq: u64, not_before_ns: u64) {
        if self.kept.contains_key(&seq) {
            self.waiting.insert(seq, not_before_ns);
        }
    }

    fn forget(&mut self, seq: u64) -> Option<Kept> {
        self.waiting.remove(&seq);
        let frame = self.kept.remove(&seq)?;
        self.bytes -= frame.payload.len();
        Some(frame)
    }
}
