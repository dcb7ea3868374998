//! What becomes of an arrival: the rules of formats.md 2, one after the other.
//!
//! ```text
//! malformed? impostor? known seq? room? birth? leads, span? offset? window?
//!     │          │         │       │      │        │          │       │
//!  refuse   quarantine  absorb,   full   park    refuse      park  quarantine ──▶ else append: live or late
//!                       conflict
//! ```
//!
//! Effects are done in order after the step, and verdicts only after the commit that covers the whole
//! batch. So "a repeat is acknowledged only when its original is durable" needs no book-keeping: the
//! original is in an earlier commit, or in this one.

use bytes::Bytes;
use chordae_base::{
    Rate, StreamKey, limits,
    record::{BirthRecord, FrameRecord, Place, WalRecord},
    wire::{Birth, Glance, reason},
};

use super::{
    arrival::{Content, Offer, Refusal, Verdict},
    clock::Setting,
    dedupe::Known,
    park::{Body, Waiting},
    ports::{LiveFrame, Newest},
    quarantined::Quarantined,
    state::{Core, NO_PAYLOAD},
    steady::Now,
};

/// Something to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to the log. With `from`, the frame's payload is read from there first.
    Append(WalRecord, Option<Body>),
    /// Write to quarantine (synced before the log is written).
    Quarantine(Quarantined, Body),
    /// Tell the sender, once all of the batch is durable.
    Tell(Verdict),
    /// Offer to the monitors, once durable.
    Live(LiveFrame),
    /// Count seqs that were skipped (they may still come).
    Gap(u64),
}

/// Answers that only the outside has, asked for by [`Step`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// [`Step::AskHistory`]: the stored rows are the same, others, or erased (`Some(None)`).
    pub same_rows: Option<Option<bool>>,
    /// [`Step::OpenStream`]: the stream has a did now.
    pub opened: bool,
    /// New data are taken (see `admission`).
    pub room: bool,
}

/// What a step comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Decided: what to do, and the outcome as metric label.
    Done(Vec<Effect>, &'static str),
    /// Step again with `same_rows`. Nothing has changed.
    AskHistory {
        /// Where the frame maps to.
        mapped_t0_ns: i64,
    },
    /// Step again with `opened`. Nothing has changed.
    OpenStream,
}

/// Where a frame with known birth goes.
pub(super) enum Target {
    /// Into a bucket.
    Into(Place, Setting, i64),
    /// It waits for an offset.
    Waits,
    /// Outside every window.
    Outside(&'static str),
    /// It contradicts its birth.
    Breaks(Refusal),
}

impl Core {
    /// Decides about one arrival.
    pub fn step(&mut self, offer: &Offer, answers: Answers) -> Step {
        let device = &offer.stream.device;
        let streams = || self.per_device.get(device).copied().unwrap_or(0);
        if !self.streams.contains_key(&offer.stream) && streams() >= limits::STREAMS_PER_DEVICE_MAX
        {
            return self.turn_away(offer, Refusal::TooManyStreams, answers.room);
        }
        match &offer.content {
            Content::Malformed(reason, why, _) => {
                let refusal = Refusal::Malformed(reason, why.clone());
                self.turn_away(offer, refusal, answers.room)
            }
            Content::Birth(birth) => self.step_birth(offer, birth, answers),
            Content::Frame(head, payload) => self.step_frame(offer, head, payload, answers),
        }
    }

    fn step_birth(&mut self, offer: &Offer, birth: &Birth, answers: Answers) -> Step {
        let known = self
            .streams
            .get(&offer.stream)
            .and_then(|s| s.boots.get(&birth.boot));
        if let Some(first) = known.and_then(|b| b.birth.as_ref()) {
            if first.birth == *birth {
                return Step::Done(vec![Effect::Tell(Verdict::Durable)], "repeat");
            }
            self.impostors
                .insert((offer.conn, offer.stream.clone(), birth.boot));
            return self.turn_away(offer, Refusal::BootReused, answers.room);
        }
        if !answers.room {
            return full(offer);
        }
        if !answers.opened {
            return Step::OpenStream;
        }
        let mut effects = Vec::new();
        self.forget_oldest_boot(&offer.stream, birth.boot, offer.now.ours_ns, &mut effects);
        let record = WalRecord::Birth(BirthRecord {
            stream: offer.stream.clone(),
            recv_ns: offer.now.ours_ns,
            birth: birth.clone(),
        });
        self.accept(&record);
        effects.push(Effect::Append(record, None));
        effects.push(Effect::Tell(Verdict::Durable));
        self.release(&offer.stream, birth.boot, offer.now, &mut effects);
        Step::Done(effects, "birth")
    }

    fn step_frame(
        &mut self,
        offer: &Offer,
        head: &Glance,
        payload: &Bytes,
        answers: Answers,
    ) -> Step {
        let stream = &offer.stream;
        if !self.impostors.is_empty()
            && self
                .impostors
                .contains(&(offer.conn, stream.clone(), head.boot))
        {
            return self.refuse_and_keep(offer, head, Refusal::BootReused, answers);
        }
        let boot = self
            .streams
            .get(stream)
            .and_then(|s| s.boots.get(&head.boot));
        match boot.map_or(Known::New, |b| b.seen.known(head.seq, &head.print)) {
            Known::Same => return repeat(),
            Known::Other => return self.refuse_and_keep(offer, head, Refusal::Conflict, answers),
            Known::Aside => {
                return self.set_aside(offer, "maybe-repeat", Verdict::Durable, answers);
            }
            Known::Past => {
                let setting = boot.and_then(|b| b.clock.historical(head.seq, head.clock));
                let mapped = setting.and_then(|s| head.t0_ns.checked_add(s.offset_ns));
                return match (mapped, answers.same_rows) {
                    (Some(mapped_t0_ns), None) => Step::AskHistory { mapped_t0_ns },
                    (Some(_), Some(Some(false))) => {
                        self.refuse_and_keep(offer, head, Refusal::Conflict, answers)
                    }
                    // Same rows; or erased, or mapped by an offset long forgotten: without looking.
                    _ => repeat(),
                };
            }
            Known::New => {}
        }
        if !answers.room {
            return full(offer);
        }
        let Some(birth) = boot.and_then(|b| b.birth.as_ref()) else {
            return self.park(offer, head, payload, "no-birth");
        };
        match self.target(
            stream,
            head,
            &birth.birth,
            offer.arrived_ns,
            offer.now.wall_ns,
        ) {
            Target::Waits => self.park(offer, head, payload, "no-offset"),
            Target::Breaks(refusal) => {
                self.note_refused(stream, head, refusal.label());
                self.turn_away(offer, refusal, true)
            }
            Target::Outside(reason) => {
                let mut effects = Vec::new();
                let body = Body::Here(payload.clone());
                self.quarantine(stream, head, offer.now.ours_ns, reason, body, &mut effects);
                effects.push(Effect::Tell(Verdict::Durable));
                Step::Done(effects, "quarantined")
            }
            Target::Into(place, setting, end_ns) => {
                let frame = FrameRecord {
                    stream: stream.clone(),
                    boot: head.boot,
                    seq: head.seq,
                    recv_ns: offer.now.ours_ns,
                    t0_ns: head.t0_ns,
                    samples: head.samples,
                    offset_ns: setting.offset_ns,
                    clock: setting.clock,
                    place,
                    print: head.print,
                    payload: payload.clone(),
                };
                let effects = self.store(frame, end_ns, offer.arrived_ns, offer.now);
                Step::Done(effects, place_label(place))
            }
        }
    }

    /// A new frame that goes into a bucket, and those that have waited for its offset.
    fn store(&mut self, frame: FrameRecord, end_ns: i64, arrived_ns: i64, now: Now) -> Vec<Effect> {
        let (stream, number) = (frame.stream.clone(), frame.boot);
        let (seq, place, payload) = (frame.seq, frame.place, frame.payload.clone());
        let mut effects = Vec::new();
        let boot = self.boot(&stream, number);
        let had_offset = !boot.clock.is_empty();
        if place == Place::Live {
            let top = boot.seen.durable().last();
            let skipped = top.map_or(seq, |top| seq.saturating_sub(top.saturating_add(1)));
            if skipped > 0 {
                effects.push(Effect::Gap(skipped));
            }
        }
        let record = WalRecord::Frame(frame);
        self.accept(&record);
        effects.push(Effect::Append(record, None));
        effects.push(Effect::Tell(Verdict::Durable));
        if place == Place::Live {
            self.note_newest(
                &stream,
                Newest {
                    mapped_end_ns: end_ns,
                    recv_ns: arrived_ns,
                },
            );
            let topic = format!("chordae/v1/{}/{}/live", stream.device, stream.stream);
            effects.push(Effect::Live(LiveFrame { topic, payload }));
        }
        if !had_offset {
            self.release(&stream, number, now, &mut effects);
        }
        effects
    }

    /// Where a frame goes. `arrived_ns` is what its clock is compared with, `now_ns` what its age is.
    pub(super) fn target(
        &self,
        stream: &StreamKey,
        head: &Glance,
        birth: &Birth,
        arrived_ns: i64,
        now_ns: i64,
    ) -> Target {
        if usize::try_from(head.leads) != Ok(birth.leads.len()) {
            let why = format!("{} leads, the birth has {}", head.leads, birth.leads.len());
            return Target::Breaks(Refusal::Malformed(reason::FRAME_LEADS, why));
        }
        let span_ns = span_ns(head, birth.rate);
        if span_ns > limits::FRAME_SPAN_NS_MAX {
            let why = format!("it spans {span_ns} ns, more than a frame may");
            return Target::Breaks(Refusal::Malformed(reason::FRAME_SPAN, why));
        }
        let Some(end_ns) = head.t0_ns.checked_add(span_ns) else {
            return Target::Outside(reason::TIME_OVERFLOW);
        };
        let known = self
            .streams
            .get(stream)
            .and_then(|s| s.boots.get(&head.boot));
        let Some(boot) = known else {
            return Target::Waits;
        };
        let setting = if head.historical {
            match boot.clock.historical(head.seq, head.clock) {
                Some(setting) => setting,
                None => return Target::Waits,
            }
        } else {
            match boot.clock.live(head.seq, head.clock, end_ns, arrived_ns) {
                Some(setting) => setting,
                None => return Target::Outside(reason::TIME_OVERFLOW),
            }
        };
        let add = |t: i64| t.checked_add(setting.offset_ns);
        let (Some(from_ns), Some(until_ns)) = (add(head.t0_ns), add(end_ns)) else {
            return Target::Outside(reason::TIME_OVERFLOW);
        };
        match self.window(from_ns, until_ns, now_ns) {
            Err(reason) => Target::Outside(reason),
            Ok(place) if head.historical => Target::Into(place.max(Place::Late), setting, until_ns),
            Ok(place) => Target::Into(place, setting, until_ns),
        }
    }

    fn window(&self, from_ns: i64, until_ns: i64, now_ns: i64) -> Result<Place, &'static str> {
        if until_ns > now_ns.saturating_add(limits::FUTURE_NS_MAX) {
            return Err("future");
        }
        if from_ns < now_ns.saturating_sub(self.past_ns_max) {
            return Err("past");
        }
        let old = until_ns < now_ns.saturating_sub(limits::LIVE_AGE_NS_MAX);
        Ok(if old { Place::Late } else { Place::Live })
    }

    fn park(&mut self, offer: &Offer, head: &Glance, payload: &Bytes, why: &'static str) -> Step {
        let (stream, recv_ns) = (&offer.stream, offer.now.ours_ns);
        let mut effects = Vec::new();
        self.forget_oldest_boot(stream, head.boot, recv_ns, &mut effects);
        let body = Body::Here(payload.clone());
        let waiting = Waiting {
            head: head.clone(),
            recv_ns,
            arrived_ns: offer.arrived_ns,
            body,
        };
        if !self.boot(stream, head.boot).parked.put(waiting) {
            // Too many wait already: this one goes straight to quarantine, and no birth releases it.
            let body = Body::Here(payload.clone());
            self.quarantine(stream, head, recv_ns, "parked-full", body, &mut effects);
            effects.push(Effect::Tell(Verdict::Durable));
            return Step::Done(effects, "quarantined");
        }
        let boot = self.boot(stream, head.boot);
        boot.seen.keep(head.seq, Some(head.print));
        boot.recv_ns = boot.recv_ns.max(recv_ns);
        self.note_recv(recv_ns);
        self.note_waiting(stream, head.boot);
        let record = FrameRecord {
            stream: stream.clone(),
            boot: head.boot,
            seq: head.seq,
            recv_ns,
            t0_ns: head.t0_ns,
            samples: head.samples,
            // It has none yet. How long before us a gateway received it stands here until it has.
            offset_ns: offer.arrived_ns.saturating_sub(recv_ns),
            clock: head.clock,
            place: Place::Parked,
            print: head.print,
            payload: payload.clone(),
        };
        effects.push(Effect::Append(WalRecord::Frame(record), None));
        effects.push(Effect::Tell(Verdict::Durable));
        Step::Done(
            effects,
            if why == "no-birth" {
                "parked-no-birth"
            } else {
                "parked-no-offset"
            },
        )
    }

    /// Takes note of a record that is about to be written, exactly as a restart would.
    pub(super) fn accept(&mut self, record: &WalRecord) {
        // Only state records and parked frames can fail to fold, and those do not come here.
        let folded = self.fold(u64::MAX, record);
        debug_assert!(folded.is_ok(), "{folded:?}");
    }

    pub(super) fn note_newest(&mut self, stream: &StreamKey, newest: Newest) {
        if let Some(s) = self.streams.get_mut(stream) {
            s.newest = Some(newest);
        }
    }
}

fn span_ns(head: &Glance, rate: Rate) -> i64 {
    rate.after_ns(u64::from(head.samples)).unwrap_or(i64::MAX)
}

fn repeat() -> Step {
    Step::Done(vec![Effect::Tell(Verdict::Durable)], "repeat")
}

pub(super) fn full(offer: &Offer) -> Step {
    Step::Done(
        vec![Effect::Tell(Verdict::Full(offer.content.clone()))],
        "full",
    )
}

pub(super) fn place_label(place: Place) -> &'static str {
    match place {
        Place::Live => "live",
        Place::Late => "late",
        Place::Parked => "parked",
    }
}

/// See [`NO_PAYLOAD`]: a record that takes its payload from elsewhere.
pub(super) fn without_payload(record: FrameRecord) -> WalRecord {
    WalRecord::Frame(FrameRecord {
        payload: NO_PAYLOAD,
        ..record
    })
}
