//! Publishes on their way to an acknowledgement, in the order they came.
//!
//! ```text
//! PUBLISH ─▶ │ open │ open │ done │ open │ ◀─ newest       the first is acknowledged as soon as it is
//!              first                                       done; what is done behind it waits its turn
//! ```
//!
//! MQTT wants PUBACK and PUBREC in the order of their PUBLISH. The token of a publish is its place, so
//! nothing is looked up.

use std::collections::VecDeque;

use chordae_base::StreamKey;

use crate::core::decode::Shape;

/// What a publish waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waits {
    /// The verdict of ingest.
    Ingest {
        stream: StreamKey,
        shape: Shape,
        boot: Option<u64>,
    },
    /// The exchange; a repeat of a message at QoS 2 that it may know already.
    Exchange { retain: bool },
    /// The reply to a command is being kept.
    Reply,
    /// Nothing.
    Nothing,
}

/// A publish that is not acknowledged yet.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// 0 at QoS 0.
    pub(super) id: u16,
    pub(super) qos: u8,
    pub(super) bytes: usize,
    pub(super) waits: Waits,
    /// How it is to be acknowledged, once that is known.
    pub(super) done: Option<(u8, Option<String>)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Acks {
    queue: VecDeque<Open>,
    /// Token of the first.
    first: u64,
    bytes: usize,
    /// Those with QoS > 0.
    promised: usize,
}

impl Acks {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn promised(&self) -> usize {
        self.promised
    }

    /// Gives its token.
    pub(super) fn push(&mut self, open: Open) -> u64 {
        self.bytes += open.bytes;
        self.promised += usize::from(open.qos > 0);
        self.queue.push_back(open);
        self.first + self.queue.len() as u64 - 1
    }

    /// A publish that is still waited for.
    pub(super) fn open(&mut self, token: u64) -> Option<&mut Open> {
        let place = usize::try_from(token.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(place).filter(|open| open.done.is_none())
    }

    /// The next to be acknowledged.
    pub(super) fn pop_done(&mut self) -> Option<Open> {
        self.queue.front()?.done.as_ref()?;
        let open = self.queue.pop_front()?;
        self.first += 1;
        self.bytes -= open.bytes;
        self.promised -= usize::from(open.qos > 0);
        Some(open)
    }
}
