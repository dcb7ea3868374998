//! All that the exchange knows, and how it is found again.
//!
//! ```text
//! request ─▶ decide (attach, publish, subscribe, flow, command, timers) ─▶ note(Record) ─▶ apply ─▶ the Board
//! journal ─────────────────────────────────────────────────────────────── Record ───────▶ apply ─▶ the Board
//! ```
//!
//! # Invariants
//! 1. Nothing that is kept changes but through `Board::apply`: what a restart finds is what was there.
//! 2. A session is in the journal if it outlives its connection; of one that does not, only a retained
//!    will is there, so that a crash of ours corrects what it says of the client.
//! 3. Records that an answer, a release or a delivery at QoS 2 relies on are urgent: the commit comes first.
//!    An acknowledgement that frees a packet id may be lost in a crash, never overtaken: the journal keeps
//!    the order, so the worst is a delivery once more at QoS 1, and a release once more at QoS 2.
//! 4. Links (connections, windows, commands on their way) are never kept; a start begins without any.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chordae_base::limits;

use super::{
    command::{CommandState, Commands},
    effects::Effects,
    message::Wish,
    record::{Record, Stored},
    session::Session,
    topics,
    trie::{Ends, Key, Trie},
};
use crate::core::arrival::ConnId;

/// Bounds; those of the product unless a test lowers them.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// [`limits::CLIENT_SESSIONS_MAX`]
    pub sessions: usize,
    /// [`limits::SUBSCRIPTIONS_MAX`]
    pub subscriptions: usize,
    /// [`limits::DELIVERIES_MAX`]
    pub window: usize,
    /// [`limits::SESSION_QUEUE_MAX`]
    pub queue: usize,
    /// [`limits::SESSION_QUEUE_BYTES_MAX`]
    pub queue_bytes: usize,
    /// [`limits::QUEUED_BYTES_MAX`]
    pub queued_bytes: usize,
    /// [`limits::RETAINED_PER_OWNER_MAX`]
    pub retained_owner: usize,
    /// [`limits::RETAINED_OWNER_BYTES_MAX`]
    pub retained_owner_bytes: usize,
    /// [`limits::RETAINED_MAX`]
    pub retained: usize,
    /// [`limits::RETAINED_BYTES_MAX`]
    pub retained_bytes: usize,
    /// [`limits::COMMANDS_PER_DEVICE_MAX`]
    pub commands: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            sessions: limits::CLIENT_SESSIONS_MAX,
            subscriptions: limits::SUBSCRIPTIONS_MAX,
            window: limits::DELIVERIES_MAX,
            queue: limits::SESSION_QUEUE_MAX,
            queue_bytes: limits::SESSION_QUEUE_BYTES_MAX,
            queued_bytes: limits::QUEUED_BYTES_MAX,
            retained_owner: limits::RETAINED_PER_OWNER_MAX,
            retained_owner_bytes: limits::RETAINED_OWNER_BYTES_MAX,
            retained: limits::RETAINED_MAX,
            retained_bytes: limits::RETAINED_BYTES_MAX,
            commands: limits::COMMANDS_PER_DEVICE_MAX,
        }
    }
}

/// Something to do when its time has come; taken back when it need not be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The end of a session, or its will.
    Session(Key),
    /// The expiry of a retained message.
    Retained(String),
    /// The expiry of a command.
    Command(u64),
}

/// A shared subscription.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<Key, Arc<Wish>>,
    /// Who had the last message; the next one after it has the next.
    pub(super) last: Option<Key>,
}

/// Messages and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// How many.
    pub count: usize,
    /// How much.
    pub bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    pub(super) fn sub(&mut self, bytes: usize) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Board {
    pub(super) bounds: Bounds,
    pub(super) sessions: BTreeMap<Key, Session>,
    pub(super) links: BTreeMap<ConnId, Key>,
    pub(super) trie: Trie,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) retained: BTreeMap<String, (Arc<Stored>, Key)>,
    /// What each owner has retained.
    pub(super) owners: BTreeMap<Key, Load>,
    pub(super) commands: Commands,
    pub(super) timers: BTreeSet<(i64, Timer)>,
    /// What waits or is in flight, over all sessions.
    pub(super) queued: Load,
    pub(super) retained_load: Load,
    pub(super) next_no: u64,
    /// There is no room on the disk: nothing new is kept.
    pub(super) shut: bool,
    /// Our newest time in any record.
    newest_ns: i64,
}

impl Default for Board {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Board {
    /// With nothing on it.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            sessions: BTreeMap::new(),
            links: BTreeMap::new(),
            trie: Trie::default(),
            groups: BTreeMap::new(),
            retained: BTreeMap::new(),
            owners: BTreeMap::new(),
            commands: Commands::default(),
            timers: BTreeSet::new(),
            queued: Load::default(),
            retained_load: Load::default(),
            next_no: 1,
            shut: false,
            newest_ns: i64::MIN,
        }
    }

    /// Whether the disk has room for more. If not, what would have to be kept is refused: messages with
    /// QoS > 0 or the retain flag, sessions that stay, subscriptions of theirs, commands. Wills, replies
    /// and all that ends something go on.
    pub fn set_room(&mut self, room: bool) {
        self.shut = !room;
    }

    /// Sessions that are kept, connected or not.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What waits or is in flight, over all sessions.
    pub fn queued(&self) -> Load {
        self.queued
    }

    /// Sessions with a connection.
    pub fn connected(&self) -> usize {
        self.links.len()
    }

    /// What is retained.
    pub fn retained_load(&self) -> Load {
        self.retained_load
    }

    /// Commands in a state.
    pub fn commands_in(&self, state: CommandState) -> usize {
        let lines = self.commands.lines();
        lines.filter(|(_, line)| line.state == state).count()
    }

    /// The newest time in any record; time must not begin before it.
    pub fn newest_ns(&self) -> i64 {
        self.newest_ns
    }

    /// What is retained under a topic.
    pub fn retained(&self, topic: &str, now_ns: i64) -> Option<&Stored> {
        let (stored, _) = self.retained.get(topic)?;
        (!stored.expired(now_ns)).then_some(stored)
    }

    /// Takes note of a record of the journal.
    pub fn fold(&mut self, record: &Record) {
        self.apply(record);
        if let Some(session) = record.session().and_then(|key| self.sessions.get_mut(key)) {
            session.noted = true;
        }
    }

    /// The journal is read to its end: whoever was connected has lost the connection now.
    pub fn recovered(&mut self, now_ns: i64) -> Effects {
        let mut fx = Effects::default();
        let now_ns = now_ns.max(self.newest_ns);
        let keys: Vec<Key> = self.sessions.keys().cloned().collect();
        for session in self.sessions.values_mut() {
            // Nobody knows what its client has heard.
            session.flight.iter_mut().for_each(|f| f.dup = true);
        }
        for key in keys {
            self.part(&key, true, None, now_ns, &mut fx);
        }
        fx
    }

    /// Changes what is kept, and keeps it: an answer that waits for this waits for the commit.
    pub(super) fn note(&mut self, fx: &mut Effects, record: Record) {
        fx.urgent |= self.keep(fx, record);
    }

    /// The same where nobody relies on it: it is kept with the next commit.
    pub(super) fn note_lazily(&mut self, fx: &mut Effects, record: Record) {
        self.keep(fx, record);
    }

    fn keep(&mut self, fx: &mut Effects, record: Record) -> bool {
        let before = record.session().and_then(|key| self.sessions.get(key));
        let noted = before.is_some_and(|s| s.noted);
        self.apply(&record);
        let after = record.session().and_then(|key| self.sessions.get_mut(key));
        let keep = match (&record, after) {
            (Record::Ended(_), _) => noted,
            (Record::Session { .. }, Some(session)) => {
                session.noted = noted || session.notable();
                session.noted
            }
            (_, Some(session)) => session.noted && session.kept(),
            (_, None) => record.session().is_none(),
        };
        if keep {
            fx.keep(record);
        }
        keep
    }

    /// The one way in which what is kept changes.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Session { key, about, fresh } => {
                if *fresh {
                    self.remove(key);
                }
                self.newest_ns = self.newest_ns.max(about.gone_ns.unwrap_or(i64::MIN));
                let session = self.sessions.entry(Arc::clone(key));
                let session = session.or_insert_with(|| Session::new(about.clone()));
                let before = session.due_ns();
                session.about = about.clone();
                let after = session.due_ns();
                let timer = || Timer::Session(Arc::clone(key));
                if let Some(due) = before {
                    self.timers.remove(&(due, timer()));
                }
                if let Some(due) = after {
                    self.timers.insert((due, timer()));
                }
            }
            Record::Ended(key) => self.remove(key),
            Record::Subscribed(key, wish) => self.subscribe(key, wish),
            Record::Unsubscribed(key, filter) => self.unsubscribe(key, filter),
            Record::Message(stored) => {
                self.next_no = self.next_no.max(stored.no + 1);
                self.newest_ns = self.newest_ns.max(stored.at_ns);
            }
            Record::Retained(stored, owner) => self.retain(stored, owner),
            Record::Unretained(topic) => self.unretain(topic),
            Record::Command(no, line) => {
                self.newest_ns = self.newest_ns.max(line.issued_ns);
                let timer = (line.expires_ns, Timer::Command(*no));
                match line.state {
                    CommandState::Waiting => self.timers.insert(timer),
                    _ => self.timers.remove(&timer),
                };
                self.commands.put(*no, line);
            }
            Record::Forgotten(id) => {
                if let Some((no, line)) = self.commands.forget(id) {
                    self.timers.remove(&(line.expires_ns, Timer::Command(no)));
                }
            }
            Record::Queued(key, _)
            | Record::Sent(key, _)
            | Record::Dropped(key)
            | Record::Received(key, _)
            | Record::Done(key, _)
            | Record::Inbound(key, _)
            | Record::Released(key, _) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    let (many, bytes) = (session.queue.len() + session.flight.len(), session.bytes);
                    within(session, record);
                    self.queued.count = self.queued.count.saturating_sub(many)
                        + session.queue.len()
                        + session.flight.len();
                    self.queued.bytes = self.queued.bytes.saturating_sub(bytes) + session.bytes;
                }
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        for filter in session.wishes.keys() {
            self.unlist(key, filter);
        }
        if let Some(due) = session.due_ns() {
            self.timers.remove(&(due, Timer::Session(Arc::clone(key))));
        }
        if let Some(link) = &session.link {
            self.links.remove(&link.conn);
        }
        let many = session.queue.len() + session.flight.len();
        self.queued.count = self.queued.count.saturating_sub(many);
        self.queued.bytes = self.queued.bytes.saturating_sub(session.bytes);
    }

    fn subscribe(&mut self, key: &Key, wish: &Arc<Wish>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.wishes.insert(wish.filter.clone(), Arc::clone(wish));
        // Checked when it was asked for; what the journal holds was asked for.
        let Ok((group, filter)) = topics::check_filter(&wish.filter) else {
            return;
        };
        let ends = self.trie.ends_mut(filter);
        match group {
            None => {
                ends.sessions.insert(Arc::clone(key), Arc::clone(wish));
            }
            Some(_) => {
                let name: Arc<str> = wish.filter.as_str().into();
                ends.groups.insert(Arc::clone(&name));
                let group = self.groups.entry(name).or_default();
                group.members.insert(Arc::clone(key), Arc::clone(wish));
            }
        }
    }

    fn unsubscribe(&mut self, key: &Key, filter: &str) {
        let session = self.sessions.get_mut(key);
        if session.and_then(|s| s.wishes.remove(filter)).is_some() {
            self.unlist(key, filter);
        }
    }

    fn unlist(&mut self, key: &Key, whole: &str) {
        let Ok((group, filter)) = topics::check_filter(whole) else {
            return;
        };
        if group.is_none() {
            self.trie.prune(filter, &mut |ends: &mut Ends| {
                ends.sessions.remove(key);
            });
            return;
        }
        let empty = self.groups.get_mut(whole).is_some_and(|group| {
            group.members.remove(key);
            group.members.is_empty()
        });
        if empty {
            self.groups.remove(whole);
            self.trie.prune(filter, &mut |ends: &mut Ends| {
                ends.groups.remove(whole);
            });
        }
    }

    fn retain(&mut self, stored: &Arc<Stored>, owner: &Key) {
        let topic = stored.message.topic.clone();
        self.unretain(&topic);
        let bytes = stored.message.bytes();
        self.owners.entry(Arc::clone(owner)).or_default().add(bytes);
        self.retained_load.add(bytes);
        if let Some(until) = stored.expires_ns {
            self.timers.insert((until, Timer::Retained(topic.clone())));
        }
        self.retained
            .insert(topic, (Arc::clone(stored), Arc::clone(owner)));
    }

    fn unretain(&mut self, topic: &str) {
        let Some((stored, owner)) = self.retained.remove(topic) else {
            return;
        };
        let bytes = stored.message.bytes();
        self.retained_load.sub(bytes);
        if let Some(until) = stored.expires_ns {
            self.timers
                .remove(&(until, Timer::Retained(topic.to_owned())));
        }
        if let Some(load) = self.owners.get_mut(&owner) {
            load.sub(bytes);
            if load.count == 0 {
                self.owners.remove(&owner);
            }
        }
    }
}

/// Changes within one session's queue, flight and packet ids.
fn within(session: &mut Session, record: &Record) {
    match record {
        Record::Queued(_, queued) => session.enqueue(queued.clone()),
        Record::Sent(_, id) => session.send_first(*id),
        Record::Dropped(_) => {
            session.drop_first();
        }
        Record::Received(_, id) => {
            if let Some(flight) = session.in_flight(*id) {
                flight.released = true;
            }
        }
        Record::Done(_, id) => {
            session.finish(*id);
        }
        Record::Inbound(_, id) => {
            session.inbound.insert(*id);
        }
        Record::Released(_, id) => {
            session.inbound.remove(id);
        }
        _ => {}
    }
}
