//! The sealer: the thread that makes history.
//!
//! ```text
//!  orders ─▶ group (one per did) ─▶ build each ─▶ sink.commit: files, then links ─▶ told: linked
//! ```
//!
//! What a crash means at each step:
//! - an order waits, or is being built: nothing is on the disk; replay makes the order again.
//! - in `commit`, before the links: files that no link names (step c). Replay makes the orders again and
//!   the sink adopts or removes the files.
//! - in `commit`, after the links' sync (step d): history. The windower never heard of it; the next start
//!   folds it from the links.
//! - after `commit`, before the WAL is trimmed: coverage drops the frames that are still there.
//!
//! Index and prev of a chunk are those of the tip when it is built, so one did has one chunk in a
//! group, and orders of one did keep their order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chordae_base::{
    Failure, FailureKind, Outcome,
    limits::{COMMIT_CHUNKS_MAX, COMMIT_CODES_MAX},
    seams::{Clock, Entropy, Mail, Mailbox, Threads},
};
use chordae_chunk::SealedChunk;

use super::{
    build::{Frames, build},
    cache::PayloadCache,
};
use crate::{
    core::{
        bucket::SealOrder,
        ports::{ChunkSink, FrameSource},
    },
    metrics::Metrics,
};

/// A sink that is busy (a full disk) is asked again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// What the sealer tells the windower's thread. Every order is told once, unless the sink is gone.
#[derive(Debug)]
pub enum Told {
    /// These orders are linked.
    Linked(Vec<u64>),
    /// This order failed twice.
    Failed {
        /// The order.
        id: u64,
        /// The second failure.
        failure: Failure,
        /// The fault is the bucket's own: it cannot be built. Else the store would not take it.
        unsealable: bool,
    },
    /// The sink is gone; the process must end.
    Gone(Failure),
}

/// What the sealer works with.
pub struct Sealer {
    /// The WAL.
    pub source: Box<dyn FrameSource>,
    /// In front of it.
    pub cache: Arc<PayloadCache>,
    /// Storage.
    pub sink: Box<dyn ChunkSink>,
    /// For salts.
    pub entropy: Arc<dyn Entropy>,
    /// For the metric only.
    pub clock: Arc<dyn Clock>,
    /// For pauses.
    pub threads: Threads,
    /// Metrics.
    pub metrics: Metrics,
}

impl Sealer {
    /// Works until the orders end or the sink is gone. `told` has room for every order that is out.
    pub fn run(mut self, orders: &Mail<Arc<SealOrder>>, told: &Mailbox<Told>) {
        let mut queue = VecDeque::new();
        loop {
            if queue.is_empty() {
                match orders.recv() {
                    Ok(order) => queue.push_back(order),
                    Err(_) => return,
                }
            }
            while let Ok(order) = orders.try_recv() {
                queue.push_back(order);
            }
            for news in self.group(take_group(&mut queue)) {
                let gone = matches!(news, Told::Gone(_));
                if told.send(news).is_err() || gone {
                    return;
                }
            }
        }
    }

    /// Seals one group: at most one order per did.
    fn group(&mut self, orders: Vec<Arc<SealOrder>>) -> Vec<Told> {
        let _sealing = tracing::debug_span!("seal", chunks = orders.len()).entered();
        let begun = self.clock.mono_ns();
        let mut news = Vec::new();
        let mut built = Vec::new();
        for order in orders {
            match self.build(&order).or_else(|_| self.build(&order)) {
                Ok(chunk) => built.push((order, chunk)),
                Err(failure) => news.push(Told::Failed {
                    id: order.id,
                    // A disk that does not give its bytes today may give them tomorrow.
                    unsealable: failure.kind != FailureKind::Io,
                    failure,
                }),
            }
        }
        match self.commit(&built) {
            Ok(()) => news.push(self.linked(built, begun)),
            Err(failure) if failure.kind == FailureKind::Io => news.push(Told::Gone(failure)),
            // One of them is at fault: each for itself, so that only that one is left behind.
            Err(_) => {
                for one in built {
                    news.push(self.alone(one, begun));
                }
            }
        }
        news
    }

    fn alone(&mut self, one: (Arc<SealOrder>, SealedChunk), begun: u64) -> Told {
        let id = one.0.id;
        let one = vec![one];
        match self.commit(&one) {
            Ok(()) => self.linked(one, begun),
            Err(failure) if failure.kind == FailureKind::Io => Told::Gone(failure),
            Err(failure) => Told::Failed {
                id,
                failure,
                unsealable: false,
            },
        }
    }

    fn build(&self, order: &SealOrder) -> Outcome<SealedChunk> {
        let _building = tracing::debug_span!("seal.build", codes = order.codes()).entered();
        let frames = Frames {
            cache: &self.cache,
            source: &*self.source,
        };
        let tip = self.sink.tip(&order.key.cell.did);
        build(order, tip, &frames, &*self.entropy)
    }

    fn commit(&mut self, built: &[(Arc<SealOrder>, SealedChunk)]) -> Outcome<()> {
        if built.is_empty() {
            return Ok(());
        }
        let _storing = tracing::debug_span!("seal.store", chunks = built.len()).entered();
        loop {
            match self
                .sink
                .commit(built.iter().map(|(_, chunk)| chunk.clone()).collect())
            {
                Ok(_) => return Ok(()),
                Err(failure) if failure.kind == FailureKind::Busy => {
                    tracing::warn!(why = %failure, "storage is busy; sealing again soon");
                    self.threads.sleep(BUSY_PAUSE);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn linked(&self, built: Vec<(Arc<SealOrder>, SealedChunk)>, begun: u64) -> Told {
        let seconds = std::time::Duration::from_nanos(self.clock.mono_ns().saturating_sub(begun));
        for (order, chunk) in &built {
            self.metrics
                .linked(order.reason, chunk.bytes().len(), seconds);
        }
        Told::Linked(built.into_iter().map(|(order, _)| order.id).collect())
    }
}

/// The first orders whose dids differ, as many as one commit takes. The others keep their places.
fn take_group(queue: &mut VecDeque<Arc<SealOrder>>) -> Vec<Arc<SealOrder>> {
    let (mut group, mut rest) = (Vec::new(), VecDeque::new());
    let mut dids = BTreeSet::new();
    let mut codes = 0u64;
    while let Some(order) = queue.pop_front() {
        let sum = codes.saturating_add(order.codes());
        let room = group.is_empty() || (group.len() < COMMIT_CHUNKS_MAX && sum <= COMMIT_CODES_MAX);
        // A did that was passed over is not taken later in this group.
        if dids.insert(order.key.cell.did) && room {
            codes = sum;
            group.push(order);
        } else {
            rest.push_back(order);
        }
    }
    *queue = rest;
    group
}
