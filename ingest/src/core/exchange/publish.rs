//! Passing a message on.
//!
//! ```text
//!  message ─▶ topic sound? quota? ─▶ who takes it ─┬ QoS 0: now or never
//!                                                  ├ QoS > 0: into each queue, then as the windows allow
//!                                                  └ retain: the newest of its topic stays
//! ```
//!
//! A session gets a message once however many of its subscriptions take it, with the highest QoS and all
//! identifiers; of a shared subscription one member gets it, in turn, connected ones first.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    board::{Board, Load},
    effects::Effects,
    message::{Delivery, Message, Wish},
    record::{Queued, Record, Stored},
    request::{Answer, Denied, ToClient},
    session::seconds_ns,
    topics,
    trie::Key,
};
use crate::core::arrival::ConnId;

/// Whose a retained message is if nobody else's.
const HOUSE: &str = "house";

/// How one session takes a message.
#[derive(Debug, Default)]
struct Taking {
    qos: u8,
    retain: bool,
    identifiers: Vec<u32>,
}

impl Taking {
    fn add(&mut self, wish: &Wish, message: &Message) {
        self.qos = self.qos.max(wish.qos.min(message.qos));
        self.retain |= wish.retain_as_published && message.retain;
        self.identifiers.extend(wish.identifier);
    }
}

impl Board {
    pub(super) fn publish(
        &mut self,
        conn: ConnId,
        token: u64,
        message: Message,
        id: Option<u16>,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return fx.answer(conn, token, Answer::Refused(Denied::NotAttached));
        };
        let known = |id: &u16| {
            let session = self.sessions.get(&key);
            session.is_some_and(|s| s.inbound.contains(id))
        };
        if id.as_ref().is_some_and(known) {
            // The same packet again, whatever it carries now: the first one counts.
            fx.drop_one("repeat");
            return fx.answer(conn, token, Answer::Published { matched: true });
        }
        let (at, first) = (fx.out.len(), id);
        let done = match self.refuses(&message) {
            true => Err(Denied::Quota),
            false => self.pass_on(Some(&key), message, now_ns, fx),
        };
        let answer = match done {
            Ok(matched) => {
                if let Some(id) = first {
                    self.note(fx, Record::Inbound(key, id));
                }
                Answer::Published { matched }
            }
            Err(denied) => Answer::Refused(denied),
        };
        // Before what it causes: the publisher may be its own subscriber.
        fx.out.insert(at, (conn, ToClient::Answer(token, answer)));
    }

    /// The house publishes.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn publish_own(
        &mut self,
        message: Message,
        now_ns: i64,
        fx: &mut Effects,
    ) -> Result<bool, Denied> {
        match self.refuses(&message) {
            true => Err(Denied::Quota),
            false => self.pass_on(None, message, now_ns, fx),
        }
    }

    /// Whether the message may have to be kept and there is no room on the disk.
    fn refuses(&self, message: &Message) -> bool {
        let removes = message.retain && message.payload.is_empty();
        self.shut && !removes && (message.qos > 0 || message.retain)
    }

    /// Gives the message to all who take it, and retains it if it says so. Whether anybody takes it.
    pub(super) fn pass_on(
        &mut self,
        from: Option<&Key>,
        message: Message,
        now_ns: i64,
        fx: &mut Effects,
    ) -> Result<bool, Denied> {
        topics::check_topic(&message.topic)?;
        let owner = owner(&message.topic, from);
        if message.retain && !message.payload.is_empty() {
            self.check_retained(&message, &owner)?;
        }
        let takers = self.takers(from, &message);
        let kept = takers.iter().filter(|(_, t)| t.qos > 0).count();
        if self.queued.bytes + kept * message.bytes() > self.bounds.queued_bytes && kept > 0 {
            return Err(Denied::Quota);
        }
        let life = message.properties.expiry_s.map(seconds_ns);
        let stored = Arc::new(Stored {
            no: self.next_no,
            at_ns: now_ns,
            expires_ns: life.map(|ns| now_ns.saturating_add(ns)),
            message,
        });
        self.next_no += 1;
        fx.new_message(&stored);
        for (key, taking) in &takers {
            self.give(key, taking, &stored, now_ns, fx);
        }
        if stored.message.retain {
            self.keep_retained(&stored, &owner, fx);
        }
        for (key, taking) in &takers {
            if taking.qos > 0 {
                self.pump(key, now_ns, fx);
            }
        }
        Ok(!takers.is_empty())
    }

    fn check_retained(&self, message: &Message, owner: &Key) -> Result<(), Denied> {
        let old = self.retained.get(&message.topic);
        let less = |mut load: Load, counts: bool| {
            if let (Some((old, _)), true) = (old, counts) {
                load.sub(old.message.bytes());
            }
            load.add(message.bytes());
            load
        };
        let mine = self.owners.get(owner).copied().unwrap_or_default();
        let mine = less(mine, old.is_some_and(|(_, whose)| whose == owner));
        let all = less(self.retained_load, true);
        let b = &self.bounds;
        let fits = mine.count <= b.retained_owner
            && mine.bytes <= b.retained_owner_bytes
            && all.count <= b.retained
            && all.bytes <= b.retained_bytes;
        if fits { Ok(()) } else { Err(Denied::Quota) }
    }

    fn keep_retained(&mut self, stored: &Arc<Stored>, owner: &Key, fx: &mut Effects) {
        let topic = &stored.message.topic;
        fx.changed |= topics::is_status(topic);
        let record = match stored.message.payload.is_empty() {
            true if !self.retained.contains_key(topic) => return,
            true => Record::Unretained(topic.clone()),
            false => Record::Retained(Arc::clone(stored), Arc::clone(owner)),
        };
        // QoS 0 promises nothing, so it costs no sync of its own.
        match stored.message.qos {
            0 => self.note_lazily(fx, record),
            _ => self.note(fx, record),
        }
    }

    fn takers(&mut self, from: Option<&Key>, message: &Message) -> Vec<(Key, Taking)> {
        let mut plain: BTreeMap<Key, Taking> = BTreeMap::new();
        let mut groups: Vec<Arc<str>> = Vec::new();
        self.trie.visit(&message.topic, &mut |ends| {
            for (key, wish) in &ends.sessions {
                if !(wish.no_local && from == Some(key)) {
                    let taking = plain.entry(Arc::clone(key)).or_default();
                    taking.add(wish, message);
                }
            }
            groups.extend(ends.groups.iter().cloned());
        });
        let mut takers: Vec<_> = plain.into_iter().collect();
        for name in groups {
            if let Some((key, wish)) = self.next_member(&name, message.qos) {
                let mut taking = Taking::default();
                taking.add(&wish, message);
                takers.push((key, taking));
            }
        }
        takers
    }

    /// Whose turn it is in a shared subscription: a connected member's, else that of one for whom it is
    /// kept.
    fn next_member(&mut self, name: &str, qos: u8) -> Option<(Key, Arc<Wish>)> {
        let group = self.groups.get_mut(name)?;
        let after: Vec<&Key> = match &group.last {
            None => group.members.keys().collect(),
            Some(last) => {
                let later = group.members.keys().filter(|k| *k > last);
                later
                    .chain(group.members.keys().filter(|k| *k <= last))
                    .collect()
            }
        };
        let linked = |key: &&&Key| {
            let session = self.sessions.get(**key);
            let link = session.and_then(|s| s.link.as_ref());
            link.is_some_and(|l| !l.cut && l.room > 0)
        };
        let keeps = |key: &&&Key| {
            let wish = group.members.get(**key);
            wish.is_some_and(|w| w.qos.min(qos) > 0)
        };
        let chosen = after
            .iter()
            .find(linked)
            .or_else(|| after.iter().find(keeps))?;
        let chosen = Arc::clone(chosen);
        let wish = Arc::clone(group.members.get(&chosen)?);
        group.last = Some(Arc::clone(&chosen));
        Some((chosen, wish))
    }

    /// One message for one session.
    fn give(
        &mut self,
        key: &Key,
        taking: &Taking,
        stored: &Arc<Stored>,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        let queued = Queued {
            stored: Arc::clone(stored),
            qos: taking.qos,
            retain: taking.retain,
            identifiers: taking.identifiers.clone(),
        };
        match taking.qos {
            0 => self.give_now(key, &queued, now_ns, fx),
            _ => self.enqueue(key, queued, fx),
        }
    }

    /// QoS 0: now or never.
    fn give_now(&mut self, key: &Key, queued: &Queued, now_ns: i64, fx: &mut Effects) {
        let session = self.sessions.get_mut(key);
        let Some(link) = session.and_then(|s| s.link.as_mut()) else {
            return;
        };
        if link.room == 0 || link.cut {
            return fx.drop_one("channel-full");
        }
        link.room -= 1;
        let delivery = delivery(queued, 0, false, now_ns);
        fx.tell(link.conn, ToClient::Deliver(delivery));
    }

    /// QoS > 0: behind what waits. A full queue loses its oldest, and a connected client that let it
    /// come to this is told to go.
    pub(super) fn enqueue(&mut self, key: &Key, queued: Queued, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let bytes = queued.stored.message.bytes();
        let (max, bytes_max) = (self.bounds.queue, self.bounds.queue_bytes);
        let full =
            |s: &super::session::Session| s.queue.len() >= max || s.bytes + bytes > bytes_max;
        if full(session)
            && let Some(link) = session.link.as_mut().filter(|l| !l.cut)
        {
            link.cut = true;
            fx.tell(link.conn, ToClient::Cut(Denied::Quota));
        }
        while let Some(session) = self.sessions.get(key) {
            if !full(session) {
                return self.note(fx, Record::Queued(Arc::clone(key), queued));
            }
            fx.drop_one("queue-full");
            if session.queue.is_empty() {
                // All that it holds is in flight; this one goes.
                return;
            }
            self.note(fx, Record::Dropped(Arc::clone(key)));
        }
    }
}

/// A message as it goes out.
pub(super) fn delivery(queued: &Queued, id: u16, dup: bool, now_ns: i64) -> Delivery {
    let stored = &queued.stored;
    let mut message = stored.message.clone();
    message.qos = queued.qos;
    message.retain = queued.retain;
    if let Some(until) = stored.expires_ns {
        let left = until.saturating_sub(now_ns).max(0);
        // Rounded up: what is not over is never announced as over.
        let left = (left + chordae_base::time::SECOND_NS - 1) / chordae_base::time::SECOND_NS;
        message.properties.expiry_s = Some(u32::try_from(left).unwrap_or(u32::MAX));
    }
    Delivery {
        id,
        dup,
        message,
        identifiers: queued.identifiers.clone(),
    }
}

/// Who answers for a retained message: the device of its topic, else its publisher.
fn owner(topic: &str, from: Option<&Key>) -> Key {
    match (topics::device_of(topic), from) {
        (Some(device), _) => format!("device:{device}").into(),
        (None, Some(key)) => Arc::clone(key),
        (None, None) => HOUSE.into(),
    }
}
