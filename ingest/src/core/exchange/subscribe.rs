//! Subscriptions, and the retained messages that come with them.
//!
//! Retained messages of QoS > 0 are queued at once: they are part of the session from here on. Those of
//! QoS 0 follow as the connection has room, in the order of their topics; a cursor remembers how far.

use std::{ops::Bound, sync::Arc};

use super::{
    board::Board,
    effects::Effects,
    message::Wish,
    record::{Queued, Record, Stored},
    request::{Answer, Denied, ToClient},
    session::Browse,
    topics,
    trie::Key,
};
use crate::core::arrival::ConnId;

impl Board {
    pub(super) fn subscribe_all(
        &mut self,
        conn: ConnId,
        token: u64,
        wishes: Vec<Wish>,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return fx.answer(conn, token, Answer::Refused(Denied::NotAttached));
        };
        let at = fx.out.len();
        let mut verdicts = Vec::with_capacity(wishes.len());
        for wish in wishes {
            verdicts.push(self.subscribe_one(&key, wish, now_ns, fx));
        }
        let answer = Answer::Subscribed(verdicts);
        fx.out.insert(at, (conn, ToClient::Answer(token, answer)));
        self.offer_commands(&key, now_ns);
        self.pump(&key, now_ns, fx);
    }

    fn subscribe_one(
        &mut self,
        key: &Key,
        wish: Wish,
        now_ns: i64,
        fx: &mut Effects,
    ) -> Result<u8, Denied> {
        let (group, filter) = topics::check_filter(&wish.filter)?;
        let shared = group.is_some();
        if wish.qos > 2 || wish.retain_handling > 2 || (shared && wish.no_local) {
            return Err(Denied::Invalid);
        }
        let session = self.sessions.get(key).ok_or(Denied::NotAttached)?;
        let new = !session.wishes.contains_key(&wish.filter);
        let no_room = self.shut && session.kept();
        if new && (no_room || session.wishes.len() >= self.bounds.subscriptions) {
            return Err(Denied::Quota);
        }
        let filter = filter.to_owned();
        let wish = Arc::new(wish);
        self.note(fx, Record::Subscribed(Arc::clone(key), Arc::clone(&wish)));
        let wanted = match wish.retain_handling {
            0 => true,
            1 => new,
            _ => false,
        };
        if wanted && !shared {
            self.send_retained(key, &wish, &filter, now_ns, fx);
        }
        Ok(wish.qos)
    }

    fn send_retained(
        &mut self,
        key: &Key,
        wish: &Arc<Wish>,
        filter: &str,
        now_ns: i64,
        fx: &mut Effects,
    ) {
        let mut now_or_never = false;
        let mut queued = Vec::new();
        for stored in self.retained_from(filter, None) {
            if stored.expired(now_ns) {
                continue;
            }
            match stored.message.qos.min(wish.qos) {
                0 => now_or_never = true,
                qos => queued.push(retained_copy(stored, wish, qos)),
            }
        }
        for queued in queued {
            self.enqueue(key, queued, fx);
        }
        let session = self.sessions.get_mut(key);
        if let Some(link) = session.and_then(|s| s.link.as_mut()) {
            link.browse.retain(|b| b.wish.filter != wish.filter);
            if now_or_never {
                let wish = Arc::clone(wish);
                link.browse.push_back(Browse { wish, after: None });
            }
        }
    }

    /// Retained messages that a filter takes, in the order of their topics, after `after`.
    fn retained_from<'a>(
        &'a self,
        filter: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Stored>> {
        let prefix = topics::literal_prefix(filter);
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        self.retained
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .filter(move |(topic, _)| topics::matches(filter, topic))
            .map(|(_, (stored, _))| stored)
    }

    /// Sends retained messages of QoS 0 while there is room.
    pub(super) fn browse(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        loop {
            let Some(link) = self.sessions.get(key).and_then(|s| s.link.as_ref()) else {
                return;
            };
            let (Some(cursor), true) = (link.browse.front(), link.room > 0 && !link.cut) else {
                return;
            };
            let (wish, conn) = (Arc::clone(&cursor.wish), link.conn);
            let mut out = Vec::new();
            let mut after = None;
            for stored in self.retained_from(&wish.filter, cursor.after.as_deref()) {
                if out.len() >= link.room {
                    break;
                }
                after = Some(stored.message.topic.clone());
                // Others were queued when the subscription came, or have come since by themselves.
                if stored.message.qos.min(wish.qos) == 0 && !stored.expired(now_ns) {
                    let copy = retained_copy(stored, &wish, 0);
                    out.push(super::publish::delivery(&copy, 0, false, now_ns));
                }
            }
            let sent = out.len();
            for delivery in out {
                fx.tell(conn, ToClient::Deliver(delivery));
            }
            let session = self.sessions.get_mut(key);
            let Some(link) = session.and_then(|s| s.link.as_mut()) else {
                return;
            };
            link.room -= sent;
            match after {
                Some(after) => {
                    if let Some(cursor) = link.browse.front_mut() {
                        cursor.after = Some(after);
                    }
                }
                None => {
                    link.browse.pop_front();
                }
            }
        }
    }

    pub(super) fn unsubscribe_all(
        &mut self,
        conn: ConnId,
        token: u64,
        filters: Vec<String>,
        fx: &mut Effects,
    ) {
        let Some(key) = self.links.get(&conn).cloned() else {
            return fx.answer(conn, token, Answer::Refused(Denied::NotAttached));
        };
        let mut verdicts = Vec::with_capacity(filters.len());
        for filter in filters {
            let Some(session) = self.sessions.get_mut(&key) else {
                break;
            };
            if let Some(link) = session.link.as_mut() {
                link.browse.retain(|b| b.wish.filter != filter);
            }
            let known = session.wishes.contains_key(&filter);
            if known {
                self.note(fx, Record::Unsubscribed(Arc::clone(&key), filter));
            }
            verdicts.push(known);
        }
        fx.answer(conn, token, Answer::Unsubscribed(verdicts));
    }
}

fn retained_copy(stored: &Arc<Stored>, wish: &Wish, qos: u8) -> Queued {
    Queued {
        stored: Arc::clone(stored),
        qos,
        retain: true,
        identifiers: wish.identifier.into_iter().collect(),
    }
}
