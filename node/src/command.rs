//! The commands that a device may be given (formats.md 2), checked before they are kept for it.
//!
//! ```text
//! {"do":"start"|"stop"|"sync-time"|"identify"}                        [, "stream": NAME]
//! {"do":"set-rate", "rate_num":N, "rate_den":N}  or  {.., "hz":N}     [, "stream": NAME]
//! {"do":"set-leads", "names":["I","V5"]}         or  {.., "count":N}  [, "stream": NAME]
//! ```
//!
//! Without `stream` it is about all streams of the device. A key that is not in the list is refused, not
//! passed on: `"steam":"ecg"` would otherwise stop every stream. What a device gets has one shape: the
//! rate as in a birth, `names` or `count` as given, and `by`, who ordered it.

use chordae_base::{Failure, Outcome, Rate, StreamName, limits};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A command as people write it.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Order {
    Start(Alone),
    Stop(Alone),
    SyncTime(Alone),
    Identify(Alone),
    SetRate(SetRate),
    SetLeads(SetLeads),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alone {
    stream: Option<StreamName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRate {
    stream: Option<StreamName>,
    hz: Option<u32>,
    rate_num: Option<u32>,
    rate_den: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetLeads {
    stream: Option<StreamName>,
    names: Option<Vec<String>>,
    count: Option<usize>,
}

/// What may be ordered.
pub const KNOWN: [&str; 6] = [
    "start",
    "stop",
    "set-rate",
    "set-leads",
    "sync-time",
    "identify",
];

/// Checks a command; gives it as the device will get it, without its id.
///
/// # Errors
/// `BadInput`: what is wrong with it, and how it should look.
pub fn check(command: &Value, by: &str) -> Outcome<String> {
    let bad = |why: String| Failure::bad_input(format!("command: {why}"));
    let Some(what) = command.as_object().and_then(|c| c.get("do")) else {
        let example = r#"must be a JSON object with "do", e.g. {"do":"identify"}"#;
        return Err(bad(example.to_owned()));
    };
    if !what.as_str().is_some_and(|what| KNOWN.contains(&what)) {
        let known = KNOWN.join(", ");
        return Err(bad(format!("{what} is none; use one of: {known}")));
    }
    let order = Order::deserialize(command).map_err(|e| bad(format!("{what}: {e}")))?;
    let mut sent = Map::new();
    sent.insert("do".to_owned(), what.clone());
    sent.insert("by".to_owned(), by.into());
    let stream = match order {
        Order::Start(o) | Order::Stop(o) | Order::SyncTime(o) | Order::Identify(o) => o.stream,
        Order::SetRate(o) => {
            let rate = o.rate()?;
            sent.insert("rate_num".to_owned(), rate.num().into());
            sent.insert("rate_den".to_owned(), rate.den().into());
            o.stream
        }
        Order::SetLeads(o) => {
            let (key, value) = o.leads()?;
            sent.insert(key.to_owned(), value);
            o.stream
        }
    };
    if let Some(stream) = stream {
        sent.insert("stream".to_owned(), stream.as_str().into());
    }
    Ok(Value::Object(sent).to_string())
}

impl SetRate {
    fn rate(&self) -> Outcome<Rate> {
        let how = r#"command: set-rate: use "hz":250, or "rate_num":1000 with "rate_den":3"#;
        let (num, den) = match (self.hz, self.rate_num, self.rate_den) {
            (Some(hz), None, None) => (hz, 1),
            (None, Some(num), den) => (num, den.unwrap_or(1)),
            _ => return Err(Failure::bad_input(how)),
        };
        Rate::new(num, den).map_err(|e| Failure::bad_input(format!("command: set-rate: {}", e.why)))
    }
}

impl SetLeads {
    fn leads(&self) -> Outcome<(&'static str, Value)> {
        let bad = |why: &str| Err(Failure::bad_input(format!("command: set-leads: {why}")));
        match (&self.names, self.count) {
            (None, Some(count)) if (1..=limits::LEADS_MAX).contains(&count) => {
                Ok(("count", count.into()))
            }
            (Some(names), None) if (1..=limits::LEADS_MAX).contains(&names.len()) => {
                let fits = |n: &String| {
                    (1..=limits::LEAD_NAME_BYTES_MAX).contains(&n.len())
                        && n.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
                };
                if !names.iter().all(fits) {
                    return bad("a lead has a name of 1-16 printable ASCII characters");
                }
                Ok(("names", json!(names)))
            }
            (None, Some(_)) | (Some(_), None) => bad("a device has 1-32 leads"),
            _ => bad(r#"use "names":["I","II"] or "count":2"#),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Outcome<Value> {
        let sent = check(&serde_json::from_str(text).unwrap(), "ann")?;
        Ok(serde_json::from_str(&sent).unwrap())
    }

    #[test]
    fn a_device_gets_one_shape_and_who_ordered_it() {
        let pairs = [
            (r#"{"do":"start"}"#, r#"{"do":"start","by":"ann"}"#),
            (
                r#"{"do":"stop","stream":"ecg"}"#,
                r#"{"do":"stop","by":"ann","stream":"ecg"}"#,
            ),
            (
                r#"{"do":"set-rate","hz":250}"#,
                r#"{"do":"set-rate","by":"ann","rate_num":250,"rate_den":1}"#,
            ),
            (
                r#"{"do":"set-rate","rate_num":1000,"rate_den":3}"#,
                r#"{"do":"set-rate","by":"ann","rate_num":1000,"rate_den":3}"#,
            ),
            (
                r#"{"do":"set-leads","names":["I","V5"]}"#,
                r#"{"do":"set-leads","by":"ann","names":["I","V5"]}"#,
            ),
            (
                r#"{"do":"set-leads","count":3}"#,
                r#"{"do":"set-leads","by":"ann","count":3}"#,
            ),
            (r#"{"do":"sync-time"}"#, r#"{"do":"sync-time","by":"ann"}"#),
            (r#"{"do":"identify"}"#, r#"{"do":"identify","by":"ann"}"#),
        ];
        for (written, sent) in pairs {
            let sent: Value = serde_json::from_str(sent).unwrap();
            assert_eq!(checked(written).unwrap(), sent, "{written}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_word_on_what_to_write() {
        let bad = [
            ("[]", "JSON object"),
            (r#"{"id":"7"}"#, "JSON object"),
            (r#"{"do":"explode"}"#, "use one of: start, stop"),
            (r#"{"do":7}"#, "use one of"),
            (r#"{"do":"stop","steam":"ecg"}"#, "steam"),
            (r#"{"do":"stop","id":"7"}"#, "id"),
            (r#"{"do":"stop","by":"bob"}"#, "by"),
            (r#"{"do":"stop","stream":"a/b"}"#, "stop"),
            (r#"{"do":"set-rate"}"#, "hz"),
            (r#"{"do":"set-rate","hz":0}"#, "set-rate"),
            (r#"{"do":"set-rate","hz":10001}"#, "set-rate"),
            (r#"{"do":"set-rate","hz":250,"rate_num":250}"#, "hz"),
            (r#"{"do":"set-rate","rate_den":2}"#, "hz"),
            (r#"{"do":"set-leads"}"#, "names"),
            (r#"{"do":"set-leads","count":0}"#, "1-32"),
            (r#"{"do":"set-leads","count":33}"#, "1-32"),
            (r#"{"do":"set-leads","names":[]}"#, "1-32"),
            (r#"{"do":"set-leads","names":["I"],"count":1}"#, "names"),
            (r#"{"do":"set-leads","names":["ö"]}"#, "ASCII"),
        ];
        for (written, word) in bad {
            let why = checked(written).unwrap_err().why;
            assert!(why.contains(word), "{written}: {why}");
        }
    }
}
