//! Commands to devices.
//!
//! ```text
//!  issued: Waiting ──PUBACK, cmd-ack──▶ Delivered ──reply──▶ Replied ──settle──▶ forgotten
//!             └──────── time is over ─▶ Expired ────reply──────▲
//! ```
//!
//! They are kept here, whatever the sessions of the device: a waiting one goes to whoever is subscribed to
//! the device's `cmd` topic, at once, and again on each new connection, never after its time. The first
//! reply stays, also one that comes late. What is finished is listed until newer commands need the room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{DeviceId, Failure, Outcome, StreamName, limits};
use serde_json::{Map, Value};

use super::{
    board::Board,
    effects::Effects,
    message::{Message, Properties},
    publish::delivery,
    record::{Queued, Record, Stored},
    request::ToClient,
    topics,
    trie::Key,
};

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandState {
    /// Not with the device yet: sent on each new connection.
    Waiting,
    /// The device (or its gateway) has acknowledged it.
    Delivered,
    /// The device has replied.
    Replied,
    /// It never reached the device in its time.
    Expired,
}

impl CommandState {
    /// As text: metric label, and what people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Replied => "replied",
            Self::Expired => "expired",
        }
    }
}

/// A command as it is listed. Times by the clock of this node, in ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Its id, a valid topic level.
    pub id: String,
    /// Whose it is.
    pub device: DeviceId,
    /// What is sent: a JSON object with `id`.
    pub body: String,
    /// How far it has come.
    pub state: CommandState,
    /// When it was issued.
    pub issued_ns: i64,
    /// It is not sent after this.
    pub expires_ns: i64,
    /// When the reply came.
    pub replied_ns: Option<i64>,
    /// The reply as the device sent it.
    pub reply: Option<Bytes>,
}

impl CommandLine {
    /// Whether it must still reach its device.
    pub fn waits(&self, now_ns: i64) -> bool {
        self.state == CommandState::Waiting && now_ns < self.expires_ns
    }

    fn finished(&self, now_ns: i64) -> bool {
        match self.state {
            CommandState::Waiting => false,
            CommandState::Delivered => now_ns >= self.expires_ns,
            CommandState::Replied | CommandState::Expired => true,
        }
    }
}

/// Commands by number of issue.
#[derive(Debug, Clone, Default)]
pub(super) struct Commands {
    lines: BTreeMap<u64, Arc<CommandLine>>,
    by_id: BTreeMap<String, u64>,
    by_device: BTreeMap<DeviceId, BTreeSet<u64>>,
}

impl Commands {
    pub(super) fn put(&mut self, no: u64, line: &Arc<CommandLine>) {
        self.by_id.insert(line.id.clone(), no);
        let of_device = self.by_device.entry(line.device.clone()).or_default();
        of_device.insert(no);
        self.lines.insert(no, Arc::clone(line));
    }

    pub(super) fn forget(&mut self, id: &str) -> Option<(u64, Arc<CommandLine>)> {
        let no = self.by_id.remove(id)?;
        let line = self.lines.remove(&no)?;
        if let Some(of_device) = self.by_device.get_mut(&line.device) {
            of_device.remove(&no);
            if of_device.is_empty() {
                self.by_device.remove(&line.device);
            }
        }
        Some((no, line))
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &Arc<CommandLine>)> {
        self.lines.iter().map(|(no, line)| (*no, line))
    }

    pub(super) fn get(&self, no: u64) -> Option<&Arc<CommandLine>> {
        self.lines.get(&no)
    }

    fn find(&self, id: &str) -> Option<(u64, &Arc<CommandLine>)> {
        let no = *self.by_id.get(id)?;
        Some((no, self.lines.get(&no)?))
    }

    fn of(&self, device: &DeviceId) -> impl Iterator<Item = (u64, &Arc<CommandLine>)> {
        let numbers = self.by_device.get(device).into_iter().flatten();
        numbers.filter_map(|no| Some((*no, self.lines.get(no)?)))
    }

    fn next_no(&self) -> u64 {
        self.lines.last_key_value().map_or(1, |(no, _)| no + 1)
    }
}

/// The JSON that goes to the device: `body` with the id in it.
///
/// # Errors
/// `BadInput` for a body that is no object, holds an id itself or is too long, and for a bad id.
pub fn with_id(id: &str, body: &str) -> Outcome<String> {
    if StreamName::new(id).is_err() {
        return Err(Failure::bad_input(format!(
            "command id {id:?} must be 1-64 of a-z 0-9 . _ - and begin with a letter or digit"
        )));
    }
    let object: Map<String, Value> = serde_json::from_str(body)
        .map_err(|err| Failure::bad_input(format!("a command must be a JSON object: {err}")))?;
    let mut whole = Map::new();
    whole.insert("id".into(), id.into());
    for (name, value) in object {
        if whole.insert(name, value).is_some() {
            return Err(Failure::bad_input("leave the id out of a command"));
        }
    }
    let text = Value::Object(whole).to_string();
    match text.len() {
        n if n > limits::COMMAND_BYTES_MAX => Err(Failure::bad_input(format!(
            "a command of {n} bytes; {} are allowed",
            limits::COMMAND_BYTES_MAX
        ))),
        _ => Ok(text),
    }
}

impl Board {
    /// Issues a command, or finds it again under its id.
    ///
    /// # Errors
    /// `BadInput`: see [`with_id`], an id of another device, an expiry that has passed. `Busy`: as many
    /// wait for this device as may.
    pub fn issue(
        &mut self,
        device: &DeviceId,
        id: &str,
        body: &str,
        expires_ns: i64,
        now_ns: i64,
        fx: &mut Effects,
    ) -> Outcome<()> {
        if let Some((_, known)) = self.commands.find(id) {
            return match known.device == *device {
                true => Ok(()),
                false => Err(Failure::bad_input(format!(
                    "command {id} was issued to another device"
                ))),
            };
        }
        if self.shut {
            return Err(Failure::busy("the disk is full; make room, then try again"));
        }
        let body = with_id(id, body)?;
        if expires_ns <= now_ns {
            return Err(Failure::bad_input("a command that has expired already"));
        }
        self.make_room(device, now_ns, fx)?;
        let line = Arc::new(CommandLine {
            id: id.to_owned(),
            device: device.clone(),
            body,
            state: CommandState::Waiting,
            issued_ns: now_ns,
            expires_ns,
            replied_ns: None,
            reply: None,
        });
        let record = Record::Command(self.commands.next_no(), line);
        self.note(fx, record);
        fx.changed = true;
        let mut takers = BTreeSet::new();
        self.trie.visit(&topics::commands_of(device), &mut |ends| {
            takers.extend(ends.sessions.keys().cloned());
        });
        for key in takers {
            self.offer_commands(&key, now_ns);
            self.pump(&key, now_ns, fx);
        }
        Ok(())
    }

    fn make_room(&mut self, device: &DeviceId, now_ns: i64, fx: &mut Effects) -> Outcome<()> {
        if self.commands.of(device).count() < self.bounds.commands {
            return Ok(());
        }
        let finished = self.commands.of(device).find(|(_, l)| l.finished(now_ns));
        let Some(id) = finished.map(|(_, line)| line.id.clone()) else {
            return Err(Failure::busy(format!(
                "{} commands wait for {device}; wait until it has taken some",
                self.bounds.commands
            )));
        };
        self.note(fx, Record::Forgotten(id));
        Ok(())
    }

    /// What waits for the devices that a session listens for is to be sent on its connection, once.
    pub(super) fn offer_commands(&mut self, key: &Key, now_ns: i64) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(link) = session.link.as_mut() else {
            return;
        };
        let takes = |topic: &str| session.wishes.keys().any(|f| topics::matches(f, topic));
        let of_one = |filter: &String| topics::device_of(filter)?.parse().ok();
        let wild = session.wishes.keys().any(|f| f.contains(['+', '#']));
        let named: Vec<DeviceId> = match wild {
            true => self.commands.by_device.keys().cloned().collect(),
            false => session.wishes.keys().filter_map(of_one).collect(),
        };
        for device in named {
            if !takes(&topics::commands_of(&device)) {
                continue;
            }
            for (no, line) in self.commands.of(&device) {
                if line.waits(now_ns) && link.offered.insert(no) {
                    link.commands.insert(no);
                }
            }
        }
    }

    /// Sends commands as window and room allow.
    pub(super) fn pump_commands(&mut self, key: &Key, now_ns: i64, fx: &mut Effects) {
        while let Some(session) = self.sessions.get_mut(key) {
            let (open, id) = (session.open(), session.free_id());
            let Some(link) = session.link.as_mut().filter(|l| !l.cut && l.room > 0) else {
                return;
            };
            let Some(no) = link.commands.first().copied() else {
                return;
            };
            let line = self.commands.get(no).filter(|l| l.waits(now_ns));
            let Some(queued) = line.and_then(|l| outgoing(l, no, &session.wishes)) else {
                link.commands.remove(&no);
                continue;
            };
            let id = match (queued.qos, id) {
                (0, _) => 0,
                (_, Some(id)) if open < link.receive_max => id,
                _ => return,
            };
            link.commands.remove(&no);
            link.room -= 1;
            if id > 0 {
                session.newest_id = id;
                link.commanded.insert(id, no);
            }
            let delivery = delivery(&queued, id, false, now_ns);
            fx.tell(link.conn, ToClient::Deliver(delivery));
        }
    }

    /// The device has acknowledged a command on its connection.
    pub(super) fn command_delivered(&mut self, no: u64, fx: &mut Effects) {
        if let Some(record) = self.with_state(no, CommandState::Delivered) {
            // Lost in a crash it is sent once more.
            self.note_lazily(fx, record);
            fx.changed = true;
        }
    }

    /// A gateway has the command. False if there is no such command of this device.
    pub fn delivered(&mut self, device: &DeviceId, id: &str, fx: &mut Effects) -> bool {
        let found = self.commands.find(id);
        let Some((no, _)) = found.filter(|(_, line)| line.device == *device) else {
            return false;
        };
        if let Some(record) = self.with_state(no, CommandState::Delivered) {
            self.note(fx, record);
            fx.changed = true;
        }
        true
    }

    /// A waiting command in another state.
    fn with_state(&self, no: u64, state: CommandState) -> Option<Record> {
        let line = self.commands.get(no)?;
        let waits = line.state == CommandState::Waiting;
        waits.then(|| {
            let line = CommandLine::clone(line);
            Record::Command(no, Arc::new(CommandLine { state, ..line }))
        })
    }

    pub(super) fn expire_command(&mut self, no: u64, now_ns: i64, fx: &mut Effects) {
        let over = self
            .commands
            .get(no)
            .is_some_and(|l| now_ns >= l.expires_ns);
        if let (true, Some(record)) = (over, self.with_state(no, CommandState::Expired)) {
            self.note_lazily(fx, record);
            fx.changed = true;
        }
    }

    /// The device has replied. False if there is no such command of this device.
    pub fn replied(
        &mut self,
        device: &DeviceId,
        id: &str,
        reply: Bytes,
        now_ns: i64,
        fx: &mut Effects,
    ) -> bool {
        let found = self.commands.find(id);
        let Some((no, line)) = found.filter(|(_, line)| line.device == *device) else {
            return false;
        };
        if line.reply.is_none() {
            let line = CommandLine {
                state: CommandState::Replied,
                replied_ns: Some(now_ns),
                reply: Some(reply),
                ..CommandLine::clone(line)
            };
            self.note(fx, Record::Command(no, Arc::new(line)));
            fx.changed = true;
        }
        true
    }

    /// Forgets a command.
    pub fn settle(&mut self, id: &str, fx: &mut Effects) {
        if self.commands.find(id).is_some() {
            self.note(fx, Record::Forgotten(id.to_owned()));
            fx.changed = true;
        }
    }

    /// Commands of one device, or of all, in the order of their issue.
    pub fn commands(&self, device: Option<&DeviceId>) -> Vec<CommandLine> {
        let line = |(_, line): (u64, &Arc<CommandLine>)| CommandLine::clone(line);
        match device {
            Some(device) => self.commands.of(device).map(line).collect(),
            None => self.commands.lines().map(line).collect(),
        }
    }
}

/// A command as it goes to a session with these subscriptions; `None` if none of them takes it.
fn outgoing(
    line: &CommandLine,
    no: u64,
    wishes: &BTreeMap<String, Arc<super::message::Wish>>,
) -> Option<Queued> {
    let topic = topics::commands_of(&line.device);
    let taking: Vec<_> = wishes
        .values()
        .filter(|w| topics::matches(&w.filter, &topic))
        .collect();
    let qos = taking.iter().map(|w| w.qos.min(1)).max()?;
    let stored = Stored {
        no,
        message: Message {
            topic,
            payload: line.body.clone().into(),
            qos: 1,
            retain: false,
            properties: Properties::default(),
        },
        at_ns: line.issued_ns,
        expires_ns: Some(line.expires_ns),
    };
    Some(Queued {
        stored: Arc::new(stored),
        qos,
        retain: false,
        identifiers: taking.iter().filter_map(|w| w.identifier).collect(),
    })
}
