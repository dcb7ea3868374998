//! The device's side of the conversation: connect, hand over, settle, hang up.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits};

use super::{Run, Wire};
use crate::{
    acked::Entry,
    encoding::Dressed,
    faults::{Cut, Misfortune},
    link::{Event, Link, Parcel, Reason},
    spool::{Item, Refusal, Settled},
    standing::Standing,
    state,
    tally::{add, sub},
};

/// A refusal for lack of room is tried again after this.
const DEFERRED_NS: u64 = 1_000_000_000;
/// First wait before connecting again; it doubles up to [`Common::backoff_ns`](super::Common::backoff_ns).
const BACKOFF_NS: u64 = 100_000_000;

impl Run {
    /// Nothing is sent again but on a new connection, so a lost acknowledgement needs one.
    pub(super) fn give_up_silent(&mut self, now: u64) {
        let Wire::Up(_) = self.wire else { return };
        let wait = self.device.common.ack_wait_ns;
        if self
            .spool
            .oldest_ns()
            .is_some_and(|at| now >= at.saturating_add(wait))
        {
            self.down(
                Some(format!("no acknowledgement for {} ms", wait / 1_000_000)),
                0,
            );
        }
    }

    /// Starts to connect when it is time.
    pub(super) fn connect(&mut self, now: u64) {
        let Wire::Down { retry_ns } = self.wire else {
            return;
        };
        if retry_ns > now {
            return;
        }
        self.wire = Wire::Opening(tokio::spawn(Link::open(self.device.dial.clone())));
    }

    pub(super) fn opened(&mut self, opened: Outcome<Link>) {
        let link = match opened {
            Ok(link) => link,
            Err(failure) => return self.down(Some(failure.why), 0),
        };
        self.spool.connected(link.names());
        self.orders.connected();
        if link.send(Parcel::Status(true)) && link.numbers_notes() {
            self.spool.hand_note(Item::Status, self.now_ns());
        }
        self.wire = Wire::Up(link);
    }

    fn let_in(&mut self) {
        self.connected = true;
        self.report.connections += 1;
        add(&self.device.common.tally.connections, 1);
        add(&self.device.common.tally.connected, 1);
    }

    /// This connection counts no more.
    pub(super) fn no_longer_connected(&mut self) {
        if std::mem::take(&mut self.connected) {
            sub(&self.device.common.tally.connected, 1);
        }
    }

    /// The connection is gone or could not be made: everything unacknowledged waits again, for the
    /// next one or, where the device wished to go, for so long.
    fn down(&mut self, trouble: Option<String>, away_ns: u64) {
        self.no_longer_connected();
        self.spool.disconnected();
        self.cut = None;
        let most = self.device.common.backoff_ns;
        let wait = if trouble.is_some() {
            let grown = BACKOFF_NS.saturating_mul(1 << self.failures.min(16));
            let grown = grown.min(most);
            self.failures = self.failures.saturating_add(1);
            // Between half and all of it, so that a fleet does not come back in step.
            grown / 2 + (self.device.dice.unit() * (grown / 2) as f64) as u64
        } else {
            away_ns
        };
        if let Some(why) = trouble {
            tracing::debug!(device = %self.device.dial.key.device, %why, "connection lost");
            self.trouble(why);
        }
        self.wire = Wire::Down {
            retry_ns: self.now_ns().saturating_add(wait),
        };
    }

    /// Whether one more may be in flight.
    pub(super) fn has_credit(&self) -> bool {
        let flying = self.spool.flying();
        let bytes = self.spool.flying_bytes();
        flying < self.device.common.burst
            && (bytes == 0 || bytes + limits::PAYLOAD_BYTES_MAX <= limits::SIM_CREDIT_BYTES)
    }

    /// Hands over what may go: replies, births, frames.
    pub(super) fn send(&mut self, now: u64) {
        while self.reply(now) {}
        while self.has_credit() && self.birth(now) {}
        while self.has_credit() && self.frame(now) {}
    }

    fn reply(&mut self, now: u64) -> bool {
        let Wire::Up(link) = &self.wire else {
            return false;
        };
        let Some(done) = self.orders.next_due() else {
            return false;
        };
        let (id, payload) = (done.id.as_str(), done.reply.clone());
        let sent = link.send(Parcel::Reply { id, payload });
        if sent && link.numbers_notes() {
            self.spool.hand_note(Item::Reply(done.n), now);
        }
        sent
    }

    fn birth(&mut self, now: u64) -> bool {
        let Wire::Up(link) = &self.wire else {
            return false;
        };
        let Some((_, birth)) = self.spool.hand_birth(now) else {
            return false;
        };
        let dice = self.device.luck.dice();
        let encoding = self.device.common.encoding;
        let Dressed { payload, json } = encoding.birth(&birth, link.twins(), dice);
        let sent = link.send(Parcel::Birth { payload, json });
        if !sent {
            // The connection has already ended; its last event says why.
            self.spool.take_back();
        }
        sent
    }

    fn frame(&mut self, now: u64) -> bool {
        let Wire::Up(link) = &self.wire else {
            return false;
        };
        let luck = &mut self.device.luck;
        let Some((place, frame)) = self.spool.hand_over(now, luck.overtakes()) else {
            return false;
        };
        let common = &self.device.common;
        let post = |luck: &mut Misfortune, kept: &Bytes| {
            let Dressed { payload, json } = common.encoding.frame(kept, link.twins(), luck.dice());
            let sent = link.send(Parcel::Frame { payload, json });
            add(&common.tally.sent, u64::from(sent));
            sent
        };
        if !post(luck, &frame.payload) {
            self.spool.take_back();
            return false;
        }
        if luck.doubles()
            && let Some(again) = self.spool.hand_again(place, now)
            && !post(luck, &again.payload)
        {
            self.spool.take_back();
        }
        if self.cut.is_none() {
            match luck.cuts() {
                Cut::None => {}
                how => self.cut = Some((place, how)),
            }
        }
        true
    }

    pub(super) fn ready(&mut self) -> Option<Event> {
        match &mut self.wire {
            Wire::Up(link) => link.ready(),
            _ => None,
        }
    }

    pub(super) async fn handle(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Closed(why) => self.down(Some(why), 0),
            Event::Numbered(pkid) => {
                let item = self.spool.numbered(pkid);
                if let (Some(Item::Frame(sent)), Some((place, how))) = (item, self.cut)
                    && sent == place
                {
                    self.hang_up(how).await?;
                }
            }
            event => {
                self.heard(event).await?;
                // Without numbers nothing says that the frame went out; an answer to any says that
                // frames do.
                if self.spool.names()
                    && let Some((_, how)) = self.cut
                {
                    self.hang_up(how).await?;
                }
            }
        }
        Ok(())
    }

    /// What does not end the connection.
    async fn heard(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Connected => self.let_in(),
            Event::Numbered(pkid) => drop(self.spool.numbered(pkid)),
            Event::Acked(pkid) => {
                let settled = self.spool.acknowledged(pkid);
                self.acked(settled).await?;
            }
            Event::Durable(boot, first, last) => {
                for settled in self.spool.durable(boot, first, last) {
                    self.acked(Some(settled)).await?;
                }
            }
            Event::Birth(boot, None) => {
                let settled = self.spool.known(boot);
                self.acked(settled).await?;
            }
            Event::Refused(pkid, reason) => {
                let settled = self.spool.refused(pkid, self.asks(&reason));
                self.refused(settled, &reason)?;
            }
            Event::Birth(boot, Some(reason)) => {
                let settled = self.spool.birth_refused(boot, self.asks(&reason));
                self.refused(settled, &reason)?;
            }
            Event::Nacked(boot, seq, reason) => {
                let asks = self.asks(&reason);
                for settled in self.spool.refused_by_name(boot, seq, seq, asks) {
                    self.refused(Some(settled), &reason)?;
                }
            }
            Event::Standing(payload) => self.standing(&payload).await?,
            Event::Command(payload) => self.command(&payload)?,
            Event::Replied(id) => self.orders.replied(&id),
            Event::Closed(_) => {}
        }
        Ok(())
    }

    /// The device itself ends the connection.
    async fn hang_up(&mut self, how: Cut) -> Outcome<()> {
        let gone = std::mem::replace(&mut self.wire, Wire::Down { retry_ns: 0 });
        if let Wire::Up(link) = gone
            && how != Cut::Rude
        {
            for event in link.goodbye().await {
                self.heard(event).await?;
            }
        }
        let away = match how {
            Cut::Away => self.device.common.pause_ns,
            _ => 0,
        };
        self.down(None, away);
        Ok(())
    }

    async fn acked(&mut self, settled: Option<Settled>) -> Outcome<()> {
        let Some(settled) = settled else {
            return Ok(());
        };
        self.failures = 0;
        if let Item::Reply(n) = settled.item {
            self.orders.answered(n);
        }
        let Some(frame) = settled.frame else {
            return Ok(());
        };
        let now = self.now_ns();
        self.quiet_since_ns = now;
        if frame.again {
            return Ok(());
        }
        let tally = Arc::clone(&self.device.common.tally);
        tally.waited(now.saturating_sub(settled.handed_ns));
        add(&tally.acked, 1);
        add(&tally.samples, u64::from(frame.samples));
        self.report.samples += u64::from(frame.samples);
        // A second frame of one boot and seq can only be acknowledged where a conflict cannot be told.
        let first = self.report.acked.entry(frame.boot).or_default();
        if !first.insert(frame.seq) {
            return Ok(());
        }
        let key = &self.device.dial.key;
        match &self.device.lines {
            Some(lines) => {
                let gone =
                    |_| Failure::io("the list of acknowledged frames can no longer be written");
                lines.send(Entry::new(key, &frame)).await.map_err(gone)
            }
            None => self.note(|| state::done(key.device.as_str(), &frame)),
        }
    }

    fn asks(&self, reason: &Reason) -> Refusal {
        if reason.later {
            Refusal::Until(self.now_ns().saturating_add(DEFERRED_NS))
        } else {
            Refusal::ForGood
        }
    }

    fn refused(&mut self, settled: Option<Settled>, reason: &Reason) -> Outcome<()> {
        let Some(settled) = settled else {
            return Ok(());
        };
        let what = match (settled.item, &settled.frame) {
            (Item::Birth(boot), _) => format!("the birth of boot {boot}"),
            (_, Some(frame)) => format!("frame {}", frame.seq),
            (Item::Frame(_), None) => "a frame".to_owned(),
            (Item::Status, _) => "the status".to_owned(),
            (Item::Reply(_), _) => "a reply".to_owned(),
        };
        let Reason { label, why, .. } = reason;
        let because = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        self.trouble(format!("{what} was refused with reason {label}{because}"));
        let tally = Arc::clone(&self.device.common.tally);
        if reason.later {
            add(&tally.deferred, 1);
            return Ok(());
        }
        *self.report.refused.entry(label.clone()).or_default() += 1;
        let Some(frame) = settled.frame else {
            return Ok(());
        };
        self.quiet_since_ns = self.now_ns();
        if !frame.again {
            add(&tally.refused, 1);
        }
        let device = self.device.dial.key.device.as_str();
        self.note(|| state::done(device, &frame))
    }

    /// What the `ack` topic says. At QoS 0 it is what settles; to a device of 3.1.1 it is the only word
    /// of a refusal.
    async fn standing(&mut self, payload: &[u8]) -> Outcome<()> {
        let Some(standing) = Standing::read(payload) else {
            self.trouble("the ack topic said what is no JSON of its kind".into());
            return Ok(());
        };
        if standing.stream != self.device.dial.key.stream.as_str() {
            return Ok(());
        }
        for (first, last, label) in &standing.refused {
            self.told(standing.boot, *first, *last, label)?;
        }
        for boot in &standing.boots {
            let settled = self.spool.known(*boot);
            self.acked(settled).await?;
        }
        for (first, last) in &standing.durable {
            for settled in self.spool.durable(standing.boot, *first, *last) {
                self.acked(Some(settled)).await?;
            }
        }
        Ok(())
    }

    fn told(&mut self, boot: u64, first: u64, last: u64, label: &str) -> Outcome<()> {
        // The door repeats itself.
        let told = self.told.entry(boot).or_default();
        let size = |(a, b): &(u64, u64)| b.saturating_sub(*a).saturating_add(1);
        let news = told.gaps(first, last);
        told.insert_range(first, last);
        let news = news.iter().map(size).fold(0, u64::saturating_add);
        let count = self.report.told.entry(label.to_owned()).or_default();
        *count = count.saturating_add(news);
        let reason = Reason {
            label: label.to_owned(),
            why: "said on the ack topic".into(),
            later: false,
        };
        let asks = Refusal::ForGood;
        for settled in self.spool.refused_by_name(boot, first, last, asks) {
            self.refused(Some(settled), &reason)?;
        }
        Ok(())
    }

    pub(super) fn trouble(&mut self, why: String) {
        self.device.common.tally.trouble(&self.report.key, &why);
        self.report.trouble = Some(why);
    }
}
