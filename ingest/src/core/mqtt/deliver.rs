//! What the exchange has for the client, and how the client takes it.
//!
//! ```text
//! QoS 1  PUBLISH ─▶ PUBACK ─▶ Acked                          unknown packet ids: PUBACK and PUBCOMP are
//! QoS 2  PUBLISH ─▶ PUBREC ─▶ Received ─▶ (synced) ─▶         dropped and counted, PUBREC gets PUBREL
//!        PUBREL ─▶ PUBCOMP ─▶ Completed                       with 0x92
//! ```
//!
//! Packet ids and the window are the exchange's, which has them after a reconnect as well; here stands only
//! which of them this connection has been sent.

use super::{
    packet::kind,
    session::{Act, Effects, Session},
    write::{self, Publishing},
};
use crate::core::exchange::{message::Delivery, request::Request};

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// PUBLISH at QoS 1.
    Once,
    /// PUBLISH at QoS 2.
    Exactly,
    /// PUBREC has come, and is being kept.
    Received,
    /// PUBREL is sent.
    Released,
}

impl Session {
    pub(super) fn deliver(&mut self, delivery: &Delivery, fx: &mut Effects) {
        let Delivery {
            id,
            dup,
            message,
            identifiers,
        } = delivery;
        let topic = message.topic.as_str();
        // It may have lost the right since it was queued.
        let allowed = self.profile.is_open() || self.filters.keys().any(|f| f.takes(topic));
        let sent = allowed
            && self.write_publish(
                Publishing {
                    topic,
                    alias: None,
                    qos: message.qos,
                    id: *id,
                    dup: *dup,
                    retain: message.retain,
                    properties: &message.properties,
                    identifiers,
                    payload: &message.payload,
                },
                fx,
            );
        if !allowed {
            fx.act(Act::Refuse("subscription"));
        }
        match (message.qos, sent) {
            (0, _) => {}
            (1, true) => {
                self.sent.insert(*id, Sent::Once);
            }
            (_, true) => {
                self.sent.insert(*id, Sent::Exactly);
            }
            // Not sent, and never will be: as if it had been taken.
            (1, false) => fx.act(Act::Exchange(0, Request::Acked(*id))),
            (_, false) => fx.act(Act::Exchange(0, Request::Received(*id, false))),
        }
    }

    /// False if it is longer than the client takes: it is then not sent, and counted.
    pub(super) fn write_publish(&mut self, p: Publishing<'_>, fx: &mut Effects) -> bool {
        let alias = self.our_aliases.of(p.topic);
        let short = Publishing {
            topic: if matches!(alias, Some((_, true))) {
                ""
            } else {
                p.topic
            },
            alias: alias.map(|(alias, _)| alias),
            ..p
        };
        let written = write::publish(self.version, &short, self.packet_max, &mut fx.out);
        match alias {
            _ if !written => fx.act(Act::Refuse("client-packet-max")),
            Some((alias, false)) => self.our_aliases.told(p.topic, alias),
            _ => {}
        }
        written
    }

    /// PUBACK
    pub(super) fn acked(&mut self, id: u16, fx: &mut Effects) {
        match self.sent.get(&id) {
            Some(Sent::Once) => {
                self.sent.remove(&id);
                fx.act(Act::Exchange(0, Request::Acked(id)));
            }
            _ => fx.act(Act::Refuse("unknown-packet-id")),
        }
    }

    /// PUBREC; the client may refuse the message, which then is done.
    pub(super) fn was_received(&mut self, id: u16, taken: bool, fx: &mut Effects) {
        match self.sent.get(&id) {
            Some(Sent::Exactly) => {
                if taken {
                    self.sent.insert(id, Sent::Received);
                } else {
                    self.sent.remove(&id);
                }
                fx.act(Act::Exchange(0, Request::Received(id, taken)));
            }
            // The PUBREL is on its way.
            Some(Sent::Received) => {}
            Some(Sent::Released) => self.write_release(id, true, fx),
            _ => {
                fx.act(Act::Refuse("unknown-packet-id"));
                self.write_release(id, false, fx);
            }
        }
    }

    /// The exchange has kept the PUBREC, or knows from an earlier connection that PUBREL comes next.
    pub(super) fn release(&mut self, id: u16, known: bool, fx: &mut Effects) {
        if known {
            self.sent.insert(id, Sent::Released);
        } else {
            self.sent.remove(&id);
        }
        self.write_release(id, known, fx);
    }

    fn write_release(&mut self, id: u16, known: bool, fx: &mut Effects) {
        let code = if known { 0 } else { 0x92 };
        write::ack(self.version, kind::PUBREL, id, code, None, &mut fx.out);
    }

    /// PUBCOMP
    pub(super) fn completed(&mut self, id: u16, fx: &mut Effects) {
        match self.sent.get(&id) {
            Some(Sent::Released) => {
                self.sent.remove(&id);
                fx.act(Act::Exchange(0, Request::Completed(id)));
            }
            _ => fx.act(Act::Refuse("unknown-packet-id")),
        }
    }
}
