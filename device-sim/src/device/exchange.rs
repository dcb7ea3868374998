//! The device's side of the conversation: connect, hand over, settle, hang up.

use std::sync::Arc;

use chordae_base::{Failure, Outcome};

use super::{Run, Wire};
use crate::{
    acked,
    faults::Cut,
    link::{Event, Link, QUOTA},
    spool::{Item, Refusal, Settled},
    tally::{add, sub},
};

/// A refusal for lack of room is tried again after this.
const DEFERRED_NS: u64 = 1_000_000_000;
/// First and longest wait before connecting again.
const BACKOFF_NS: (u64, u64) = (100_000_000, 5_000_000_000);

impl Run {
    /// MQTT sends again only on a new connection, so a lost acknowledgement needs one.
    pub(super) fn give_up_silent(&mut self, now: u64) {
        let Wire::Up(_) = self.wire else { return };
        let wait = self.device.common.ack_wait_ns;
        if self
            .spool
            .oldest_ns()
            .is_some_and(|at| now >= at.saturating_add(wait))
        {
            self.down(Some(format!(
                "no acknowledgement for {} ms",
                wait / 1_000_000
            )));
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
        let device = &self.device;
        self.wire = Wire::Opening(tokio::spawn(Link::open(
            device.common.endpoint.clone(),
            device.tls.clone(),
            device.key.device.clone(),
            device.common.mqtt,
        )));
    }

    pub(super) fn opened(&mut self, opened: Outcome<Link>) {
        let link = match opened {
            Ok(link) => link,
            Err(failure) => return self.down(Some(failure.why)),
        };
        self.spool.hand_birth(self.now_ns());
        if !link.publish(&self.topics.0, &self.device.birth) {
            // The connection has already ended; its last event says why.
            self.spool.take_back();
        }
        self.wire = Wire::Up(link);
    }

    /// The birth went out.
    fn birth(&mut self) {
        self.born = true;
        self.report.connections += 1;
        add(&self.device.common.tally.connections, 1);
        add(&self.device.common.tally.connected, 1);
    }

    /// This connection counts no more.
    pub(super) fn unborn(&mut self) {
        if std::mem::take(&mut self.born) {
            sub(&self.device.common.tally.connected, 1);
        }
    }

    /// The connection is gone or could not be made: everything unacknowledged waits again.
    fn down(&mut self, trouble: Option<String>) {
        self.unborn();
        self.spool.disconnected();
        self.cut = None;
        let (first, most) = BACKOFF_NS;
        let wait = if trouble.is_some() {
            let grown = first.saturating_mul(1 << self.failures.min(16)).min(most);
            self.failures = self.failures.saturating_add(1);
            // Between half and all of it, so that a fleet does not come back in step.
            grown / 2 + (self.device.dice.unit() * (grown / 2) as f64) as u64
        } else {
            0
        };
        if let Some(why) = trouble {
            tracing::debug!(device = %self.device.key.device, %why, "connection lost");
            self.trouble(why);
        }
        self.wire = Wire::Down {
            retry_ns: self.now_ns().saturating_add(wait),
        };
    }

    /// Hands over what may go.
    pub(super) fn send(&mut self, now: u64) {
        let Wire::Up(link) = &self.wire else { return };
        let device = &mut self.device;
        while self.spool.flying() < device.common.burst {
            let Some(frame) = self.spool.hand_over(now, device.luck.overtakes()) else {
                return;
            };
            if !link.publish(&self.topics.1, &frame.payload) {
                self.spool.take_back();
                return;
            }
            add(&device.common.tally.sent, 1);
            if device.luck.doubles()
                && let Some(again) = self.spool.hand_again(frame.seq, now)
            {
                if link.publish(&self.topics.1, &again.payload) {
                    add(&device.common.tally.sent, 1);
                } else {
                    self.spool.take_back();
                }
            }
            if self.cut.is_none() {
                match device.luck.cuts() {
                    Cut::None => {}
                    how => self.cut = Some((frame.seq, how)),
                }
            }
        }
    }

    pub(super) fn ready(&mut self) -> Option<Event> {
        match &mut self.wire {
            Wire::Up(link) => link.ready(),
            _ => None,
        }
    }

    pub(super) async fn handle(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Numbered(pkid) => {
                let item = self.spool.numbered(pkid);
                if item == Some(Item::Birth) {
                    self.birth();
                }
                if let (Some(Item::Frame(sent)), Some((seq, how))) = (item, self.cut)
                    && sent == seq
                {
                    self.hang_up(how).await?;
                }
            }
            Event::Acked(pkid) => {
                let settled = self.spool.acknowledged(pkid);
                self.acked(settled).await?;
            }
            Event::Refused(pkid, code) => self.refused(pkid, code),
            Event::Closed(why) => self.down(Some(why)),
        }
        Ok(())
    }

    /// The fault "drop" or "reconnect": the device itself ends the connection.
    async fn hang_up(&mut self, how: Cut) -> Outcome<()> {
        let gone = std::mem::replace(&mut self.wire, Wire::Down { retry_ns: 0 });
        if let Wire::Up(link) = gone {
            let last = if how == Cut::Polite {
                link.goodbye().await
            } else {
                Vec::new()
            };
            for event in last {
                match event {
                    Event::Numbered(pkid) => drop(self.spool.numbered(pkid)),
                    Event::Acked(pkid) => {
                        let settled = self.spool.acknowledged(pkid);
                        self.acked(settled).await?;
                    }
                    Event::Refused(pkid, code) => self.refused(pkid, code),
                    Event::Closed(_) => {}
                }
            }
        }
        self.down(None);
        Ok(())
    }

    async fn acked(&mut self, settled: Option<Settled>) -> Outcome<()> {
        let Some(settled) = settled else {
            return Ok(());
        };
        self.failures = 0;
        let tally = Arc::clone(&self.device.common.tally);
        let Some(frame) = settled.frame else {
            return Ok(());
        };
        let now = self.now_ns();
        tally.waited(now.saturating_sub(settled.handed_ns));
        self.quiet_since_ns = now;
        add(&tally.acked, 1);
        add(&tally.samples, u64::from(frame.samples));
        self.report.acked.insert(frame.seq);
        self.report.samples += u64::from(frame.samples);
        if let Some(lines) = &self.device.lines {
            let line = acked::line(&self.device.key, self.device.maker.boot, &frame);
            let gone = |_| Failure::io("the list of acknowledged frames can no longer be written");
            lines.send(line).await.map_err(gone)?;
        }
        Ok(())
    }

    fn refused(&mut self, pkid: u16, code: u8) {
        let later = code == QUOTA;
        let at = self.now_ns().saturating_add(DEFERRED_NS);
        let refusal = if later {
            Refusal::Until(at)
        } else {
            Refusal::ForGood
        };
        let Some(settled) = self.spool.refused(pkid, refusal) else {
            return;
        };
        self.trouble(match settled.item {
            Item::Birth => format!("the birth was refused with reason {code:#04x}"),
            Item::Frame(seq) => format!("frame {seq} was refused with reason {code:#04x}"),
        });
        if later {
            add(&self.device.common.tally.deferred, 1);
        } else if let Some(frame) = settled.frame {
            add(&self.device.common.tally.refused, 1);
            self.report
                .refused
                .entry(code)
                .or_default()
                .insert(frame.seq);
        }
    }

    fn trouble(&mut self, why: String) {
        self.device.common.tally.trouble(&self.report.key, &why);
        self.report.trouble = Some(why);
    }
}
