//! One turn of the ingest thread: step, commit, perform. See `service` for the picture.

use std::{collections::BTreeMap, mem};

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, StreamKey, limits,
    record::{FrameRecord, Place, WalRecord},
    wire::{ClockKind, Frame},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    core::{
        admission::Admission,
        arrival::{Content, Notice, Offer, Verdict, arrived_ns},
        judge::{Answers, Effect, Step},
        park::Body,
        ports::{Downstream, GapNews, LiveFrame, Newest},
        quarantined::Quarantined,
        sight::Sight,
        state::Core,
        steady::{Now, Steady},
    },
    mailbox::{Arrival, Fates, Message, notify},
    metrics::{Counted, Metrics, seconds},
    quarantine::Quarantine,
    service::{Letters, Parts},
    wal::Wal,
};

/// The disk is asked for its free bytes at most this often, in ns.
const ADMISSION_EVERY_NS: u64 = 100_000_000;
/// How long the negative control leaves acknowledged frames unwritten.
const CONTROL_LAZY: std::time::Duration = std::time::Duration::from_millis(20);
/// `Downstream::tick` at most this often, in ns.
const TICK_EVERY_NS: i64 = 100_000_000;

/// The thread's state. The logs are `None` after a failed commit, and stay so.
pub(crate) struct Turner {
    pub(crate) core: Core,
    pub(crate) steady: Steady,
    pub(crate) admission: Admission,
    pub(crate) wal: Option<Wal>,
    pub(crate) quarantine: Option<Quarantine>,
    pub(crate) downstream: Box<dyn Downstream>,
    pub(crate) parts: Parts,
    pub(crate) doors: watch::Sender<bool>,
    pub(crate) last_tick_ns: i64,
    pub(crate) last_admission_mono: Option<u64>,
    pub(crate) idle_since_mono: u64,
}

/// What a turn has decided and not yet done.
#[derive(Default)]
struct Decided {
    records: Vec<WalRecord>,
    aside: Vec<(Quarantined, Bytes)>,
    tell: Vec<Tell>,
    counted: Counted,
    live: Vec<LiveFrame>,
    standings: Vec<(StreamKey, u64, mpsc::Sender<Notice>)>,
    newest: Vec<(StreamKey, oneshot::Sender<Option<Newest>>)>,
    sights: Vec<oneshot::Sender<BTreeMap<StreamKey, Sight>>>,
    stop: Option<oneshot::Sender<()>>,
}

struct Tell {
    reply: mpsc::Sender<Notice>,
    token: u64,
    verdict: Verdict,
    at_mono_ns: u64,
}

impl Turner {
    /// Before the first turn: the state stands in the log, and the doors know whether there is room.
    pub(crate) fn begin(&mut self) -> Outcome<()> {
        let state = self.state()?;
        let (wal, positions) = self.wal()?.commit(&state)?;
        self.wal = Some(wal);
        self.hand_down(state, &positions)?;
        self.admit();
        Ok(())
    }

    /// Gives the reply of whoever asked to stop.
    pub(crate) fn turn(
        &mut self,
        batch: Vec<Message>,
        letters: Letters,
    ) -> Outcome<Option<oneshot::Sender<()>>> {
        let clock = &self.parts.clock;
        let (wall_ns, mono_ns) = (clock.wall_ns(), clock.mono_ns());
        let now_ns = self.steady.read(wall_ns, mono_ns);
        let now = Now {
            ours_ns: now_ns,
            wall_ns,
        };
        let gaps = self.read_letters(letters)?;
        self.admit();
        let mut todo = Decided::default();
        for gap in gaps {
            self.gap(&gap, now_ns, &mut todo)?;
        }
        for message in batch {
            self.decide(message, now, mono_ns, &mut todo)?;
        }
        let ticks = now_ns.saturating_sub(self.last_tick_ns) >= TICK_EVERY_NS;
        if ticks {
            for effect in self.core.tick(now) {
                self.take_effect(effect, None, &mut todo)?;
            }
        }
        if cfg!(feature = "control-ack-before-append") {
            // The negative control: told first, written a moment later, as a broker with a lazy log does.
            self.tell(&mut todo);
            self.parts.threads.sleep(CONTROL_LAZY);
        }
        let positions = self.commit(&mut todo)?;
        self.tell(&mut todo);
        let records = mem::take(&mut todo.records);
        self.hand_down(records, &positions)?;
        for live in todo.live {
            if !self.parts.fanout.publish(live) {
                self.parts.metrics.live_dropped.inc();
            }
        }
        if ticks {
            self.last_tick_ns = now_ns;
            self.downstream.tick(now_ns)?;
        }
        self.idle(positions.is_empty())?;
        Ok(todo.stop)
    }

    /// Orderly end: what is written is marked.
    pub(crate) fn finish(&mut self) -> Outcome<()> {
        self.wal = Some(self.wal()?.mark()?);
        self.quarantine = Some(self.quarantine()?.mark()?);
        Ok(())
    }

    fn decide(
        &mut self,
        message: Message,
        now: Now,
        mono_ns: u64,
        todo: &mut Decided,
    ) -> Outcome<()> {
        match message {
            // The permit is given back when this returns: the payloads are in the batch then.
            Message::Offers(arrivals, _room) => {
                for arrival in arrivals {
                    self.judge(arrival, now, mono_ns, todo)?;
                }
            }
            Message::Standing(stream, boot, reply) => todo.standings.push((stream, boot, reply)),
            Message::Newest(stream, reply) => todo.newest.push((stream, reply)),
            Message::Sights(reply) => todo.sights.push(reply),
            Message::Gone(conn) => self.core.gone(conn),
            Message::Stop(reply) => todo.stop = Some(reply),
        }
        Ok(())
    }

    /// `now` and `mono_ns` are readings of one instant.
    fn judge(
        &mut self,
        arrival: Arrival,
        now: Now,
        mono_ns: u64,
        todo: &mut Decided,
    ) -> Outcome<()> {
        let waited = mono_ns.saturating_sub(arrival.at_mono_ns);
        let waited = i64::try_from(waited).unwrap_or(i64::MAX);
        // Never before a record or tick that went downstream: replay must cut where life cut.
        let floor = self.core.recv_ns().max(self.last_tick_ns);
        let now = Now {
            ours_ns: now.ours_ns.saturating_sub(waited).max(floor),
            wall_ns: now.wall_ns.saturating_sub(waited),
        };
        let Arrival {
            stream,
            content,
            at_mono_ns,
            relayed_ns,
            door,
            conn,
            can_be_told,
            token,
            reply,
        } = arrival;
        let bytes = content.bytes();
        if self.core.is_new_to(&stream) {
            let covered = self.parts.history.covered(&stream);
            self.core.learn(&stream, covered);
        }
        let offer = Offer {
            stream,
            content,
            now,
            arrived_ns: arrived_ns(now.wall_ns, relayed_ns),
            conn,
            can_be_told,
        };
        let mut answers = Answers {
            room: self.admission.is_open(),
            ..Answers::default()
        };
        let (effects, outcome) = loop {
            match self.core.step(&offer, answers) {
                Step::Done(effects, outcome) => break (effects, outcome),
                Step::OpenStream => match self.parts.registry.open_stream(&offer.stream) {
                    Ok(()) => answers.opened = true,
                    Err(failure) => break (unsure(&offer, &failure), "unsure"),
                },
                Step::AskHistory { mapped_t0_ns } => match self.same_rows(&offer, mapped_t0_ns) {
                    Ok(same) => answers.same_rows = Some(same),
                    Err(failure) => break (unsure(&offer, &failure), "unsure"),
                },
            }
        };
        todo.counted.arrival(door, outcome, bytes);
        let way_back = WayBack {
            reply,
            token,
            at_mono_ns,
        };
        for effect in effects {
            self.take_effect(effect, Some(&way_back), todo)?;
        }
        Ok(())
    }

    fn same_rows(&self, offer: &Offer, mapped_t0_ns: i64) -> Outcome<Option<bool>> {
        let Content::Frame(_, payload) = &offer.content else {
            return Err(Failure::internal("only frames have rows"));
        };
        let frame = Frame::decode(payload).map_err(|bad| Failure::internal(bad.to_string()))?;
        self.parts
            .history
            .same_rows(&offer.stream, mapped_t0_ns, &frame)
    }

    fn take_effect(
        &mut self,
        effect: Effect,
        way_back: Option<&WayBack>,
        todo: &mut Decided,
    ) -> Outcome<()> {
        let metrics = &self.parts.metrics;
        match effect {
            Effect::Append(record, from) => {
                count_stored(metrics, &mut todo.counted, &record);
                let record = match (record, from) {
                    (WalRecord::Frame(frame), Some(body)) => {
                        let payload = self.payload(body, todo)?;
                        WalRecord::Frame(FrameRecord { payload, ..frame })
                    }
                    (record, _) => record,
                };
                todo.records.push(record);
            }
            Effect::Quarantine(q, body) => {
                metrics
                    .quarantined
                    .with_label_values(&[q.reason.as_str()])
                    .inc();
                let payload = self.payload(body, todo)?;
                todo.aside.push((q, payload));
            }
            Effect::Tell(verdict) => {
                match &verdict {
                    Verdict::Refused(refusal) => metrics.refuse(refusal.label()),
                    Verdict::Full(_) => metrics.refuse("full"),
                    Verdict::Durable | Verdict::Unsure => {}
                }
                if let Some(WayBack {
                    reply,
                    token,
                    at_mono_ns,
                }) = way_back
                {
                    let (reply, token, at_mono_ns) = (reply.clone(), *token, *at_mono_ns);
                    todo.tell.push(Tell {
                        reply,
                        token,
                        verdict,
                        at_mono_ns,
                    });
                }
            }
            Effect::Live(live) => todo.live.push(live),
            // One absurd seq must not swallow the counter.
            Effect::Gap(seqs) => metrics.gap_frames.inc_by(seqs.min(1_000_000)),
        }
        Ok(())
    }

    /// Fetches a payload from where it lies.
    fn payload(&self, body: Body, todo: &Decided) -> Outcome<Bytes> {
        match body {
            Body::Here(payload) => Ok(payload),
            Body::Wal(position) => match &self.wal {
                Some(wal) => wal.frame_source().payload(position),
                None => Err(lost()),
            },
            Body::Quarantine(position) => match &self.quarantine {
                Some(q) => Ok(q.reader().read(position)?.1),
                None => Err(lost()),
            },
        }
        .map_err(|f| {
            f.during(format_args!(
                "a waiting frame ({} decided)",
                todo.records.len()
            ))
        })
    }

    /// Quarantine first, then the log; nothing has been told yet.
    fn commit(&mut self, todo: &mut Decided) -> Outcome<Vec<u64>> {
        if !todo.aside.is_empty() {
            let aside = mem::take(&mut todo.aside);
            let encoded: Outcome<Vec<_>> = aside.iter().map(|(q, p)| q.encode(p)).collect();
            let (quarantine, positions) = self.quarantine()?.commit(&encoded?)?;
            self.quarantine = Some(quarantine);
            for ((q, _), position) in aside.iter().zip(positions) {
                self.core.moved(q, position);
            }
        }
        if todo.records.is_empty() {
            return Ok(Vec::new());
        }
        let began = self.parts.clock.mono_ns();
        let mut wal = self.wal()?;
        if wal.wants_roll() {
            let state = self.state()?;
            let positions;
            (wal, positions) = wal.roll(&state)?;
            self.hand_down(state, &positions)?;
        }
        let syncing = tracing::debug_span!("wal.sync", records = todo.records.len());
        let (wal, positions) = syncing.in_scope(|| wal.commit(&todo.records))?;
        drop(syncing);
        self.parts.metrics.wal_bytes.set(gauge(wal.bytes()));
        self.wal = Some(wal);
        let took = self.parts.clock.mono_ns().saturating_sub(began);
        self.parts.metrics.wal_sync_seconds.observe(seconds(took));
        for (record, position) in todo.records.iter().zip(&positions) {
            self.core.located(record, *position);
        }
        Ok(positions)
    }

    /// Only after the commit: acknowledgements leave here and nowhere else.
    fn tell(&self, todo: &mut Decided) {
        let now = self.parts.clock.mono_ns();
        todo.counted.tell(&self.parts.metrics);
        let ack_seconds = self.parts.metrics.ack_seconds.local();
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
                ack_seconds.observe(seconds(took));
            }
            fates.add(reply, token, verdict);
        }
        fates.tell();
        for (stream, boot, reply) in todo.standings.drain(..) {
            notify(&reply, Notice::Standing(self.core.standing(&stream, boot)));
        }
        for (stream, reply) in todo.newest.drain(..) {
            // Whoever asked may have given up waiting.
            reply.send(self.core.newest(&stream)).ok();
        }
        for reply in todo.sights.drain(..) {
            reply.send(self.core.sights()).ok();
        }
    }

    fn hand_down(&mut self, records: Vec<WalRecord>, positions: &[u64]) -> Outcome<()> {
        for (record, position) in records.into_iter().zip(positions) {
            self.downstream.record(*position, record)?;
        }
        Ok(())
    }

    /// Frames that no chunk will hold go to quarantine as they lie in the log; what cannot be read there any
    /// more is noted without its payload. Durable with this turn's commit, and only then settled.
    fn gap(&mut self, gap: &GapNews, now_ns: i64, todo: &mut Decided) -> Outcome<()> {
        for (seq, position) in &gap.frames {
            let read = match &self.wal {
                Some(wal) => wal.frame_source().record(*position),
                None => Err(lost()),
            };
            let record = match read {
                Ok(WalRecord::Frame(frame)) => Some(frame),
                Ok(_) => None,
                Err(failure) => {
                    tracing::error!(stream = %gap.stream, boot = gap.boot, seq, %failure,
                        "an acknowledged frame cannot be read any more; quarantine gets its name alone");
                    None
                }
            };
            let of = (&gap.stream, gap.boot, *seq);
            for effect in self.core.unsealable(of, record, now_ns) {
                self.take_effect(effect, None, todo)?;
            }
        }
        Ok(())
    }

    /// Gives the gaps, which need the commit of this turn.
    fn read_letters(&mut self, letters: Letters) -> Outcome<Vec<GapNews>> {
        for (stream, boot, seqs) in letters.covered {
            self.core.cover(&stream, boot, &seqs);
        }
        if let Some(floor) = letters.trim {
            let wal = self.wal()?.trim(floor)?;
            self.core.trim(wal.start());
            self.parts.metrics.wal_bytes.set(gauge(wal.bytes()));
            self.wal = Some(wal);
        }
        Ok(letters.gaps)
    }

    fn admit(&mut self) {
        let mono = self.parts.clock.mono_ns();
        let fresh = |last: u64| mono.saturating_sub(last) < ADMISSION_EVERY_NS;
        if self.last_admission_mono.is_some_and(fresh) {
            return;
        }
        self.last_admission_mono = Some(mono);
        let free = self.parts.disk.free_bytes(&self.parts.wal.dir).ok();
        if let Some(free) = free {
            self.parts.metrics.disk_free_bytes.set(gauge(free));
        }
        let was_open = self.admission.is_open();
        let open = self
            .admission
            .read(free, self.wal.as_ref().map_or(0, Wal::bytes));
        if open != was_open {
            tracing::warn!(
                open,
                ?free,
                "doors {}",
                if open { "open again" } else { "shut" }
            );
        }
        self.doors
            .send_if_modified(|told| mem::replace(told, open) != open);
    }

    fn idle(&mut self, nothing_written: bool) -> Outcome<()> {
        let mono = self.parts.clock.mono_ns();
        if !nothing_written {
            self.idle_since_mono = mono;
            return Ok(());
        }
        let mark_after = u64::try_from(limits::IDLE_MARK.as_nanos()).unwrap_or(u64::MAX);
        if mono.saturating_sub(self.idle_since_mono) >= mark_after {
            self.finish()?;
        }
        Ok(())
    }

    fn state(&self) -> Outcome<Vec<WalRecord>> {
        Ok(self
            .core
            .save()?
            .into_iter()
            .map(WalRecord::State)
            .collect())
    }

    fn wal(&mut self) -> Outcome<Wal> {
        self.wal.take().ok_or_else(lost)
    }

    fn quarantine(&mut self) -> Outcome<Quarantine> {
        self.quarantine.take().ok_or_else(lost)
    }
}

struct WayBack {
    reply: mpsc::Sender<Notice>,
    token: u64,
    at_mono_ns: u64,
}

fn unsure(offer: &Offer, failure: &Failure) -> Vec<Effect> {
    tracing::error!(stream = %offer.stream, %failure, "could not judge an arrival; it must come again");
    vec![Effect::Tell(Verdict::Unsure)]
}

fn count_stored(metrics: &Metrics, counted: &mut Counted, record: &WalRecord) {
    let WalRecord::Frame(frame) = record else {
        return;
    };
    if frame.place == Place::Parked {
        return;
    }
    counted.samples(frame.samples);
    if frame.place == Place::Live && frame.clock != ClockKind::Synced {
        metrics
            .clock_offset_seconds
            .observe(seconds(frame.offset_ns.unsigned_abs()));
    }
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn lost() -> Failure {
    Failure::io("the log was lost to a failed write; this process never acknowledges again")
}
