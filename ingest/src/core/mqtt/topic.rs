//! Topics and filters (formats.md 2), compared byte for byte. What parses names a device and a stream
//! that are valid names; whether this peer may use it is the session's question.

use std::fmt;

use chordae_base::{DeviceId, StreamKey, StreamName};

use crate::core::decode::Shape;

/// A topic that a client may publish to, on its own device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// `chordae/v1/{device}/{stream}/{birth,frame}[.json]`
    Telemetry(StreamKey, Shape),
    /// `chordae/v1/{device}/status`
    Status(DeviceId),
    /// `chordae/v1/{device}/cmd/{id}`
    Reply(DeviceId, String),
}

impl Topic {
    /// Reads a topic.
    pub fn parse(topic: &str) -> Option<Self> {
        let mut parts = topic.strip_prefix("chordae/v1/")?.splitn(4, '/');
        let device = DeviceId::new(parts.next()?).ok()?;
        match (parts.next()?, parts.next(), parts.next()) {
            ("status", None, None) => Some(Self::Status(device)),
            ("cmd", Some(id), None) if !id.is_empty() => Some(Self::Reply(device, id.into())),
            (stream, Some(last), None) => {
                let shape = match last {
                    "birth" => Shape::Birth,
                    "birth.json" => Shape::BirthJson,
                    "frame" => Shape::Frame,
                    "frame.json" => Shape::FrameJson,
                    _ => return None,
                };
                let stream = StreamName::new(stream).ok()?;
                Some(Self::Telemetry(StreamKey { device, stream }, shape))
            }
            _ => None,
        }
    }

    /// Whose topic it is.
    pub fn device(&self) -> &DeviceId {
        match self {
            Self::Telemetry(key, _) => &key.device,
            Self::Status(device) | Self::Reply(device, _) => device,
        }
    }
}

/// `chordae/v1/{device}/ack`
pub fn ack(device: &DeviceId) -> String {
    format!("chordae/v1/{device}/ack")
}

/// One level of a monitor's filter: a name, or `+`.
pub type Level<T> = Option<T>;

/// A filter that somebody may subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// `chordae/v1/{device}/ack`
    Ack(DeviceId),
    /// `chordae/v1/{device}/cmd`
    Commands(DeviceId),
    /// `chordae/v1/{device or +}/{stream or +}/live`
    Live(Level<DeviceId>, Level<StreamName>),
    /// `chordae/v1/{device or +}/{stream or +}/birth`
    Births(Level<DeviceId>, Level<StreamName>),
    /// `chordae/v1/{device or +}/status`
    Statuses(Level<DeviceId>),
}

/// Why a filter is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// No filter at all by the standard.
    Invalid,
    /// `$share/...`
    Shared,
    /// Something nobody may subscribe to.
    Foreign,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// Why it is none of ours.
    pub fn parse(filter: &str) -> Result<Self, NotOurs> {
        if !well_formed(filter) {
            return Err(NotOurs::Invalid);
        }
        if filter.starts_with("$share/") {
            return Err(NotOurs::Shared);
        }
        Self::ours(filter).ok_or(NotOurs::Foreign)
    }

    fn ours(filter: &str) -> Option<Self> {
        let mut parts = filter.strip_prefix("chordae/v1/")?.splitn(4, '/');
        let device = level(parts.next()?, |name| DeviceId::new(name).ok())?;
        match (parts.next()?, parts.next(), parts.next()) {
            ("ack", None, None) => Some(Self::Ack(device?)),
            ("cmd", None, None) => Some(Self::Commands(device?)),
            ("status", None, None) => Some(Self::Statuses(device)),
            (stream, Some(last), None) => {
                let stream = level(stream, |name| StreamName::new(name).ok())?;
                match last {
                    "live" => Some(Self::Live(device, stream)),
                    "birth" => Some(Self::Births(device, stream)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Whether a message of `topic` is for this filter.
    pub fn takes(&self, topic: &str) -> bool {
        let Some(rest) = topic.strip_prefix("chordae/v1/") else {
            return false;
        };
        let fits = |name: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| wanted == name);
        let (own, below) = (rest.split_once('/'), rest.rsplit_once('/'));
        let (Some((device, last)), Some((key, kind))) = (own, below) else {
            return false;
        };
        let stream_of = |wanted_device: &Level<DeviceId>, wanted: &Level<StreamName>| {
            key.split_once('/').is_some_and(|(device, stream)| {
                !stream.contains('/')
                    && fits(device, wanted_device.as_ref().map(DeviceId::as_str))
                    && fits(stream, wanted.as_ref().map(StreamName::as_str))
            })
        };
        match self {
            Self::Ack(own) => last == "ack" && device == own.as_str(),
            Self::Commands(own) => last == "cmd" && device == own.as_str(),
            Self::Statuses(wanted) => {
                last == "status" && fits(device, wanted.as_ref().map(DeviceId::as_str))
            }
            Self::Live(device, stream) => kind == "live" && stream_of(device, stream),
            Self::Births(device, stream) => kind == "birth" && stream_of(device, stream),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_any = |name: Option<&str>| name.unwrap_or("+").to_owned();
        let device = |d: &Level<DeviceId>| or_any(d.as_ref().map(DeviceId::as_str));
        let stream = |s: &Level<StreamName>| or_any(s.as_ref().map(StreamName::as_str));
        match self {
            Self::Ack(own) => write!(f, "chordae/v1/{own}/ack"),
            Self::Commands(own) => write!(f, "chordae/v1/{own}/cmd"),
            Self::Statuses(d) => write!(f, "chordae/v1/{}/status", device(d)),
            Self::Live(d, s) => write!(f, "chordae/v1/{}/{}/live", device(d), stream(s)),
            Self::Births(d, s) => write!(f, "chordae/v1/{}/{}/birth", device(d), stream(s)),
        }
    }
}

/// `+`, or a name; `None`: neither.
fn level<T>(text: &str, name: impl Fn(&str) -> Option<T>) -> Option<Level<T>> {
    match text {
        "+" => Some(None),
        text => name(text).map(Some),
    }
}

/// Wildcards alone on their level, `#` only at the end, not empty.
pub(super) fn well_formed(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    let mut fits = !filter.is_empty();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        fits &= !wild || level.len() == 1;
        fits &= level != "#" || levels.peek().is_none();
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topics_of_the_table_are_topics() {
        let key: StreamKey = "bed-7/ecg".parse().unwrap();
        let frame = Topic::Telemetry(key.clone(), Shape::Frame);
        assert_eq!(Topic::parse("chordae/v1/bed-7/ecg/frame"), Some(frame));
        let birth = Topic::Telemetry(key.clone(), Shape::BirthJson);
        assert_eq!(Topic::parse("chordae/v1/bed-7/ecg/birth.json"), Some(birth));
        let status = Topic::Status(key.device.clone());
        assert_eq!(Topic::parse("chordae/v1/bed-7/status"), Some(status));
        for bad in [
            "",
            "chordae",
            "chordae/v1/bed-7",
            "chordae/v1/bed-7/",
            "chordae/v1//frame",
            "chordae/v1/bed-7/ecg/frame/",
            "chordae/v1/bed-7/ecg/frame ",
            "chordae/v1/bed-7/ecg/Frame",
            "chordae/v1/BED-7/ecg/frame",
            "chordae/v1/bed-7/../other/frame",
            "chordae/v1/bed-7//frame",
            "chordae/v1/b\u{e9}d/ecg/frame",
            "/chordae/v1/bed-7/ecg/frame",
            "chordae/v2/bed-7/ecg/frame",
            "chordae/v1/bed-7/ecg/live",
            "chordae/v1/bed-7/cmd",
            "chordae/v1/bed-7/cmd/",
            "chordae/v1/bed-7/cmd/a/b",
            "$SYS/broker",
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn filters_and_what_they_take() {
        let live = |d: Option<&str>, s: Option<&str>| {
            Filter::Live(d.map(|d| d.parse().unwrap()), s.map(|s| s.parse().unwrap()))
        };
        let all = Filter::parse("chordae/v1/+/+/live").unwrap();
        assert_eq!(all, live(None, None));
        assert!(all.takes("chordae/v1/bed-7/ecg/live"));
        assert!(!all.takes("chordae/v1/bed-7/ecg/frame"));
        let one = Filter::parse("chordae/v1/bed-7/ecg/live").unwrap();
        assert!(one.takes("chordae/v1/bed-7/ecg/live"));
        assert!(!one.takes("chordae/v1/bed-8/ecg/live"));
        for (filter, takes, not) in [
            (
                "chordae/v1/bed-7/ack",
                "chordae/v1/bed-7/ack",
                "chordae/v1/bed-8/ack",
            ),
            (
                "chordae/v1/bed-7/cmd",
                "chordae/v1/bed-7/cmd",
                "chordae/v1/bed-7/cmd/1",
            ),
            (
                "chordae/v1/+/status",
                "chordae/v1/bed-7/status",
                "chordae/v1/bed-7/ecg/status",
            ),
            (
                "chordae/v1/bed-7/+/birth",
                "chordae/v1/bed-7/ecg/birth",
                "chordae/v1/bed-8/ecg/birth",
            ),
            (
                "chordae/v1/+/ecg/birth",
                "chordae/v1/bed-7/ecg/birth",
                "chordae/v1/bed-7/ppg/birth",
            ),
        ] {
            let parsed = Filter::parse(filter).unwrap();
            assert_eq!(parsed.to_string(), filter);
            assert!(parsed.takes(takes), "{filter} {takes}");
            assert!(!parsed.takes(not), "{filter} {not}");
        }
        for (bad, why) in [
            ("", NotOurs::Invalid),
            ("a/#/b", NotOurs::Invalid),
            ("chordae/v1/a+/b/live", NotOurs::Invalid),
            ("#", NotOurs::Foreign),
            ("+/+", NotOurs::Foreign),
            ("$SYS/#", NotOurs::Foreign),
            ("chordae/v1/+/ack", NotOurs::Foreign),
            ("chordae/v1/+/cmd", NotOurs::Foreign),
            ("chordae/v1/bed-7/ecg/birth.json", NotOurs::Foreign),
            ("chordae/v1/bed-7/+", NotOurs::Foreign),
            ("chordae/v1/bed-7/ecg/frame", NotOurs::Foreign),
            ("$share/g/chordae/v1/+/+/live", NotOurs::Shared),
        ] {
            assert_eq!(Filter::parse(bad), Err(why), "{bad:?}");
        }
    }
}
