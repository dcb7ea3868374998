//! ZeroMQ over the `zeromq` crate's DEALER (formats.md 2).
//!
//! What that crate lacks is done around it: it never connects again, its sends only queue and its
//! queue is lost with the peer, so a socket lives for one connection and credit bounds what is in
//! flight; it does not say when the peer is gone, so the tunnel does.

use std::time::Duration;

use bytes::Bytes;
use chordae_base::{Failure, Outcome, StreamKey, limits};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use zeromq::{DealerRecvHalf, DealerSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::{CONNECT_S, Dial, Event, Parcel, Reason, tunnel};

/// The number that stands for the birth in an acknowledgement.
const BIRTH: u64 = u64::MAX;
/// Nacks that mean "later": no room, or it cannot be judged now.
const LATER: [&str; 2] = ["full", "unsure"];

/// The nack of a frame that took the birth's number.
const SEQ: &str = "seq";

pub(super) struct Client {
    out: mpsc::Sender<Vec<Bytes>>,
    device: Bytes,
    stream: Bytes,
}

/// Connects; there is no greeting of the door's own, so a socket that is there is a connection.
pub(super) async fn open(
    dial: &Dial,
    events: mpsc::Sender<Event>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Outcome<Client> {
    let path = tunnel(dial, events.clone(), tasks).await?;
    let refused = |e: zeromq::ZmqError| Failure::io(format!("connecting: {e}"));
    let mut socket = DealerSocket::new();
    timeout(
        Duration::from_secs(CONNECT_S),
        socket.connect(&format!("ipc://{path}")),
    )
    .await
    .map_err(|_| Failure::busy(format!("no ZeroMQ greeting within {CONNECT_S} s")))?
    .map_err(refused)?;
    let (mut to_door, from_door) = socket.split();
    let room = 2 * limits::SIM_INFLIGHT_MAX + limits::SIM_ORDERS_MAX + 8;
    let (out, mut parcels) = mpsc::channel::<Vec<Bytes>>(room);
    tasks.push(tokio::spawn(async move {
        while let Some(parts) = parcels.recv().await {
            // Never without parts; an error means the peer is gone, which the tunnel reports.
            if let Ok(message) = ZmqMessage::try_from(parts)
                && to_door.send(message).await.is_err()
            {
                return;
            }
        }
    }));
    tasks.push(tokio::spawn(listen(
        from_door,
        dial.key.clone(),
        events,
        out.clone(),
    )));
    Ok(Client {
        out,
        device: Bytes::from(dial.key.device.to_string()),
        stream: Bytes::from(dial.key.to_string()),
    })
}

impl Client {
    pub(super) fn send(&self, parcel: Parcel<'_>) -> bool {
        let word = Bytes::from_static;
        let (device, stream) = (self.device.clone(), self.stream.clone());
        let parts = match parcel {
            Parcel::Birth { payload, .. } => vec![word(b"birth"), stream, payload],
            Parcel::Frame { payload, .. } => vec![word(b"frame"), stream, payload],
            Parcel::Status(true) => vec![word(b"status"), device, word(b"online")],
            Parcel::Status(false) => vec![word(b"status"), device, word(b"offline")],
            Parcel::Reply { id, payload } => {
                let id = Bytes::copy_from_slice(id.as_bytes());
                vec![word(b"reply"), device, id, payload]
            }
        };
        self.out.try_send(parts).is_ok()
    }
}

async fn listen(
    mut from_door: DealerRecvHalf,
    key: StreamKey,
    events: mpsc::Sender<Event>,
    out: mpsc::Sender<Vec<Bytes>>,
) {
    if events.send(Event::Connected).await.is_err() {
        return;
    }
    loop {
        let event = match from_door.recv().await {
            Ok(message) => {
                let parts = message.into_vec();
                let Some(event) = read(&parts, &key) else {
                    continue;
                };
                if let Event::Command(_) = event
                    && let Some(taken) = command_taken(&parts)
                {
                    // Without room the door sends the command again, and it is answered again.
                    out.try_send(taken).ok();
                }
                event
            }
            Err(end) => Event::Closed(end.to_string()),
        };
        let ends = matches!(event, Event::Closed(_));
        if events.send(event).await.is_err() || ends {
            return;
        }
    }
}

/// What the door says; nothing where it speaks of another stream, or of what we do not know.
fn read(parts: &[Bytes], key: &StreamKey) -> Option<Event> {
    let word = |n: usize| parts.get(n).and_then(|p| std::str::from_utf8(p).ok());
    let number = |n: usize| Some(u64::from_be_bytes(parts.get(n)?.as_ref().try_into().ok()?));
    let ours = word(1)? == key.to_string();
    match word(0)? {
        "ack" if ours => Some(match (number(2)?, number(3)?, number(4)?) {
            (boot, BIRTH, BIRTH) => Event::Birth(boot, None),
            (boot, first, last) => Event::Durable(boot, first, last),
        }),
        "nack" if ours => {
            let label = word(4)?.to_owned();
            let reason = Reason {
                why: String::new(),
                later: LATER.contains(&label.as_str()),
                label,
            };
            Some(match (number(2)?, number(3)?) {
                (boot, BIRTH) if reason.label != SEQ => Event::Birth(boot, Some(reason)),
                (boot, seq) => Event::Nacked(boot, seq, reason),
            })
        }
        "cmd" => Some(Event::Command(parts.get(2)?.clone())),
        "replied" => Some(Event::Replied(word(2)?.to_owned())),
        _ => None,
    }
}

fn command_taken(parts: &[Bytes]) -> Option<Vec<Bytes>> {
    let order = crate::orders::Order::read(parts.get(2)?)?;
    let device = parts.get(1)?.clone();
    Some(vec![
        Bytes::from_static(b"cmd-ack"),
        device,
        order.id.into(),
    ])
}
