//! A board with its journal in memory, clients that say what they are told to, and a clock that stands.
//!
//! After every step the journal is folded anew: it must give what is on the board. So each rule that is
//! shown here is shown for what a restart finds, too.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chordae_ingest::core::{
    arrival::ConnId,
    exchange::{
        board::{Board, Bounds},
        codec::{Decoder, encode},
        effects::Effects,
        message::{Delivery, Message, Properties, Will, Wish},
        request::{Answer, Denied, Hello, Request, ToClient},
    },
};

pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) struct Stage {
    pub(crate) board: Board,
    pub(crate) bounds: Bounds,
    pub(crate) journal: Vec<Bytes>,
    pub(crate) now_ns: i64,
    pub(crate) room: usize,
    pub(crate) heard: BTreeMap<ConnId, VecDeque<ToClient>>,
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// Of the newest step.
    pub(crate) urgent: bool,
    pub(crate) changed: bool,
    conns: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Bounds::default())
    }

    pub(crate) fn with(bounds: Bounds) -> Self {
        Self {
            board: Board::new(bounds),
            bounds,
            journal: Vec::new(),
            now_ns: 1_000 * SECOND,
            room: 1000,
            heard: BTreeMap::new(),
            dropped: BTreeMap::new(),
            urgent: false,
            changed: false,
            conns: 0,
        }
    }

    pub(crate) fn take(&mut self, fx: Effects) {
        if !fx.records.is_empty() {
            self.journal.push(encode(&fx.records));
        }
        self.urgent = fx.urgent;
        self.changed = fx.changed;
        for (conn, what) in fx.out {
            self.heard.entry(conn).or_default().push_back(what);
        }
        for (why, many) in fx.dropped {
            *self.dropped.entry(why).or_default() += many;
        }
        assert_eq!(
            self.folded().snapshot(),
            self.board.snapshot(),
            "the journal says what is on the board"
        );
    }

    fn folded(&self) -> Board {
        let mut board = Board::new(self.bounds);
        let mut decoder = Decoder::default();
        for entry in &self.journal {
            for record in decoder.read(entry.clone()).unwrap() {
                board.fold(&record);
            }
        }
        board
    }

    /// Power loss and start; the time goes on.
    pub(crate) fn crash(&mut self) {
        self.board = self.folded();
        self.heard.clear();
        let fx = self.board.recovered(self.now_ns);
        self.take(fx);
    }

    pub(crate) fn ask(&mut self, conn: ConnId, request: Request) -> Option<Answer> {
        let mut fx = Effects::default();
        let token = 77;
        self.board
            .request(conn, token, request, self.room, self.now_ns, &mut fx);
        let mine = |(to, what): &(ConnId, ToClient)| match what {
            ToClient::Answer(t, answer) if *to == conn && *t == token => Some(answer.clone()),
            _ => None,
        };
        let answer = fx.out.iter().find_map(mine);
        fx.out.retain(|o| mine(o).is_none());
        self.take(fx);
        answer
    }

    pub(crate) fn attach(&mut self, hello: Hello) -> (ConnId, bool) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        match self.ask(conn, Request::Attach(hello)) {
            Some(Answer::Attached { present, .. }) => (conn, present),
            other => panic!("{other:?}"),
        }
    }

    /// A client whose session ends with its connection.
    pub(crate) fn guest(&mut self, name: &str) -> ConnId {
        self.attach(hello(name, true, 0)).0
    }

    /// A client whose session stays for ever.
    pub(crate) fn regular(&mut self, name: &str) -> ConnId {
        self.attach(hello(name, false, u32::MAX)).0
    }

    pub(crate) fn subscribe(&mut self, conn: ConnId, wish: Wish) -> Result<u8, Denied> {
        match self.ask(conn, Request::Subscribe(vec![wish])) {
            Some(Answer::Subscribed(verdicts)) => verdicts[0],
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, conn: ConnId, filter: &str) -> bool {
        match self.ask(conn, Request::Unsubscribe(vec![filter.into()])) {
            Some(Answer::Unsubscribed(verdicts)) => verdicts[0],
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn publish(&mut self, conn: ConnId, message: Message) -> Answer {
        let id = None;
        self.ask(conn, Request::Publish { message, id }).unwrap()
    }

    pub(crate) fn publish_as(&mut self, conn: ConnId, id: u16, message: Message) -> Answer {
        let id = Some(id);
        self.ask(conn, Request::Publish { message, id }).unwrap()
    }

    /// The connection is lost.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        self.detach(conn, true, None);
    }

    pub(crate) fn detach(&mut self, conn: ConnId, will: bool, expiry_s: Option<u32>) {
        assert_eq!(self.ask(conn, Request::Detach { will, expiry_s }), None);
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now_ns += seconds * SECOND;
        loop {
            let mut fx = Effects::default();
            let more = self.board.tick(self.now_ns, &mut fx);
            self.take(fx);
            if !more {
                return;
            }
        }
    }

    /// What a connection has heard since it was last asked.
    pub(crate) fn hears(&mut self, conn: ConnId) -> Vec<ToClient> {
        self.heard.remove(&conn).unwrap_or_default().into()
    }

    /// The deliveries among it; nothing else may be.
    pub(crate) fn gets(&mut self, conn: ConnId) -> Vec<Delivery> {
        let delivery = |what| match what {
            ToClient::Deliver(delivery) => delivery,
            other => panic!("{other:?}"),
        };
        self.hears(conn).into_iter().map(delivery).collect()
    }

    /// Their payloads as text.
    pub(crate) fn texts(&mut self, conn: ConnId) -> Vec<String> {
        self.gets(conn).iter().map(text).collect()
    }

    /// The channel of a connection has room again.
    pub(crate) fn make_room(&mut self, conn: ConnId, room: usize) {
        let mut fx = Effects::default();
        self.board.room(conn, room, self.now_ns, &mut fx);
        self.take(fx);
    }
}

pub(crate) fn hello(name: &str, clean: bool, expiry_s: u32) -> Hello {
    Hello {
        key: format!("plain:{name}"),
        clean,
        expiry_s,
        receive_max: u16::MAX,
        will: None,
    }
}

pub(crate) fn will(topic: &str, text: &str, delay_s: u32) -> Will {
    Will {
        message: message(topic, text, 1),
        delay_s,
    }
}

pub(crate) fn message(topic: &str, text: &str, qos: u8) -> Message {
    Message {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(text.as_bytes()),
        qos,
        retain: false,
        properties: Properties::default(),
    }
}

pub(crate) fn retained(topic: &str, text: &str, qos: u8) -> Message {
    Message {
        retain: true,
        ..message(topic, text, qos)
    }
}

pub(crate) fn lasting(expiry_s: u32, message: Message) -> Message {
    let properties = Properties {
        expiry_s: Some(expiry_s),
        ..message.properties
    };
    Message {
        properties,
        ..message
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.to_vec()).unwrap()
}
