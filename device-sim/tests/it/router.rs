//! A tiny ZeroMQ door: a ROUTER on loopback that stores what it acknowledges in memory, sometimes
//! forgets an acknowledgement, asks to try later, or refuses.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chordae_base::wire::{Birth, Frame};
use tokio::task::JoinHandle;
use zeromq::{Endpoint, Host, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// What the door holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) frames: BTreeMap<(u64, u64), Frame>,
    pub(crate) births: BTreeMap<u64, Birth>,
    pub(crate) publishes: u64,
    pub(crate) differing: u64,
    pub(crate) heard: Vec<(String, String)>,
    pub(crate) deferred: u64,
    /// Sent when a birth comes.
    pub(crate) order: Option<String>,
}

/// A running door.
pub(crate) struct Router {
    pub(crate) address: SocketAddr,
    pub(crate) held: Arc<Mutex<Held>>,
    task: JoinHandle<()>,
}

impl Router {
    /// One in so many frames is not answered, or nacked for now; frames of this seq for good.
    pub(crate) async fn start(forgets: u64, defers: u64, refuses: Option<u64>) -> Self {
        let mut socket = RouterSocket::new();
        let Endpoint::Tcp(Host::Ipv4(ip), port) = socket.bind("tcp://127.0.0.1:0").await.unwrap()
        else {
            unreachable!("bound to an address");
        };
        let held = Arc::new(Mutex::new(Held::default()));
        let shared = Arc::clone(&held);
        let task = tokio::spawn(async move {
            loop {
                let Ok(message) = socket.recv().await else {
                    continue;
                };
                let parts = message.into_vec();
                let answers = answer(
                    &parts,
                    &mut shared.lock().unwrap(),
                    (forgets, defers),
                    refuses,
                );
                for answer in answers {
                    let mut message = vec![parts[0].clone()];
                    message.extend(answer);
                    // A peer that has gone is told nothing.
                    let message = ZmqMessage::try_from(message).unwrap();
                    socket.send(message).await.ok();
                }
            }
        });
        Self {
            address: SocketAddr::from((ip, port)),
            held,
            task,
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(
    parts: &[Bytes],
    held: &mut Held,
    (forgets, defers): (u64, u64),
    refuses: Option<u64>,
) -> Vec<Vec<Bytes>> {
    let text = |n: usize| String::from_utf8(parts[n].to_vec()).unwrap();
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let word = Bytes::from_static;
    let stream = parts[2].clone();
    match parts[1].as_ref() {
        b"birth" => {
            let birth = Birth::decode(&parts[3]).unwrap();
            let boot = birth.boot;
            held.births.insert(boot, birth);
            let mut answers = vec![vec![
                word(b"ack"),
                stream,
                number(boot),
                number(u64::MAX),
                number(u64::MAX),
            ]];
            if let Some(order) = &held.order {
                let order = Bytes::from(order.clone());
                answers.push(vec![word(b"cmd"), word(b"dev-0"), order]);
            }
            answers
        }
        b"frame" => {
            let frame = Frame::decode(&parts[3]).unwrap();
            held.publishes += 1;
            let (boot, seq) = (frame.boot, frame.seq);
            let nack = |why: &'static [u8]| {
                let (boot, seq) = (number(boot), number(seq));
                vec![vec![word(b"nack"), stream.clone(), boot, seq, word(why)]]
            };
            if defers != 0 && held.publishes.is_multiple_of(defers) {
                held.deferred += 1;
                return nack(b"full");
            }
            if refuses == Some(seq) {
                return nack(b"conflict");
            }
            match held.frames.get(&(boot, seq)) {
                Some(first) if first.codes != frame.codes => held.differing += 1,
                Some(_) => {}
                None => {
                    held.frames.insert((boot, seq), frame);
                }
            }
            if forgets != 0 && held.publishes.is_multiple_of(forgets) {
                return Vec::new();
            }
            let ack = word(b"ack");
            vec![vec![ack, stream, number(boot), number(seq), number(seq)]]
        }
        b"reply" => {
            held.heard.push((text(1), text(4)));
            vec![vec![word(b"replied"), stream, parts[3].clone()]]
        }
        _ => {
            held.heard.push((text(1), text(3)));
            Vec::new()
        }
    }
}
