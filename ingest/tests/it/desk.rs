//! The bare core without threads and disks, for the tests of its rules.

use bytes::Bytes;
use chordae_base::{
    Outcome, StreamKey, limits,
    record::{FrameRecord, WalRecord},
    wire::{Birth, Frame},
};
use chordae_ingest::core::{
    arrival::{ConnId, Content, Offer, Verdict, arrived_ns},
    judge::{Answers, Effect, Step},
    park::Body,
    quarantined::Quarantined,
    state::Core,
    steady::Now,
};

use crate::support::{content, key};

pub(crate) const NOW: i64 = 1_700_000_000_000_000_000;

/// Both clocks agree.
pub(crate) fn at(now: i64) -> Now {
    Now {
        ours_ns: now,
        wall_ns: now,
    }
}

/// The service without threads and disks: effects are carried out on two vectors.
pub(crate) struct Desk {
    pub(crate) core: Core,
    pub(crate) log: Vec<WalRecord>,
    pub(crate) aside: Vec<(Quarantined, Bytes)>,
    pub(crate) now: i64,
    /// A gateway's receive time, for what is offered next.
    pub(crate) relayed: Option<i64>,
    pub(crate) room: bool,
    pub(crate) same_rows: Option<bool>,
    pub(crate) asked: usize,
    pub(crate) stream: StreamKey,
    /// Positions before this are trimmed.
    pub(crate) start: usize,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            core: Core::new(limits::PAST_NS_MAX),
            log: Vec::new(),
            aside: Vec::new(),
            now: NOW,
            relayed: None,
            room: true,
            same_rows: Some(true),
            asked: 0,
            stream: key("bed-7/ecg"),
            start: 0,
        }
    }

    /// Gives verdict and outcome label.
    pub(crate) fn offer_as(
        &mut self,
        conn: u64,
        can_be_told: bool,
        content: Content,
    ) -> (Verdict, &'static str) {
        let (stream, now) = (self.stream.clone(), at(self.now));
        let offer = Offer {
            stream,
            content,
            now,
            arrived_ns: arrived_ns(now.wall_ns, self.relayed),
            conn: ConnId(conn),
            can_be_told,
        };
        let mut answers = Answers {
            room: self.room,
            ..Answers::default()
        };
        let (effects, label) = loop {
            match self.core.step(&offer, answers) {
                Step::Done(effects, label) => break (effects, label),
                Step::OpenStream => answers.opened = true,
                Step::AskHistory { .. } => {
                    self.asked += 1;
                    answers.same_rows = Some(self.same_rows);
                }
            }
        };
        let mut told = self.perform(effects);
        assert_eq!(told.len(), 1, "exactly one verdict per arrival");
        (told.remove(0), label)
    }

    pub(crate) fn offer(&mut self, content: Content) -> (Verdict, &'static str) {
        self.offer_as(1, true, content)
    }

    pub(crate) fn frame(&mut self, frame: &Frame) -> (Verdict, &'static str) {
        self.offer(content(frame))
    }

    pub(crate) fn birth(&mut self, birth: &Birth) -> (Verdict, &'static str) {
        self.offer(Content::Birth(birth.clone()))
    }

    pub(crate) fn tick(&mut self, now: i64) {
        self.now = now;
        let effects = self.core.tick(at(now));
        assert!(self.perform(effects).is_empty(), "a tick tells nobody");
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Vec<Verdict> {
        let mut told = Vec::new();
        let (mut fresh, mut fresh_aside) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Append(WalRecord::Frame(f), Some(body)) => {
                    let payload = self.payload(body);
                    fresh.push(WalRecord::Frame(FrameRecord { payload, ..f }));
                }
                Effect::Append(record, _) => fresh.push(record),
                Effect::Quarantine(q, body) => {
                    let payload = self.payload(body);
                    fresh_aside.push((q, payload));
                }
                Effect::Tell(verdict) => told.push(verdict),
                Effect::Live(_) | Effect::Gap(_) => {}
            }
        }
        for (q, payload) in fresh_aside {
            self.core.moved(&q, self.aside.len() as u64);
            self.aside.push((q, payload));
        }
        for record in fresh {
            self.core.located(&record, self.log.len() as u64);
            self.log.push(record);
        }
        told
    }

    fn payload(&self, body: Body) -> Bytes {
        match body {
            Body::Here(payload) => payload,
            Body::Wal(at) => match &self.log[usize::try_from(at).unwrap()] {
                WalRecord::Frame(f) => f.payload.clone(),
                other => panic!("no frame: {other:?}"),
            },
            Body::Quarantine(at) => self.aside[usize::try_from(at).unwrap()].1.clone(),
        }
    }

    /// What a restart finds.
    pub(crate) fn restart(&mut self) -> Outcome<()> {
        let mut core = Core::new(limits::PAST_NS_MAX);
        for (at, (q, _)) in self.aside.iter().enumerate() {
            core.fold_quarantined(at as u64, q);
        }
        for (at, record) in self.log.iter().enumerate().skip(self.start) {
            core.fold(at as u64, record)?;
        }
        core.recovered();
        self.core = core;
        Ok(())
    }

    pub(crate) fn frames(&self) -> Vec<&FrameRecord> {
        let frames = self.log.iter().filter_map(|r| match r {
            WalRecord::Frame(f) => Some(f),
            _ => None,
        });
        frames.collect()
    }

    pub(crate) fn last(&self) -> &FrameRecord {
        self.frames().last().expect("no frame in the log")
    }
}

pub(crate) fn durable(label: &'static str) -> (Verdict, &'static str) {
    (Verdict::Durable, label)
}
