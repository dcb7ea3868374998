//! One turn of the spool's thread: step, commit, perform. See `spool` for the picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use bytes::Bytes;
use chordae_base::{DeviceId, Failure, Outcome, StreamKey, journal::Journal, limits};
use tokio::sync::{mpsc, oneshot, watch};

use super::spool::{Parts, Said};
use crate::{
    core::{
        arrival::{ConnId, Content, Notice, Verdict},
        decode::{Shape, decode},
        gateway::{
            book::{Answer, Answered, Book, Judged, Next},
            gate::Gate,
            reason,
            record::{Item, SpoolRecord},
            wire,
        },
        quarantined::{FrameNote, Quarantined},
        steady::Steady,
    },
    mailbox::{Arrival, Fates, Message, hint, notify},
    metrics::seconds,
    quarantine::Quarantine,
};

/// The disk is asked for its free bytes at most this often, in ns.
const LOOK_EVERY_NS: u64 = 100_000_000;
/// The floor is written beside other records, and alone at most this often, in ns.
const FLOOR_EVERY_NS: u64 = 1_000_000_000;
/// How long the negative control leaves acknowledged frames unwritten.
const CONTROL_LAZY: std::time::Duration = std::time::Duration::from_millis(20);

/// The thread's state. The journals are `None` after a failed commit, and stay so.
pub(super) struct Turner {
    pub(super) book: Book,
    pub(super) steady: Steady,
    pub(super) gate: Gate,
    pub(super) journal: Option<Journal>,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) parts: Parts,
    pub(super) doors: watch::Sender<bool>,
    /// The connection of the uplink, if there is one.
    pub(super) out: Option<mpsc::Sender<wire::Parts>>,
    pub(super) free: Option<u64>,
    pub(super) looked_mono: Option<u64>,
    pub(super) floor_written: u64,
    pub(super) floor_mono: u64,
    pub(super) idle_since_mono: u64,
    /// Where each device was heard last.
    pub(super) hearers: BTreeMap<DeviceId, (ConnId, mpsc::Sender<Notice>)>,
    /// Boots of which something was refused upstream, and whose devices have yet to be told so.
    pub(super) news: BTreeSet<(StreamKey, u64)>,
}

/// What a turn has decided and not yet done.
#[derive(Default)]
struct Decided {
    items: Vec<Item>,
    bytes: u64,
    aside: Vec<(Quarantined, Bytes)>,
    tell: Vec<Tell>,
    standings: Vec<(StreamKey, u64, mpsc::Sender<Notice>)>,
    stop: Option<oneshot::Sender<()>>,
}

struct Tell {
    reply: mpsc::Sender<Notice>,
    token: u64,
    verdict: Verdict,
    at_mono_ns: u64,
}

impl Turner {
    /// Before the first turn: what is known stands in the journal, and the door knows whether there is room.
    pub(super) fn begin(&mut self) -> Outcome<()> {
        let known = self.book.save().into_iter().map(SpoolRecord::Known);
        let known: Vec<Bytes> = known.map(|record| record.encode()).collect();
        let (journal, _) = self.journal()?.commit(&known)?;
        self.journal = Some(journal);
        self.look();
        self.tell_doors();
        self.show();
        Ok(())
    }

    /// Gives the reply of whoever asked to stop.
    pub(super) fn turn(
        &mut self,
        batch: Vec<Message>,
        words: Vec<Said>,
    ) -> Outcome<Option<oneshot::Sender<()>>> {
        // Before anything is decided: the state that heads a segment must not know what is not written.
        self.roll()?;
        let now_ns = self
            .steady
            .read(self.parts.clock.wall_ns(), self.parts.clock.mono_ns());
        self.look();
        let mut todo = Decided::default();
        for word in words {
            self.hear(word, now_ns, &mut todo)?;
        }
        for message in batch {
            self.decide(message, now_ns, &mut todo);
        }
        // Those who must wait for room find the door shut when they hear of it.
        self.tell_doors();
        if cfg!(feature = "control-ack-before-append") {
            // The negative control: told first, written a moment later.
            self.tell(&mut todo);
            std::thread::sleep(CONTROL_LAZY);
        }
        let wrote = self.commit(&mut todo)?;
        self.show();
        self.tell(&mut todo);
        self.send(now_ns)?;
        self.idle(wrote)?;
        self.show();
        Ok(todo.stop)
    }

    /// Orderly end: the floor is written, and what is written is marked.
    pub(super) fn finish(&mut self) -> Outcome<()> {
        let (journal, quarantine) = (self.journal()?, self.quarantine()?);
        let mut records = Vec::new();
        let floor = self.book.floor(journal.durable());
        self.put_floor(floor, &mut records);
        let (journal, _) = journal.commit(&records)?;
        self.journal = Some(journal.mark()?);
        self.quarantine = Some(quarantine.mark()?);
        Ok(())
    }

    fn hear(&mut self, word: Said, now_ns: i64, todo: &mut Decided) -> Outcome<()> {
        match word {
            Said::Connected(out) => {
                self.book.connected();
                self.out = Some(out);
            }
            Said::Gone => self.out = None,
            Said::Answers(answers) => {
                for answer in answers {
                    let outcome = match &answer {
                        Answer::Ack { .. } => "ack",
                        Answer::Nack { .. } => "nack",
                    };
                    self.parts
                        .gateway
                        .answers
                        .with_label_values(&[outcome])
                        .inc();
                    for answered in self.book.answer(answer, self.parts.clock.mono_ns()) {
                        self.answered(answered, now_ns, todo)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, answered: Answered, now_ns: i64, todo: &mut Decided) -> Outcome<()> {
        let item = self.item(answered.position)?;
        if item.birth {
            self.book
                .birth_answered(answered.position, &item, answered.refused);
        }
        let Some(reason) = answered.refused else {
            return Ok(());
        };
        self.news.insert((item.stream.clone(), item.boot));
        if reason::kept_upstream(reason, item.birth) {
            tracing::warn!(stream = %item.stream, boot = item.boot, number = item.number, reason,
                "refused upstream; it lies in quarantine there");
            self.parts.metrics.refuse(reason);
            return Ok(());
        }
        tracing::warn!(stream = %item.stream, boot = item.boot, number = item.number, reason,
            "refused upstream; it lies in quarantine");
        let content = if item.birth {
            None
        } else {
            Some(decode(Shape::Frame, item.payload.clone()))
        };
        let frame = match &content {
            Some(Content::Frame(head, _)) => Some(FrameNote::from(head)),
            _ => None,
        };
        self.parts
            .metrics
            .quarantined
            .with_label_values(&[reason])
            .inc();
        let aside = aside(item.stream, now_ns, reason, frame);
        todo.aside.push((aside, item.payload));
        Ok(())
    }

    fn item(&self, position: u64) -> Outcome<Item> {
        let journal = self.journal.as_ref().ok_or_else(lost)?;
        match SpoolRecord::decode(journal.reader().read(position)?)? {
            SpoolRecord::Item(item) => Ok(item),
            _ => Err(Failure::internal(format!(
                "no item lies at {position} of the spool"
            ))),
        }
    }

    fn decide(&mut self, message: Message, now_ns: i64, todo: &mut Decided) {
        match message {
            // The permit is given back when this returns: the payloads are in the batch then.
            Message::Offers(arrivals, _room) => {
                for arrival in arrivals {
                    self.judge(arrival, now_ns, todo);
                }
            }
            Message::Standing(stream, boot, reply) => todo.standings.push((stream, boot, reply)),
            // Asked where streams are assigned: upstream.
            Message::Newest(_, reply) => drop(reply.send(None)),
            Message::Sights(reply) => drop(reply.send(BTreeMap::new())),
            Message::Gone(conn) => self.hearers.retain(|_, (of, _)| *of != conn),
            Message::Stop(reply) => todo.stop = Some(reply),
        }
    }

    fn judge(&mut self, arrival: Arrival, now_ns: i64, todo: &mut Decided) {
        let mono = self.parts.clock.mono_ns();
        let waited = i64::try_from(mono.saturating_sub(arrival.at_mono_ns)).unwrap_or(i64::MAX);
        let recv_ns = now_ns.saturating_sub(waited).max(self.book.recv_ns());
        let Arrival {
            stream,
            content,
            at_mono_ns,
            door,
            conn,
            can_be_told,
            token,
            reply,
            ..
        } = arrival;
        if self
            .hearers
            .get(&stream.device)
            .is_none_or(|(of, _)| *of != conn)
        {
            let hearer = (conn, reply.clone());
            self.hearers.insert(stream.device.clone(), hearer);
        }
        let metrics = self.parts.metrics.clone();
        metrics
            .bytes
            .with_label_values(&[door])
            .inc_by(content.bytes() as u64);
        let room = self.has_room(todo);
        let judged = self
            .book
            .judge(&stream, content, recv_ns, can_be_told, room);
        let (outcome, verdict) = match judged {
            Judged::Absorb => {
                metrics.duplicates.inc();
                ("repeat", Verdict::Durable)
            }
            Judged::Refuse(refusal) => {
                metrics.refuse(refusal.label());
                ("refused", Verdict::Refused(refusal))
            }
            Judged::Full(content) => {
                metrics.refuse("full");
                ("full", Verdict::Full(content))
            }
            Judged::Aside(reason, payload) => {
                metrics.quarantined.with_label_values(&[reason]).inc();
                todo.bytes += payload.len() as u64;
                todo.aside
                    .push((aside(stream, recv_ns, reason, None), payload));
                ("quarantined", Verdict::Durable)
            }
            Judged::Keep(item) => {
                todo.bytes += item.payload.len() as u64;
                todo.items.push(item);
                ("spooled", Verdict::Durable)
            }
        };
        metrics.frames.with_label_values(&[door, outcome]).inc();
        todo.tell.push(Tell {
            reply,
            token,
            verdict,
            at_mono_ns,
        });
    }

    /// Room for one more, with what this turn has already taken.
    fn has_room(&mut self, todo: &Decided) -> bool {
        let free = self.free.map(|free| free.saturating_sub(todo.bytes));
        let bytes = self
            .journal
            .as_ref()
            .map_or(0, Journal::bytes)
            .saturating_add(todo.bytes);
        let items = self
            .book
            .unsettled()
            .saturating_add(todo.items.len() as u64);
        self.gate.read(free, bytes, items)
    }

    fn roll(&mut self) -> Outcome<()> {
        if !self.journal.as_ref().is_some_and(Journal::wants_roll) {
            return Ok(());
        }
        let known = self.book.save().into_iter().map(SpoolRecord::Known);
        let known: Vec<Bytes> = known.map(|record| record.encode()).collect();
        let (journal, _) = self.journal()?.roll(&known)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Quarantine first, then the spool; nothing has been told yet. Whether anything was written.
    fn commit(&mut self, todo: &mut Decided) -> Outcome<bool> {
        let began = self.parts.clock.mono_ns();
        if !todo.aside.is_empty() {
            let aside = mem::take(&mut todo.aside);
            let encoded: Outcome<Vec<_>> =
                aside.iter().map(|(q, payload)| q.encode(payload)).collect();
            let (quarantine, _) = self.quarantine()?.commit(&encoded?)?;
            self.quarantine = Some(quarantine);
        }
        let mut journal = self.journal()?;
        let floor = self.book.floor(journal.durable());
        let items = mem::take(&mut todo.items);
        let mut records: Vec<Bytes> = items
            .iter()
            .map(|item| SpoolRecord::Item(item.clone()).encode())
            .collect();
        let due = began.saturating_sub(self.floor_mono) >= FLOOR_EVERY_NS;
        if floor > self.floor_written && due {
            self.floor_mono = began;
            self.put_floor(floor, &mut records);
        }
        let wrote = !records.is_empty();
        if wrote {
            let durable;
            (journal, durable) = journal.commit(&records)?;
            let took = self.parts.clock.mono_ns().saturating_sub(began);
            self.parts.metrics.wal_sync_seconds.observe(seconds(took));
            for (item, position) in items.iter().zip(durable.positions()) {
                self.book.located(*position, item);
            }
        }
        self.journal = Some(journal.trim(floor)?);
        Ok(wrote)
    }

    /// Behind the items of its commit: see `record`.
    fn put_floor(&mut self, floor: u64, records: &mut Vec<Bytes>) {
        let known = self.book.take_changed().into_iter().map(SpoolRecord::Known);
        records.extend(known.map(|record| record.encode()));
        if floor > self.floor_written {
            records.push(SpoolRecord::Floor(floor).encode());
            self.floor_written = floor;
        }
    }

    /// Only after the commit: acknowledgements leave here and nowhere else.
    fn tell(&mut self, todo: &mut Decided) {
        let now = self.parts.clock.mono_ns();
        let mut fates = Fates::default();
        for Tell {
            reply,
            token,
            verdict,
            at_mono_ns,
        } in todo.tell.drain(..)
        {
            if verdict == Verdict::Durable {
                let took = now.saturating_sub(at_mono_ns);
                self.parts.metrics.ack_seconds.observe(seconds(took));
            }
            fates.add(reply, token, verdict);
        }
        fates.tell();
        let hearers = &self.hearers;
        self.news
            .retain(|(stream, boot)| match hearers.get(&stream.device) {
                Some((_, reply)) => !hint(reply, Notice::News(stream.clone(), *boot)),
                // It asks when it is back.
                None => false,
            });
        for (stream, boot, reply) in todo.standings.drain(..) {
            notify(&reply, Notice::Standing(self.book.standing(&stream, boot)));
        }
    }

    /// Sends what fits into the window. The channel holds a window, so it never is full.
    fn send(&mut self, now_ns: i64) -> Outcome<()> {
        let mono = self.parts.clock.mono_ns();
        if self.out.is_some() && self.book.is_stuck(mono) {
            tracing::warn!("the node upstream owes an answer for too long: connecting anew");
            self.out = None;
        }
        while let Some(out) = self.out.clone() {
            let Some(next) = self.book.next(mono) else {
                break;
            };
            let message = match next {
                Next::Announce { stream, birth } => wire::announcement(&stream, birth, now_ns),
                Next::Item(position) => wire::item(&self.item(position)?),
            };
            self.parts.gateway.sent.inc();
            if out.try_send(message).is_err() {
                // The connection is gone; its end is about to be told.
                self.out = None;
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        let mono = self.parts.clock.mono_ns();
        if self
            .looked_mono
            .is_none_or(|at| mono.saturating_sub(at) >= LOOK_EVERY_NS)
        {
            self.looked_mono = Some(mono);
            self.free = self.parts.disk.free_bytes(&self.parts.dir).ok();
            if let Some(free) = self.free {
                self.parts.metrics.disk_free_bytes.set(gauge(free));
            }
        }
        let was_open = self.gate.is_open();
        let open = self.has_room(&Decided::default());
        if open != was_open {
            tracing::warn!(
                open,
                "the spool {}",
                if open { "takes data again" } else { "is full" }
            );
        }
    }

    fn tell_doors(&self) {
        let open = self.gate.is_open();
        self.doors
            .send_if_modified(|told| mem::replace(told, open) != open);
    }

    fn show(&self) {
        let bytes = self.journal.as_ref().map_or(0, Journal::bytes);
        self.parts.gateway.spool_bytes.set(gauge(bytes));
        self.parts
            .gateway
            .spool_frames
            .set(gauge(self.book.unsettled()));
        self.parts
            .gateway
            .in_flight
            .set(i64::try_from(self.book.flying()).unwrap_or(i64::MAX));
    }

    fn idle(&mut self, wrote: bool) -> Outcome<()> {
        let mono = self.parts.clock.mono_ns();
        if wrote {
            self.idle_since_mono = mono;
            return Ok(());
        }
        let mark_after = u64::try_from(limits::IDLE_MARK.as_nanos()).unwrap_or(u64::MAX);
        if mono.saturating_sub(self.idle_since_mono) >= mark_after {
            self.journal = Some(self.journal()?.mark()?);
            self.quarantine = Some(self.quarantine()?.mark()?);
        }
        Ok(())
    }

    fn journal(&mut self) -> Outcome<Journal> {
        self.journal.take().ok_or_else(lost)
    }

    fn quarantine(&mut self) -> Outcome<Quarantine> {
        self.quarantine.take().ok_or_else(lost)
    }
}

fn aside(stream: StreamKey, recv_ns: i64, reason: &str, frame: Option<FrameNote>) -> Quarantined {
    // Nobody releases it here: what it waited for, it would have met upstream.
    Quarantined {
        stream,
        recv_ns,
        arrived_ns: None,
        reason: reason.to_owned(),
        frame,
        waits: false,
        settles: false,
    }
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn lost() -> Failure {
    Failure::io("the spool was lost to a failed write; this process never acknowledges again")
}
