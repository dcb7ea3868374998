//! The way into the exchange: a mailbox bounded in messages and bytes. Whoever asks more waits.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{DeviceId, Failure, Outcome, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::core::{
    arrival::ConnId,
    exchange::{
        message::Message,
        request::{Request, ToClient},
    },
};

pub use crate::core::exchange::command::{CommandLine, CommandState};

/// Bytes, in KiB, that may wait in the mailbox.
const MAILBOX_KIB: usize = 32 * 1024;

/// What lies in the mailbox.
pub(super) enum Letter {
    Connect(ConnId, mpsc::Sender<ToClient>),
    Request(ConnId, u64, Request, OwnedSemaphorePermit),
    Publish(Message, OwnedSemaphorePermit, oneshot::Sender<Outcome<()>>),
    Retained(String, oneshot::Sender<Option<Bytes>>),
    Issue(Issue, oneshot::Sender<Outcome<String>>),
    Delivered(DeviceId, String, oneshot::Sender<bool>),
    Replied(DeviceId, String, Bytes, oneshot::Sender<Outcome<bool>>),
    Commands(Option<DeviceId>, oneshot::Sender<Vec<CommandLine>>),
    Settle(String, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A command to be issued.
pub(super) struct Issue {
    pub(super) device: DeviceId,
    pub(super) id: Option<String>,
    pub(super) body: String,
    pub(super) expires_ns: i64,
}

impl Letter {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Request(_, _, request, _) => request.bytes(),
            Self::Publish(message, ..) => message.bytes(),
            _ => 0,
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct ExchangeHandle {
    mailbox: mpsc::Sender<Letter>,
    room: Arc<Semaphore>,
    changed: watch::Receiver<u64>,
}

/// The thread's end of a handle.
pub(super) struct Mailbox {
    pub(super) letters: mpsc::Receiver<Letter>,
    pub(super) changed: watch::Sender<u64>,
}

impl ExchangeHandle {
    pub(super) fn new() -> (Self, Mailbox) {
        let (mailbox, letters) = mpsc::channel(limits::EXCHANGE_QUEUE);
        let (bell, changed) = watch::channel(0);
        let room = Arc::new(Semaphore::new(MAILBOX_KIB));
        let handle = Self {
            mailbox,
            room,
            changed,
        };
        let mailbox = Mailbox {
            letters,
            changed: bell,
        };
        (handle, mailbox)
    }

    /// Makes a connection known, before its `Attach`. Half of the channel `out` is for answers: a
    /// connection keeps fewer requests open than that. It ends when `out` is dropped on either side.
    ///
    /// # Errors
    /// `Io` when the exchange has ended.
    pub async fn connect(&self, conn: ConnId, out: mpsc::Sender<ToClient>) -> Outcome<()> {
        self.send(Letter::Connect(conn, out)).await
    }

    /// Asks; waits while the mailbox is full. The answer comes through the connection's channel.
    ///
    /// # Errors
    /// `Io` when the exchange has ended: nothing is answered any more.
    pub async fn request(&self, conn: ConnId, token: u64, request: Request) -> Outcome<()> {
        let room = self.room(request.bytes()).await?;
        self.send(Letter::Request(conn, token, request, room)).await
    }

    /// Publishes for the house: a retained birth, a status from a gateway. With QoS > 0 it is durable
    /// when this returns.
    ///
    /// # Errors
    /// `Io` when the exchange has ended; `Busy` when a quota is full; `BadInput` for a bad topic.
    pub async fn publish(&self, message: Message) -> Outcome<()> {
        let room = self.room(message.bytes()).await?;
        self.ask(|reply| Letter::Publish(message, room, reply))
            .await?
    }

    /// The payload retained under a topic.
    ///
    /// # Errors
    /// `Io` when the exchange has ended.
    pub async fn retained(&self, topic: &str) -> Outcome<Option<Bytes>> {
        self.ask(|reply| Letter::Retained(topic.to_owned(), reply))
            .await
    }

    /// Issues a command; durable when it returns. `body` is a JSON object without `id`. Without an id one
    /// is made; an id that is known already gives that command again and changes nothing. Gives the id.
    ///
    /// # Errors
    /// `BadInput` for a body or id that breaks the rules, or an expiry that has passed; `Busy` when as
    /// many commands wait for the device as may; `Io` when the exchange has ended.
    pub async fn issue(
        &self,
        device: DeviceId,
        id: Option<String>,
        body: String,
        expires_ns: i64,
    ) -> Outcome<String> {
        let issue = Issue {
            device,
            id,
            body,
            expires_ns,
        };
        self.ask(|reply| Letter::Issue(issue, reply)).await?
    }

    /// The device, or the gateway it is behind, has the command: it need not be sent again. Durable when
    /// it returns; false if there is no such command of this device.
    ///
    /// # Errors
    /// `Io` when the exchange has ended.
    pub async fn delivered(&self, device: &DeviceId, id: &str) -> Outcome<bool> {
        self.ask(|reply| Letter::Delivered(device.clone(), id.to_owned(), reply))
            .await
    }

    /// The device has replied; durable when it returns. The first reply stays. False if there is no such
    /// command of this device.
    ///
    /// # Errors
    /// `BadInput` for an overlong reply; `Io` when the exchange has ended.
    pub async fn replied(&self, device: &DeviceId, id: &str, reply: Bytes) -> Outcome<bool> {
        let (device, id) = (device.clone(), id.to_owned());
        self.ask(|answer| Letter::Replied(device, id, reply, answer))
            .await?
    }

    /// Commands of one device, or of all, in the order of their issue.
    ///
    /// # Errors
    /// `Io` when the exchange has ended.
    pub async fn commands(&self, device: Option<DeviceId>) -> Outcome<Vec<CommandLine>> {
        self.ask(|reply| Letter::Commands(device, reply)).await
    }

    /// Forgets a command: at a gateway, the reply has been taken upstream.
    ///
    /// # Errors
    /// `Io` when the exchange has ended.
    pub async fn settle(&self, id: &str) -> Outcome<()> {
        self.ask(|reply| Letter::Settle(id.to_owned(), reply)).await
    }

    /// Changes whenever a command or a retained `status` has changed, durably.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Completes when the exchange has ended.
    pub async fn ended(&self) {
        self.mailbox.closed().await;
    }

    /// Orderly stop: everything asked before is committed and told, then the thread ends. Sessions stay as
    /// after a lost connection; wills are published when it next starts.
    ///
    /// # Errors
    /// `Io` when it has ended already, or ends with a failure ([`super::Exchange::join`] has it).
    pub async fn stop(&self) -> Outcome<()> {
        self.ask(Letter::Stop).await
    }

    async fn ask<T>(&self, letter: impl FnOnce(oneshot::Sender<T>) -> Letter) -> Outcome<T> {
        let (reply, answer) = oneshot::channel();
        self.send(letter(reply)).await?;
        answer.await.map_err(|_| ended())
    }

    async fn room(&self, bytes: usize) -> Outcome<OwnedSemaphorePermit> {
        let kib = u32::try_from((bytes / 1024 + 1).min(MAILBOX_KIB)).unwrap_or(u32::MAX);
        Arc::clone(&self.room)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| ended())
    }

    async fn send(&self, letter: Letter) -> Outcome<()> {
        self.mailbox.send(letter).await.map_err(|_| ended())
    }
}

fn ended() -> Failure {
    Failure::io("the exchange has ended; nothing is answered any more, see its first error")
}
