//! The bytes of a journal entry: records one after the other. Big-endian; the journal adds length and
//! checksum. Private to the server.
//!
//! ```text
//!  text, bytes = len u32 | ...      option = 0 | 1 value      flag = u8      list = count u32 | ...
//!  entry       = (kind u8 | fields)*
//! ```
//!
//! A message is written once and then named by its number: [`Decoder`] remembers the messages that are
//! still alive. The numbers are persisted and stay. What cannot be read is damage, because the checksum
//! was right: the bytes are ours, or nobody's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chordae_base::{Failure, Outcome};

use super::{
    command::{CommandLine, CommandState},
    message::{Message, Properties, Will, Wish},
    record::{About, Queued, Record, Stored},
    trie::Key,
};

const SESSION: u8 = 1;
const ENDED: u8 = 2;
const SUBSCRIBED: u8 = 3;
const UNSUBSCRIBED: u8 = 4;
const MESSAGE: u8 = 5;
const QUEUED: u8 = 6;
const SENT: u8 = 7;
const DROPPED: u8 = 8;
const RECEIVED: u8 = 9;
const DONE: u8 = 10;
const INBOUND: u8 = 11;
const RELEASED: u8 = 12;
const RETAINED: u8 = 13;
const UNRETAINED: u8 = 14;
const COMMAND: u8 = 15;
const FORGOTTEN: u8 = 16;

/// The records of one step as one journal entry.
pub fn encode<'a>(records: impl IntoIterator<Item = &'a Record>) -> Bytes {
    let mut out = BytesMut::new();
    for record in records {
        put_record(&mut out, record);
    }
    out.freeze()
}

/// Reads entries in their order.
#[derive(Debug, Default)]
pub struct Decoder {
    known: BTreeMap<u64, Weak<Stored>>,
    sweep_at: usize,
    newest: u64,
}

impl Decoder {
    /// The records of one entry.
    ///
    /// # Errors
    /// `Damaged` for bytes that [`encode`] does not make.
    pub fn read(&mut self, mut from: Bytes) -> Outcome<Vec<Record>> {
        let mut records = Vec::new();
        while from.has_remaining() {
            let record = self.record(&mut from)?;
            if let Record::Message(stored) = &record {
                self.learn(stored);
            }
            records.push(record);
        }
        Ok(records)
    }

    /// The highest number of a message so far.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    fn learn(&mut self, stored: &Arc<Stored>) {
        self.newest = self.newest.max(stored.no);
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, weak| weak.strong_count() > 0);
            self.sweep_at = self.known.len() * 2 + 1024;
        }
        self.known.insert(stored.no, Arc::downgrade(stored));
    }

    fn named(&self, from: &mut Bytes) -> Outcome<Arc<Stored>> {
        let no = u64_(from)?;
        let known = self.known.get(&no).and_then(Weak::upgrade);
        known.ok_or_else(|| bad(format!("message {no} is named and was never written")))
    }

    fn record(&self, from: &mut Bytes) -> Outcome<Record> {
        Ok(match u8_(from)? {
            SESSION => Record::Session {
                key: key(from)?,
                about: about(from)?,
                fresh: flag(from)?,
            },
            ENDED => Record::Ended(key(from)?),
            SUBSCRIBED => Record::Subscribed(key(from)?, Arc::new(wish(from)?)),
            UNSUBSCRIBED => Record::Unsubscribed(key(from)?, text(from)?),
            MESSAGE => {
                let stored = Arc::new(stored(from)?);
                // A snapshot writes again what is known already; sharing goes on.
                match self.known.get(&stored.no).and_then(Weak::upgrade) {
                    Some(known) if known == stored => Record::Message(known),
                    _ => Record::Message(stored),
                }
            }
            QUEUED => {
                let key = key(from)?;
                let queued = Queued {
                    stored: self.named(from)?,
                    qos: u8_(from)?,
                    retain: flag(from)?,
                    identifiers: list(from, u32_)?,
                };
                Record::Queued(key, queued)
            }
            SENT => Record::Sent(key(from)?, u16_(from)?),
            DROPPED => Record::Dropped(key(from)?),
            RECEIVED => Record::Received(key(from)?, u16_(from)?),
            DONE => Record::Done(key(from)?, u16_(from)?),
            INBOUND => Record::Inbound(key(from)?, u16_(from)?),
            RELEASED => Record::Released(key(from)?, u16_(from)?),
            RETAINED => Record::Retained(self.named(from)?, key(from)?),
            UNRETAINED => Record::Unretained(text(from)?),
            COMMAND => Record::Command(u64_(from)?, Arc::new(command(from)?)),
            FORGOTTEN => Record::Forgotten(text(from)?),
            kind => return Err(bad(format!("kind {kind}"))),
        })
    }
}

fn put_record(out: &mut BytesMut, record: &Record) {
    let kind = match record {
        Record::Session { .. } => SESSION,
        Record::Ended(_) => ENDED,
        Record::Subscribed(..) => SUBSCRIBED,
        Record::Unsubscribed(..) => UNSUBSCRIBED,
        Record::Message(_) => MESSAGE,
        Record::Queued(..) => QUEUED,
        Record::Sent(..) => SENT,
        Record::Dropped(_) => DROPPED,
        Record::Received(..) => RECEIVED,
        Record::Done(..) => DONE,
        Record::Inbound(..) => INBOUND,
        Record::Released(..) => RELEASED,
        Record::Retained(..) => RETAINED,
        Record::Unretained(_) => UNRETAINED,
        Record::Command(..) => COMMAND,
        Record::Forgotten(_) => FORGOTTEN,
    };
    out.put_u8(kind);
    if let Some(key) = record.session() {
        put_text(out, key);
    }
    match record {
        Record::Session { about, fresh, .. } => {
            out.put_u32(about.expiry_s);
            put_option(out, about.will.as_ref(), |out, will| {
                put_message(out, &will.message);
                out.put_u32(will.delay_s);
            });
            put_option(out, about.gone_ns, BytesMut::put_i64);
            out.put_u8(u8::from(*fresh));
        }
        Record::Ended(_) | Record::Dropped(_) => {}
        Record::Subscribed(_, wish) => put_wish(out, wish),
        Record::Unsubscribed(_, text) | Record::Unretained(text) | Record::Forgotten(text) => {
            put_text(out, text);
        }
        Record::Message(stored) => put_stored(out, stored),
        Record::Queued(_, queued) => {
            out.put_u64(queued.stored.no);
            out.put_u8(queued.qos);
            out.put_u8(u8::from(queued.retain));
            put_list(out, &queued.identifiers, |out, id| out.put_u32(*id));
        }
        Record::Sent(_, id)
        | Record::Received(_, id)
        | Record::Done(_, id)
        | Record::Inbound(_, id)
        | Record::Released(_, id) => out.put_u16(*id),
        Record::Retained(stored, owner) => {
            out.put_u64(stored.no);
            put_text(out, owner);
        }
        Record::Command(no, command) => {
            out.put_u64(*no);
            put_command(out, command);
        }
    }
}

// ---- words

fn bad(why: impl std::fmt::Display) -> Failure {
    Failure::damaged(format!("a record of the exchange: {why}"))
}

fn short(_: bytes::TryGetError) -> Failure {
    bad("ends early")
}

/// Counts and lengths stay far below 2^32: an entry is at most 32 MiB.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(count(bytes.len()));
    out.put_slice(bytes);
}

fn put_option<T>(out: &mut BytesMut, value: Option<T>, put: impl Fn(&mut BytesMut, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_list<T>(out: &mut BytesMut, list: &[T], put: impl Fn(&mut BytesMut, &T)) {
    out.put_u32(count(list.len()));
    for item in list {
        put(out, item);
    }
}

fn put_message(out: &mut BytesMut, message: &Message) {
    put_text(out, &message.topic);
    put_bytes(out, &message.payload);
    out.put_u8(message.qos);
    out.put_u8(u8::from(message.retain));
    let p = &message.properties;
    put_option(out, p.payload_format, BytesMut::put_u8);
    put_option(out, p.expiry_s, BytesMut::put_u32);
    put_option(out, p.content_type.as_deref(), put_text);
    put_option(out, p.response_topic.as_deref(), put_text);
    put_option(out, p.correlation.as_deref(), put_bytes);
    put_list(out, &p.user, |out, (name, value)| {
        put_text(out, name);
        put_text(out, value);
    });
}

fn put_stored(out: &mut BytesMut, stored: &Stored) {
    out.put_u64(stored.no);
    put_message(out, &stored.message);
    out.put_i64(stored.at_ns);
    put_option(out, stored.expires_ns, BytesMut::put_i64);
}

fn put_wish(out: &mut BytesMut, wish: &Wish) {
    put_text(out, &wish.filter);
    out.put_u8(wish.qos);
    out.put_u8(u8::from(wish.no_local));
    out.put_u8(u8::from(wish.retain_as_published));
    out.put_u8(wish.retain_handling);
    put_option(out, wish.identifier, BytesMut::put_u32);
}

fn put_command(out: &mut BytesMut, command: &CommandLine) {
    put_text(out, &command.id);
    put_text(out, command.device.as_str());
    put_text(out, &command.body);
    out.put_u8(match command.state {
        CommandState::Waiting => 0,
        CommandState::Delivered => 1,
        CommandState::Replied => 2,
        CommandState::Expired => 3,
    });
    out.put_i64(command.issued_ns);
    out.put_i64(command.expires_ns);
    put_option(out, command.replied_ns, BytesMut::put_i64);
    put_option(out, command.reply.as_deref(), put_bytes);
}

fn u8_(from: &mut Bytes) -> Outcome<u8> {
    from.try_get_u8().map_err(short)
}

fn u16_(from: &mut Bytes) -> Outcome<u16> {
    from.try_get_u16().map_err(short)
}

fn u32_(from: &mut Bytes) -> Outcome<u32> {
    from.try_get_u32().map_err(short)
}

fn u64_(from: &mut Bytes) -> Outcome<u64> {
    from.try_get_u64().map_err(short)
}

fn i64_(from: &mut Bytes) -> Outcome<i64> {
    from.try_get_i64().map_err(short)
}

fn flag(from: &mut Bytes) -> Outcome<bool> {
    match u8_(from)? {
        0 => Ok(false),
        1 => Ok(true),
        n => Err(bad(format!("flag {n}"))),
    }
}

/// The length is checked against what is there before anything is taken. What is taken is copied: a
/// slice would keep the whole entry in memory for as long as the least of its parts.
fn bytes_(from: &mut Bytes) -> Outcome<Bytes> {
    let len = u32_(from)? as usize;
    if from.remaining() < len {
        return Err(bad("ends early"));
    }
    Ok(Bytes::copy_from_slice(&from.split_to(len)))
}

fn text(from: &mut Bytes) -> Outcome<String> {
    String::from_utf8(bytes_(from)?.into()).map_err(|_| bad("a text that is not UTF-8"))
}

fn key(from: &mut Bytes) -> Outcome<Key> {
    text(from).map(Key::from)
}

fn device(from: &mut Bytes) -> Outcome<chordae_base::DeviceId> {
    text(from)?.parse().map_err(|err: Failure| bad(err.why))
}

fn option<T>(from: &mut Bytes, take: impl Fn(&mut Bytes) -> Outcome<T>) -> Outcome<Option<T>> {
    match flag(from)? {
        true => take(from).map(Some),
        false => Ok(None),
    }
}

fn list<T>(from: &mut Bytes, take: impl Fn(&mut Bytes) -> Outcome<T>) -> Outcome<Vec<T>> {
    // Nothing is reserved for a count that may be nonsense; the items run out first.
    let many = u32_(from)?;
    (0..many).map(|_| take(from)).collect()
}

fn message(from: &mut Bytes) -> Outcome<Message> {
    Ok(Message {
        topic: text(from)?,
        payload: bytes_(from)?,
        qos: u8_(from)?,
        retain: flag(from)?,
        properties: Properties {
            payload_format: option(from, u8_)?,
            expiry_s: option(from, u32_)?,
            content_type: option(from, text)?,
            response_topic: option(from, text)?,
            correlation: option(from, bytes_)?,
            user: list(from, |from| Ok((text(from)?, text(from)?)))?,
        },
    })
}

fn stored(from: &mut Bytes) -> Outcome<Stored> {
    Ok(Stored {
        no: u64_(from)?,
        message: message(from)?,
        at_ns: i64_(from)?,
        expires_ns: option(from, i64_)?,
    })
}

fn about(from: &mut Bytes) -> Outcome<About> {
    let will = |from: &mut Bytes| {
        Ok(Will {
            message: message(from)?,
            delay_s: u32_(from)?,
        })
    };
    Ok(About {
        expiry_s: u32_(from)?,
        will: option(from, will)?,
        gone_ns: option(from, i64_)?,
    })
}

fn wish(from: &mut Bytes) -> Outcome<Wish> {
    Ok(Wish {
        filter: text(from)?,
        qos: u8_(from)?,
        no_local: flag(from)?,
        retain_as_published: flag(from)?,
        retain_handling: u8_(from)?,
        identifier: option(from, u32_)?,
    })
}

fn command(from: &mut Bytes) -> Outcome<CommandLine> {
    Ok(CommandLine {
        id: text(from)?,
        device: device(from)?,
        body: text(from)?,
        state: match u8_(from)? {
            0 => CommandState::Waiting,
            1 => CommandState::Delivered,
            2 => CommandState::Replied,
            3 => CommandState::Expired,
            n => return Err(bad(format!("command state {n}"))),
        },
        issued_ns: i64_(from)?,
        expires_ns: i64_(from)?,
        replied_ns: option(from, i64_)?,
        reply: option(from, bytes_)?,
    })
}
