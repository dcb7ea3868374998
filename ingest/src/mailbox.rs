//! The ways into the ingest thread.
//!
//! Arrivals and questions go through a bounded mailbox, bounded in bytes too: whoever offers more waits.
//! News from the chunker goes into a letterbox that never blocks and adds up what is not read yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use chordae_base::{Failure, Outcome, RangeSet, StreamKey, limits, seams::Clock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    core::{
        arrival::{ConnId, Content, Notice, Verdict},
        ports::{CoveredNews, GapNews, Newest},
        sight::Sight,
    },
    service::{Letters, MAILBOX_KIB},
};

/// Something that arrived, with the way back to who sent it.
#[derive(Debug)]
pub struct Arrival {
    /// The stream, already authorised by the door.
    pub stream: StreamKey,
    /// What arrived.
    pub content: Content,
    /// Monotonic time at the door.
    pub at_mono_ns: u64,
    /// When a gateway received it, by the gateway's clock.
    pub relayed_ns: Option<i64>,
    /// Which door, for the metrics.
    pub door: &'static str,
    /// Who sent it.
    pub conn: ConnId,
    /// See [`crate::core::arrival::Offer::can_be_told`].
    pub can_be_told: bool,
    /// The sender's own number for it.
    pub token: u64,
    /// Where its [`Notice`] goes. The door keeps fewer offers open than this channel holds, so the
    /// service never waits for a connection.
    pub reply: mpsc::Sender<Notice>,
}

pub(crate) enum Message {
    /// Of one connection, in order.
    Offers(Vec<Arrival>, OwnedSemaphorePermit),
    Standing(StreamKey, u64, mpsc::Sender<Notice>),
    Newest(StreamKey, oneshot::Sender<Option<Newest>>),
    Sights(oneshot::Sender<BTreeMap<StreamKey, Sight>>),
    Gone(ConnId),
    Stop(oneshot::Sender<()>),
}

impl Message {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Offers(arrivals, _) => arrivals.iter().map(|a| a.content.bytes()).sum(),
            _ => 0,
        }
    }

    /// How many records it may come to.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Offers(arrivals, _) => arrivals.len(),
            _ => 1,
        }
    }
}

/// The way into a running service. Cheap to clone.
#[derive(Clone)]
pub struct IngestHandle {
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) letters: Arc<Letterbox>,
    pub(crate) doors_open: watch::Receiver<bool>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl IngestHandle {
    /// Offers something; waits while the mailbox is full. The verdict comes as a [`Notice`].
    ///
    /// # Errors
    /// `Io` when the service has ended: nothing is acknowledged any more.
    pub async fn offer(&self, arrival: Arrival) -> Outcome<()> {
        self.offer_all(vec![arrival]).await
    }

    /// Offers what one connection has read at once, in order; otherwise as [`Self::offer`].
    ///
    /// # Errors
    /// As [`Self::offer`].
    pub async fn offer_all(&self, arrivals: Vec<Arrival>) -> Outcome<()> {
        let bytes: usize = arrivals.iter().map(|a| a.content.bytes()).sum();
        let kib = (bytes / 1024 + 1).min(MAILBOX_KIB);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| ended())?;
        self.send(Message::Offers(arrivals, room)).await
    }

    /// Asks for the standing of a boot; the answer comes as a [`Notice`].
    ///
    /// # Errors
    /// `Io` when the service has ended.
    pub async fn standing(
        &self,
        stream: StreamKey,
        boot: u64,
        reply: mpsc::Sender<Notice>,
    ) -> Outcome<()> {
        self.send(Message::Standing(stream, boot, reply)).await
    }

    /// The newest live frame of a stream, for `stream assign`.
    ///
    /// # Errors
    /// `Io` when the service has ended.
    pub async fn newest(&self, stream: StreamKey) -> Outcome<Option<Newest>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Newest(stream, reply)).await?;
        answer.await.map_err(|_| ended())
    }

    /// How each stream stands, for operators.
    ///
    /// # Errors
    /// `Io` when the service has ended.
    pub async fn sights(&self) -> Outcome<BTreeMap<StreamKey, Sight>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Sights(reply)).await?;
        answer.await.map_err(|_| ended())
    }

    /// A connection is gone.
    pub async fn gone(&self, conn: ConnId) {
        // If the service has ended there is nothing to forget.
        self.send(Message::Gone(conn)).await.ok();
    }

    /// Orderly stop: everything offered before is committed and told, then the thread ends.
    ///
    /// # Errors
    /// `Io` when the service has ended already, or ends with a failure ([`crate::service::Ingest::join`]
    /// has it).
    pub async fn stop(&self) -> Outcome<()> {
        let (reply, done) = oneshot::channel();
        self.send(Message::Stop(reply)).await?;
        done.await.map_err(|_| ended())
    }

    /// Completes when the service has ended.
    pub async fn ended(&self) {
        self.mailbox.closed().await;
    }

    /// Chunks hold these frames. Never blocks; callable from any thread.
    pub fn covered(&self, news: Vec<CoveredNews>) {
        self.letters.covered(news);
    }

    /// These frames are in no chunk and never will be. Never blocks; callable from any thread.
    pub fn gap(&self, gap: GapNews) {
        self.letters.gap(gap);
    }

    /// The log may be trimmed up to `floor`. Never blocks; callable from any thread.
    pub fn trim(&self, floor: u64) {
        self.letters.trim(floor);
    }

    /// Whether new data are taken; changes with disk and log.
    pub fn doors_open(&self) -> watch::Receiver<bool> {
        self.doors_open.clone()
    }

    /// Monotonic time, as [`Arrival::at_mono_ns`] wants it.
    pub fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }

    async fn send(&self, message: Message) -> Outcome<()> {
        self.mailbox.send(message).await.map_err(|_| ended())
    }
}

/// Puts a notice into its connection's channel, which has room for all it may be owed.
pub(crate) fn notify(reply: &mpsc::Sender<Notice>, notice: Notice) {
    match reply.try_send(notice) {
        // A closed connection needs no answer.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            tracing::error!("a door keeps more offers open than it takes answers; one is lost");
        }
    }
}

/// As [`notify`], for what nobody is owed: true if it was put in, or nobody is there any more; false while the
/// channel holds so much that answers may come to need the place.
pub(crate) fn hint(reply: &mpsc::Sender<Notice>, notice: Notice) -> bool {
    if reply.capacity() <= limits::CONNECTION_OWED_MAX && !reply.is_closed() {
        return false;
    }
    reply.try_send(notice).ok();
    true
}

/// The verdicts of one connection, by token.
type ForOne = (mpsc::Sender<Notice>, Vec<(u64, Verdict)>);

/// Verdicts on their way back, gathered so that a connection is woken once for what it offered at once.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    gathered: Vec<ForOne>,
}

impl Fates {
    pub(crate) fn add(&mut self, reply: mpsc::Sender<Notice>, token: u64, verdict: Verdict) {
        match self.gathered.last_mut() {
            Some((last, fates)) if last.same_channel(&reply) => fates.push((token, verdict)),
            _ => self.gathered.push((reply, vec![(token, verdict)])),
        }
    }

    pub(crate) fn tell(self) {
        for (reply, fates) in self.gathered {
            notify(&reply, Notice::Fates(fates));
        }
    }
}

fn ended() -> Failure {
    Failure::io("ingest has ended; nothing is acknowledged any more, see its first error")
}

/// News that waits to be read, added up.
#[derive(Debug, Default)]
pub(crate) struct Letterbox {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    covered: BTreeMap<(StreamKey, u64), RangeSet>,
    /// Bounded by the log: each frame of it is in one bucket of a slot.
    gaps: Vec<GapNews>,
    trim: Option<u64>,
}

impl Letterbox {
    fn covered(&self, news: Vec<CoveredNews>) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        for CoveredNews {
            stream, boot, seqs, ..
        } in news
        {
            let known = inside.covered.entry((stream, boot)).or_default();
            for (first, last) in seqs.iter() {
                known.insert_range(first, last);
            }
        }
    }

    fn gap(&self, gap: GapNews) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.gaps.push(gap);
    }

    fn trim(&self, floor: u64) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.trim = inside.trim.max(Some(floor));
    }

    pub(crate) fn take(&self) -> Letters {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let Inside {
            covered,
            gaps,
            trim,
        } = std::mem::take(&mut *inside);
        let covered = covered
            .into_iter()
            .map(|((s, boot), seqs)| (s, boot, seqs))
            .collect();
        Letters {
            covered,
            gaps,
            trim,
        }
    }
}
