//! The gateway's book against a model of a node upstream: random arrivals, answers, refusals, cut
//! connections and restarts. In the end everything spooled is upstream, and nothing was given up before.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chordae_base::{StreamKey, limits, seams::fake::FakeEntropy};
use chordae_ingest::core::{
    arrival::Content,
    decode::{Shape, decode},
    gateway::{
        book::{Answer, Book, Judged, Next},
        record::{BIRTH_NUMBER, Item, SpoolRecord},
    },
};

use crate::support::{birth, frame, key, seconds};

type Number = (StreamKey, u64, u64);

/// A node that keeps the first content of a number and refuses others, and the wire to it.
#[derive(Default)]
struct Upstream {
    kept: BTreeMap<Number, Bytes>,
    refused: Vec<(Number, Bytes)>,
    wire: VecDeque<(Number, Bytes, bool)>,
    answers: VecDeque<Answer>,
    /// Answers that it took what it did not take: the negative control.
    lies: bool,
}

impl Upstream {
    fn cut(&mut self) {
        self.wire.clear();
        self.answers.clear();
    }

    fn work(&mut self, luck: &FakeEntropy, faults: bool) {
        let Some((number, payload, _)) = self.wire.pop_front() else {
            return;
        };
        let (stream, boot, n) = number.clone();
        let nack = |reason: &str| Answer::Nack {
            stream: stream.clone(),
            boot,
            number: n,
            reason: reason.into(),
        };
        let ack = Answer::Ack {
            stream: stream.clone(),
            boot,
            first: n,
            last: n,
        };
        let answer = match self.kept.get(&number) {
            _ if faults && luck.below(8) == 0 => {
                if self.lies {
                    ack
                } else {
                    nack(["full", "unsure"][usize::try_from(luck.below(2)).unwrap()])
                }
            }
            Some(kept) if *kept == payload => ack,
            Some(_) => {
                self.refused.push((number, payload));
                nack(if n == BIRTH_NUMBER {
                    "boot-reused"
                } else {
                    "conflict"
                })
            }
            None => {
                self.kept.insert(number, payload);
                ack
            }
        };
        self.answers.push_back(answer);
    }
}

/// A gateway without disk and sockets: the book, and a journal that is a list.
struct Gateway {
    book: Book,
    journal: Vec<(u64, SpoolRecord)>,
    /// Where segments begin.
    segments: Vec<u64>,
    end: u64,
    now_ns: u64,
    /// Every item that was acknowledged to a device, ever.
    spooled: Vec<(u64, Item)>,
    quarantine: Vec<(Number, Bytes)>,
    floor_seen: u64,
    sent_on_this: BTreeMap<StreamKey, u64>,
    paused: bool,
}

impl Gateway {
    fn new() -> Self {
        Self {
            book: Book::default(),
            journal: Vec::new(),
            segments: vec![0],
            end: 0,
            now_ns: 0,
            spooled: Vec::new(),
            quarantine: Vec::new(),
            floor_seen: 0,
            sent_on_this: BTreeMap::new(),
            paused: false,
        }
    }

    fn write(&mut self, record: SpoolRecord) -> u64 {
        let at = self.end;
        // Through the bytes, as on a disk.
        let record = SpoolRecord::decode(record.encode()).unwrap();
        self.journal.push((at, record));
        self.end += 10;
        at
    }

    fn arrive(&mut self, stream: &StreamKey, content: Content) {
        match self.book.judge(stream, content, 1, true, true) {
            Judged::Absorb => {}
            Judged::Keep(item) => {
                let at = self.write(SpoolRecord::Item(item.clone()));
                self.book.located(at, &item);
                self.spooled.push((at, item));
            }
            other => panic!("{other:?}"),
        }
    }

    fn item(&self, at: u64) -> Item {
        match self.journal.iter().find(|(p, _)| *p == at) {
            Some((_, SpoolRecord::Item(item))) => item.clone(),
            other => panic!("item {at} was trimmed before it was upstream: {other:?}"),
        }
    }

    fn send(&mut self, to: &mut Upstream) {
        while let Some(next) = self.book.next(self.now_ns) {
            match next {
                Next::Announce { stream, birth } => {
                    let Content::Birth(b) = decode(Shape::Birth, birth.clone()) else {
                        panic!("no birth")
                    };
                    to.wire
                        .push_back(((stream, b.boot, BIRTH_NUMBER), birth, true));
                }
                Next::Item(at) => {
                    let item = self.item(at);
                    let before = self.sent_on_this.insert(item.stream.clone(), at);
                    assert!(
                        self.paused || before.is_none_or(|b| b < at),
                        "out of order within a stream"
                    );
                    to.wire
                        .push_back(((item.stream, item.boot, item.number), item.payload, false));
                }
            }
            assert!(self.book.flying() <= limits::UPLINK_ITEMS_MAX);
        }
        let mut flying: Vec<_> = to.wire.iter().map(|(n, _, _)| n).collect();
        flying.sort();
        assert!(
            flying.windows(2).all(|w| w[0] != w[1]),
            "one number flies twice"
        );
    }

    fn hear(&mut self, answer: Answer) {
        if matches!(&answer, Answer::Nack { reason, .. } if reason == "full" || reason == "unsure")
        {
            self.paused = true;
        }
        for answered in self.book.answer(answer, self.now_ns) {
            let item = self.item(answered.position);
            if item.birth {
                self.book
                    .birth_answered(answered.position, &item, answered.refused);
            }
            if answered.refused.is_some() {
                let number = (item.stream, item.boot, item.number);
                self.quarantine.push((number, item.payload));
            }
        }
    }

    fn connect(&mut self, to: &mut Upstream) {
        to.cut();
        self.book.connected();
        self.sent_on_this.clear();
        self.paused = false;
    }

    /// A new segment, then what lies wholly below the floor is dropped.
    fn roll(&mut self) {
        self.segments.push(self.end);
        for known in self.book.save() {
            self.write(SpoolRecord::Known(known));
        }
        let floor = self.book.floor(self.end);
        while self.segments.len() > 1 && self.segments[1] <= floor {
            self.segments.remove(0);
        }
        let start = self.segments[0];
        self.journal.retain(|(at, _)| *at >= start);
    }

    fn write_floor(&mut self) {
        let floor = self.book.floor(self.end);
        for known in self.book.take_changed() {
            self.write(SpoolRecord::Known(known));
        }
        self.write(SpoolRecord::Floor(floor));
    }

    fn restart(&mut self, to: &mut Upstream) {
        to.cut();
        self.book = Book::default();
        for (at, record) in &self.journal {
            self.book.fold(*at, record.clone());
        }
        for known in self.book.save() {
            self.write(SpoolRecord::Known(known));
        }
        self.sent_on_this.clear();
    }

    /// Nothing is given up that is neither upstream nor in quarantine: what was, by number.
    fn lost(&mut self, to: &Upstream) -> usize {
        let floor = self.book.floor(self.end);
        self.floor_seen = self.floor_seen.max(floor);
        let gone = self.spooled.iter().filter(|(at, _)| *at < floor);
        gone.filter(|(_, item)| {
            let number = (item.stream.clone(), item.boot, item.number);
            let upstream = to.kept.get(&number) == Some(&item.payload);
            !upstream && !self.quarantine.contains(&(number, item.payload.clone()))
        })
        .count()
    }
}

fn arrival(luck: &FakeEntropy) -> (StreamKey, Content) {
    let stream =
        key(["bed-1/ecg", "bed-1/ppg", "bed-2/ecg"][usize::try_from(luck.below(3)).unwrap()]);
    let boot = luck.below(2);
    let salt = i32::try_from(luck.below(6) / 5).unwrap();
    if luck.below(6) == 0 {
        let mut birth = birth(boot);
        birth.firmware = salt.to_string();
        return (stream, Content::Birth(birth));
    }
    let seq = luck.below(20);
    let made = frame(boot, seq, seconds(i64::try_from(seq).unwrap()), salt);
    (stream, decode(Shape::Frame, made.encode().into()))
}

/// One life; how many items were given up without being upstream.
fn life(seed: u64, lies: bool) -> usize {
    let luck = FakeEntropy::new(seed);
    let (mut gateway, mut node) = (
        Gateway::new(),
        Upstream {
            lies,
            ..Upstream::default()
        },
    );
    let mut lost = 0;
    for _ in 0..600 {
        gateway.now_ns += luck.below(400_000_000);
        match luck.below(40) {
            0 => gateway.connect(&mut node),
            1 => gateway.restart(&mut node),
            2 => gateway.roll(),
            3 => gateway.write_floor(),
            4..14 => {
                let (stream, content) = arrival(&luck);
                gateway.arrive(&stream, content);
            }
            14..20 => gateway.send(&mut node),
            20..32 => node.work(&luck, true),
            _ => node
                .answers
                .pop_front()
                .into_iter()
                .for_each(|a| gateway.hear(a)),
        }
        lost += gateway.lost(&node);
        if lies && lost > 0 {
            return lost;
        }
    }
    // From here on nothing fails: all of it must arrive.
    gateway.connect(&mut node);
    for _ in 0..2_000 {
        if gateway.book.unsettled() == 0 && node.wire.is_empty() && node.answers.is_empty() {
            break;
        }
        gateway.now_ns += 1_000_000_000;
        gateway.send(&mut node);
        node.work(&luck, false);
        node.answers
            .pop_front()
            .into_iter()
            .for_each(|a| gateway.hear(a));
    }
    assert_eq!(
        gateway.book.unsettled(),
        0,
        "seed {seed}: not everything arrives"
    );
    assert_eq!(gateway.book.flying(), 0);
    assert_eq!(gateway.book.floor(gateway.end), gateway.end);
    lost + gateway.lost(&node)
}

#[test]
fn everything_spooled_is_upstream_in_the_end_and_nothing_is_given_up_before() {
    for seed in 0..100 {
        assert_eq!(life(seed, false), 0, "seed {seed}");
    }
}

#[test]
fn a_node_that_lies_is_seen_by_this_model() {
    assert!(
        (0..20).any(|seed| life(seed, true) > 0),
        "the model sees nothing"
    );
}

#[test]
fn streams_take_turns_and_the_window_holds() {
    let mut gateway = Gateway::new();
    let mut node = Upstream::default();
    gateway.connect(&mut node);
    let made = |seq: u64| {
        let made = frame(1, seq, seconds(i64::try_from(seq).unwrap()), 0);
        decode(Shape::Frame, made.encode().into())
    };
    for seq in 0..2_000 {
        gateway.arrive(&key("bed-1/flood"), made(seq));
    }
    gateway.arrive(&key("bed-2/ecg"), made(0));
    gateway.send(&mut node);
    assert_eq!(node.wire.len(), limits::UPLINK_ITEMS_MAX);
    let quiet = node
        .wire
        .iter()
        .position(|((s, _, _), _, _)| *s == key("bed-2/ecg"));
    assert!(
        quiet.is_some_and(|at| at < 2),
        "a flood delays another stream: {quiet:?}"
    );
}

#[test]
fn the_known_birth_goes_before_the_frames_of_its_boot_on_every_connection() {
    let (luck, mut node, mut gateway) = (FakeEntropy::new(1), Upstream::default(), Gateway::new());
    let stream = key("bed-1/ecg");
    gateway.connect(&mut node);
    gateway.arrive(&stream, Content::Birth(birth(7)));
    gateway.send(&mut node);
    node.work(&luck, false);
    node.answers
        .pop_front()
        .into_iter()
        .for_each(|a| gateway.hear(a));
    for round in 0..3 {
        gateway.arrive(
            &stream,
            decode(Shape::Frame, frame(7, round, 0, 0).encode().into()),
        );
        gateway.arrive(
            &stream,
            decode(Shape::Frame, frame(7, 100 + round, 0, 0).encode().into()),
        );
        gateway.write_floor();
        if round == 1 {
            gateway.restart(&mut node);
        }
        gateway.connect(&mut node);
        gateway.send(&mut node);
        let births: Vec<bool> = node
            .wire
            .iter()
            .map(|((_, _, n), _, _)| *n == BIRTH_NUMBER)
            .collect();
        assert_eq!(births.first(), Some(&true), "round {round}");
        assert_eq!(births.iter().filter(|b| **b).count(), 1, "round {round}");
    }
    // A repeat of the birth takes no room.
    let before = gateway.spooled.len();
    gateway.arrive(&stream, Content::Birth(birth(7)));
    assert_eq!(gateway.spooled.len(), before);
}

#[test]
fn a_boot_that_was_refused_as_reused_stays_so_on_every_connection_and_across_a_restart() {
    let (luck, mut node, mut gateway) = (FakeEntropy::new(1), Upstream::default(), Gateway::new());
    let stream = key("bed-1/ecg");
    let mut other = birth(7);
    other.firmware = "2".into();
    let frame = |seq| decode(Shape::Frame, frame(7, seq, 0, 0).encode().into());
    let settle = |gateway: &mut Gateway, node: &mut Upstream| {
        gateway.send(node);
        while !node.wire.is_empty() {
            node.work(&luck, false);
            let answers = std::mem::take(&mut node.answers);
            answers.into_iter().for_each(|a| gateway.hear(a));
            gateway.send(node);
        }
    };
    gateway.connect(&mut node);
    gateway.arrive(&stream, Content::Birth(birth(7)));
    settle(&mut gateway, &mut node);
    // Not sent before the connection is cut: it lies before the other birth, so it is of the first.
    gateway.arrive(&stream, frame(0));
    gateway.arrive(&stream, Content::Birth(other.clone()));
    settle(&mut gateway, &mut node);
    assert_eq!(
        gateway.book.standing(&stream, 7).refused,
        [(BIRTH_NUMBER, BIRTH_NUMBER, "boot-reused")]
    );
    for round in 1..4 {
        gateway.arrive(&stream, frame(round));
        gateway.write_floor();
        gateway.roll();
        match round {
            1 => gateway.restart(&mut node),
            _ => gateway.connect(&mut node),
        }
        gateway.send(&mut node);
        let said: Vec<_> = node.wire.iter().map(|(_, bytes, _)| bytes).collect();
        // The node hears of the other birth before the frame that came after it, and can set it aside.
        assert_eq!(said.len(), 2, "round {round}");
        assert_eq!(said[0][..], other.encode()[..], "round {round}");
        settle(&mut gateway, &mut node);
    }
}
