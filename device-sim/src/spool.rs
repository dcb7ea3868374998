//! The spool: what a device still owes. A frame leaves it when its acknowledgement has come, or when
//! it was refused for good; nothing else removes it.
//!
//! ```text
//!  keep ─▶ waiting ──hand_over──▶ handed ──numbered(pkid)──▶ in flight ──acknowledged──▶ gone
//!             ▲                     │   └──(named links)──▶ named ───────durable──────────▶ gone
//!             └────disconnected─────┴── the same from all three ──refused for now──▶ waiting
//! ```
//!
//! MQTT numbers its packets, so between handing over and the number's arrival a frame is *handed*: a
//! queue, because the client sends in the order it was given. ZeroMQ, and MQTT at QoS 0, have no
//! numbers: there an acknowledgement names boot and seq, and what was handed over is *named*. After a
//! connection is lost everything unacknowledged waits again, in the order it was made: what is sent
//! again is decided here and nowhere else, never by what the client remembers.
//!
//! A device that starts over may owe frames of several boots, and two frames of one boot and seq, so a
//! frame's place in here is a number of the spool's own. The birth of every boot that owes something,
//! and of the newest, goes out on each connection before any frame. Pure: `now` (monotonic ns) comes in.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// A frame as it was made: encoded once (as differences), so that every repeat has the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its boot.
    pub boot: u64,
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
    /// Replayed out of the device's memory: acknowledged before, and not counted again.
    pub again: bool,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The birth of this boot.
    Birth(u64),
    /// The frame in this place of the spool.
    Frame(u64),
    /// The device's status.
    Status,
    /// The reply to the order of this number.
    Reply(u64),
}

/// What an acknowledgement settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What the packet carried.
    pub item: Item,
    /// When it was handed over.
    pub handed_ns: u64,
    /// The frame, when this is what took it out of the spool; `None` for all else and for a repeat.
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

#[derive(Debug)]
struct Birth {
    payload: Bytes,
    /// To be sent on this connection, not before this time.
    wanted_ns: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Spool {
    births: BTreeMap<u64, Birth>,
    newest: u64,
    kept: BTreeMap<u64, Kept>,
    next: u64,
    bytes: usize,
    /// Place, and the earliest time it may be sent.
    waiting: BTreeMap<u64, u64>,
    waiting_bytes: usize,
    /// Acknowledgements on this connection name boot and seq.
    names: bool,
    named: Vec<(Item, u64)>,
    handed: VecDeque<(Item, u64)>,
    in_flight: BTreeMap<u16, (Item, u64)>,
}

impl Spool {
    /// A boot begins (or is remembered); its birth goes out before its frames.
    pub fn born(&mut self, boot: u64, birth: Bytes) {
        self.newest = boot;
        let birth = Birth {
            payload: birth,
            wanted_ns: Some(0),
        };
        self.births.insert(boot, birth);
    }

    /// Takes a new frame, to be sent no earlier than `not_before_ns`.
    pub fn keep(&mut self, frame: Kept, not_before_ns: u64) {
        let place = self.next;
        self.next += 1;
        self.bytes += frame.payload.len();
        self.kept.insert(place, frame);
        self.wait(place, not_before_ns);
    }

    /// There is a connection, on which acknowledgements name boot and seq or packet ids. The births
    /// of all boots that owe something are wanted, and that of the newest.
    pub fn connected(&mut self, names: bool) {
        self.names = names;
        let (kept, newest) = (&self.kept, self.newest);
        self.births
            .retain(|boot, _| *boot == newest || kept.values().any(|f| f.boot == *boot));
        self.births.values_mut().for_each(|b| b.wanted_ns = Some(0));
    }

    /// Hands over the next birth that is wanted.
    pub fn hand_birth(&mut self, now_ns: u64) -> Option<(u64, Bytes)> {
        let (boot, birth) = self
            .births
            .iter_mut()
            .find(|(_, b)| b.wanted_ns.is_some_and(|at| at <= now_ns))?;
        birth.wanted_ns = None;
        let (boot, payload) = (*boot, birth.payload.clone());
        self.hand(Item::Birth(boot), now_ns);
        Some((boot, payload))
    }

    /// Hands over the oldest frame that may go, or the one after it (`skip`) if there is one; none
    /// while a birth is wanted.
    pub fn hand_over(&mut self, now_ns: u64, skip: bool) -> Option<(u64, Kept)> {
        if self.births.values().any(|b| b.wanted_ns.is_some()) {
            return None;
        }
        let place = {
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
        self.no_longer_wait(place);
        let frame = self.kept.get(&place)?.clone();
        self.hand(Item::Frame(place), now_ns);
        Some((place, frame))
    }

    /// Hands over a frame a second time, as a careless device would; `None` if it is gone.
    pub fn hand_again(&mut self, place: u64, now_ns: u64) -> Option<Kept> {
        let frame = self.kept.get(&place)?.clone();
        self.hand(Item::Frame(place), now_ns);
        Some(frame)
    }

    /// Hands over something that is acknowledged by packet id whatever the connection.
    pub fn hand_note(&mut self, item: Item, now_ns: u64) {
        self.handed.push_back((item, now_ns));
    }

    /// The client did not take the birth or frame that was handed over last: it waits again.
    pub fn take_back(&mut self) {
        let last = if self.names {
            self.named.pop()
        } else {
            self.handed.pop_back()
        };
        if let Some((item, _)) = last {
            self.wait_again(item, 0);
        }
    }

    /// The oldest thing handed over went out under this packet id.
    pub fn numbered(&mut self, pkid: u16) -> Option<Item> {
        let (item, at) = self.handed.pop_front()?;
        if let Some((item, _)) = self.in_flight.insert(pkid, (item, at)) {
            // The client used an id that was never acknowledged: that packet will not be.
            self.wait_again(item, 0);
        }
        Some(item)
    }

    /// The packet was acknowledged; `None` for an id that nothing is in flight under.
    pub fn acknowledged(&mut self, pkid: u16) -> Option<Settled> {
        let (item, handed_ns) = self.in_flight.remove(&pkid)?;
        Some(self.settle(item, handed_ns))
    }

    /// The packet was refused.
    pub fn refused(&mut self, pkid: u16, refusal: Refusal) -> Option<Settled> {
        let (item, handed_ns) = self.in_flight.remove(&pkid)?;
        Some(self.turn_down(item, handed_ns, refusal))
    }

    /// The frames of `boot` from `first` to `last` are durable: those handed over on this connection
    /// are settled.
    pub fn durable(&mut self, boot: u64, first: u64, last: u64) -> Vec<Settled> {
        let hit = |f: &Kept| f.boot == boot && (first..=last).contains(&f.seq);
        let found = self.take_named(hit);
        found
            .into_iter()
            .map(|(item, at)| self.settle(item, at))
            .collect()
    }

    /// The birth of `boot` is known.
    pub fn known(&mut self, boot: u64) -> Option<Settled> {
        let at = self
            .named
            .iter()
            .position(|(item, _)| *item == Item::Birth(boot))?;
        let (item, handed_ns) = self.named.swap_remove(at);
        Some(self.settle(item, handed_ns))
    }

    /// The frames of `boot` from `first` to `last` were refused by their names.
    pub fn refused_by_name(
        &mut self,
        boot: u64,
        first: u64,
        last: u64,
        refusal: Refusal,
    ) -> Vec<Settled> {
        let found = self.take_named(|f| f.boot == boot && (first..=last).contains(&f.seq));
        found
            .into_iter()
            .map(|(item, at)| self.turn_down(item, at, refusal))
            .collect()
    }

    /// The birth was refused by its name.
    pub fn birth_refused(&mut self, boot: u64, refusal: Refusal) -> Option<Settled> {
        let at = self
            .named
            .iter()
            .position(|(item, _)| *item == Item::Birth(boot))?;
        let (item, handed_ns) = self.named.swap_remove(at);
        Some(self.turn_down(item, handed_ns, refusal))
    }

    /// The connection is gone: everything unacknowledged waits again.
    pub fn disconnected(&mut self) {
        let lost: Vec<Item> = std::mem::take(&mut self.handed)
            .into_iter()
            .chain(std::mem::take(&mut self.in_flight).into_values())
            .chain(std::mem::take(&mut self.named))
            .map(|(item, _)| item)
            .collect();
        for item in lost {
            self.wait_again(item, 0);
        }
    }

    /// Everything that is held back may go now.
    pub fn release(&mut self) {
        self.waiting.values_mut().for_each(|at| *at = 0);
    }

    /// When the next thing may go; `None` if nothing waits.
    pub fn next_ns(&self) -> Option<u64> {
        let births = self.births.values().filter_map(|b| b.wanted_ns).min();
        births.or_else(|| self.waiting.values().min().copied())
    }

    /// Whether acknowledgements on this connection name boot and seq.
    pub fn names(&self) -> bool {
        self.names
    }

    /// Packets handed over and not yet settled.
    pub fn flying(&self) -> usize {
        self.handed.len() + self.in_flight.len() + self.named.len()
    }

    /// Payload bytes of the frames that do not wait.
    pub fn flying_bytes(&self) -> usize {
        self.bytes - self.waiting_bytes
    }

    /// When the oldest packet that is not settled was handed over.
    pub fn oldest_ns(&self) -> Option<u64> {
        self.handed
            .iter()
            .chain(self.in_flight.values())
            .chain(&self.named)
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

    fn hand(&mut self, item: Item, now_ns: u64) {
        if self.names {
            self.named.push((item, now_ns));
        } else {
            self.handed.push_back((item, now_ns));
        }
    }

    fn take_named(&mut self, hit: impl Fn(&Kept) -> bool) -> Vec<(Item, u64)> {
        let kept = &self.kept;
        self.named
            .extract_if(.., |(item, _)| match item {
                // A repeat of what is settled already is settled with it.
                Item::Frame(place) => kept.get(place).is_none_or(&hit),
                _ => false,
            })
            .collect()
    }

    fn settle(&mut self, item: Item, handed_ns: u64) -> Settled {
        let frame = match item {
            Item::Frame(place) => self.forget(place),
            _ => None,
        };
        Settled {
            item,
            handed_ns,
            frame,
        }
    }

    fn turn_down(&mut self, item: Item, handed_ns: u64, refusal: Refusal) -> Settled {
        match refusal {
            Refusal::ForGood => self.settle(item, handed_ns),
            Refusal::Until(at) => {
                self.wait_again(item, at);
                Settled {
                    item,
                    handed_ns,
                    frame: None,
                }
            }
        }
    }

    fn wait_again(&mut self, item: Item, not_before_ns: u64) {
        match item {
            Item::Frame(place) => self.wait(place, not_before_ns),
            Item::Birth(boot) => {
                if let Some(birth) = self.births.get_mut(&boot) {
                    birth.wanted_ns = Some(not_before_ns);
                }
            }
            Item::Status | Item::Reply(_) => {}
        }
    }

    fn wait(&mut self, place: u64, not_before_ns: u64) {
        if let Some(frame) = self.kept.get(&place)
            && self.waiting.insert(place, not_before_ns).is_none()
        {
            self.waiting_bytes += frame.payload.len();
        }
    }

    fn no_longer_wait(&mut self, place: u64) {
        if self.waiting.remove(&place).is_some()
            && let Some(frame) = self.kept.get(&place)
        {
            self.waiting_bytes -= frame.payload.len();
        }
    }

    fn forget(&mut self, place: u64) -> Option<Kept> {
        self.no_longer_wait(place);
        let frame = self.kept.remove(&place)?;
        self.bytes -= frame.payload.len();
        Some(frame)
    }
}
