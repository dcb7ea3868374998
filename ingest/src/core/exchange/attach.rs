//! Coming and going: sessions, take-over, wills.
//!
//! ```text
//!  lost or gone ──▶ session without connection ──┬─ back in time: goes on, its will is forgotten
//!                   (will waits, session ages)   ├─ will's delay is over: published
//!                                                └─ session ends (expiry, clean start): will, then nothing
//! ```
//!
//! A second connection takes the session over: the first one is lost in that moment, with what its loss
//! means for the will.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    board::{Board, Timer},
    effects::Effects,
    message::Wish,
    record::{About, Record},
    request::{Answer, Denied, Hello, ToClient},
    session::{Link, Session},
    trie::Key,
};
use crate::core::arrival::ConnId;

/// Timers that one step looks at.
const DUE_MAX: usize = 256;

impl Board {
    pub(super) fn attach(
        &mut self,
        conn: ConnId,
        token: u64,
        hello: Hello,
        room: usize,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        if self.links.contains_key(&conn) {
            return fx.answer(conn, token, Answer::Refused(Denied::Invalid));
        }
        let key: Key = hello.key.as_str().into();
        let there = self.sessions.get(&key);
        if let Some(link) = there.and_then(|s| s.link.as_ref()) {
            let first = link.conn;
            fx.tell(first, ToClient::TakenOver);
            self.part(&key, true, None, now_ns, fx);
        }
        // A will that still waits is for a client that does not come back.
        let there = self.sessions.get(&key);
        let present = there.is_some() && !hello.clean;
        if there.is_some() && hello.clean {
            self.end(&key, now_ns, fx);
        }
        let no_room = self.shut && hello.expiry_s > 0;
        if !present && (no_room || self.sessions.len() >= self.bounds.sessions) {
            return fx.answer(conn, token, Answer::Refused(Denied::Quota));
        }
        let about = About {
            expiry_s: hello.expiry_s,
            will: hello.will,
            gone_ns: None,
        };
        let record = Record::Session {
            key: Arc::clone(&key),
            about,
            fresh: !present,
        };
        self.note(fx, record);
        self.links.insert(conn, Arc::clone(&key));
        if let Some(session) = self.sessions.get_mut(&key) {
            session.link = Some(Link {
                conn,
                receive_max: usize::from(hello.receive_max.max(1)).min(self.bounds.window),
                room,
                commands: BTreeSet::new(),
                offered: BTreeSet::new(),
                commanded: BTreeMap::new(),
                browse: VecDeque::new(),
                cut: false,
            });
        }
        let kept = self.sessions.get(&key).map_or_else(Vec::new, |session| {
            session.wishes.values().map(|w| Wish::clone(w)).collect()
        });
        fx.answer(conn, token, Answer::Attached { present, kept });
        self.forget_expired(&key, now_ns, fx);
        self.offer_commands(&key, now_ns);
        self.pump(&key, now_ns, fx);
    }

    /// What was in flight at QoS 1 and has expired is not sent again. At QoS 2 the client may remember
    /// the packet id, so that delivery is finished.
    fn forget_expired(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let stale = session.flight.iter();
        let stale = stale.filter(|f| f.queued.qos == 1 && f.queued.stored.expired(now_ns));
        for id in stale.map(|f| f.id).collect::<Vec<_>>() {
            fx.drop_one("expired");
            self.note_lazily(fx, Record::Done(Arc::clone(key), id));
        }
    }

    pub(super) fn detach(
        &mut self,
        conn: ConnId,
        will: bool,
        expiry_s: Option<u32>,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        match self.links.get(&conn).cloned() {
            Some(key) => self.part(&key, will, expiry_s, now_ns, fx),
            // One that was taken over has no session to leave any more.
            None => fx.gone.push(conn),
        }
    }

    /// The session has no connection from now on.
    pub(super) fn part(
        &mut self,
        key: &Key,
        will: bool,
        expiry_s: Option<u32>,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(link) = session.link.take() {
            self.links.remove(&link.conn);
            fx.gone.push(link.conn);
        } else if session.about.gone_ns.is_some() {
            return;
        }
        for flight in &mut session.flight {
            (flight.dup, flight.sent) = (flight.dup || flight.sent, false);
        }
        let mut about = session.about.clone();
        about.gone_ns = Some(now_ns);
        if !will {
            about.will = None;
        }
        // A session that was to end with its connection does.
        if let (Some(expiry_s), true) = (expiry_s, about.expiry_s > 0) {
            about.expiry_s = expiry_s;
        }
        let record = Record::Session {
            key: Arc::clone(key),
            about,
            fresh: false,
        };
        self.note_lazily(fx, record);
        self.look_at(key, now_ns, fx);
    }

    /// Ends a session that is over, and publishes a will that is due.
    fn look_at(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let due = |at: Option<i64>| at.is_some_and(|at| at <= now_ns);
        if due(session.ends_ns()) {
            self.end(key, now_ns, fx);
        } else if due(session.will_ns()) {
            let mut about = session.about.clone();
            let will = about.will.take();
            let record = Record::Session {
                key: Arc::clone(key),
                about,
                fresh: false,
            };
            self.note(fx, record);
            self.publish_will(key, will, now_ns, fx);
        }
    }

    /// The session is over: its will if it still has one, then nothing of it is left.
    fn end(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let will = session.about.will.clone();
        // Lost in a crash it ends again, at the latest at the next start.
        self.note_lazily(fx, Record::Ended(Arc::clone(key)));
        self.publish_will(key, will, now_ns, fx);
    }

    fn publish_will(
        &mut self,
        key: &Key,
        will: Option<super::message::Will>,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        if let Some(will) = will {
            // There is nobody left to be told.
            if self.pass_on(Some(key), will.message, now_ns, fx).is_err() {
                fx.drop_one("will-refused");
            }
        }
    }

    /// Looks at what is due. True if more is.
    pub fn tick(&mut self, now_ns: i64, fx: &mut Effects) -> bool {
        for _ in 0..DUE_MAX {
            match self.timers.first() {
                Some((at, _)) if *at <= now_ns => {}
                _ => return false,
            }
            match self.timers.pop_first() {
                Some((_, Timer::Session(key))) => self.look_at(&key, now_ns, fx),
                Some((_, Timer::Retained(topic))) => {
                    let kept = self.retained.get(&topic);
                    if kept.is_some_and(|(stored, _)| stored.expired(now_ns)) {
                        self.note_lazily(fx, Record::Unretained(topic));
                    }
                }
                Some((_, Timer::Command(no))) => self.expire_command(no, now_ns, fx),
                None => return false,
            }
        }
        true
    }

    /// A connection's channel takes so many deliveries now.
    pub fn room(&mut self, conn: ConnId, room: usize, now_ns: i64, fx: &mut Effects) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return;
        };
        let session = self.sessions.get_mut(&key);
        if let Some(link) = session.and_then(|s: &mut Session| s.link.as_mut()) {
            link.room = room;
            self.pump(&key, now_ns, fx);
        }
    }
}
