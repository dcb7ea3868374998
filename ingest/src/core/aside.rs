//! What goes into no chunk: refused, or set aside in quarantine.
//!
//! Two ways into quarantine. *Settled*: the seq is taken, no chunk will hold a frame of it, a repeat is
//! absorbed (outside every window, overdue). *Set aside*: nothing is known of the seq but that this
//! sender is wrong about it (a conflict, an impostor, a broken payload that cannot be answered).

use bytes::Bytes;
use chordae_base::{
    StreamKey, limits,
    record::{FrameRecord, SettledRecord, WalRecord},
    wire::{ClockKind, Glance},
};

use super::{
    arrival::{Content, Offer, Refusal, Verdict},
    judge::{Answers, Effect, Step, full},
    park::Body,
    quarantined::Quarantined,
    state::Core,
};

/// Why a frame of a bucket that failed to seal twice lies in quarantine.
pub const UNSEALABLE: &str = "unsealable";

impl Core {
    /// A frame of another content than the one that is stored, or of another birth: it lies in quarantine,
    /// and its sender is told: by its verdict where its protocol can say so, by the `ack` topic in any case.
    pub(super) fn refuse_and_keep(
        &mut self,
        offer: &Offer,
        head: &Glance,
        refusal: Refusal,
        answers: Answers,
    ) -> Step {
        let label = refusal.label();
        let verdict = match offer.can_be_told {
            true => Verdict::Refused(refusal),
            false => Verdict::Durable,
        };
        if answers.room {
            self.note_refused(&offer.stream, head, label);
        }
        self.set_aside(offer, label, verdict, answers)
    }

    /// Into quarantine without touching what is known of its seq.
    pub(super) fn set_aside(
        &mut self,
        offer: &Offer,
        reason: &'static str,
        verdict: Verdict,
        answers: Answers,
    ) -> Step {
        if !answers.room {
            return full(offer);
        }
        let (frame, body) = match &offer.content {
            Content::Birth(birth) => (None, Bytes::from(birth.encode())),
            Content::Frame(head, payload) => (Some(head.into()), payload.clone()),
            Content::Malformed(_, _, payload) => (None, payload.clone()),
        };
        let q = Quarantined {
            stream: offer.stream.clone(),
            recv_ns: offer.now.ours_ns,
            arrived_ns: None,
            reason: reason.into(),
            frame,
            waits: false,
            settles: false,
        };
        let label = if reason == "conflict" {
            "conflict"
        } else {
            "quarantined"
        };
        Step::Done(
            vec![
                Effect::Quarantine(q, Body::Here(body)),
                Effect::Tell(verdict),
            ],
            label,
        )
    }

    /// Refused; where the sender cannot be told, quarantined and acknowledged.
    pub(super) fn turn_away(&mut self, offer: &Offer, refusal: Refusal, room: bool) -> Step {
        if offer.can_be_told {
            return Step::Done(vec![Effect::Tell(Verdict::Refused(refusal))], "refused");
        }
        let answers = Answers {
            room,
            ..Answers::default()
        };
        self.set_aside(offer, refusal.label(), Verdict::Durable, answers)
    }

    /// Into quarantine for good: no chunk will hold this seq.
    pub(super) fn quarantine(
        &mut self,
        stream: &StreamKey,
        head: &Glance,
        recv_ns: i64,
        reason: &'static str,
        body: Body,
        effects: &mut Vec<Effect>,
    ) {
        let q = Quarantined {
            stream: stream.clone(),
            recv_ns,
            arrived_ns: None,
            reason: reason.into(),
            frame: Some(head.into()),
            waits: false,
            settles: true,
        };
        effects.push(Effect::Quarantine(q, body));
        self.settle(stream, head, recv_ns, effects);
    }

    /// A frame of a bucket that cannot be sealed, as it lies in the log; without its record only its name
    /// is left. One that is settled already (before a restart) is only settled again, for the windower.
    pub fn unsealable(
        &mut self,
        (stream, boot, seq): (&StreamKey, u64, u64),
        record: Option<FrameRecord>,
        recv_ns: i64,
    ) -> Vec<Effect> {
        let seen = &self.boot(stream, boot).seen;
        let (settled, print) = (seen.is_settled(seq), seen.print(seq));
        let decoded = record.as_ref().and_then(|r| r.frame().ok());
        let head = Glance {
            boot,
            seq,
            t0_ns: record.as_ref().map_or(0, |r| r.t0_ns),
            samples: record.as_ref().map_or(0, |r| r.samples),
            leads: decoded
                .as_ref()
                .map_or(0, |f| u32::try_from(f.leads()).unwrap_or(0)),
            historical: decoded.is_some_and(|f| f.historical),
            clock: record.as_ref().map_or(ClockKind::Unknown, |r| r.clock),
            print: record
                .as_ref()
                .map_or(print.unwrap_or_default(), |r| r.print),
        };
        let mut effects = Vec::new();
        if settled {
            self.settle(stream, &head, recv_ns, &mut effects);
        } else {
            let body = Body::Here(record.map(|r| r.payload).unwrap_or_default());
            self.quarantine(stream, &head, recv_ns, UNSEALABLE, body, &mut effects);
        }
        effects
    }

    pub(super) fn settle(
        &mut self,
        stream: &StreamKey,
        head: &Glance,
        recv_ns: i64,
        effects: &mut Vec<Effect>,
    ) {
        self.note_recv(recv_ns);
        let boot = self.boot(stream, head.boot);
        boot.seen.settle(head.seq, Some(head.print));
        boot.recv_ns = boot.recv_ns.max(recv_ns);
        let (stream, boot, seq) = (stream.clone(), head.boot, head.seq);
        let record = SettledRecord {
            stream,
            boot,
            seq,
            recv_ns,
        };
        effects.push(Effect::Append(WalRecord::Settled(record), None));
    }

    pub(super) fn note_refused(&mut self, stream: &StreamKey, head: &Glance, reason: &'static str) {
        let Some(s) = self.streams.get_mut(stream) else {
            return;
        };
        match s.refused.back_mut() {
            Some((boot, _, last, why))
                if *boot == head.boot
                    && *why == reason
                    && last.checked_add(1) == Some(head.seq) =>
            {
                *last = head.seq;
            }
            _ => {
                s.refused.push_back((head.boot, head.seq, head.seq, reason));
                if s.refused.len() > limits::ACK_RANGES_MAX {
                    s.refused.pop_front();
                }
            }
        }
    }
}
