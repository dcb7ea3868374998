//! Commands that a device was given: read, executed once, answered as often as they come.
//!
//! A command whose acknowledgement was lost comes again, and so does one whose reply was; its id says
//! that it is the same. Pure; what a command does to the device is in `device/obey.rs`.

use std::collections::VecDeque;

use bytes::Bytes;
use chordae_base::{Rate, limits};
use serde_json::{Value, json};

/// A command (formats.md 2, topic `cmd`).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) id: String,
    /// The stream that it is about; all of the device's if none is named.
    pub(crate) stream: Option<String>,
    pub(crate) what: Result<What, String>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    Start,
    Stop,
    SetRate(Rate),
    SetLeads(usize),
    SyncTime,
    Identify,
}

impl Order {
    /// Reads one; `None` without an id, because then there is nothing to answer under.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let order: Value = serde_json::from_slice(payload).ok()?;
        let id = order.get("id")?.as_str()?;
        // It becomes a level of a topic.
        if id.is_empty() || id.len() > 128 || id.contains(['/', '+', '#', '\0']) {
            return None;
        }
        Some(Self {
            id: id.to_owned(),
            stream: order
                .get("stream")
                .and_then(Value::as_str)
                .map(str::to_owned),
            what: what(&order),
        })
    }
}

fn what(order: &Value) -> Result<What, String> {
    match order.get("do").and_then(Value::as_str) {
        Some("start") => Ok(What::Start),
        Some("stop") => Ok(What::Stop),
        Some("sync-time") => Ok(What::SyncTime),
        Some("identify") => Ok(What::Identify),
        Some("set-rate") => rate(order).map(What::SetRate),
        Some("set-leads") => {
            let n = order.get("count").and_then(Value::as_u64);
            let n = n.and_then(|n| usize::try_from(n).ok());
            n.map(What::SetLeads)
                .ok_or_else(|| "this device takes only a \"count\" of leads".into())
        }
        Some(other) => Err(format!("{other:?} is no command")),
        None => Err("no \"do\"".into()),
    }
}

/// As in a birth: `rate_num` over `rate_den`.
fn rate(order: &Value) -> Result<Rate, String> {
    let part = |key: &str| {
        let n = order.get(key).and_then(Value::as_u64);
        n.and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| format!("{key:?} must be a number"))
    };
    Rate::new(part("rate_num")?, part("rate_den")?).map_err(|e| e.why)
}

/// `500`, or `125/2`.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let (num, den) = text.split_once('/').unwrap_or((text, "1"));
    let part = |part: &str| {
        part.trim()
            .parse::<u32>()
            .map_err(|e| format!("{part:?}: {e}"))
    };
    Rate::new(part(num)?, part(den)?).map_err(|e| e.why)
}

/// A command that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) n: u64,
    pub(crate) id: String,
    pub(crate) reply: Bytes,
    /// The reply is due on this connection.
    due: bool,
    answered: bool,
}

/// What was executed, newest last; of old ones only those still unanswered are sure to be here.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    log: VecDeque<Done>,
    next: u64,
}

impl Orders {
    /// Whether it was executed before; then its reply is due again.
    pub(crate) fn seen(&mut self, id: &str) -> bool {
        let done = self.log.iter_mut().find(|d| d.id == id);
        done.map(|d| d.due = true).is_some()
    }

    /// It was executed, or could not be; returns the reply.
    pub(crate) fn executed(&mut self, id: String, outcome: Result<String, String>) -> Bytes {
        let (ok, why) = match outcome {
            Ok(why) => (true, why),
            Err(why) => (false, why),
        };
        let why = if why.is_empty() {
            Value::Null
        } else {
            why.into()
        };
        let reply = Bytes::from(json!({ "ok": ok, "why": why }).to_string());
        self.remember(id, reply.clone(), false);
        reply
    }

    /// One that was executed, perhaps before a crash.
    pub(crate) fn remember(&mut self, id: String, reply: Bytes, answered: bool) {
        self.log.push_back(Done {
            n: self.next,
            id,
            reply,
            due: !answered,
            answered,
        });
        self.next += 1;
        if self.log.len() > limits::SIM_ORDERS_MAX {
            self.log.pop_front();
        }
    }

    /// A new connection: what was never acknowledged is answered again.
    pub(crate) fn connected(&mut self) {
        self.log.iter_mut().for_each(|d| d.due = !d.answered);
    }

    /// The next reply that is due.
    pub(crate) fn next_due(&mut self) -> Option<Done> {
        let done = self.log.iter_mut().find(|d| d.due)?;
        done.due = false;
        Some(done.clone())
    }

    /// The reply of this number has arrived.
    pub(crate) fn answered(&mut self, n: u64) {
        if let Some(done) = self.log.iter_mut().find(|d| d.n == n) {
            done.answered = true;
        }
    }

    /// The reply to this id has arrived.
    pub(crate) fn replied(&mut self, id: &str) {
        let done = self.log.iter_mut().filter(|d| d.id == id);
        done.for_each(|d| d.answered = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_written() {
        let read = |text: &str| Order::read(text.as_bytes());
        let what = |text: &str| read(text).map(|o| o.what);
        assert_eq!(
            read(r#"{"id":"7","do":"stop"}"#),
            Some(Order {
                id: "7".into(),
                stream: None,
                what: Ok(What::Stop)
            })
        );
        let rate = Rate::new(125, 2).ok().map(|r| Ok(What::SetRate(r)));
        assert_eq!(
            what(r#"{"id":"a","do":"set-rate","rate_num":125,"rate_den":2}"#),
            rate
        );
        assert_eq!(
            what(r#"{"id":"a","do":"set-leads","count":3,"by":"ann"}"#),
            Some(Ok(What::SetLeads(3)))
        );
        for refused in [
            r#"{"id":"a","do":"set-rate"}"#,
            r#"{"id":"a","do":"set-rate","rate_num":0,"rate_den":1}"#,
            r#"{"id":"a","do":"set-leads","count":-1}"#,
            r#"{"id":"a","do":"set-leads","names":["I"]}"#,
            r#"{"id":"a","do":"explode"}"#,
            r#"{"id":"a"}"#,
        ] {
            assert!(matches!(what(refused), Some(Err(_))), "{refused}");
        }
        for nothing in ["", "[]", r#"{"do":"stop"}"#, r#"{"id":"a/b","do":"stop"}"#] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_reply_is_due_until_it_has_arrived_and_when_it_is_asked_for_again() {
        let mut orders = Orders::default();
        assert!(!orders.seen("x"));
        let reply = orders.executed("x".into(), Ok(String::new()));
        assert_eq!(reply, r#"{"ok":true,"why":null}"#);
        let first = orders.next_due();
        assert_eq!(first.as_ref().map(|d| d.id.as_str()), Some("x"));
        assert_eq!(orders.next_due(), None);
        orders.connected();
        assert!(orders.next_due().is_some(), "its acknowledgement was lost");
        orders.answered(first.map_or(0, |d| d.n));
        orders.connected();
        assert_eq!(orders.next_due(), None);
        assert!(orders.seen("x"));
        assert!(orders.next_due().is_some(), "the command came again");
    }
}
