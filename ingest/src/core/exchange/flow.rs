//! Deliveries within their windows, and what clients say about them.
//!
//! `pump` sends what may go: first again what was in flight, in its order, then what waits, then commands,
//! then retained messages of QoS 0. A release goes the way of the delivery that it ends. At most
//! `receive_max` deliveries with QoS > 0 are open on a connection,
//! and never more of anything than its channel has room for: what does not fit stays here.

use std::sync::Arc;

use super::{
    board::Board,
    effects::Effects,
    publish::delivery,
    record::Record,
    request::{Answer, Denied, Request, ToClient},
    session::Flight,
    trie::Key,
};
use crate::core::arrival::ConnId;

impl Board {
    /// Decides about a request. `room`: deliveries that the connection's channel takes now.
    pub fn request(
        &mut self,
        conn: ConnId,
        token: u64,
        request: Request,
        room: usize,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        match request {
            Request::Attach(hello) => self.attach(conn, token, hello, room, now_ns, fx),
            Request::Publish { message, id } => {
                self.publish(conn, token, message, id, now_ns, fx);
            }
            Request::Release(id) => self.release(conn, token, id, fx),
            Request::Subscribe(wishes) => self.subscribe_all(conn, token, wishes, now_ns, fx),
            Request::Unsubscribe(filters) => self.unsubscribe_all(conn, token, filters, fx),
            Request::Acked(id) => self.acked(conn, id, now_ns, fx),
            Request::Received(id, taken) => self.received(conn, id, taken, now_ns, fx),
            Request::Completed(id) => self.completed(conn, id, now_ns, fx),
            Request::Detach { will, expiry_s } => self.detach(conn, will, expiry_s, now_ns, fx),
        }
    }

    /// PUBREL for a message that came at QoS 2. The answer waits for the commit: the client may use the id
    /// for another message after it.
    fn release(&mut self, conn: ConnId, token: u64, id: u16, fx: &mut Effects) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return fx.answer(conn, token, Answer::Refused(Denied::NotAttached));
        };
        let session = self.sessions.get(&key);
        let known = session.is_some_and(|s| s.inbound.contains(&id));
        match known {
            true => self.note(fx, Record::Released(key, id)),
            false => fx.drop_one("unknown-id"),
        }
        fx.answer(conn, token, Answer::Released { known });
    }

    fn acked(&mut self, conn: ConnId, id: u16, now_ns: i64, fx: &mut Effects) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let link = session.link.as_mut();
        if let Some(no) = link.and_then(|l| l.commanded.remove(&id)) {
            self.command_delivered(no, fx);
        } else if is(session.in_flight(id), |f| f.queued.qos == 1) {
            self.note_lazily(fx, Record::Done(Arc::clone(&key), id));
        } else {
            return fx.drop_one("unknown-id");
        }
        self.pump(&key, now_ns, fx);
    }

    /// PUBREC. The release goes out after the commit, from when on the client may forget the id, and as
    /// there is room in the channel.
    fn received(&mut self, conn: ConnId, id: u16, taken: bool, now_ns: i64, fx: &mut Effects) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let flight = session.in_flight(id);
        let flight = flight.filter(|f| f.queued.qos == 2 && (f.sent || f.released));
        match (flight, taken) {
            (Some(flight), true) => {
                flight.sent = false;
                if !flight.released {
                    self.note(fx, Record::Received(Arc::clone(&key), id));
                }
            }
            (Some(_), false) => self.note_lazily(fx, Record::Done(Arc::clone(&key), id)),
            (None, taken) => {
                fx.drop_one("unknown-id");
                let link = session.link.as_mut().filter(|l| taken && l.room > 0);
                if let Some(link) = link {
                    link.room -= 1;
                    fx.tell(conn, ToClient::Release { id, known: false });
                }
                return;
            }
        }
        self.pump(&key, now_ns, fx);
    }

    fn completed(&mut self, conn: ConnId, id: u16, now_ns: i64, fx: &mut Effects) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if is(session.in_flight(id), |f| f.released) {
            self.note_lazily(fx, Record::Done(Arc::clone(&key), id));
            self.pump(&key, now_ns, fx);
        } else {
            fx.drop_one("unknown-id");
        }
    }

    /// Sends what may go to a session; see the module.
    pub(super) fn pump(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        self.pump_flight(key, now_ns, fx);
        self.pump_queue(key, now_ns, fx);
        self.pump_commands(key, now_ns, fx);
        self.browse(key, now_ns, fx);
    }

    fn pump_flight(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let mut open = session.open();
        let Some(link) = session.link.as_mut().filter(|l| !l.cut) else {
            return;
        };
        for flight in session.flight.iter_mut().filter(|f| !f.sent) {
            if open >= link.receive_max || link.room == 0 {
                return;
            }
            (flight.sent, open, link.room) = (true, open + 1, link.room - 1);
            fx.tell(link.conn, outgoing(flight, now_ns));
        }
    }

    fn pump_queue(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        while let Some(session) = self.sessions.get(key) {
            let Some(first) = session.queue.front() else {
                return;
            };
            if first.stored.expired(now_ns) {
                fx.drop_one("expired");
                self.note_lazily(fx, Record::Dropped(Arc::clone(key)));
                continue;
            }
            let Some(link) = session.link.as_ref().filter(|l| !l.cut && l.room > 0) else {
                return;
            };
            if session.open() >= link.receive_max || session.flight.iter().any(|f| !f.sent) {
                return;
            }
            let (Some(id), qos) = (session.free_id(), first.qos) else {
                return;
            };
            match qos {
                // Its id must not have meant another message when it goes out.
                2 => self.note(fx, Record::Sent(Arc::clone(key), id)),
                _ => self.note_lazily(fx, Record::Sent(Arc::clone(key), id)),
            }
            self.pump_flight(key, now_ns, fx);
        }
    }
}

fn is(flight: Option<&mut Flight>, what: impl Fn(&Flight) -> bool) -> bool {
    flight.is_some_and(|f| f.sent && what(f))
}

fn outgoing(flight: &Flight, now_ns: i64) -> ToClient {
    match flight.released {
        true => ToClient::Release {
            id: flight.id,
            known: true,
        },
        false => ToClient::Deliver(delivery(&flight.queued, flight.id, flight.dup, now_ns)),
    }
}
