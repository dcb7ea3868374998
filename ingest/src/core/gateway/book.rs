//! The spool's book: what lies in the journal, what of it flies, and what is known.
//!
//! ```text
//! offer ─▶ judge ─▶ Absorb (is there already) │ Refuse │ Aside │ Full │ Keep ─commit─▶ located
//!                                                                                        │
//! upstream ◀── parts ◀── next: streams in turn, window of 256 items and 4 MiB ◀── line ◀─┘
//!     └── ack, nack ──▶ answer ─▶ settled ─▶ floor ─▶ the journal is trimmed
//! ```
//!
//! # Invariants
//! 1. Nothing is `located` before it is synced, and only what is located is sent or shown as durable.
//! 2. An item leaves its line by an acknowledgement or a refusal for good, of this connection, and by
//!    nothing else. A refused item lies in quarantine before the floor passes it.
//! 3. An item flies only while no other flies under the same (stream, boot, number): an answer means one
//!    item, also where a device sent two contents under one number.
//! 4. Within a stream items go out in the order of the spool. Streams take turns, so that the backlog or
//!    the flood of one delays no other.
//! 5. On every connection the known birth of a boot goes before the boot's first frame.
//!
//! Room left for what is to come: `archived` (a floor of its own, above which items are kept although they
//! are acknowledged) goes beside [`Book::floor`]; fencing (the epoch of the node that acknowledged) goes
//! into `Flight` and the records of `record.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use chordae_base::{DeviceId, StreamKey, limits};

use super::{
    line::Line,
    memory::Known,
    reason,
    record::{BIRTH_NUMBER, Item, SpoolRecord},
};
use crate::core::arrival::{Content, Refusal, Standing};

/// What is to become of an arrival.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// It is there already: acknowledged with this turn's commit.
    Absorb,
    /// It breaks a rule that can be seen here.
    Refuse(Refusal),
    /// The same, from a sender that cannot be told: quarantined and acknowledged.
    Aside(&'static str, Bytes),
    /// There is no room.
    Full(Content),
    /// It goes into the spool, then is acknowledged.
    Keep(Item),
}

/// What is to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A birth that upstream knows, again.
    Announce {
        /// The stream.
        stream: StreamKey,
        /// Protobuf.
        birth: Bytes,
    },
    /// The item at this position of the journal.
    Item(u64),
}

/// What upstream says of an item. Numbers as on the uplink: a birth is [`BIRTH_NUMBER`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These are durable upstream.
    Ack {
        /// The stream.
        stream: StreamKey,
        /// Boot of the device.
        boot: u64,
        /// First number.
        first: u64,
        /// Last number, inclusive.
        last: u64,
    },
    /// This one was not taken.
    Nack {
        /// The stream.
        stream: StreamKey,
        /// Boot of the device.
        boot: u64,
        /// Its number.
        number: u64,
        /// Why.
        reason: String,
    },
}

/// An item that has been answered and needs more than being forgotten: the thread reads it once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Where it lies.
    pub position: u64,
    /// `None`: acknowledged (births only). A reason: refused for good, to be put in quarantine.
    pub refused: Option<&'static str>,
}

/// Something that has been sent and not been answered.
#[derive(Debug, Clone, Copy)]
struct Flight {
    /// `None`: an announcement.
    position: Option<u64>,
    birth: bool,
    bytes: usize,
    sent_ns: u64,
}

/// What a stream does when it is its turn.
enum Turn {
    Sends(Next),
    Passes,
    NoRoom,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Book {
    lines: BTreeMap<StreamKey, Line>,
    per_device: BTreeMap<DeviceId, usize>,
    /// Streams that may have something to send.
    ready: BTreeSet<StreamKey>,
    /// Whose turn it was.
    last: Option<StreamKey>,
    flying: BTreeMap<(StreamKey, u64, u64), Flight>,
    flying_bytes: usize,
    /// No sending before this, on the monotonic clock.
    paused_until_ns: u64,
    /// Streams whose births or refusals have changed since they were last written.
    changed: BTreeSet<StreamKey>,
    recv_ns: i64,
    unsettled: u64,
}

impl Book {
    /// Decides about an arrival. What is kept counts as held from now on; the caller commits it in this
    /// turn or ends.
    pub fn judge(
        &mut self,
        stream: &StreamKey,
        content: Content,
        recv_ns: i64,
        can_be_told: bool,
        room: bool,
    ) -> Judged {
        let new = !self.lines.contains_key(stream);
        let streams = self
            .per_device
            .get(&stream.device)
            .copied()
            .unwrap_or_default();
        let line = self.lines.get(stream);
        match &content {
            Content::Malformed(label, why, _) if can_be_told => {
                return Judged::Refuse(Refusal::Malformed(label, why.clone()));
            }
            Content::Malformed(..) if !room => return Judged::Full(content),
            Content::Malformed(label, _, payload) => return Judged::Aside(label, payload.clone()),
            Content::Frame(head, _)
                if line.is_some_and(|l| l.holds(head.boot, head.seq, &head.print)) =>
            {
                return Judged::Absorb;
            }
            Content::Birth(birth)
                if line.is_some_and(|l| l.memory.holds_birth(birth.boot, &birth.encode())) =>
            {
                return Judged::Absorb;
            }
            Content::Frame(..) | Content::Birth(_) => {}
        }
        if new && streams >= limits::STREAMS_PER_DEVICE_MAX {
            return Judged::Refuse(Refusal::TooManyStreams);
        }
        if !room {
            return Judged::Full(content);
        }
        if new {
            *self.per_device.entry(stream.device.clone()).or_default() += 1;
        }
        self.recv_ns = self.recv_ns.max(recv_ns);
        let line = self.lines.entry(stream.clone()).or_default();
        let (birth, boot, number, print, payload) = match content {
            Content::Birth(birth) => {
                let payload = Bytes::from(birth.encode());
                line.memory.born(birth.boot, &payload);
                (true, birth.boot, BIRTH_NUMBER, [0; 16], payload)
            }
            Content::Frame(head, payload) => {
                line.note(head.boot, head.seq, head.print);
                (false, head.boot, head.seq, head.print, payload)
            }
            Content::Malformed(label, why, _) => {
                return Judged::Refuse(Refusal::Malformed(label, why));
            }
        };
        let stream = stream.clone();
        Judged::Keep(Item {
            stream,
            boot,
            number,
            birth,
            recv_ns,
            print,
            payload,
        })
    }

    /// A kept item is synced, at `position`.
    pub fn located(&mut self, position: u64, item: &Item) {
        let line = self.lines.entry(item.stream.clone()).or_default();
        line.push(position, item);
        self.unsettled += 1;
        self.ready.insert(item.stream.clone());
    }

    /// Takes in a record that was found at start, in the order of the journal.
    pub fn fold(&mut self, position: u64, record: SpoolRecord) {
        match record {
            SpoolRecord::Item(item) => {
                self.know(&item.stream);
                self.recv_ns = self.recv_ns.max(item.recv_ns);
                if let (true, Some(line)) = (item.birth, self.lines.get_mut(&item.stream)) {
                    line.memory.born(item.boot, &item.payload);
                }
                self.located(position, &item);
            }
            SpoolRecord::Known(known) => {
                self.know(&known.stream);
                self.recv_ns = self.recv_ns.max(known.recv_ns);
                let line = self.lines.entry(known.stream.clone()).or_default();
                line.memory = super::memory::Memory::load(known);
            }
            SpoolRecord::Floor(floor) => {
                self.lines
                    .values_mut()
                    .for_each(|line| line.settle_below(floor));
                self.unsettled = self.lines.values().map(Line::unsettled).sum();
            }
        }
    }

    fn know(&mut self, stream: &StreamKey) {
        if !self.lines.contains_key(stream) {
            *self.per_device.entry(stream.device.clone()).or_default() += 1;
            self.lines.insert(stream.clone(), Line::default());
        }
    }

    /// A connection begins: what flew on the one before is sent again.
    pub fn connected(&mut self) {
        self.flying.clear();
        self.flying_bytes = 0;
        self.paused_until_ns = 0;
        self.lines.values_mut().for_each(Line::rewind);
        self.ready = self
            .lines
            .iter()
            .filter(|(_, l)| l.unsettled() > 0)
            .map(|(s, _)| s.clone())
            .collect();
    }

    /// What is to be sent now; it flies from here on. `None`: nothing waits, the window is full, or
    /// upstream has asked for a pause.
    pub fn next(&mut self, now_ns: u64) -> Option<Next> {
        while now_ns >= self.paused_until_ns && self.flying.len() < limits::UPLINK_ITEMS_MAX {
            let after = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let turn = self.ready.range((after, Bound::Unbounded)).next();
            let stream = turn.or_else(|| self.ready.first())?.clone();
            match self.next_of(&stream, now_ns) {
                Turn::Sends(next) => {
                    self.last = Some(stream);
                    return Some(next);
                }
                // It comes back with its next item or answer, or with a connection.
                Turn::Passes => self.ready.remove(&stream),
                Turn::NoRoom => return None,
            };
        }
        None
    }

    fn next_of(&mut self, stream: &StreamKey, now_ns: u64) -> Turn {
        let Some(line) = self.lines.get_mut(stream) else {
            return Turn::Passes;
        };
        let Some(entry) = line.waiting() else {
            return Turn::Passes;
        };
        let known = if entry.birth {
            None
        } else {
            line.memory.announcement(entry.boot, entry.position)
        };
        let announced = known.filter(|(_, refused)| !line.is_announced(entry.boot, *refused));
        let (announced, refused) = announced.unzip();
        let (number, payload) = match &announced {
            Some(birth) => (BIRTH_NUMBER, birth.len()),
            None => (
                entry.number,
                usize::try_from(entry.bytes).unwrap_or(usize::MAX),
            ),
        };
        let bytes = payload.saturating_add(limits::UPLINK_ITEM_OVERHEAD);
        let key = (stream.clone(), entry.boot, number);
        if self.flying.contains_key(&key) {
            return Turn::Passes;
        }
        let fits = self.flying_bytes.saturating_add(bytes) <= limits::UPLINK_BYTES_MAX;
        if !fits && !self.flying.is_empty() {
            return Turn::NoRoom;
        }
        let position = announced.is_none().then_some(entry.position);
        let birth = number == BIRTH_NUMBER && (entry.birth || announced.is_some());
        self.flying.insert(
            key,
            Flight {
                position,
                birth,
                bytes,
                sent_ns: now_ns,
            },
        );
        self.flying_bytes += bytes;
        if birth {
            line.announce(entry.boot, refused.unwrap_or_default());
        }
        match announced {
            Some(birth) => Turn::Sends(Next::Announce {
                stream: stream.clone(),
                birth,
            }),
            None => {
                line.sent(entry.position);
                Turn::Sends(Next::Item(entry.position))
            }
        }
    }

    /// Takes an answer; gives the items that must be read once more.
    pub fn answer(&mut self, answer: Answer, now_ns: u64) -> Vec<Answered> {
        match answer {
            Answer::Ack {
                stream,
                boot,
                first,
                last,
            } if first <= last => {
                let range = (stream.clone(), boot, first)..=(stream, boot, last);
                let keys: Vec<_> = self.flying.range(range).map(|(k, _)| k.clone()).collect();
                keys.into_iter()
                    .filter_map(|key| self.landed(&key, None, now_ns))
                    .collect()
            }
            Answer::Ack { .. } => Vec::new(),
            Answer::Nack {
                stream,
                boot,
                number,
                reason,
            } => {
                let key = (stream, boot, number);
                self.landed(&key, Some(&reason), now_ns)
                    .into_iter()
                    .collect()
            }
        }
    }

    /// An answer to what flies under `key`; answers to nothing are ignored.
    fn landed(
        &mut self,
        key: &(StreamKey, u64, u64),
        refused: Option<&str>,
        now_ns: u64,
    ) -> Option<Answered> {
        let flight = self.flying.remove(key)?;
        self.flying_bytes -= flight.bytes;
        let (stream, boot, number) = key;
        let line = self.lines.get_mut(stream)?;
        self.ready.insert(stream.clone());
        let Flight {
            position, birth, ..
        } = flight;
        let position = position?;
        match refused {
            Some(reason) if reason::passes(reason) => {
                line.again(position);
                let pause = u64::try_from(limits::UPLINK_PAUSE.as_nanos()).unwrap_or(u64::MAX);
                self.paused_until_ns = now_ns.saturating_add(pause);
                return None;
            }
            Some(reason) => {
                line.memory.refused(*boot, *number, reason::known(reason));
                self.changed.insert(stream.clone());
            }
            None => {}
        }
        line.settle(position);
        self.unsettled -= 1;
        let refused = refused.map(reason::known);
        (birth || refused.is_some()).then_some(Answered { position, refused })
    }

    /// What became of the birth at `position`, once it has been read again.
    pub fn birth_answered(&mut self, position: u64, item: &Item, refused: Option<&str>) {
        let Some(line) = self.lines.get_mut(&item.stream) else {
            return;
        };
        match refused {
            Some(reason) => {
                let reused = reason == reason::BOOT_REUSED;
                let (boot, birth) = (item.boot, &item.payload);
                line.memory.birth_refused(boot, position, birth, reused);
                if reused {
                    // It went out on this connection.
                    line.announce(boot, true);
                }
            }
            None => line.memory.birth_acknowledged(item.boot, &item.payload),
        }
        self.changed.insert(item.stream.clone());
    }

    /// Whether something has waited for its answer for so long that the connection is not to be trusted.
    pub fn is_stuck(&self, now_ns: u64) -> bool {
        let most = u64::try_from(limits::UPLINK_ANSWER_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
        self.flying
            .values()
            .any(|f| now_ns.saturating_sub(f.sent_ns) > most)
    }

    /// Everything below this needs no sending any more; `end` where all is upstream.
    pub fn floor(&self, end: u64) -> u64 {
        self.lines
            .values()
            .filter_map(Line::front)
            .min()
            .unwrap_or(end)
            .min(end)
    }

    /// What is to be written beside the floor: what has changed since the last time.
    pub fn take_changed(&mut self) -> Vec<Known> {
        let changed = std::mem::take(&mut self.changed);
        let lines = changed
            .iter()
            .filter_map(|s| self.lines.get(s).map(|l| l.memory.save(s, self.recv_ns)));
        lines.collect()
    }

    /// What every segment begins with.
    pub fn save(&self) -> Vec<Known> {
        self.lines
            .iter()
            .map(|(s, l)| l.memory.save(s, self.recv_ns))
            .collect()
    }

    /// The `ack` topic's content.
    pub fn standing(&self, stream: &StreamKey, boot: u64) -> Standing {
        match self.lines.get(stream) {
            Some(line) => line.memory.standing(stream, boot),
            None => super::memory::Memory::default().standing(stream, boot),
        }
    }

    /// Newest receive time.
    pub fn recv_ns(&self) -> i64 {
        self.recv_ns
    }

    /// Items that are not upstream.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// What has been sent and not been answered.
    pub fn flying(&self) -> usize {
        self.flying.len()
    }
}
