//! One stream's items on their way upstream, in the order of the spool.
//!
//! ```text
//! front ─▶ settled  flying  settled  flying  waiting  waiting ─▶ back
//!                                            └ cursor: what goes next
//! ```
//!
//! Settled items leave at the front. A cut connection makes what flew wait again and puts the cursor at the
//! front; so does a refusal that passes, for its item.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::memory::Memory;
use crate::core::dedupe::Print;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Flying,
    Settled,
}

/// An item, without its payload: that lies in the journal at `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where its record begins.
    pub position: u64,
    /// Boot of the device.
    pub boot: u64,
    /// Seq, or [`super::record::BIRTH_NUMBER`].
    pub number: u64,
    /// A birth.
    pub birth: bool,
    /// Bytes of the payload.
    pub bytes: u32,
    print: Print,
    state: State,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// Births, and what the `ack` topic shows.
    pub memory: Memory,
    queue: VecDeque<Entry>,
    /// Frames in the queue that are not settled, and those of this turn that are not written yet.
    prints: BTreeSet<(u64, u64, Print)>,
    cursor: u64,
    /// The birth that has gone out last for a boot on this connection; whether it is one that upstream has
    /// refused.
    announced: BTreeMap<u64, bool>,
    unsettled: u64,
}

impl Line {
    /// Whether this very frame is in the spool.
    pub fn holds(&self, boot: u64, seq: u64, print: &Print) -> bool {
        self.prints.contains(&(boot, seq, *print))
    }

    /// A frame goes into the spool with this turn's commit.
    pub fn note(&mut self, boot: u64, seq: u64, print: Print) {
        self.prints.insert((boot, seq, print));
    }

    /// An item lies at `position`, behind all others.
    pub fn push(&mut self, position: u64, item: &super::record::Item) {
        if !item.birth {
            self.prints.insert((item.boot, item.number, item.print));
            self.memory.durable(item.boot, item.number);
        }
        self.unsettled += 1;
        self.queue.push_back(Entry {
            position,
            boot: item.boot,
            number: item.number,
            birth: item.birth,
            bytes: u32::try_from(item.payload.len()).unwrap_or(u32::MAX),
            print: item.print,
            state: State::Waiting,
        });
    }

    /// What goes next, if anything waits.
    pub fn waiting(&mut self) -> Option<Entry> {
        let mut at = self.index(self.cursor);
        loop {
            let entry = self.queue.get(at)?;
            if entry.state == State::Waiting {
                self.cursor = entry.position;
                return Some(*entry);
            }
            at += 1;
        }
    }

    /// The item at the cursor has been sent.
    pub fn sent(&mut self, position: u64) {
        self.change(position, State::Flying);
        self.cursor = position.saturating_add(1);
    }

    /// The item is to be sent again.
    pub fn again(&mut self, position: u64) {
        self.change(position, State::Waiting);
        self.cursor = self.cursor.min(position);
    }

    /// The item needs no sending any more.
    pub fn settle(&mut self, position: u64) {
        let at = self.index(position);
        let Some(entry) = self.queue.get_mut(at) else {
            return;
        };
        if entry.position != position || entry.state == State::Settled {
            return;
        }
        entry.state = State::Settled;
        if !entry.birth {
            self.prints.remove(&(entry.boot, entry.number, entry.print));
        }
        self.unsettled -= 1;
        while self
            .queue
            .front()
            .is_some_and(|e| e.state == State::Settled)
        {
            self.queue.pop_front();
        }
    }

    /// Everything below `floor` needs no sending any more.
    pub fn settle_below(&mut self, floor: u64) {
        while let Some(front) = self.queue.front().copied().filter(|e| e.position < floor) {
            self.settle(front.position);
        }
    }

    /// A new connection: nothing of what flew has arrived.
    pub fn rewind(&mut self) {
        self.cursor = 0;
        self.announced.clear();
        let flying = self.queue.iter_mut().filter(|e| e.state == State::Flying);
        flying.for_each(|e| e.state = State::Waiting);
    }

    /// Whether a birth of this boot has gone out on this connection; with `refused`, the one that upstream
    /// has refused before.
    pub fn is_announced(&self, boot: u64, refused: bool) -> bool {
        let last = self.announced.get(&boot);
        last.is_some_and(|was_refused| *was_refused == refused)
    }

    /// A birth of this boot goes out.
    pub fn announce(&mut self, boot: u64, refused: bool) {
        self.announced.insert(boot, refused);
    }

    /// Position of the oldest item that is not upstream.
    pub fn front(&self) -> Option<u64> {
        self.queue.front().map(|e| e.position)
    }

    /// Items that are not upstream.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    fn change(&mut self, position: u64, to: State) {
        let at = self.index(position);
        let entry = self.queue.get_mut(at);
        if let Some(entry) = entry.filter(|e| e.position == position && e.state != State::Settled) {
            entry.state = to;
        }
    }

    fn index(&self, position: u64) -> usize {
        self.queue.partition_point(|e| e.position < position)
    }
}
