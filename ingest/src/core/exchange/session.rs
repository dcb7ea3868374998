//! One session: what it is, what waits for it, what is in flight to it.
//!
//! ```text
//!  queue  ── Sent(id) ──▶ flight: Sent ── PUBACK ───────────────▶ done      (QoS 1)
//!                            └────── PUBREC ──▶ Released ─ PUBCOMP ─▶ done  (QoS 2)
//! ```
//!
//! Flight keeps the order of sending, which is the order of sending again. What is in flight stays until
//! it is done: a packet id that the client may remember is not given to another message.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    message::Wish,
    record::{About, Queued},
};
use crate::core::arrival::ConnId;

/// A delivery that the client has not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// Packet id.
    pub id: u16,
    /// What is delivered.
    pub queued: Queued,
    /// The client has it; the release is open.
    pub released: bool,
    /// It went out on the connection that the session has now.
    pub sent: bool,
    /// It may have gone out on an earlier one.
    pub dup: bool,
}

/// A filter whose retained messages of QoS 0 are being sent as there is room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browse {
    /// The subscription.
    pub wish: Arc<Wish>,
    /// The newest topic looked at.
    pub after: Option<String>,
}

/// What a session has while it is connected; nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The connection.
    pub conn: ConnId,
    /// Unfinished deliveries with QoS > 0 that it takes.
    pub receive_max: usize,
    /// Deliveries that its channel takes now.
    pub room: usize,
    /// Commands that wait for the window, by number of issue.
    pub commands: BTreeSet<u64>,
    /// Commands that have been sent on this connection.
    pub offered: BTreeSet<u64>,
    /// Packet ids of those that were sent at QoS 1 and not acknowledged.
    pub commanded: BTreeMap<u16, u64>,
    /// Retained messages of QoS 0 on their way.
    pub browse: VecDeque<Browse>,
    /// It has been told to go.
    pub cut: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What it is.
    pub about: About,
    /// The journal knows of it.
    pub noted: bool,
    /// Subscriptions by filter.
    pub wishes: BTreeMap<String, Arc<Wish>>,
    /// What waits.
    pub queue: VecDeque<Queued>,
    /// What is in flight, in the order of sending.
    pub flight: VecDeque<Flight>,
    /// Packet ids of the client at QoS 2 that it has not released.
    pub inbound: BTreeSet<u16>,
    /// The newest packet id.
    pub newest_id: u16,
    /// Bytes in queue and flight.
    pub bytes: usize,
    /// Its connection, if it has one.
    pub link: Option<Link>,
}

impl Session {
    /// With nothing in it.
    pub fn new(about: About) -> Self {
        Self {
            about,
            noted: false,
            wishes: BTreeMap::new(),
            queue: VecDeque::new(),
            flight: VecDeque::new(),
            inbound: BTreeSet::new(),
            newest_id: 0,
            bytes: 0,
            link: None,
        }
    }

    /// Whether what it holds outlives its connection, and so a crash.
    pub fn kept(&self) -> bool {
        self.about.expiry_s > 0
    }

    /// Whether the journal must know of it: it is kept, or a retained word stands for its presence and
    /// must be corrected if we are not there when it goes.
    pub fn notable(&self) -> bool {
        let leaves_mark = |w: &super::message::Will| w.message.retain;
        self.kept() || self.about.will.as_ref().is_some_and(leaves_mark)
    }

    /// When it ends, if it is without connection and does.
    pub fn ends_ns(&self) -> Option<i64> {
        match (self.about.gone_ns, self.about.expiry_s) {
            (None, _) | (_, u32::MAX) => None,
            (Some(gone), s) => Some(gone.saturating_add(seconds_ns(s))),
        }
    }

    /// When its will is due, if it is without connection and has one: the earlier of delay and end.
    pub fn will_ns(&self) -> Option<i64> {
        let (gone, will) = (self.about.gone_ns?, self.about.will.as_ref()?);
        let due = gone.saturating_add(seconds_ns(will.delay_s));
        Some(self.ends_ns().map_or(due, |end| end.min(due)))
    }

    /// When something is to be done about it: its end, or its will.
    pub fn due_ns(&self) -> Option<i64> {
        self.ends_ns().into_iter().chain(self.will_ns()).min()
    }

    /// A packet id that is not in use; `None` if all are.
    pub fn free_id(&self) -> Option<u16> {
        let commanded = |id: &u16| {
            let link = self.link.as_ref();
            link.is_some_and(|l| l.commanded.contains_key(id))
        };
        let flying = |id: &u16| self.flight.iter().any(|f| f.id == *id);
        let mut id = self.newest_id;
        for _ in 0..=u16::MAX {
            id = id.checked_add(1).unwrap_or(1);
            if !flying(&id) && !commanded(&id) {
                return Some(id);
            }
        }
        None
    }

    /// Deliveries that are open on the connection.
    pub fn open(&self) -> usize {
        let commanded = self.link.as_ref().map_or(0, |l| l.commanded.len());
        self.flight.iter().filter(|f| f.sent).count() + commanded
    }

    /// The delivery in flight under an id.
    pub fn in_flight(&mut self, id: u16) -> Option<&mut Flight> {
        self.flight.iter_mut().find(|f| f.id == id)
    }

    /// The first that waits is in flight under this id.
    pub fn send_first(&mut self, id: u16) {
        if let Some(queued) = self.queue.pop_front() {
            self.newest_id = id;
            self.flight.push_back(Flight {
                id,
                queued,
                released: false,
                sent: false,
                dup: false,
            });
        }
    }

    /// The id is free again. Gives what it stood for.
    pub fn finish(&mut self, id: u16) -> Option<Flight> {
        let at = self.flight.iter().position(|f| f.id == id)?;
        let flight = self.flight.remove(at)?;
        self.bytes = self
            .bytes
            .saturating_sub(flight.queued.stored.message.bytes());
        Some(flight)
    }

    /// Drops the first that waits.
    pub fn drop_first(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(queued.stored.message.bytes());
        Some(queued)
    }

    /// Puts something behind what waits.
    pub fn enqueue(&mut self, queued: Queued) {
        self.bytes += queued.stored.message.bytes();
        self.queue.push_back(queued);
    }
}

/// Seconds as nanoseconds.
pub fn seconds_ns(s: u32) -> i64 {
    i64::from(s) * chordae_base::time::SECOND_NS
}
