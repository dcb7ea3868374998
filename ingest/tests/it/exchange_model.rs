//! Clients as the standard wants them, a disk that loses power, and the rule they can rely on: a message
//! published at QoS 1 reaches every lasting subscriber at least once, one at QoS 2 exactly once.
//!
//! ```text
//! publish · hear · lose · back · crash (torn), in any order        each client keeps its side of the state:
//! ──▶ all come back and hear everything ──▶ count                  what it has sent, which ids it has seen
//! ```
//!
//! Negative control: the same on a disk whose sync does nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chordae_base::seams::{
    Disk, Threads,
    fake::{FakeClock, FakeDisk, FakeEntropy},
    faulty::{Fault, FaultyDisk, How, Op as DiskOp},
};
use chordae_ingest::{
    core::{
        arrival::ConnId,
        exchange::{
            message::{Delivery, Wish},
            request::{Answer, Request, ToClient},
        },
    },
    exchange::{Exchange, ExchangeHandle, Parts},
};
use proptest::prelude::*;
use tokio::{runtime::Runtime, sync::mpsc};

use crate::exchange_stage::{SECOND, hello, message, text};

const CLIENTS: usize = 3;
const CHANNEL: usize = 16;
const TOPICS: [&str; 3] = ["t/0", "t/1", "u"];

#[derive(Debug, Clone)]
enum Op {
    Publish(usize, usize, u8),
    Hear(usize, usize),
    Lose(usize),
    Back(usize),
    Crash(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let who = 0..CLIENTS;
    let op = prop_oneof![
        8 => (who.clone(), 0..TOPICS.len(), 1..=2u8).prop_map(|(w, t, q)| Op::Publish(w, t, q)),
        8 => (who.clone(), 1..6usize).prop_map(|(w, n)| Op::Hear(w, n)),
        2 => who.clone().prop_map(Op::Lose),
        4 => who.prop_map(Op::Back),
        1 => (0..u64::MAX).prop_map(|seed| Op::Crash(seed % 1000)),
    ];
    prop::collection::vec(op, 1..60)
}

/// The filters of each client: (filter, QoS).
fn filters() -> impl Strategy<Value = Vec<Vec<(&'static str, u8)>>> {
    let filter = prop_oneof![Just("t/0"), Just("t/+"), Just("#"), Just("u")];
    let wishes = prop::collection::vec((filter, 1..=2u8), 0..3);
    prop::collection::vec(wishes, CLIENTS)
}

/// A message that a client has begun to publish.
#[derive(Debug, Clone)]
struct Sending {
    topic: &'static str,
    text: String,
    qos: u8,
    received: bool,
}

#[derive(Default)]
struct Client {
    link: Option<(ConnId, mpsc::Receiver<ToClient>)>,
    sending: BTreeMap<u16, Sending>,
    seen: BTreeSet<u16>,
    got: Vec<String>,
}

struct World {
    runtime: Runtime,
    disk: FakeDisk,
    clock: FakeClock,
    exchange: Option<Exchange>,
    clients: Vec<Client>,
    conns: u64,
    published: Vec<Sending>,
    wishes: Vec<Vec<(&'static str, u8)>>,
}

fn open(disk: &FakeDisk, clock: &FakeClock) -> (Exchange, Arc<FaultyDisk>) {
    let faulty = Arc::new(FaultyDisk::new(Arc::new(disk.boot())));
    let disk = Arc::clone(&faulty) as Arc<dyn Disk>;
    let parts = Parts {
        disk,
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(FakeEntropy::new(1)),
        threads: Threads::of_the_machine(),
        dir: "/data/mqtt".into(),
        metrics: prometheus::Registry::new(),
    };
    (Exchange::open_with(parts, 4096).unwrap(), faulty)
}

impl World {
    /// `lies`: once everybody has subscribed, and until the first crash, syncs do nothing.
    fn new(wishes: Vec<Vec<(&'static str, u8)>>, lies: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (disk, clock) = (FakeDisk::new(), FakeClock::new(1_000 * SECOND));
        let (exchange, faulty) = open(&disk, &clock);
        let mut world = Self {
            runtime,
            disk,
            clock,
            exchange: Some(exchange),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            conns: 0,
            published: Vec::new(),
            wishes,
        };
        for who in 0..CLIENTS {
            world.back(who, true).unwrap();
            for (filter, qos) in world.wishes[who].clone() {
                let wish = Wish::plain(filter, qos);
                world.ask(who, 0, Request::Subscribe(vec![wish]));
            }
            world.hear(who, usize::MAX);
        }
        if lies {
            faulty.arm(Fault {
                for_ever: true,
                ..Fault::next(DiskOp::Sync, How::Lie)
            });
        }
        world
    }

    fn handle(&self) -> ExchangeHandle {
        self.exchange.as_ref().unwrap().handle()
    }

    /// Everything asked before has been answered.
    fn settle(&self) {
        let handle = self.handle();
        self.runtime.block_on(handle.retained("none")).unwrap();
    }

    fn ask(&self, who: usize, token: u64, request: Request) {
        if let Some((conn, _)) = &self.clients[who].link {
            let asked = self.handle();
            let asked = asked.request(*conn, token, request);
            self.runtime.block_on(asked).unwrap();
        }
    }

    fn back(&mut self, who: usize, first: bool) -> Result<(), String> {
        if self.clients[who].link.is_some() {
            return Ok(());
        }
        self.conns += 1;
        let conn = ConnId(self.conns);
        let (out, mut hears) = mpsc::channel(CHANNEL);
        let handle = self.handle();
        self.runtime.block_on(handle.connect(conn, out)).unwrap();
        let hello = hello(&who.to_string(), false, u32::MAX);
        let attach = handle.request(conn, 0, Request::Attach(hello));
        self.runtime.block_on(attach).unwrap();
        match self.runtime.block_on(hears.recv()) {
            Some(ToClient::Answer(0, Answer::Attached { present, .. })) if present != first => {}
            other => return Err(format!("client {who}: {other:?}")),
        }
        self.clients[who].link = Some((conn, hears));
        for (id, sending) in self.clients[who].sending.clone() {
            self.send(who, id, &sending);
        }
        Ok(())
    }

    fn send(&self, who: usize, id: u16, sending: &Sending) {
        let request = match sending.received {
            true => Request::Release(id),
            false => Request::Publish {
                message: message(sending.topic, &sending.text, sending.qos),
                id: (sending.qos == 2).then_some(id),
            },
        };
        self.ask(who, u64::from(id), request);
    }

    fn publish(&mut self, who: usize, topic: usize, qos: u8) {
        let client = &mut self.clients[who];
        // One keeps fewer requests open than half of one's channel holds.
        if client.link.is_none() || client.sending.len() >= CHANNEL / 2 {
            return;
        }
        let id = (1..).find(|id| !client.sending.contains_key(id)).unwrap();
        let sending = Sending {
            topic: TOPICS[topic],
            text: self.published.len().to_string(),
            qos,
            received: false,
        };
        client.sending.insert(id, sending.clone());
        self.published.push(sending.clone());
        self.send(who, id, &sending);
    }

    /// Hears up to so many things and says what the standard says. How many it was.
    fn hear(&mut self, who: usize, many: usize) -> usize {
        self.settle();
        let mut heard = 0;
        while heard < many {
            let link = self.clients[who].link.as_mut();
            let Some(what) = link.and_then(|(_, hears)| hears.try_recv().ok()) else {
                break;
            };
            heard += 1;
            self.take(who, what);
        }
        heard
    }

    fn take(&mut self, who: usize, what: ToClient) {
        match what {
            ToClient::Answer(_, Answer::Subscribed(_)) => {}
            ToClient::Answer(token, Answer::Published { .. }) => {
                let id = u16::try_from(token).unwrap();
                let sending = self.clients[who].sending.get_mut(&id).unwrap();
                match sending.qos {
                    1 => drop(self.clients[who].sending.remove(&id)),
                    _ => {
                        sending.received = true;
                        self.ask(who, token, Request::Release(id));
                    }
                }
            }
            ToClient::Answer(token, Answer::Released { .. }) => {
                let id = u16::try_from(token).unwrap();
                self.clients[who].sending.remove(&id);
            }
            ToClient::Deliver(Delivery { id: 0, .. }) => panic!("nothing is QoS 0"),
            ToClient::Deliver(delivery) => {
                let (id, text) = (delivery.id, text(&delivery));
                let client = &mut self.clients[who];
                if delivery.message.qos == 1 {
                    client.got.push(text);
                    self.ask(who, 0, Request::Acked(id));
                } else {
                    if client.seen.insert(id) {
                        client.got.push(text);
                    }
                    self.ask(who, 0, Request::Received(id, true));
                }
            }
            ToClient::Release { id, .. } => {
                self.clients[who].seen.remove(&id);
                self.ask(who, 0, Request::Completed(id));
            }
            other => panic!("client {who} heard {other:?}"),
        }
    }

    fn lose(&mut self, who: usize) {
        let gone = Request::Detach {
            will: true,
            expiry_s: None,
        };
        self.ask(who, 0, gone);
        self.clients[who].link = None;
    }

    fn crash(&mut self, seed: u64) {
        // Nothing at all survives of what was not synced, or some of it.
        match seed {
            0 => self.disk.crash(),
            _ => self.disk.crash_torn(seed),
        }
        for client in &mut self.clients {
            client.link = None;
        }
        let dead = self.exchange.take().unwrap();
        // It may or may not have noticed.
        dead.join().ok();
        self.exchange = Some(open(&self.disk, &self.clock).0);
    }

    fn finish(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        while quiet < 2 {
            quiet += 1;
            for who in 0..CLIENTS {
                self.back(who, false)?;
                if self.hear(who, usize::MAX) > 0 {
                    quiet = 0;
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        for (who, client) in self.clients.iter().enumerate() {
            if !client.sending.is_empty() {
                return Err(format!("client {who} still sends {:?}", client.sending));
            }
            for sent in &self.published {
                let takes = self.wishes[who].iter().filter(|(filter, _)| match *filter {
                    "#" => true,
                    "t/+" => sent.topic.starts_with("t/"),
                    name => name == sent.topic,
                });
                // The same filter again replaces the one before.
                let newest: BTreeMap<_, _> = takes.map(|(filter, qos)| (*filter, *qos)).collect();
                let qos = newest.values().max().map(|qos| *qos.min(&sent.qos));
                let got = client.got.iter().filter(|t| **t == sent.text).count();
                let fine = match qos {
                    None => got == 0,
                    Some(1) => got >= 1,
                    Some(_) => got == 1,
                };
                if !fine {
                    return Err(format!("client {who} at {qos:?} got {got} of {sent:?}"));
                }
            }
        }
        Ok(())
    }
}

fn play(wishes: Vec<Vec<(&'static str, u8)>>, ops: Vec<Op>, lies: bool) -> Result<(), String> {
    let mut world = World::new(wishes, lies);
    for op in ops {
        match op {
            Op::Publish(who, topic, qos) => world.publish(who, topic, qos),
            Op::Hear(who, many) => drop(world.hear(who, many)),
            Op::Lose(who) => world.lose(who),
            Op::Back(who) => world.back(who, false)?,
            Op::Crash(seed) => world.crash(seed),
        }
    }
    world.finish()?;
    world.check()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_at_qos_2_is_twice(wishes in filters(), ops in ops()) {
        if let Err(why) = play(wishes, ops, false) {
            prop_assert!(false, "{}", why);
        }
    }
}

#[test]
fn negative_control_a_disk_that_does_not_sync_is_found_out() {
    let ops = vec![
        Op::Lose(1),
        Op::Publish(0, 0, 1),
        Op::Hear(0, 9),
        Op::Crash(0),
    ];
    let wishes = vec![vec![], vec![("t/0", 2)], vec![]];
    play(wishes.clone(), ops.clone(), false).unwrap();
    let found = play(wishes, ops, true).unwrap_err();
    assert!(found.contains("got 0"), "{found}");
}
